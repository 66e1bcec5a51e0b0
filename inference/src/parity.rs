//! Train/serve parity: what was trained and what is served must compute the same.

mod tolerance;

use aimass_learning::TrainError;
use aimass_onnx::Model;
use serde::Serialize;

use super::{InferError, TractModel};

pub use tolerance::{Apart, Tolerance};

/// Rows a batch of the comparison.
const BATCH: usize = 64;

/// How far the trainer's and tract's outputs lie apart, over all rows and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Parity {
    /// Largest absolute difference, in units of the output.
    pub max_abs: f32,
    /// Largest difference as a share of the row's largest magnitude.
    pub max_rel: f32,
    /// Rows compared.
    pub rows: usize,
}

/// Why the two could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParityError {
    /// tract's side.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// The trainer's side.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The outputs have different shapes.
    #[error("the trainer gives {trainer} outputs a row, tract {tract}: the model computes something else in one of them")]
    Shape {
        /// Outputs a row by the trainer.
        trainer: usize,
        /// Outputs a row by tract.
        tract: usize,
    },
    /// One of the two computes NaN or infinity.
    #[error("row {row} has an output that is not finite")]
    NonFinite {
        /// First such row, counted from 0.
        row: usize,
    },
}

/// Compares the trainer's prediction with tract's on the same rows.
///
/// # Shapes
/// `features`: `[rows, n_features]` row-major.
/// # Errors
/// [`ParityError`].
pub fn parity(model_bytes: &[u8], features: &[f32], n_features: usize) -> Result<Parity, ParityError> {
    let model = Model::from_bytes(model_bytes).map_err(InferError::from)?;
    let rows = features.len().checked_div(n_features).unwrap_or(0);
    let (trainer, n_trainer) = aimass_learning::predict(&model, features, n_features)?;
    let (served, n_served) = TractModel::load(model_bytes, BATCH)?.run(features, rows)?;
    if n_trainer != n_served || trainer.len() != served.len() {
        return Err(ParityError::Shape {
            trainer: n_trainer,
            tract: n_served,
        });
    }
    compare(&trainer, &served, n_trainer)
}

/// Both `[rows, n]` row-major.
pub(super) fn compare(a: &[f32], b: &[f32], n: usize) -> Result<Parity, ParityError> {
    let mut parity = Parity {
        max_abs: 0.0,
        max_rel: 0.0,
        rows: 0,
    };
    for (row, (a, b)) in a.chunks(n.max(1)).zip(b.chunks(n.max(1))).enumerate() {
        if a.iter().chain(b).any(|v| !v.is_finite()) {
            return Err(ParityError::NonFinite { row });
        }
        let largest = a.iter().chain(b).map(|v| v.abs()).fold(0.0, f32::max);
        let apart = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        parity.max_abs = parity.max_abs.max(apart);
        if largest > 0.0 {
            parity.max_rel = parity.max_rel.max(apart / largest);
        }
        parity.rows += 1;
    }
    Ok(parity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_and_put_in_relation_to_its_row() {
        let parity = compare(&[1.0, -4.0, 0.0, 0.5], &[1.0, -3.0, 0.0, 0.5], 2).expect("finite");
        assert_eq!(
            parity,
            Parity {
                max_abs: 1.0,
                max_rel: 0.25,
                rows: 2
            }
        );
    }

    #[test]
    fn nan_is_no_parity() {
        assert!(matches!(
            compare(&[0.0, f32::NAN], &[0.0, f32::NAN], 1),
            Err(ParityError::NonFinite { row: 1 })
        ));
    }
}
