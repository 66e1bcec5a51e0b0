//! Functions of two tensors with numpy's broadcasting, and their scalar forms.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorData, TensorMetadata, get_or_init_device_settings};

use super::select::source;
use super::{DeviceTensor, Kernel, Operands};
use crate::program::{NodeView, Output, Planned, Problem, Tensor, Value, broadcast, missing, refuse};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Min,
    Max,
    /// What is left of a division that is rounded toward zero.
    Fmod,
    /// What is left of a division that is rounded down.
    Mod,
}

/// Two tensors; ranks are aligned by leading ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Binary {
    pub(crate) op: Op,
    pub(crate) rank: usize,
}

/// Any number of tensors, one after the other; the mean where `scale` is not 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Variadic {
    op: Op,
    scale: f32,
    shape: Vec<usize>,
}

/// A tensor and a constant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar {
    /// `x + c`
    Add(f32),
    /// `x * c`
    Mul(f32),
    /// `x / c`
    Div(f32),
    /// `c - x`
    SubFrom(f32),
    /// `c / x`
    DivInto(f32),
    /// `x ^ c`
    Pow(f32),
}

/// Bounds; those that are not constants are operands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clip {
    pub(crate) min: Bound,
    pub(crate) max: Bound,
    rank: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    None,
    Constant(f32),
    Operand,
}

fn common(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Problem> {
    broadcast(a, b).ok_or_else(|| refuse(format!("the shapes {a:?} and {b:?} do not broadcast"), "correct the shapes"))
}

pub(super) fn binary(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let (a, b) = (node.tensor(0)?, node.tensor(1)?);
    let shape = common(&a.shape, &b.shape)?;
    let op = match node.op() {
        "Add" => Op::Add,
        "Sub" => Op::Sub,
        "Mul" => Op::Mul,
        _ => Op::Div,
    };
    // A scalar must not raise the rank of the other side.
    let scalar = |s: &Tensor, other: &Tensor| s.scalar().filter(|_| s.rank() <= other.rank());
    if let Some(c) = scalar(b, a) {
        let kernel = match op {
            Op::Add => Scalar::Add(c),
            Op::Sub => Scalar::Add(-c),
            Op::Mul => Scalar::Mul(c),
            _ => Scalar::Div(c),
        };
        return Planned::run(Kernel::Scalar(kernel), &[a], shape);
    }
    if let Some(c) = scalar(a, b) {
        let kernel = match op {
            Op::Add => Scalar::Add(c),
            Op::Sub => Scalar::SubFrom(c),
            Op::Mul => Scalar::Mul(c),
            _ => Scalar::DivInto(c),
        };
        return Planned::run(Kernel::Scalar(kernel), &[b], shape);
    }
    Planned::run(Kernel::Binary(Binary { op, rank: shape.len() }), &[a, b], shape)
}

pub(super) fn pow(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = node.tensor(0)?;
    let exponent = match node.required(1)? {
        Value::Tensor(tensor) if tensor.rank() <= x.rank() => tensor.scalar(),
        Value::Tensor(_) => None,
        Value::Host(host) => host.scalar().filter(|_| host.rank() <= x.rank()).map(|v| v as f32),
    };
    if let Some(exponent) = exponent {
        return Planned::run(Kernel::Scalar(Scalar::Pow(exponent)), &[x], x.shape.clone());
    }
    let by = node.required(1)?;
    let shape = common(&x.shape, by.shape())?;
    Ok(Planned::Run {
        kernel: Kernel::Binary(Binary {
            op: Op::Pow,
            rank: shape.len(),
        }),
        inputs: vec![x.into(), source(by)],
        outputs: vec![Output::float(shape)],
    })
}

/// A kernel over two tensors.
fn two(a: &Tensor, b: &Tensor, op: Op) -> Result<Planned, Problem> {
    let shape = common(&a.shape, &b.shape)?;
    Planned::run(Kernel::Binary(Binary { op, rank: shape.len() }), &[a, b], shape)
}

/// The sign of the dividend with `fmod`, as floats need, else that of the divisor.
pub(super) fn modulo(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["fmod"])?;
    two(node.tensor(0)?, node.tensor(1)?, if node.flag("fmod") { Op::Fmod } else { Op::Mod })
}

