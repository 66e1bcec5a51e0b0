//! Ops that make floats from shapes and numbers.

use super::picks;
use crate::array::n_elements;
use crate::program::host::fill::{Fill, diagonal, fill_value};
use crate::program::{Element, Host, NodeView, Planned, Problem, Value, refuse};

fn constant(shape: Vec<usize>, values: impl FnOnce(usize) -> Vec<f32>) -> Result<Planned, Problem> {
    let len = picks::writable(n_elements(&shape).unwrap_or(usize::MAX))?;
    Ok(Planned::Constant {
        shape,
        values: values(len),
    })
}

pub(super) fn constant_of_shape(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["value"])?;
    let Fill::Float(value) = fill_value(node)? else {
        return Err(refuse(
            "it fills a shape that is computed from floats",
            "make the shape follow from shapes and constants",
        ));
    };
    constant(picks::shape_of(node.ints(0)?)?, |len| vec![value; len])
}

/// `EyeLike`: floats, unless `dtype` says otherwise.
pub(super) fn eye_like(node: &NodeView<'_>) -> Result<Planned, Problem> {
    const FLOAT: i64 = 1;
    const BOOL: i64 = 9;
    let shape = node.required(0)?.shape().to_vec();
    if node.int("dtype", FLOAT) != FLOAT {
        let element = if node.int("dtype", FLOAT) == BOOL {
            Element::Bool
        } else {
            Element::Int
        };
        let mut host = Host::new(element, shape.clone(), None)?;
        host.values = Some(diagonal(node, &shape)?.map(i64::from).collect());
        return Planned::host(host);
    }
    let on = diagonal(node, &shape)?;
    constant(shape, |_| on.map(|on| f32::from(u8::from(on))).collect())
}

/// Between numbers that are known.
pub(super) fn range(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let one = |i: usize| match node.required(i)? {
        Value::Tensor(tensor) => tensor.scalar().ok_or_else(|| {
            refuse(
                format!("its input {i} is computed from floats"),
                "make it follow from shapes and constants",
            )
        }),
        Value::Host(_) => Err(refuse("it goes from integers to floats", "cast all three numbers to one type")),
    };
    let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
    let count = ((f64::from(limit) - f64::from(start)) / f64::from(step)).ceil();
    let len = picks::range_len(count)?;
    constant(vec![len], |_| (0..len).map(|i| start + i as f32 * step).collect())
}

pub(super) fn size(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let n = n_elements(node.required(0)?.shape()).unwrap_or(usize::MAX);
    Planned::host(Host::ints(Vec::new(), vec![n as i64])?)
}
