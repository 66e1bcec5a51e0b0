//! Makes a plan of a program: operations, what the gradient passes, and a place for every value, gradient and scratch.
//!
//! A step is a line of moments: the inputs arrive, each node runs forward, the outputs are read and the loss gives its gradients, each
//! node runs backward, and at the end what is left is read. Everything is needed from one moment to another, and places are given out
//! such that what is needed at once does not overlap.

use std::ops::Range;

use aimass_kernels::{Buffer, Isa};

use super::arena::{Wanted, place};
use super::fuse::{Proto, operations};
use super::ops::{Needs, Op};
use super::plan::{Backward, Node, Place, Plan, Seed, Way};
use super::sources::Layout;
use crate::array::Values;
use crate::program::{From, Graph, Mode, Program, Slot};

pub(super) fn plan(graph: &Graph, program: Program, mode: Mode, isa: Isa, threads: usize, plain_descent: bool) -> Plan {
    let fused = operations(graph, &program, isa, mode == Mode::Inference);
    let mut builder = Builder {
        graph,
        roots: fused.roots,
        first_source: graph.inputs.len(),
        wanted: Vec::new(),
        values: vec![None; program.slots],
        program: &program,
        n: fused.protos.len(),
    };
    let needs: Vec<Needs> = fused.protos.iter().map(|proto| builder.needs(proto, threads)).collect();
    let flow = if mode == Mode::Inference {
        Flow::none(&program, builder.n)
    } else {
        builder.flow(&fused.protos)
    };
    builder.values(&fused.protos, &needs, &flow);
    let gradients = builder.seeds(&flow);
    let seeds = builder.by_output(&flow, &gradients);
    let drafts: Vec<Draft> = builder.drafts(&fused.protos, &needs, &flow, gradients);
    let (starts, arena) = place(&builder.wanted);
    let at = |wanted: usize| starts[wanted]..starts[wanted] + builder.wanted[wanted].len;
    let range = |wanted: Option<usize>| wanted.map_or(0..0, at);

    let (places, constants, held) = builder.places(&range);
    let (mut layouts, mut consumers) = (vec![Layout::Plain; graph.sources.len()], vec![0usize; graph.sources.len()]);
    for seed in &seeds {
        if let DraftSeed::Source(source) = seed {
            consumers[*source] += 1;
        }
    }
    let seeds = seeds.into_iter().map(|seed| match seed {
        DraftSeed::None => Seed::None,
        DraftSeed::Arena(wanted) => Seed::Arena(at(wanted)),
        DraftSeed::Source(source) => Seed::Source(source),
    });
    let seeds = seeds.collect();
    let mut kept_bytes = 0;
    let mut nodes = Vec::with_capacity(drafts.len());
    let interpreted = fused.protos.iter().zip(&flow.backward).map(|(proto, &backward)| match &proto.op {
        Op::Interpreted(op) if backward => 4 * op.elements(),
        _ => 0,
    });
    let interpreted = interpreted.sum();
    for ((proto, draft), needs) in fused.protos.into_iter().zip(drafts).zip(needs) {
        for (i, &slot) in proto.inputs.iter().enumerate() {
            let layout = match &proto.op {
                Op::Native(op) => op.layout(i),
                Op::Interpreted(_) => None,
            };
            if let (Some(source), Some(layout)) = (builder.source(slot), layout) {
                layouts[source] = layout;
            }
        }
        let backward = draft.backward.map(|backward| {
            let ways: Vec<Way> = backward.ways.into_iter().map(|way| way.map(&at)).collect();
            let mut sources: Vec<usize> = ways.iter().filter_map(Way::source).collect();
            sources.sort_unstable();
            sources.dedup();
            for source in sources {
                consumers[source] += 1;
            }
            Backward {
                by_outputs: backward.by_outputs.into_iter().map(&range).collect(),
                ways,
                scratch: range(backward.scratch),
            }
        });
        let bytes = if backward.is_some() || needs.kept_bytes > 0 {
            needs.kept_bytes
        } else {
            0
        };
        nodes.push(Node {
            op: proto.op,
            inputs: proto.inputs,
            outputs: proto.outputs,
            kept: range(draft.kept),
            kept_bytes: kept_bytes..kept_bytes + bytes,
            scratch: range(draft.scratch),
            backward,
        });
        kept_bytes += bytes;
    }
    if mode == Mode::Inference {
        builder.leave_unread(&nodes, &mut layouts);
    }
    Plan {
        nodes,
        roots: builder.roots,
        places,
        seeds,
        layouts,
        fused: consumers.iter().map(|&n| plain_descent && n == 1).collect(),
        trained: consumers.iter().map(|&n| n > 0).collect(),
        constants,
        held,
        arena,
        kept_bytes,
        interpreted,
        program,
    }
}

