//! Ops that make booleans.

use burn_backend::tensor::BoolTensor;
use burn_backend::{Backend, TensorMetadata, get_or_init_device_settings};

use super::select::{condition, source};
use super::{DeviceTensor, Kernel, Operands};
use crate::program::host::broadcast_values;
use crate::program::{Element, Host, NodeView, Output, Planned, Problem, Value, broadcast, refuse};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
}

/// Two tensors of one kind, broadcast.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Compare {
    op: Op,
    shape: Vec<usize>,
}

/// One tensor, element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Test {
    Not,
    IsNan,
    IsInf { positive: bool, negative: bool },
}

fn bools(kernel: Kernel, inputs: Vec<&Value>, shape: Vec<usize>) -> Result<Planned, Problem> {
    Ok(Planned::Run {
        kernel,
        inputs: inputs.into_iter().map(source).collect(),
        outputs: vec![Output {
            element: Element::Bool,
            shape,
        }],
    })
}

pub(super) fn compare(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    let op = match node.op() {
        "Equal" => Op::Equal,
        "Less" => Op::Less,
        "LessOrEqual" => Op::LessOrEqual,
        "Greater" => Op::Greater,
        "GreaterOrEqual" => Op::GreaterOrEqual,
        "And" => Op::And,
        "Or" => Op::Or,
        _ => Op::Xor,
    };
    let logical = matches!(op, Op::And | Op::Or | Op::Xor);
    let wrong = a.element() != b.element()
        || logical && a.element() != Element::Bool
        || !logical && op != Op::Equal && a.element() == Element::Bool;
    if wrong {
        return Err(refuse(
            format!("it compares {} with {}", a.element(), b.element()),
            "cast both to one type in the model",
        ));
    }
    let shape = broadcast(a.shape(), b.shape()).ok_or_else(|| {
        refuse(
            format!("the shapes {:?} and {:?} do not broadcast", a.shape(), b.shape()),
            "correct the shapes",
        )
    })?;
    if let Some(host) = known(op, a, b, &shape)? {
        return Planned::host(host);
    }
    let kernel = Compare { op, shape: shape.clone() };
    bools(Kernel::Compare(kernel), vec![a, b], shape)
}

/// Between floats that never change the host compares, so that what follows from it is known.
fn known(op: Op, a: &Value, b: &Value, shape: &[usize]) -> Result<Option<Host>, Problem> {
    let (Value::Tensor(a), Value::Tensor(b)) = (a, b) else {
        return Ok(None);
    };
    let (Some(x), Some(y)) = (&a.constant, &b.constant) else {
        return Ok(None);
    };
    let mut out = Host::new(Element::Bool, shape.to_vec(), None)?;
    let read = |values: &[f32], from: &[usize]| broadcast_values(values, from, shape);
    let both = read(x, &a.shape).into_iter().zip(read(y, &b.shape));
    let holds = |(x, y): (f32, f32)| match op {
        Op::Less => x < y,
        Op::LessOrEqual => x <= y,
        Op::Greater => x > y,
        Op::GreaterOrEqual => x >= y,
        _ => x == y,
    };
    out.values = Some(both.map(|pair| i64::from(holds(pair))).collect());
    Ok(Some(out))
}

impl Compare {
    pub(super) fn run<B: Backend>(&self, operands: &mut Operands<B>) -> BoolTensor<B> {
        let (a, b) = (operands.any().expand(&self.shape), operands.any().expand(&self.shape));
        match (a, b) {
            (DeviceTensor::Float(a), DeviceTensor::Float(b)) => {
                let dtype = get_or_init_device_settings::<B>(&a.device()).bool_dtype;
                match self.op {
                    Op::Less => B::float_lower(a, b, dtype),
                    Op::LessOrEqual => B::float_lower_equal(a, b, dtype),
                    Op::Greater => B::float_greater(a, b, dtype),
                    Op::GreaterOrEqual => B::float_greater_equal(a, b, dtype),
                    _ => B::float_equal(a, b, dtype),
                }
            }
            (DeviceTensor::Int(a), DeviceTensor::Int(b)) => {
                let dtype = get_or_init_device_settings::<B>(&a.device()).bool_dtype;
                match self.op {
                    Op::Less => B::int_lower(a, b, dtype),
                    Op::LessOrEqual => B::int_lower_equal(a, b, dtype),
                    Op::Greater => B::int_greater(a, b, dtype),
                    Op::GreaterOrEqual => B::int_greater_equal(a, b, dtype),
                    _ => B::int_equal(a, b, dtype),
                }
            }
            (a, b) => {
                let (a, b) = (a.into_bool(), b.into_bool());
                match self.op {
                    Op::And => B::bool_and(a, b),
                    Op::Or => B::bool_or(a, b),
                    Op::Xor => B::bool_not_equal(a, b),
                    _ => B::bool_equal(a, b),
                }
            }
        }
    }
}

pub(super) fn not(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = condition(node, 0)?;
    bools(Kernel::Test(Test::Not), vec![x], x.shape().to_vec())
}

pub(super) fn is_special(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let test = if node.op() == "IsNaN" {
        node.knows(&[])?;
        Test::IsNan
    } else {
        node.knows(&["detect_negative", "detect_positive"])?;
        Test::IsInf {
            positive: node.int("detect_positive", 1) != 0,
            negative: node.int("detect_negative", 1) != 0,
        }
    };
    let shape = node.tensor(0)?.shape.clone();
    bools(Kernel::Test(test), vec![node.required(0)?], shape)
}

impl Test {
    pub(super) fn run<B: Backend>(self, x: DeviceTensor<B>) -> BoolTensor<B> {
        let (positive, negative) = match self {
            Self::Not => return B::bool_not(x.into_bool()),
            Self::IsNan => {
                let x = x.into_float();
                let dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
                return B::float_is_nan(x, dtype);
            }
            Self::IsInf { positive, negative } => (positive, negative),
        };
        let x = x.into_float();
        let dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
        match (positive, negative) {
            (true, true) => B::float_is_inf(x, dtype),
            (true, false) => B::float_equal_elem(x, f32::INFINITY.into(), dtype),
            (false, true) => B::float_equal_elem(x, f32::NEG_INFINITY.into(), dtype),
            (false, false) => B::bool_zeros(x.shape(), &x.device(), dtype),
        }
    }
}
