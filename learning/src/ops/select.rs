//! Ops that choose between values by booleans.

use burn_backend::tensor::{BoolTensor, FloatTensor};
use burn_backend::{Backend, FloatDType, Shape};

use super::gather::indices;
use super::{DeviceTensor, Kernel, Operands};
use crate::program::host::cut::triangle;
use crate::program::host::fill::one_hot_indexing;
use crate::program::{Element, Host, NodeView, Output, Planned, Problem, Source, Value, broadcast, refuse};

/// `Where`, with its values broadcast.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Where {
    shape: Vec<usize>,
    /// What one side is everywhere, where it is one constant.
    constant: Option<(Side, f32)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    True,
    False,
}

/// The value of a kernel's input, wherever it is.
pub(super) fn source(value: &Value) -> Source {
    match value {
        Value::Tensor(tensor) => tensor.into(),
        Value::Host(host) => Source::Host(host.clone()),
    }
}

/// A boolean input, wherever it is.
pub(super) fn condition<'a>(node: &NodeView<'a>, i: usize) -> Result<&'a Value, Problem> {
    let value = node.required(i)?;
    if value.element() == Element::Bool {
        return Ok(value);
    }
    Err(refuse(
        format!("its input {i} is not made of booleans"),
        "cast it to bool in the model",
    ))
}

pub(super) fn select(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let (by, a, b) = (condition(node, 0)?, node.required(1)?, node.required(2)?);
    if a.element() != b.element() {
        return Err(refuse("it chooses between values of two types", "cast them to one type"));
    }
    let shape = broadcast(a.shape(), b.shape()).and_then(|s| broadcast(&s, by.shape()));
    let shape = shape.ok_or_else(|| {
        refuse(
            format!("the shapes {:?}, {:?} and {:?} do not broadcast", by.shape(), a.shape(), b.shape()),
            "correct the shapes",
        )
    })?;
    let one = |value: &Value| match value {
        Value::Tensor(tensor) => tensor.scalar(),
        Value::Host(_) => None,
    };
    let (inputs, constant) = match (one(a), one(b)) {
        (_, Some(c)) => (vec![source(by), source(a)], Some((Side::False, c))),
        (Some(c), None) => (vec![source(by), source(b)], Some((Side::True, c))),
        (None, None) => (vec![source(by), source(a), source(b)], None),
    };
    Ok(Planned::Run {
        kernel: Kernel::Where(Where {
            shape: shape.clone(),
            constant,
        }),
        inputs,
        outputs: vec![Output {
            element: a.element(),
            shape,
        }],
    })
}

impl Where {
    pub(super) fn run<B: Backend>(&self, operands: &mut Operands<B>) -> DeviceTensor<B> {
        let by = DeviceTensor::<B>::Bool(operands.next_bool()).expand(&self.shape).into_bool();
        let a = operands.any().expand(&self.shape);
        if let Some((side, constant)) = self.constant {
            let by = if side == Side::True { by } else { B::bool_not(by) };
            return DeviceTensor::Float(B::float_mask_fill(a.into_float(), by, constant.into()));
        }
        match (a, operands.any().expand(&self.shape)) {
            (DeviceTensor::Float(a), DeviceTensor::Float(b)) => DeviceTensor::Float(B::float_mask_where(b, by, a)),
            (DeviceTensor::Int(a), DeviceTensor::Int(b)) => DeviceTensor::Int(B::int_mask_where(b, by, a)),
            (a, b) => DeviceTensor::Bool(B::bool_mask_where(b.into_bool(), by, a.into_bool())),
        }
    }
}

/// `Trilu`, by a mask of what goes.
pub(super) fn trilu(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let x = node.tensor(0)?;
    let keep = triangle(node, &x.shape, node.optional_ints(1)?)?;
    let matrix: Vec<usize> = x.shape[x.rank() - 2..].to_vec();
    // Checks the size before anything of it is made.
    let mut mask = Host::new(Element::Bool, matrix, None)?;
    mask.values = Some((0..mask.n_elements()).map(|i| i64::from(keep(i))).collect());
    Ok(Planned::Run {
        kernel: Kernel::Where(Where {
            shape: x.shape.clone(),
            constant: Some((Side::False, 0.0)),
        }),
        inputs: vec![Source::Host(mask), x.into()],
        outputs: vec![Output::float(x.shape.clone())],
    })
}

/// The values of the rest and of the class, by a mask.
pub(super) fn one_hot(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let indices = indices(node, 0)?;
    let depth = match node.required(1)? {
        Value::Tensor(tensor) if tensor.constant.is_some() => tensor.scalar().map_or_else(Vec::new, |v| vec![v as i64]),
        _ => node.ints(1)?.to_vec(),
    };
    let indexing = one_hot_indexing(node, indices.rank(), &depth)?;
    let values = node.tensor(2)?;
    if values.shape != [2] {
        return Err(refuse("its values are not two", "give the value of the rest and that of the class"));
    }
    let shape = indexing.shape(&indices.shape);
    Ok(Planned::Run {
        kernel: Kernel::OneHot,
        inputs: vec![Source::Index(indices, indexing), values.into()],
        outputs: vec![Output::float(shape)],
    })
}

pub(super) fn run_one_hot<B: Backend>(mask: BoolTensor<B>, values: FloatTensor<B>) -> FloatTensor<B> {
    let mask = B::bool_into_float(mask, FloatDType::F32);
    let rank = burn_backend::TensorMetadata::shape(&mask).num_dims();
    let one = |i: usize| {
        let value = DeviceTensor::<B>::Float(values.clone()).slice(&[(i, 1)]).into_float();
        B::float_reshape(value, Shape::from(vec![1; rank]))
    };
    let (rest, class) = (one(0), one(1));
    B::float_add(B::float_mul(mask, B::float_sub(class, rest.clone())), rest)
}
