//! Types of values.

use super::StringStringEntryProto;

/// A value's name and type.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ValueInfoProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Type.
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
    /// Text for people.
    #[prost(string, tag = "3")]
    pub doc_string: String,
    /// Named texts (IR 10).
    #[prost(message, repeated, tag = "4")]
    pub metadata_props: Vec<StringStringEntryProto>,
}

/// A type.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TypeProto {
    /// What it is.
    #[prost(oneof = "type_proto::Value", tags = "1, 4, 5, 9, 8, 7")]
    pub value: Option<type_proto::Value>,
    /// Meaning, for instance `IMAGE`.
    #[prost(string, tag = "6")]
    pub denotation: String,
}

/// Parts of [`TypeProto`].
pub mod type_proto {
    use super::{TensorShapeProto, TypeProto};

    /// What a type is.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Value {
        /// Dense tensor.
        #[prost(message, tag = "1")]
        TensorType(Tensor),
        /// List of values of one type.
        #[prost(message, tag = "4")]
        SequenceType(Sequence),
        /// Map.
        #[prost(message, tag = "5")]
        MapType(Map),
        /// A value or nothing.
        #[prost(message, tag = "9")]
        OptionalType(Optional),
        /// Sparse tensor.
        #[prost(message, tag = "8")]
        SparseTensorType(SparseTensor),
        /// A type that only its domain knows.
        #[prost(message, tag = "7")]
        OpaqueType(Opaque),
    }

    /// Dense tensor.
    #[derive(Clone, PartialEq, ::prost::Message)]
    pub struct Tensor {
        /// A [`crate::proto::DataType`] by number.
        #[prost(int32, tag = "1")]
        pub elem_type: i32,
        /// Shape, where known.
        #[prost(message, optional, tag = "2")]
        pub shape: Option<TensorShapeProto>,
    }

    /// List.
    #[derive(Clone, PartialEq, ::prost::Message)]
    pub struct Sequence {
        /// Type of its elements.
        #[prost(message, optional, boxed, tag = "1")]
        pub elem_type: Option<Box<TypeProto>>,
    }

    /// Map.
    #[derive(Clone, PartialEq, ::prost::Message)]
    pub struct Map {
        /// A [`crate::proto::DataType`] by number.
        #[prost(int32, tag = "1")]
        pub key_type: i32,
        /// Type of its values.
        #[prost(message, optional, boxed, tag = "2")]
        pub value_type: Option<Box<TypeProto>>,
    }

    /// A value or nothing.
    #[derive(Clone, PartialEq, ::prost::Message)]
    pub struct Optional {
        /// Type of the value.
        #[prost(message, optional, boxed, tag = "1")]
        pub elem_type: Option<Box<TypeProto>>,
    }

    /// Sparse tensor.
    #[derive(Clone, PartialEq, ::prost::Message)]
    pub struct SparseTensor {
        /// A [`crate::proto::DataType`] by number.
        #[prost(int32, tag = "1")]
        pub elem_type: i32,
        /// Shape, where known.
        #[prost(message, optional, tag = "2")]
        pub shape: Option<TensorShapeProto>,
    }

    /// A type that only its domain knows.
    #[derive(Clone, PartialEq, ::prost::Message)]
    pub struct Opaque {
        /// Domain.
        #[prost(string, tag = "1")]
        pub domain: String,
        /// Name.
        #[prost(string, tag = "2")]
        pub name: String,
    }
}

/// Shape of a tensor.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TensorShapeProto {
    /// Its axes.
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<tensor_shape_proto::Dimension>,
}

/// Parts of [`TensorShapeProto`].
pub mod tensor_shape_proto {
    /// One axis.
    #[derive(Clone, PartialEq, ::prost::Message)]
    pub struct Dimension {
        /// Its length, where known.
        #[prost(oneof = "dimension::Value", tags = "1, 2")]
        pub value: Option<dimension::Value>,
        /// Meaning, for instance `DATA_BATCH`.
        #[prost(string, tag = "3")]
        pub denotation: String,
    }

    /// Parts of [`Dimension`].
    pub mod dimension {
        /// Length of an axis.
        #[derive(Clone, PartialEq, ::prost::Oneof)]
        pub enum Value {
            /// Known.
            #[prost(int64, tag = "1")]
            DimValue(i64),
            /// Known by name.
            #[prost(string, tag = "2")]
            DimParam(String),
        }
    }
}
