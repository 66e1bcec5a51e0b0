//! A model made ready for inputs of certain shapes, by either engine.

use super::compiled::CompiledPlan;
use super::error::RunError;
use super::plan::Plan;
use crate::tensor::Tensor;

/// See the module.
pub(super) enum Ready {
    /// By tract.
    Tract(Plan),
    /// By the trainer's plan.
    Compiled(Box<CompiledPlan>),
}

impl Ready {
    /// Outputs for inputs of the shapes that it was made for.
    pub(super) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        match self {
            Self::Tract(plan) => plan.run(inputs),
            Self::Compiled(plan) => plan.run(inputs),
        }
    }
}
