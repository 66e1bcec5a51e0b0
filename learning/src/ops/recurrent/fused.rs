//! The steps of the usual LSTM and GRU as one operation of the autodiff graph, with the gradient written out.
//!
//! Step by step, the graph would hold some dozen nodes a step, and the gradient by the recurrent weights would be summed up from a
//! matrix a step. Here a step keeps what its gradient needs, and the gradients by all weights are one product each.

mod gates;

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_backend::ops::FloatTensorOps;
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Slice, TensorMetadata};

use super::Recurrent;
use super::cell::{Cell, State, columns};
use super::run::{Mask, Steps, blocks, joined, row_major, unrolled};
use gates::{Kept, gru, gru_gradient, lstm, lstm_gradient};

/// Which cell, with the activations that ONNX and PyTorch have by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Usual {
    Lstm,
    /// Resets after its product, as PyTorch's does.
    Gru,
}

/// What the gradient of all steps needs.
#[derive(Debug, Clone)]
struct Trace<B: Backend> {
    usual: Usual,
    reverse: bool,
    /// In the order of the input, as are the masks.
    steps: Vec<Kept<B>>,
    masks: Option<Vec<Mask<B>>>,
    /// `[gates * hidden, hidden]`
    recurrent: FloatTensor<B>,
}

/// All hidden states and the last state; where the cell is not one of the usual ones, unrolled.
pub(super) fn steps<B: Backend>(layer: &Recurrent, steps: Steps<Autodiff<B>>) -> (FloatTensor<Autodiff<B>>, State<Autodiff<B>>) {
    let usual = match layer.cell {
        Cell::Lstm { input_forget: false } if steps.weights.peepholes.is_none() => Usual::Lstm,
        Cell::Gru { linear_before_reset: true } => Usual::Gru,
        _ => return unrolled::<Autodiff<B>>(layer, steps),
    };
    if layer.clip.is_some() || !steps.weights.functions.are(layer.cell.defaults()) {
        return unrolled::<Autodiff<B>>(layer, steps);
    }
    let Steps {
        reverse,
        from_input,
        weights,
        state,
        masks,
    } = steps;
    // The fourth operand is the cell's state of an LSTM, the bias of a GRU's product (zeros where it has none).
    let (n, batch) = (layer.hidden, layer.batch);
    let fourth = match (usual, state.cell, weights.reset_bias) {
        (Usual::Lstm, Some(cell), _) => cell,
        (_, _, Some(bias)) => bias,
        (_, _, None) => super::run::zeros::<Autodiff<B>>(1, n, &from_input.device()),
    };
    let operands = [from_input, weights.recurrent, state.hidden, fourth];
    let nodes = operands.each_ref().map(FloatTensor::<Autodiff<B>>::node);
    let [from_input, recurrent, hidden, fourth] = operands.map(FloatTensor::<Autodiff<B>>::into_primitive);
    let inner = |mask: Mask<Autodiff<B>>| mask.map(FloatTensor::<Autodiff<B>>::into_primitive);
    let masks = masks.map(|masks| masks.into_iter().map(inner).collect());
    let mut trace = Trace::<B> {
        usual,
        reverse,
        steps: Vec::with_capacity(layer.steps),
        masks,
        recurrent: B::float_swap_dims(recurrent.clone(), 0, 1),
    };
    let packed = trace.forward(from_input, &row_major::<B>(recurrent), hidden, fourth, layer.steps);
    let prepared = Backward::<B, 4>::prepare::<NoCheckpointing>(AllSteps, nodes);
    let packed = match prepared.compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(trace, packed),
        OpsKind::UnTracked(prep) => prep.finish(packed),
    };
    let rows = |from: usize, to: usize| {
        let slices = [Slice::from(from * batch..to * batch), Slice::from(0..n)];
        Autodiff::<B>::float_slice(packed.clone(), &slices)
    };
    let t = layer.steps;
    let cell = (usual == Usual::Lstm).then(|| rows(t + 1, t + 2));
    let hidden = rows(t, t + 1);
    (rows(0, t), State { hidden, cell })
}

