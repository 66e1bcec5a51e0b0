//! Products and convolutions of 8-bit integers: MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv.
//!
//! Their sums are exact: floats hold every whole number up to 2^24, so at most so many products are summed in floats, and what they make is
//! summed in 32-bit integers. What could be more than these hold is refused when it is planned.

mod conv;
mod product;

use std::ops::Range;
use std::sync::Arc;

use burn_backend::tensor::{FloatTensor, IntTensor};
use burn_backend::{Backend, FloatDType, IntDType};

use super::quantize::{Named, Quantize, scales};
use super::select::source;
use super::{DeviceTensor, Kernel, Operands, dims};
use crate::program::{Element, Integers, NodeView, Output, Planned, Problem, Source, Tensor, Value, refuse};

pub(crate) use conv::IntegerConv;
pub(super) use conv::{conv_integer, qlinear_conv};
pub(crate) use product::IntegerProduct;
pub(super) use product::{matmul_integer, qlinear_matmul};

/// Furthest that an 8-bit value and its zero point are apart.
const FURTHEST: i64 = 255;
/// Most products of such that a float sums exactly: 2^24 / 255^2.
const EXACT: usize = 256;
/// Most products whose sum 32 bits hold.
const MOST: i64 = i32::MAX as i64 / (FURTHEST * FURTHEST);

/// From sums to 8 bits again: `saturate(round(sum multiplier) + zero)`. Operands: multipliers, zero point.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Requantize(Quantize);

/// Input `i` of 8-bit integers.
fn bytes<'a>(node: &NodeView<'a>, i: usize) -> Result<&'a Tensor, Problem> {
    match node.required(i)? {
        Value::Tensor(tensor) if matches!(tensor.element, Element::Quantized(Integers::U8 | Integers::I8)) => node.any(i),
        other => Err(refuse(
            format!("its input {i} is made of {}", other.element()),
            "quantize it to uint8 or int8",
        )),
    }
}

/// The zero point at input `i` of a tensor whose shape, raised to the product's rank, is `of`: one, or one for each place along `axis`.
fn zero<'a>(
    node: &NodeView<'a>,
    i: usize,
    goes_with: &Tensor,
    of: &[usize],
    axis: usize,
) -> Result<Option<(&'a Value, Vec<usize>)>, Problem> {
    let Some(value) = node.input(i) else { return Ok(None) };
    if value.element() != goes_with.element {
        return Err(refuse(
            format!(
                "its zero point (input {i}) is made of {}, it goes with {}",
                value.element(),
                goes_with.element
            ),
            "store both in one type",
        ));
    }
    let (mut shape, count) = (vec![1; of.len()], value.shape().iter().product::<usize>());
    let along = value.shape().len() == 1 || value.shape().len() == of.len() && value.shape()[axis] == count;
    if count == of[axis] && along {
        shape[axis] = count;
    } else if count != 1 {
        return Err(refuse(
            format!("its zero point (input {i}) has the shape {:?} for {of:?}", value.shape()),
            format!("store one, or a list of {}", of[axis]),
        ));
    }
    Ok(Some((value, shape)))
}

/// Refuses sums of so many products, on top of a bias, that 32 bits may not hold.
fn check_sums(products: usize, bias: i64) -> Result<(), Problem> {
    let most = i64::try_from(products)
        .ok()
        .and_then(|n| n.checked_mul(FURTHEST * FURTHEST))
        .and_then(|n| n.checked_add(bias))
        .filter(|&n| n <= i32::MAX.into());
    match most {
        Some(_) => Ok(()),
        None => Err(refuse(
            format!("its sums of {products} products may be past 32 bits"),
            format!("sum at most {MOST}, with a bias that leaves room for them"),
        )),
    }
}

fn planned(kernel: Kernel, inputs: Vec<Source>, element: Element, shape: Vec<usize>) -> Result<Planned, Problem> {
    Ok(Planned::Run {
        kernel,
        inputs,
        outputs: vec![Output { element, shape }],
    })
}

/// Operands and shapes of two zero points.
fn both(zeros: [Option<(&Value, Vec<usize>)>; 2], inputs: &mut Vec<Source>) -> [Option<Vec<usize>>; 2] {
    zeros.map(|zero| {
        zero.map(|(value, shape)| {
            inputs.push(source(value));
            shape
        })
    })
}

