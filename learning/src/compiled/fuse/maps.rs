//! Functions element by element, rows that are normalised, and chains of functions that are one.

use aimass_kernels::elementwise::{Binary, Function};
use aimass_kernels::permute::MAX_RANK;
use aimass_kernels::rows::RowNorm;

use super::super::ops::maps::{Map, Pair};
use super::super::ops::rows::{LayerNorm, Softmax};
use super::{Fuser, Proto};
use crate::ops::Kernel;
use crate::ops::activation::Activation;
use crate::ops::elementwise::{Bound, Op, Scalar};
use crate::ops::softmax::Of;
use crate::program::Slot;

fn activation(op: Activation) -> Function {
    match op {
        Activation::Affine(alpha, beta) => Function::Affine(alpha, beta),
        Activation::Elu { alpha, gamma } => Function::Elu { alpha, gamma },
        Activation::Celu(alpha) => Function::Celu(alpha),
        Activation::Erf => Function::Erf,
        Activation::Exp => Function::Exp,
        Activation::Gelu => Function::Gelu,
        Activation::GeluTanh => Function::GeluTanh,
        Activation::HardSigmoid(alpha, beta) => Function::HardSigmoid(alpha, beta),
        Activation::HardSwish => Function::HardSwish,
        Activation::LeakyRelu(alpha) => Function::LeakyRelu(alpha),
        Activation::Log => Function::Log,
        Activation::Mish => Function::Mish,
        Activation::Neg => Function::Affine(-1.0, 0.0),
        Activation::Relu => Function::Relu,
        Activation::ScaledTanh(alpha, beta) => Function::ScaledTanh(alpha, beta),
        Activation::Shrink { threshold, bias } => Function::Shrink { threshold, bias },
        Activation::Sigmoid => Function::Sigmoid,
        Activation::Softplus => Function::Softplus,
        Activation::Softsign => Function::Softsign,
        Activation::Sqrt => Function::Sqrt,
        Activation::Swish(alpha) => Function::Swish(alpha),
        Activation::Tanh => Function::Tanh,
        Activation::ThresholdedRelu(threshold) => Function::ThresholdedRelu(threshold),
    }
}

fn scalar(op: Scalar) -> Function {
    match op {
        Scalar::Add(c) => Function::Affine(1.0, c),
        Scalar::Mul(c) => Function::Affine(c, 0.0),
        Scalar::Div(c) => Function::Affine(1.0 / c, 0.0),
        Scalar::SubFrom(c) => Function::Affine(-1.0, c),
        Scalar::DivInto(c) => Function::DivInto(c),
        Scalar::Pow(c) => Function::Pow(c),
    }
}

fn is_about(value: f32, wanted: f64) -> bool {
    (f64::from(value) - wanted).abs() < 1e-6 * wanted
}

