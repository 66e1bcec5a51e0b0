//! What can be wrong with a packed model.

use aimass_onnx::ReadError;

/// A model that can't be packed or expanded. Names from the file are shortened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SparseError {
    /// It is packed, or uses the names that packing gives.
    #[error("the model is packed already, or has names that start with \"aimass.sparse\"; expand it first, or rename them")]
    Packed,
    /// Its operator set lacks operators that the standard format needs.
    #[error("the model uses opset {found}, and the standard format needs {oldest}; use the compact format, or convert the model")]
    Opset {
        /// In the file.
        found: i64,
        /// Oldest that has them.
        oldest: i64,
    },
    /// In older versions of the format each initializer is an input.
    #[error("the model has IR version {found}, and the standard format needs {oldest}; use the compact format, or export the model again")]
    IrVersion {
        /// In the file.
        found: i64,
        /// Oldest that will do.
        oldest: i64,
    },
    /// Anything that packing does not write.
    #[error("the packed tensor {tensor:?} can't be expanded: {problem}; fetch the file again, or pack the model again")]
    Damaged {
        /// Its name.
        tensor: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// More than a model may have.
    #[error("the packed tensors would take more than the {limit_bytes} bytes that a model may have; use a smaller model")]
    TooLarge {
        /// Most that is accepted.
        limit_bytes: usize,
    },
    /// Not a model, or none after it was expanded.
    #[error(transparent)]
    Read(#[from] ReadError),
}
