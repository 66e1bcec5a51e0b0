//! Where nodes run and how tensors are split over devices (IR 11).

/// A named set of devices.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DeviceConfigurationProto {
    /// Name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Number of devices.
    #[prost(int32, tag = "2")]
    pub num_devices: i32,
    /// Names of the devices, where given.
    #[prost(string, repeated, tag = "3")]
    pub device: Vec<String>,
}

/// How one node uses a configuration.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct NodeDeviceConfigurationProto {
    /// Name of the configuration.
    #[prost(string, tag = "1")]
    pub configuration_id: String,
    /// How its tensors are split.
    #[prost(message, repeated, tag = "2")]
    pub sharding_spec: Vec<ShardingSpecProto>,
    /// Its stage of a pipeline.
    #[prost(int32, optional, tag = "3")]
    pub pipeline_stage: Option<i32>,
}

/// How one tensor is split.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ShardingSpecProto {
    /// Name of the tensor.
    #[prost(string, tag = "1")]
    pub tensor_name: String,
    /// Devices or groups of devices.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub device: Vec<i64>,
    /// Groups by index.
    #[prost(message, repeated, tag = "3")]
    pub index_to_device_group_map: Vec<IntIntListEntryProto>,
    /// The axes that are split.
    #[prost(message, repeated, tag = "4")]
    pub sharded_dim: Vec<ShardedDimProto>,
}

/// An index and the devices of its group.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct IntIntListEntryProto {
    /// Index.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// Devices.
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub value: Vec<i64>,
}

/// How one axis is split.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ShardedDimProto {
    /// The axis.
    #[prost(int64, tag = "1")]
    pub axis: i64,
    /// Its parts.
    #[prost(message, repeated, tag = "2")]
    pub simple_sharding: Vec<SimpleShardedDimProto>,
}

/// An axis, or a part of one, in equal shards.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SimpleShardedDimProto {
    /// Its length.
    #[prost(oneof = "simple_sharded_dim_proto::Dim", tags = "1, 2")]
    pub dim: Option<simple_sharded_dim_proto::Dim>,
    /// Number of shards.
    #[prost(int64, tag = "3")]
    pub num_shards: i64,
}

/// Parts of [`SimpleShardedDimProto`].
pub mod simple_sharded_dim_proto {
    /// Length of an axis.
    #[derive(Clone, PartialEq, ::prost::Oneof)]
    pub enum Dim {
        /// Known.
        #[prost(int64, tag = "1")]
        DimValue(i64),
        /// Known by name.
        #[prost(string, tag = "2")]
        DimParam(String),
    }
}
