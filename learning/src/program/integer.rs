//! The integer side of a graph: small tensors that make up shapes and axes, evaluated while planning.

use super::{Problem, refuse};

/// Most elements of an integer tensor: shapes and axes are tiny.
const MAX_INTS: usize = 1 << 16;

/// Known integers, row-major. Booleans are 0 and 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ints {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<i64>,
}

fn overflow() -> Problem {
    refuse(
        "its integer arithmetic overflows or divides by zero",
        "correct the shape arithmetic of the model",
    )
}

impl Ints {
    /// `None` when shape and values differ or there are too many.
    pub(crate) fn new(shape: Vec<usize>, values: Vec<i64>) -> Option<Self> {
        let len = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (len == values.len() && len <= MAX_INTS).then_some(Self { shape, values })
    }

    /// A list.
    pub(crate) fn list(values: Vec<i64>) -> Self {
        Self {
            shape: vec![values.len()],
            values,
        }
    }

    /// The only element.
    pub(crate) fn scalar(&self) -> Option<i64> {
        if let [value] = self.values[..] { Some(value) } else { None }
    }

    /// Element by element; one side may be a single element.
    pub(crate) fn arithmetic(op: &str, a: &Self, b: &Self) -> Result<Self, Problem> {
        let apply = |a: i64, b: i64| match op {
            "Add" => a.checked_add(b),
            "Sub" => a.checked_sub(b),
            "Mul" => a.checked_mul(b),
            "Div" => a.checked_div(b),
            _ => None,
        };
        let (shape, pairs): (&[usize], Vec<(i64, i64)>) = if a.shape == b.shape {
            (&a.shape, a.values.iter().copied().zip(b.values.iter().copied()).collect())
        } else if let (Some(b), true) = (b.scalar(), a.shape.len() >= b.shape.len()) {
            (&a.shape, a.values.iter().map(|&a| (a, b)).collect())
        } else if let (Some(a), true) = (a.scalar(), b.shape.len() >= a.shape.len()) {
            (&b.shape, b.values.iter().map(|&b| (a, b)).collect())
        } else {
            return Err(refuse(
                format!("integer shapes {:?} and {:?} do not broadcast here", a.shape, b.shape),
                "make one of them a scalar",
            ));
        };
        let values = pairs
            .into_iter()
            .map(|(a, b)| apply(a, b).ok_or_else(overflow))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shape: shape.to_vec(),
            values,
        })
    }

    pub(crate) fn negated(&self) -> Result<Self, Problem> {
        let values = self
            .values
            .iter()
            .map(|v| v.checked_neg().ok_or_else(overflow))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shape: self.shape.clone(),
            values,
        })
    }

    /// Elements of a list by index: a scalar index gives a scalar, a list gives a list.
    pub(crate) fn gather(&self, indices: &Self) -> Result<Self, Problem> {
        if self.shape.len() != 1 {
            return Err(refuse(
                format!("integers of shape {:?} can't be gathered from", self.shape),
                "only lists are supported",
            ));
        }
        let values = indices
            .values
            .iter()
            .map(|&i| super::node::axis(i, self.values.len()).map(|i| self.values[i]))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            shape: indices.shape.clone(),
            values,
        })
    }

    /// Lists one after the other.
    pub(crate) fn concat(parts: &[&Self]) -> Result<Self, Problem> {
        if parts.iter().any(|p| p.shape.len() != 1) {
            return Err(refuse(
                "integers that are not lists can't be concatenated",
                "unsqueeze scalars first",
            ));
        }
        Self::new(
            vec![parts.iter().map(|p| p.values.len()).sum()],
            parts.iter().flat_map(|p| p.values.iter().copied()).collect(),
        )
        .ok_or_else(|| refuse("too many integers", "shapes hold a few numbers each"))
    }

    pub(crate) fn reshaped(&self, shape: Vec<usize>) -> Result<Self, Problem> {
        Self::new(shape, self.values.clone()).ok_or_else(|| refuse("the new shape holds another number of integers", "correct the shape"))
    }
}
