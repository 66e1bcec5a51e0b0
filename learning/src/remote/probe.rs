//! Whether a worker computes what the CPU computes.

use aimass_onnx::build::mlp;
use aimass_onnx::{Model, ParamLayout, TrainableRules};

use crate::{Batch, BatchNorm, Loss, OptimizerConfig, TrainConfig, TrainError};

/// Furthest that two losses may be apart, relative.
const TOLERANCE: f32 = 1e-3;
/// Losses below count as this large: their last digits are noise.
const SMALLEST: f32 = 1e-2;
const ROWS: usize = 8;
const FEATURES: usize = 16;
const CLASSES: usize = 4;

/// Whether two losses of the same step agree.
pub(super) fn agree(theirs: f32, ours: f32) -> bool {
    // A NaN agrees with nothing.
    (theirs - ours).abs() <= TOLERANCE * ours.abs().max(SMALLEST)
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
