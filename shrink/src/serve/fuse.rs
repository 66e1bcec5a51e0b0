//! Layers in QDQ format as integer products, as onnxruntime computes them.
//!
//! A Conv, MatMul or Gemm between DequantizeLinear nodes and a QuantizeLinear is computed in integers by a runtime that fuses them. In
//! floats the sum is rounded in other places, which near the middle of two steps gives the other one. It is faster, too: whole numbers need
//! one product with a factor where a division in float64 would be.

use std::collections::{BTreeMap, BTreeSet};

use aimass_onnx::Model;
use aimass_onnx::proto::NodeProto;

use super::constants::Constants;
use super::params::Params;
use super::sums::Channels;
use crate::parts::{IntType, MICROSOFT};

/// The graph's nodes, with QLinearConv, QLinearMatMul and QGemm in the place of layers that a runtime fuses. What is wrong with parameters
/// is left to the nodes that check them.
pub(super) fn layers(model: &Model) -> Vec<NodeProto> {
    let nodes = &model.graph().node;
    let search = Search::new(model);
    let mut changed: BTreeMap<usize, NodeProto> = BTreeMap::new();
    let mut gone = BTreeSet::new();
    for (at, node) in nodes.iter().enumerate() {
        if let Some(found) = search.fused(node) {
            changed.insert(found.quantize, found.node);
            gone.insert(at);
        }
    }
    let kept = nodes.iter().enumerate().filter(|(at, _)| !gone.contains(at));
    kept.map(|(at, node)| changed.remove(&at).unwrap_or_else(|| node.clone())).collect()
}

struct Fused {
    /// The position of the QuantizeLinear, whose place it takes.
    quantize: usize,
    node: NodeProto,
}

struct Search<'m> {
    model: &'m Model,
    constants: Constants<'m>,
    givers: BTreeMap<&'m str, usize>,
    readers: BTreeMap<&'m str, Vec<usize>>,
    /// Values that graphs inside nodes or the world outside read.
    kept: BTreeSet<&'m str>,
}

impl<'m> Search<'m> {
    fn new(model: &'m Model) -> Self {
        let graph = model.graph();
        let (mut givers, mut readers) = (BTreeMap::new(), BTreeMap::<&str, Vec<usize>>::new());
        let mut kept: BTreeSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
        for (at, node) in graph.node.iter().enumerate() {
            node.output.iter().for_each(|output| _ = givers.insert(output.as_str(), at));
            node.input.iter().for_each(|input| readers.entry(input).or_default().push(at));
            crate::parts::inner_graphs(node).for_each(|inner| kept.extend(crate::parts::read_names(inner)));
        }
        Self {
            model,
            constants: Constants::of(model),
            givers,
            readers,
            kept,
        }
    }

