//! Shape rules that the device side and the host side of an op share.

use crate::program::Attributes;
use crate::program::{Problem, axis, refuse};

/// The part of the dimensions that `Shape` with `start` and `end` gives.
pub(crate) fn shape(node: &Attributes<'_>, dims: &[usize]) -> Vec<i64> {
    let rank = dims.len() as i64;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (clamp(node.int("start", 0)), clamp(node.int("end", rank)));
    dims.get(start..end).unwrap_or_default().iter().map(|&d| d as i64).collect()
}

/// 0 keeps a dimension (unless `allowzero`), one -1 takes what is left.
pub(crate) fn reshape(node: &Attributes<'_>, old: &[usize], wanted: &[i64]) -> Result<Vec<usize>, Problem> {
    let wrong = || refuse(format!("a tensor of shape {old:?} can't become {wanted:?}"), "correct the shape");
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &dim) in wanted.iter().enumerate() {
        match dim {
            -1 if open.is_none() => {
                open = Some(i);
                shape.push(1);
            }
            0 if !node.flag("allowzero") => shape.push(*old.get(i).ok_or_else(wrong)?),
            _ => shape.push(usize::try_from(dim).map_err(|_| wrong())?),
        }
    }
    let len: usize = old.iter().product();
    let known = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(wrong)?;
    if let Some(open) = open {
        shape[open] = len.checked_div(known).ok_or_else(wrong)?;
    }
    if shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(len) {
        return Err(wrong());
    }
    Ok(shape)
}

/// Two dimensions: those before `axis` and those from it on.
pub(crate) fn flatten(node: &Attributes<'_>, dims: &[usize]) -> Result<Vec<usize>, Problem> {
    node.knows(&["axis"])?;
    let at = match node.int("axis", 1) {
        end if end == dims.len() as i64 => dims.len(),
        other => axis(other, dims.len())?,
    };
    Ok(vec![dims[..at].iter().product(), dims[at..].iter().product()])
}

/// Axes from an input (since opset 13) or the attribute.
fn given_axes(node: &Attributes<'_>, given: Option<&[i64]>, rank: usize) -> Result<Option<Vec<usize>>, Problem> {
    let given = given.or_else(|| node.int_list("axes"));
    given.map(|axes| axes.iter().map(|&a| axis(a, rank)).collect()).transpose()
}

/// Without the axes of length 1 that are named, or all of them.
pub(crate) fn squeeze(node: &Attributes<'_>, dims: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>, Problem> {
    let axes = given_axes(node, axes, dims.len())?;
    let axes = axes.unwrap_or_else(|| (0..dims.len()).filter(|&i| dims[i] == 1).collect());
    if let Some(&wide) = axes.iter().find(|&&a| dims[a] != 1) {
        return Err(refuse(format!("dimension {wide} of {dims:?} is not 1"), "correct the axes"));
    }
    let kept = dims.iter().enumerate().filter(|(i, _)| !axes.contains(i));
    Ok(kept.map(|(_, &d)| d).collect())
}

/// With new axes of length 1.
pub(crate) fn unsqueeze(node: &Attributes<'_>, dims: &[usize], axes: Option<&[i64]>) -> Result<Vec<usize>, Problem> {
    let count = axes.or_else(|| node.int_list("axes")).map_or(0, <[i64]>::len);
    let rank = dims.len() + count;
    let mut axes = given_axes(node, axes, rank)?.unwrap_or_default();
    axes.sort_unstable();
    axes.dedup();
    if axes.len() != count || count == 0 {
        return Err(refuse("its axes are missing or repeat", "name each new dimension once"));
    }
    let mut old = dims.iter();
    Ok((0..rank)
        .filter_map(|i| if axes.contains(&i) { Some(1) } else { old.next().copied() })
        .collect())
}

/// `perm`, or all axes backwards.
pub(crate) fn permutation(node: &Attributes<'_>, rank: usize) -> Result<Vec<usize>, Problem> {
    let axes = match node.int_list("perm") {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?,
    };
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Err(refuse(
            format!("its `perm` is {axes:?} for {rank} dimensions"),
            "name each dimension once",
        ));
    }
    Ok(axes)
}

/// The axis to join along, and the shape that comes out.
pub(crate) fn concat(node: &Attributes<'_>, parts: &[&[usize]]) -> Result<(usize, Vec<usize>), Problem> {
    let first = *parts.first().ok_or_else(|| refuse("it has no inputs", "export the model again"))?;
    let along = axis(node.int("axis", 1), first.len())?;
    let mut shape = first.to_vec();
    for part in &parts[1..] {
        let fits = part.len() == first.len() && (0..first.len()).all(|i| i == along || part[i] == first[i]);
        if !fits {
            return Err(refuse(
                format!("the shapes {first:?} and {part:?} can't be joined along {along}"),
                "correct the shapes",
            ));
        }
        shape[along] += part[along];
    }
    Ok((along, shape))
}
