//! From a graph with fake quantization to one whose weights are integers.

use std::collections::{BTreeMap, BTreeSet};

use aimass_onnx::Model;
use aimass_onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::QuantizeError;
use super::weights::{quantized, strides};
use crate::parts::{IntType, Ints, Names, drop_unread, floats, integers, node, read_names, shown, with};

/// Largest magnitude of a bias in steps of its scale. Beyond, the bias stays float32: a channel with hardly any weight has a tiny scale.
const LARGEST_BIAS: f64 = (1u64 << 30) as f64;

/// The static integer model of a graph that [`super::fake()`] made: weights int8, biases int32, no float32 copies of them.
///
/// # Errors
/// [`QuantizeError::NotFake`], [`QuantizeError::Weight`] for a weight that training made NaN; [`QuantizeError::Nothing`] for a graph
/// without fake quantization.
pub fn freeze(model: &Model) -> Result<Model, QuantizeError> {
    let mut frozen = Frozen {
        model,
        names: Names::of(model.graph()),
        pairs: BTreeMap::new(),
        constants: Vec::new(),
        dropped: BTreeSet::new(),
    };
    let nodes = &model.graph().node;
    for (at, node) in nodes.iter().enumerate() {
        match node.standard_op() {
            Some("QuantizeLinear") => frozen.weight(at, node)?,
            Some("DequantizeLinear") => frozen.pair(node),
            _ => {}
        }
    }
    if frozen.dropped.is_empty() {
        return Err(QuantizeError::Nothing {
            reason: "its weights have no fake quantization: make the graph with `fake` first".to_owned(),
        });
    }
    let mut proto = model.proto().clone();
    for graph in proto.graph.iter_mut() {
        let mut changed = Vec::with_capacity(graph.node.len());
        for (at, mut node) in std::mem::take(&mut graph.node).into_iter().enumerate() {
            if frozen.dropped.contains(&at) {
                continue;
            }
            changed.extend(frozen.bias(&mut node));
            changed.push(node);
        }
        graph.node = changed;
        graph.initializer.append(&mut frozen.constants);
        lookups_first(graph, &mut frozen.names);
        drop_unread(graph);
    }
    Ok(Model::from_proto(proto)?)
}

struct Frozen<'m> {
    model: &'m Model,
    names: Names,
    /// Scales by what a DequantizeLinear gives.
    pairs: BTreeMap<&'m str, Vec<f32>>,
    constants: Vec<TensorProto>,
    dropped: BTreeSet<usize>,
}

impl<'m> Frozen<'m> {
    /// A QuantizeLinear of an initializer becomes the initializer that it would give.
    fn weight(&mut self, at: usize, node: &'m NodeProto) -> Result<(), QuantizeError> {
        let not = |reason| QuantizeError::NotFake {
            node: node.label(),
            reason,
        };
        let tensor = |index: usize| node.input_name(index).and_then(|name| self.model.initializer(name));
        let Some(weight) = tensor(0) else { return Ok(()) };
        let (Some(values), Some(output)) = (weight.to_f32(), node.output.first()) else {
            return Err(not("it reads a constant that is not float32"));
        };
        let scales = tensor(1)
            .and_then(|scale| scale.to_f32())
            .ok_or_else(|| not("its scale is no float32 constant"))?;
        if scales.is_empty() || scales.iter().any(|scale| !(scale.is_finite() && *scale > 0.0)) {
            return Err(not("its scale is not a positive number"));
        }
        let zero_points = tensor(2)
            .and_then(|zero_point| Ints::of(&zero_point))
            .ok_or_else(|| not("it has no zero point"))?;
        if let Some(index) = values.iter().position(|value| !value.is_finite()) {
            return Err(QuantizeError::Weight {
                tensor: shown(&weight.proto.name),
                index,
            });
        }
        let axis = match node.attr_i("axis")? {
            Some(axis) if scales.len() > 1 => Some(usize::try_from(axis).map_err(|_| not("its axis is negative"))?),
            _ => None,
        };
        if strides(&weight.shape, axis).0 != scales.len() || zero_points.values.len() != scales.len() {
            return Err(not("its scale and zero point are not as long as the weight's axis"));
        }
        let integer = quantized(&values, &weight.shape, axis, &scales, &zero_points.values, zero_points.kind);
        self.constants.push(integers(output, &weight.shape, zero_points.kind, &integer));
        self.dropped.insert(at);
        Ok(())
    }

