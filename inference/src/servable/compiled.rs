//! A model run by the trainer's plan for the CPU.

use aimass_learning::{Prepared, Runner};
use aimass_onnx::Model;

use super::budget::{MemoryBudget, Reservation};
use super::error::{LoadError, RunError};
use super::ports::Port;
use crate::guard::caught;
use crate::tensor::{Datatype, Tensor};

/// The model: its weights, which all plans share.
pub(super) struct Compiled {
    runner: Runner,
    /// For each input that the plan reads: its place among the model's.
    order: Vec<usize>,
    outputs: Vec<Datatype>,
    threads: usize,
    weights: Option<Reservation>,
}

/// A plan for inputs of certain shapes.
pub(super) struct CompiledPlan {
    prepared: Prepared,
    order: Vec<usize>,
    outputs: Vec<Datatype>,
    threads: usize,
    _memory: Reservation,
}

fn refused(reason: impl ToString) -> LoadError {
    LoadError::Plan {
        reason: reason.to_string(),
    }
}

impl Compiled {
    /// Reads the model, for `threads` runs at once.
    pub(super) fn new(model: &Model, inputs: &[Port], outputs: &[Port], threads: usize) -> Result<Self, LoadError> {
        if let Some(port) = inputs.iter().chain(outputs).find(|port| port.datatype == Datatype::F64) {
            return Err(refused(format!("{:?} is float64, which the plan does not compute in", port.name)));
        }
        let runner = caught(|| Runner::new(model)).map_err(refused)?.map_err(refused)?;
        let place = |name: &str| inputs.iter().position(|port| port.name == name);
        let order: Option<Vec<usize>> = runner.inputs().into_iter().map(place).collect();
        Ok(Self {
            order: order.ok_or_else(|| refused("it reads an input that is not the model's"))?,
            runner,
            outputs: outputs.iter().map(|port| port.datatype).collect(),
            threads,
            weights: None,
        })
    }

    /// Reserves what the weights take, now that a plan is there which says how they lie.
    pub(super) fn reserve(&mut self, budget: &MemoryBudget) -> Result<(), LoadError> {
        self.weights = Some(budget.reserve(self.runner.weight_bytes())?);
        Ok(())
    }

    pub(super) fn plan(&self, shapes: &[Vec<usize>], budget: &MemoryBudget) -> Result<CompiledPlan, LoadError> {
        let shapes: Vec<Vec<usize>> = self.order.iter().filter_map(|&i| shapes.get(i).cloned()).collect();
        let prepared = caught(|| self.runner.prepare(&shapes)).map_err(refused)?.map_err(refused)?;
        let (once, run) = prepared.bytes();
        Ok(CompiledPlan {
            prepared,
            order: self.order.clone(),
            outputs: self.outputs.clone(),
            threads: self.threads,
            _memory: budget.reserve(once.saturating_add(run.saturating_mul(self.threads as u64)))?,
        })
    }
}

impl CompiledPlan {
    /// Nodes that are interpreted.
    pub(super) fn interpreted(&self) -> usize {
        self.prepared.interpreted()
    }

    /// Outputs for inputs of the plan's shapes.
    pub(super) fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        caught(|| self.compute(inputs)).unwrap_or_else(|reason| Err(RunError::Fault { reason }))
    }

    fn compute(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let failed = |reason: String| RunError::Graph { reason };
        let arrays = self.order.iter().map(|&i| inputs.get(i).and_then(Tensor::to_array));
        let arrays: Option<Vec<_>> = arrays.collect();
        let arrays = arrays.ok_or_else(|| failed("an input is not of a type that the plan reads".to_owned()))?;
        let made = self.prepared.run(arrays, self.threads).map_err(|e| failed(e.to_string()))?;
        let each = made.into_iter().zip(&self.outputs).enumerate();
        each.map(|(index, (array, datatype))| {
            Tensor::of_array(array, *datatype).map_err(|e| RunError::Output {
                index,
                reason: e.to_string(),
            })
        })
        .collect()
    }
}