    fn node(&self, at: usize) -> &'m NodeProto {
        &self.model.graph().node[at]
    }

    /// The DequantizeLinear that gives an input, its parameters, and the type of its integers.
    fn dequantized(&self, node: &NodeProto, input: usize) -> Option<(&'m NodeProto, Params, IntType)> {
        let giver = self.node(*self.givers.get(node.input_name(input)?)?);
        if giver.standard_op() != Some("DequantizeLinear") || giver.attr_i("block_size").ok()?.unwrap_or(0) != 0 {
            return None;
        }
        let params = Params::read(giver, 1, 2, &self.constants).ok()?;
        let ints = giver.input_name(0).and_then(|name| self.constants.ints(name));
        let kind = ints.map(|ints| ints.kind).or(params.kind)?;
        (params.kind.is_none_or(|zero| zero == kind)).then_some((giver, params, kind))
    }

    /// The QuantizeLinear that is the only reader of a node's output, past a Relu or Clip that its range does anyway.
    fn quantized(&self, node: &NodeProto) -> Option<(usize, Params, IntType)> {
        let only_reader = |node: &NodeProto| {
            let output = node.output.first()?;
            match &self.readers.get(output.as_str())?[..] {
                [at] if !self.kept.contains(output.as_str()) => Some(*at),
                _ => None,
            }
        };
        let mut at = only_reader(node)?;
        let between = self.bounds(self.node(at));
        if between.is_some() {
            at = only_reader(self.node(at))?;
        }
        let quantize = self.node(at);
        if quantize.standard_op() != Some("QuantizeLinear") || quantize.attr_i("output_dtype").ok()?.unwrap_or(0) != 0 {
            return None;
        }
        let params = Params::read(quantize, 1, 2, &self.constants).ok()?;
        let kind = params.kind.unwrap_or(IntType::U8);
        let (&[scale], &[zero]) = (&params.scales[..], &params.zeros[..]) else {
            return None;
        };
        let value = |level: i32| f64::from(level - zero) * f64::from(scale);
        let (low, high) = (value(kind.range().0), value(kind.range().1));
        let within = between.is_none_or(|(least, most)| low >= f64::from(least) && high <= f64::from(most) * (1.0 + 1e-6));
        within.then_some((at, params, kind))
    }

    /// The range that a Relu or a Clip by constants leaves.
    fn bounds(&self, node: &NodeProto) -> Option<(f32, f32)> {
        let bound = |input: usize, otherwise: f32| match node.input_name(input) {
            None => Some(otherwise),
            Some(name) => match self.constants.tensor(name)?.to_f32()?[..] {
                [bound] => Some(bound),
                _ => None,
            },
        };
        match node.standard_op()? {
            "Relu" => Some((0.0, f32::INFINITY)),
            "Clip" if node.attribute.is_empty() => Some((bound(1, f32::NEG_INFINITY)?, bound(2, f32::INFINITY)?)),
            _ => None,
        }
    }

    fn fused(&self, node: &NodeProto) -> Option<Fused> {
        let op = node.standard_op()?;
        let (channels, fused) = match op {
            "Conv" => (Channels::First, "QLinearConv"),
            "MatMul" => (Channels::Last, "QLinearMatMul"),
            "Gemm" => {
                let plain = |name: &str| node.attr_f(name).is_ok_and(|value| value.is_none_or(|value| value == 1.0));
                let transposed = |name: &str| node.attr_i(name).is_ok_and(|flag| flag.unwrap_or(0) != 0);
                if !plain("alpha") || !plain("beta") || transposed("transA") {
                    return None;
                }
                (if transposed("transB") { Channels::First } else { Channels::Last }, "QGemm")
            }
            _ => return None,
        };
        let (x, x_params, x_kind) = self.dequantized(node, 0)?;
        let (w, w_params, w_kind) = self.dequantized(node, 1)?;
        let (quantize, _, y_kind) = self.quantized(node)?;
        let eight = |kind: IntType| matches!(kind, IntType::U8 | IntType::I8);
        // The pairs of types that onnxruntime fuses.
        let types = eight(x_kind) && eight(w_kind) && x_kind == y_kind && (x_kind == IntType::U8 || w_kind == IntType::I8);
        if !types || !x_params.is_one() {
            return None;
        }
        let weight = self.constants.ints(w.input_name(0)?)?;
        let axis = match channels {
            Channels::First => 0,
            Channels::Last => weight.shape.len() as i64 - 1,
        };
        if weight.shape.len() < 2 || !w_params.is_one() && w_params.scales.len() != channels.strides(&weight.shape).0 {
            return None;
        }
        let said = w.attr_i("axis").ok()?.unwrap_or(1);
        if !w_params.is_one() && said != axis && said + weight.shape.len() as i64 != axis {
            return None;
        }
        let bias = match node.input_name(2) {
            None => None,
            Some(_) => Some(self.bias(node, &x_params, &w_params, channels.strides(&weight.shape).0)?),
        };
        let input = |node: &NodeProto, at: usize| node.input.get(at).cloned().unwrap_or_default();
        let quantizer = self.node(quantize);
        // A zero point that is left out is 0, of the type of its integers.
        let mut inputs = vec![input(x, 0), input(x, 1), input(x, 2), input(w, 0), input(w, 1), input(w, 2)];
        let y = [input(quantizer, 1), input(quantizer, 2)];
        match (fused, bias) {
            ("QGemm", bias) => {
                inputs.push(bias.unwrap_or_default());
                inputs.extend(y);
            }
            (_, bias) => {
                inputs.extend(y);
                inputs.extend(bias);
            }
        }
        let keeps = |name: &str| fused != "QGemm" || matches!(name, "transB" | "alpha");
        let node = NodeProto {
            op_type: fused.to_owned(),
            domain: if fused == "QGemm" { MICROSOFT.to_owned() } else { String::new() },
            input: inputs,
            output: quantizer.output.clone(),
            attribute: node.attribute.iter().filter(|attribute| keeps(&attribute.name)).cloned().collect(),
            ..node.clone()
        };
        Some(Fused { quantize, node })
    }

    /// The name of an int32 bias whose scale is the product of the others, to 1 part in 1000.
    fn bias(&self, node: &NodeProto, x: &Params, w: &Params, channels: usize) -> Option<String> {
        let (giver, params, kind) = self.dequantized(node, 2)?;
        let name = giver.input_name(0)?;
        let ints = self.constants.ints(name)?;
        let scale = |params: &Params, at: usize| params.scales[if params.scales.len() == 1 { 0 } else { at }];
        let n = params.scales.len().max(w.scales.len());
        let fits = params.scales.len() == n || params.scales.len() == 1;
        let same = |at: usize| {
            let product = f64::from(x.scales[0]) * f64::from(scale(w, at));
            (f64::from(scale(&params, at)) / product - 1.0).abs() < 1e-3
        };
        let sound = kind == IntType::I32 && ints.shape == [channels] && params.zeros.iter().all(|&zero| zero == 0) && fits;
        (sound && (0..n).all(same)).then(|| name.to_owned())
    }
}