fn named(scale: usize, of: &'static str) -> Named {
    Named {
        scale,
        zero: scale + 1,
        of,
    }
}

/// A scale that is one, or one for each of `n`.
fn list_of(node: &NodeView<'_>, named: Named, n: usize) -> Result<Arc<[f32]>, Problem> {
    let (shape, values) = scales(node, named)?;
    let Named { scale: i, of, .. } = named;
    if values.len() == 1 || values.len() == n && shape.iter().filter(|&&d| d != 1).count() == 1 {
        return Ok(values);
    }
    Err(refuse(
        format!("its {of}scale (input {i}) has the shape {shape:?} for {n}"),
        format!("store one, or a list of {n}"),
    ))
}

/// What the sums are multiplied by, `a b / y` in that order, for each row and column; and the requantization with its operands.
fn requantized(
    node: &NodeView<'_>,
    (a, b): (&[f32], &[f32]),
    y: Named,
    shape: Vec<usize>,
    inputs: &mut Vec<Source>,
) -> Result<(Requantize, Integers), Problem> {
    let by = list_of(node, y, 1)?;
    let zero = node.required(y.zero)?;
    let (Element::Quantized(to @ (Integers::U8 | Integers::I8)), Value::Tensor(tensor)) = (zero.element(), zero) else {
        return Err(refuse(
            format!("its zero point (input {}) is made of {}", y.zero, zero.element()),
            "store it as uint8 or int8",
        ));
    };
    let Some(zero) = tensor.scalar() else {
        return Err(refuse(
            format!("its zero point (input {}) is not one constant", y.zero),
            "store one in the model as an initializer",
        ));
    };
    let values: Arc<[f32]> = a
        .iter()
        .flat_map(|a| b.iter().map(move |b| a * b))
        .map(|product| product / by[0])
        .collect();
    if let Some(bad) = values.iter().find(|v| !v.is_finite()) {
        return Err(refuse(
            format!("its scales make a factor of {bad}"),
            "use scales that are nearer to each other",
        ));
    }
    let ones = vec![1; shape.len()];
    inputs.push(Source::Floats { shape, values });
    inputs.push(Source::Floats {
        shape: ones,
        values: vec![zero].into(),
    });
    Ok((Requantize(Quantize::to(to)), to))
}

/// Without its zero point.
fn centred<B: Backend>(x: FloatTensor<B>, shape: &[usize], zero: Option<&Vec<usize>>, operands: &mut Operands<B>) -> FloatTensor<B> {
    let x = B::float_reshape(x, dims(shape));
    match zero {
        Some(zero) => B::float_sub(x, B::float_reshape(operands.next(), dims(zero))),
        None => x,
    }
}

/// Whole numbers, summed to others.
fn added<B: Backend>(sum: Option<IntTensor<B>>, part: FloatTensor<B>) -> Option<IntTensor<B>> {
    let part = B::float_into_int(part, IntDType::I32);
    Some(match sum {
        Some(sum) => B::int_add(sum, part),
        None => part,
    })
}

/// Stretches of `n` of at most `step`.
fn stretches(n: usize, step: usize) -> impl Iterator<Item = Range<usize>> {
    let step = step.max(1);
    (0..n).step_by(step).map(move |start| start..n.min(start + step))
}

fn part<B: Backend>(x: &FloatTensor<B>, shape: &[usize], axis: usize, range: &Range<usize>) -> FloatTensor<B> {
    let mut ranges: Vec<(usize, usize)> = shape.iter().map(|&d| (0, d)).collect();
    ranges[axis] = (range.start, range.len());
    DeviceTensor::<B>::Float(x.clone()).slice(&ranges).into_float()
}

impl Requantize {
    fn run<B: Backend>(self, sums: IntTensor<B>, operands: &mut Operands<B>) -> FloatTensor<B> {
        let scaled = B::float_mul(B::int_into_float(sums, FloatDType::F32), operands.next());
        self.0.rounded::<B>(scaled, operands.next()).1
    }
}

const SUMMED: &str = "the planner lets no empty sums through";
