//! Losses that compare an output with a target of its shape, value by value.

use super::{BatchLoss, BinaryCrossEntropy, Huber, View, each_weight, shapes_differ};
use crate::TrainError;

/// The mean over the values of each row, weighted by row. `each` gets the index within the row, the output and the target, and gives the
/// loss and its derivative by the output.
pub(super) fn of_batch(
    name: &str,
    view: View<'_>,
    scale: f64,
    mut gradient: Option<&mut [f32]>,
    each: impl Fn(usize, f64, f64) -> (f64, f64),
) -> Result<BatchLoss, TrainError> {
    let targets = view.numbers();
    let rows = view.shape.first().copied().unwrap_or(0);
    let per_row = view.output.len().checked_div(rows).unwrap_or(0);
    if targets.len() != view.output.len() || per_row == 0 {
        return Err(shapes_differ(name, view));
    }
    let weight = view.total_weight(rows)?;
    let mut sum = 0.0;
    for (at, (&output, &target)) in view.output.iter().zip(&targets).enumerate() {
        let (value, derivative) = each(at % per_row, f64::from(output), target);
        let row_weight = view.weight(at / per_row) / per_row as f64;
        sum += row_weight * value;
        if let Some(gradient) = gradient.as_deref_mut() {
            gradient[at] = (derivative * row_weight * scale / weight) as f32;
        }
    }
    Ok(BatchLoss { sum, weight })
}

/// (x - t)^2.
pub(super) fn squared(_: usize, output: f64, target: f64) -> (f64, f64) {
    let error = output - target;
    (error * error, 2.0 * error)
}

/// |x - t|; its derivative where they are equal is 0.
pub(super) fn absolute(_: usize, output: f64, target: f64) -> (f64, f64) {
    let error = output - target;
    let sign = if error == 0.0 { 0.0 } else { error.signum() };
    (error.abs(), sign)
}

impl Huber {
    /// (x - t)^2 / 2 up to `delta`, then a line.
    ///
    /// # Source
    /// Huber 1964, Robust Estimation of a Location Parameter; scaled as `torch.nn.HuberLoss`.
    pub(super) fn each(&self, output: f64, target: f64) -> (f64, f64) {
        let (error, delta) = (output - target, f64::from(self.delta));
        if error.abs() <= delta {
            (0.5 * error * error, error)
        } else {
            (delta * (error.abs() - 0.5 * delta), delta * error.signum())
        }
    }
}

impl BinaryCrossEntropy {
    /// # Source
    /// The definition of `torch.nn.BCEWithLogitsLoss`.
    pub(super) fn of_batch(&self, view: View<'_>, scale: f64, gradient: Option<&mut [f32]>) -> Result<BatchLoss, TrainError> {
        let last = labels(view.shape);
        of_batch("binary cross-entropy", view, scale, gradient, |at, x, t| {
            let positive = self.pos_weight(at % last);
            // log(1 + exp(-x)), and its derivative by -x.
            let soft = (-x.abs()).exp().ln_1p() + (-x).max(0.0);
            let slope = 1.0 / (1.0 + x.exp());
            let factor = 1.0 + (positive - 1.0) * t;
            ((1.0 - t) * x + factor * soft, (1.0 - t) - factor * slope)
        })
    }

    fn pos_weight(&self, label: usize) -> f64 {
        match self.pos_weight.as_deref() {
            None => 1.0,
            Some([one]) => f64::from(*one),
            Some(weights) => weights.get(label).map_or(1.0, |&w| f64::from(w)),
        }
    }

    pub(super) fn check(&self) -> Result<(), TrainError> {
        match &self.pos_weight {
            None => Ok(()),
            Some(weights) => each_weight("pos_weight", weights),
        }
    }

    pub(super) fn outputs(&self, shape: &[usize]) -> Result<(), TrainError> {
        let labels = labels(shape);
        match &self.pos_weight {
            Some(weights) if weights.len() != 1 && weights.len() != labels => Err(TrainError::Config {
                reason: format!(
                    "`pos_weight` has {} numbers for {labels} labels; write one, or one a label",
                    weights.len()
                ),
            }),
            _ => Ok(()),
        }
    }
}

/// Labels of an output: its last axis, 1 for `[batch]`.
fn labels(shape: &[usize]) -> usize {
    match shape {
        [] | [_] => 1,
        [.., last] => (*last).max(1),
    }
}
