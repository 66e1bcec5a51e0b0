//! The steps of all directions, and how their outputs are put together.

use burn_autodiff::Autodiff;
use burn_backend::tensor::{Device, FloatTensor};
use burn_backend::{Backend, FloatDType, Shape, Slice, TensorData, TensorMetadata, get_or_init_device_settings};

use super::super::Operands;
use super::cell::{Cell, State, Weights, columns};
use super::{Direction, Recurrent, fused};

/// For a step which rows it moves (1) and which it leaves (0), and the opposite: `[batch, 1]` each.
pub(super) type Mask<B> = [FloatTensor<B>; 2];

/// What the steps of a direction start from.
pub(super) struct Steps<B: Backend> {
    pub(super) reverse: bool,
    /// What the input adds to the gates: `[steps * batch, gates * hidden]`.
    pub(super) from_input: FloatTensor<B>,
    pub(super) weights: Weights<B>,
    pub(super) state: State<B>,
    /// One for each step, in the order of the input.
    pub(super) masks: Option<Vec<Mask<B>>>,
}

/// Runs the steps: the hidden states `[steps * batch, hidden]` after all, in the order of the input, and the last state.
type Runner<B> = fn(&Recurrent, Steps<B>) -> (FloatTensor<B>, State<B>);

/// The operands of all directions.
struct Given<B: Backend> {
    /// `[steps * batch, input]`
    x: FloatTensor<B>,
    w: FloatTensor<B>,
    r: FloatTensor<B>,
    bias: Option<FloatTensor<B>>,
    masks: Option<Vec<Mask<B>>>,
    hidden: Option<FloatTensor<B>>,
    cell: Option<FloatTensor<B>>,
    peepholes: Option<FloatTensor<B>>,
}

fn reshaped<B: Backend, const N: usize>(x: FloatTensor<B>, shape: [usize; N]) -> FloatTensor<B> {
    B::float_reshape(x, Shape::new(shape))
}

/// Part `d` of the first dimension.
fn part<B: Backend, const N: usize>(x: &FloatTensor<B>, d: usize, shape: [usize; N]) -> FloatTensor<B> {
    let whole = x.shape();
    if whole[0] == 1 {
        return reshaped::<B, N>(x.clone(), shape);
    }
    let slices: Vec<Slice> = std::iter::once(d..d + 1)
        .chain(whole.iter().skip(1).map(|&len| 0..len))
        .map(Slice::from)
        .collect();
    reshaped::<B, N>(B::float_slice(x.clone(), &slices), shape)
}

/// Cuts `count` blocks of `rows` rows each out of a matrix.
pub(super) fn blocks<B: Backend>(x: FloatTensor<B>, count: usize, rows: usize, into: &mut Vec<FloatTensor<B>>) {
    if count == 1 {
        into.push(x);
        return;
    }
    let (half, width) = (count / 2, x.shape()[1]);
    let cut = |x: FloatTensor<B>, from: usize, to: usize| B::float_slice(x, &[Slice::from(from * rows..to * rows), Slice::from(0..width)]);
    blocks::<B>(cut(x.clone(), 0, half), half, rows, into);
    blocks::<B>(cut(x, half, count), count - half, rows, into);
}

/// Joined along `axis`, where there are several.
pub(super) fn joined<B: Backend>(mut tensors: Vec<FloatTensor<B>>, axis: usize) -> FloatTensor<B> {
    match tensors.len() {
        1 => tensors.remove(0),
        _ => B::float_cat(tensors, axis),
    }
}

pub(super) fn zeros<B: Backend>(rows: usize, columns: usize, device: &Device<B>) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(vec![0.0f32; rows * columns], [rows, columns]), device)
}

impl Recurrent {
    /// All hidden states, the last ones, and of an LSTM the last states of its cells.
    pub(in crate::ops) fn run<B: Backend>(&self, o: &mut Operands<B>) -> Vec<FloatTensor<B>> {
        self.run_by::<B>(o, unrolled::<B>)
    }

