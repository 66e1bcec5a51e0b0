//! What a node of a plan does.

pub(super) mod batch_norm;
pub(super) mod conv;
pub(super) mod dense;
pub(super) mod integers;
pub(super) mod interpreted;
pub(super) mod maps;
pub(super) mod movement;
pub(super) mod pool;
pub(super) mod product;
pub(super) mod quantize;
pub(super) mod recurrent;
pub(super) mod rows;

use std::fmt::Debug;

use aimass_kernels::team::{cut, ranges};
use aimass_kernels::{Buffer, Isa, Target, Team};

use super::arena::Rest;
use super::memory::Held;
use super::plan::{MOST, Node, Place};
use super::sources::Layout;
use interpreted::Interpreted;

/// What computes.
#[derive(Debug, Clone, Copy)]
pub(super) struct By<'a> {
    pub(super) isa: Isa,
    pub(super) team: &'a Team,
}

/// Of a node.
#[derive(Debug)]
pub(super) enum Op {
    /// Kernels do it.
    Native(Box<dyn Operation>),
    /// The interpreter does.
    Interpreted(Interpreted),
}

/// What an operation asks for, besides its inputs and outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Floats that the forward pass leaves for the backward one.
    pub(super) kept: usize,
    /// Bytes that it does.
    pub(super) kept_bytes: usize,
    /// Floats for the moment, forward and backward.
    pub(super) scratch: usize,
    pub(super) scratch_backward: usize,
    /// Inputs and outputs whose values the backward pass reads.
    pub(super) reads_inputs: Vec<usize>,
    pub(super) reads_outputs: Vec<usize>,
}

/// Kernels with what they have to know of shapes.
pub(super) trait Operation: Debug + Send + Sync {
    /// With a team of so many threads.
    fn needs(&self, threads: usize) -> Needs;

    /// Bytes that it takes itself, where they grow with shapes.
    fn plan_bytes(&self) -> usize {
        0
    }

    /// How it wants an input that is a source; plain where `None`.
    fn layout(&self, _input: usize) -> Option<Layout> {
        None
    }

    /// Whether it adds the gradient by an input that is a source to its target by itself.
    fn accumulates(&self, _input: usize) -> bool {
        false
    }

    /// Whether the gradient passes an output.
    fn is_differentiable(&self, _output: usize) -> bool {
        true
    }

    fn forward(&self, io: Forward<'_>);

    /// Writes every gradient that `io` has a place for.
    fn backward(&self, io: Backward<'_>);
}

/// What an operation reads from.
pub(super) struct Reads<'a, const N: usize> {
    pub(super) rest: Rest<'a, N>,
    pub(super) node: &'a Node,
    pub(super) places: &'a [Place],
    pub(super) sources: &'a [Buffer],
    pub(super) constants: &'a [Buffer],
    pub(super) held: &'a [Option<Held>],
}

impl<'a, const N: usize> Reads<'a, N> {
    fn floats(&self, slot: usize) -> &'a [f32] {
        match &self.places[slot] {
            Place::Arena(range) => self.rest.get(range),
            Place::Source(source) => &self.sources[*source],
            Place::Constant(constant) => &self.constants[*constant],
            Place::None | Place::Held => &[],
        }
    }

    fn ints(&self, slot: usize) -> &'a [i64] {
        let held = self.held.get(slot).and_then(Option::as_ref);
        held.and_then(Held::ints).unwrap_or_default()
    }
}

/// Writes of a forward pass: the outputs, what is kept, scratch.
pub(super) const WRITES: usize = MOST + 2;

/// A forward pass.
pub(super) struct Forward<'a> {
    pub(super) isa: Isa,
    pub(super) team: &'a Team,
    pub(super) reads: Reads<'a, WRITES>,
    /// Empty for those that nothing reads.
    pub(super) outputs: [&'a mut [f32]; MOST],
    pub(super) kept: &'a mut [f32],
    pub(super) kept_bytes: &'a mut [u8],
    pub(super) scratch: &'a mut [f32],
}

impl<'a> Forward<'a> {
    /// The values of an input.
    pub(super) fn input(&self, i: usize) -> &'a [f32] {
        self.reads.floats(self.reads.node.inputs[i])
    }

    /// The values of an input that is made of integers.
    pub(super) fn ints(&self, i: usize) -> &'a [i64] {
        self.reads.ints(self.reads.node.inputs[i])
    }
}

/// A backward pass.
pub(super) struct Backward<'a> {
    pub(super) isa: Isa,
    pub(super) team: &'a Team,
    pub(super) reads: Reads<'a, WRITES>,
    /// By input, where wanted: to be overwritten.
    pub(super) by_inputs: [Option<&'a mut [f32]>; MOST],
    /// By input that is a source, for operations that accumulate. Where the target holds the source itself, that is not an input.
    pub(super) targets: [Option<Target<'a>>; MOST],
    /// What the forward pass left; of no use afterwards.
    pub(super) kept: &'a mut [f32],
    pub(super) kept_bytes: &'a [u8],
    pub(super) scratch: &'a mut [f32],
}

impl<'a> Backward<'a> {
    /// The values of an input that [`Needs::reads_inputs`] names; empty for a source that its target holds.
    pub(super) fn input(&self, i: usize) -> &'a [f32] {
        self.reads.floats(self.reads.node.inputs[i])
    }

    /// The same; `None` for a source that its target holds.
    pub(super) fn weights(&self, i: usize) -> Option<&'a [f32]> {
        Some(self.input(i)).filter(|values| !values.is_empty())
    }

    /// The values of an input that is made of integers.
    pub(super) fn ints(&self, i: usize) -> &'a [i64] {
        self.reads.ints(self.reads.node.inputs[i])
    }

    /// The values of an output that [`Needs::reads_outputs`] names.
    pub(super) fn output(&self, i: usize) -> &'a [f32] {
        self.reads.node.outputs[i].map_or(&[], |slot| self.reads.floats(slot))
    }

    /// The gradient by an output; empty where it has none.
    pub(super) fn by_output(&self, i: usize) -> &'a [f32] {
        let backward = self.reads.node.backward.as_ref();
        backward
            .and_then(|b| b.by_outputs.get(i))
            .map_or(&[], |range| self.reads.rest.get(range))
    }
}

/// Calls `work` for stretches of `to`, with where each begins; whole multiples of `unit` values, of which nothing is summed.
pub(super) fn in_parts(team: &Team, mut to: &mut [f32], unit: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let parts = team.parts_of_values(to.len(), to.len() / unit.max(1));
    if parts == 1 {
        return work(0, to);
    }
    let stretches: Vec<_> = ranges(to.len(), parts, unit)
        .map(|range| (range.start, cut(&mut to, range.len())))
        .collect();
    team.each(stretches, |(start, to)| work(start, to));
}
