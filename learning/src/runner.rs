//! A model that several threads run at once, in inference mode, by plans that share its weights.

use aimass_onnx::Model;

use crate::TrainError;
use crate::array::Array;
use crate::compiled::{Forward, Weights};
use crate::program::Graph;

/// A model read once. What [`Engine`](crate::Engine) is to one thread, this is to many: weights are there once, and a plan may be run from
/// several threads at once, each with a memory of its own. A run has one thread, and gives what `Engine` gives, to the last bit.
pub struct Runner {
    weights: Weights,
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runner").field("inputs", &self.inputs()).finish_non_exhaustive()
    }
}

impl Runner {
    /// Reads the graph for all of its outputs.
    ///
    /// # Errors
    /// [`TrainError::Graph`] with node, op and what to do.
    pub fn new(model: &Model) -> Result<Self, TrainError> {
        let outputs: Vec<String> = model.outputs().iter().map(|output| output.name.clone()).collect();
        Ok(Self {
            weights: Weights::new(Graph::with_outputs(model, None, &outputs)?),
        })
    }

    /// Names of the inputs that the outputs depend on, in the file's order.
    pub fn inputs(&self) -> Vec<&str> {
        self.weights.graph().inputs.iter().map(|input| input.name.as_str()).collect()
    }

    /// Bytes of the weights, as plans that exist read them.
    pub fn weight_bytes(&self) -> u64 {
        self.weights.bytes()
    }

    /// A plan for inputs of these shapes, in the order of [`Self::inputs`].
    ///
    /// # Errors
    /// [`TrainError::Graph`] where the model can't take shapes like these, or they are past the limits of memory.
    pub fn prepare(&self, shapes: &[Vec<usize>]) -> Result<Prepared, TrainError> {
        self.weights.plan(shapes).map(Prepared)
    }
}

/// A [`Runner`]'s plan for inputs of certain shapes.
pub struct Prepared(Forward);

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Prepared {
    /// Bytes that the plan takes besides the weights, and bytes of each run that is under way, by estimate.
    pub fn bytes(&self) -> (u64, u64) {
        self.0.bytes()
    }

    /// Nodes that have no kernel of their own and are interpreted.
    pub fn interpreted(&self) -> usize {
        self.0.interpreted()
    }

    /// All outputs in the file's order, for inputs in the order of [`Runner::inputs`]. Dropout is off, batch norm uses the stored statistics.
    /// The memories of at most `keep` runs are kept for later ones.
    ///
    /// # Errors
    /// [`TrainError::Data`] for inputs of other types or shapes than the plan's.
    pub fn run(&self, inputs: Vec<Array>, keep: usize) -> Result<Vec<Array>, TrainError> {
        self.0.run(inputs, keep)
    }
}
