//! Tensors cut and joined along an axis.

use super::{Data, Tensor, TensorError};

/// Copies `start..end` of axis `axis` of `values`, which fill `shape`.
fn cut<T: Copy>(values: &[T], shape: &[usize], axis: usize, start: usize, end: usize) -> Vec<T> {
    let inner: usize = shape[axis + 1..].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut out = Vec::with_capacity(outer * inner * (end - start));
    for block in values.chunks_exact(shape[axis] * inner) {
        out.extend_from_slice(&block[start * inner..end * inner]);
    }
    out
}

/// Joins parts, each its values and how many of them lie together between two steps of the axes before the one joined along.
fn join<T: Copy>(parts: &[(&[T], usize)], outer: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(parts.iter().map(|(values, _)| values.len()).sum());
    for at in 0..outer {
        for (values, together) in parts {
            out.extend_from_slice(&values[at * together..(at + 1) * together]);
        }
    }
    out
}

impl Tensor {
    /// `start..end` of an axis, the others whole.
    ///
    /// # Errors
    /// [`TensorError::Range`] where there is no such range, or it is empty.
    pub fn slice(&self, axis: usize, start: usize, end: usize) -> Result<Self, TensorError> {
        let len = self.shape.get(axis).copied().unwrap_or(0);
        if start >= end || end > len {
            return Err(TensorError::Range { axis, len, start, end });
        }
        let mut shape = self.shape.clone();
        shape[axis] = end - start;
        let data = match &self.data {
            Data::Bool(values) => Data::Bool(cut(values, &self.shape, axis, start, end)),
            Data::U8(values) => Data::U8(cut(values, &self.shape, axis, start, end)),
            Data::I8(values) => Data::I8(cut(values, &self.shape, axis, start, end)),
            Data::I32(values) => Data::I32(cut(values, &self.shape, axis, start, end)),
            Data::I64(values) => Data::I64(cut(values, &self.shape, axis, start, end)),
            Data::F32(values) => Data::F32(cut(values, &self.shape, axis, start, end)),
            Data::F64(values) => Data::F64(cut(values, &self.shape, axis, start, end)),
        };
        Self::new(shape, data)
    }

    /// Tensors after each other along an axis.
    ///
    /// # Errors
    /// [`TensorError::Apart`] where there are none, or they differ in type or in another axis.
    pub fn concat(parts: &[&Self], axis: usize) -> Result<Self, TensorError> {
        let apart = TensorError::Apart { axis };
        let Some(first) = parts.first().filter(|first| axis < first.shape.len()) else {
            return Err(apart);
        };
        let fits = |part: &&Self| {
            part.datatype() == first.datatype()
                && part.shape.len() == first.shape.len()
                && (0..first.shape.len()).all(|i| i == axis || part.shape[i] == first.shape[i])
        };
        if !parts.iter().all(fits) {
            return Err(apart);
        }
        let mut shape = first.shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        let outer: usize = shape[..axis].iter().product();
        macro_rules! joined {
            ($($variant:ident),*) => {
                match &first.data {
                    $(Data::$variant(_) => {
                        let values = parts.iter().filter_map(|part| match &part.data {
                            Data::$variant(values) => Some((values.as_slice(), part.shape[axis..].iter().product())),
                            _ => None,
                        });
                        Data::$variant(join(&values.collect::<Vec<_>>(), outer))
                    })*
                }
            };
        }
        Self::new(shape, joined!(Bool, U8, I8, I32, I64, F32, F64))
    }

    /// Whether two tensors are the same but for rounding: `max |a - b| <= tolerance * max(1, max |b|)` for floats, equal for others.
    pub fn is_close(&self, other: &Self, tolerance: f64) -> bool {
        let close = |a: &mut dyn Iterator<Item = (f64, f64)>| {
            let (mut apart, mut largest) = (0.0f64, 1.0f64);
            for (a, b) in a {
                // NaN beside NaN is no difference; beside a number it is.
                if a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()) {
                    apart = if (a - b).is_nan() {
                        f64::INFINITY
                    } else {
                        apart.max((a - b).abs())
                    };
                }
                if b.is_finite() {
                    largest = largest.max(b.abs());
                }
            }
            apart <= tolerance * largest
        };
        self.shape == other.shape
            && match (&self.data, &other.data) {
                (Data::F32(a), Data::F32(b)) => close(&mut a.iter().zip(b).map(|(&a, &b)| (f64::from(a), f64::from(b)))),
                (Data::F64(a), Data::F64(b)) => close(&mut a.iter().zip(b).map(|(&a, &b)| (a, b))),
                (a, b) => a == b,
            }
    }

    /// Rows: the length of the first axis, 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }
}
