//! Constants of a graph.

use std::collections::BTreeMap;

use aimass_onnx::proto::TensorProto;
use aimass_onnx::{Model, TensorRef};

use crate::parts::Ints;

/// Initializers and the outputs of Constant nodes, those behind an Identity too, and integers that were folded meanwhile.
pub(super) struct Constants<'m> {
    tensors: BTreeMap<&'m str, &'m TensorProto>,
    folded: BTreeMap<String, Ints>,
}

impl<'m> Constants<'m> {
    pub(super) fn of(model: &'m Model) -> Self {
        let graph = model.graph();
        let mut tensors: BTreeMap<&str, &TensorProto> = graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
        for node in &graph.node {
            let Some(output) = node.output.first() else { continue };
            let tensor = match node.standard_op() {
                Some("Constant") => node.attr_t("value").ok().flatten(),
                Some("Identity") => node.input_name(0).and_then(|name| tensors.get(name).copied()),
                _ => None,
            };
            if let Some(tensor) = tensor {
                tensors.insert(output, tensor);
            }
        }
        Self {
            tensors,
            folded: BTreeMap::new(),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Option<TensorRef<'m>> {
        // Each was checked when the model was read.
        self.tensors.get(name).and_then(|tensor| TensorRef::new(tensor).ok())
    }

    pub(super) fn ints(&self, name: &str) -> Option<Ints> {
        if let Some(folded) = self.folded.get(name) {
            return Some(folded.clone());
        }
        self.tensor(name).and_then(|tensor| Ints::of(&tensor))
    }

    pub(super) fn fold(&mut self, name: &str, ints: Ints) {
        self.folded.insert(name.to_owned(), ints);
    }

    pub(super) fn is_constant(&self, name: &str) -> bool {
        self.folded.contains_key(name) || self.tensors.contains_key(name)
    }
}
