//! Why a model is not served, or a run came to nothing.

use aimass_onnx::ReadError;

use super::budget::OverBudget;
use crate::InferError;
use crate::tensor::{Datatype, TensorError};

/// A model that is not served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Larger than allowed.
    #[error("the model's {bytes} bytes are over the limit of {limit}; raise the limit, or compress the model")]
    TooLarge {
        /// Bytes of the file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The file can't be read.
    #[error("can't read the model {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not an ONNX model.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What tract can't run: the operator and node by name, or what tract says of the graph.
    #[error(transparent)]
    Infer(#[from] InferError),
    /// An input or output that can't be served.
    #[error("the model's {name:?}: {reason}")]
    Port {
        /// Its name.
        name: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// It needs more memory than is allowed.
    #[error("the model does not fit into memory: {0}")]
    Memory(#[from] OverBudget),
    /// One value of the graph alone is larger than allowed.
    #[error("node {node:?} makes a value of {bytes} bytes, over the limit of {limit}; give smaller inputs, or raise the memory cap")]
    Value {
        /// The node.
        node: String,
        /// Bytes of the value; `u64::MAX` where they can't be counted.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The plan for the CPU does not compute it as tract does, and nothing else was asked for.
    #[error("the plan for the CPU does not run this model: {reason}; use the engine auto or tract")]
    Plan {
        /// What is wrong.
        reason: String,
    },
    /// tract panicked.
    #[error(
        "tract met a fault of its own with this model ({reason}); it is not served. Export it with another opset, or report the model to tract"
    )]
    Fault {
        /// What it panicked with.
        reason: String,
    },
    /// The first run, on zeros, failed.
    #[error("the first run, on zeros, failed: {0}")]
    FirstRun(#[source] Box<RunError>),
}

/// A run that came to nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Another number of tensors than the model has inputs.
    #[error("the model has {wanted} inputs, {found} tensors are given")]
    Inputs {
        /// Inputs of the model.
        wanted: usize,
        /// Tensors given.
        found: usize,
    },
    /// Another type.
    #[error("input {input:?} holds {wanted}, not {found}")]
    Datatype {
        /// The input.
        input: String,
        /// What it holds.
        wanted: Datatype,
        /// What is given.
        found: Datatype,
    },
    /// Another shape.
    #[error("input {input:?} has the shape {wanted}, not {found:?}")]
    Shape {
        /// The input.
        input: String,
        /// Its shape.
        wanted: String,
        /// What is given.
        found: Vec<usize>,
    },
    /// Axes of one name that differ.
    #[error("axis {symbol:?} is {one_len} long in input {one:?} and {other_len} in {other:?}; give both the same length")]
    Symbol {
        /// The axes' name.
        symbol: String,
        /// An input.
        one: String,
        /// Its length there.
        one_len: usize,
        /// Another input.
        other: String,
        /// Its length there.
        other_len: usize,
    },
    /// Values of a kind that the input does not take.
    #[error("input {input:?}: {reason}")]
    Values {
        /// The input.
        input: String,
        /// What does not fit.
        reason: String,
    },
    /// An output without a row for each row of the inputs.
    #[error("the output {output:?} has no row for each of the {rows} rows that went in: the model does not compute row by row")]
    Rows {
        /// The output.
        output: String,
        /// Rows of a run.
        rows: usize,
    },
    /// Values that do not fill their shape.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// The model can't be made ready for these shapes.
    #[error("the model can't run on inputs of these shapes: {0}")]
    Plan(#[source] Box<LoadError>),
    /// tract gave up, or the plan.
    #[error("the model can't compute this: {reason}")]
    Graph {
        /// What the engine says.
        reason: String,
    },
    /// An output that can't be served.
    #[error("output {index}: {reason}")]
    Output {
        /// Its index.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The engine panicked.
    #[error("the engine met a fault of its own ({reason})")]
    Fault {
        /// What it panicked with.
        reason: String,
    },
}

impl RunError {
    /// Whether the inputs are to blame: another request may go through.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Inputs { .. }
            | Self::Datatype { .. }
            | Self::Shape { .. }
            | Self::Values { .. }
            | Self::Tensor(_)
            | Self::Symbol { .. }
            | Self::Plan(_)
            | Self::Graph { .. } => true,
            Self::Rows { .. } | Self::Output { .. } | Self::Fault { .. } => false,
        }
    }
}
