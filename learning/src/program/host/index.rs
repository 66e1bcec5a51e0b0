//! Ops that pick integers by integers, or put them where integers say.

use super::{Inputs, strides};
use crate::ops::places::{self, Reduction};
use crate::program::node::Attributes;
use crate::program::{Host, Indexing, Problem, axis, refuse};

/// Slices along one axis.
pub(super) fn gather(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axis"])?;
    let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
    let along = axis(node.int("axis", 0), data.rank())?;
    let (before, after) = (&data.shape[..along], &data.shape[along + 1..]);
    let shape: Vec<usize> = before.iter().chain(&indices.shape).chain(after).copied().collect();
    let mut out = Host::new(data.element, shape, None)?;
    if let (Some(values), Some(picks)) = (&data.values, &indices.values) {
        let len = data.shape[along];
        let picks = picks.iter().map(|&i| axis(i, len)).collect::<Result<Vec<_>, _>>()?;
        let inner: usize = after.iter().product();
        let mut made = Vec::with_capacity(out.n_elements());
        for row in 0..before.iter().product() {
            for pick in &picks {
                made.extend_from_slice(&values[(row * len + pick) * inner..][..inner]);
            }
        }
        out.values = Some(made.into());
    }
    Ok(vec![out])
}

/// The row-major positions that known indices name.
fn positions(indexing: &Indexing, indices: &Host) -> Result<Vec<usize>, Problem> {
    let resolved = indexing.resolve(indices)?.values.unwrap_or_else(|| [].into());
    Ok(resolved.iter().map(|&v| v.max(0) as usize).collect())
}

pub(super) fn gather_elements(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axis"])?;
    let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
    let indexing = places::elements(node, &data.shape, &indices.shape)?;
    let mut out = Host::new(data.element, indices.shape.clone(), None)?;
    if let (Some(values), Some(_)) = (&data.values, &indices.values) {
        out.values = Some(positions(&indexing, indices)?.into_iter().map(|p| values[p]).collect());
    }
    Ok(vec![out])
}

pub(super) fn gather_nd(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["batch_dims"])?;
    let (data, indices) = (inputs.get(0)?, inputs.get(1)?);
    let rows = places::rows(node.int("batch_dims", 0), &data.shape, &indices.shape)?;
    let mut out = Host::new(data.element, rows.shape.clone(), None)?;
    if let (Some(values), Some(_)) = (&data.values, &indices.values) {
        let len: usize = rows.row.iter().product();
        let named = positions(&rows.indexing, indices)?;
        out.values = Some(named.iter().flat_map(|row| &values[row * len..][..len]).copied().collect());
    }
    Ok(vec![out])
}

/// Puts `updates` at `positions`.
fn put(data: &Host, positions: impl Iterator<Item = usize>, updates: &[i64], reduction: Reduction) -> Result<Host, Problem> {
    let mut out = Host::new(data.element, data.shape.clone(), None)?;
    let Some(values) = &data.values else { return Ok(out) };
    let mut values = values.to_vec();
    for (position, &new) in positions.zip(updates) {
        let old = values[position];
        let made = match reduction {
            Reduction::Replace => Some(new),
            Reduction::Add => old.checked_add(new),
            Reduction::Mul => old.checked_mul(new),
            Reduction::Min => Some(old.min(new)),
            Reduction::Max => Some(old.max(new)),
        };
        values[position] = made.ok_or_else(|| {
            refuse(
                "its integer arithmetic overflows",
                "correct the shape arithmetic of the model, or the data",
            )
        })?;
    }
    out.values = Some(values.into());
    Ok(out)
}

/// The data as they come out where something is not known yet.
fn unknown(data: &Host) -> Result<Vec<Host>, Problem> {
    Ok(vec![Host::new(data.element, data.shape.clone(), None)?])
}

pub(super) fn scatter_elements(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axis", "reduction"])?;
    let (data, indices, updates) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
    let indexing = places::elements(node, &data.shape, &indices.shape)?;
    let reduction = places::reduction(node)?;
    if updates.shape != indices.shape {
        return Err(differ(&updates.shape, &indices.shape));
    }
    let (Some(new), Some(_)) = (&updates.values, &indices.values) else {
        return unknown(data);
    };
    Ok(vec![put(data, positions(&indexing, indices)?.into_iter(), new, reduction)?])
}

pub(super) fn scatter_nd(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["reduction"])?;
    let (data, indices, updates) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
    let rows = places::rows(0, &data.shape, &indices.shape)?;
    let reduction = places::reduction(node)?;
    if updates.shape != rows.shape {
        return Err(differ(&updates.shape, &rows.shape));
    }
    let (Some(new), Some(_)) = (&updates.values, &indices.values) else {
        return unknown(data);
    };
    let len: usize = rows.row.iter().product();
    let named = positions(&rows.indexing, indices)?;
    let each = named.into_iter().flat_map(|row| (0..len).map(move |i| row * len + i));
    Ok(vec![put(data, each, new, reduction)?])
}

pub(crate) fn differ(updates: &[usize], named: &[usize]) -> Problem {
    refuse(
        format!("its updates have the shape {updates:?} where its indices name {named:?}"),
        "correct the shapes",
    )
}

/// How many there are follows from the values, so these must be known.
pub(super) fn non_zero(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let (x, values) = (inputs.get(0)?, inputs.known(0)?);
    let found: Vec<usize> = (0..values.len()).filter(|&i| values[i] != 0).collect();
    let own = strides(&x.shape);
    let mut made = Vec::new();
    for (step, len) in own.iter().zip(&x.shape) {
        made.extend(found.iter().map(|i| (i / step % len) as i64));
    }
    Ok(vec![Host::ints(vec![x.rank(), found.len()], made)?])
}

/// The slices along an axis (or the elements) that a known condition picks.
pub(super) fn compress(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    let x = inputs.get(0)?;
    let (along, picks) = compressed(node, &x.shape, inputs.known(1)?)?;
    let flat = Host {
        shape: along.map_or_else(|| vec![x.n_elements()], |_| x.shape.clone()),
        slot: None,
        ..x.clone()
    };
    let axis = along.unwrap_or(0);
    let mut shape = flat.shape.clone();
    shape[axis] = picks.len();
    let mut out = Host::new(x.element, shape, None)?;
    if let Some(values) = &flat.values {
        let inner: usize = flat.shape[axis + 1..].iter().product();
        let outer: usize = flat.shape[..axis].iter().product();
        let len = flat.shape[axis];
        let rows = (0..outer).flat_map(|row| picks.iter().map(move |pick| row * len + pick));
        out.values = Some(rows.flat_map(|row| &values[row * inner..][..inner]).copied().collect());
    }
    Ok(vec![out])
}

/// The axis (`None`: all elements in a list) and what `Compress` takes along it.
pub(crate) fn compressed(node: &Attributes<'_>, dims: &[usize], condition: &[i64]) -> Result<(Option<usize>, Vec<usize>), Problem> {
    node.knows(&["axis"])?;
    let along = match node.proto.attribute.is_empty() {
        true => None,
        false => Some(axis(node.int("axis", 0), dims.len())?),
    };
    let len = along.map_or_else(|| dims.iter().product(), |d| dims[d]);
    if condition.len() > len {
        return Err(refuse(
            format!("its condition has {} values for {len}", condition.len()),
            "make it shorter",
        ));
    }
    Ok((along, (0..condition.len()).filter(|&i| condition[i] != 0).collect()))
}
