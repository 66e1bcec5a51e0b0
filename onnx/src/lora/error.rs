//! Why adapters can't be added or merged.

use crate::wire::WireError;
use crate::{AttributeError, ReadError};

/// Why adapters can't be added or merged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// A rank that is no rank, or makes factors that are too large.
    #[error("adapters of rank {rank} are not possible; use a rank from 1 on that is small beside the weights")]
    Rank {
        /// The rank.
        rank: usize,
    },
    /// An alpha that is no factor.
    #[error("alpha is {alpha}; use a number above 0, for instance twice the rank")]
    Alpha {
        /// As text.
        alpha: String,
    },
    /// A file in which every initializer has to be an input.
    #[error("the model has IR version {found}, adapters need {oldest} or newer; export it again with a newer version of onnx")]
    IrVersion {
        /// Of the file.
        found: i64,
        /// The oldest that will do.
        oldest: i64,
    },
    /// A glob that does not parse.
    #[error("the glob {glob:?} does not parse: {reason}")]
    Glob {
        /// Its text.
        glob: String,
        /// By the parser.
        reason: String,
    },
    /// A glob that names no weight that can have an adapter.
    #[error("the glob {glob:?} matches no float32 matrix that a MatMul, Gemm or Gather uses; the first of them are: {known}")]
    Unmatched {
        /// Its text.
        glob: String,
        /// Some that there are.
        known: String,
    },
    /// No glob was given, and there is nothing to choose.
    #[error("no MatMul or Gemm of the model multiplies by a float32 matrix that can have an adapter; train the weights themselves")]
    NothingToAdapt,
    /// A weight with a use that an adapter can't follow.
    #[error("the weight {weight:?} can't have an adapter: {node} {problem}; leave the weight out of the targets")]
    Use {
        /// The weight.
        weight: String,
        /// The node that uses it, or what else does.
        node: String,
        /// How.
        problem: &'static str,
    },
    /// There are adapters already.
    #[error("the model has adapters already; merge them first, or train on as it is")]
    Already,
    /// There are none to merge.
    #[error("the model has no adapters that were added here; there is nothing to merge")]
    NoAdapters,
    /// What is said about an adapter and what is there differ.
    #[error("the adapter of {weight:?} is incomplete: {reason}; use the file that training wrote")]
    Damaged {
        /// The weight.
        weight: String,
        /// What is wrong.
        reason: String,
    },
    /// A node's attribute of another type.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The changed model is none.
    #[error("the changed model can't be read: {0}")]
    Read(#[from] ReadError),
    /// The file's bytes are not protobuf.
    #[error("the file is damaged at byte {offset}: {reason}; export it again")]
    Bytes {
        /// Where.
        offset: usize,
        /// What is wrong.
        reason: &'static str,
    },
}

impl From<WireError> for LoraError {
    fn from(error: WireError) -> Self {
        Self::Bytes {
            offset: error.offset,
            reason: error.what,
        }
    }
}
