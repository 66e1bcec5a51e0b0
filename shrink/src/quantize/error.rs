//! What can be wrong with a model, its calibration or the options, by blame.

use aimass_onnx::{AttributeError, ReadError};

/// A model that can't be quantized as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// The rewritten graph is no model.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An attribute of another type.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// Nothing was observed of a tensor.
    #[error("nothing was observed of {tensor:?}; calibrate on the model that `observe` returns, with at least one batch")]
    Unobserved {
        /// The tensor.
        tensor: String,
    },
    /// NaN or infinity in the calibration data, or computed from it.
    #[error("{tensor:?} is NaN or infinite at value {index} of a calibration batch; check the data and the model's weights")]
    NonFinite {
        /// The tensor.
        tensor: String,
        /// Position in the batch's tensor.
        index: usize,
    },
    /// A histogram of a tensor that is not quantized.
    #[error("{tensor:?} is no tensor that is observed; calibrate on the model that `observe` returns")]
    Unknown {
        /// The tensor.
        tensor: String,
    },
    /// A weight that is not finite.
    #[error("the weight {tensor:?} is NaN or infinite at value {index}; train it again, or exclude its node")]
    Weight {
        /// The initializer.
        tensor: String,
        /// Row-major position.
        index: usize,
    },
    /// No node that can be quantized.
    #[error("no node of the model can be quantized; {reason}")]
    Nothing {
        /// Why, and what to do.
        reason: String,
    },
    /// A glob that does not parse.
    #[error("the glob {glob:?} does not parse: {reason}")]
    Glob {
        /// Its text.
        glob: String,
        /// By the parser.
        reason: String,
    },
    /// A glob that matches nothing.
    #[error("the glob {glob:?} matches no node and no weight of the model; see `aimass model show`")]
    Unmatched {
        /// Its text.
        glob: String,
    },
    /// An option out of its range.
    #[error("{option} is {found}; {wanted}")]
    Option {
        /// Which.
        option: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// An opset without quantization per channel that can't be raised.
    #[error(
        "the model uses opset {found}, quantization per channel needs 13, and {node} means something else there; convert it with onnx's version_converter"
    )]
    Opset {
        /// The model's.
        found: i64,
        /// A node in the way.
        node: String,
    },
    /// A graph that was not made by [`super::fake()`], or that lost a part of it.
    #[error("{node} is not as `fake` made it: {reason}; freeze the trained graph without other changes")]
    NotFake {
        /// The node.
        node: String,
        /// What is wrong.
        reason: &'static str,
    },
}
