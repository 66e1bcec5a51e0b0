//! What a training step asks for, from the shapes of its program alone: operations, and memory at the peak.

use crate::array::n_elements;
use crate::ops::Kernel;
use crate::program::{Graph, Operand, Program, Slot, Step};

/// What one training step over a batch asks for. Estimates from shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations of a forward pass: in matrix products, convolutions and recurrent layers a multiplication and an
    /// addition as two, in everything else one for each element that an op reads or makes, whichever are more.
    pub forward_flops: u64,
    /// Of a whole step: forward and backward, where only what some weight needs has a gradient. The optimizer's are not counted.
    pub step_flops: u64,
    /// Bytes at the peak, of all that training adds to a process on the CPU: the model's file, the weights it began with and those of now,
    /// moments, gradients, every value that the backward pass reads, what an op holds on its way, and some MiB for code and buffers.
    /// What the allocator keeps besides is not in it, nor what more threads than one take for themselves: some padded images each.
    pub peak_bytes: u64,
}

/// What a process that trains takes besides its tensors: code, stacks, and the buffers that matrix products pack into.
pub(super) const PROCESS_BYTES: u64 = 8 << 20;

/// Operations of one pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flops {
    /// Of products and convolutions: what PyTorch's counter counts.
    pub(super) products: u64,
    /// Of everything else.
    pub(super) others: u64,
}

impl Flops {
    fn add(&mut self, other: Self) {
        self.products = self.products.saturating_add(other.products);
        self.others = self.others.saturating_add(other.others);
    }

    fn total(self) -> u64 {
        self.products.saturating_add(self.others)
    }
}

/// A step that is made of products: its operations, and those of the gradient by each of the first operands.
struct Contraction {
    forward: u64,
    by_operand: [u64; 3],
    /// Of the gradient in any case: by the states of a recurrent layer.
    inside: u64,
}

fn elements(shape: &[usize]) -> u64 {
    n_elements(shape).map_or(u64::MAX, |n| n as u64)
}

fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, &factor| product.saturating_mul(factor))
}

/// Estimates for a program that was planned for training. The peak is that of its tensors alone.
pub(crate) fn cost(graph: &Graph, program: &Program, moments: usize) -> Cost {
    let shapes = Shapes { graph, program };
    let (forward, backward) = flops(shapes);
    Cost {
        forward_flops: forward.total(),
        step_flops: forward.total().saturating_add(backward.total()),
        peak_bytes: Memory::new(shapes, moments).peak().saturating_mul(4),
    }
}

/// A program with the shapes of its slots.
#[derive(Clone, Copy)]
struct Shapes<'a> {
    graph: &'a Graph,
    program: &'a Program,
}

