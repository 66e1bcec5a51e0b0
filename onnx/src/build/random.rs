//! Random numbers whose bits depend on the seed alone: basic arithmetic and square roots, which are the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Draws from the stream of one seed.
pub(super) struct Draws {
    rng: ChaCha8Rng,
    /// Normal numbers come in pairs.
    spare: Option<f64>,
}

impl Draws {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            spare: None,
        }
    }

    /// Uniform in `[-bound, bound)`.
    pub(super) fn uniform(&mut self, bound: f64) -> f32 {
        // 24 random bits make an f32 without rounding.
        let unit = f64::from(self.rng.next_u32() >> 8) / f64::from(1 << 24);
        ((2.0 * unit - 1.0) * bound) as f32
    }

    /// Normal with mean 0 and variance 1.
    ///
    /// # Source
    /// Marsaglia and Bray 1964, A Convenient Method for Generating Normal Variables (the polar method).
    pub(super) fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (u, v) = (self.symmetric(), self.symmetric());
            let square = u * u + v * v;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * ln(square) / square).sqrt();
                self.spare = Some(v * factor);
                return u * factor;
            }
        }
    }

    /// A `rows` x `columns` matrix, row-major, whose rows (columns, when there are fewer) are orthonormal and uniformly distributed.
    ///
    /// # Source
    /// Saxe et al. 2014, Exact solutions to the nonlinear dynamics of learning in deep linear neural networks, section 3; here by
    /// Gram-Schmidt, each vector orthogonalized twice.
    pub(super) fn orthogonal(&mut self, rows: usize, columns: usize) -> Vec<f64> {
        let (count, length) = (rows.min(columns), rows.max(columns));
        let mut vectors: Vec<f64> = (0..count * length).map(|_| self.normal()).collect();
        for index in 0..count {
            let (done, rest) = vectors.split_at_mut(index * length);
            let vector = &mut rest[..length];
            loop {
                for known in done.chunks_exact(length).chain(done.chunks_exact(length)) {
                    let along = dot(known, vector);
                    vector.iter_mut().zip(known).for_each(|(x, k)| *x -= along * k);
                }
                let norm = dot(vector, vector).sqrt();
                if norm > 1e-9 {
                    vector.iter_mut().for_each(|x| *x /= norm);
                    break;
                }
                // It lay in the span of the others, which has probability 0: draw another.
                vector.iter_mut().for_each(|x| *x = self.normal());
            }
        }
        if rows <= columns {
            return vectors;
        }
        (0..rows * columns).map(|i| vectors[(i % columns) * length + i / columns]).collect()
    }

    /// Uniform in [-1, 1) with 53 bits.
    fn symmetric(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

/// The scalar product, in 8 lanes: the same order of additions on every machine.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a8, a_rest), (b8, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (a, b) in a8.iter().zip(b8) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
}

/// Natural logarithm of a positive normal number, by ln(m 2^e) = e ln 2 + 2 atanh((m - 1) / (m + 1)). The standard library's depends on
/// the platform in the last bit.
fn ln(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as f64 - 1023.0;
    let mut mantissa = f64::from_bits(bits & MANTISSA | 1.0f64.to_bits());
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa /= 2.0;
        exponent += 1.0;
    }
    let t = (mantissa - 1.0) / (mantissa + 1.0);
    // |t| is at most 0.172: 11 terms leave less than half a unit in the last place.
    let series = (0..11).rev().fold(0.0, |sum, k| sum * t * t + 1.0 / f64::from(2 * k + 1));
    exponent * std::f64::consts::LN_2 + 2.0 * t * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_that_of_the_standard_library() {
        let mut draws = Draws::new(1);
        for scale in [1e-300, 1e-12, 0.5, 1.0, 3.0, 1e200] {
            for _ in 0..1000 {
                let x = scale * (1.0 + draws.symmetric().abs());
                assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x}: {} {}", ln(x), x.ln());
            }
        }
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn normal_numbers_have_the_moments_of_the_normal_distribution() {
        let mut draws = Draws::new(2);
        let n = 200_000;
        let values: Vec<f64> = (0..n).map(|_| draws.normal()).collect();
        let moment = |power: i32| values.iter().map(|v| v.powi(power)).sum::<f64>() / f64::from(n);
        // Five standard errors of each sample moment.
        let close = |found: f64, wanted: f64, variance: f64| (found - wanted).abs() < 5.0 * (variance / f64::from(n)).sqrt();
        assert!(close(moment(1), 0.0, 1.0), "{}", moment(1));
        assert!(close(moment(2), 1.0, 2.0), "{}", moment(2));
        assert!(close(moment(3), 0.0, 15.0), "{}", moment(3));
        assert!(close(moment(4), 3.0, 96.0), "{}", moment(4));
        assert!(values.iter().any(|v| v.abs() > 3.5), "no tail");
    }

    #[test]
    fn orthogonal_matrices_are_orthonormal_by_their_shorter_side() {
        for (rows, columns) in [(1, 1), (3, 7), (9, 4), (20, 20)] {
            let matrix = Draws::new(3).orthogonal(rows, columns);
            assert_eq!(matrix.len(), rows * columns);
            let at = |short: usize, long: usize| match rows <= columns {
                true => matrix[short * columns + long],
                false => matrix[long * columns + short],
            };
            let (short, long) = (rows.min(columns), rows.max(columns));
            for a in 0..short {
                for b in 0..short {
                    let product: f64 = (0..long).map(|i| at(a, i) * at(b, i)).sum();
                    let wanted = if a == b { 1.0 } else { 0.0 };
                    assert!((product - wanted).abs() < 1e-12, "{rows} x {columns}: {product} at {a}, {b}");
                }
            }
        }
    }
}
