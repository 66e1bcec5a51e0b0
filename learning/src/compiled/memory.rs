//! The arena of a plan at work: runs its nodes, forward and backward.

use aimass_kernels::{Buffer, Target};
use rand_chacha::ChaCha20Rng;

use super::arena::split;
use super::ops::interpreted::{Interpreted, Operand, Tape, floats};
use super::ops::{self, By, Op, Reads, WRITES, in_parts};
use super::plan::{MOST, Node, Place, Plan, Seed, Way};
use super::sources::Sources;
use super::update::Targets;
use crate::TrainError;
use crate::array::{Array, Values};
use crate::executor::Cpu;
use crate::ops::DeviceTensor;
use crate::program::{Graph, Slot};

/// Integers or booleans.
#[derive(Debug, Clone)]
pub(super) enum Held {
    /// As they were fed.
    Array(Array),
    /// As the interpreter made them.
    Device(DeviceTensor<Cpu>),
}

impl Held {
    pub(super) fn ints(&self) -> Option<&[i64]> {
        match self {
            Self::Array(array) => match array.values() {
                Values::Ints(values) => Some(values),
                _ => None,
            },
            Self::Device(_) => None,
        }
    }

    fn to_device(&self) -> Result<DeviceTensor<Cpu>, TrainError> {
        match self {
            Self::Array(array) => DeviceTensor::upload(array.clone(), &burn_backend::tensor::Device::<Cpu>::default()),
            Self::Device(tensor) => Ok(tensor.clone()),
        }
    }
}

/// What a plan works on. Kept from step to step.
#[derive(Debug, Default)]
pub(super) struct Memory {
    arena: Buffer,
    kept_bytes: Vec<u8>,
    /// By slot.
    held: Vec<Option<Held>>,
    /// By node.
    tapes: Vec<Option<Tape>>,
}

impl Memory {
    /// Makes room for a plan.
    pub(super) fn begin(&mut self, plan: &Plan) {
        if self.arena.len() < plan.arena {
            self.arena = Buffer::default();
            self.arena = Buffer::new(plan.arena);
        }
        if self.kept_bytes.len() < plan.kept_bytes {
            self.kept_bytes = vec![0; plan.kept_bytes];
        }
        self.held.clear();
        self.tapes.clear();
        self.held.resize_with(plan.program.slots, || None);
        self.tapes.resize_with(plan.nodes.len(), || None);
        for (slot, array) in &plan.held {
            self.held[*slot] = Some(Held::Array(array.clone()));
        }
    }

    /// A value from outside.
    pub(super) fn load(&mut self, plan: &Plan, slot: Slot, array: Array) {
        match (&plan.places[slot], array.as_floats()) {
            (Place::Arena(range), Some(values)) => self.arena[range.clone()].copy_from_slice(values),
            (Place::Held, None) => self.held[slot] = Some(Held::Array(array)),
            _ => {}
        }
    }

    /// The floats of a slot that lies in the arena.
    pub(super) fn floats(&self, plan: &Plan, slot: Slot) -> Option<&[f32]> {
        match &plan.places[slot] {
            Place::Arena(range) => self.arena.get(range.clone()),
            _ => None,
        }
    }

    /// The value of a slot, as it is now.
    pub(super) fn read(&self, plan: &Plan, graph: &Graph, slot: Slot, sources: &Sources) -> Option<Array> {
        let shape = plan.program.shapes[slot].clone();
        match &plan.places[slot] {
            Place::Arena(range) => Array::floats(shape, self.arena.get(range.clone())?.to_vec()),
            Place::Source(source) => Array::floats(shape, sources.plain(graph, *source)),
            Place::Constant(constant) => Array::floats(shape, plan.constants[*constant].to_vec()),
            Place::Held => match self.held[slot].as_ref()? {
                Held::Array(array) => Some(array.clone()),
                Held::Device(tensor) => tensor.clone().download().ok(),
            },
            Place::None => None,
        }
    }

