//! For tests of backends: what a graph computes somewhere, and the gradient of a weighted sum of its outputs.

use aimass_onnx::{Model, ParamLayout};
pub use burn_backend::Backend;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::array::Array;
use crate::executor::Executor;
use crate::optimizer::Optimizer;
use crate::program::Graph;
use crate::{OptimizerConfig, Rule, TrainError};

/// A graph on the default device of `B`, all outputs of which are read.
pub struct Parity<B: Backend> {
    executor: Executor<B>,
    n_weights: usize,
}

impl<B: Backend> std::fmt::Debug for Parity<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parity").field("n_weights", &self.n_weights).finish_non_exhaustive()
    }
}

impl<B: Backend> Parity<B> {
    /// Reads the graph. Without a layout nothing trains.
    ///
    /// # Errors
    /// [`TrainError::Graph`].
    pub fn new(model: &Model, layout: Option<&ParamLayout>) -> Result<Self, TrainError> {
        let outputs: Vec<String> = model.outputs().iter().map(|output| output.name.clone()).collect();
        Ok(Self {
            executor: Executor::new(Graph::with_outputs(model, layout, &outputs)?),
            n_weights: layout.map_or(0, ParamLayout::n_weights),
        })
    }

    fn inputs(&self, named: &[(String, Array)]) -> Result<Vec<Array>, TrainError> {
        let array = |name: &str| named.iter().find(|(n, _)| n == name).map(|(_, array)| array.clone());
        let missing = |name: &str| TrainError::Data {
            reason: format!("the input `{name}` is missing"),
        };
        let inputs = self.executor.graph().inputs.iter();
        inputs.map(|input| array(&input.name).ok_or_else(|| missing(&input.name))).collect()
    }

    /// All outputs, in inference mode.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn outputs(&mut self, inputs: &[(String, Array)]) -> Result<Vec<Array>, TrainError> {
        let inputs = self.inputs(inputs)?;
        self.executor.forward(inputs)
    }

    /// The gradient of the sum over all outputs of `output * by_output`, by all weights.
    ///
    /// # Errors
    /// [`TrainError`].
    pub fn gradient(&mut self, inputs: &[(String, Array)], by_outputs: Vec<Option<Vec<f32>>>) -> Result<Vec<f32>, TrainError> {
        // After a first step the velocity is the gradient, to the last bit.
        let rule = Rule::Sgd {
            momentum: 0.5,
            nesterov: false,
        };
        let mut optimizer = Optimizer::<B>::new(OptimizerConfig {
            rule,
            ..OptimizerConfig::sgd(0.0)
        });
        let (inputs, mut noise) = (self.inputs(inputs)?, ChaCha20Rng::from_seed([0; 32]));
        self.executor.step(inputs, false, &mut optimizer, &mut noise, |_| Ok(by_outputs))?;
        let mut moments = optimizer.read(&self.executor.graph().sources, self.n_weights)?;
        Ok(moments.pop().unwrap_or_default())
    }
}
