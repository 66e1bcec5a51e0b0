//! A program with a place for everything.

use std::ops::Range;

use aimass_kernels::Buffer;

use super::ops::Op;
use super::sources::Layout;
use crate::array::Array;
use crate::program::{From, Graph, Program, ProgramOutput, Slot};

/// Where the value of a slot is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: nothing reads it.
    None,
    /// In the arena.
    Arena(Range<usize>),
    /// A source of the graph, by its number.
    Source(usize),
    /// A constant of the plan, by its number.
    Constant(usize),
    /// Integers or booleans.
    Held,
}

/// Where the gradient by an output of the program goes, as the loss gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seed {
    /// Nowhere.
    None,
    /// To its place in the arena.
    Arena(Range<usize>),
    /// The output is a source itself.
    Source(usize),
}

/// Where the gradient by an input of a node goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Way {
    /// Nowhere.
    None,
    /// To its place in the arena, as the first.
    Write(Range<usize>),
    /// To a place of its own, from where it is added to what is there.
    Add { made: Range<usize>, to: Range<usize> },
    /// The operation adds it to what the source's weights are moved by.
    Target(usize),
    /// To a place of its own, from where it is added to that.
    AddToTarget { made: Range<usize>, source: usize },
}

/// Most inputs of an operation whose gradients it writes itself, and most outputs.
pub(super) const MOST: usize = 6;

/// One operation with its places.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) inputs: Vec<Slot>,
    pub(super) outputs: Vec<Option<Slot>>,
    /// What the forward pass leaves for the backward one.
    pub(super) kept: Range<usize>,
    /// The same in bytes, in a memory of its own.
    pub(super) kept_bytes: Range<usize>,
    pub(super) scratch: Range<usize>,
    pub(super) backward: Option<Backward>,
}

/// Of a node that the gradient passes.
#[derive(Debug)]
pub(super) struct Backward {
    /// Where the gradients by the outputs are; empty for those that have none.
    pub(super) by_outputs: Vec<Range<usize>>,
    /// By input.
    pub(super) ways: Vec<Way>,
    pub(super) scratch: Range<usize>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) program: Program,
    pub(super) nodes: Vec<Node>,
    /// By slot: which slot's place it has.
    pub(super) roots: Vec<Slot>,
    /// By slot.
    pub(super) places: Vec<Place>,
    /// By output of the program.
    pub(super) seeds: Vec<Seed>,
    /// By source.
    pub(super) layouts: Vec<Layout>,
    /// Whether the gradient by a source moves it where it is made.
    pub(super) fused: Vec<bool>,
    /// Whether there is a gradient by a source.
    pub(super) trained: Vec<bool>,
    pub(super) constants: Vec<Buffer>,
    /// Constants that are no floats.
    pub(super) held: Vec<(Slot, Array)>,
    pub(super) arena: usize,
    pub(super) kept_bytes: usize,
    /// What the interpreter holds besides, by estimate.
    pub(super) interpreted: u64,
}

impl Plan {
    pub(super) fn is_float(&self, output: &ProgramOutput) -> bool {
        matches!(&output.from, From::Device(slot) if self.program.floats[*slot])
    }

    /// The sources that a gradient reaches when the loss reads the outputs that `by_outputs` has a gradient for.
    pub(super) fn reached<T>(&self, by_outputs: &[Option<T>]) -> Vec<bool> {
        let mut reached = vec![false; self.layouts.len()];
        let mut live = vec![false; self.places.len()];
        for ((output, seed), by) in self.program.outputs.iter().zip(&self.seeds).zip(by_outputs) {
            match (seed, &output.from, by) {
                (Seed::Source(source), _, Some(_)) => reached[*source] = true,
                (Seed::Arena(_), From::Device(slot), Some(_)) => live[self.roots[*slot]] = true,
                _ => {}
            }
        }
        for node in self.nodes.iter().rev() {
            let Some(backward) = &node.backward else { continue };
            if !node.outputs.iter().flatten().any(|&slot| live[self.roots[slot]]) {
                continue;
            }
            for (&slot, way) in node.inputs.iter().zip(&backward.ways) {
                match way {
                    Way::None => {}
                    Way::Target(source) | Way::AddToTarget { source, .. } => reached[*source] = true,
                    Way::Write(_) | Way::Add { .. } => live[self.roots[slot]] = true,
                }
            }
        }
        reached
    }

    /// Nodes of the graph that the interpreter runs, in order.
    pub(super) fn interpreted_nodes(&self) -> Vec<usize> {
        let each = self.nodes.iter().filter_map(|node| match &node.op {
            Op::Interpreted(op) => Some(op.node()),
            Op::Native(_) => None,
        });
        each.collect()
    }

    /// Bytes that the plan takes besides the weights, and bytes of one run forward: the arena, and what goes in and out.
    pub(super) fn forward_bytes(&self) -> (u64, u64) {
        let floats = |n: usize| 4 * n as u64;
        let own = self.nodes.iter().map(|node| match &node.op {
            Op::Native(op) => op.plan_bytes() as u64,
            Op::Interpreted(_) => 0,
        });
        let constants: usize = self.constants.iter().map(|c| c.len()).sum();
        let inputs: usize = self.program.input_shapes.iter().map(|s| s.iter().product::<usize>()).sum();
        let outputs: usize = self.program.outputs.iter().map(|o| o.shape.iter().product::<usize>()).sum();
        let run = floats(self.arena) + self.kept_bytes as u64 + floats(inputs + 2 * outputs);
        (floats(constants) + own.sum::<u64>(), run)
    }

    /// Memory that training takes: the model's file, the weights that it began with and those of now, gradients, `vectors` more as long as
    /// the weights that the optimizer keeps, the plan, the arena, and what goes in and out.
    pub(super) fn bytes(&self, graph: &Graph, vectors: usize) -> u64 {
        let floats = |n: usize| 4 * n as u64;
        let own = self.nodes.iter().map(|node| match &node.op {
            Op::Native(op) => op.plan_bytes() as u64,
            Op::Interpreted(_) => 0,
        });
        let mut bytes = floats(self.arena) + self.kept_bytes as u64 + self.interpreted + own.sum::<u64>();
        for (i, source) in graph.sources.iter().enumerate() {
            let plain: usize = source.shape.iter().product();
            let len = self.layouts[i].len(plain);
            let gradient = usize::from(self.trained[i] && !self.fused[i]);
            let vectors = if self.trained[i] { vectors } else { 0 };
            // The file's, and those that training began with.
            let begun = 1 + usize::from(source.weight().is_some());
            bytes = bytes.saturating_add(floats(len) * (1 + gradient + vectors) as u64 + floats(plain) * begun as u64);
        }
        let constants: usize = self.constants.iter().map(|c| c.len()).sum();
        let inputs: usize = self.program.input_shapes.iter().map(|s| s.iter().product::<usize>()).sum();
        let outputs: usize = self.program.outputs.iter().map(|o| o.shape.iter().product::<usize>()).sum();
        bytes.saturating_add(floats(constants + inputs + 2 * outputs))
    }
}