impl<B: Backend> Trace<B> {
    /// The hidden states after every step, the last one, and of an LSTM the last state of the cells: `[rows, hidden]`.
    fn forward(
        &mut self,
        from_input: FloatTensor<B>,
        recurrent: &FloatTensor<B>,
        mut hidden: FloatTensor<B>,
        fourth: FloatTensor<B>,
        count: usize,
    ) -> FloatTensor<B> {
        let batch = hidden.shape()[0];
        let mut inputs = Vec::with_capacity(count);
        blocks::<B>(from_input, count, batch, &mut inputs);
        let masks = self.masks.take();
        let mut outputs = Vec::with_capacity(count + 2);
        let mut memory = fourth;
        let mut order: Vec<(usize, FloatTensor<B>)> = inputs.into_iter().enumerate().collect();
        if self.reverse {
            order.reverse();
        }
        for (at, input) in order {
            let product = B::float_matmul(hidden.clone(), recurrent.clone());
            let (mut after, mut memory_after, kept) = match self.usual {
                Usual::Lstm => lstm::<B>(input, product, hidden.clone(), memory.clone()),
                Usual::Gru => gru::<B>(&input, &product, hidden.clone(), memory.clone()),
            };
            let mut output = after.clone();
            if let Some([moves, stays]) = masks.as_ref().map(|m| &m[at]) {
                let mixed = |new: FloatTensor<B>, old: FloatTensor<B>| B::float_add(new, B::float_mul(old, stays.clone()));
                output = B::float_mul(output, moves.clone());
                after = mixed(output.clone(), hidden);
                if self.usual == Usual::Lstm {
                    memory_after = mixed(B::float_mul(memory_after, moves.clone()), memory);
                }
            }
            (hidden, memory) = (after, memory_after);
            outputs.push(output);
            self.steps.push(kept);
        }
        if self.reverse {
            outputs.reverse();
            self.steps.reverse();
        }
        self.masks = masks;
        outputs.push(hidden);
        if self.usual == Usual::Lstm {
            outputs.push(memory);
        }
        joined::<B>(outputs, 0)
    }

    fn backward(self, packed: FloatTensor<B>, wanted: [bool; 4]) -> [Option<FloatTensor<B>>; 4] {
        let count = self.steps.len();
        let batch = self.steps.first().map_or(0, |kept| kept.hidden.shape()[0]);
        let is_lstm = self.usual == Usual::Lstm;
        let mut by_output = Vec::with_capacity(count + 2);
        blocks::<B>(packed, count + 1 + usize::from(is_lstm), batch, &mut by_output);
        let mut by_memory = if is_lstm { by_output.pop() } else { None };
        let mut by_hidden = by_output.pop();
        let (mut by_inputs, mut by_products, mut hiddens) =
            (Vec::with_capacity(count), Vec::with_capacity(count), Vec::with_capacity(count));
        let mut order: Vec<_> = self.steps.into_iter().zip(by_output).enumerate().collect();
        if !self.reverse {
            order.reverse();
        }
        for (at, (kept, by_output)) in order {
            let Some(past) = by_hidden.take() else { continue };
            let mut of_hidden = B::float_add(by_output, past.clone());
            let mut of_memory = by_memory.clone();
            let mask = self.masks.as_ref().map(|m| &m[at]);
            if let Some([moves, _]) = mask {
                of_hidden = B::float_mul(of_hidden, moves.clone());
                of_memory = of_memory.map(|m| B::float_mul(m, moves.clone()));
            }
            hiddens.push(kept.hidden.clone());
            let step = match (kept.squashed.clone(), of_memory) {
                (Some(squashed), Some(of_memory)) => lstm_gradient::<B>(&kept, squashed, of_hidden, of_memory, &self.recurrent),
                _ => gru_gradient::<B>(&kept, of_hidden, &self.recurrent),
            };
            let stayed = |new: FloatTensor<B>, old: FloatTensor<B>| match mask {
                Some([_, stays]) => B::float_add(new, B::float_mul(old, stays.clone())),
                None => new,
            };
            by_hidden = Some(stayed(step.hidden, past));
            by_memory = step.memory.zip(by_memory.take()).map(|(new, old)| stayed(new, old));
            by_inputs.push(step.input);
            by_products.push(step.product);
        }
        if !self.reverse {
            by_inputs.reverse();
            by_products.reverse();
            hiddens.reverse();
        }
        let products = joined::<B>(by_products, 0);
        // The weights came as a transposed view, so their gradient goes as one.
        let by_recurrent = wanted[1].then(|| {
            let by_rows = B::float_matmul(B::float_swap_dims(products.clone(), 0, 1), joined::<B>(hiddens, 0));
            B::float_swap_dims(by_rows, 0, 1)
        });
        let by_fourth = match by_memory {
            Some(by_memory) => Some(by_memory),
            None => wanted[3].then(|| {
                let width = products.shape()[1];
                B::float_sum_dim(columns::<B>(&products, width / 3 * 2, width), 0)
            }),
        };
        [wanted[0].then(|| joined::<B>(by_inputs, 0)), by_recurrent, by_hidden, by_fourth]
    }
}

#[derive(Debug)]
struct AllSteps;

impl<B: Backend> Backward<B, 4> for AllSteps {
    type State = Trace<B>;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let packed = grads.consume::<B>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        for (node, gradient) in ops.parents.into_iter().zip(ops.state.backward(packed, wanted)) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
