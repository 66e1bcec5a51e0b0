//! A first walk over the file, before anything is allocated: is it protobuf, is it too deep, how much memory would it take?
//!
//! An empty message takes two bytes in the file and hundreds in memory, so a small hostile file could take gigabytes. The walk adds
//! up an upper bound of what the decoder will allocate and refuses files whose bound is out of proportion.

use std::ops::Range;

use crate::ReadError;
use crate::proto;
use crate::wire::{Field, Fields, WireError, WireType};

/// Deepest nesting of messages, the file itself being 1. A subgraph takes three levels. (The decoder's own limit is 100.)
pub const MAX_DEPTH: usize = 64;

/// Bytes of memory that the decoded form of a file of `len` bytes may take: 64 times its length, but never more than 512 MiB over
/// twice its length; small files get 8 MiB in any case.
pub fn decoded_budget_bytes(len: usize) -> usize {
    const SLACK: usize = 8 << 20;
    const MOST_STRUCTURE: usize = 512 << 20;
    len.saturating_mul(64)
        .saturating_add(SLACK)
        .min(len.saturating_mul(2).saturating_add(MOST_STRUCTURE))
}

/// A vector that grows by doubling from four elements holds at most four times what it needs.
const GROWTH: usize = 4;
/// What an allocation costs over its bytes, and the header of a string or vector.
const HEADER: usize = 48;

/// The messages of ONNX, as far as their children differ.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Model,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TypeOfTensor,
    TypeOfElements,
    Shape,
    Dimension,
    Opset,
    Pair,
    Annotation,
    Training,
    Function,
    Device,
    NodeDevice,
    Sharding,
    ShardedDim,
    SimpleDim,
    IntList,
}

/// What a field holds.
enum Part {
    /// A message of this kind.
    Message(Kind),
    /// A string or a byte string.
    Text,
    /// Raw tensor data, which shares the file's memory.
    Shared,
    /// A list of numbers of this many bytes each, of which a wire byte holds at most one.
    Varints(usize),
    /// A list of numbers that take in memory what they take in the file.
    Fixed,
    /// Nothing that is decoded.
    Skipped,
}

impl Kind {
    fn size_bytes(self) -> usize {
        match self {
            Self::Model => size_of::<proto::ModelProto>(),
            Self::Graph => size_of::<proto::GraphProto>(),
            Self::Node => size_of::<proto::NodeProto>(),
            Self::Attribute => size_of::<proto::AttributeProto>(),
            Self::Tensor => size_of::<proto::TensorProto>(),
            Self::Sparse => size_of::<proto::SparseTensorProto>(),
            Self::ValueInfo => size_of::<proto::ValueInfoProto>(),
            // The parts of a type lie within it or in a box of at most its size.
            Self::Type | Self::TypeOfTensor | Self::TypeOfElements | Self::Shape => size_of::<proto::TypeProto>(),
            Self::Dimension => size_of::<proto::tensor_shape_proto::Dimension>(),
            Self::Opset => size_of::<proto::OperatorSetIdProto>(),
            Self::Pair => size_of::<proto::StringStringEntryProto>(),
            Self::Annotation => size_of::<proto::TensorAnnotation>(),
            Self::Training => size_of::<proto::TrainingInfoProto>(),
            Self::Function => size_of::<proto::FunctionProto>(),
            Self::Device => size_of::<proto::DeviceConfigurationProto>(),
            Self::NodeDevice => size_of::<proto::NodeDeviceConfigurationProto>(),
            Self::Sharding => size_of::<proto::ShardingSpecProto>(),
            Self::ShardedDim => size_of::<proto::ShardedDimProto>(),
            Self::SimpleDim => size_of::<proto::SimpleShardedDimProto>(),
            Self::IntList => size_of::<proto::IntIntListEntryProto>(),
        }
    }

