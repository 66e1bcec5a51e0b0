//! Which parameters are pruned.

use std::collections::{BTreeMap, BTreeSet};

use aimass_onnx::proto::GraphProto;
use aimass_onnx::{ElementType, Globs, LayoutError, Model, TensorRef};

use super::PruneError;
use crate::wiring::shown;

/// Which float32 initializers are pruned.
///
/// Without `include` these are the kernels and matrices of Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU and RNN; biases, the
/// parameters of norms and tables that a Gather reads stay whole, and so does a matrix that is such a table too. With `include` it is
/// what the globs name, whatever it is, but never the running statistics of a batch norm.
#[derive(Debug, Clone)]
pub struct PruneRules {
    /// What to prune; none means the default above.
    pub include: Globs,
    /// What to leave whole; wins over `include`.
    pub exclude: Globs,
    /// Smaller tensors stay whole: there is little to save.
    pub min_elements: usize,
}

impl Default for PruneRules {
    fn default() -> Self {
        Self {
            include: Globs::default(),
            exclude: Globs::default(),
            min_elements: 64,
        }
    }
}

impl PruneRules {
    /// Rules by globs.
    ///
    /// # Errors
    /// [`LayoutError::Glob`].
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self, LayoutError> {
        Ok(Self {
            include: Globs::new(include)?,
            exclude: Globs::new(exclude)?,
            ..Self::default()
        })
    }

    /// The parameters that are pruned, in the file's order.
    pub(super) fn choose<'m>(&self, model: &'m Model) -> Result<Vec<TensorRef<'m>>, PruneError> {
        let floats: Vec<_> = model.initializers().filter(|tensor| tensor.element == ElementType::F32).collect();
        let names = floats.iter().map(|tensor| tensor.proto.name.as_str());
        for globs in [&self.include, &self.exclude] {
            if let Some(glob) = globs.unmatched(names.clone()) {
                let known: Vec<_> = names.take(5).map(shown).collect();
                return Err(PruneError::Unmatched {
                    glob: shown(glob),
                    known: if known.is_empty() { "(none)".to_owned() } else { known.join(", ") },
                });
            }
        }
        let roles = Roles::of(model.graph());
        let wanted = |tensor: &TensorRef<'_>| {
            let name = tensor.proto.name.as_str();
            let named = match self.include.is_empty() {
                true => roles.matrices.contains(name) && !roles.others.contains(name),
                false => self.include.is_match(name),
            };
            let whole = roles.statistics.contains(name) || self.exclude.is_match(name);
            named && !whole && tensor.n_elements() >= self.min_elements.max(1)
        };
        let chosen: Vec<_> = floats.into_iter().filter(wanted).collect();
        if chosen.is_empty() {
            return Err(PruneError::NothingToPrune {
                min_elements: self.min_elements,
            });
        }
        Ok(chosen)
    }
}

/// What initializers are used as.
#[derive(Default)]
struct Roles<'m> {
    matrices: BTreeSet<&'m str>,
    /// In another slot that is no matrix of a layer: biases, norms, tables.
    others: BTreeSet<&'m str>,
    statistics: BTreeSet<&'m str>,
}

impl<'m> Roles<'m> {
    fn of(graph: &'m GraphProto) -> Self {
        let mut roles = Self::default();
        // What a rearranged value is a rearrangement of.
        let mut source: BTreeMap<&str, &str> = BTreeMap::new();
        for node in &graph.node {
            let op = node.standard_op().unwrap_or_default();
            let origin = |index: usize| node.input_name(index).map(|name| source.get(name).copied().unwrap_or(name));
            let rearranges = matches!(op, "Identity" | "Transpose" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten");
            if let (true, Some(name), Some(output)) = (rearranges, origin(0), node.output.first()) {
                source.insert(output, name);
                continue;
            }
            for index in 0..node.input.len() {
                let Some(name) = origin(index) else { continue };
                let role = match (op, index) {
                    ("Conv" | "ConvTranspose", 1) | ("Gemm" | "MatMul", 0 | 1) | ("LSTM" | "GRU" | "RNN", 1 | 2) => &mut roles.matrices,
                    ("BatchNormalization", 3 | 4) => &mut roles.statistics,
                    _ => &mut roles.others,
                };
                role.insert(name);
            }
        }
        roles
    }
}