impl Fuser<'_> {
    pub(super) fn map(&mut self, i: usize) -> Option<(usize, Proto)> {
        if let Some((last, x)) = self.gelu(i) {
            return Some((last, self.proto(last, [x], Map(Function::Gelu))));
        }
        let step = &self.program.steps[i];
        let slots: Vec<Slot> = step.inputs.iter().map(|operand| operand.slot).collect();
        let function = match &step.kernel {
            Kernel::Activation(op) => activation(*op),
            Kernel::Scalar(op) => scalar(*op),
            Kernel::Clip(clip) => {
                let bound = |bound: Bound, none: f32| match bound {
                    Bound::None => Some(none),
                    Bound::Constant(c) => Some(c),
                    Bound::Operand => None,
                };
                Function::Clip(bound(clip.min, f32::NEG_INFINITY)?, bound(clip.max, f32::INFINITY)?)
            }
            _ => return self.pair(i).or_else(|| self.rows(i)).map(|proto| (i, proto)),
        };
        Some((i, self.proto(i, slots, Map(function))))
    }

    fn pair(&self, i: usize) -> Option<Proto> {
        let step = &self.program.steps[i];
        let [a, b] = [step.inputs.first()?.slot, step.inputs.get(1)?.slot];
        let shape = self.shape((*step.outputs.first()?)?);
        let (function, b_shape) = match &step.kernel {
            Kernel::Binary(binary) => {
                let function = match binary.op {
                    Op::Add => Binary::Add,
                    Op::Sub => Binary::Sub,
                    Op::Mul => Binary::Mul,
                    Op::Div => Binary::Div,
                    Op::Pow | Op::Min | Op::Max | Op::Fmod | Op::Mod => return None,
                };
                (function, self.shape(b))
            }
            Kernel::PRelu(prelu) => (Binary::PRelu, &prelu.slope[..]),
            _ => return None,
        };
        if shape.len() > MAX_RANK || b_shape.len() > MAX_RANK {
            return None;
        }
        let op = Pair {
            function,
            a: self.shape(a).to_vec(),
            b: b_shape.to_vec(),
            shape: shape.to_vec(),
        };
        Some(self.proto(i, [a, b], op))
    }

    fn rows(&self, i: usize) -> Option<Proto> {
        let step = &self.program.steps[i];
        let x = step.inputs.first()?.slot;
        match &step.kernel {
            Kernel::Softmax(softmax) => {
                let log = match softmax.of {
                    Of::Softmax => false,
                    Of::LogSoftmax => true,
                    Of::Hardmax => return None,
                };
                let product = |shape: &[usize]| shape.iter().product::<usize>();
                let shape = self.shape(x);
                let [outer, len, inner] = match softmax.flat {
                    Some([outer, len]) => [outer, len, 1],
                    None => [
                        product(&shape[..softmax.axis]),
                        shape[softmax.axis],
                        product(&shape[softmax.axis + 1..]),
                    ],
                };
                Some(self.proto(
                    i,
                    [x],
                    Softmax {
                        shape: [outer, len, inner],
                        log,
                    },
                ))
            }
            Kernel::Normalise(norm) => {
                let learned = step.inputs.get(1..)?;
                // Scale and bias go with the values of a row, not with rows: they are as long as the last axes, which make up a row.
                let of_a_row = |shape: &[usize]| {
                    let rows = shape.iter().take_while(|&&length| length == 1).count();
                    shape.len() == norm.shape.len()
                        && shape[rows..] == norm.shape[rows..]
                        && shape[rows..].iter().product::<usize>() == norm.rows[1]
                };
                let along = norm.view == norm.shape && norm.statistics.is_none() && norm.rows[1] > 1;
                let bias = learned.len() < 2 || of_a_row(&norm.bias);
                if !along || learned.is_empty() || !of_a_row(&norm.scale) || !bias {
                    return None;
                }
                let op = LayerNorm {
                    norm: RowNorm::new(self.isa, norm.rows, norm.epsilon, norm.centred),
                    bias: learned.len() == 2,
                };
                Some(self.proto(i, step.inputs.iter().map(|operand| operand.slot), op))
            }
            _ => None,
        }
    }

    /// GELU as exporters write it out: `0.5 x (1 + erf(x / sqrt(2)))`, with the half at the end. Takes its steps but the first; gives the
    /// last and `x`.
    fn gelu(&mut self, i: usize) -> Option<(usize, Slot)> {
        let step = &self.program.steps[i];
        let scaled = match step.kernel {
            Kernel::Scalar(Scalar::Div(c)) => is_about(c, std::f64::consts::SQRT_2),
            Kernel::Scalar(Scalar::Mul(c)) => is_about(c, std::f64::consts::FRAC_1_SQRT_2),
            _ => false,
        };
        if !scaled {
            return None;
        }
        let x = step.inputs.first()?.slot;
        let (erf, step) = self.next(i)?;
        matches!(step.kernel, Kernel::Activation(Activation::Erf)).then_some(())?;
        let (add, step) = self.next(erf)?;
        matches!(step.kernel, Kernel::Scalar(Scalar::Add(1.0))).then_some(())?;
        let (times, step) = self.next(add)?;
        let by_x = step.inputs.iter().any(|operand| operand.slot == x);
        matches!(&step.kernel, Kernel::Binary(binary) if binary.op == Op::Mul && by_x).then_some(())?;
        let (half, step) = self.next(times)?;
        let same = step
            .outputs
            .first()
            .copied()
            .flatten()
            .is_some_and(|out| self.shape(out) == self.shape(x));
        let halves = same && matches!(step.kernel, Kernel::Scalar(Scalar::Mul(0.5) | Scalar::Div(2.0)));
        halves.then(|| {
            [erf, add, times, half].into_iter().for_each(|step| self.take(step));
            (half, x)
        })
    }
}
