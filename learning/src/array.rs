//! Arrays on the host: what goes into a model and comes out of it.

/// A dense array, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    shape: Vec<usize>,
    values: Values,
}

/// An array's elements.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// float32.
    Floats(Vec<f32>),
    /// int64 (or int32, widened).
    Ints(Vec<i64>),
    /// Booleans.
    Bools(Vec<bool>),
}

impl Values {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Floats(v) => v.len(),
            Self::Ints(v) => v.len(),
            Self::Bools(v) => v.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The product of a shape; `None` where it overflows, or that of a part of it would (as behind an axis of length 0).
pub(crate) fn n_elements(shape: &[usize]) -> Option<usize> {
    let parts = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { parts })
}

impl Array {
    /// `None` when the shape asks for another number of values.
    pub fn new(shape: Vec<usize>, values: Values) -> Option<Self> {
        (n_elements(&shape) == Some(values.len())).then_some(Self { shape, values })
    }

    /// float32; `None` when the shape asks for another number of values.
    pub fn floats(shape: Vec<usize>, values: Vec<f32>) -> Option<Self> {
        Self::new(shape, Values::Floats(values))
    }

    /// int64; `None` when the shape asks for another number of values.
    pub fn ints(shape: Vec<usize>, values: Vec<i64>) -> Option<Self> {
        Self::new(shape, Values::Ints(values))
    }

    /// A list of float32.
    pub fn float_list(values: Vec<f32>) -> Self {
        Self {
            shape: vec![values.len()],
            values: Values::Floats(values),
        }
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// The elements, owned.
    pub fn into_values(self) -> Values {
        self.values
    }

    /// The elements where they are float32.
    pub fn as_floats(&self) -> Option<&[f32]> {
        match &self.values {
            Values::Floats(v) => Some(v),
            _ => None,
        }
    }

    /// The elements where they are integers.
    pub fn as_ints(&self) -> Option<&[i64]> {
        match &self.values {
            Values::Ints(v) => Some(v),
            _ => None,
        }
    }

    /// The same elements in another shape; `None` when it asks for another number of values.
    #[must_use]
    pub fn reshaped(self, shape: Vec<usize>) -> Option<Self> {
        Self::new(shape, self.values)
    }

    /// The rows (of the first axis) with these indices, in this order; `None` for a scalar, or when one is past the end.
    pub fn select_rows(&self, rows: &[usize]) -> Option<Self> {
        fn pick<T: Copy>(values: &[T], rows: &[usize], len: usize) -> Vec<T> {
            rows.iter().flat_map(|&row| &values[row * len..][..len]).copied().collect()
        }
        let (&there, rest) = self.shape.split_first()?;
        if rows.iter().any(|&row| row >= there) {
            return None;
        }
        let len = self.row_len();
        let values = match &self.values {
            Values::Floats(v) => Values::Floats(pick(v, rows, len)),
            Values::Ints(v) => Values::Ints(pick(v, rows, len)),
            Values::Bools(v) => Values::Bools(pick(v, rows, len)),
        };
        Self::new([&[rows.len()], rest].concat(), values)
    }

    /// Elements of one row: everything after the first axis.
    pub fn row_len(&self) -> usize {
        self.shape.get(1..).unwrap_or_default().iter().product()
    }
}
