//! From the steps of a program to operations: patterns of several steps become one, views become names.

mod integers;
mod layers;
mod maps;
mod moves;
mod quantize;

use aimass_kernels::Isa;
use aimass_kernels::dense::Dense;

use super::ops::dense::FullyConnected;
use super::ops::interpreted::Interpreted;
use super::ops::product::BatchedProduct;
use super::ops::{Op, Operation};
use super::plan::MOST;
use crate::inspect::differentiable;
use crate::ops::Kernel;
use crate::ops::activation::Activation;
use crate::ops::elementwise::Op as Arithmetic;
use crate::program::{From, Graph, Program, Slot, Step};

/// An operation without its places.
#[derive(Debug)]
pub(super) struct Proto {
    pub(super) op: Op,
    pub(super) inputs: Vec<Slot>,
    pub(super) outputs: Vec<Option<Slot>>,
}

/// What became of a program's steps.
#[derive(Debug)]
pub(super) struct Fused {
    pub(super) protos: Vec<Proto>,
    /// By slot: the slot whose memory it names.
    pub(super) roots: Vec<Slot>,
}

/// `forward_alone`: no gradient is asked for.
pub(super) fn operations(graph: &Graph, program: &Program, isa: Isa, forward_alone: bool) -> Fused {
    let mut fuser = Fuser::new(graph, program, isa);
    fuser.forward_alone = forward_alone;
    fuser.run()
}

pub(super) struct Fuser<'a> {
    graph: &'a Graph,
    pub(super) program: &'a Program,
    isa: Isa,
    /// Whether the plan runs forward alone.
    forward_alone: bool,
    roots: Vec<Slot>,
    /// By root: steps that read it, with repeats; one more for what is an output.
    reads: Vec<Vec<usize>>,
    /// By slot: whether a weight reaches it.
    tracked: Vec<bool>,
    /// By step: whether a pattern holds it already, and what takes its place.
    done: Vec<bool>,
    at: Vec<Option<Proto>>,
}

/// Most products of a batch, each of which is noted.
const MOST_PRODUCTS: usize = 1 << 20;

/// Stands for the outside among the readers of a slot.
const OUTSIDE: usize = usize::MAX;

impl<'a> Fuser<'a> {
    fn new(graph: &'a Graph, program: &'a Program, isa: Isa) -> Self {
        let mut roots: Vec<Slot> = (0..program.slots).collect();
        for step in &program.steps {
            if let (Kernel::Reshape(_), Some(Some(output))) = (&step.kernel, step.outputs.first())
                && program.floats[*output]
            {
                roots[*output] = roots[step.inputs[0].slot];
            }
        }
        let mut reads = vec![Vec::new(); program.slots];
        for (i, step) in program.steps.iter().enumerate() {
            for operand in step.inputs.iter().filter(|_| !is_view(program, step) && !is_unused(step)) {
                reads[roots[operand.slot]].push(i);
            }
        }
        for output in &program.outputs {
            if let From::Device(slot) = output.from {
                reads[roots[slot]].push(OUTSIDE);
            }
        }
        for (_, slot) in &program.buffers {
            reads[roots[*slot]].push(OUTSIDE);
        }
        let mut tracked = vec![false; program.slots];
        for (i, source) in graph.sources.iter().enumerate() {
            tracked[graph.inputs.len() + i] = source.weight().is_some();
        }
        for step in &program.steps {
            let passes = differentiable(&step.kernel) && step.inputs.iter().any(|operand| tracked[operand.slot]);
            // The statistics that a batch norm moves are no part of what is differentiated.
            let outputs = if matches!(step.kernel, Kernel::BatchNorm(_)) {
                1
            } else {
                step.outputs.len()
            };
            for &slot in step.outputs.iter().take(outputs).flatten() {
                tracked[slot] = passes;
            }
        }
        Self {
            graph,
            program,
            isa,
            forward_alone: false,
            roots,
            reads,
            tracked,
            done: vec![false; program.steps.len()],
            at: program.steps.iter().map(|_| None).collect(),
        }
    }

