//! Which values of a graph become integers. Calibration, fake quantization and static quantization go by one plan.
//!
//! A node is a *layer* (a product with a weight, or of two activations), *glue* (it moves, pools, adds or joins activations; integer
//! runtimes have it in integers), an *epilogue* (it follows a layer and is fused with it: Relu, a constant added), or anything else, which
//! stays in floats. A value is quantized when a layer or glue behind a layer reads it; a value that only an epilogue reads is not, so that
//! a runtime can fuse the two.

use std::collections::{BTreeMap, BTreeSet};

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{ElementType, Model};

use super::weights::{Exclude, Use, Weight, readers, weights};
use super::{Options, QuantizeError};

/// How a node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Layer,
    /// `true`: what comes out has the scale and zero point of what goes in.
    Glue(bool),
    Epilogue,
    Other,
}

/// See the module.
pub(super) struct Plan<'m> {
    pub(super) weights: Vec<Weight<'m>>,
    /// Quantized activations, with the one whose scale and zero point each has (mostly itself).
    pub(super) activations: BTreeMap<&'m str, &'m str>,
    /// Inputs of nodes that read a quantized activation.
    pub(super) reads: BTreeSet<(usize, usize)>,
}

impl<'m> Plan<'m> {
    pub(super) fn new(model: &'m Model, options: &Options) -> Result<Self, QuantizeError> {
        options.check()?;
        let excluded = Exclude::new(&options.exclude)?.nodes(model)?;
        let mut weights = weights(model, &excluded)?;
        if !options.per_channel {
            weights.iter_mut().for_each(|weight| weight.axis = None);
        }
        let mut walk = Walk {
            model,
            readers: readers(model),
            outputs: model.graph().output.iter().map(|output| output.name.as_str()).collect(),
            floats: model
                .inputs()
                .iter()
                .filter(|input| input.element == ElementType::F32)
                .map(|input| input.name.as_str())
                .collect(),
            near: BTreeSet::new(),
            layers: weights
                .iter()
                .filter(|weight| weight.used == Use::Layer)
                .map(|weight| weight.node)
                .collect(),
            activations: BTreeMap::new(),
            reads: BTreeSet::new(),
        };
        for (at, node) in model.graph().node.iter().enumerate() {
            walk.visit(at, node, excluded[at]);
        }
        let (activations, reads) = walk.finish();
        // A layer whose input is no float after all is left alone.
        weights.retain(|weight| weight.used != Use::Layer || reads.contains(&(weight.node, 0)));
        if weights.is_empty() {
            return Err(QuantizeError::Nothing {
                reason: "it has no Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU, RNN or embedding with a constant float32 weight that is not excluded"
                    .to_owned(),
            });
        }
        Ok(Self {
            weights,
            activations,
            reads,
        })
    }

    /// Tensors whose values have to be seen.
    pub(super) fn observed(&self) -> Vec<String> {
        let names: BTreeSet<&str> = self.activations.values().copied().collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

/// Nodes are in order, so what is known of a value is known when its reader comes.
struct Walk<'m> {
    model: &'m Model,
    readers: BTreeMap<&'m str, Vec<(usize, usize)>>,
    outputs: BTreeSet<&'m str>,
    /// Values that are float32 and no constants.
    floats: BTreeSet<&'m str>,
    /// Those with a layer before them, and nothing but glue and epilogues in between.
    near: BTreeSet<&'m str>,
    /// Nodes with a weight.
    layers: BTreeSet<usize>,
    activations: BTreeMap<&'m str, &'m str>,
    reads: BTreeSet<(usize, usize)>,
}

impl<'m> Walk<'m> {
    fn visit(&mut self, at: usize, node: &'m NodeProto, excluded: bool) {
        let role = if excluded { Role::Other } else { self.role(at, node) };
        let data = data_inputs(node, self.model);
        if let Role::Layer | Role::Glue(_) = role {
            for &input in &data {
                self.read(at, input, &node.input[input]);
            }
        }
        let first = node.input_name(0);
        for output in &node.output {
            if self.floats_come_out(node) {
                self.floats.insert(output);
            }
            if let (Role::Glue(true), Some(Some(&origin))) = (role, first.map(|name| self.activations.get(name))) {
                // Kept for when a later node reads it: see `read`.
                self.near.insert(output);
                self.activations.insert(output, origin);
            } else if role == Role::Layer || matches!(role, Role::Glue(_)) || role == Role::Epilogue && self.is_near(&data, node) {
                self.near.insert(output);
            }
        }
    }

