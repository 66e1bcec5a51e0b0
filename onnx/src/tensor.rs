//! Constant tensors with their checks.

use std::fmt;

use crate::ReadError;
use crate::error::shown;
use crate::proto::{DataLocation, DataType, SparseTensorProto, TensorProto};

/// Element type of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// Boolean.
    Bool,
    /// Any other ONNX type, by its number.
    Other(i32),
}

impl ElementType {
    /// By ONNX's number ([`DataType`]).
    pub fn from_number(number: i32) -> Self {
        match DataType::try_from(number) {
            Ok(DataType::Float) => Self::F32,
            Ok(DataType::Int64) => Self::I64,
            Ok(DataType::Int32) => Self::I32,
            Ok(DataType::Bool) => Self::Bool,
            _ => Self::Other(number),
        }
    }
}

impl fmt::Display for ElementType {
    /// `float32`, `int64`, `float16`, ...; `type 99` for one that ONNX does not have.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::F32 => f.write_str("float32"),
            Self::I64 => f.write_str("int64"),
            Self::I32 => f.write_str("int32"),
            Self::Bool => f.write_str("bool"),
            Self::Other(number) => match DataType::try_from(*number) {
                Ok(DataType::Double) => f.write_str("float64"),
                Ok(known) => f.write_str(&format!("{known:?}").to_lowercase()),
                Err(_) => write!(f, "type {number}"),
            },
        }
    }
}

/// A constant tensor: an initializer or an attribute.
#[derive(Debug, Clone)]
pub struct TensorRef<'a> {
    /// The tensor as in the file.
    pub proto: &'a TensorProto,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Element type.
    pub element: ElementType,
}

impl<'a> TensorRef<'a> {
    /// Checks a tensor: shape, element type, and that it holds as much data as they ask for. Those of a [`crate::Model`] pass.
    ///
    /// # Errors
    /// [`ReadError`] with the tensor's name.
    pub fn new(proto: &'a TensorProto) -> Result<Self, ReadError> {
        let name = || shown(&proto.name);
        let element = DataType::try_from(proto.data_type).map_err(|_| ReadError::ElementType {
            tensor: name(),
            number: proto.data_type,
        })?;
        let shape = shape(&proto.dims, &proto.name)?;
        let len = shape
            .iter()
            .try_fold(1usize, |len, &dim| len.checked_mul(dim))
            .filter(|&len| len <= isize::MAX as usize / 16)
            .ok_or_else(|| ReadError::TooManyElements { tensor: name() })?;
        if proto.data_location == DataLocation::External as i32 || !proto.external_data.is_empty() {
            return Err(ReadError::ExternalData { tensor: name() });
        }
        if proto.segment.is_some() {
            return Err(ReadError::Segmented { tensor: name() });
        }
        check_data(proto, element, len)?;
        Ok(Self {
            proto,
            shape,
            element: ElementType::from_number(proto.data_type),
        })
    }

    /// Number of elements: the product of the shape.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Its values, where it is float32 (raw or typed storage), row-major.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        if self.element != ElementType::F32 {
            return None;
        }
        let raw = &self.proto.raw_data;
        Some(if raw.is_empty() {
            self.proto.float_data.clone()
        } else {
            words(raw).map(f32::from_le_bytes).collect()
        })
    }

    /// Its values, where it is int64 (or int32, widened), row-major.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        let raw = &self.proto.raw_data;
        match self.element {
            ElementType::I64 if raw.is_empty() => Some(self.proto.int64_data.clone()),
            ElementType::I64 => Some(words(raw).map(i64::from_le_bytes).collect()),
            ElementType::I32 if raw.is_empty() => Some(self.proto.int32_data.iter().map(|&v| v.into()).collect()),
            ElementType::I32 => Some(words(raw).map(|w| i32::from_le_bytes(w).into()).collect()),
            _ => None,
        }
    }

    /// Its values, where it is boolean, row-major.
    pub fn to_bool(&self) -> Option<Vec<bool>> {
        let raw = &self.proto.raw_data;
        match self.element {
            ElementType::Bool if raw.is_empty() => Some(self.proto.int32_data.iter().map(|&v| v != 0).collect()),
            ElementType::Bool => Some(raw.iter().map(|&v| v != 0).collect()),
            _ => None,
        }
    }
}

/// The `N`-byte words of `bytes`.
fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

/// The shape that `dims` say.
fn shape(dims: &[i64], name: &str) -> Result<Vec<usize>, ReadError> {
    let one = |(axis, &length): (usize, &i64)| {
        usize::try_from(length).map_err(|_| ReadError::NegativeDim {
            name: shown(name),
            axis,
            length,
        })
    };
    dims.iter().enumerate().map(one).collect()
}