    fn run(mut self) -> Fused {
        for i in 0..self.program.steps.len() {
            let step = &self.program.steps[i];
            if self.done[i] || is_unused(step) || is_view(self.program, step) {
                continue;
            }
            if let Some((last, proto)) = self.native(i) {
                self.done[i] = true;
                self.at[last] = Some(proto);
                continue;
            }
            let step = &self.program.steps[i];
            self.at[i] = Some(Proto {
                op: Op::Interpreted(Interpreted::new(self.program, step)),
                inputs: step.inputs.iter().map(|operand| operand.slot).collect(),
                outputs: step.outputs.clone(),
            });
        }
        Fused {
            protos: self.at.into_iter().flatten().collect(),
            roots: self.roots,
        }
    }

    /// The operation that begins with step `i`, and the last step that it stands for.
    fn native(&mut self, i: usize) -> Option<(usize, Proto)> {
        if let Some(chain) = self.integer_chain(i) {
            return Some(chain);
        }
        let step = &self.program.steps[i];
        let floats = |slot: Slot| self.program.floats[slot];
        let of_floats = step.outputs.iter().flatten().all(|&slot| floats(slot));
        let indices = usize::from(matches!(step.kernel, Kernel::Gather(_)));
        let from_floats = step.inputs.iter().filter(|operand| floats(operand.slot)).count() + indices == step.inputs.len();
        let few = step.inputs.len() <= MOST && step.outputs.len() <= MOST;
        if !of_floats || !from_floats || !few {
            return None;
        }
        match &step.kernel {
            Kernel::Gemm(_) | Kernel::MatMul(_) => self.fully_connected(i).or_else(|| self.product(i)),
            Kernel::Conv(conv) => self.convolution(i, conv),
            Kernel::Pool(pool) => self.pool(i, pool),
            Kernel::BatchNorm(norm) => self.normalisation(i, *norm),
            Kernel::Recurrent(layer) => self.recurrent(i, layer),
            Kernel::Quantize(_) => self.fake_quantize(i),
            _ => self.movement(i).map(|proto| (i, proto)).or_else(|| self.map(i)),
        }
    }