    fn pair(&mut self, node: &'m NodeProto) {
        let scale = node.input_name(1).and_then(|name| self.model.initializer(name));
        if let (Some(values), Some(output)) = (scale.and_then(|scale| scale.to_f32()), node.output.first()) {
            self.pairs.insert(output, values);
        }
    }

    /// A layer's bias becomes int32 with the product of its input's and its weight's scales; the node that brings it back.
    fn bias(&mut self, layer: &mut NodeProto) -> Option<NodeProto> {
        let plain = match layer.standard_op()? {
            "Conv" | "ConvTranspose" => true,
            "Gemm" => ["alpha", "beta"]
                .iter()
                .all(|name| layer.attr_f(name).is_ok_and(|value| value.is_none_or(|value| value == 1.0))),
            _ => false,
        };
        let name = layer.input_name(2).filter(|_| plain)?;
        let bias = self.model.initializer(name).filter(|bias| bias.shape.len() == 1)?;
        let (values, n) = (bias.to_f32()?, bias.shape[0]);
        let (input, weight) = (self.pairs.get(layer.input_name(0)?)?, self.pairs.get(layer.input_name(1)?)?);
        let [input] = input[..] else { return None };
        let scales: Vec<f32> = weight.iter().map(|scale| input * scale).collect();
        if scales.len() != 1 && scales.len() != n || scales.iter().any(|&scale| scale < f32::MIN_POSITIVE) {
            return None;
        }
        let axis = (scales.len() > 1).then_some(0);
        let scale_of = |at: usize| f64::from(scales[if axis.is_some() { at } else { 0 }]);
        if values
            .iter()
            .enumerate()
            .any(|(at, &value)| (f64::from(value) / scale_of(at)).abs() > LARGEST_BIAS || !value.is_finite())
        {
            return None;
        }
        let steps: Vec<i32> = values
            .iter()
            .enumerate()
            .map(|(at, &value)| (f64::from(value) / scale_of(at)).round_ties_even() as i32)
            .collect();
        let mut fresh = |part: &str| self.names.fresh(&format!("{name}/{part}"));
        let (scale, integer, given) = (fresh("scale"), fresh("quantized"), fresh("dequantized"));
        let shape: &[usize] = if axis.is_some() { &[n] } else { &[] };
        self.constants.push(floats(&scale, shape, &scales));
        self.constants.push(integers(&integer, &[n], IntType::I32, &steps));
        let attributes = axis.map(|axis| vec![AttributeProto::int("axis", axis)]).unwrap_or_default();
        let dequantize = with(node("DequantizeLinear", &[&integer, &scale], &given), attributes);
        layer.input[2] = given;
        Some(dequantize)
    }
}

/// Rows of a table are looked up before they become floats: only those that are needed do.
fn lookups_first(graph: &mut GraphProto, names: &mut Names) {
    let constants: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let tables: BTreeMap<String, NodeProto> = graph
        .node
        .iter()
        .filter(|node| node.standard_op() == Some("DequantizeLinear") && node.attr("axis").is_none())
        .filter(|node| node.input_name(0).is_some_and(|name| constants.contains(name)))
        .filter_map(|node| Some((node.output.first()?.clone(), node.clone())))
        .collect();
    let mut nodes = Vec::with_capacity(graph.node.len());
    for mut gather in std::mem::take(&mut graph.node) {
        let table = gather
            .input_name(0)
            .filter(|_| gather.standard_op() == Some("Gather"))
            .and_then(|name| tables.get(name));
        let (Some(table), [output]) = (table, &gather.output[..]) else {
            nodes.push(gather);
            continue;
        };
        let rows = names.fresh(&format!("{output}/quantized"));
        let mut dequantize = table.clone();
        dequantize.name = names.fresh(&format!("{output}/dequantize"));
        dequantize.input[0].clone_from(&rows);
        dequantize.output = vec![output.clone()];
        gather.input[0].clone_from(&table.input[0]);
        gather.output = vec![rows];
        nodes.extend([gather, dequantize]);
    }
    graph.node = nodes;
    // What dequantized a whole table may have no reader left.
    let read: BTreeSet<String> = read_names(graph).into_iter().map(str::to_owned).collect();
    graph.node.retain(|node| {
        !node
            .output
            .first()
            .is_some_and(|output| tables.contains_key(output) && !read.contains(output))
    });
}