/// That exactly the right field holds exactly the data that `len` elements of `element` take.
fn check_data(proto: &TensorProto, element: DataType, len: usize) -> Result<(), ReadError> {
    let wrong = |expected: usize, found: usize, unit: &'static str| {
        if expected == found {
            Ok(())
        } else {
            Err(ReadError::DataLength {
                tensor: shown(&proto.name),
                expected,
                found,
                unit,
            })
        }
    };
    let fields = [
        proto.float_data.len(),
        proto.int32_data.len(),
        proto.string_data.len(),
        proto.int64_data.len(),
        proto.double_data.len(),
        proto.uint64_data.len(),
    ];
    let used = fields.iter().filter(|&&n| n > 0).count() + usize::from(!proto.raw_data.is_empty());
    let storage = || ReadError::Storage {
        tensor: shown(&proto.name),
    };
    if used > 1 {
        return Err(storage());
    }
    if !proto.raw_data.is_empty() {
        let bits = element.raw_bits().ok_or_else(storage)?;
        return wrong((len * bits).div_ceil(8), proto.raw_data.len(), "bytes");
    }
    // (field of the type, values in it)
    let (field, expected) = match element {
        DataType::Undefined => {
            return Err(ReadError::ElementType {
                tensor: shown(&proto.name),
                number: 0,
            });
        }
        DataType::Float => (0, len),
        DataType::Complex64 => (0, 2 * len),
        DataType::String => (2, len),
        DataType::Int64 => (3, len),
        DataType::Double => (4, len),
        DataType::Complex128 => (4, 2 * len),
        DataType::Uint32 | DataType::Uint64 => (5, len),
        DataType::Uint4 | DataType::Int4 | DataType::Float4e2m1 => (1, len.div_ceil(2)),
        DataType::Uint2 | DataType::Int2 => (1, len.div_ceil(4)),
        _ => (1, len),
    };
    if used == 1 && fields[field] == 0 {
        return Err(storage());
    }
    wrong(expected, fields[field], "values")
}

