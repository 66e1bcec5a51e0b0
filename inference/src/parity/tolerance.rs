//! How far two ways to compute a model may lie apart: the one place where it is said.

use aimass_onnx::Model;
use serde::Serialize;

/// How far two runtimes may lie apart on the same rows: the trainer, its plan for the CPU, tract.
///
/// Of floats only the order of sums differs. Where activations are rounded to 8 bits, a difference in the last bit of a float can move a value
/// by one step, a share of 1/255 of its range, and what follows with it; so what is bounded there is the mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tolerance {
    /// Of the largest difference in a row, relative to the row's largest magnitude.
    pub max: f64,
    /// Of the mean difference, relative to the mean of the rows' largest magnitudes.
    pub mean: f64,
}

impl Tolerance {
    /// Of a model that computes with floats.
    pub const FLOATS: Self = Self { max: 1e-3, mean: 1e-4 };
    /// Of a model whose activations are rounded.
    pub const ROUNDED: Self = Self { max: 0.25, mean: 0.01 };

    /// Of this model.
    pub fn of(model: &Model) -> Self {
        const ROUNDS: [&str; 6] = [
            "QuantizeLinear",
            "DynamicQuantizeLinear",
            "QLinearConv",
            "QLinearMatMul",
            "ConvInteger",
            "MatMulInteger",
        ];
        if model.graph().node.iter().any(|node| ROUNDS.contains(&node.op_type.as_str())) {
            Self::ROUNDED
        } else {
            Self::FLOATS
        }
    }

    /// Which of a largest and a mean difference is more than is allowed: what was found, and what is allowed.
    pub fn excess(&self, max: f64, mean: f64) -> Option<(f64, f64)> {
        let each = [(max, self.max), (mean, self.mean)];
        each.into_iter().find(|(found, allowed)| found > allowed)
    }
}

/// How far two runtimes lie apart, over all rows that were added.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Apart {
    max: f64,
    max_abs: f64,
    apart: f64,
    magnitude: f64,
    rows: usize,
}

impl Apart {
    /// Counts what both gave for the same rows.
    ///
    /// # Shapes
    /// Both `[rows, n]` row-major.
    /// # Errors
    /// The first row in which one of both is not finite.
    pub fn add(&mut self, ours: &[f32], theirs: &[f32], rows: usize) -> Result<(), usize> {
        let width = (ours.len() / rows.max(1)).max(1);
        for (i, (ours, theirs)) in ours.chunks(width).zip(theirs.chunks(width)).enumerate() {
            if ours.iter().chain(theirs).any(|v| !v.is_finite()) {
                return Err(i);
            }
            let differences = ours.iter().zip(theirs).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
            let largest = ours.iter().map(|v| f64::from(v.abs())).fold(1e-6, f64::max);
            let most = differences.clone().fold(0.0, f64::max);
            self.max_abs = self.max_abs.max(most);
            self.max = self.max.max(most / largest);
            self.apart += differences.sum::<f64>() / width as f64;
            self.magnitude += largest;
            self.rows += 1;
        }
        Ok(())
    }

    /// See [`Tolerance::max`].
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Largest difference, in units of the values.
    pub fn max_abs(&self) -> f64 {
        self.max_abs
    }

    /// See [`Tolerance::mean`].
    pub fn mean(&self) -> f64 {
        self.apart / self.magnitude.max(1e-6)
    }

    /// Rows, those of each output by themselves.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// What was found and what is allowed, where it is more than that.
    pub fn beyond(&self, tolerance: Tolerance) -> Option<(f64, f64)> {
        tolerance.excess(self.max(), self.mean())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_tell_rows_that_lie_apart() {
        let mut apart = Apart::default();
        apart.add(&[1.0, -4.0, 0.0, 2.0], &[1.0, -4.0, 0.0, 2.0], 2).expect("finite");
        assert_eq!((apart.rows(), apart.beyond(Tolerance::FLOATS)), (2, None));
        apart.add(&[1.0, -4.0], &[1.0, -4.1], 1).expect("finite");
        let (found, allowed) = apart.beyond(Tolerance::FLOATS).expect("a fortieth");
        assert!((found - 0.025).abs() < 1e-6 && allowed == 1e-3, "{found}");
        assert!((apart.max_abs() - 0.1).abs() < 1e-6, "{apart:?}");
        assert_eq!(apart.beyond(Tolerance::ROUNDED), None);
        assert_eq!(Apart::default().add(&[0.0, 1.0, f32::NAN, 0.0], &[0.0; 4], 2), Err(1));
    }
}