    /// Runs a node forward.
    pub(super) fn forward(
        &mut self,
        plan: &Plan,
        index: usize,
        node: &Node,
        sources: &Sources,
        by: By<'_>,
        noise: &mut ChaCha20Rng,
    ) -> Result<(), TrainError> {
        let op = match &node.op {
            Op::Native(op) => op,
            Op::Interpreted(op) => return self.interpret(plan, index, node, op, sources, noise),
        };
        let place = |i: usize| match node.outputs.get(i).copied().flatten().map(|slot| &plan.places[slot]) {
            Some(Place::Arena(range)) => range.clone(),
            _ => 0..0,
        };
        let writes: [_; WRITES] = std::array::from_fn(|i| match i {
            MOST => node.kept.clone(),
            i if i > MOST => node.scratch.clone(),
            i => place(i),
        });
        let ([o0, o1, o2, o3, o4, o5, kept, scratch], rest) = split(&mut self.arena, &writes);
        op.forward(ops::Forward {
            isa: by.isa,
            team: by.team,
            reads: Reads {
                rest,
                node,
                places: &plan.places,
                sources: &sources.values,
                constants: &plan.constants,
                held: &self.held,
            },
            outputs: [o0, o1, o2, o3, o4, o5],
            kept,
            kept_bytes: &mut self.kept_bytes[node.kept_bytes.clone()],
            scratch,
        });
        Ok(())
    }