    pub(super) fn shape(&self, slot: Slot) -> &'a [usize] {
        &self.program.shapes[slot]
    }

    /// The one step that reads what step `i` makes first, when nothing else does.
    fn next(&self, i: usize) -> Option<(usize, &'a Step)> {
        let slot = (*self.program.steps[i].outputs.first()?)?;
        match self.reads[self.roots[slot]][..] {
            [reader] if reader != OUTSIDE && !self.done[reader] => Some((reader, &self.program.steps[reader])),
            _ => None,
        }
    }

    /// The source behind a slot.
    fn source(&self, slot: Slot) -> Option<usize> {
        self.roots[slot]
            .checked_sub(self.graph.inputs.len())
            .filter(|&i| i < self.graph.sources.len())
    }

    /// The same, for a source that one step alone reads.
    fn own_source(&self, slot: Slot) -> Option<usize> {
        self.source(slot).filter(|_| self.reads[self.roots[slot]].len() == 1)
    }

    /// Takes a step into a pattern.
    fn take(&mut self, step: usize) {
        self.done[step] = true;
    }

    fn relu_behind(&mut self, last: usize) -> Option<usize> {
        let (next, step) = self.next(last)?;
        matches!(step.kernel, Kernel::Activation(Activation::Relu)).then(|| {
            self.take(next);
            next
        })
    }

    /// A bias of `n` values that the step after `last` adds along the last axis.
    fn bias_behind(&mut self, last: usize, n: usize) -> Option<(usize, Slot)> {
        let (next, step) = self.next(last)?;
        let Kernel::Binary(binary) = &step.kernel else { return None };
        let made = self.roots[(*self.program.steps[last].outputs.first()?)?];
        let [a, b] = [step.inputs.first()?.slot, step.inputs.get(1)?.slot];
        let bias = if self.roots[a] == made { b } else { a };
        let shape = self.shape(bias);
        let along_last = shape.last() == Some(&n) && shape.iter().product::<usize>() == n;
        let elements = |slot: Slot| self.shape(slot).iter().product::<usize>();
        let out = step.outputs.first().copied().flatten()?;
        let same = self.shape(out).last() == Some(&n) && elements(out) == elements(made);
        (binary.op == Arithmetic::Add && along_last && same && self.source(bias).is_some()).then(|| {
            self.take(next);
            (next, bias)
        })
    }

    fn fully_connected(&mut self, i: usize) -> Option<(usize, Proto)> {
        let step = &self.program.steps[i];
        let [x, w] = [step.inputs[0].slot, step.inputs[1].slot];
        self.own_source(w)?;
        let (transposed, inputs, outputs, mut bias) = match &step.kernel {
            Kernel::Gemm(gemm) => {
                let plain = gemm.alpha == 1.0 && gemm.beta == 1.0 && !gemm.trans_a;
                let &[a, b] = self.shape(w) else { return None };
                let (inputs, outputs) = if gemm.trans_b { (b, a) } else { (a, b) };
                let bias = step.inputs.get(2).map(|operand| operand.slot);
                let along = |slot| self.shape(slot).iter().product::<usize>() == outputs && self.shape(slot).last() == Some(&outputs);
                if !plain || bias.is_some_and(|slot| !along(slot) || self.source(slot).is_none()) {
                    return None;
                }
                (gemm.trans_b, inputs, outputs, bias)
            }
            Kernel::MatMul(matmul) if matmul.shared => {
                let &[inputs, outputs] = self.shape(w) else { return None };
                (false, inputs, outputs, None)
            }
            _ => return None,
        };
        // A source has one place: it can't be read as x, and move as a bias.
        if self.source(x).is_some() {
            return None;
        }
        let rows = self.shape(x).iter().product::<usize>() / inputs;
        let mut last = i;
        if bias.is_none()
            && let Some((next, slot)) = self.bias_behind(last, outputs)
        {
            (last, bias) = (next, Some(slot));
        }
        let mut relu = false;
        if let Some(next) = self.relu_behind(last) {
            (last, relu) = (next, true);
        }
        let op = FullyConnected {
            rows,
            layer: Dense { inputs, outputs, relu },
            transposed,
            bias: bias.is_some(),
        };
        Some((last, self.proto(last, [x, w].into_iter().chain(bias), op)))
    }

    /// A product of matrices neither of which has to be a source.
    fn product(&self, i: usize) -> Option<(usize, Proto)> {
        let step = &self.program.steps[i];
        let Kernel::MatMul(matmul) = &step.kernel else { return None };
        let [a, b] = [step.inputs[0].slot, step.inputs[1].slot];
        let ([a_batch @ .., m, k], [b_batch @ .., _, n]) = (&matmul.a[..], &matmul.b[..]) else {
            return None;
        };
        let broadcast: usize = a_batch.iter().zip(b_batch).map(|(a, b)| *a.max(b)).product();
        if !matmul.shared && broadcast > MOST_PRODUCTS {
            return None;
        }
        let op = if matmul.shared {
            let rows = a_batch.iter().product::<usize>() * m;
            BatchedProduct::new([rows, *k, *n], &[], &[])
        } else {
            BatchedProduct::new([*m, *k, *n], a_batch, b_batch)
        };
        Some((i, self.proto(i, [a, b], op)))
    }

    /// With the outputs of the last step.
    fn proto(&self, last: usize, inputs: impl IntoIterator<Item = Slot>, op: impl Operation + 'static) -> Proto {
        Proto {
            op: Op::Native(Box::new(op)),
            inputs: inputs.into_iter().collect(),
            outputs: self.program.steps[last].outputs.clone(),
        }
    }
}

/// Whether nothing reads what it makes, and nothing else depends on its being run.
fn is_unused(step: &Step) -> bool {
    step.outputs.iter().all(Option::is_none) && !step.kernel.draws_noise()
}

/// Another shape of the same values.
fn is_view(program: &Program, step: &Step) -> bool {
    let float = step.outputs.first().copied().flatten().is_none_or(|slot| program.floats[slot]);
    matches!(step.kernel, Kernel::Reshape(_)) && float
}