    /// The same, to be differentiated.
    pub(in crate::ops) fn run_tracked<B: Backend>(&self, o: &mut Operands<Autodiff<B>>) -> Vec<FloatTensor<Autodiff<B>>> {
        self.run_by::<Autodiff<B>>(o, fused::steps::<B>)
    }

    fn run_by<B: Backend>(&self, o: &mut Operands<B>, runner: Runner<B>) -> Vec<FloatTensor<B>> {
        let (x, w, r) = (o.next(), o.next(), o.next());
        let (t, b, d) = (self.steps, self.batch, self.directions.len());
        let device = x.device();
        let turned = |x: FloatTensor<B>| if self.batch_first { B::float_permute(x, &[1, 0, 2]) } else { x };
        let given = Given {
            x: reshaped::<B, 2>(turned(x), [t * b, self.input]),
            w,
            r,
            bias: self.bias.then(|| o.next()),
            masks: self
                .lengths
                .then(|| masks::<B>(B::int_into_float(o.next_int(), FloatDType::F32), t, b)),
            hidden: self.initial_hidden.then(|| turned(o.next())),
            cell: self.initial_cell.then(|| turned(o.next())),
            peepholes: self.peepholes.then(|| o.next()),
        };
        let (mut all, mut hidden, mut cells) = (Vec::with_capacity(d), Vec::with_capacity(d), Vec::with_capacity(d));
        for (i, direction) in self.directions.iter().enumerate() {
            let (steps, last) = runner(self, self.steps_of::<B>(i, *direction, &given, &device));
            all.push(reshaped::<B, 4>(steps, [t, 1, b, self.hidden]));
            hidden.push(reshaped::<B, 3>(last.hidden, [1, b, self.hidden]));
            cells.extend(last.cell.map(|cell| reshaped::<B, 3>(cell, [1, b, self.hidden])));
        }
        let all = joined::<B>(all, 1);
        let mut outputs = vec![
            if self.batch_first {
                B::float_permute(all, &[2, 0, 1, 3])
            } else {
                all
            },
            turned(joined::<B>(hidden, 0)),
        ];
        if !cells.is_empty() {
            outputs.push(turned(joined::<B>(cells, 0)));
        }
        outputs
    }

    fn steps_of<B: Backend>(&self, i: usize, direction: Direction, given: &Given<B>, device: &Device<B>) -> Steps<B> {
        let (n, width) = (self.hidden, self.cell.gates() * self.hidden);
        let initial = |x: &Option<FloatTensor<B>>| match x {
            Some(x) => part::<B, 2>(x, i, [self.batch, n]),
            None => zeros::<B>(self.batch, n, device),
        };
        let w = part::<B, 2>(&given.w, i, [width, self.input]);
        let mut from_input = B::float_matmul(given.x.clone(), B::float_swap_dims(w, 0, 1));
        if let Some(bias) = given.bias.as_ref().map(|b| part::<B, 2>(b, i, [1, 2 * width])) {
            from_input = B::float_add(from_input, self.input_bias::<B>(&bias));
        }
        Steps {
            reverse: direction.reverse,
            from_input,
            weights: self.weights::<B>(i, direction, given),
            state: State {
                hidden: initial(&given.hidden),
                cell: matches!(self.cell, Cell::Lstm { .. }).then(|| initial(&given.cell)),
            },
            masks: given.masks.clone(),
        }
    }

    fn weights<B: Backend>(&self, i: usize, direction: Direction, given: &Given<B>) -> Weights<B> {
        let (n, width) = (self.hidden, self.cell.gates() * self.hidden);
        let recurrent = B::float_swap_dims(part::<B, 2>(&given.r, i, [width, n]), 0, 1);
        let (recurrent, candidate) = match self.cell {
            Cell::Gru {
                linear_before_reset: false,
            } => (columns::<B>(&recurrent, 0, 2 * n), Some(columns::<B>(&recurrent, 2 * n, 3 * n))),
            _ => (recurrent, None),
        };
        let bias = given.bias.as_ref().filter(|_| self.resets_after());
        let peepholes = given.peepholes.as_ref().map(|p| part::<B, 2>(p, i, [1, 3 * n]));
        Weights {
            recurrent,
            candidate,
            reset_bias: bias.map(|b| columns::<B>(&part::<B, 2>(b, i, [1, 2 * width]), 5 * n, 6 * n)),
            peepholes: peepholes.map(|p| [0, 1, 2].map(|gate| columns::<B>(&p, gate * n, (gate + 1) * n))),
            functions: direction.functions,
            clip: self.clip,
            hidden: n,
        }
    }