    /// What field `number` of this message holds.
    fn part(self, number: u64) -> Part {
        use Part::{Fixed, Message, Shared, Skipped, Text, Varints};
        match (self, number) {
            (Self::Model, 7) => Message(Self::Graph),
            (Self::Model, 8) | (Self::Function, 9) => Message(Self::Opset),
            (Self::Model, 14) | (Self::Graph, 16) | (Self::Node, 9) | (Self::Function, 14) => Message(Self::Pair),
            (Self::Tensor, 13 | 16) | (Self::ValueInfo, 4) | (Self::Training, 3 | 4) | (Self::Annotation, 2) => Message(Self::Pair),
            (Self::Model, 20) => Message(Self::Training),
            (Self::Model, 25) => Message(Self::Function),
            (Self::Model, 26) => Message(Self::Device),
            (Self::Graph, 1) | (Self::Function, 7) => Message(Self::Node),
            (Self::Graph, 5) | (Self::Attribute, 5 | 10) | (Self::Sparse, 1 | 2) => Message(Self::Tensor),
            (Self::Graph, 15) | (Self::Attribute, 22 | 23) => Message(Self::Sparse),
            (Self::Graph, 11..=13) | (Self::Function, 12) => Message(Self::ValueInfo),
            (Self::Graph, 14) => Message(Self::Annotation),
            (Self::Node, 5) | (Self::Function, 11) => Message(Self::Attribute),
            (Self::Node, 10) => Message(Self::NodeDevice),
            (Self::Attribute, 6 | 11) | (Self::Training, 1 | 2) => Message(Self::Graph),
            (Self::Attribute, 14 | 15) | (Self::ValueInfo, 2) | (Self::TypeOfElements, 1 | 2) => Message(Self::Type),
            (Self::Type, 1 | 8) => Message(Self::TypeOfTensor),
            // Sequence, optional and map; an opaque type has texts in the same places.
            (Self::Type, 4 | 5 | 9) => Message(Self::TypeOfElements),
            (Self::Type, 7) => Message(Self::Opset),
            (Self::TypeOfTensor, 2) => Message(Self::Shape),
            (Self::Shape, 1) => Message(Self::Dimension),
            (Self::NodeDevice, 2) => Message(Self::Sharding),
            (Self::Sharding, 3) => Message(Self::IntList),
            (Self::Sharding, 4) => Message(Self::ShardedDim),
            (Self::ShardedDim, 2) => Message(Self::SimpleDim),

            (Self::Tensor, 9) => Shared,
            (Self::Tensor, 1 | 7 | 11) | (Self::Attribute, 8) | (Self::Sparse, 3) | (Self::Sharding | Self::IntList, 2) => Varints(8),
            (Self::Tensor, 5) => Varints(4),
            (Self::Tensor, 4 | 10) | (Self::Attribute, 7) => Fixed,

            (Self::Model, 2 | 3 | 4 | 6) | (Self::Graph, 2 | 10) | (Self::Node, 1..=4 | 6..=8) => Text,
            (Self::Attribute, 1 | 4 | 9 | 13 | 21) | (Self::Tensor, 6 | 8 | 12) | (Self::ValueInfo, 1 | 3) => Text,
            (Self::Type, 6) | (Self::Dimension, 2 | 3) | (Self::Opset | Self::Pair, 1 | 2) | (Self::Annotation, 1) => Text,
            (Self::Function, 1 | 4 | 5 | 6 | 8 | 10 | 13) | (Self::Device, 1 | 3) => Text,
            (Self::NodeDevice | Self::Sharding, 1) | (Self::SimpleDim, 2) => Text,
            _ => Skipped,
        }
    }
}

