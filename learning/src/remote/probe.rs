//! Whether a worker computes what the CPU computes.

use aimass_onnx::build::mlp;
use aimass_onnx::{Model, ParamLayout, TrainableRules};

use super::message::State;
use crate::{Batch, BatchNorm, Loss, OptimizerConfig, TrainConfig, TrainError};

/// Furthest that two losses may be apart, relative.
const TOLERANCE: f32 = 1e-3;
/// Furthest that what one step changes may be apart, relative. Single gradients may jump, at the kinks of the model.
const STEP_TOLERANCE: f64 = 0.02;
/// Gradients of all weights together that count as none.
const SMALLEST_STEP: f64 = 1e-10;
/// Losses below count as this large: their last digits are noise.
const SMALLEST: f32 = 1e-2;
const ROWS: usize = 8;
const FEATURES: usize = 16;
const CLASSES: usize = 4;

/// Whether two losses of the same step agree.
pub(super) fn losses_agree(theirs: f32, ours: f32) -> bool {
    // A NaN agrees with nothing.
    (theirs - ours).abs() <= TOLERANCE * ours.abs().max(SMALLEST)
}

/// Whether two states after the same step from `before` agree: in what the optimizer made of the gradient first, by L2 norms.
pub(super) fn steps_agree(theirs: &State, ours: &State, before: &[f32]) -> bool {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
    let between = |a: &[f32], b: &[f32]| norm(&mut a.iter().zip(b).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let length = |values: &[f32]| norm(&mut values.iter().map(|v| f64::from(*v)));
    let (apart, moved, rounding) = match (theirs.moments.first(), ours.moments.first()) {
        (Some(theirs), Some(ours)) => (between(theirs, ours), length(ours), SMALLEST_STEP),
        // A small step is lost in the last digits of the weights.
        _ => {
            let rounding = 4.0 * f64::from(f32::EPSILON) * length(&ours.weights);
            (between(&theirs.weights, &ours.weights), between(&ours.weights, before), rounding)
        }
    };
    // A NaN agrees with nothing.
    apart <= STEP_TOLERANCE * moved + rounding
}

/// A small training: a model, and the batch of all its steps.
pub(super) fn training() -> Result<(Model, ParamLayout, TrainConfig, Batch), TrainError> {
    let model = mlp(&[FEATURES, 12, CLASSES], 1);
    let layout = model.layout(&TrainableRules::default());
    let layout = layout.map_err(|e| TrainError::Graph { reason: e.to_string() })?;
    let config = TrainConfig {
        heads: vec![Loss::cross_entropy().into()],
        optimizer: OptimizerConfig::sgd(0.1),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch: ROWS,
        seed: [0; 32],
    };
    let features = (0..ROWS * FEATURES).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 50.0).collect();
    let targets = (0..ROWS).map(|row| (row % CLASSES) as f32).collect();
    let batch = Batch::rows(features, targets).ok_or_else(|| TrainError::Data {
        reason: "the probe's rows are not whole".to_owned(),
    })?;
    Ok((model, layout, config, batch))
}
