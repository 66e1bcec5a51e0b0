//! Ops that combine or order integers along axes.

use super::{Inputs, strides, walk};
use crate::ops::picks;
use crate::program::node::Attributes;
use crate::program::{Element, Host, Problem, axis, refuse};

fn overflow() -> Problem {
    refuse(
        "its integer arithmetic overflows",
        "correct the shape arithmetic of the model, or the data",
    )
}

/// The lines of a tensor along one axis: for each the first position, then the distance between neighbours and the length.
fn lines(dims: &[usize], along: usize) -> (Vec<usize>, usize, usize) {
    let own = strides(dims);
    let mut outer = dims.to_vec();
    outer[along] = 1;
    let mut first = Vec::new();
    walk(&outer, &own, |p| first.push(p));
    (first, own[along], dims[along])
}

/// The elements over `axes` in rows, row-major.
fn gathered(values: &[i64], dims: &[usize], axes: &[usize]) -> Vec<Vec<i64>> {
    let own = strides(dims);
    let part = |reduced: bool| {
        let kept = (0..dims.len()).filter(|d| axes.contains(d) == reduced);
        kept.map(|d| (dims[d], own[d])).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let ((outer, outer_steps), (inner, inner_steps)) = (part(false), part(true));
    let mut offsets = Vec::new();
    walk(&inner, &inner_steps, |p| offsets.push(p));
    let mut rows = Vec::new();
    walk(&outer, &outer_steps, |p| rows.push(offsets.iter().map(|o| values[p + o]).collect()));
    rows
}

pub(super) fn reduce(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axes", "keepdims", "noop_with_empty_axes"])?;
    let x = inputs.get(0)?;
    let axes = picks::reduced(node, inputs.optional_known(1)?, x.rank())?;
    let shape = picks::reduced_shape(&x.shape, &axes, node.int("keepdims", 1) != 0);
    let mut out = Host::new(x.element, shape, None)?;
    let Some(values) = &x.values else { return Ok(vec![out]) };
    let op = node.op();
    let one = |row: Vec<i64>| -> Option<i64> {
        let sum = || row.iter().try_fold(0i64, |sum, &v| sum.checked_add(v));
        match op {
            "ReduceSum" => sum(),
            "ReduceMean" => sum()?.checked_div(row.len() as i64),
            "ReduceProd" => row.iter().try_fold(1i64, |product, &v| product.checked_mul(v)),
            "ReduceMax" => row.into_iter().max(),
            "ReduceMin" => row.into_iter().min(),
            "ReduceL1" => row.iter().try_fold(0i64, |sum, &v| sum.checked_add(v.checked_abs()?)),
            _ => row.iter().try_fold(0i64, |sum, &v| sum.checked_add(v.checked_mul(v)?)),
        }
    };
    let made: Option<Vec<i64>> = gathered(values, &x.shape, &axes).into_iter().map(one).collect();
    out.values = Some(made.ok_or_else(overflow)?.into());
    Ok(vec![out])
}

pub(super) fn arg(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axis", "keepdims", "select_last_index"])?;
    let x = inputs.get(0)?;
    let along = axis(node.int("axis", 0), x.rank())?;
    if x.shape[along] == 0 {
        return Err(refuse("it looks for the largest of nothing", "feed larger inputs"));
    }
    let shape = picks::reduced_shape(&x.shape, &[along], node.int("keepdims", 1) != 0);
    let mut out = Host::new(Element::Int, shape, None)?;
    let Some(values) = &x.values else { return Ok(vec![out]) };
    let (largest, last) = (node.op() == "ArgMax", node.flag("select_last_index"));
    let (first, step, len) = lines(&x.shape, along);
    let one = |start: &usize| {
        let better = |a: i64, b: i64| if largest { a > b } else { a < b };
        let pick = |best: usize, i: usize| {
            let (old, new) = (values[start + best * step], values[start + i * step]);
            if better(new, old) || (last && new == old) { i } else { best }
        };
        (0..len).fold(0, pick) as i64
    };
    out.values = Some(first.iter().map(one).collect());
    Ok(vec![out])
}

pub(super) fn cumulative_sum(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["exclusive", "reverse"])?;
    let x = inputs.get(0)?;
    let &[along] = inputs.known(1)? else {
        return Err(refuse("its axis is not one number", "make it a scalar"));
    };
    let along = axis(along, x.rank())?;
    let mut out = Host::new(x.element, x.shape.clone(), None)?;
    let Some(values) = &x.values else { return Ok(vec![out]) };
    let (exclusive, reverse) = (node.flag("exclusive"), node.flag("reverse"));
    let (first, step, len) = lines(&x.shape, along);
    let mut made = vec![0i64; values.len()];
    for start in first {
        let mut sum = 0i64;
        for i in 0..len {
            let at = start + step * if reverse { len - 1 - i } else { i };
            let next = sum.checked_add(values[at]).ok_or_else(overflow)?;
            made[at] = if exclusive { sum } else { next };
            sum = next;
        }
    }
    out.values = Some(made.into());
    Ok(vec![out])
}

pub(super) fn top_k(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axis", "largest", "sorted", "k"])?;
    let x = inputs.get(0)?;
    let (along, k) = top(node, &x.shape, inputs.optional_known(1)?)?;
    let mut shape = x.shape.clone();
    shape[along] = k;
    let mut made = Host::new(x.element, shape.clone(), None)?;
    let mut places = Host::new(Element::Int, shape, None)?;
    if let Some(values) = &x.values {
        let largest = node.int("largest", 1) != 0;
        let (first, step, len) = lines(&x.shape, along);
        let (firsts, out_step, _) = lines(&made.shape, along);
        let (mut best, mut at) = (vec![0; made.n_elements()], vec![0; made.n_elements()]);
        for (start, out) in first.into_iter().zip(firsts) {
            let value = |i: usize| values[start + i * step];
            let mut order: Vec<usize> = (0..len).collect();
            // Stable, so that of equal ones the first comes first.
            order.sort_by_key(|&i| if largest { !value(i) } else { value(i) });
            for (i, &pick) in order.iter().take(k).enumerate() {
                best[out + i * out_step] = value(pick);
                at[out + i * out_step] = pick as i64;
            }
        }
        (made.values, places.values) = (Some(best.into()), Some(at.into()));
    }
    Ok(vec![made, places])
}

/// Axis and number of elements of `TopK`; `k` from an input (since opset 10) or the attribute.
pub(crate) fn top(node: &Attributes<'_>, dims: &[usize], k: Option<&[i64]>) -> Result<(usize, usize), Problem> {
    let along = axis(node.int("axis", -1), dims.len())?;
    let k = match k {
        Some(&[k]) => k,
        Some(_) => -1,
        None => node.int("k", -1),
    };
    match usize::try_from(k).ok().filter(|&k| k <= dims[along]) {
        Some(k) => Ok((along, k)),
        None => Err(refuse(
            format!("it takes {k} of an axis of {}", dims[along]),
            "ask for at most as many as there are",
        )),
    }
}
