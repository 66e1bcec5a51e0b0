//! What can be wrong with a structured pruning.

use aimass_onnx::{AttributeError, ReadError};

/// Channels that can't be removed. Names from the file are shortened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// A glob that matches no weight.
    #[error("the glob {glob:?} matches no float32 weight of the model; the first of them are: {known}")]
    Unmatched {
        /// Its text.
        glob: String,
        /// Some names of the model.
        known: String,
    },
    /// Every channel is tied to an input, an output, or something that can't be followed.
    #[error(
        "no channel of the model can be removed under these rules: all are tied to its outputs, to operators that keep them, or excluded"
    )]
    NothingToRemove,
    /// A weight without a norm.
    #[error("the weight {param:?} holds a value that is not finite; its channels can't be ranked: train again from finite weights")]
    NonFinite {
        /// The parameter.
        param: String,
    },
    /// Following every channel would take too much memory.
    #[error("the model has more than {limit} places of channels to follow; prune its weights instead")]
    TooLarge {
        /// Most that are followed.
        limit: usize,
    },
    /// An attribute of another type than its operator's.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// The result is no model.
    #[error(transparent)]
    Read(#[from] ReadError),
}
