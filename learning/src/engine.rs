//! A model that computes: all outputs for named inputs, in inference mode.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use aimass_onnx::Model;

use crate::TrainError;
use crate::array::Array;
use crate::compiled::Compiled;
use crate::program::Graph;

/// A model read once, to be run on any number of batches of any shapes that it takes.
pub struct Engine {
    executor: Compiled,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("outputs", &self.outputs()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Reads the graph for all of its outputs.
    ///
    /// # Errors
    /// [`TrainError::Graph`] with node, op and what to do.
    pub fn new(model: &Model) -> Result<Self, TrainError> {
        let outputs: Vec<String> = model.outputs().iter().map(|output| output.name.clone()).collect();
        Ok(Self {
            executor: Compiled::inference(Graph::with_outputs(model, None, &outputs)?),
        })
    }

    /// From now on so many threads compute a batch together; 1 before. The outputs are the same to the last bit for any number.
    pub fn set_threads(&mut self, threads: NonZeroUsize) {
        self.executor.set_threads(threads.get());
    }

    /// Names of the inputs that the outputs depend on, in the file's order.
    pub fn inputs(&self) -> Vec<&str> {
        self.executor.graph().inputs.iter().map(|input| input.name.as_str()).collect()
    }

    /// Names of the outputs in the file's order.
    pub fn outputs(&self) -> Vec<&str> {
        self.executor.graph().outputs.iter().map(String::as_str).collect()
    }

    /// All outputs, in the order of [`Self::outputs`]. Dropout is off, batch norm uses the stored statistics.
    ///
    /// # Errors
    /// [`TrainError::Data`] for an input that is missing, unknown, or of another type or shape than the model takes;
    /// [`TrainError::Graph`] where the model can't take shapes like these.
    pub fn run(&mut self, mut inputs: BTreeMap<String, Array>) -> Result<Vec<Array>, TrainError> {
        let mut ordered = Vec::new();
        for name in self.inputs() {
            ordered.push(inputs.remove(name).ok_or_else(|| TrainError::Data {
                reason: format!("the input `{name}` is missing; the model needs {}", self.inputs().join(", ")),
            })?);
        }
        if let Some(unknown) = inputs.keys().next() {
            return Err(TrainError::Data {
                reason: format!(
                    "the model has no input `{unknown}` that its outputs depend on; it has {}",
                    self.inputs().join(", ")
                ),
            });
        }
        self.run_all(ordered)
    }

    /// The inputs of a batch in the shapes and types that the model takes, in the order of [`Self::inputs`]. `flat` as in [`Batch::flat`](crate::Batch::flat).
    ///
    /// # Errors
    /// [`TrainError::Data`] for arrays that do not fit.
    pub fn conform(&self, inputs: Vec<Array>, flat: bool) -> Result<Vec<Array>, TrainError> {
        if flat { self.executor.graph().conform(inputs) } else { Ok(inputs) }
    }

    /// As [`Self::run`], for inputs in the order of [`Self::inputs`].
    ///
    /// # Errors
    /// As there.
    pub fn run_all(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, TrainError> {
        self.executor.forward(inputs)
    }
}
