//! Indices that come from a batch, on their way to the device: checked, made non-negative, and turned into what a kernel reads.

use super::{Element, Host, Problem, axis, refuse};
use crate::array::n_elements;

/// What indices point into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Indexing {
    /// Along an axis of this length. The shape stays.
    Axis(usize),
    /// Along `axis` of a tensor of `shape`, the other coordinates being those of the index itself (GatherElements). Gives row-major
    /// positions, as a list.
    Elements { shape: Vec<usize>, axis: usize },
    /// Tuples along the last axis, which name rows of a tensor of `shape` behind `batch` axes that both have (GatherND). Gives the
    /// numbers of the rows, as a list.
    Rows { shape: Vec<usize>, batch: usize },
    /// The class along a new axis of `depth` classes (OneHot). Gives booleans; an index outside is in no class.
    OneHot { depth: usize, axis: usize },
}

fn outside(v: i64, len: usize) -> Problem {
    refuse(
        format!("the index {v} is outside an axis of {len}"),
        "correct the data (for instance a token that the vocabulary does not have), or use a model with a longer axis",
    )
}

fn along(v: i64, len: usize) -> Result<usize, Problem> {
    axis(v, len).map_err(|_| outside(v, len))
}

impl Indexing {
    /// The shape of what [`Self::resolve`] makes of indices of `shape`. For checked shapes: see the planners of the ops.
    pub(crate) fn shape(&self, shape: &[usize]) -> Vec<usize> {
        match self {
            Self::Axis(_) => shape.to_vec(),
            Self::Elements { .. } => vec![n_elements(shape).unwrap_or(usize::MAX)],
            Self::Rows { .. } => vec![n_elements(&shape[..shape.len().saturating_sub(1)]).unwrap_or(usize::MAX)],
            Self::OneHot { depth, axis } => {
                let mut shape = shape.to_vec();
                shape.insert((*axis).min(shape.len()), *depth);
                shape
            }
        }
    }

    /// # Errors
    /// For an index outside, and for indices that are not known.
    pub(crate) fn resolve(&self, indices: &Host) -> Result<Host, Problem> {
        let Some(values) = indices.values.as_deref() else {
            return Err(refuse("its indices are not known", "report this as a defect"));
        };
        // Checks the size before anything of it is made.
        let mut out = Host::new(indices.element, self.shape(&indices.shape), None)?;
        let made: Vec<i64> = match self {
            Self::Axis(len) => values.iter().map(|&v| along(v, *len).map(|v| v as i64)).collect::<Result<_, _>>()?,
            Self::Elements { shape, axis } => elements(values, &indices.shape, shape, *axis)?,
            Self::Rows { shape, batch } => rows(values, &indices.shape, shape, *batch)?,
            Self::OneHot { depth, axis } => {
                out.element = Element::Bool;
                let class = |v: i64| if v < 0 { v.saturating_add(*depth as i64) } else { v };
                let inner: usize = indices.shape[*axis..].iter().product();
                let mut made = vec![0; out.n_elements()];
                for (i, &v) in values.iter().enumerate() {
                    if let Some(class) = usize::try_from(class(v)).ok().filter(|class| class < depth) {
                        made[(i / inner * depth + class) * inner + i % inner] = 1;
                    }
                }
                made
            }
        };
        out.values = Some(made.into());
        Ok(out)
    }
}

fn elements(values: &[i64], of: &[usize], shape: &[usize], axis: usize) -> Result<Vec<i64>, Problem> {
    let strides = super::host::strides(shape);
    let mut at = vec![0usize; of.len()];
    let mut made = Vec::with_capacity(values.len());
    for &v in values {
        let position = |(d, &c): (usize, &usize)| Ok::<usize, Problem>(strides[d] * if d == axis { along(v, shape[axis])? } else { c });
        made.push(at.iter().enumerate().map(position).sum::<Result<usize, _>>()? as i64);
        for d in (0..of.len()).rev() {
            at[d] += 1;
            if at[d] < of[d] {
                break;
            }
            at[d] = 0;
        }
    }
    Ok(made)
}

fn rows(values: &[i64], of: &[usize], shape: &[usize], batch: usize) -> Result<Vec<i64>, Problem> {
    let width = of.last().copied().unwrap_or(1);
    let named = &shape[batch..batch + width];
    let rows_in_batch: usize = named.iter().product();
    let tuples: usize = of[batch..of.len() - 1].iter().product();
    let mut made = Vec::new();
    for (i, tuple) in values.chunks(width.max(1)).enumerate() {
        let mut row = i / tuples.max(1) * rows_in_batch;
        let mut stride = rows_in_batch;
        for (&v, &len) in tuple.iter().zip(named) {
            stride /= len.max(1);
            row += along(v, len)? * stride;
        }
        made.push(row as i64);
    }
    Ok(made)
}