/// Walks the whole file.
pub(crate) fn scan(bytes: &[u8]) -> Result<(), ReadError> {
    let budget = decoded_budget_bytes(bytes.len());
    let mut left = budget;
    // Messages that are still to be walked, with their depth: no recursion, so no input can exhaust the stack.
    let mut open: Vec<(Kind, Range<usize>, usize)> = vec![(Kind::Model, 0..bytes.len(), 1)];
    while let Some((kind, range, depth)) = open.pop() {
        for field in Fields::new(bytes, range) {
            let field = field?;
            let part = kind.part(field.number);
            left = left
                .checked_sub(cost_bytes(&part, &field))
                .ok_or(ReadError::TooComplex { budget_bytes: budget })?;
            match part {
                Part::Message(child) if field.wire_type == WireType::Bytes => {
                    if depth == MAX_DEPTH {
                        return Err(ReadError::TooDeep {
                            offset: field.tag.start,
                            limit: MAX_DEPTH,
                        });
                    }
                    open.push((child, field.value, depth + 1));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// What decoding `field` allocates, at most.
fn cost_bytes(part: &Part, field: &Field) -> usize {
    let len = field.value.len();
    match part {
        Part::Message(kind) => GROWTH * kind.size_bytes() + HEADER,
        Part::Text => GROWTH * size_of::<String>() + HEADER + len,
        Part::Shared => HEADER,
        Part::Varints(size) => HEADER + GROWTH * size + 2 * size * len,
        Part::Fixed => HEADER + GROWTH * 8 + 2 * len,
        Part::Skipped => 0,
    }
}

impl From<WireError> for ReadError {
    fn from(error: WireError) -> Self {
        Self::Malformed {
            offset: error.offset,
            what: error.what,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::put_varint;

    /// A field of `number` that holds `value`.
    fn wrap(number: u64, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(number << 3 | 2, &mut out);
        put_varint(value.len() as u64, &mut out);
        out.extend_from_slice(value);
        out
    }

    #[test]
    fn a_million_empty_messages_are_refused_before_they_are_decoded() {
        let empty = |path: &[u64], number: u64| {
            let many = wrap(number, &[]).repeat(1 << 20);
            path.iter().rev().fold(many, |inner, &number| wrap(number, &inner))
        };
        // Nodes, initializers, value infos, a node's attributes and inputs, a tensor's strings.
        for (path, number) in [(&[7][..], 1), (&[7], 5), (&[7], 11), (&[7, 1], 5), (&[7, 1], 1), (&[7, 5], 6)] {
            let bytes = empty(path, number);
            let refused = ReadError::TooComplex {
                budget_bytes: decoded_budget_bytes(bytes.len()),
            };
            assert_eq!(scan(&bytes), Err(refused), "{path:?} {number}");
        }
    }

    #[test]
    fn raw_data_of_any_length_is_granted() {
        let bytes = wrap(7, &wrap(5, &wrap(9, &vec![0; 40 << 20])));
        assert_eq!(scan(&bytes), Ok(()));
    }

    #[test]
    fn the_budget_is_at_most_a_small_multiple() {
        assert_eq!(decoded_budget_bytes(0), 8 << 20);
        assert_eq!(decoded_budget_bytes(1 << 20), (64 << 20) + (8 << 20));
        assert_eq!(decoded_budget_bytes(1 << 30), (2 << 30) + (512 << 20));
    }

    #[test]
    fn nesting_is_refused_one_level_beyond_the_limit() {
        // An attribute's graph's node's attribute and so on, below the model (1) and its graph (2).
        let nested = |levels: usize| {
            let numbers = [7].into_iter().chain([1, 5, 6].into_iter().cycle());
            let path: Vec<u64> = numbers.take(levels - 1).collect();
            path.iter().rev().fold(Vec::new(), |inner, &number| wrap(number, &inner))
        };
        assert_eq!(scan(&nested(MAX_DEPTH)), Ok(()));
        assert!(matches!(
            scan(&nested(MAX_DEPTH + 1)),
            Err(ReadError::TooDeep { limit: MAX_DEPTH, .. })
        ));
        assert!(matches!(scan(&nested(100_000)), Err(ReadError::TooDeep { .. })));
    }
}
