//! Ops that make integers from shapes and numbers.

use aimass_onnx::{ElementType, TensorRef};

use super::Inputs;
use crate::ops::picks;
use crate::program::node::Attributes;
use crate::program::{Element, Host, Indexing, Problem, axis, refuse};

pub(super) fn size(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    Ok(vec![Host::ints(Vec::new(), vec![inputs.get(0)?.n_elements() as i64])?])
}

pub(super) fn range(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let one = |i: usize| match inputs.known(i)? {
        &[value] => Ok(value),
        _ => Err(refuse(format!("its input {i} is not one number"), "make it a scalar")),
    };
    let (start, limit, step) = (one(0)?, one(1)?, one(2)?);
    if step == 0 {
        return Err(refuse("its step is 0", "use another step"));
    }
    let distance = i128::from(limit) - i128::from(start);
    let count = if (distance > 0) == (step > 0) {
        distance.unsigned_abs().div_ceil(u128::from(step.unsigned_abs()))
    } else {
        0
    };
    let len = picks::range_len(count as f64)?;
    // Each is between start and limit, so nothing overflows.
    Ok(vec![Host::ints(
        vec![len],
        (0..len as i64).map(|i| start.saturating_add(i.saturating_mul(step))).collect(),
    )?])
}

/// The value that `ConstantOfShape` fills with; float 0 where the file says none.
pub(crate) fn fill_value(node: &Attributes<'_>) -> Result<Fill, Problem> {
    let wrong = || refuse("its `value` is not one float32, int64, int32 or boolean", "correct the attribute");
    let Some(tensor) = node.tensor_value("value") else {
        return Ok(Fill::Float(0.0));
    };
    let tensor = TensorRef::new(tensor).map_err(|_| wrong())?;
    let fill = match tensor.element {
        ElementType::F32 => tensor.to_f32().as_deref().and_then(|v| v.first().map(|&v| Fill::Float(v))),
        ElementType::I64 | ElementType::I32 => tensor.to_i64().and_then(|v| v.first().map(|&v| Fill::Int(v))),
        ElementType::Bool => tensor.to_bool().and_then(|v| v.first().map(|&v| Fill::Bool(v))),
        _ => None,
    };
    fill.ok_or_else(wrong)
}

/// See [`fill_value`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fill {
    Float(f32),
    Int(i64),
    Bool(bool),
}

pub(super) fn constant_of_shape(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["value"])?;
    let (element, value) = match fill_value(node)? {
        Fill::Int(value) => (Element::Int, value),
        Fill::Bool(value) => (Element::Bool, i64::from(value)),
        Fill::Float(_) => return Err(refuse("it makes floats", "report this as a defect")),
    };
    let mut out = Host::new(element, picks::shape_of(inputs.known(0)?)?, None)?;
    out.values = Some(std::iter::repeat_n(value, out.n_elements()).collect());
    Ok(vec![out])
}

pub(super) fn eye_like(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    let x = inputs.get(0)?;
    let mut out = Host::new(
        if node.int("dtype", 7) == 9 { Element::Bool } else { Element::Int },
        x.shape.clone(),
        None,
    )?;
    out.values = Some(diagonal(node, &x.shape)?.map(i64::from).collect());
    Ok(vec![out])
}

/// Which elements of a matrix of the shape `dims` are on the diagonal that `EyeLike` fills.
pub(crate) fn diagonal(node: &Attributes<'_>, dims: &[usize]) -> Result<impl Iterator<Item = bool> + use<>, Problem> {
    node.knows(&["dtype", "k"])?;
    let &[rows, columns] = dims else {
        return Err(refuse(format!("its input has the shape {dims:?}"), "it takes a matrix"));
    };
    let k = node.int("k", 0);
    let on = move |i: usize| (i % columns) as i64 == ((i / columns) as i64).saturating_add(k);
    Ok((0..rows.saturating_mul(columns)).map(on))
}

/// The classes of `OneHot`, and the axis that they make.
pub(crate) fn one_hot_indexing(node: &Attributes<'_>, rank: usize, depth: &[i64]) -> Result<Indexing, Problem> {
    node.knows(&["axis"])?;
    let depth = match depth {
        &[depth] => usize::try_from(depth).ok(),
        _ => None,
    };
    let depth = depth.ok_or_else(|| refuse("its depth is not one number from 0", "correct the depth"))?;
    Ok(Indexing::OneHot {
        depth,
        axis: axis(node.int("axis", -1), rank.saturating_add(1))?,
    })
}

pub(super) fn one_hot(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    let (indices, values) = (inputs.get(0)?, inputs.get(2)?);
    let indexing = one_hot_indexing(node, indices.rank(), inputs.known(1)?)?;
    if values.n_elements() != 2 {
        return Err(refuse("its values are not two", "give the value of the rest and that of the class"));
    }
    let mut out = Host::new(values.element, indexing.shape(&indices.shape), None)?;
    if let (Some(values), Some(_)) = (&values.values, &indices.values) {
        let mask = indexing.resolve(indices)?.values.unwrap_or_else(|| [].into());
        out.values = Some(mask.iter().map(|&on| values[usize::from(on != 0)]).collect());
    }
    Ok(vec![out])
}
