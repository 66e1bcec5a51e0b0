//! From an ONNX graph to a trained ONNX graph.
//!
//! A model is read into a graph, bound to a batch as a program of kernels with every shape known (and refused there, before any
//! training, if something can't run), and a program is run by an executor. The one executor of this version interprets programs over
//! burn's dynamic-rank backend API with autodiff. burn's types stay in here: what is public speaks slices of f32, so that a second
//! executor fits behind it.

pub mod data;
mod error;
mod evaluate;
mod executor;
mod loss;
pub mod metrics;
mod ops;
mod program;
#[cfg(test)]
mod testing;
mod train;
mod trainer;

pub use data::{DataError, Dataset};
pub use error::TrainError;
pub use evaluate::{Fit, evaluate, fit_check, predict};
pub use loss::Loss;
pub use metrics::Evaluation;
pub use train::{LocalUpdate, Progress, TrainConfig, train};
pub use trainer::Trainer;
