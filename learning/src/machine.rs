//! What a trainer computes with: the compiled plan on the CPU, or the interpreter on any backend.

use burn_backend::Backend;
use rand_chacha::ChaCha20Rng;

use crate::array::Array;
use crate::compiled::Compiled;
use crate::executor::{Executor, StepDone};
use crate::optimizer::Optimizer;
use crate::program::Graph;
use crate::{Mask, OptimizerConfig, TrainError};

/// See the module.
pub(crate) enum Machine<B: Backend> {
    Compiled(Box<Compiled>),
    Interpreted(Box<(Executor<B>, Optimizer<B>)>),
}

impl<B: Backend> Machine<B> {
    pub(crate) fn compiled(graph: Graph, optimizer: OptimizerConfig) -> Self {
        Self::Compiled(Box::new(Compiled::new(graph, optimizer)))
    }

    pub(crate) fn interpreted(graph: Graph, optimizer: OptimizerConfig) -> Self {
        Self::Interpreted(Box::new((Executor::new(graph), Optimizer::new(optimizer))))
    }

    pub(crate) fn graph(&self) -> &Graph {
        match self {
            Self::Compiled(compiled) => compiled.graph(),
            Self::Interpreted(both) => both.0.graph(),
        }
    }

    /// See [`Compiled::step`].
    pub(crate) fn step(
        &mut self,
        inputs: Vec<Array>,
        batch_statistics: bool,
        noise: &mut ChaCha20Rng,
        gradient: impl FnOnce(&[Array]) -> Result<Vec<Option<Vec<f32>>>, TrainError>,
    ) -> Result<StepDone, TrainError> {
        match self {
            Self::Compiled(compiled) => compiled.step(inputs, batch_statistics, noise, gradient),
            Self::Interpreted(both) => {
                let (executor, optimizer) = &mut **both;
                executor.step(inputs, batch_statistics, optimizer, noise, gradient)
            }
        }
    }

    /// Refuses from now on what takes more memory.
    pub(crate) fn limit_memory(&mut self, limit_bytes: Option<u64>) {
        match self {
            Self::Compiled(compiled) => compiled.limit_memory(limit_bytes),
            Self::Interpreted(both) => {
                let moments = both.1.moments_a_weight();
                both.0.limit_memory(limit_bytes, moments);
            }
        }
    }

    /// What the proximal term pulls to.
    pub(crate) fn set_anchor(&mut self, flat: &[f32]) {
        match self {
            Self::Compiled(compiled) => compiled.set_anchor(flat),
            Self::Interpreted(both) => {
                let (executor, optimizer) = &mut **both;
                optimizer.set_anchor(&executor.graph().sources, flat, executor.device());
            }
        }
    }

    /// What is added to every gradient.
    pub(crate) fn set_correction(&mut self, flat: Option<&[f32]>) {
        match self {
            Self::Compiled(compiled) => compiled.set_correction(flat),
            Self::Interpreted(both) => {
                let (executor, optimizer) = &mut **both;
                optimizer.set_correction(&executor.graph().sources, flat, executor.device());
            }
        }
    }

    /// What is kept 0 from now on; weights and moments are made so now.
    pub(crate) fn set_mask(&mut self, mask: Option<&Mask>) -> Result<(), TrainError> {
        match self {
            Self::Compiled(compiled) => {
                compiled.set_mask(mask);
                Ok(())
            }
            Self::Interpreted(both) => {
                let (executor, optimizer) = &mut **both;
                executor.set_mask(mask, optimizer)
            }
        }
    }

    /// See [`Compiled::set_threads`]; the interpreter has those of the process.
    pub(crate) fn set_threads(&mut self, threads: usize) {
        if let Self::Compiled(compiled) = self {
            compiled.set_threads(threads);
        }
    }

    /// Vectors that the optimizer keeps a weight.
    pub(crate) fn moments_a_weight(&self) -> usize {
        match self {
            Self::Compiled(compiled) => compiled.moments_a_weight(),
            Self::Interpreted(both) => both.1.moments_a_weight(),
        }
    }

    pub(crate) fn read_weights(&self, flat: &mut [f32]) -> Result<(), TrainError> {
        match self {
            Self::Compiled(compiled) => compiled.read_weights(flat),
            Self::Interpreted(both) => both.0.read_weights(flat)?,
        }
        Ok(())
    }

    pub(crate) fn read_buffers(&self, flat: &mut [f32]) -> Result<(), TrainError> {
        match self {
            Self::Compiled(compiled) => compiled.read_buffers(flat),
            Self::Interpreted(both) => both.0.read_buffers(flat)?,
        }
        Ok(())
    }

    pub(crate) fn set_weights(&mut self, flat: &[f32]) {
        match self {
            Self::Compiled(compiled) => compiled.set_weights(flat),
            Self::Interpreted(both) => both.0.set_weights(flat),
        }
    }

    pub(crate) fn set_buffers(&mut self, flat: &[f32]) {
        match self {
            Self::Compiled(compiled) => compiled.set_buffers(flat),
            Self::Interpreted(both) => both.0.set_buffers(flat),
        }
    }

    pub(crate) fn optimizer_state(&self, n_weights: usize) -> Result<Vec<Vec<f32>>, TrainError> {
        match self {
            Self::Compiled(compiled) => Ok(compiled.optimizer_state(n_weights)),
            Self::Interpreted(both) => both.1.read(&both.0.graph().sources, n_weights),
        }
    }

    pub(crate) fn restore(&mut self, steps: u64, state: &[Vec<f32>]) -> Result<(), TrainError> {
        match self {
            Self::Compiled(compiled) => compiled.restore(state, steps),
            Self::Interpreted(both) => {
                let (executor, optimizer) = &mut **both;
                optimizer.restore(&executor.graph().sources, state, steps, executor.device())
            }
        }
    }
}
