//! A graph with every shape known: a flat list of kernels over numbered slots, which any executor can run or compile.
//!
//! A [`Graph`] is read from the model once. [`Graph::plan`] binds it to the shapes of a batch: it computes every shape and refuses what
//! can't run, by node name and op. What comes out holds no names to look up, so that executors have no error paths of their own.
//!
//! Floats live on the device. Integers and booleans that do not depend on floats live on the host: those that follow from shapes and
//! constants (Shape, Gather, Concat, ... that make up the targets of Reshape) are evaluated while planning; those that follow from a
//! batch's integer inputs (token ids, edges, masks) are evaluated by [`Program::feed`] before the device starts, with every index
//! checked, and uploaded where a kernel reads them. Booleans and indices that come from floats (comparisons, ArgMax) stay on the device.

mod feed;
pub(crate) mod folding;
mod graph;
pub(crate) mod host;
mod indexing;
mod integers;
mod node;
mod plan;
mod planned;
mod quantized;
mod shapes;
mod value;

pub(crate) use feed::Feed;
pub(crate) use graph::{Graph, Role, Source as GraphSource, obstacles};
pub(crate) use indexing::Indexing;
pub(crate) use integers::Dequantized;
pub(crate) use node::{Attributes, NodeView, Problem, axis, missing, refuse};
pub(crate) use planned::{Mode, Output, Planned, Source, broadcast};
pub(crate) use quantized::Integers;
pub(crate) use value::{Element, Host, Tensor, Value};

use crate::array::Array;
use crate::ops::Kernel;

/// Where a device value lives during a run: the graph's inputs, its sources, then what uploads, constants and steps make.
pub(crate) type Slot = usize;
/// Where a host value lives during a run.
pub(crate) type HostSlot = usize;

/// A value that planning made (for instance a shape cast to float, or a mask).
#[derive(Debug)]
pub(crate) struct Constant {
    pub(crate) slot: Slot,
    pub(crate) array: Array,
}

/// A host value that a kernel reads.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) from: HostSlot,
    pub(crate) slot: Slot,
    /// For indices: what they point into.
    pub(crate) indexing: Option<Indexing>,
    /// For messages.
    pub(crate) node: String,
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
    /// The node, by its place in the graph.
    pub(crate) node: usize,
    pub(crate) kernel: Kernel,
    pub(crate) inputs: Vec<Operand>,
    /// One for each output of the kernel; `None` for those that nothing reads.
    pub(crate) outputs: Vec<Option<Slot>>,
}

/// One evaluation on the host.
#[derive(Debug)]
pub(crate) struct HostStep {
    /// The node, by its place in the graph.
    pub(crate) node: usize,
    /// Known values, or slots; `None` for inputs left out.
    pub(crate) inputs: Vec<Option<Host>>,
    pub(crate) outputs: Vec<HostSlot>,
}

/// Where an output of the program comes from.
#[derive(Debug, Clone)]
pub(crate) struct ProgramOutput {
    pub(crate) shape: Vec<usize>,
    pub(crate) element: Element,
    pub(crate) from: From,
}

/// See [`ProgramOutput`].
#[derive(Debug, Clone)]
pub(crate) enum From {
    Device(Slot),
    Host(HostSlot),
    Known(Array),
}

/// A graph bound to the shapes of a batch.
#[derive(Debug)]
pub(crate) struct Program {
    /// Slots in all.
    pub(crate) slots: usize,
    pub(crate) host_slots: usize,
    /// One for each input of the graph.
    pub(crate) input_shapes: Vec<Vec<usize>>,
    pub(crate) constants: Vec<Constant>,
    pub(crate) host_steps: Vec<HostStep>,
    pub(crate) uploads: Vec<Upload>,
    pub(crate) steps: Vec<Step>,
    /// One for each output of the graph.
    pub(crate) outputs: Vec<ProgramOutput>,
    /// Running statistics that a training step replaces: source and slot of its new value.
    pub(crate) buffers: Vec<(usize, Slot)>,
    /// Shape of every slot.
    pub(crate) shapes: Vec<Vec<usize>>,
    /// Whether each slot holds floats, or integers that lie as such.
    pub(crate) floats: Vec<bool>,
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
