//! A tensor's values.

use super::{Datatype, TensorError};

/// A tensor's values, row-major.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Data {
    /// Truth values.
    Bool(Vec<bool>),
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// Signed bytes.
    I8(Vec<i8>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
}

/// Runs the same expression for the values of any type.
macro_rules! each {
    ($data:expr, $values:ident => $do:expr) => {
        match $data {
            Self::Bool($values) => $do,
            Self::U8($values) => $do,
            Self::I8($values) => $do,
            Self::I32($values) => $do,
            Self::I64($values) => $do,
            Self::F32($values) => $do,
            Self::F64($values) => $do,
        }
    };
}

impl Data {
    /// What it holds.
    pub fn datatype(&self) -> Datatype {
        match self {
            Self::Bool(_) => Datatype::Bool,
            Self::U8(_) => Datatype::U8,
            Self::I8(_) => Datatype::I8,
            Self::I32(_) => Datatype::I32,
            Self::I64(_) => Datatype::I64,
            Self::F32(_) => Datatype::F32,
            Self::F64(_) => Datatype::F64,
        }
    }

    /// How many values.
    pub fn len(&self) -> usize {
        each!(self, values => values.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `n` zeros (false for truth values).
    pub fn zeros(datatype: Datatype, n: usize) -> Self {
        match datatype {
            Datatype::Bool => Self::Bool(vec![false; n]),
            Datatype::U8 => Self::U8(vec![0; n]),
            Datatype::I8 => Self::I8(vec![0; n]),
            Datatype::I32 => Self::I32(vec![0; n]),
            Datatype::I64 => Self::I64(vec![0; n]),
            Datatype::F32 => Self::F32(vec![0.0; n]),
            Datatype::F64 => Self::F64(vec![0.0; n]),
        }
    }

    /// From little-endian bytes; a truth value is a byte of 0 or 1.
    ///
    /// # Errors
    /// [`TensorError::Bytes`] where they make no whole number of values, [`TensorError::Truth`] for another byte than 0 and 1.
    pub fn from_le_bytes(datatype: Datatype, bytes: &[u8]) -> Result<Self, TensorError> {
        let width = datatype.bytes();
        if !bytes.len().is_multiple_of(width) {
            return Err(TensorError::Bytes {
                found: bytes.len(),
                datatype,
            });
        }
        macro_rules! read {
            ($variant:ident, $type:ty) => {
                Self::$variant(bytes.as_chunks().0.iter().map(|b| <$type>::from_le_bytes(*b)).collect())
            };
        }
        Ok(match datatype {
            Datatype::Bool => match bytes.iter().position(|&b| b > 1) {
                Some(at) => return Err(TensorError::Truth { at, found: bytes[at] }),
                None => Self::Bool(bytes.iter().map(|&b| b == 1).collect()),
            },
            Datatype::U8 => Self::U8(bytes.to_vec()),
            Datatype::I8 => read!(I8, i8),
            Datatype::I32 => read!(I32, i32),
            Datatype::I64 => read!(I64, i64),
            Datatype::F32 => read!(F32, f32),
            Datatype::F64 => read!(F64, f64),
        })
    }

    /// Appends the values as little-endian bytes, as [`from_le_bytes`](Self::from_le_bytes) reads them.
    pub fn append_le_bytes(&self, out: &mut Vec<u8>) {
        out.reserve(self.len() * self.datatype().bytes());
        match self {
            Self::Bool(values) => out.extend(values.iter().map(|&v| u8::from(v))),
            Self::U8(values) => out.extend_from_slice(values),
            Self::I8(values) => values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
            Self::I32(values) => values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
            Self::I64(values) => values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
            Self::F32(values) => values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
            Self::F64(values) => values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes())),
        }
    }

    /// Index of the first value that is no finite number.
    pub fn first_not_finite(&self) -> Option<usize> {
        match self {
            Self::F32(values) => values.iter().position(|v| !v.is_finite()),
            Self::F64(values) => values.iter().position(|v| !v.is_finite()),
            _ => None,
        }
    }
}
