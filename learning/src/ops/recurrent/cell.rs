//! One step of each cell. The gates of a step lie beside each other in one matrix.
//!
//! # Source
//! The equations of ONNX's `docs/Operators.md`; Hochreiter and Schmidhuber 1997, Cho et al. 2014, Elman 1990.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Slice, TensorMetadata};

use super::super::activation::Activation;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell {
    Lstm {
        /// Whether what is forgotten is what is not let in.
        input_forget: bool,
    },
    Gru {
        linear_before_reset: bool,
    },
    Rnn,
}

/// Activations: of the gates, of the candidate, of the cell's state on its way out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Functions {
    f: Activation,
    g: Activation,
    h: Activation,
}

impl Functions {
    /// Whether they are these.
    pub(crate) fn are(&self, all: &[Activation]) -> bool {
        *self == Self::new(all)
    }

    /// From one to three, as many as the cell has.
    pub(super) fn new(all: &[Activation]) -> Self {
        let at = |i: usize| all.get(i).copied().unwrap_or(Activation::Tanh);
        Self {
            f: at(0),
            g: at(1),
            h: at(2),
        }
    }
}

impl Cell {
    pub(super) fn gates(self) -> usize {
        match self {
            Self::Lstm { .. } => 4,
            Self::Gru { .. } => 3,
            Self::Rnn => 1,
        }
    }

    pub(crate) fn defaults(self) -> &'static [Activation] {
        match self {
            Self::Lstm { .. } => &[Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
            Self::Gru { .. } => &[Activation::Sigmoid, Activation::Tanh],
            Self::Rnn => &[Activation::Tanh],
        }
    }
}

/// What all steps of a direction share.
pub(super) struct Weights<B: Backend> {
    /// `[hidden, gates * hidden]`; of a GRU that resets before its product without the candidate's part.
    pub(super) recurrent: FloatTensor<B>,
    /// The rest of that: `[hidden, hidden]`.
    pub(super) candidate: Option<FloatTensor<B>>,
    /// Bias `[1, hidden]` of the candidate's product, of a GRU that resets after it.
    pub(super) reset_bias: Option<FloatTensor<B>>,
    /// Of the input, output and forget gate: `[1, hidden]` each.
    pub(super) peepholes: Option<[FloatTensor<B>; 3]>,
    pub(super) functions: Functions,
    pub(super) clip: Option<f32>,
    pub(super) hidden: usize,
}

/// State between steps, `[batch, hidden]` each.
#[derive(Clone)]
pub(super) struct State<B: Backend> {
    pub(super) hidden: FloatTensor<B>,
    pub(super) cell: Option<FloatTensor<B>>,
}

/// Columns `from..to` of a matrix.
pub(super) fn columns<B: Backend>(x: &FloatTensor<B>, from: usize, to: usize) -> FloatTensor<B> {
    let rows = x.shape()[0];
    B::float_slice(x.clone(), &[Slice::from(0..rows), Slice::from(from..to)])
}

/// `1 - x`
pub(super) fn rest<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_add_scalar(B::float_neg(x), 1.0f32.into())
}

impl<B: Backend> Weights<B> {
    fn activate(&self, function: Activation, x: FloatTensor<B>) -> FloatTensor<B> {
        function.run::<B>(match self.clip {
            Some(clip) => B::float_clamp(x, (-clip).into(), clip.into()),
            None => x,
        })
    }

    /// One step; `from_input`: what the input adds to the gates, `[batch, gates * hidden]`.
    pub(super) fn step(&self, cell: Cell, from_input: FloatTensor<B>, state: State<B>) -> State<B> {
        match (cell, state.cell) {
            (Cell::Lstm { input_forget }, Some(memory)) => self.lstm(input_forget, from_input, state.hidden, memory),
            (Cell::Gru { .. }, _) => self.gru(from_input, state.hidden),
            _ => {
                let sum = B::float_add(from_input, B::float_matmul(state.hidden, self.recurrent.clone()));
                State {
                    hidden: self.activate(self.functions.f, sum),
                    cell: None,
                }
            }
        }
    }

    /// Gates in the order input, output, forget, candidate.
    fn lstm(&self, input_forget: bool, from_input: FloatTensor<B>, hidden: FloatTensor<B>, memory: FloatTensor<B>) -> State<B> {
        let n = self.hidden;
        let Functions { f, g, h } = self.functions;
        let sums = B::float_add(from_input, B::float_matmul(hidden, self.recurrent.clone()));
        let candidate = self.activate(g, columns::<B>(&sums, 3 * n, 4 * n));
        let seen = |gate: usize, through: &FloatTensor<B>, peephole: &FloatTensor<B>| {
            let sum = columns::<B>(&sums, gate * n, (gate + 1) * n);
            self.activate(f, B::float_add(sum, B::float_mul(through.clone(), peephole.clone())))
        };
        // Without peepholes the three gates are one function of one matrix.
        let gates = match &self.peepholes {
            Some(_) => None,
            None => Some(self.activate(f, columns::<B>(&sums, 0, 3 * n))),
        };
        let gate = |i: usize, through: &FloatTensor<B>| match (&gates, &self.peepholes) {
            (Some(gates), _) => columns::<B>(gates, i * n, (i + 1) * n),
            (None, Some(peepholes)) => seen(i, through, &peepholes[i]),
            (None, None) => unreachable!("one of both is there"),
        };
        let input = gate(0, &memory);
        let forget = if input_forget { rest::<B>(input.clone()) } else { gate(2, &memory) };
        let memory = B::float_add(B::float_mul(forget, memory), B::float_mul(input, candidate));
        let output = gate(1, &memory);
        State {
            hidden: B::float_mul(output, h.run::<B>(memory.clone())),
            cell: Some(memory),
        }
    }

    /// Gates in the order update, reset, candidate.
    fn gru(&self, from_input: FloatTensor<B>, hidden: FloatTensor<B>) -> State<B> {
        let n = self.hidden;
        let Functions { f, g, .. } = self.functions;
        let product = B::float_matmul(hidden.clone(), self.recurrent.clone());
        let sums = B::float_add(columns::<B>(&from_input, 0, 2 * n), columns::<B>(&product, 0, 2 * n));
        let gates = self.activate(f, sums);
        let (update, reset) = (columns::<B>(&gates, 0, n), columns::<B>(&gates, n, 2 * n));
        let past = match &self.candidate {
            Some(candidate) => B::float_matmul(B::float_mul(reset, hidden.clone()), candidate.clone()),
            None => {
                let product = columns::<B>(&product, 2 * n, 3 * n);
                let product = match &self.reset_bias {
                    Some(bias) => B::float_add(product, bias.clone()),
                    None => product,
                };
                B::float_mul(reset, product)
            }
        };
        let candidate = self.activate(g, B::float_add(columns::<B>(&from_input, 2 * n, 3 * n), past));
        let moved = B::float_mul(update, B::float_sub(hidden, candidate.clone()));
        State {
            hidden: B::float_add(candidate, moved),
            cell: None,
        }
    }
}
