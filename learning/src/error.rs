//! Why training, evaluation or prediction stopped.

use crate::data::DataError;
use crate::program::GraphError;

/// Why training stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The graph holds something that can't be trained here.
    #[error("{reason}")]
    Graph {
        /// Node, op, and what to do.
        reason: String,
    },
    /// Data and model do not fit.
    #[error("{reason}")]
    Data {
        /// What differs, and what to do.
        reason: String,
    },
    /// The data can't be read.
    #[error(transparent)]
    Source(#[from] DataError),
    /// A setting that makes no sense.
    #[error("{reason}")]
    Config {
        /// Which, and what to do.
        reason: String,
    },
    /// The loss, or the gradient that is to be clipped, is not finite.
    #[error("the loss or its gradient became {loss} at step {step}; lower the learning rate or normalise the data")]
    Diverged {
        /// The step, counted from 1: the batch that brought it out.
        step: u64,
        /// The loss, or the norm of the gradient.
        loss: f32,
    },
    /// The caller stopped it.
    #[error("training was stopped at step {step}")]
    Stopped {
        /// Steps done.
        step: u64,
    },
    /// The backend that was asked for can't be had.
    #[error("{reason}")]
    Backend {
        /// Why, and what to do.
        reason: String,
    },
    /// The compute device failed.
    #[error("the compute device failed: {reason}; try again, or on another device")]
    Device {
        /// What it said.
        reason: String,
    },
}

impl From<GraphError> for TrainError {
    fn from(error: GraphError) -> Self {
        let reason = error.to_string();
        match error {
            GraphError::Data { .. } => Self::Data { reason },
            GraphError::Node { .. } | GraphError::Model { .. } => Self::Graph { reason },
        }
    }
}
