//! Ops that take parts of integers, or lay them out again.

use super::{Inputs, broadcast_values, strides};
use crate::ops::picks::{self, Border, Pads};
use crate::program::node::Attributes;
use crate::program::{Host, Problem, axis, refuse};

/// Takes along each axis what `picks` says (`None`: `fill`); `shape` is that of `picks`.
fn picked(x: &Host, shape: Vec<usize>, fill: i64, picks: impl Fn(usize) -> Result<Vec<Option<usize>>, Problem>) -> Result<Host, Problem> {
    // Checks the size before anything of it is made.
    let mut out = Host::new(x.element, shape, None)?;
    let Some(values) = &x.values else { return Ok(out) };
    if out.n_elements() == 0 {
        out.values = Some([].into());
        return Ok(out);
    }
    let own = strides(&x.shape);
    let mut places: Vec<Option<usize>> = vec![Some(0)];
    for (along, step) in own.into_iter().enumerate() {
        let picks = picks(along)?;
        let mut next = Vec::with_capacity(places.len().saturating_mul(picks.len()));
        for place in &places {
            next.extend(picks.iter().map(|pick| Some((*place)? + (*pick)? * step)));
        }
        places = next;
    }
    out.values = Some(places.into_iter().map(|place| place.map_or(fill, |p| values[p])).collect());
    Ok(out)
}

pub(super) fn slice(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    let x = inputs.get(0)?;
    let cuts = if node.opset < 10 {
        node.knows(&["starts", "ends", "axes"])?;
        let list = |name| node.int_list(name).unwrap_or_default();
        picks::slices(&x.shape, list("starts"), list("ends"), node.int_list("axes"), None)?
    } else {
        node.knows(&[])?;
        let (axes, steps) = (inputs.optional_known(3)?, inputs.optional_known(4)?);
        picks::slices(&x.shape, inputs.known(1)?, inputs.known(2)?, axes, steps)?
    };
    let shape = cuts.iter().map(|cut| cut.len).collect();
    Ok(vec![picked(x, shape, 0, |along| {
        Ok(cuts[along].picks().into_iter().map(Some).collect())
    })?])
}

pub(super) fn split(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axis", "split", "num_outputs"])?;
    let x = inputs.get(0)?;
    let along = axis(node.int("axis", 0), x.rank())?;
    let sizes = picks::split(node, x.shape[along], inputs.optional_known(1)?)?;
    let mut start = 0;
    let part = |size: usize| {
        let mut shape = x.shape.clone();
        shape[along] = size;
        let from = start;
        start += size;
        let range = |d: usize| if d == along { from..from + size } else { 0..x.shape[d] };
        picked(x, shape, 0, |d| Ok(range(d).map(Some).collect()))
    };
    sizes.into_iter().map(part).collect()
}

pub(super) fn expand(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let x = inputs.get(0)?;
    let mut out = Host::new(x.element, picks::expand(&x.shape, inputs.known(1)?)?, None)?;
    out.values = x
        .values
        .as_ref()
        .map(|values| broadcast_values(values, &x.shape, &out.shape).into());
    Ok(vec![out])
}

pub(super) fn tile(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let x = inputs.get(0)?;
    let shape = picks::tile(&x.shape, inputs.known(1)?)?;
    let long = shape.clone();
    Ok(vec![picked(x, shape, 0, |d| {
        Ok((0..long[d]).map(|i| Some(i % x.shape[d])).collect())
    })?])
}

pub(super) fn pad(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["mode"])?;
    let x = inputs.get(0)?;
    let pads = Pads::new(node, &x.shape, Some(inputs.known(1)?), inputs.optional_known(3)?)?;
    let fill = match inputs.optional_known(2)? {
        None => 0,
        Some([value]) => *value,
        Some(_) if pads.border != Border::Constant => 0,
        Some(_) => return Err(refuse("its constant is not one number", "make it a scalar")),
    };
    Ok(vec![picked(x, pads.shape.clone(), fill, |d| pads.picks(d, x.shape[d]))?])
}

/// The upper or lower triangle of matrices.
pub(super) fn trilu(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    let x = inputs.get(0)?;
    let keep = triangle(node, &x.shape, inputs.optional_known(1)?)?;
    let mut out = Host::new(x.element, x.shape.clone(), None)?;
    out.values = x.values.as_ref().map(|values| {
        let both = values.iter().enumerate();
        both.map(|(i, &v)| if keep(i) { v } else { 0 }).collect()
    });
    Ok(vec![out])
}

/// Whether a row-major position of a tensor of `dims` is in the triangle that `Trilu` keeps.
pub(crate) fn triangle(node: &Attributes<'_>, dims: &[usize], k: Option<&[i64]>) -> Result<impl Fn(usize) -> bool + use<>, Problem> {
    node.knows(&["upper"])?;
    let (&[.., rows, columns], &[k]) = (dims, k.unwrap_or(&[0])) else {
        return Err(refuse(
            format!("its input has the shape {dims:?}, or its `k` is not one number"),
            "it takes matrices and a scalar",
        ));
    };
    let upper = node.int("upper", 1) != 0;
    Ok(move |i: usize| {
        let (row, column) = ((i / columns % rows) as i64, (i % columns) as i64);
        let above = column.saturating_sub(row.saturating_add(k));
        if upper { above >= 0 } else { above <= 0 }
    })
}
