//! Runs programs on the CPU by a plan: the second executor, and the one that is used there.
//!
//! A program with its shapes becomes a list of operations over one arena, forward and backward, in which every value, gradient and
//! scratch has a place that was planned. Weights lie as the kernels want them from the first step to the last; where one operation alone
//! reads a weight and the optimizer is plain, its gradient moves it where it is made. What there is no kernel for is run by the
//! interpreter, a node at a time ([`ops::interpreted`]): so everything that the interpreter trains is trained here.
//!
//! burn's types are in `ops/interpreted.rs` alone. The interpreter is the oracle: the same gradients, to rounding.

mod arena;
mod build;
mod forward;
mod fuse;
mod memory;
mod ops;
mod plan;
mod sources;
mod update;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use aimass_kernels::{Isa, Team};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use crate::array::Array;
use crate::executor::{StepDone, check_memory};
use crate::program::{Graph, GraphSource, Mode, Program, Role};
use crate::{Mask, OptimizerConfig, TrainError};
pub(crate) use forward::{Forward, Weights};
use memory::Memory;
use ops::By;
use plan::Plan;
use sources::Sources;
use update::Update;

/// Plans that are kept: full batches and last ones, in both modes, of the shapes in use.
const MAX_PLANS: usize = 16;

type Key = (Vec<Vec<usize>>, Mode);

/// A graph with its weights, and the plans that were made for it.
pub(crate) struct Compiled {
    graph: Graph,
    isa: Isa,
    team: Team,
    sources: Sources,
    plans: HashMap<Key, Arc<Plan>>,
    memory: Memory,
    update: Update,
    memory_limit: Option<u64>,
}

/// Bytes that a step of a program takes on the CPU at the peak: see [`Cost::peak_bytes`](crate::inspect::Cost::peak_bytes). And the nodes
/// of the graph that the interpreter runs, by their places.
pub(crate) fn estimate(graph: &Graph, program: Program, mode: Mode, moments: usize, gathered: bool) -> (u64, Vec<usize>) {
    let plan = build::plan(graph, program, mode, Isa::best(), 1, moments == 0 && !gathered);
    (plan.bytes(graph, moments), plan.interpreted_nodes())
}

impl Compiled {
    /// `optimizer` moves the weights in [`Self::step`].
    pub(crate) fn new(mut graph: Graph, optimizer: OptimizerConfig) -> Self {
        let sources = Sources::new(&graph);
        for source in &mut graph.sources {
            // Planning asks for what never changes alone.
            if source.role != Role::Constant {
                source.values = Arc::default();
            }
        }
        Self {
            isa: Isa::best(),
            team: Team::alone(),
            sources,
            update: Update::new(optimizer, graph.sources.len()),
            graph,
            plans: HashMap::new(),
            memory: Memory::default(),
            memory_limit: None,
        }
    }

    /// To run graphs forward.
    pub(crate) fn inference(graph: Graph) -> Self {
        Self::new(graph, OptimizerConfig::sgd(0.0))
    }

    /// With another instruction set than the processor's best.
    #[cfg(test)]
    pub(crate) fn with_isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// From now on steps and forward passes are done by so many threads together; what they give is the same to the last bit.
    pub(crate) fn set_threads(&mut self, threads: usize) {
        if threads != self.team.threads() {
            self.set_team(Team::new(threads));
        }
    }

    pub(crate) fn set_team(&mut self, team: Team) {
        self.team = team;
        self.plans.clear();
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// From now on plans that take more memory are refused.
    pub(crate) fn limit_memory(&mut self, limit_bytes: Option<u64>) {
        self.memory_limit = limit_bytes;
        self.plans.clear();
    }

    fn plan(&mut self, shapes: &[Vec<usize>], mode: Mode) -> Result<Arc<Plan>, TrainError> {
        let key = (shapes.to_vec(), mode);
        if let Some(plan) = self.plans.get(&key) {
            return Ok(plan.clone());
        }
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        let program = self.graph.plan(shapes, mode)?;
        let plan = build::plan(&self.graph, program, mode, self.isa, self.team.threads(), self.update.is_plain());
        if let Some(limit_bytes) = self.memory_limit {
            check_memory(plan.bytes(&self.graph, self.update.vectors()), limit_bytes)?;
        }
        let plan = Arc::new(plan);
        self.plans.insert(key, plan.clone());
        Ok(plan)
    }

    /// Shapes of the outputs for inputs of these shapes, in inference mode.
    pub(crate) fn output_shapes(&mut self, shapes: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, TrainError> {
        let plan = self.plan(shapes, Mode::Inference)?;
        Ok(plan.program.outputs.iter().map(|output| output.shape.clone()).collect())
    }

    /// The outputs for one batch of inputs, in inference mode.
    pub(crate) fn forward(&mut self, inputs: Vec<Array>) -> Result<Vec<Array>, TrainError> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|array| array.shape().to_vec()).collect();
        let plan = self.plan(&shapes, Mode::Inference)?;
        self.forward_through(&plan, inputs, &mut ChaCha20Rng::from_seed([0; 32]))
    }

