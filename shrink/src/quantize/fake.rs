//! Graphs that compute in floats what the integer graph will compute.

use std::collections::BTreeMap;

use aimass_onnx::Model;
use aimass_onnx::proto::{AttributeProto, GraphProto, NodeProto};

use super::observe::Observed;
use super::opset::raised;
use super::plan::Plan;
use super::range::{Activations, Params};
use super::weights::{Weight, scales};
use super::{Options, QuantizeError};
use crate::parts::{IntType, Names, floats, integers, node, shown, with};

/// A graph for quantization-aware training: a QuantizeLinear and a DequantizeLinear between each weight and its node, and around the
/// activations that will be integers. Weights stay float32 initializers of the same names, so they train (a trainer lets gradients pass
/// straight through a pair); scales are constants. Biases stay as they are until [`super::freeze()`].
///
/// # Errors
/// [`QuantizeError::Unobserved`] where nothing was seen of an activation; [`QuantizeError`].
/// # Source
/// Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (CVPR 2018), section 3.
pub fn fake(model: &Model, observed: &Observed, options: &Options) -> Result<Model, QuantizeError> {
    let plan = Plan::new(model, options)?;
    let mut proto = raised(model)?;
    let mut edit = Edit {
        names: Names::of(model.graph()),
        ..Edit::default()
    };
    let mut params = BTreeMap::new();
    for (&name, &origin) in &plan.activations {
        let histogram = observed.histograms().get(origin);
        let range = histogram.and_then(|histogram| histogram.range(options.method, options.activations));
        let range = range.ok_or_else(|| QuantizeError::Unobserved { tensor: shown(origin) })?;
        params.insert(name, range.params(options.activations));
    }
    for (name, params) in params {
        edit.activation(name, params, options.activations);
    }
    for weight in &plan.weights {
        edit.weight(weight, options)?;
    }
    if let Some(graph) = &mut proto.graph {
        edit.apply(graph, &plan);
    }
    Ok(Model::from_proto(proto)?)
}

/// As [`fake`], with pairs behind weights alone: activations stay floats, and nothing has to be observed.
pub(super) fn weights(model: &Model, options: &Options) -> Result<Model, QuantizeError> {
    let plan = Plan::new(model, options)?;
    let mut proto = raised(model)?;
    let mut edit = Edit {
        names: Names::of(model.graph()),
        ..Edit::default()
    };
    for weight in &plan.weights {
        edit.weight(weight, options)?;
    }
    if let Some(graph) = &mut proto.graph {
        edit.apply(graph, &plan);
    }
    Ok(Model::from_proto(proto)?)
}

/// The integer type of activations.
pub(super) fn kind(activations: Activations) -> IntType {
    match activations {
        Activations::U8 => IntType::U8,
        Activations::I8 => IntType::I8,
    }
}

#[derive(Default)]
struct Edit {
    names: Names,
    /// Pairs behind each activation, and what they give.
    activations: BTreeMap<String, (Vec<NodeProto>, String)>,
    /// What the pair behind a weight gives, by the weight's name and axis; pairs come first in the graph.
    weights: BTreeMap<(String, Option<usize>), String>,
    weight_pairs: Vec<NodeProto>,
    /// The pair's output that an input of a node reads.
    weight_reads: BTreeMap<(usize, usize), String>,
    constants: Vec<aimass_onnx::proto::TensorProto>,
}

impl Edit {
    fn activation(&mut self, name: &str, params: Params, activations: Activations) {
        let kind = kind(activations);
        let pair = self.pair(name, None, &[params.scale], &[params.zero_point], kind);
        self.activations.insert(name.to_owned(), pair);
    }

    fn weight(&mut self, weight: &Weight<'_>, options: &Options) -> Result<(), QuantizeError> {
        let key = (weight.name().to_owned(), weight.axis);
        let given = match self.weights.get(&key) {
            Some(given) => given.clone(),
            None => {
                let scales = scales(weight, weight.axis, options.largest())?;
                let (nodes, given) = self.pair(weight.name(), weight.axis, &scales, &vec![0; scales.len()], IntType::I8);
                self.weight_pairs.extend(nodes);
                self.weights.insert(key, given.clone());
                given
            }
        };
        self.weight_reads.insert((weight.node, weight.input), given);
        Ok(())
    }

    /// A QuantizeLinear and a DequantizeLinear behind `name`, and what they give.
    fn pair(&mut self, name: &str, axis: Option<usize>, scales: &[f32], zero_points: &[i32], kind: IntType) -> (Vec<NodeProto>, String) {
        let mut fresh = |part: &str| self.names.fresh(&format!("{name}/{part}"));
        let (scale, zero_point, quantized, given) = (fresh("scale"), fresh("zero_point"), fresh("quantized"), fresh("dequantized"));
        let shape: &[usize] = if axis.is_some() { &[scales.len()] } else { &[] };
        self.constants.push(floats(&scale, shape, scales));
        self.constants.push(integers(&zero_point, shape, kind, zero_points));
        let attributes = || axis.map(|axis| vec![AttributeProto::int("axis", axis as i64)]).unwrap_or_default();
        let quantize = with(node("QuantizeLinear", &[name, &scale, &zero_point], &quantized), attributes());
        let dequantize = with(node("DequantizeLinear", &[&quantized, &scale, &zero_point], &given), attributes());
        (vec![quantize, dequantize], given)
    }

    fn apply(mut self, graph: &mut GraphProto, plan: &Plan<'_>) {
        let mut nodes = std::mem::take(&mut self.weight_pairs);
        let inputs: Vec<String> = graph.input.iter().map(|input| input.name.clone()).collect();
        for input in &inputs {
            nodes.extend(self.behind(input));
        }
        for (at, mut node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
            for (input, name) in node.input.iter_mut().enumerate() {
                if let Some(given) = self.weight_reads.get(&(at, input)) {
                    given.clone_into(name);
                } else if let Some((_, given)) = self.activations.get(name).filter(|_| plan.reads.contains(&(at, input))) {
                    given.clone_into(name);
                }
            }
            let outputs = node.output.clone();
            nodes.push(node);
            for output in &outputs {
                nodes.extend(self.behind(output));
            }
        }
        graph.node = nodes;
        graph.initializer.extend(self.constants);
    }

    fn behind(&mut self, name: &str) -> Vec<NodeProto> {
        self.activations
            .get_mut(name)
            .map(|(nodes, _)| std::mem::take(nodes))
            .unwrap_or_default()
    }
}
