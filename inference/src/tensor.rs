//! Tensors that go into a served model and come out of it: a shape, and as many values of one type.

mod arrays;
mod data;
mod pieces;
#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use aimass_onnx::ElementType;

pub use data::Data;

/// Most axes of a tensor.
pub const MAX_RANK: usize = 8;

/// What a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Datatype {
    /// Truth values, a byte each.
    Bool,
    /// Unsigned bytes.
    U8,
    /// Signed bytes.
    I8,
    /// 32-bit integers.
    I32,
    /// 64-bit integers.
    I64,
    /// 32-bit floats.
    F32,
    /// 64-bit floats.
    F64,
}

impl Datatype {
    /// Every one.
    pub const ALL: [Self; 7] = [Self::Bool, Self::U8, Self::I8, Self::I32, Self::I64, Self::F32, Self::F64];

    /// The name in the Open Inference Protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::U8 => "UINT8",
            Self::I8 => "INT8",
            Self::I32 => "INT32",
            Self::I64 => "INT64",
            Self::F32 => "FP32",
            Self::F64 => "FP64",
        }
    }

    /// Bytes of one value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bool | Self::U8 | Self::I8 => 1,
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// Of an ONNX element type; `None` for one that is not served.
    pub fn of(element: ElementType) -> Option<Self> {
        Some(match element {
            ElementType::F32 => Self::F32,
            ElementType::I64 => Self::I64,
            ElementType::I32 => Self::I32,
            ElementType::Bool => Self::Bool,
            // ONNX's numbers of UINT8, INT8 and DOUBLE.
            ElementType::Other(2) => Self::U8,
            ElementType::Other(3) => Self::I8,
            ElementType::Other(11) => Self::F64,
            ElementType::Other(_) => return None,
        })
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Datatype {
    type Err = TensorError;

    fn from_str(name: &str) -> Result<Self, TensorError> {
        Self::ALL
            .into_iter()
            .find(|datatype| datatype.name() == name)
            .ok_or_else(|| TensorError::Datatype {
                found: name.chars().take(40).collect(),
            })
    }
}

/// A tensor that can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// Another number of values than the shape asks for.
    #[error("the shape {shape:?} asks for {wanted} values, {found} are given")]
    Count {
        /// The shape.
        shape: Vec<usize>,
        /// Its product.
        wanted: usize,
        /// Values given.
        found: usize,
    },
    /// A shape whose product is more than an address space.
    #[error("the shape {shape:?} asks for more values than any memory holds")]
    Overflow {
        /// The shape.
        shape: Vec<usize>,
    },
    /// An axis of length 0.
    #[error("the shape {shape:?} has an axis of length 0; every axis is at least 1 long")]
    Empty {
        /// The shape.
        shape: Vec<usize>,
    },
    /// Too many axes.
    #[error("{found} axes are over the limit of {MAX_RANK}")]
    Rank {
        /// How many.
        found: usize,
    },
    /// Not a type that is served.
    #[error("the datatype {found:?} is not served: use BOOL, UINT8, INT8, INT32, INT64, FP32 or FP64")]
    Datatype {
        /// What was given.
        found: String,
    },
    /// Bytes that make no whole number of values.
    #[error("{found} bytes make no whole number of {datatype} values of {} bytes", datatype.bytes())]
    Bytes {
        /// Bytes given.
        found: usize,
        /// The type.
        datatype: Datatype,
    },
    /// A byte that is no truth value.
    #[error("byte {at} of the BOOL values is {found}: false is 0, true is 1")]
    Truth {
        /// Its index.
        at: usize,
        /// The byte.
        found: u8,
    },
    /// Values that are not of a type.
    #[error("the values are not {datatype}; feed what the model takes")]
    Values {
        /// The type.
        datatype: Datatype,
    },
    /// Tensors that do not go together.
    #[error("tensors that are to be joined differ in type, or in another axis than {axis}")]
    Apart {
        /// The axis that they are joined along.
        axis: usize,
    },
    /// A range past the end of its axis.
    #[error("{start}..{end} is no range of axis {axis}, which is {len} long")]
    Range {
        /// The axis.
        axis: usize,
        /// Its length; 0 where the tensor has no such axis.
        len: usize,
        /// The first index.
        start: usize,
        /// One past the last.
        end: usize,
    },
}

/// A dense tensor, row-major. Its values fill its shape; no axis is empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

/// The product of a shape, where it is one that a tensor may have.
///
/// # Errors
/// [`TensorError::Rank`], [`TensorError::Empty`], [`TensorError::Overflow`].
pub fn count(shape: &[usize]) -> Result<usize, TensorError> {
    if shape.len() > MAX_RANK {
        return Err(TensorError::Rank { found: shape.len() });
    }
    if shape.contains(&0) {
        return Err(TensorError::Empty { shape: shape.to_vec() });
    }
    let product = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    product
        .filter(|&n| n <= isize::MAX as usize / 8)
        .ok_or_else(|| TensorError::Overflow { shape: shape.to_vec() })
}

impl Tensor {
    /// From parts.
    ///
    /// # Errors
    /// [`TensorError`] where `data` does not fill `shape`, or no tensor has such a shape.
    pub fn new(shape: Vec<usize>, data: Data) -> Result<Self, TensorError> {
        let wanted = count(&shape)?;
        if wanted != data.len() {
            return Err(TensorError::Count {
                shape,
                wanted,
                found: data.len(),
            });
        }
        Ok(Self { shape, data })
    }

    /// float32.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn f32(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, TensorError> {
        Self::new(shape, Data::F32(values))
    }

    /// Zeros.
    ///
    /// # Errors
    /// Where no tensor has such a shape. Its product is the caller's to bound.
    pub fn zeros(datatype: Datatype, shape: Vec<usize>) -> Result<Self, TensorError> {
        let n = count(&shape)?;
        Self::new(shape, Data::zeros(datatype, n))
    }

    /// Length of each axis.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The values.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Multiplies floats; others stay as they are.
    pub(crate) fn scale(&mut self, by: f32) {
        match &mut self.data {
            Data::F32(values) => values.iter_mut().for_each(|value| *value *= by),
            Data::F64(values) => values.iter_mut().for_each(|value| *value *= f64::from(by)),
            _ => {}
        }
    }

    /// The values, taken out.
    pub fn into_data(self) -> Data {
        self.data
    }

    /// What it holds.
    pub fn datatype(&self) -> Datatype {
        self.data.datatype()
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// Never: no axis is empty.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Bytes of the values.
    pub fn bytes(&self) -> usize {
        self.len() * self.datatype().bytes()
    }

    /// The values where they are float32.
    pub fn as_f32(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(values) => Some(values),
            _ => None,
        }
    }
}
