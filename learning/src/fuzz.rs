//! Entry points for fuzzers: models into everything that `aimass model check` does, and a step of those that are small enough. Each
//! function panics when a property is broken, and only then.

use std::collections::BTreeMap;

use aimass_onnx::{ElementType, Model, TrainableRules};

use crate::inspect::{Inspection, Question, inspect};
use crate::{Array, Batch, BatchNorm, Engine, Head, Loss, OptimizerConfig, TrainConfig, Trainer, Values};

/// Most that a model may cost to be run here, and not only planned.
const MAX_FLOPS: u64 = 1 << 21;
const MAX_BYTES: u64 = 1 << 23;

/// Reads `bytes` as a model, says whether it trains, and lets it compute and train a step where that is cheap. Whatever is refused comes
/// with a reason.
///
/// # Panics
/// When something is refused without a reason, when training gives a model that does not read, or where anything inside panics.
pub fn program(bytes: &[u8]) {
    let Ok(model) = Model::from_bytes(bytes).and_then(|model| model.prepared()) else {
        return;
    };
    let layout = model.layout(&TrainableRules::default()).map_err(|e| e.to_string());
    let question = Question {
        batch: 2,
        dims: BTreeMap::new(),
        moments: 2,
        gathered: false,
    };
    let found = inspect(&model, layout.as_ref().map_err(Clone::clone), &question);
    for obstacle in &found.obstacles {
        assert!(
            !obstacle.problem.is_empty() && !obstacle.fix.is_empty(),
            "refused without a reason: {obstacle:?}"
        );
    }
    let is_cheap = |cost: crate::inspect::Cost| cost.step_flops <= MAX_FLOPS && cost.peak_bytes <= MAX_BYTES;
    let (Ok(layout), Some(true)) = (layout, found.cost.map(is_cheap)) else {
        return;
    };
    let Some(inputs) = made_up(&model, &found) else { return };
    let Ok(mut engine) = Engine::new(&model) else { return };
    let needed: Vec<String> = engine.inputs().into_iter().map(str::to_owned).collect();
    let named = |inputs: &BTreeMap<String, Array>| -> Option<Vec<Array>> { needed.iter().map(|name| inputs.get(name).cloned()).collect() };
    let Some(ordered) = named(&inputs) else { return };
    let Ok(outputs) = engine.run(needed.iter().cloned().zip(ordered.iter().cloned()).collect()) else {
        return;
    };
    let heads = engine.outputs().into_iter().zip(&outputs);
    let heads = heads.filter_map(|(name, output)| {
        let values = output.as_floats()?;
        let head = Head {
            output: Some(name.to_owned()),
            loss: Loss::Mse,
            weight: 1.0,
        };
        Some((head, Array::floats(output.shape().to_vec(), vec![0.5; values.len()])?))
    });
    let (heads, targets): (Vec<Head>, Vec<Array>) = heads.unzip();
    let config = TrainConfig {
        heads,
        optimizer: OptimizerConfig::sgd(0.1),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch: 1,
        seed: [1; 32],
    };
    let Ok(mut trainer) = Trainer::new(&model, &layout, &config) else {
        return;
    };
    let batch = Batch {
        inputs: ordered,
        targets,
        weights: None,
        flat: false,
    };
    if trainer.step(batch).is_err() {
        return;
    }
    let Ok(weights) = trainer.weights() else { return };
    let written = model.with_weights(&layout, &weights).map_err(|e| e.to_string());
    let read = written.and_then(|model| Model::from_bytes(model.as_bytes()).map_err(|e| e.to_string()));
    if let Err(error) = read {
        panic!("a trained model does not read: {error}");
    }
}

/// Arrays of the shapes that were planned.
fn made_up(model: &Model, found: &Inspection) -> Option<BTreeMap<String, Array>> {
    let mut arrays = BTreeMap::new();
    for (input, port) in model.inputs().iter().zip(&found.inputs) {
        let Some(shape) = port.shape.clone() else { continue };
        let n: usize = shape.iter().product();
        let values = match input.element {
            ElementType::F32 => Values::Floats((0..n).map(|i| (i as f32 * 0.37).sin()).collect()),
            ElementType::Bool => Values::Bools((0..n).map(|i| i % 3 > 0).collect()),
            _ => Values::Ints((0..n).map(|i| (i % 3) as i64).collect()),
        };
        arrays.insert(input.name.clone(), Array::new(shape, values)?);
    }
    Some(arrays)
}
