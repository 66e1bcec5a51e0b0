//! What a model computes: evaluation, prediction, and whether it fits its data.

use aimass_onnx::{Model, ParamLayout};

use crate::executor::{Cpu, Executor};
use crate::program::{Graph, Mode};
use crate::{Dataset, Evaluation, Loss, TrainError};

/// Rows that are computed at once.
const BATCH: usize = 256;

/// Evaluates `model` on all of `data`, in batches. Dropout is off; sums are kept in f64.
///
/// # Errors
/// [`TrainError::Graph`], [`TrainError::Data`].
pub fn evaluate(model: &Model, data: &Dataset, loss: Loss) -> Result<Evaluation, TrainError> {
    if data.is_empty() {
        return Err(TrainError::Data {
            reason: "the data has no rows; nothing can be evaluated".to_owned(),
        });
    }
    let mut executor = Executor::<Cpu>::new(Graph::new(model, None)?, data.n_features());
    let rows = BATCH.min(data.len());
    let n = loss.outputs(&executor.program(rows, Mode::Inference)?.output_shape, rows)?;
    loss.check_targets(data.targets(), n)?;
    let (mut sum, mut correct) = (0.0f64, 0u64);
    for (features, targets) in data.features().chunks(BATCH * data.n_features()).zip(data.targets().chunks(BATCH)) {
        let batch = loss.of_batch(&executor.forward(features)?, n, targets, None);
        sum += batch.sum;
        correct += batch.correct;
    }
    let examples = data.len() as u64;
    let accuracy = match loss {
        Loss::CrossEntropy => Some(correct as f64 / examples as f64),
        Loss::Mse => None,
    };
    Ok(Evaluation {
        loss: sum / examples as f64,
        accuracy,
        examples,
    })
}

/// The first output of `model` for rows of features, `[rows, outputs]` row-major with the number of outputs.
///
/// # Errors
/// [`TrainError::Graph`], [`TrainError::Data`].
pub fn predict(model: &Model, features: &[f32], n_features: usize) -> Result<(Vec<f32>, usize), TrainError> {
    if n_features == 0 || features.is_empty() || !features.len().is_multiple_of(n_features) {
        let reason = format!("{} features do not make rows of {n_features}; feed whole rows", features.len());
        return Err(TrainError::Data { reason });
    }
    let mut executor = Executor::<Cpu>::new(Graph::new(model, None)?, n_features);
    let rows = features.len() / n_features;
    let shape = executor.program(BATCH.min(rows), Mode::Inference)?.output_shape.clone();
    if shape.first() != Some(&BATCH.min(rows)) {
        let reason = format!(
            "the model's output has the shape {shape:?} for a batch of {}; export it with a dynamic batch",
            BATCH.min(rows)
        );
        return Err(TrainError::Graph { reason });
    }
    let n: usize = shape[1..].iter().product();
    let mut outputs = Vec::with_capacity(rows * n);
    for batch in features.chunks(BATCH * n_features) {
        outputs.extend(executor.forward(batch)?);
    }
    Ok((outputs, n))
}

/// What [`fit_check`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// Outputs a row: classes, or 1.
    pub outputs: usize,
    /// Weights that train.
    pub weights: usize,
}

/// Whether `model` trains on rows of `n_features` with `loss`, without training: every op supported, every shape fitting, a dynamic
/// batch. `classes`, if known, is how many class indices the data has.
///
/// # Errors
/// [`TrainError::Graph`] with node, op and what to do; [`TrainError::Data`] where model and data differ.
pub fn fit_check(model: &Model, layout: &ParamLayout, n_features: usize, loss: Loss, classes: Option<usize>) -> Result<Fit, TrainError> {
    // 3 rows and 2: a batch that was frozen into the graph fits at most one of them.
    const ROWS: [usize; 2] = [3, 2];
    let graph = Graph::new(model, Some(layout))?;
    if graph.sources.iter().all(|s| s.weight.is_none()) {
        let reason = format!(
            "no weight reaches the output `{}`, so nothing would train; check the model or [model] trainable",
            graph.output
        );
        return Err(TrainError::Graph { reason });
    }
    let mut outputs = 0;
    for rows in ROWS {
        outputs = loss.outputs(&graph.plan(rows, n_features, Mode::Training)?.output_shape, rows)?;
    }
    if loss == Loss::CrossEntropy
        && let Some(classes) = classes
        && classes > outputs
    {
        let reason = format!("the data has {classes} classes, the model {outputs} outputs; use a model with at least {classes}");
        return Err(TrainError::Data { reason });
    }
    Ok(Fit {
        outputs,
        weights: layout.n_weights(),
    })
}