impl Shapes<'_> {
    fn of(&self, slot: Slot) -> &[usize] {
        self.program.shapes.get(slot).map_or(&[], Vec::as_slice)
    }

    fn elements(&self, slot: Slot) -> u64 {
        elements(self.of(slot))
    }

    fn made(&self, step: &Step) -> u64 {
        let outputs = step.outputs.iter().flatten();
        outputs.fold(0, |sum, &slot| sum.saturating_add(self.elements(slot)))
    }

    /// Whether the gradient passes each slot.
    fn tracked(&self) -> Vec<bool> {
        let mut tracked = vec![false; self.program.slots];
        for (i, source) in self.graph.sources.iter().enumerate() {
            if let Some(slot) = tracked.get_mut(self.graph.inputs.len() + i) {
                *slot = source.weight().is_some();
            }
        }
        for step in &self.program.steps {
            let passes = step.inputs.iter().any(|operand| tracked[operand.slot]) && differentiable(&step.kernel);
            for &slot in step.outputs.iter().flatten() {
                tracked[slot] = passes;
            }
        }
        tracked
    }

    fn contraction(&self, step: &Step) -> Option<Contraction> {
        let shape = |i: usize| step.inputs.get(i).map_or(&[][..], |operand| self.of(operand.slot));
        let out = step.outputs.iter().flatten().next().map_or(&[][..], |&slot| self.of(slot));
        let even = |flops: u64| Contraction {
            forward: flops,
            by_operand: [flops, flops, 0],
            inside: 0,
        };
        let length = |shape: &[usize]| shape.last().copied().unwrap_or(1) as u64;
        Some(match &step.kernel {
            Kernel::MatMul(_) | Kernel::IntegerProduct(_) => even(product(&[2, elements(out), length(shape(0))])),
            Kernel::Gemm(_) => {
                let rows = out.first().copied().unwrap_or(1).max(1) as u64;
                even(product(&[2, elements(out), elements(shape(0)) / rows]))
            }
            Kernel::Conv(_) | Kernel::IntegerConv(_) => even(product(&[2, elements(out), elements(shape(1).get(1..).unwrap_or_default())])),
            Kernel::ConvTranspose(_) => even(product(&[2, elements(shape(0)), elements(shape(1).get(1..).unwrap_or_default())])),
            Kernel::Einsum(einsum) => even(einsum.flops()?),
            Kernel::Recurrent(_) => {
                let rows = elements(shape(0)) / length(shape(0)).max(1);
                let [by_input, by_state] = [1, 2].map(|i| product(&[2, rows, elements(shape(i))]));
                Contraction {
                    forward: by_input.saturating_add(by_state),
                    by_operand: [by_input, by_input, by_state],
                    inside: by_state,
                }
            }
            _ => return None,
        })
    }
}

/// Operations of the forward pass and of the backward pass.
fn flops(shapes: Shapes<'_>) -> (Flops, Flops) {
    let (mut forward, mut backward) = (Flops::default(), Flops::default());
    let tracked = shapes.tracked();
    for step in &shapes.program.steps {
        let gradient = |i: usize| step.inputs.get(i).is_some_and(|operand| tracked[operand.slot]);
        let passes = step.outputs.iter().flatten().any(|&slot| tracked[slot]);
        let Some(contraction) = shapes.contraction(step) else {
            let read = step.inputs.iter().map(|operand| shapes.elements(operand.slot)).max();
            let others = if is_view(&step.kernel) {
                0
            } else {
                shapes.made(step).max(read.unwrap_or(0))
            };
            forward.add(Flops { products: 0, others });
            backward.add(Flops {
                products: 0,
                others: if passes { others } else { 0 },
            });
            continue;
        };
        forward.add(Flops {
            products: contraction.forward,
            others: 0,
        });
        if passes {
            let by_operands = contraction.by_operand.iter().enumerate().filter(|(i, _)| gradient(*i));
            let products = by_operands.fold(contraction.inside, |sum, (_, &flops)| sum.saturating_add(flops));
            backward.add(Flops { products, others: 0 });
        }
    }
    (forward, backward)
}

/// Another shape of the same memory.
fn is_view(kernel: &Kernel) -> bool {
    matches!(kernel, Kernel::Reshape(_) | Kernel::Permute(_) | Kernel::Expand(_))
}

pub(crate) fn differentiable(kernel: &Kernel) -> bool {
    !matches!(
        kernel,
        Kernel::Compare(_)
            | Kernel::Test(_)
            | Kernel::Arg(_)
            | Kernel::IsNonZero
            | Kernel::ToInt
            | Kernel::DynamicQuantize
            | Kernel::IntegerProduct(_)
            | Kernel::IntegerConv(_)
    )
}

/// What a kernel holds for the backward pass, and on its way.
struct Holding {
    /// Whether it keeps its operands.
    operands: bool,
    /// Elements besides.
    own: u64,
    /// Elements that it holds while it runs, forward and backward.
    forward: u64,
    backward: u64,
}

