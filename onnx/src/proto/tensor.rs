//! Constant tensors.

use std::fmt;

use bytes::Bytes;

use super::StringStringEntryProto;

/// A constant tensor. Its `Debug` shows how much data there is, never the values.
#[derive(Clone, PartialEq, ::prost::Message)]
#[prost(skip_debug)]
pub struct TensorProto {
    /// Shape.
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    /// A [`DataType`] by number.
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    /// Which part of a larger tensor this is.
    #[prost(message, optional, tag = "3")]
    pub segment: Option<tensor_proto::Segment>,
    /// Values of float32 and complex64.
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    /// Values of integers up to 32 bits, booleans, and floats up to 16 bits by their bits.
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    /// Values of strings.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub string_data: Vec<Vec<u8>>,
    /// Values of int64.
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    /// Name.
    #[prost(string, tag = "8")]
    pub name: String,
    /// Text for people.
    #[prost(string, tag = "12")]
    pub doc_string: String,
    /// Values of any type but strings: fixed width, little-endian, row-major. Shares the file's memory.
    #[prost(bytes = "bytes", tag = "9")]
    pub raw_data: Bytes,
    /// Where the values are when they are in another file.
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    /// Whether they are.
    #[prost(enumeration = "DataLocation", tag = "14")]
    pub data_location: i32,
    /// Values of float64 and complex128.
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    /// Values of uint32 and uint64.
    #[prost(uint64, repeated, tag = "11")]
    pub uint64_data: Vec<u64>,
    /// Named texts (IR 10).
    #[prost(message, repeated, tag = "16")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

impl fmt::Debug for TensorProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorProto")
            .field("name", &self.name)
            .field("dims", &self.dims)
            .field("data_type", &self.data_type)
            .field("raw_bytes", &self.raw_data.len())
            .finish_non_exhaustive()
    }
}

/// Parts of [`TensorProto`].
pub mod tensor_proto {
    /// A run of elements of a larger tensor.
    #[derive(Clone, PartialEq, ::prost::Message)]
    pub struct Segment {
        /// First element.
        #[prost(int64, tag = "1")]
        pub begin: i64,
        /// One past the last.
        #[prost(int64, tag = "2")]
        pub end: i64,
    }
}

/// Where a tensor's values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum DataLocation {
    /// In the message.
    Default = 0,
    /// In another file.
    External = 1,
}

/// Element types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ::prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    /// Not said.
    Undefined = 0,
    /// 32-bit float.
    Float = 1,
    /// 8-bit unsigned integer.
    Uint8 = 2,
    /// 8-bit signed integer.
    Int8 = 3,
    /// 16-bit unsigned integer.
    Uint16 = 4,
    /// 16-bit signed integer.
    Int16 = 5,
    /// 32-bit signed integer.
    Int32 = 6,
    /// 64-bit signed integer.
    Int64 = 7,
    /// Text.
    String = 8,
    /// Boolean, one byte each.
    Bool = 9,
    /// IEEE half.
    Float16 = 10,
    /// 64-bit float.
    Double = 11,
    /// 32-bit unsigned integer.
    Uint32 = 12,
    /// 64-bit unsigned integer.
    Uint64 = 13,
    /// Two 32-bit floats.
    Complex64 = 14,
    /// Two 64-bit floats.
    Complex128 = 15,
    /// Brain float.
    Bfloat16 = 16,
    /// 8-bit float, 4 bits of exponent, no infinity.
    Float8e4m3fn = 17,
    /// 8-bit float, 4 bits of exponent, no infinity, no negative zero.
    Float8e4m3fnuz = 18,
    /// 8-bit float, 5 bits of exponent.
    Float8e5m2 = 19,
    /// 8-bit float, 5 bits of exponent, no infinity, no negative zero.
    Float8e5m2fnuz = 20,
    /// 4-bit unsigned integer, two a byte.
    Uint4 = 21,
    /// 4-bit signed integer, two a byte.
    Int4 = 22,
    /// 4-bit float, two a byte.
    Float4e2m1 = 23,
    /// 8-bit exponent.
    Float8e8m0 = 24,
    /// 2-bit unsigned integer, four a byte.
    Uint2 = 25,
    /// 2-bit signed integer, four a byte.
    Int2 = 26,
    /// 6-bit float, 2 bits of exponent, four in three bytes.
    Float6e2m3 = 27,
    /// 6-bit float, 3 bits of exponent, four in three bytes.
    Float6e3m2 = 28,
}

impl DataType {
    /// Bits that one element takes in `raw_data`; `None` for strings and [`DataType::Undefined`].
    pub fn raw_bits(self) -> Option<usize> {
        Some(match self {
            Self::Undefined | Self::String => return None,
            Self::Uint2 | Self::Int2 => 2,
            Self::Uint4 | Self::Int4 | Self::Float4e2m1 => 4,
            Self::Float6e2m3 | Self::Float6e3m2 => 6,
            Self::Uint8 | Self::Int8 | Self::Bool => 8,
            Self::Float8e4m3fn | Self::Float8e4m3fnuz | Self::Float8e5m2 | Self::Float8e5m2fnuz | Self::Float8e8m0 => 8,
            Self::Uint16 | Self::Int16 | Self::Float16 | Self::Bfloat16 => 16,
            Self::Float | Self::Int32 | Self::Uint32 => 32,
            Self::Int64 | Self::Uint64 | Self::Double | Self::Complex64 => 64,
            Self::Complex128 => 128,
        })
    }
}

/// A tensor by its values that are not zero.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SparseTensorProto {
    /// The values, shape `[nnz]`; its name is the sparse tensor's name.
    #[prost(message, optional, tag = "1")]
    pub values: Option<TensorProto>,
    /// Where they are: `[nnz]` linear or `[nnz, rank]` indices.
    #[prost(message, optional, tag = "2")]
    pub indices: Option<TensorProto>,
    /// Shape of the dense tensor.
    #[prost(int64, repeated, packed = "false", tag = "3")]
    pub dims: Vec<i64>,
}

/// Quantization parameters of a tensor.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TensorAnnotation {
    /// Name of the tensor.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// Role (`SCALE_TENSOR`, `ZERO_POINT_TENSOR`) and name of the tensor that plays it.
    #[prost(message, repeated, tag = "2")]
    pub quant_parameter_tensor_names: Vec<StringStringEntryProto>,
}
