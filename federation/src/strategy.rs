//! Server steps: what the server does with the mean of a round.

/// Why a step can't be taken. The base model stays as it is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The mean belongs to another model.
    #[error("the mean has {found} values but the model has {expected} weights; the sum was decoded with another layout than the model's")]
    Length {
        /// Weights of the base.
        expected: usize,
        /// Values of the mean.
        found: usize,
    },
    /// The server's learning rate is no number to multiply with.
    #[error("the server's learning rate is {server_lr}; set strategy.server_lr to a finite number")]
    Rate {
        /// What was given.
        server_lr: f32,
    },
    /// The step would put NaN or infinity into the model.
    #[error("weight {index} would become {value}; lower strategy.server_lr or train.lr")]
    NonFinite {
        /// First such weight.
        index: usize,
        /// What it would be.
        value: f32,
    },
}

impl StepError {
    /// The error of a part of the weights, which begins at `start`, as one of all weights.
    pub fn in_part(self, start: usize) -> Self {
        match self {
            Self::NonFinite { index, value } => Self::NonFinite {
                index: start + index,
                value,
            },
            other => other,
        }
    }
}

/// FedAvg's server step: `base + server_lr * mean_delta`.
///
/// # Shapes and units
/// `base`, `mean_delta` and the result: `[n_weights]` f32, weight units, in the layout's order. `server_lr` 1 is plain averaging.
/// # Errors
/// [`StepError`]; nothing is clamped silently.
/// # Source
/// McMahan et al. 2017 (AISTATS), algorithm 1; with `server_lr`, Reddi et al. 2021 (ICLR), algorithm 1 with server SGD.
pub fn apply(base: &[f32], mean_delta: &[f32], server_lr: f32) -> Result<Vec<f32>, StepError> {
    let mut stepped = vec![0.0; base.len()];
    apply_into(base, mean_delta, server_lr, &mut stepped)?;
    Ok(stepped)
}

/// The same into `stepped`, of as many values, for whoever takes the step in parts ([`StepError::in_part`]).
///
/// # Errors
/// [`StepError`]; `stepped` is of no use then.
pub fn apply_into(base: &[f32], mean_delta: &[f32], server_lr: f32, stepped: &mut [f32]) -> Result<(), StepError> {
    let expected = base.len();
    if let Some(found) = [mean_delta.len(), stepped.len()].into_iter().find(|found| *found != expected) {
        return Err(StepError::Length { expected, found });
    }
    if !server_lr.is_finite() {
        return Err(StepError::Rate { server_lr });
    }
    let mut all_finite = true;
    for ((stepped, base), delta) in stepped.iter_mut().zip(base).zip(mean_delta) {
        *stepped = base + server_lr * delta;
        all_finite &= stepped.is_finite();
    }
    if all_finite {
        return Ok(());
    }
    let index = stepped.iter().position(|value| !value.is_finite()).unwrap_or(0);
    let value = stepped.get(index).copied().unwrap_or(f32::NAN);
    Err(StepError::NonFinite { index, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_step_by_the_mean_times_the_rate() {
        assert_eq!(apply(&[1.0, -2.0], &[0.5, 4.0], 0.5), Ok(vec![1.25, 0.0]));
        assert_eq!(apply(&[], &[], 1.0), Ok(vec![]));
    }

    #[test]
    fn should_refuse_what_would_spoil_the_model() {
        assert_eq!(apply(&[1.0], &[], 1.0), Err(StepError::Length { expected: 1, found: 0 }));
        assert!(matches!(
            apply(&[0.0, 0.0], &[0.0, f32::NAN], 1.0),
            Err(StepError::NonFinite { index: 1, .. })
        ));
        assert!(matches!(
            apply(&[f32::MAX], &[f32::MAX], 1.0),
            Err(StepError::NonFinite { index: 0, .. })
        ));
        assert!(matches!(apply(&[1.0], &[1.0], f32::INFINITY), Err(StepError::Rate { .. })));
        assert_eq!(
            apply_into(&[1.0], &[1.0], 1.0, &mut []),
            Err(StepError::Length { expected: 1, found: 0 })
        );
        let spoilt = apply_into(&[0.0; 3], &[0.0, 0.0, f32::INFINITY], 1.0, &mut [0.0; 3]).expect_err("infinity");
        let value = f32::INFINITY;
        assert_eq!(spoilt.in_part(100), StepError::NonFinite { index: 102, value });
    }
}