    fn interpret(
        &mut self,
        plan: &Plan,
        index: usize,
        node: &Node,
        op: &Interpreted,
        sources: &Sources,
        noise: &mut ChaCha20Rng,
    ) -> Result<(), TrainError> {
        let mut operands = Vec::with_capacity(node.inputs.len());
        for (i, &slot) in node.inputs.iter().enumerate() {
            let values = match &plan.places[slot] {
                Place::Arena(range) => &self.arena[range.clone()],
                Place::Source(source) => &sources.values[*source],
                Place::Constant(constant) => &plan.constants[*constant],
                Place::Held | Place::None => {
                    let held = self.held[slot].as_ref().ok_or_else(|| TrainError::Device {
                        reason: "a value was not computed".to_owned(),
                    })?;
                    operands.push(Operand::Held(held.to_device()?));
                    continue;
                }
            };
            let tracked = node.backward.as_ref().is_some_and(|b| b.ways[i] != Way::None);
            operands.push(if tracked {
                Operand::Tracked(values)
            } else {
                Operand::Floats(values)
            });
        }
        let (made, tape) = op.forward(operands, noise);
        self.tapes[index] = tape;
        for (slot, tensor) in node.outputs.iter().zip(made) {
            let Some(slot) = *slot else { continue };
            match &plan.places[slot] {
                Place::Arena(range) => self.arena[range.clone()].copy_from_slice(&floats(tensor)?),
                Place::Held => self.held[slot] = Some(Held::Device(tensor)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The gradients by the outputs of the program.
    pub(super) fn seed(&mut self, plan: &Plan, by_outputs: &[Option<Vec<f32>>], sources: &mut Sources, mut targets: Targets<'_>) {
        for seed in &plan.seeds {
            if let Seed::Arena(range) = seed {
                self.arena[range.clone()].fill(0.0);
            }
        }
        for (seed, by) in plan.seeds.iter().zip(by_outputs) {
            let Some(by) = by else { continue };
            match seed {
                Seed::None => {}
                Seed::Arena(range) => add(&mut self.arena[range.clone()], by, 1.0),
                Seed::Source(source) => {
                    let alpha = targets.alpha(plan, *source);
                    add(targets.buffer(plan, *source, sources), by, alpha);
                }
            }
        }
    }

    /// Runs a node backward.
    pub(super) fn backward(
        &mut self,
        plan: &Plan,
        index: usize,
        node: &Node,
        sources: &mut Sources,
        mut targets: Targets<'_>,
        by: By<'_>,
    ) -> Result<(), TrainError> {
        let Some(backward) = &node.backward else { return Ok(()) };
        let op = match &node.op {
            Op::Native(op) => op,
            Op::Interpreted(op) => {
                if let Some(tape) = self.tapes[index].take() {
                    let by: Vec<&[f32]> = backward.by_outputs.iter().map(|range| &self.arena[range.clone()]).collect();
                    let gradients = op.backward(tape, &by)?;
                    for (way, gradient) in backward.ways.iter().zip(gradients) {
                        self.receive(plan, way, gradient.as_deref(), sources, &mut targets);
                    }
                }
                return Ok(());
            }
        };
        // Targets are taken out while the operation writes to them.
        let mut taken: [Option<(usize, Buffer)>; MOST] = std::array::from_fn(|i| match backward.ways.get(i) {
            Some(&Way::Target(source)) => Some((source, std::mem::take(targets.buffer(plan, source, sources)))),
            _ => None,
        });
        let writes: [_; WRITES] = std::array::from_fn(|i| match backward.ways.get(i) {
            _ if i == MOST => backward.scratch.clone(),
            _ if i > MOST => node.kept.clone(),
            Some(Way::Write(range)) => range.clone(),
            Some(Way::Add { made, .. } | Way::AddToTarget { made, .. }) => made.clone(),
            _ => 0..0,
        });
        let ([w0, w1, w2, w3, w4, w5, scratch, kept], rest) = split(&mut self.arena, &writes);
        op.backward(ops::Backward {
            isa: by.isa,
            team: by.team,
            reads: Reads {
                rest,
                node,
                places: &plan.places,
                sources: &sources.values,
                constants: &plan.constants,
                held: &self.held,
            },
            by_inputs: [w0, w1, w2, w3, w4, w5].map(|place| Some(place).filter(|place| !place.is_empty())),
            targets: taken.each_mut().map(|taken| {
                let (source, buffer) = taken.as_mut()?;
                let alpha = targets.alpha(plan, *source);
                Some(Target { values: buffer, alpha })
            }),
            kept,
            kept_bytes: &self.kept_bytes[node.kept_bytes.clone()],
            scratch,
        });
        for (source, buffer) in taken.into_iter().flatten() {
            *targets.buffer(plan, source, sources) = buffer;
        }
        for way in &backward.ways {
            match way {
                Way::Add { made, to } => {
                    let to = [to.clone()];
                    let ([to], rest) = split(&mut self.arena, &to);
                    let made = rest.get(made);
                    in_parts(by.team, to, Buffer::LINE, |at, to| add(to, &made[at..at + to.len()], 1.0));
                }
                Way::AddToTarget { made, source } => {
                    let alpha = targets.alpha(plan, *source);
                    add(targets.buffer(plan, *source, sources), &self.arena[made.clone()], alpha);
                }
                Way::None | Way::Write(_) | Way::Target(_) => {}
            }
        }
        Ok(())
    }

    /// A gradient that the interpreter made; nothing where nothing flows.
    fn receive(&mut self, plan: &Plan, way: &Way, gradient: Option<&[f32]>, sources: &mut Sources, targets: &mut Targets<'_>) {
        match (way, gradient) {
            (Way::Write(range), Some(gradient)) => self.arena[range.clone()].copy_from_slice(gradient),
            (Way::Write(range), None) => self.arena[range.clone()].fill(0.0),
            (Way::Add { to, .. }, Some(gradient)) => add(&mut self.arena[to.clone()], gradient, 1.0),
            (Way::Target(source) | Way::AddToTarget { source, .. }, Some(gradient)) => {
                let alpha = targets.alpha(plan, *source);
                add(targets.buffer(plan, *source, sources), gradient, alpha);
            }
            (_, None) | (Way::None, _) => {}
        }
    }
}

fn add(to: &mut [f32], values: &[f32], alpha: f32) {
    debug_assert_eq!(to.len(), values.len());
    for (to, v) in to.iter_mut().zip(values) {
        *to += alpha * v;
    }
}