/// What the gradient passes.
struct Flow {
    /// By root: whether a gradient is made of it.
    by_root: Vec<bool>,
    /// By node.
    backward: Vec<bool>,
}

impl Flow {
    fn none(program: &Program, nodes: usize) -> Self {
        Self {
            by_root: vec![false; program.slots],
            backward: vec![false; nodes],
        }
    }
}

/// A node whose places are numbers of what is wanted.
struct Draft {
    kept: Option<usize>,
    scratch: Option<usize>,
    backward: Option<DraftBackward>,
}

struct DraftBackward {
    by_outputs: Vec<Option<usize>>,
    ways: Vec<DraftWay>,
    scratch: Option<usize>,
}

enum DraftSeed {
    None,
    Arena(usize),
    Source(usize),
}

enum DraftWay {
    None,
    Write(usize),
    Add { made: usize, to: usize },
    Target(usize),
    AddToTarget { made: usize, source: usize },
}

impl DraftWay {
    fn map(self, at: &impl Fn(usize) -> Range<usize>) -> Way {
        match self {
            Self::None => Way::None,
            Self::Write(wanted) => Way::Write(at(wanted)),
            Self::Add { made, to } => Way::Add {
                made: at(made),
                to: at(to),
            },
            Self::Target(source) => Way::Target(source),
            Self::AddToTarget { made, source } => Way::AddToTarget { made: at(made), source },
        }
    }
}

impl Way {
    fn source(&self) -> Option<usize> {
        match self {
            Self::Target(source) | Self::AddToTarget { source, .. } => Some(*source),
            _ => None,
        }
    }
}

struct Builder<'a> {
    graph: &'a Graph,
    program: &'a Program,
    roots: Vec<Slot>,
    first_source: usize,
    wanted: Vec<Wanted>,
    /// By root: what is wanted for its value.
    values: Vec<Option<usize>>,
    n: usize,
}

