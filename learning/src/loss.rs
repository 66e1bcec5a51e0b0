//! Losses: a value and its gradient by the model's output, in plain numbers, so that every executor shares them.

use crate::TrainError;

/// Losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// Softmax cross-entropy over class indices; the model's first output is logits `[batch, classes]`.
    CrossEntropy,
    /// Mean squared error; the model's first output is `[batch]` or `[batch, 1]`.
    Mse,
}

/// Over one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BatchLoss {
    /// Sum over the rows.
    pub(crate) sum: f64,
    /// Rows whose answer is right; 0 for regression.
    pub(crate) correct: u64,
}

impl Loss {
    /// Outputs a row for a first output of this shape.
    pub(crate) fn outputs(self, shape: &[usize], rows: usize) -> Result<usize, TrainError> {
        let refuse = |reason: String| Err(TrainError::Graph { reason });
        if shape.first() != Some(&rows) {
            return refuse(format!(
                "the model's output has the shape {shape:?} for a batch of {rows}: the batch was mixed into other dimensions; \
                 export it with a dynamic batch, and flatten with Flatten(axis=1)"
            ));
        }
        match (self, shape) {
            (Self::CrossEntropy, &[_, classes]) if classes > 1 => Ok(classes),
            (Self::CrossEntropy, _) => refuse(format!(
                "cross-entropy needs logits [batch, classes] with 2 or more classes, the model's output is {shape:?}; use the loss mse or another model"
            )),
            (Self::Mse, &[_] | &[_, 1]) => Ok(1),
            (Self::Mse, _) => refuse(format!(
                "mse with one target needs an output [batch] or [batch, 1], the model's is {shape:?}; use another model or loss"
            )),
        }
    }

    /// Refuses targets that this loss can't take, by row.
    pub(crate) fn check_targets(self, targets: &[f32], outputs: usize) -> Result<(), TrainError> {
        let fits = |t: f32| match self {
            Self::CrossEntropy => t >= 0.0 && t.fract() == 0.0 && t < outputs as f32,
            Self::Mse => t.is_finite(),
        };
        let Some(row) = targets.iter().position(|&t| !fits(t)) else {
            return Ok(());
        };
        let target = targets[row];
        let reason = match self {
            Self::CrossEntropy => {
                let last = outputs.saturating_sub(1);
                format!(
                    "row {} has the target {target}, the model's classes are 0 to {last}; number the classes from 0, or use a model with more outputs",
                    row + 1
                )
            }
            Self::Mse => format!("row {} has the target {target}, which is not finite; leave the row out", row + 1),
        };
        Err(TrainError::Data { reason })
    }

    /// The loss summed over the rows of a batch.
    ///
    /// `outputs`: `[rows, n]` row-major, `targets`: `[rows]`, checked by [`check_targets`](Self::check_targets). Writes the gradient of
    /// the mean loss into `gradient` (`[rows, n]`) where one is wanted.
    pub(crate) fn of_batch(self, outputs: &[f32], n: usize, targets: &[f32], mut gradient: Option<&mut [f32]>) -> BatchLoss {
        let mut loss = BatchLoss { sum: 0.0, correct: 0 };
        let rows = targets.len() as f64;
        for (row, (output, &target)) in outputs.chunks_exact(n).zip(targets).enumerate() {
            let gradient = gradient.as_deref_mut().map(|g| &mut g[row * n..][..n]);
            match self {
                Self::CrossEntropy => {
                    let class = target as usize;
                    loss.sum += cross_entropy(output, class, rows, gradient);
                    loss.correct += u64::from(is_largest(output, class));
                }
                Self::Mse => {
                    let error = f64::from(output[0]) - f64::from(target);
                    loss.sum += error * error;
                    if let Some(gradient) = gradient {
                        gradient[0] = (2.0 * error / rows) as f32;
                    }
                }
            }
        }
        loss
    }
}

/// log(sum(exp(z))) - z[class], shifted by the largest logit.
fn cross_entropy(logits: &[f32], class: usize, rows: f64, gradient: Option<&mut [f32]>) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let shifted = |z: f32| (f64::from(z) - largest).exp();
    let sum: f64 = logits.iter().map(|&z| shifted(z)).sum();
    if let Some(gradient) = gradient {
        for (i, (g, &z)) in gradient.iter_mut().zip(logits).enumerate() {
            let hit = if i == class { 1.0 } else { 0.0 };
            *g = ((shifted(z) / sum - hit) / rows) as f32;
        }
    }
    sum.ln() + largest - f64::from(logits[class])
}

/// Whether `class` has the largest logit; of equal ones the first counts.
fn is_largest(logits: &[f32], class: usize) -> bool {
    let value = logits[class];
    logits
        .iter()
        .enumerate()
        .all(|(i, &z)| i == class || z < value || (z == value && i > class))
}

#[cfg(test)]
mod tests;