    fn forward_through(&mut self, plan: &Plan, inputs: Vec<Array>, noise: &mut ChaCha20Rng) -> Result<Vec<Array>, TrainError> {
        self.sources.lay_out(&self.graph, &plan.layouts);
        let by = By {
            isa: self.isa,
            team: &self.team,
        };
        forward::forward(&self.graph, plan, &self.sources, &mut self.memory, by, inputs, noise)
    }

    /// One step. `gradient` gets the outputs and returns the gradient of the loss by each (`None` for those that the loss does not read,
    /// otherwise of the output's length); if it fails, nothing changes. `noise` feeds dropout.
    pub(crate) fn step(
        &mut self,
        inputs: Vec<Array>,
        batch_statistics: bool,
        noise: &mut ChaCha20Rng,
        gradient: impl FnOnce(&[Array]) -> Result<Vec<Option<Vec<f32>>>, TrainError>,
    ) -> Result<StepDone, TrainError> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|array| array.shape().to_vec()).collect();
        let plan = self.plan(&shapes, Mode::Training { batch_statistics })?;
        let outputs = self.forward_through(&plan, inputs, noise)?;
        let by_outputs = gradient(&outputs)?;
        if !plan
            .program
            .outputs
            .iter()
            .zip(&by_outputs)
            .any(|(output, by)| by.is_some() && plan.is_float(output))
        {
            return Err(TrainError::Graph {
                reason: "the loss reads no output that is made of floats; choose another output".to_owned(),
            });
        }
        let alpha = self.update.begin(&plan, &self.sources);
        self.memory.seed(&plan, &by_outputs, &mut self.sources, self.update.targets(alpha));
        let by = By {
            isa: self.isa,
            team: &self.team,
        };
        for (i, node) in plan.nodes.iter().enumerate().rev() {
            let targets = self.update.targets(alpha);
            self.memory.backward(&plan, i, node, &mut self.sources, targets, by)?;
        }
        let reached = plan.reached(&by_outputs);
        let gradient_norm = self.update.finish(&self.graph, &plan, &reached, &mut self.sources, by)?;
        for (source, slot) in &plan.program.buffers {
            if let Some(values) = self.memory.floats(&plan, *slot) {
                self.sources.values[*source].copy_from_slice(values);
            }
        }
        Ok(StepDone { gradient_norm })
    }

    /// Copies the weights as they are now to their places in a flat vector that is long enough for all.
    pub(crate) fn read_weights(&self, flat: &mut [f32]) {
        self.sources.read(&self.graph, flat, GraphSource::weight);
    }

    /// The same for running statistics.
    pub(crate) fn read_buffers(&self, flat: &mut [f32]) {
        self.sources.read(&self.graph, flat, GraphSource::buffer);
    }

    /// Replaces the weights by those of a flat vector that is long enough for all.
    pub(crate) fn set_weights(&mut self, flat: &[f32]) {
        self.sources.set(&self.graph, flat, GraphSource::weight);
    }

    /// The same for running statistics.
    pub(crate) fn set_buffers(&mut self, flat: &[f32]) {
        self.sources.set(&self.graph, flat, GraphSource::buffer);
    }

    /// What the proximal term pulls to from now on: a flat vector of all weights.
    pub(crate) fn set_anchor(&mut self, flat: &[f32]) {
        self.update.set_anchor(&self.graph, flat);
    }

    /// What is added to every gradient from now on: a flat vector of all weights.
    pub(crate) fn set_correction(&mut self, flat: Option<&[f32]>) {
        self.update.set_correction(&self.graph, flat);
    }

    /// What is kept 0 from now on: weights and moments are made so now.
    pub(crate) fn set_mask(&mut self, mask: Option<&Mask>) {
        self.update.set_mask(&self.graph, mask, &mut self.sources);
    }

    /// The optimizer's moments as flat vectors of `n_weights` each; zero where there was no step yet.
    pub(crate) fn optimizer_state(&self, n_weights: usize) -> Vec<Vec<f32>> {
        self.update.read(&self.graph, n_weights)
    }

    /// Goes on from what [`Self::optimizer_state`] gave after `steps` steps.
    pub(crate) fn restore(&mut self, flat: &[Vec<f32>], steps: u64) -> Result<(), TrainError> {
        self.update.restore(&self.graph, flat, steps)
    }

    pub(crate) fn moments_a_weight(&self) -> usize {
        self.update.moments_a_weight()
    }
}
