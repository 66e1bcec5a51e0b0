//! What a model computes: evaluation, prediction, and whether it fits its data.

mod outputs;
mod scorer;

use std::num::NonZeroUsize;

use aimass_onnx::{Model, ParamLayout};

use crate::array::Array;
use crate::compiled::Compiled;
use crate::metrics::Metric;
use crate::program::{Graph, Mode};
use crate::trainer::{nothing_trains, outputs_of};
use crate::{Batch, Dataset, Evaluation, Head, Loss, TrainError};

pub use outputs::{Watch, outputs};
pub use scorer::Scorer;

/// Rows that are computed at once.
const BATCH: usize = 256;

/// Evaluates a model batch by batch: the loss of each head, and metrics.
///
/// Dropout is off, batch normalisation uses the stored statistics. See [`Scorer`] for what is found.
pub struct Evaluator {
    executor: Compiled,
    scorer: Scorer,
}

impl std::fmt::Debug for Evaluator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Evaluator").field("scorer", &self.scorer).finish_non_exhaustive()
    }
}

impl Evaluator {
    /// Reads the graph. Accuracy is measured wherever there are classes or labels; each other metric by the heads that it suits.
    ///
    /// # Errors
    /// [`TrainError::Graph`]; [`TrainError::Config`] for options of a loss that can't work, and metrics that suit no head.
    pub fn new(model: &Model, heads: &[Head], metrics: &[Metric]) -> Result<Self, TrainError> {
        let scorer = Scorer::new(heads, metrics)?;
        Ok(Self {
            executor: Compiled::inference(Graph::with_outputs(model, None, &outputs_of(model, heads)?)?),
            scorer,
        })
    }

    /// From now on so many threads compute a batch together; 1 before. What they find is the same to the last bit for any number.
    pub fn set_threads(&mut self, threads: NonZeroUsize) {
        self.executor.set_threads(threads.get());
    }

    /// Computes a batch and adds what it shows.
    ///
    /// # Errors
    /// [`TrainError::Data`] for arrays that do not fit or a target that the loss can't take; [`TrainError::Graph`] where the model can't
    /// take shapes like these.
    pub fn add(&mut self, batch: Batch) -> Result<(), TrainError> {
        let rows = batch.len();
        let Batch {
            inputs,
            targets,
            weights,
            flat,
        } = batch;
        self.scorer.check(&targets, weights.as_deref(), rows)?;
        let inputs = if flat { self.executor.graph().conform(inputs)? } else { inputs };
        let outputs = self.executor.forward(inputs)?;
        self.scorer.add(&outputs, &targets, weights.as_deref(), rows)
    }

    /// What all batches together show.
    ///
    /// # Errors
    /// [`TrainError::Data`] when there was none.
    pub fn finish(self) -> Result<Evaluation, TrainError> {
        self.scorer.finish()
    }
}

fn no_rows() -> TrainError {
    TrainError::Data {
        reason: "the data has no rows; nothing can be evaluated".to_owned(),
    }
}

/// Evaluates one head of `model`, which has one input, on all of `data`, in batches of 256: its loss, and accuracy where it has one.
///
/// # Errors
/// As [`Evaluator`]'s; every target is checked before the first batch.
pub fn evaluate(model: &Model, data: &Dataset, head: &Head) -> Result<Evaluation, TrainError> {
    if data.is_empty() {
        return Err(no_rows());
    }
    let mut evaluator = Evaluator::new(model, std::slice::from_ref(head), &[])?;
    let rows = BATCH.min(data.len());
    let executor = &mut evaluator.executor;
    let shapes = vec![one_input(executor.graph())?.row_shape(0, rows, data.n_features())?];
    let n = head.loss.outputs(&executor.output_shapes(&shapes)?[0], rows)?;
    head.loss.check_targets(&Array::float_list(data.targets().to_vec()), n)?;
    for (features, targets) in data.features().chunks(BATCH * data.n_features()).zip(data.targets().chunks(BATCH)) {
        let batch = Batch::rows(features.to_vec(), targets.to_vec()).ok_or_else(no_rows)?;
        evaluator.add(batch)?;
    }
    evaluator.finish()
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
    let mut executor = Compiled::inference(Graph::new(model, None)?);
    let rows = features.len() / n_features;
    let shapes = vec![one_input(executor.graph())?.row_shape(0, BATCH.min(rows), n_features)?];
    let shape = executor.output_shapes(&shapes)?.swap_remove(0);
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
        let output = first_output(&mut executor, batch.to_vec(), n_features)?;
        outputs.extend_from_slice(output.as_floats().unwrap_or_default());
    }
    Ok((outputs, n))
}

/// A model that rows of features can feed.
fn one_input(graph: &Graph) -> Result<&Graph, TrainError> {
    if graph.inputs.len() == 1 {
        return Ok(graph);
    }
    let names: Vec<&str> = graph.inputs.iter().map(|i| i.name.as_str()).collect();
    Err(TrainError::Graph {
        reason: format!(
            "the model has the inputs {}, rows of features can feed one; use data with an array for each",
            names.join(", ")
        ),
    })
}

/// The first output for rows of features.
fn first_output(executor: &mut Compiled, features: Vec<f32>, n_features: usize) -> Result<Array, TrainError> {
    let rows = features.len() / n_features;
    let array = Array::floats(vec![rows, n_features], features);
    let inputs = executor.graph().conform(array.into_iter().collect())?;
    let output = executor.forward(inputs)?.into_iter().next();
    output.filter(|o| o.as_floats().is_some()).ok_or_else(|| TrainError::Graph {
        reason: "the model's first output is not made of floats; export it with a float output first".to_owned(),
    })
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
pub fn fit_check(model: &Model, layout: &ParamLayout, n_features: usize, head: &Head, classes: Option<usize>) -> Result<Fit, TrainError> {
    // 3 rows and 2: a batch that was frozen into the graph fits at most one of them.
    const ROWS: [usize; 2] = [3, 2];
    head.loss.check()?;
    let graph = Graph::with_outputs(model, Some(layout), &outputs_of(model, std::slice::from_ref(head))?)?;
    if !graph.trains() {
        return Err(nothing_trains(&graph));
    }
    let mut outputs = 0;
    for rows in ROWS {
        let shapes = [one_input(&graph)?.row_shape(0, rows, n_features)?];
        let program = graph.plan(&shapes, Mode::Training { batch_statistics: true })?;
        let shape = &program.outputs[0].shape;
        outputs = head.loss.outputs(shape, rows)?;
        head.loss.check_shapes(shape, &[rows])?;
    }
    if matches!(head.loss, Loss::CrossEntropy(_))
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

#[cfg(test)]
mod tests;