impl Builder<'_> {
    fn forward_at(node: usize) -> usize {
        node + 1
    }
    /// When the outputs are read and the gradients by them are there.
    fn turn(&self) -> usize {
        self.n + 1
    }
    fn backward_at(&self, node: usize) -> usize {
        2 * self.n + 1 - node
    }
    fn end(&self) -> usize {
        2 * self.n + 2
    }

    fn len(&self, slot: Slot) -> usize {
        self.program.shapes[slot].iter().product()
    }

    fn source(&self, slot: Slot) -> Option<usize> {
        self.roots[slot]
            .checked_sub(self.first_source)
            .filter(|&i| i < self.graph.sources.len())
    }

    /// Constants whose integers are read, or nothing of them, take no room as floats.
    fn leave_unread(&self, nodes: &[Node], layouts: &mut [Layout]) {
        let read = |slot: Slot| {
            let by_nodes = nodes.iter().flat_map(|node| &node.inputs).any(|&input| self.roots[input] == slot);
            let outputs = self.program.outputs.iter();
            by_nodes
                || outputs
                    .into_iter()
                    .any(|output| matches!(output.from, From::Device(from) if self.roots[from] == slot))
        };
        for (i, source) in self.graph.sources.iter().enumerate() {
            if source.integers.is_some() && !read(self.first_source + i) {
                layouts[i] = Layout::Nowhere;
            }
        }
    }

    fn needs(&self, proto: &Proto, threads: usize) -> Needs {
        match &proto.op {
            Op::Native(op) => op.needs(threads),
            Op::Interpreted(_) => Needs::default(),
        }
    }

    fn want(&mut self, len: usize, from: usize, until: usize) -> usize {
        assert!(from <= until, "nothing is needed before it is made");
        self.wanted.push(Wanted { len, from, until });
        self.wanted.len() - 1
    }

    fn want_some(&mut self, len: usize, from: usize, until: usize) -> Option<usize> {
        (len > 0).then(|| self.want(len, from, until))
    }

    /// Which nodes run backward, and what has a gradient.
    fn flow(&self, protos: &[Proto]) -> Flow {
        let mut tracked = vec![false; self.program.slots];
        for (i, source) in self.graph.sources.iter().enumerate() {
            tracked[self.first_source + i] = source.weight().is_some();
        }
        for proto in protos {
            let passes = proto.inputs.iter().any(|&slot| tracked[self.roots[slot]]);
            for (i, &slot) in proto.outputs.iter().enumerate() {
                let Some(slot) = slot else { continue };
                let differentiable = match &proto.op {
                    Op::Native(op) => op.is_differentiable(i),
                    Op::Interpreted(op) => op.is_differentiable(),
                };
                tracked[slot] = passes && differentiable && self.program.floats[slot];
            }
        }
        let mut by_root = vec![false; self.program.slots];
        for output in &self.program.outputs {
            if let From::Device(slot) = output.from
                && self.program.floats[slot]
            {
                by_root[self.roots[slot]] = tracked[self.roots[slot]];
            }
        }
        let mut backward = vec![false; protos.len()];
        for (i, proto) in protos.iter().enumerate().rev() {
            backward[i] = proto.outputs.iter().flatten().any(|&slot| by_root[slot]);
            if backward[i] {
                for &slot in &proto.inputs {
                    by_root[self.roots[slot]] |= tracked[self.roots[slot]];
                }
            }
        }
        Flow { by_root, backward }
    }

    /// Wants a place for every value, for as long as something reads it.
    fn values(&mut self, protos: &[Proto], needs: &[Needs], flow: &Flow) {
        let mut until: Vec<Option<usize>> = vec![None; self.program.slots];
        let read = |until: &mut Vec<Option<usize>>, root: Slot, moment: usize| {
            until[root] = Some(until[root].map_or(moment, |known| known.max(moment)));
        };
        for (i, proto) in protos.iter().enumerate() {
            for &slot in &proto.inputs {
                read(&mut until, self.roots[slot], Self::forward_at(i));
            }
            if flow.backward[i] {
                let inputs = needs[i].reads_inputs.iter().filter_map(|&k| proto.inputs.get(k).copied());
                let outputs = needs[i]
                    .reads_outputs
                    .iter()
                    .filter_map(|&k| proto.outputs.get(k).copied().flatten());
                for slot in inputs.chain(outputs) {
                    read(&mut until, self.roots[slot], self.backward_at(i));
                }
            }
        }
        for output in &self.program.outputs {
            if let From::Device(slot) = output.from {
                read(&mut until, self.roots[slot], self.turn());
            }
        }
        for (_, slot) in &self.program.buffers {
            read(&mut until, self.roots[*slot], self.end());
        }
        let mut made = vec![0; self.program.slots];
        for (i, proto) in protos.iter().enumerate() {
            for &slot in proto.outputs.iter().flatten() {
                made[slot] = Self::forward_at(i);
                // What nothing reads is written all the same.
                until[slot] = Some(until[slot].unwrap_or(made[slot]));
            }
        }
        let constants: Vec<Slot> = self.program.constants.iter().map(|constant| constant.slot).collect();
        for slot in 0..self.program.slots {
            let elsewhere = self.roots[slot] != slot || self.source(slot).is_some() || constants.contains(&slot);
            if let (Some(until), false) = (until[slot], elsewhere || !self.program.floats[slot]) {
                self.values[slot] = Some(self.want(self.len(slot), made[slot], until));
            }
        }
    }

    /// Wants places for the gradients by the program's outputs. By root.
    fn seeds(&mut self, flow: &Flow) -> Vec<Option<usize>> {
        let mut gradients = vec![None; self.program.slots];
        for output in &self.program.outputs {
            let From::Device(slot) = output.from else { continue };
            let root = self.roots[slot];
            // A source that is an output has no place in the arena.
            if flow.by_root[root] && gradients[root].is_none() && self.source(slot).is_none() {
                let turn = self.turn();
                gradients[root] = Some(self.want(self.len(root), turn, turn));
            }
        }
        gradients
    }

    fn drafts(&mut self, protos: &[Proto], needs: &[Needs], flow: &Flow, mut gradients: Vec<Option<usize>>) -> Vec<Draft> {
        let mut drafts: Vec<Draft> = Vec::with_capacity(protos.len());
        for (i, needs) in needs.iter().enumerate() {
            let now = Self::forward_at(i);
            let until = if flow.backward[i] { self.backward_at(i) } else { now };
            drafts.push(Draft {
                kept: self.want_some(needs.kept, now, until),
                scratch: self.want_some(needs.scratch, now, now),
                backward: None,
            });
        }
        for (i, proto) in protos.iter().enumerate().rev().filter(|&(i, _)| flow.backward[i]) {
            let now = self.backward_at(i);
            let by_outputs: Vec<Option<usize>> = proto.outputs.iter().map(|slot| slot.and_then(|slot| gradients[slot])).collect();
            for &gradient in by_outputs.iter().flatten() {
                self.wanted[gradient].until = now;
            }
            let mut ways = Vec::with_capacity(proto.inputs.len());
            for (k, &slot) in proto.inputs.iter().enumerate() {
                ways.push(self.way(proto, k, slot, flow, now, &mut gradients));
            }
            let scratch = self.want_some(needs[i].scratch_backward, now, now);
            drafts[i].backward = Some(DraftBackward { by_outputs, ways, scratch });
        }
        drafts
    }

    fn way(&mut self, proto: &Proto, k: usize, slot: Slot, flow: &Flow, now: usize, gradients: &mut [Option<usize>]) -> DraftWay {
        let root = self.roots[slot];
        if !flow.by_root[root] {
            return DraftWay::None;
        }
        let len = self.len(slot);
        let native = matches!(proto.op, Op::Native(_));
        if let Some(source) = self.source(slot) {
            let accumulates = match &proto.op {
                Op::Native(op) => op.accumulates(k),
                Op::Interpreted(_) => true,
            };
            if accumulates {
                return DraftWay::Target(source);
            }
            let made = self.want(len, now, now);
            return DraftWay::AddToTarget { made, source };
        }
        match gradients[root] {
            None => {
                let wanted = self.want(len, now, now);
                gradients[root] = Some(wanted);
                DraftWay::Write(wanted)
            }
            Some(to) => {
                self.wanted[to].until = now;
                // The interpreter makes it outside of the arena.
                let made = self.want(if native { len } else { 0 }, now, now);
                DraftWay::Add { made, to }
            }
        }
    }

    /// Where the gradient by each output of the program goes. Outputs of one root share one.
    fn by_output(&self, flow: &Flow, gradients: &[Option<usize>]) -> Vec<DraftSeed> {
        let each = self.program.outputs.iter().map(|output| {
            let From::Device(slot) = output.from else { return DraftSeed::None };
            let root = self.roots[slot];
            match (flow.by_root[root], gradients[root], self.source(slot)) {
                (true, Some(wanted), _) => DraftSeed::Arena(wanted),
                (true, None, Some(source)) => DraftSeed::Source(source),
                _ => DraftSeed::None,
            }
        });
        each.collect()
    }

    #[allow(clippy::type_complexity)]
    fn places(&self, range: &impl Fn(Option<usize>) -> Range<usize>) -> (Vec<Place>, Vec<Buffer>, Vec<(Slot, crate::array::Array)>) {
        let (mut constants, mut held) = (Vec::new(), Vec::new());
        let mut by_slot = vec![None; self.program.slots];
        for constant in &self.program.constants {
            match constant.array.values() {
                Values::Floats(values) => {
                    by_slot[constant.slot] = Some(constants.len());
                    constants.push(Buffer::from_slice(values));
                }
                _ => held.push((constant.slot, constant.array.clone())),
            }
        }
        let place = |slot: Slot| {
            let root = self.roots[slot];
            if !self.program.floats[root] {
                Place::Held
            } else if let Some(source) = self.source(root) {
                Place::Source(source)
            } else if let Some(constant) = by_slot[root] {
                Place::Constant(constant)
            } else if self.values[root].is_some() {
                Place::Arena(range(self.values[root]))
            } else {
                Place::None
            }
        };
        ((0..self.program.slots).map(place).collect(), constants, held)
    }
}