impl Holding {
    fn of(shapes: Shapes<'_>, step: &Step) -> Self {
        let made = shapes.made(step);
        let operand = |i: usize| step.inputs.get(i).map_or(0, |operand| shapes.elements(operand.slot));
        let holding = |operands: bool, own: u64, forward: u64, backward: u64| Self {
            operands,
            own,
            forward,
            backward,
        };
        match &step.kernel {
            kernel if is_view(kernel) || !differentiable(kernel) => holding(false, 0, 0, 0),
            Kernel::Concat(_) | Kernel::Pad(_) | Kernel::Pick(_) | Kernel::Split(_) | Kernel::Shuffle(_) | Kernel::ToFloat => {
                holding(false, 0, 0, made)
            }
            Kernel::Gather(_) | Kernel::Scatter(_) | Kernel::Where(_) => holding(false, operand(1), 0, made),
            Kernel::Binary(binary) if binary.is_linear() => holding(false, 0, 0, 0),
            Kernel::Scalar(scalar) if scalar.is_linear() => holding(false, 0, 0, made),
            // Images with their channels last, weights in that order; for the gradient by the weights input and output both ways.
            Kernel::Conv(_) | Kernel::ConvTranspose(_) => {
                let images = operand(0).saturating_add(made).saturating_mul(2);
                let weights = operand(1).saturating_mul(2);
                holding(true, 0, operand(0).saturating_add(operand(1)), images.saturating_add(weights))
            }
            // burn-flex makes the result of a product twice: zeros, and their copy at an aligned place.
            Kernel::MatMul(_) | Kernel::Gemm(_) | Kernel::Einsum(_) => holding(true, 0, made, operand(0).max(operand(1))),
            // Places are integers of twice the size.
            Kernel::Pool(_) => holding(true, made.saturating_mul(2), 0, made),
            Kernel::Softmax(_) => holding(false, made, made, made.saturating_mul(2)),
            Kernel::Dropout(_) => holding(false, made, made, made),
            Kernel::BatchNorm(_) => holding(false, operand(0), operand(0), operand(0).saturating_mul(2)),
            Kernel::Normalise(_) => holding(false, operand(0).saturating_mul(2), operand(0), operand(0).saturating_mul(2)),
            // By steps, of the hidden width: gates and states; the gates' sums as pieces and joined, in either direction.
            Kernel::Recurrent(layer) => {
                let kept = if layer.unrolls() { 24 } else { 8 };
                let [kept, sums] = [kept, 8].map(|width| made.saturating_mul(width));
                holding(true, kept, sums, sums)
            }
            _ => holding(true, 0, 0, made),
        }
    }
}

/// Follows a step through its passes, counting elements.
struct Memory<'a> {
    shapes: Shapes<'a>,
    tracked: Vec<bool>,
    /// Where the memory of a slot is: its own, or that of what it is a view of.
    roots: Vec<Slot>,
    /// What holds a root's memory.
    holders: Vec<u32>,
    /// Whether there is a gradient by a slot.
    gradient: Vec<bool>,
    moments: u64,
    now: u64,
    peak: u64,
}

impl<'a> Memory<'a> {
    fn new(shapes: Shapes<'a>, moments: usize) -> Self {
        let slots = shapes.program.slots;
        Self {
            shapes,
            tracked: shapes.tracked(),
            roots: (0..slots).collect(),
            holders: vec![0; slots],
            gradient: vec![false; slots],
            moments: moments as u64,
            now: 0,
            peak: 0,
        }
    }

    fn take(&mut self, elements: u64) {
        self.now = self.now.saturating_add(elements);
        self.peak = self.peak.max(self.now);
    }

    /// For a moment.
    fn touch(&mut self, elements: u64) {
        self.peak = self.peak.max(self.now.saturating_add(elements));
    }

    fn give(&mut self, elements: u64) {
        self.now = self.now.saturating_sub(elements);
    }

    fn hold(&mut self, slot: Slot) {
        let root = self.roots[slot];
        if self.holders[root] == 0 {
            self.take(self.shapes.elements(root));
        }
        self.holders[root] = self.holders[root].saturating_add(1);
    }

    fn release(&mut self, slot: Slot) {
        let root = self.roots[slot];
        self.holders[root] = self.holders[root].saturating_sub(1);
        if self.holders[root] == 0 {
            self.give(self.shapes.elements(root));
        }
    }

