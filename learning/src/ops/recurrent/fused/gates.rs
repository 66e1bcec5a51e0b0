//! One step of the usual cells, and its gradient by hand.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, TensorMetadata};

use super::super::cell::{columns, rest};

/// What a step keeps, `[batch, hidden]` each but the gates.
#[derive(Debug, Clone)]
pub(super) struct Kept<B: Backend> {
    /// Activated: input, output, forget of an LSTM; update, reset of a GRU.
    pub(super) gates: FloatTensor<B>,
    pub(super) candidate: FloatTensor<B>,
    /// The hidden state before.
    pub(super) hidden: FloatTensor<B>,
    /// The cell's state before of an LSTM; of a GRU the candidate's part of the product, with its bias.
    pub(super) memory: FloatTensor<B>,
    /// The cell's state after, squashed, of an LSTM.
    pub(super) squashed: Option<FloatTensor<B>>,
}

/// Gradients of a step: by what the input adds to the gates, by the product, by both states before.
pub(super) struct StepGradient<B: Backend> {
    pub(super) input: FloatTensor<B>,
    pub(super) product: FloatTensor<B>,
    pub(super) hidden: FloatTensor<B>,
    pub(super) memory: Option<FloatTensor<B>>,
}

/// `1 - x^2`, the derivative of tanh by its result.
fn slope<B: Backend>(x: &FloatTensor<B>) -> FloatTensor<B> {
    rest::<B>(B::float_mul(x.clone(), x.clone()))
}

/// Both states after the step, and what it keeps.
pub(super) fn lstm<B: Backend>(
    input: FloatTensor<B>,
    product: FloatTensor<B>,
    hidden: FloatTensor<B>,
    memory: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, Kept<B>) {
    let n = hidden.shape()[1];
    let sums = B::float_add(product, input);
    let gates = B::sigmoid(columns::<B>(&sums, 0, 3 * n));
    let candidate = B::float_tanh(columns::<B>(&sums, 3 * n, 4 * n));
    let gate = |i: usize| columns::<B>(&gates, i * n, (i + 1) * n);
    let after = B::float_add(B::float_mul(gate(2), memory.clone()), B::float_mul(gate(0), candidate.clone()));
    let squashed = B::float_tanh(after.clone());
    let output = B::float_mul(gate(1), squashed.clone());
    let kept = Kept {
        gates,
        candidate,
        hidden,
        memory,
        squashed: Some(squashed),
    };
    (output, after, kept)
}

pub(super) fn lstm_gradient<B: Backend>(
    kept: &Kept<B>,
    squashed: FloatTensor<B>,
    by_hidden: FloatTensor<B>,
    by_memory: FloatTensor<B>,
    recurrent: &FloatTensor<B>,
) -> StepGradient<B> {
    let n = squashed.shape()[1];
    let gate = |i: usize| columns::<B>(&kept.gates, i * n, (i + 1) * n);
    let through = B::float_mul(B::float_mul(by_hidden.clone(), gate(1)), slope::<B>(&squashed));
    let by_memory = B::float_add(by_memory, through);
    let by_gates = vec![
        B::float_mul(by_memory.clone(), kept.candidate.clone()),
        B::float_mul(by_hidden, squashed),
        B::float_mul(by_memory.clone(), kept.memory.clone()),
    ];
    let by_gates = B::sigmoid_backward(kept.gates.clone(), B::float_cat(by_gates, 1));
    let by_candidate = B::float_mul(B::float_mul(by_memory.clone(), gate(0)), slope::<B>(&kept.candidate));
    let sums = B::float_cat(vec![by_gates, by_candidate], 1);
    StepGradient {
        hidden: B::float_matmul(sums.clone(), recurrent.clone()),
        memory: Some(B::float_mul(by_memory, gate(2))),
        input: sums.clone(),
        product: sums,
    }
}

/// The hidden state after the step, the bias as it is, and what the step keeps.
pub(super) fn gru<B: Backend>(
    input: &FloatTensor<B>,
    product: &FloatTensor<B>,
    hidden: FloatTensor<B>,
    bias: FloatTensor<B>,
) -> (FloatTensor<B>, FloatTensor<B>, Kept<B>) {
    let n = hidden.shape()[1];
    let gates = B::sigmoid(B::float_add(columns::<B>(input, 0, 2 * n), columns::<B>(product, 0, 2 * n)));
    let (update, reset) = (columns::<B>(&gates, 0, n), columns::<B>(&gates, n, 2 * n));
    let past = B::float_add(columns::<B>(product, 2 * n, 3 * n), bias.clone());
    let sum = B::float_add(columns::<B>(input, 2 * n, 3 * n), B::float_mul(reset, past.clone()));
    let candidate = B::float_tanh(sum);
    let moved = B::float_mul(update, B::float_sub(hidden.clone(), candidate.clone()));
    let kept = Kept {
        gates,
        candidate: candidate.clone(),
        hidden,
        memory: past,
        squashed: None,
    };
    (B::float_add(candidate, moved), bias, kept)
}

pub(super) fn gru_gradient<B: Backend>(kept: &Kept<B>, by_hidden: FloatTensor<B>, recurrent: &FloatTensor<B>) -> StepGradient<B> {
    let n = kept.hidden.shape()[1];
    let (update, reset) = (columns::<B>(&kept.gates, 0, n), columns::<B>(&kept.gates, n, 2 * n));
    let apart = B::float_sub(kept.hidden.clone(), kept.candidate.clone());
    let kept_share = B::float_mul(by_hidden.clone(), update);
    let by_candidate = B::float_sub(by_hidden.clone(), kept_share.clone());
    let by_sum = B::float_mul(by_candidate, slope::<B>(&kept.candidate));
    let by_gates = vec![B::float_mul(by_hidden, apart), B::float_mul(by_sum.clone(), kept.memory.clone())];
    let by_gates = B::sigmoid_backward(kept.gates.clone(), B::float_cat(by_gates, 1));
    let product = B::float_cat(vec![by_gates.clone(), B::float_mul(by_sum.clone(), reset)], 1);
    StepGradient {
        input: B::float_cat(vec![by_gates, by_sum], 1),
        hidden: B::float_add(B::float_matmul(product.clone(), recurrent.clone()), kept_share),
        memory: None,
        product,
    }
}
