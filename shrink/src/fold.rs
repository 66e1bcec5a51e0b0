//! Folding: what an inference graph computes of constants alone, or adds and multiplies after a layer, goes into the layer's weights.
//!
//! [`fold`] takes batch norms, and multiplications and additions by constants, into the Conv, ConvTranspose or Gemm before them, and takes
//! Identity and Dropout out: what is left is the plain graph that is quantized. It is for inference: a folded batch norm trains no more.
//! Each new weight is computed in f64 and rounded once, so outputs differ by rounding alone.
//!
//! # Source
//! Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference (CVPR), section 3.2,
//! equation 14.

mod affine;
mod layer;
mod remove;

use std::collections::BTreeMap;

use aimass_onnx::proto::{GraphProto, NodeProto, TensorProto};
use aimass_onnx::{Model, ReadError};

use crate::wiring::{Names, uses};
use layer::Layer;

/// In this version of the format and older ones, every initializer is an input.
const INITIALIZERS_ARE_INPUTS: i64 = 3;

/// A graph that can't be folded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// In older versions each initializer is an input, which whoever runs the model may feed.
    #[error("the model has IR version {found}, in which every weight is an input; export it again with a newer one to fold it")]
    IrVersion {
        /// In the file.
        found: i64,
    },
    /// The result is no model.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What was folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folded {
    /// Batch norms that went into a layer, by node.
    pub norms: Vec<String>,
    /// Additions, subtractions, multiplications and divisions that went into a layer, by node.
    pub constants: Vec<String>,
    /// Identities and dropouts that were taken out, by node.
    pub removed: Vec<String>,
    /// Batch norms that stay, by node: nothing that they could go into comes before them, or its result is used elsewhere too.
    pub left: Vec<String>,
}

/// Folds until nothing is left to fold. Inputs, outputs and their names stay; constants that nothing uses any more go, and so do types of
/// values in between.
///
/// # Errors
/// [`FoldError::IrVersion`] for a model of IR version 3.
pub fn fold(model: &Model) -> Result<(Model, Folded), FoldError> {
    let found = model.proto().ir_version;
    if found <= INITIALIZERS_ARE_INPUTS {
        return Err(FoldError::IrVersion { found });
    }
    let mut proto = model.proto().clone();
    let mut folded = Folded::default();
    if let Some(graph) = proto.graph.as_mut() {
        folded.removed = remove::pass_through(graph, model.opset());
        fold_layers(graph, &mut folded);
        remove::unused(graph);
        graph.value_info.clear();
        let norms = graph.node.iter().filter(|node| node.standard_op() == Some("BatchNormalization"));
        folded.left = norms.map(NodeProto::label).collect();
    }
    Ok((Model::from_proto(proto)?, folded))
}

/// Takes what follows each layer into it, one node after the other.
fn fold_layers(graph: &mut GraphProto, folded: &mut Folded) {
    let mut names = Names::of(graph);
    let uses = uses(graph);
    let constants = Constants::of(graph);
    // The node that uses a value, where there is just one.
    let users: BTreeMap<String, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(at, node)| node.input.iter().map(move |input| (input.clone(), at)))
        .filter(|(input, _)| uses.get(input) == Some(&1))
        .collect();
    let mut gone = vec![false; graph.node.len()];
    for at in 0..graph.node.len() {
        let Some(mut layer) = Layer::read(&graph.node[at], &constants) else {
            continue;
        };
        let mut changed = false;
        while let Some(&next) = users.get(layer.output()) {
            let node = &graph.node[next];
            let Some(affine) = affine::of(node, &layer, &constants) else {
                break;
            };
            let Some(output) = node.output.first().cloned() else { break };
            if !layer.take(&affine, output) {
                break;
            }
            match node.op_type.as_str() {
                "BatchNormalization" => folded.norms.push(node.label()),
                _ => folded.constants.push(node.label()),
            }
            gone[next] = true;
            changed = true;
        }
        if changed {
            let (node, tensors) = layer.write(&graph.node[at], &mut names);
            graph.node[at] = node;
            graph.initializer.extend(tensors);
        }
    }
    let mut gone = gone.into_iter();
    graph.node.retain(|_| !gone.next().unwrap_or(false));
}

/// The constant tensors of a graph by name: initializers that nobody feeds, and what Constant nodes hold.
struct Constants(BTreeMap<String, TensorProto>);

impl Constants {
    fn of(graph: &GraphProto) -> Self {
        let mut found = BTreeMap::new();
        for tensor in &graph.initializer {
            found.insert(tensor.name.clone(), tensor.clone());
        }
        for input in &graph.input {
            found.remove(&input.name);
        }
        for node in graph.node.iter().filter(|node| node.standard_op() == Some("Constant")) {
            if let (Ok(Some(tensor)), Some(output)) = (node.attr_t("value"), node.output.first()) {
                found.insert(output.clone(), tensor.clone());
            }
        }
        Self(found)
    }

    /// Shape and values of a float32 constant.
    fn floats(&self, name: &str) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensor = aimass_onnx::TensorRef::new(self.0.get(name)?).ok()?;
        let values = tensor.to_f32()?;
        Some((tensor.shape, values))
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        Some(aimass_onnx::TensorRef::new(self.0.get(name)?).ok()?.shape)
    }
}

#[cfg(test)]
mod tests;
