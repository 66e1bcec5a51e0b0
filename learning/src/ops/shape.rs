//! Ops that move or rename tensors.

use super::select::source;
use super::slice::moved;
use super::{Kernel, shapes};
use crate::program::{Element, Host, NodeView, Output, Planned, Problem, Source, Tensor, Value, refuse};

/// ONNX's numbers of element types.
const FLOAT: i64 = 1;
const INT32: i64 = 6;
const INT64: i64 = 7;
const BOOL: i64 = 9;

/// A reshape, or nothing where the shape stays.
pub(super) fn reshaped(x: &Tensor, shape: Vec<usize>) -> Result<Planned, Problem> {
    if shape == x.shape {
        return Planned::tensor(x);
    }
    moved(Kernel::Reshape(shape.clone()), x, shape)
}

pub(super) fn identity(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    Planned::same(node.required(0)?)
}

pub(super) fn cast(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["to", "saturate", "round_mode"])?;
    cast_to(node.required(0)?, node.int("to", 0))
}

/// To the type of another.
pub(super) fn cast_like(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["saturate", "round_mode"])?;
    let to = match node.required(1)?.element() {
        Element::Float => FLOAT,
        Element::Int => INT64,
        Element::Bool => BOOL,
        Element::Quantized(like) => {
            return match node.required(0)? {
                Value::Tensor(x) if x.element == Element::Quantized(like) => Planned::tensor(x),
                _ => Err(refuse(format!("it casts to {like}"), "quantize by QuantizeLinear")),
            };
        }
    };
    cast_to(node.required(0)?, to)
}

fn cast_to(value: &Value, to: i64) -> Result<Planned, Problem> {
    let x = match value {
        Value::Tensor(x) => x,
        Value::Host(host) => return cast_host(host, to),
    };
    let into = |kernel, element| {
        Ok(Planned::Run {
            kernel,
            inputs: vec![x.into()],
            outputs: vec![Output {
                element,
                shape: x.shape.clone(),
            }],
        })
    };
    if let (Some(constant), INT32 | INT64 | BOOL) = (&x.constant, to) {
        let element = if to == BOOL { Element::Bool } else { Element::Int };
        let cast = |v: &f32| if to == BOOL { i64::from(*v != 0.0) } else { *v as i64 };
        return Planned::host(Host::new(element, x.shape.clone(), Some(constant.iter().map(cast).collect()))?);
    }
    match (x.element, to) {
        (Element::Float, FLOAT) | (Element::Int, INT32 | INT64) | (Element::Bool, BOOL) => Planned::tensor(x),
        // They lie there as floats.
        (Element::Quantized(_), FLOAT) => Planned::tensor(&Tensor {
            element: Element::Float,
            ..x.clone()
        }),
        (_, FLOAT) => cast_to_float(x.into(), x.shape.clone()),
        (Element::Float | Element::Int | Element::Quantized(_), BOOL) => into(Kernel::IsNonZero, Element::Bool),
        (_, INT32 | INT64) => into(Kernel::ToInt, Element::Int),
        _ => Err(refuse(
            format!("it casts to the element type {to}"),
            "this version computes in float32 alone; export the model in float32",
        )),
    }
}

fn cast_host(host: &Host, to: i64) -> Result<Planned, Problem> {
    // The host itself casts to integers and booleans; here it is beside a value that is on the device.
    if let INT32 | INT64 = to
        && host.element == Element::Int
    {
        return Planned::host(host.clone());
    }
    if to != FLOAT {
        return Err(refuse(
            format!("it casts to the element type {to}"),
            "this version computes in float32 alone; export the model in float32",
        ));
    }
    match &host.values {
        Some(values) if !values.is_empty() => Ok(Planned::Constant {
            shape: host.shape.clone(),
            values: values.iter().map(|&v| v as f32).collect(),
        }),
        _ => cast_to_float(Source::Host(host.clone()), host.shape.clone()),
    }
}

fn cast_to_float(from: Source, shape: Vec<usize>) -> Result<Planned, Problem> {
    Ok(Planned::Run {
        kernel: Kernel::ToFloat,
        inputs: vec![from],
        outputs: vec![Output::float(shape)],
    })
}

pub(super) fn shape(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["start", "end"])?;
    Planned::host(Host::list(shapes::shape(node, node.required(0)?.shape())))
}

pub(super) fn concat(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis"])?;
    let parts = (0..node.inputs.len()).map(|i| node.required(i)).collect::<Result<Vec<_>, _>>()?;
    let dims: Vec<&[usize]> = parts.iter().map(|p| p.shape()).collect();
    let (axis, shape) = shapes::concat(node, &dims)?;
    let element = parts.first().map_or(Element::Float, |part| part.element());
    if parts.iter().any(|part| part.element() != element) {
        return Err(refuse("values of two types can't be joined", "cast them to one type"));
    }
    // Empty parts add nothing, and kernels take none.
    let filled = parts.into_iter().filter(|part| !part.shape().contains(&0));
    Ok(Planned::Run {
        kernel: Kernel::Concat(axis),
        inputs: filled.map(source).collect(),
        outputs: vec![Output { element, shape }],
    })
}

pub(super) fn flatten(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let x = node.any(0)?;
    reshaped(x, shapes::flatten(node, &x.shape)?)
}

pub(super) fn reshape(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["allowzero"])?;
    let x = node.any(0)?;
    reshaped(x, shapes::reshape(node, &x.shape, node.ints(1)?)?)
}

pub(super) fn transpose(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["perm"])?;
    let x = node.any(0)?;
    let axes = shapes::permutation(node, x.rank())?;
    let shape = axes.iter().map(|&a| x.shape[a]).collect();
    moved(Kernel::Permute(axes), x, shape)
}

pub(super) fn squeeze(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axes"])?;
    let x = node.any(0)?;
    reshaped(x, shapes::squeeze(node, &x.shape, node.optional_ints(1)?)?)
}

pub(super) fn unsqueeze(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axes"])?;
    let x = node.any(0)?;
    reshaped(x, shapes::unsqueeze(node, &x.shape, node.optional_ints(1)?)?)
}
