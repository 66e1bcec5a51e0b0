//! Inference: the same ONNX file that was trained, run by tract. tract's types stay in here.

mod arrays;
mod guard;
pub mod measure;
mod parity;
mod rows;
mod servable;
mod tensor;

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{Model, ReadError};
use aimass_shrink::serve::{self, ServeError};
use aimass_shrink::sparse::{self, SparseError};

pub use arrays::{check, run};
pub use parity::{Apart, Both, Parity, ParityError, Tolerance, parity};
pub use rows::RowModel;
pub use servable::{
    Axis, Engine, LoadError, LoadOptions, MemoryBudget, OverBudget, Port, Reservation, RowCost, RunError, Servable, UnknownEngine,
    read_file,
};
pub use tensor::{Data, Datatype, MAX_RANK, Tensor, TensorError, count};

/// A model that tract can't run, or inputs that do not fit it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// Not an ONNX model.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Sparse weights that can't be expanded.
    #[error(transparent)]
    Sparse(#[from] SparseError),
    /// A quantized graph that tract would not compute exactly.
    #[error(transparent)]
    Quantized(#[from] ServeError),
    /// An operator that tract does not have.
    #[error("node {node:?}: tract has no operator {op}; export the model without it")]
    Op {
        /// Name of the node (of its first output, where it has none).
        node: String,
        /// The operator.
        op: String,
    },
    /// Inputs that the model does not take.
    #[error("the model can't be fed so: {reason}")]
    Input {
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// tract gave up on the graph.
    #[error("tract can't run this model: {reason}")]
    Graph {
        /// What tract says.
        reason: String,
    },
}

/// The model as tract computes it exactly: sparse weights are expanded, a quantized graph is rewritten, or refused with the node by name.
fn as_served(bytes: &[u8]) -> Result<Model, InferError> {
    Ok(serve::ready(&expanded(bytes)?)?)
}

/// The model with weights in place of what is stored sparse.
fn expanded(bytes: &[u8]) -> Result<Model, InferError> {
    Ok(sparse::expand(&Model::from_bytes(bytes)?)?)
}

/// tract, once it is known to have all the model's operators. Shapes that the file says of values inside are not held against it: they
/// are in symbols, and the input's are numbers.
fn check_ops(model: &Model) -> Result<tract_onnx::Onnx, InferError> {
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    for node in every_node(model) {
        // max(0, x) + min(0, exp(x / alpha) - 1) is what tract 0.23.9 computes; the last term lacks its factor alpha.
        if node.standard_op() == Some("Celu") && node.attr_f("alpha").is_ok_and(|alpha| alpha.is_some_and(|alpha| alpha != 1.0)) {
            return Err(InferError::Graph {
                reason: format!("{}: tract is wrong for an alpha other than 1; use Elu", node.label()),
            });
        }
        if !onnx.op_register.0.contains_key(&node.op_type) {
            let node_name = if node.name.is_empty() {
                node.output.first().cloned().unwrap_or_default()
            } else {
                node.name.clone()
            };
            return Err(InferError::Op {
                node: node_name,
                op: node.op_type.clone(),
            });
        }
    }
    Ok(onnx)
}

/// The nodes of the graph, and of the graphs within its nodes (branches, bodies of loops).
fn every_node(model: &Model) -> Vec<&NodeProto> {
    let mut graphs = vec![model.graph()];
    let mut nodes = Vec::new();
    while let Some(graph) = graphs.pop() {
        for node in &graph.node {
            let inner = node
                .attribute
                .iter()
                .flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs));
            graphs.extend(inner);
            nodes.push(node);
        }
    }
    nodes
}

/// tract's error with its causes, on one line.
fn chain(error: &tract_onnx::prelude::TractError) -> String {
    let mut text = error
        .chain()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
        .replace('\n', " ");
    if let Some((end, _)) = text.char_indices().nth(400) {
        text.truncate(end);
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests;