pub(super) fn variadic(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let parts = (0..node.inputs.len()).map(|i| node.tensor(i)).collect::<Result<Vec<_>, _>>()?;
    let Some((first, rest)) = parts.split_first() else {
        return Err(missing(0));
    };
    if rest.is_empty() {
        return Planned::tensor(first);
    }
    let mut shape = first.shape.clone();
    for part in rest {
        shape = common(&shape, &part.shape)?;
    }
    let op = match node.op() {
        "Max" => Op::Max,
        "Min" => Op::Min,
        _ => Op::Add,
    };
    let kernel = Variadic {
        op,
        scale: if node.op() == "Mean" { 1.0 / parts.len() as f32 } else { 1.0 },
        shape: shape.clone(),
    };
    Planned::run(Kernel::Variadic(kernel), &parts, shape)
}

pub(super) fn clip(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["min", "max"])?;
    let x = node.tensor(0)?;
    let mut operands = vec![x];
    let mut bound = |i: usize, name: &str| {
        let Some(tensor) = node.optional_tensor(i)? else {
            return Ok(node.float(name).map_or(Bound::None, Bound::Constant));
        };
        if let Some(value) = tensor.scalar() {
            return Ok(Bound::Constant(value));
        }
        if broadcast(&x.shape, &tensor.shape).is_none_or(|s| s != x.shape) {
            return Err(refuse(
                format!("its `{name}` has the shape {:?} beside an input of {:?}", tensor.shape, x.shape),
                "make it a scalar",
            ));
        }
        operands.push(tensor);
        Ok(Bound::Operand)
    };
    let clip = Clip {
        min: bound(1, "min")?,
        max: bound(2, "max")?,
        rank: x.rank(),
    };
    Planned::run(Kernel::Clip(clip), &operands, x.shape.clone())
}

/// Prepends ones until `x` has `rank` dimensions.
fn raised<B: Backend>(x: FloatTensor<B>, rank: usize) -> FloatTensor<B> {
    let shape = x.shape();
    let missing = rank.saturating_sub(shape.num_dims());
    if missing == 0 {
        return x;
    }
    let dims: Vec<usize> = std::iter::repeat_n(1, missing).chain(shape.iter().copied()).collect();
    B::float_reshape(x, Shape::from(dims))
}

/// The larger (or smaller) of two of one shape.
fn extreme<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>, largest: bool) -> FloatTensor<B> {
    let dtype = get_or_init_device_settings::<B>(&a.device()).bool_dtype;
    let (x, y) = (B::float_detach(a.clone()), B::float_detach(b.clone()));
    let first = if largest {
        B::float_greater(x, y, dtype)
    } else {
        B::float_lower(x, y, dtype)
    };
    B::float_mask_where(b, first, a)
}

/// Both in the shape that they broadcast to.
fn expanded<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
    let shape = broadcast(a.shape().as_slice(), b.shape().as_slice()).unwrap_or_default();
    let expand = |x: FloatTensor<B>| DeviceTensor::<B>::Float(x).expand(&shape).into_float();
    (expand(a), expand(b))
}

/// What is left of a division that is rounded toward zero; `down`: rounded down.
fn rest<B: Backend>(a: FloatTensor<B>, b: FloatTensor<B>, down: bool) -> FloatTensor<B> {
    let dtype = get_or_init_device_settings::<B>(&a.device()).bool_dtype;
    let (a, b) = expanded::<B>(a, b);
    let times = B::float_trunc(B::float_detach(B::float_div(a.clone(), b.clone())));
    // Infinity goes into nothing zero times, not NaN times.
    let never = B::float_equal_elem(times.clone(), 0.0f32.into(), dtype);
    let rest = B::float_sub(a, B::float_mask_fill(B::float_mul(b.clone(), times), never, 0.0f32.into()));
    if !down {
        return rest;
    }
    let apart = B::float_mul(
        B::float_sign(B::float_detach(rest.clone())),
        B::float_sign(B::float_detach(b.clone())),
    );
    let apart = B::float_lower_elem(apart, 0.0f32.into(), dtype);
    B::float_mask_where(rest.clone(), apart, B::float_add(rest, b))
}

