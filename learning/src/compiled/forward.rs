//! Running plans forward from several threads at once, by weights that are there once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aimass_kernels::{Isa, Team};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::build;
use super::memory::Memory;
use super::ops::By;
use super::plan::Plan;
use super::sources::Sources;
use crate::TrainError;
use crate::array::Array;
use crate::program::{self, Element, Feed, Graph, Mode};

/// Constants of more values are not kept beside the weights that kernels read: planning folds none of that size.
const KEPT_CONSTANT: usize = 1 << 16;
/// The same for those that can be made of integers again.
const KEPT_WITH_INTEGERS: usize = 1 << 10;

/// The outputs of a plan for one batch of inputs.
pub(super) fn forward(
    graph: &Graph,
    plan: &Plan,
    sources: &Sources,
    memory: &mut Memory,
    by: By<'_>,
    inputs: Vec<Array>,
    noise: &mut ChaCha20Rng,
) -> Result<Vec<Array>, TrainError> {
    let mut feed = plan.program.feed(graph, inputs)?;
    memory.begin(plan);
    for (slot, array) in std::mem::take(&mut feed.arrays) {
        memory.load(plan, slot, array);
    }
    for (i, node) in plan.nodes.iter().enumerate() {
        memory.forward(plan, i, node, sources, by, noise)?;
    }
    collect(graph, plan, sources, memory, &feed)
}

fn collect(graph: &Graph, plan: &Plan, sources: &Sources, memory: &Memory, feed: &Feed) -> Result<Vec<Array>, TrainError> {
    let missing = || TrainError::Device {
        reason: "an output was not computed".to_owned(),
    };
    let each = plan.program.outputs.iter().map(|output| {
        let array = match &output.from {
            program::From::Known(array) => Some(array.clone()),
            program::From::Host(slot) => feed.host(*slot),
            program::From::Device(slot) => memory.read(plan, graph, *slot, sources),
        };
        let array = array.and_then(|array| array.reshaped(output.shape.clone())).ok_or_else(missing)?;
        Ok(output.element.array_of(array))
    });
    each.collect()
}

/// A graph whose weights stay as they are: any number of plans read them.
pub(crate) struct Weights {
    graph: Arc<Graph>,
    isa: Isa,
    /// As the latest plan reads them. Plans of one graph read most weights alike, whatever the batch.
    sources: Mutex<Arc<Sources>>,
}

impl Weights {
    pub(crate) fn new(mut graph: Graph) -> Self {
        let sources = Sources::new(&graph);
        for source in &mut graph.sources {
            let kept = if source.integers.is_some() {
                KEPT_WITH_INTEGERS
            } else {
                KEPT_CONSTANT
            };
            if source.element == Element::Float && source.values.len() > kept {
                source.values = Arc::default();
            }
        }
        Self {
            graph: Arc::new(graph),
            isa: Isa::best(),
            sources: Mutex::new(Arc::new(sources)),
        }
    }

    /// With another instruction set than the processor's best.
    #[cfg(test)]
    pub(crate) fn with_isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Sources>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of the weights and constants.
    pub(crate) fn bytes(&self) -> u64 {
        let constants: usize = self.graph.sources.iter().map(|source| source.values.len()).sum();
        let integers: usize = self
            .graph
            .sources
            .iter()
            .filter_map(|source| source.integers.as_ref())
            .map(|i| i.memory_bytes())
            .sum();
        (4 * (self.lock().floats() + constants) + integers) as u64
    }

    /// A plan for inputs of these shapes, in the order of the graph's.
    ///
    /// # Errors
    /// [`TrainError::Graph`] where the graph can't take such shapes.
    pub(crate) fn plan(&self, shapes: &[Vec<usize>]) -> Result<Forward, TrainError> {
        let program = self.graph.plan(shapes, Mode::Inference)?;
        let plan = build::plan(&self.graph, program, Mode::Inference, self.isa, 1, true);
        let mut sources = self.lock();
        if !sources.lie_as(&plan.layouts) {
            // A copy, where another plan reads the weights as they lie.
            Arc::make_mut(&mut sources).lay_out(&self.graph, &plan.layouts);
        }
        Ok(Forward {
            graph: Arc::clone(&self.graph),
            sources: Arc::clone(&sources),
            plan,
            isa: self.isa,
            idle: Mutex::default(),
        })
    }
}

/// A plan that several threads run, each with a memory of its own.
pub(crate) struct Forward {
    graph: Arc<Graph>,
    sources: Arc<Sources>,
    plan: Plan,
    isa: Isa,
    /// Memories that no run uses now.
    idle: Mutex<Vec<Memory>>,
}

impl Forward {
    /// Bytes that the plan takes besides the weights, and bytes of one run.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.plan.forward_bytes()
    }

    /// Nodes that the interpreter runs.
    pub(crate) fn interpreted(&self) -> usize {
        self.plan.interpreted_nodes().len()
    }

    /// At most `keep` memories are kept for later runs.
    pub(crate) fn run(&self, inputs: Vec<Array>, keep: usize) -> Result<Vec<Array>, TrainError> {
        let mut memory = self.lock().pop().unwrap_or_default();
        let team = Team::alone();
        let by = By {
            isa: self.isa,
            team: &team,
        };
        let mut noise = ChaCha20Rng::from_seed([0; 32]);
        let outputs = forward(&self.graph, &self.plan, &self.sources, &mut memory, by, inputs, &mut noise)?;
        let mut idle = self.lock();
        if idle.len() < keep {
            idle.push(memory);
        }
        Ok(outputs)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Memory>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
