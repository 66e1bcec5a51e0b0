//! A graph with every shape known: a flat list of kernels over numbered slots, which any executor can run or compile.
//!
//! A [`Graph`] is read from the model once. [`Graph::plan`] binds it to a number of rows: it computes every shape, evaluates the
//! integer side (Shape, Gather, Concat, ... that make up the targets of Reshape) apart on the CPU, and refuses what can't run, by
//! node name and op. What comes out holds no names to look up and nothing left to check, so that executors have no error paths of
//! their own.

mod graph;
mod integer;
mod node;
mod plan;

pub(crate) use graph::Graph;
pub(crate) use integer::Ints;
pub(crate) use node::{NodeView, Problem, Tensor, Value, refuse};
pub(crate) use plan::{Mode, Planned, broadcast};

use crate::ops::Kernel;

/// Where a value lives during a run. 0 is the input, then the graph's sources, then what the steps make.
pub(crate) type Slot = usize;

/// Small constants that planning made (for instance a shape cast to float).
#[derive(Debug)]
pub(crate) struct Constant {
    pub(crate) slot: Slot,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

/// An input of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    pub(crate) slot: Slot,
    /// Whether nothing reads the slot afterwards.
    pub(crate) last: bool,
}

/// One kernel call.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Vec<Operand>,
    pub(crate) output: Slot,
}

/// A graph bound to a number of rows.
#[derive(Debug)]
pub(crate) struct Program {
    /// Slots in all.
    pub(crate) slots: usize,
    /// Shape of the input, `[rows, ...]`.
    pub(crate) input_shape: Vec<usize>,
    pub(crate) constants: Vec<Constant>,
    pub(crate) steps: Vec<Step>,
    pub(crate) output: Slot,
    /// Shape of the first output, `[rows, ...]`.
    pub(crate) output_shape: Vec<usize>,
}

/// Why a graph can't run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GraphError {
    /// A node.
    #[error("node `{node}` ({op}): {problem}; {fix}")]
    Node {
        node: String,
        op: String,
        problem: String,
        fix: String,
    },
    /// The model as a whole.
    #[error("{problem}; {fix}")]
    Model { problem: String, fix: String },
    /// Input and data differ.
    #[error("{problem}; {fix}")]
    Data { problem: String, fix: String },
}
