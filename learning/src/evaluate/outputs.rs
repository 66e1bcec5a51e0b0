//! What a model computes on its way, batch by batch: for those who observe it, as calibration does.

use std::num::NonZeroUsize;
use std::ops::ControlFlow;

use aimass_onnx::Model;

use super::{BATCH, no_rows};
use crate::array::Array;
use crate::compiled::Compiled;
use crate::data::Source;
use crate::program::Graph;
use crate::trainer::outputs_of;
use crate::{Head, TrainError};

/// What [`outputs`] hands out.
#[derive(Debug, Clone, PartialEq)]
pub struct Watch {
    /// Any values of the graph by name: outputs, what nodes pass to each other, inputs and initializers.
    pub names: Vec<String>,
    /// Heads that the data is for: they tell which inputs it feeds. Without any, those that the model's outputs depend on.
    pub heads: Vec<Head>,
    /// Rows at once, at least 1.
    pub batch: usize,
    /// Rows at most, from the first on.
    pub rows: usize,
    /// Threads that compute a batch together. What they find is the same to the last bit for any number.
    pub threads: NonZeroUsize,
}

impl Watch {
    /// These values for all rows, in batches of 256, by one thread.
    pub fn new(names: Vec<String>) -> Self {
        Self {
            names,
            heads: Vec::new(),
            batch: BATCH,
            rows: usize::MAX,
            threads: NonZeroUsize::MIN,
        }
    }
}

/// Runs `model` over the rows of `data` in inference mode, and hands out the values that `watch` names, an array each in its order, after every
/// batch. Returns the rows that were handed out.
///
/// # Errors
/// [`TrainError::Config`] for no names, names that the graph does not have, and batches of nothing; [`TrainError`] as an
/// [`Evaluator`](crate::Evaluator)'s.
pub fn outputs(
    model: &Model,
    data: &dyn Source,
    watch: &Watch,
    each: &mut dyn FnMut(&[Array]) -> ControlFlow<()>,
) -> Result<usize, TrainError> {
    if watch.batch == 0 || watch.names.is_empty() {
        return Err(TrainError::Config {
            reason: "there is nothing to watch; name values of the graph, and use batches of 1 row or more".to_owned(),
        });
    }
    let read = if watch.heads.is_empty() {
        model.outputs().iter().map(|output| output.name.clone()).collect()
    } else {
        outputs_of(model, &watch.heads)?
    };
    // The data feeds what these depend on, whatever is watched.
    let names: Vec<String> = watch.names.iter().cloned().chain(read).collect();
    let mut executor = Compiled::inference(Graph::with_values(model, &names)?);
    executor.set_threads(watch.threads.get());
    let rows: Vec<usize> = (0..data.len().min(watch.rows)).collect();
    if rows.is_empty() {
        return Err(no_rows());
    }
    let mut seen = 0;
    for rows in rows.chunks(watch.batch) {
        let batch = data.batch(rows)?;
        let inputs = if batch.flat {
            executor.graph().conform(batch.inputs)?
        } else {
            batch.inputs
        };
        let made = executor.forward(inputs)?;
        seen += rows.len();
        if each(&made[..watch.names.len()]).is_break() {
            break;
        }
    }
    Ok(seen)
}