    /// What is there from the first step to the last.
    fn standing(&mut self) {
        let Shapes { graph, program } = self.shapes;
        let sum = |shapes: &mut dyn Iterator<Item = &Vec<usize>>| shapes.fold(0u64, |sum, shape| sum.saturating_add(elements(shape)));
        let sources = sum(&mut graph.sources.iter().map(|s| &s.shape));
        let weights = sum(&mut graph.sources.iter().filter(|s| s.weight().is_some()).map(|s| &s.shape));
        let inputs = sum(&mut program.input_shapes.iter());
        // The file and the device; the weights that training began with, and moments; a batch as it was fed.
        self.take(product(&[2, sources]));
        self.take(weights.saturating_mul(1 + self.moments));
        self.take(inputs);
        // They are never released.
        for slot in graph.inputs.len()..graph.inputs.len() + graph.sources.len() {
            self.holders[slot] = 1;
        }
        for slot in 0..graph.inputs.len() {
            self.hold(slot);
        }
        for slot in program
            .constants
            .iter()
            .map(|c| c.slot)
            .chain(program.uploads.iter().map(|u| u.slot))
        {
            self.hold(slot);
        }
    }

    /// Elements at the peak.
    fn peak(mut self) -> u64 {
        self.standing();
        let program = self.shapes.program;
        for step in &program.steps {
            self.forward(step);
        }
        for output in &program.outputs {
            if let crate::program::From::Device(slot) = output.from {
                // As it came from the device, its gradient as the loss gives it, and the same on the device.
                self.take(product(&[2, elements(&output.shape)]));
                if self.tracked[slot] {
                    self.receive(slot);
                }
            }
        }
        for step in program.steps.iter().rev() {
            self.backward(step);
        }
        let largest = self.shapes.graph.sources.iter().filter(|s| s.weight().is_some());
        let largest = largest.map(|s| elements(&s.shape)).max();
        self.touch(largest.unwrap_or(0));
        self.peak
    }

    fn forward(&mut self, step: &Step) {
        let holding = Holding::of(self.shapes, step);
        for &slot in step.outputs.iter().flatten() {
            if let (true, Some(operand)) = (is_view(&step.kernel), step.inputs.first()) {
                self.roots[slot] = self.roots[operand.slot];
            }
            self.hold(slot);
        }
        self.touch(holding.forward);
        if self.passes(step) {
            self.take(holding.own);
            if holding.operands {
                step.inputs.iter().for_each(|operand| self.hold(operand.slot));
            }
        }
        for &Operand { slot, last } in &step.inputs {
            if last {
                self.release(slot);
            }
        }
    }

    fn backward(&mut self, step: &Step) {
        if !self.passes(step) {
            return;
        }
        let holding = Holding::of(self.shapes, step);
        // The gradient of a view is a view.
        let view = is_view(&step.kernel);
        let given = |memory: &mut Self| {
            for &slot in step.outputs.iter().flatten() {
                if std::mem::take(&mut memory.gradient[slot]) {
                    memory.give(memory.shapes.elements(slot));
                }
            }
        };
        if view {
            given(self);
        }
        for &Operand { slot, .. } in &step.inputs {
            if self.tracked[slot] {
                self.receive(slot);
            }
        }
        self.touch(holding.backward);
        given(self);
        self.give(holding.own);
        if holding.operands {
            step.inputs.iter().for_each(|operand| self.release(operand.slot));
        }
    }

    /// A gradient by a slot: added to the one that is there.
    fn receive(&mut self, slot: Slot) {
        if std::mem::replace(&mut self.gradient[slot], true) {
            self.touch(self.shapes.elements(slot));
        } else {
            self.take(self.shapes.elements(slot));
        }
    }

    fn passes(&self, step: &Step) -> bool {
        step.outputs.iter().flatten().any(|&slot| self.tracked[slot])
    }
}

#[cfg(test)]
mod tests;