    fn resets_after(&self) -> bool {
        let after = Cell::Gru { linear_before_reset: true };
        self.cell == after
    }

    /// Both biases `[1, 2 * gates * hidden]` as one; a GRU that resets after its product adds one part there.
    fn input_bias<B: Backend>(&self, both: &FloatTensor<B>) -> FloatTensor<B> {
        let (n, width) = (self.hidden, self.cell.gates() * self.hidden);
        if self.resets_after() {
            let gates = B::float_add(columns::<B>(both, 0, 2 * n), columns::<B>(both, width, width + 2 * n));
            return B::float_cat(vec![gates, columns::<B>(both, 2 * n, 3 * n)], 1);
        }
        B::float_add(columns::<B>(both, 0, width), columns::<B>(both, width, 2 * width))
    }
}

/// The matrix with its rows one after the other in memory, as it is not where it came as a transposed view. The product of every step
/// would otherwise begin with packing it.
pub(super) fn row_major<B: Backend>(matrix: FloatTensor<B>) -> FloatTensor<B> {
    let shape = matrix.shape();
    let flat = B::float_reshape(matrix, Shape::new([shape.num_elements()]));
    B::float_reshape(flat, shape)
}

/// One step after the other, of whatever cell.
pub(super) fn unrolled<B: Backend>(layer: &Recurrent, mut steps: Steps<B>) -> (FloatTensor<B>, State<B>) {
    steps.weights.recurrent = row_major::<B>(steps.weights.recurrent);
    let mut inputs = Vec::with_capacity(layer.steps);
    blocks::<B>(steps.from_input, layer.steps, layer.batch, &mut inputs);
    let mut order: Vec<(usize, FloatTensor<B>)> = inputs.into_iter().enumerate().collect();
    if steps.reverse {
        order.reverse();
    }
    let mut state = steps.state;
    let mut outputs = Vec::with_capacity(layer.steps);
    for (step, input) in order {
        let before = steps.masks.is_some().then(|| state.clone());
        state = steps.weights.step(layer.cell, input, state);
        let mut output = state.hidden.clone();
        if let (Some([moves, stays]), Some(before)) = (steps.masks.as_ref().map(|m| &m[step]), before) {
            // A sequence that is over, or has not begun from its end, keeps its state and gives zeros.
            let keep = |old: FloatTensor<B>| B::float_mul(old, stays.clone());
            output = B::float_mul(output, moves.clone());
            state.hidden = B::float_add(output.clone(), keep(before.hidden));
            let both = state.cell.zip(before.cell);
            state.cell = both.map(|(new, old)| B::float_add(B::float_mul(new, moves.clone()), keep(old)));
        }
        outputs.push(output);
    }
    if steps.reverse {
        outputs.reverse();
    }
    (joined::<B>(outputs, 0), state)
}

fn masks<B: Backend>(lengths: FloatTensor<B>, steps: usize, batch: usize) -> Vec<Mask<B>> {
    let lengths = reshaped::<B, 2>(lengths, [batch, 1]);
    let bool_dtype = get_or_init_device_settings::<B>(&lengths.device()).bool_dtype;
    let mask = |step: usize| {
        let moves = B::float_greater_elem(lengths.clone(), (step as f32).into(), bool_dtype);
        let stays = B::bool_not(moves.clone());
        [moves, stays].map(|mask| B::bool_into_float(mask, FloatDType::F32))
    };
    (0..steps).map(mask).collect()
}
