//! What was removed.

use std::collections::BTreeMap;

use aimass_onnx::{ElementType, Model, ParamKind, ParamLayout};

/// What a structured pruning removed, and what that brought.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelPlan {
    /// Groups of channels that are tied to each other, each by the weights that make them; those that could lose some.
    pub groups: Vec<ChannelGroup>,
    /// Every axis of a weight that became shorter, by weight and axis.
    pub cuts: Vec<Cut>,
    /// Numbers in the model's float32 weights before.
    pub parameters_before: usize,
    /// And now.
    pub parameters_after: usize,
}

/// Layers whose channels go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelGroup {
    /// Names of the weights that make the channels.
    pub layers: Vec<String>,
    /// Channels before; those of a grouped convolution that go together count as one.
    pub before: usize,
    /// Channels that are kept.
    pub kept: usize,
}

/// An axis of a weight that became shorter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The weight.
    pub param: String,
    /// The axis.
    pub axis: usize,
    /// Its length before.
    pub before: usize,
    /// The places that are kept, ascending.
    pub kept: Vec<usize>,
    /// Along this axis the weight reads the channels and adds them up: with zeros there, they are of no effect.
    pub outgoing: bool,
}

impl ChannelPlan {
    /// The model that was pruned with zeros where a weight reads a removed channel: it computes what the pruned one does, but for
    /// rounding. `None` for another model.
    pub fn silenced(&self, model: &Model) -> Option<Model> {
        let mut cuts: BTreeMap<&str, Vec<&Cut>> = BTreeMap::new();
        for cut in self.cuts.iter().filter(|cut| cut.outgoing) {
            cuts.entry(&cut.param).or_default().push(cut);
        }
        let floats = model.initializers().filter(|tensor| tensor.element == ElementType::F32);
        let kinds: Vec<ParamKind> = floats
            .map(|tensor| match cuts.contains_key(tensor.proto.name.as_str()) {
                true => ParamKind::Weight,
                false => ParamKind::Frozen,
            })
            .collect();
        let layout = ParamLayout::with_kinds(model, &kinds)?;
        let mut values = model.weights(&layout).ok()?;
        for param in layout.params().iter().filter(|param| param.kind == ParamKind::Weight) {
            let own = values.get_mut(param.range())?;
            for cut in cuts.get(param.name.as_str())? {
                if param.shape.get(cut.axis) != Some(&cut.before) {
                    return None;
                }
                let inner: usize = param.shape[cut.axis + 1..].iter().product();
                for (at, run) in own.chunks_exact_mut(inner.max(1)).enumerate() {
                    if cut.kept.binary_search(&(at % cut.before)).is_err() {
                        run.fill(0.0);
                    }
                }
            }
        }
        model.with_weights(&layout, &values).ok()
    }
}
