//! Inference: the same ONNX file that was trained, run by tract. tract's types stay in here.

mod arrays;
mod guard;
pub mod measure;
mod parity;
mod servable;
mod tensor;

use std::sync::Arc;

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{Dim, ElementType, Model, ReadError};
use aimass_shrink::serve::{self, ServeError};
use aimass_shrink::sparse::{self, SparseError};
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, Tensor as TractTensor, TypedRunnableModel, tvec,
};

pub use arrays::{check, run};
pub use parity::{Apart, Parity, ParityError, Tolerance, parity};
pub use servable::{
    Axis, Engine, LoadError, LoadOptions, MemoryBudget, OverBudget, Port, Reservation, RowCost, RunError, Servable, UnknownEngine,
    read_file,
};
pub use tensor::{Data, Datatype, MAX_RANK, Tensor, TensorError, count};

/// A model that tract can't run, or rows that do not fit it.
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
    /// The model's input is not one float32 tensor of rows.
    #[error("the model's input can't be fed with rows: {reason}")]
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
    /// The features do not make whole rows.
    #[error("{found} features do not make {rows} rows of {row_len}")]
    Rows {
        /// Features given.
        found: usize,
        /// Rows asked for.
        rows: usize,
        /// Features a row, by the model.
        row_len: usize,
    },
}

/// A model made ready for inference in batches of a fixed size.
pub struct TractModel {
    plan: Arc<TypedRunnableModel>,
    /// Dimensions of one batch: `[batch, ...]`.
    dims: Vec<usize>,
}

impl TractModel {
    /// Optimises a model for batches of `batch` rows. Where the file fixes the batch itself, the file's is taken.
    ///
    /// # Errors
    /// [`InferError`] with the operator by name where tract has none.
    pub fn load(bytes: &[u8], batch: usize) -> Result<Self, InferError> {
        let model = as_served(bytes)?;
        let dims = input_dims(&model, batch.max(1))?;
        let plan = check_ops(&model)?
            .model_for_read(&mut model.as_bytes())
            .and_then(|graph| graph.with_input_fact(0, InferenceFact::dt_shape(DatumType::F32, &dims)))
            .and_then(InferenceModelExt::into_optimized)
            .and_then(IntoRunnable::into_runnable)
            .map_err(|e| InferError::Graph { reason: chain(&e) })?;
        Ok(Self { plan, dims })
    }

    /// Features a row.
    pub fn row_len(&self) -> usize {
        self.dims.iter().skip(1).product()
    }

    /// The first output for rows of features.
    ///
    /// # Shapes
    /// `features`: `[rows, row_len]` row-major. Returns `[rows, n]` row-major, and n.
    /// # Errors
    /// [`InferError::Rows`], [`InferError::Graph`].
    pub fn run(&self, features: &[f32], rows: usize) -> Result<(Vec<f32>, usize), InferError> {
        let row_len = self.row_len();
        if rows.checked_mul(row_len) != Some(features.len()) || row_len == 0 {
            return Err(InferError::Rows {
                found: features.len(),
                rows,
                row_len,
            });
        }
        let batch = self.dims.first().copied().unwrap_or(1);
        let mut outputs = Vec::new();
        let mut n_outputs = 0;
        for part in features.chunks(batch * row_len) {
            let rows_here = part.len() / row_len;
            // The plan has one batch size: the last, short batch is filled up with rows whose results are dropped.
            let mut filled = part.to_vec();
            filled.resize(batch * row_len, 0.0);
            let values = self.run_batch(&filled)?;
            if values.is_empty() || values.len() % batch != 0 {
                return Err(InferError::Graph {
                    reason: format!("{} values came out for a batch of {batch} rows", values.len()),
                });
            }
            n_outputs = values.len() / batch;
            outputs.extend_from_slice(&values[..rows_here * n_outputs]);
        }
        Ok((outputs, n_outputs))
    }

    fn run_batch(&self, features: &[f32]) -> Result<Vec<f32>, InferError> {
        let graph_error = |e: tract_onnx::prelude::TractError| InferError::Graph { reason: chain(&e) };
        let input = TractTensor::from_shape(&self.dims, features).map_err(graph_error)?;
        let outputs = self.plan.run(tvec!(input.into())).map_err(graph_error)?;
        let first = outputs.first().ok_or_else(|| InferError::Graph {
            reason: "the model has no output".to_owned(),
        })?;
        let view = first.to_plain_array_view::<f32>().map_err(graph_error)?;
        Ok(view.iter().copied().collect())
    }
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

/// Dimensions of a batch of the model's only input.
fn input_dims(model: &Model, batch: usize) -> Result<Vec<usize>, InferError> {
    let refuse = |reason: String| InferError::Input { reason };
    let [input] = model.inputs() else {
        return Err(refuse(format!("it has {} inputs; this version feeds one", model.inputs().len())));
    };
    if input.element != ElementType::F32 {
        return Err(refuse(format!("{:?} is not float32", input.name)));
    }
    let Some(dims) = input.dims.as_deref().filter(|dims| dims.len() >= 2) else {
        return Err(refuse(format!(
            "{:?} has no shape [batch, ...]; export the model with one",
            input.name
        )));
    };
    dims.iter()
        .enumerate()
        .map(|(i, dim)| match dim {
            Dim::Fixed(0) => Err(refuse(format!("dimension {i} of {:?} is 0", input.name))),
            Dim::Fixed(n) => Ok(*n),
            Dim::Symbol(_) | Dim::Unknown if i == 0 => Ok(batch),
            Dim::Symbol(_) | Dim::Unknown => Err(refuse(format!(
                "dimension {i} of {:?} is not fixed; only the first, the batch, may vary",
                input.name
            ))),
        })
        .collect()
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
