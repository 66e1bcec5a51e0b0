//! What can't be served, and why.

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{AttributeError, ReadError};

use crate::parts::shown;

/// A quantized graph that would not be computed as it is meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The rewritten graph is no model.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An attribute of another type.
    #[error(transparent)]
    Attribute(#[from] AttributeError),
    /// A scale, zero point or packed weight that is wrong.
    #[error("{node}: {problem}; quantize the model again")]
    Parameter {
        /// The node.
        node: String,
        /// Which parameter, and what is wrong with it.
        problem: String,
    },
    /// Something sound that there is no exact way to compute.
    #[error("{node} can't be served: {reason}")]
    Unsupported {
        /// The node.
        node: String,
        /// Why, and what to do.
        reason: String,
    },
}

impl ServeError {
    pub(crate) fn parameter(node: &NodeProto, problem: impl Into<String>) -> Self {
        Self::Parameter {
            node: node.label(),
            problem: problem.into(),
        }
    }

    pub(crate) fn unsupported(node: &NodeProto, reason: impl Into<String>) -> Self {
        Self::Unsupported {
            node: node.label(),
            reason: reason.into(),
        }
    }

    /// A parameter that a node computes.
    pub(super) fn computed(node: &NodeProto, what: &str, name: &str) -> Self {
        let name = shown(name);
        Self::unsupported(node, format!("its {what} {name:?} is no constant; export it as an initializer"))
    }
}