    /// What is read in integers by one node is read in integers by all, so that what computes it has integers alone to give.
    fn finish(self) -> (BTreeMap<&'m str, &'m str>, BTreeSet<(usize, usize)>) {
        let nodes = &self.model.graph().node;
        let names: BTreeSet<&str> = self.reads.iter().map(|&(at, input)| nodes[at].input[input].as_str()).collect();
        let reads = names.iter().filter_map(|name| self.readers.get(name)).flatten().copied().collect();
        let activations = self.activations.into_iter().filter(|(name, _)| names.contains(name)).collect();
        (activations, reads)
    }

    /// Notes that an activation is read in integers.
    fn read(&mut self, at: usize, input: usize, name: &'m str) {
        self.activations.entry(name).or_insert(name);
        self.reads.insert((at, input));
    }

    fn is_near(&self, data: &[usize], node: &NodeProto) -> bool {
        data.iter()
            .any(|&input| node.input_name(input).is_some_and(|name| self.near.contains(name)))
    }

    fn role(&self, at: usize, node: &NodeProto) -> Role {
        let Some(op) = node.standard_op() else { return Role::Other };
        let data = data_inputs(node, self.model);
        let all_floats = !data.is_empty()
            && data
                .iter()
                .all(|&i| node.input_name(i).is_some_and(|name| self.floats.contains(name)));
        if !all_floats {
            return Role::Other;
        }
        let role = match op {
            "Conv" | "ConvTranspose" | "Gemm" if self.layers.contains(&at) => Role::Layer,
            // By a weight, or of two activations.
            "MatMul" if self.layers.contains(&at) || data.len() == 2 => Role::Layer,
            "MaxPool" | "Flatten" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Slice" | "Gather" | "DepthToSpace"
            | "SpaceToDepth" => Role::Glue(true),
            "AveragePool" | "GlobalAveragePool" | "Concat" => Role::Glue(false),
            "Add" | "Mul" if data.len() == 2 => Role::Glue(false),
            "Add" | "Mul" | "Relu" | "Clip" | "LeakyRelu" | "BatchNormalization" => Role::Epilogue,
            _ => Role::Other,
        };
        match role {
            // What no layer came before gains nothing from integers, and neither does what is an output at once.
            Role::Glue(_) if !self.is_near(&data, node) || !self.is_read(node) => Role::Other,
            // Indices of a maximum's place are not integers of the quantized kind.
            Role::Glue(true) if node.output.len() > 1 => Role::Other,
            role => role,
        }
    }

    /// Whether another node reads the output, which is not one of the graph's.
    fn is_read(&self, node: &NodeProto) -> bool {
        node.output
            .first()
            .is_some_and(|output| self.readers.contains_key(output.as_str()) && !self.outputs.contains(output.as_str()))
    }

    /// Whether a node's outputs are float32, by what goes in.
    fn floats_come_out(&self, node: &NodeProto) -> bool {
        let float = |index: usize| {
            node.input_name(index).is_some_and(|name| {
                self.floats.contains(name) || self.model.initializer(name).is_some_and(|t| t.element == ElementType::F32)
            })
        };
        match node.standard_op() {
            None => false,
            Some("Cast") => node.attr_i("to").is_ok_and(|to| to == Some(1)),
            Some("Where") => float(1),
            Some(
                "Shape" | "Size" | "ArgMax" | "ArgMin" | "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "IsNaN"
                | "IsInf" | "NonZero" | "TopK" | "Unique" | "If" | "Loop" | "Scan" | "CastLike" | "MaxUnpool" | "Constant" | "OneHot",
            ) => false,
            _ => float(0),
        }
    }
}

/// Inputs that carry activations, those that are constants left out.
fn data_inputs(node: &NodeProto, model: &Model) -> Vec<usize> {
    let n = match node.op_type.as_str() {
        "Add" | "Mul" | "MatMul" => 2,
        "Concat" => node.input.len(),
        _ => 1,
    };
    let is_data = |&input: &usize| node.input_name(input).is_some_and(|name| model.initializer(name).is_none());
    (0..n).filter(is_data).collect()
}