impl Binary {
    /// Whether its gradient needs neither operand.
    pub(crate) fn is_linear(self) -> bool {
        matches!(self.op, Op::Add | Op::Sub)
    }

    pub(super) fn run<B: Backend>(self, a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
        let (a, b) = (raised::<B>(a, self.rank), raised::<B>(b, self.rank));
        match self.op {
            Op::Add => B::float_add(a, b),
            Op::Sub => B::float_sub(a, b),
            Op::Mul => B::float_mul(a, b),
            Op::Div => B::float_div(a, b),
            Op::Pow => B::float_powf(a, b),
            Op::Fmod => rest::<B>(a, b, false),
            Op::Mod => rest::<B>(a, b, true),
            Op::Min | Op::Max => {
                let (a, b) = expanded::<B>(a, b);
                extreme::<B>(a, b, self.op == Op::Max)
            }
        }
    }
}

impl Variadic {
    pub(super) fn run<B: Backend>(&self, parts: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        let binary = Binary {
            op: self.op,
            rank: self.shape.len(),
        };
        let made = parts.into_iter().reduce(|a, b| binary.run::<B>(a, b));
        let made = made.expect("the planner names at least two operands");
        if self.scale == 1.0 {
            made
        } else {
            B::float_mul_scalar(made, self.scale.into())
        }
    }
}

/// `x ^ c`
pub(super) fn powf<B: Backend>(x: FloatTensor<B>, c: f32) -> FloatTensor<B> {
    // The backend reads whole exponents as integers, and panics at those that are none (infinity is whole to it).
    if c.abs() < 1e9 {
        B::float_powf_scalar(x, c.into())
    } else {
        let c = TensorData::new(vec![c], vec![1; x.shape().num_dims()]);
        let c = B::float_from_data(c, &x.device());
        B::float_powf(x, c)
    }
}

impl Scalar {
    /// Whether its gradient does not need the operand.
    pub(crate) fn is_linear(self) -> bool {
        matches!(self, Self::Add(_) | Self::Mul(_) | Self::Div(_) | Self::SubFrom(_))
    }

    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Self::Add(c) => B::float_add_scalar(x, c.into()),
            Self::Mul(c) => B::float_mul_scalar(x, c.into()),
            Self::Div(c) => B::float_div_scalar(x, c.into()),
            Self::SubFrom(c) => B::float_add_scalar(B::float_neg(x), c.into()),
            Self::DivInto(c) => B::float_mul_scalar(B::float_recip(x), c.into()),
            Self::Pow(2.0) => B::float_mul(x.clone(), x),
            Self::Pow(0.5) => B::float_sqrt(x),
            Self::Pow(c) => powf::<B>(x, c),
        }
    }
}

impl Clip {
    pub(super) fn run<B: Backend>(self, operands: &mut Operands<B>) -> FloatTensor<B> {
        let mut x = operands.next();
        let bound = |x: FloatTensor<B>, by: FloatTensor<B>, largest: bool| {
            let (x, by) = expanded::<B>(x, raised::<B>(by, self.rank));
            extreme::<B>(x, by, largest)
        };
        x = match self.min {
            Bound::None => x,
            Bound::Constant(min) => B::float_clamp_min(x, min.into()),
            Bound::Operand => bound(x, operands.next(), true),
        };
        match self.max {
            Bound::None => x,
            Bound::Constant(max) => B::float_clamp_max(x, max.into()),
            Bound::Operand => bound(x, operands.next(), false),
        }
    }
}