/// Checks a sparse tensor: its parts, and that there are as many indices as values.
pub(crate) fn check_sparse(proto: &SparseTensorProto) -> Result<(), ReadError> {
    let name = proto.values.as_ref().map_or("", |values| &values.name);
    let incomplete = || ReadError::Sparse { tensor: shown(name) };
    let (Some(values), Some(indices)) = (&proto.values, &proto.indices) else {
        return Err(incomplete());
    };
    let (values, indices) = (TensorRef::new(values)?, TensorRef::new(indices)?);
    let rank = shape(&proto.dims, name)?.len();
    let per_value = match indices.shape[..] {
        [_] => Some(1),
        [_, width] if width == rank => Some(width),
        _ => None,
    };
    let expected = per_value.and_then(|n| values.n_elements().checked_mul(n));
    if values.shape.len() != 1 || indices.element != ElementType::I64 || expected != Some(indices.n_elements()) {
        return Err(incomplete());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dims: &[i64], data_type: DataType) -> TensorProto {
        TensorProto {
            name: "t".into(),
            dims: dims.to_vec(),
            data_type: data_type as i32,
            ..Default::default()
        }
    }

    #[test]
    fn element_types_are_called_as_numpy_calls_them() {
        let names = [1, 6, 7, 9, 10, 11, 16, 2, 99].map(|number| ElementType::from_number(number).to_string());
        assert_eq!(
            names,
            [
                "float32", "int32", "int64", "bool", "float16", "float64", "bfloat16", "uint8", "type 99"
            ]
        );
    }

    #[test]
    fn raw_and_typed_storage_hold_the_same_values() {
        let raw: Vec<u8> = [1.5f32, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let raw = TensorProto {
            raw_data: raw.into(),
            ..tensor(&[2], DataType::Float)
        };
        let typed = TensorProto {
            float_data: vec![1.5, -2.0],
            ..tensor(&[2], DataType::Float)
        };
        for proto in [raw, typed] {
            let tensor = TensorRef::new(&proto).expect("sound");
            assert_eq!(tensor.to_f32(), Some(vec![1.5, -2.0]));
            assert_eq!(tensor.to_i64(), None);
        }
        let ints = TensorProto {
            int32_data: vec![-7],
            ..tensor(&[], DataType::Int32)
        };
        assert_eq!(TensorRef::new(&ints).expect("a scalar").to_i64(), Some(vec![-7]));
        let ints = TensorProto {
            raw_data: (-7i64).to_le_bytes().to_vec().into(),
            ..tensor(&[1], DataType::Int64)
        };
        assert_eq!(TensorRef::new(&ints).expect("sound").to_i64(), Some(vec![-7]));
        let bools = TensorProto {
            raw_data: vec![0, 1].into(),
            ..tensor(&[2], DataType::Bool)
        };
        assert_eq!(TensorRef::new(&bools).expect("sound").to_bool(), Some(vec![false, true]));
    }

    #[test]
    fn packed_types_take_part_of_a_byte() {
        for (data_type, n, bytes) in [(DataType::Int4, 5, 3), (DataType::Uint2, 5, 2), (DataType::Float6e2m3, 5, 4)] {
            let proto = TensorProto {
                raw_data: vec![0; bytes].into(),
                ..tensor(&[n], data_type)
            };
            assert!(TensorRef::new(&proto).is_ok(), "{data_type:?}");
        }
        let proto = TensorProto {
            int32_data: vec![0; 3],
            ..tensor(&[5], DataType::Int4)
        };
        assert!(TensorRef::new(&proto).is_ok());
    }

    #[test]
    fn impossible_tensors_are_refused_by_name() {
        let name = || "t".to_owned();
        let refused = |proto: TensorProto| TensorRef::new(&proto).map(|_| ()).expect_err("refused");
        assert_eq!(
            refused(tensor(&[2, -1], DataType::Float)),
            ReadError::NegativeDim {
                name: name(),
                axis: 1,
                length: -1
            }
        );
        assert_eq!(
            refused(tensor(&[i64::MAX, i64::MAX], DataType::Float)),
            ReadError::TooManyElements { tensor: name() }
        );
        assert_eq!(
            refused(tensor(&[i64::MAX / 2], DataType::Uint2)),
            ReadError::TooManyElements { tensor: name() }
        );
        assert_eq!(
            refused(tensor(&[3], DataType::Float)),
            ReadError::DataLength {
                tensor: name(),
                expected: 3,
                found: 0,
                unit: "values"
            }
        );
        let short = TensorProto {
            raw_data: vec![0; 11].into(),
            ..tensor(&[3], DataType::Float)
        };
        assert_eq!(
            refused(short),
            ReadError::DataLength {
                tensor: name(),
                expected: 12,
                found: 11,
                unit: "bytes"
            }
        );
        let both = TensorProto {
            raw_data: vec![0; 4].into(),
            float_data: vec![0.0],
            ..tensor(&[1], DataType::Float)
        };
        assert_eq!(refused(both), ReadError::Storage { tensor: name() });
        let other = TensorProto {
            int64_data: vec![0],
            ..tensor(&[1], DataType::Float)
        };
        assert_eq!(refused(other), ReadError::Storage { tensor: name() });
        let text = TensorProto {
            raw_data: vec![0].into(),
            ..tensor(&[1], DataType::String)
        };
        assert_eq!(refused(text), ReadError::Storage { tensor: name() });
        assert_eq!(
            refused(tensor(&[0], DataType::Undefined)),
            ReadError::ElementType { tensor: name(), number: 0 }
        );
        let newer = TensorProto {
            data_type: 99,
            ..tensor(&[0], DataType::Float)
        };
        assert_eq!(
            refused(newer),
            ReadError::ElementType {
                tensor: name(),
                number: 99
            }
        );
        let external = TensorProto {
            data_location: 1,
            ..tensor(&[1], DataType::Float)
        };
        assert_eq!(refused(external), ReadError::ExternalData { tensor: name() });
        let segment = Some(crate::proto::tensor_proto::Segment { begin: 0, end: 1 });
        let part = TensorProto {
            segment,
            float_data: vec![0.0],
            ..tensor(&[1], DataType::Float)
        };
        assert_eq!(refused(part), ReadError::Segmented { tensor: name() });
    }

    #[test]
    fn sparse_tensors_need_an_index_a_value() {
        let values = TensorProto {
            float_data: vec![1.0, 2.0],
            ..tensor(&[2], DataType::Float)
        };
        let indices = TensorProto {
            int64_data: vec![3, 5],
            ..tensor(&[2], DataType::Int64)
        };
        let sound = SparseTensorProto {
            values: Some(values.clone()),
            indices: Some(indices),
            dims: vec![9],
        };
        assert_eq!(check_sparse(&sound), Ok(()));
        let short = TensorProto {
            int64_data: vec![3],
            ..tensor(&[1], DataType::Int64)
        };
        for indices in [Some(short), None] {
            let broken = SparseTensorProto {
                values: Some(values.clone()),
                indices,
                dims: vec![9],
            };
            assert_eq!(check_sparse(&broken), Err(ReadError::Sparse { tensor: "t".into() }));
        }
    }
}
