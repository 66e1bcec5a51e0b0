//! First weights: which distribution, and how wide.

use super::BuildError;
use super::random::Draws;

/// Multiplications that making one matrix orthogonal may take: a 2048 x 2048 one, some 15 seconds.
const MAX_ORTHOGONAL_WORK: usize = 1 << 33;

/// How weight matrices and convolution kernels get their first values. Embedding tables, biases and norms keep their defaults: tables
/// normal, biases 0 (an LSTM's forget gate 1), norms scale 1, bias 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Init {
    /// What suits each layer: He before ReLU and GELU, Glorot elsewhere, recurrent layers uniform in +-1/sqrt(hidden); each
    /// architecture's documentation says more.
    #[default]
    Default,
    /// Uniform with variance 2 / fan in. He et al. 2015, Delving Deep into Rectifiers, section 2.2.
    HeUniform,
    /// Normal with variance 2 / fan in. The same section.
    HeNormal,
    /// Uniform with variance 2 / (fan in + fan out). Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward
    /// neural networks, section 4.2.1.
    GlorotUniform,
    /// Normal with variance 2 / (fan in + fan out). The same section.
    GlorotNormal,
    /// Orthonormal rows or columns, times sqrt 2 before ReLU and GELU; a recurrent layer's gates each by themselves. Saxe et al. 2014,
    /// Exact solutions to the nonlinear dynamics of learning in deep linear neural networks, section 3.
    Orthogonal,
}

impl Init {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Default,
        Self::HeUniform,
        Self::HeNormal,
        Self::GlorotUniform,
        Self::GlorotNormal,
        Self::Orthogonal,
    ];

    /// Its name in settings, for instance `he-uniform`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::HeUniform => "he-uniform",
            Self::HeNormal => "he-normal",
            Self::GlorotUniform => "glorot-uniform",
            Self::GlorotNormal => "glorot-normal",
            Self::Orthogonal => "orthogonal",
        }
    }
}

/// Where a new model's first weights come from. The same value gives the same bytes, on every machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InitialWeights {
    /// Their distribution.
    pub init: Init,
    /// Seed of their random numbers.
    pub seed: u64,
}

impl InitialWeights {
    /// Each layer's default distribution, from `seed`.
    pub fn seeded(seed: u64) -> Self {
        Self { init: Init::Default, seed }
    }
}

/// A distribution of weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scheme {
    HeUniform,
    HeNormal,
    /// Normal with variance 2 / fan out: keeps the size of gradients instead of values, as usual for residual networks.
    HeNormalFanOut,
    GlorotUniform,
    GlorotNormal,
    Orthogonal,
    /// Uniform in +- this.
    Uniform(f64),
}

/// What follows a layer, which decides how large its weights should be at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// ReLU or GELU, which half the values don't pass.
    Rectifier,
    /// Anything else.
    Other,
}

impl Then {
    /// The layer's default.
    pub(super) fn scheme(self) -> Scheme {
        match self {
            Self::Rectifier => Scheme::HeUniform,
            Self::Other => Scheme::GlorotUniform,
        }
    }
}

/// A weight tensor to be drawn: `stacked` matrices of `rows` rows, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Weight<'a> {
    pub(super) name: &'a str,
    pub(super) shape: &'a [usize],
    pub(super) stacked: usize,
    pub(super) rows: usize,
    pub(super) fan_in: usize,
    pub(super) fan_out: usize,
    pub(super) then: Then,
    pub(super) default: Scheme,
}

impl Draws {
    /// The values of `weight`, which has `count` of them.
    pub(super) fn weight(&mut self, weight: &Weight<'_>, init: Init, count: usize) -> Result<Vec<f32>, BuildError> {
        let scheme = match init {
            Init::Default => weight.default,
            Init::HeUniform => Scheme::HeUniform,
            Init::HeNormal => Scheme::HeNormal,
            Init::GlorotUniform => Scheme::GlorotUniform,
            Init::GlorotNormal => Scheme::GlorotNormal,
            Init::Orthogonal => Scheme::Orthogonal,
        };
        let (fan_in, fan_out) = (weight.fan_in as f64, weight.fan_out as f64);
        // A uniform distribution in +-b has variance b^2 / 3.
        match scheme {
            Scheme::HeUniform => Ok(self.uniforms(count, (6.0 / fan_in).sqrt())),
            Scheme::HeNormal => Ok(self.normals(count, (2.0 / fan_in).sqrt())),
            Scheme::HeNormalFanOut => Ok(self.normals(count, (2.0 / fan_out).sqrt())),
            Scheme::GlorotUniform => Ok(self.uniforms(count, (6.0 / (fan_in + fan_out)).sqrt())),
            Scheme::GlorotNormal => Ok(self.normals(count, (2.0 / (fan_in + fan_out)).sqrt())),
            Scheme::Orthogonal => self.orthogonals(weight, count),
            Scheme::Uniform(bound) => Ok(self.uniforms(count, bound)),
        }
    }

