//! Functions of two tensors with numpy's broadcasting, and their scalar forms.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorMetadata};

use super::Kernel;
use crate::program::{Ints, NodeView, Planned, Problem, Tensor, broadcast, refuse};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Add,
    Sub,
    Mul,
    Div,
}

/// Two tensors; ranks are aligned by leading ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Binary {
    op: Op,
    rank: usize,
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

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Clip {
    min: Option<f32>,
    max: Option<f32>,
}

pub(super) fn binary(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    if let Some(ints) = node.all_ints()
        && let [a, b] = ints[..]
    {
        return Planned::ints(Ints::arithmetic(node.op(), a, b)?);
    }
    let (a, b) = (node.tensor(0)?, node.tensor(1)?);
    let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| {
        refuse(
            format!("the shapes {:?} and {:?} do not broadcast", a.shape, b.shape),
            "correct the shapes",
        )
    })?;
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
            Op::Div => Scalar::Div(c),
        };
        return Planned::run(Kernel::Scalar(kernel), &[a], shape);
    }
    if let Some(c) = scalar(a, b) {
        let kernel = match op {
            Op::Add => Scalar::Add(c),
            Op::Sub => Scalar::SubFrom(c),
            Op::Mul => Scalar::Mul(c),
            Op::Div => Scalar::DivInto(c),
        };
        return Planned::run(Kernel::Scalar(kernel), &[b], shape);
    }
    Planned::run(Kernel::Binary(Binary { op, rank: shape.len() }), &[a, b], shape)
}

pub(super) fn pow(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = node.tensor(0)?;
    let fix = "use one constant exponent";
    let exponent = match node.required(1)? {
        crate::program::Value::Tensor(tensor) if tensor.rank() <= x.rank() => tensor.scalar(),
        crate::program::Value::Tensor(_) => None,
        crate::program::Value::Ints(ints) => ints.scalar().map(|v| v as f32),
    };
    let exponent = exponent.ok_or_else(|| refuse("its exponent is not one constant number", fix))?;
    Planned::run(Kernel::Scalar(Scalar::Pow(exponent)), &[x], x.shape.clone())
}

pub(super) fn clip(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["min", "max"])?;
    let x = node.tensor(0)?;
    let bound = |i: usize, name: &str| match node.optional_tensor(i)? {
        None => Ok(node.float(name)),
        Some(tensor) => tensor
            .scalar()
            .map(Some)
            .ok_or_else(|| refuse(format!("its `{name}` is not a constant number"), "make it one")),
    };
    let clip = Clip {
        min: bound(1, "min")?,
        max: bound(2, "max")?,
    };
    Planned::run(Kernel::Clip(clip), &[x], x.shape.clone())
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

impl Binary {
    pub(super) fn run<B: Backend>(self, a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
        let (a, b) = (raised::<B>(a, self.rank), raised::<B>(b, self.rank));
        match self.op {
            Op::Add => B::float_add(a, b),
            Op::Sub => B::float_sub(a, b),
            Op::Mul => B::float_mul(a, b),
            Op::Div => B::float_div(a, b),
        }
    }
}

impl Scalar {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        match self {
            Self::Add(c) => B::float_add_scalar(x, c.into()),
            Self::Mul(c) => B::float_mul_scalar(x, c.into()),
            Self::Div(c) => B::float_div_scalar(x, c.into()),
            Self::SubFrom(c) => B::float_add_scalar(B::float_neg(x), c.into()),
            Self::DivInto(c) => B::float_mul_scalar(B::float_recip(x), c.into()),
            Self::Pow(2.0) => B::float_mul(x.clone(), x),
            Self::Pow(0.5) => B::float_sqrt(x),
            Self::Pow(c) => B::float_powf_scalar(x, c.into()),
        }
    }
}

impl Clip {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        let x = match self.min {
            Some(min) => B::float_clamp_min(x, min.into()),
            None => x,
        };
        match self.max {
            Some(max) => B::float_clamp_max(x, max.into()),
            None => x,
        }
    }
}
