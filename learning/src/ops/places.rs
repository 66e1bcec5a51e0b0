//! Which elements of a tensor indices name: rules that the device side and the host side of an op share.

use crate::program::{Attributes, Indexing, Problem, axis, refuse};

/// `GatherElements`, `ScatterElements`: indices of the shape `of` into a tensor of `dims`.
pub(crate) fn elements(node: &Attributes<'_>, dims: &[usize], of: &[usize]) -> Result<Indexing, Problem> {
    let along = axis(node.int("axis", 0), dims.len())?;
    let fits = of.len() == dims.len() && (0..dims.len()).all(|d| d == along || of[d] <= dims[d]);
    if !fits {
        return Err(refuse(
            format!("indices of the shape {of:?} do not fit a tensor of {dims:?} along axis {along}"),
            "correct the shapes",
        ));
    }
    Ok(Indexing::Elements {
        shape: dims.to_vec(),
        axis: along,
    })
}

/// Rows of a tensor that tuples of indices name.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) indexing: Indexing,
    /// How many there are in the tensor.
    pub(crate) rows: usize,
    /// The shape of one.
    pub(crate) row: Vec<usize>,
    /// The shape of those that are named.
    pub(crate) shape: Vec<usize>,
}

/// `GatherND` with `batch` axes in common, `ScatterND` with none: indices of the shape `of` into a tensor of `dims`.
pub(crate) fn rows(batch: i64, dims: &[usize], of: &[usize]) -> Result<Rows, Problem> {
    let wrong = || {
        refuse(
            format!("indices of the shape {of:?} do not fit a tensor of {dims:?} behind {batch} axes in common"),
            "correct the shapes",
        )
    };
    let batch = usize::try_from(batch).map_err(|_| wrong())?;
    let (&width, outer) = of.split_last().ok_or_else(wrong)?;
    let named = batch
        .checked_add(width)
        .filter(|&n| n <= dims.len() && width > 0)
        .ok_or_else(wrong)?;
    if batch > outer.len() || dims[..batch] != outer[..batch] {
        return Err(wrong());
    }
    let row = dims[named..].to_vec();
    Ok(Rows {
        indexing: Indexing::Rows {
            shape: dims.to_vec(),
            batch,
        },
        rows: dims[..named].iter().product(),
        shape: [outer, &row].concat(),
        row,
    })
}

/// What `ScatterElements` and `ScatterND` do where something is already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduction {
    Replace,
    Add,
    Mul,
    Min,
    Max,
}

pub(crate) fn reduction(node: &Attributes<'_>) -> Result<Reduction, Problem> {
    Ok(match node.text("reduction", "none").as_str() {
        "none" => Reduction::Replace,
        "add" => Reduction::Add,
        "mul" => Reduction::Mul,
        "min" => Reduction::Min,
        "max" => Reduction::Max,
        other => return Err(refuse(format!("its reduction is `{other}`"), "use none, add, mul, min or max")),
    })
}