    fn uniforms(&mut self, count: usize, bound: f64) -> Vec<f32> {
        (0..count).map(|_| self.uniform(bound)).collect()
    }

    /// Normal with mean 0 and this standard deviation.
    pub(super) fn normals(&mut self, count: usize, deviation: f64) -> Vec<f32> {
        (0..count).map(|_| (self.normal() * deviation) as f32).collect()
    }

    fn orthogonals(&mut self, weight: &Weight<'_>, count: usize) -> Result<Vec<f32>, BuildError> {
        let rows = weight.rows;
        let columns = count / (weight.stacked * rows);
        let work = (count / weight.stacked).checked_mul(rows.min(columns));
        if work.is_none_or(|work| work > MAX_ORTHOGONAL_WORK) {
            return Err(BuildError::TooLargeToOrthogonalize {
                name: weight.name.to_owned(),
                rows,
                columns,
            });
        }
        let gain = match weight.then {
            Then::Rectifier => std::f64::consts::SQRT_2,
            Then::Other => 1.0,
        };
        let mut values = Vec::with_capacity(count);
        for _ in 0..weight.stacked {
            values.extend(self.orthogonal(rows, columns).into_iter().map(|value| (value * gain) as f32));
        }
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEIGHT: Weight<'static> = Weight {
        name: "w",
        shape: &[100, 300],
        stacked: 1,
        rows: 100,
        fan_in: 300,
        fan_out: 100,
        then: Then::Rectifier,
        default: Scheme::Uniform(0.3),
    };

    #[test]
    fn each_initialization_has_its_variance() {
        for (init, variance) in [
            (Init::Default, 0.03),
            (Init::HeUniform, 2.0 / 300.0),
            (Init::HeNormal, 2.0 / 300.0),
            (Init::GlorotUniform, 2.0 / 400.0),
            (Init::GlorotNormal, 2.0 / 400.0),
            // Rows of length sqrt 2 in 300 dimensions.
            (Init::Orthogonal, 2.0 / 300.0),
        ] {
            let values = Draws::new(5).weight(&WEIGHT, init, 30_000).expect("a small matrix");
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 30_000.0;
            let found = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 30_000.0;
            assert!((found / variance - 1.0).abs() < 0.05, "{init:?}: {found}, wanted {variance}");
            assert!(mean.abs() < 5.0 * (variance / 30_000.0).sqrt(), "{init:?}: mean {mean}");
        }
    }

    #[test]
    fn a_matrix_that_would_take_minutes_is_not_made_orthogonal() {
        let weight = Weight { rows: 4096, ..WEIGHT };
        let error = Draws::new(1)
            .weight(&weight, Init::Orthogonal, 4096 * 4096)
            .expect_err("2^36 multiplications");
        assert_eq!(
            error.to_string(),
            "making the 4096 x 4096 matrix \"w\" orthogonal would take too long; use other initial weights or smaller sizes"
        );
    }

    #[test]
    fn stacked_matrices_are_each_orthogonal() {
        let weight = Weight {
            stacked: 4,
            rows: 3,
            then: Then::Other,
            ..WEIGHT
        };
        let values = Draws::new(1).weight(&weight, Init::Orthogonal, 36).expect("a small matrix");
        for gate in values.chunks_exact(9) {
            for (a, b) in [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)] {
                let product: f32 = (0..3).map(|i| gate[a * 3 + i] * gate[b * 3 + i]).sum();
                assert!((product - f32::from(u8::from(a == b))).abs() < 1e-6, "{a} {b}: {product}");
            }
        }
    }
}
