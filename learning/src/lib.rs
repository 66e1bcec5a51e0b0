//! From an ONNX graph to a trained ONNX graph.
//!
//! A model is read into a graph, bound to a batch as a program of kernels with every shape known (and refused there, before any
//! training, if something can't run), and a program is run by one of two executors. One interprets programs over burn's dynamic-rank
//! backend API with autodiff, on GPUs and as the oracle; the other compiles them for the CPU into calls of kernels over planned memory.
//! burn's types stay in here: what is public speaks slices of f32.

mod array;
mod backend;
mod batch;
pub mod checkpoint;
mod compiled;
pub mod data;
mod engine;
mod error;
mod evaluate;
mod executor;
pub mod fuzz;
pub mod inspect;
mod loss;
mod machine;
mod mask;
pub mod metrics;
mod ops;
mod optimizer;
#[doc(hidden)]
pub mod parity;
mod program;
pub mod remote;
mod runner;
mod teacher;
#[cfg(test)]
mod testing;
mod train;
mod trainer;
pub mod training;

pub use array::{Array, Values};
pub use backend::{AnyTrainer, BackendChoice, BackendConfig};
pub use batch::Batch;
pub use data::{DataError, Dataset};
pub use engine::Engine;
pub use error::TrainError;
pub use evaluate::{Evaluator, Fit, Scorer, Watch, evaluate, fit_check, outputs, predict};
pub use executor::Cpu;
pub use loss::{BinaryCrossEntropy, ClassAxis, Contrastive, CrossEntropy, Distillation, Huber, Loss, Pairwise};
pub use mask::Mask;
pub use metrics::{Evaluation, Metric};
pub use optimizer::{OptimizerConfig, Rule, Schedule};
pub use runner::{Prepared, Runner};
pub use teacher::{Ensemble, Taught, Teacher};
pub use train::{BatchNorm, Head, LocalUpdate, Progress, TrainConfig, dry_run, train, train_on};
pub use trainer::{StepReport, Trainer};
