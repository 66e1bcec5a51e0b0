//! Dynamic quantization: weights are integers, activations become integers by each batch's own range. No calibration data is needed.

use std::collections::{BTreeMap, BTreeSet};

use aimass_onnx::Model;
use aimass_onnx::proto::{AttributeProto, DataType, GraphProto, NodeProto, TensorProto};

use super::opset::raised;
use super::weights::{Exclude, Use, Weight, quantized, scales, weights};
use super::{Options, QuantizeError};
use crate::parts::{IntType, Names, drop_unread, floats, giving, integers, longs, node, with};

/// Moves int8 weights to uint8, the one type that all runtimes' ConvInteger takes.
const MIDDLE: i32 = 128;

/// The model with integer products: DynamicQuantizeLinear, then MatMulInteger or ConvInteger, then a product with both scales and the
/// bias in float32. Of `options`, `per_channel`, `reduce_range` and `exclude` count. LSTM, GRU and RNN compute in float32 from weights
/// stored as int8, and so do ConvTranspose (which has no integer operator) and tables that Gather reads.
///
/// # Errors
/// [`QuantizeError`].
/// # Source
/// The graph that onnxruntime's `quantize_dynamic` makes; operators by ONNX's `docs/Operators.md`.
pub fn quantize(model: &Model, options: &Options) -> Result<Model, QuantizeError> {
    let excluded = Exclude::new(&options.exclude)?.nodes(model)?;
    let found = weights(model, &excluded)?;
    if found.is_empty() {
        return Err(QuantizeError::Nothing {
            reason: "it has no Conv, ConvTranspose, Gemm, MatMul, LSTM, GRU, RNN or embedding with a constant float32 weight that is not excluded"
                .to_owned(),
        });
    }
    let mut edit = Edit {
        model,
        options,
        names: Names::of(model.graph()),
        constants: Vec::new(),
        stored: BTreeMap::new(),
        inputs: BTreeMap::new(),
    };
    let mut proto = raised(model)?;
    for graph in proto.graph.iter_mut() {
        edit.apply(graph, &found)?;
        drop_unread(graph);
    }
    Ok(Model::from_proto(proto)?)
}

/// A weight as it is stored.
#[derive(Clone)]
struct Stored {
    name: String,
    scales: Vec<f32>,
    /// Name of the scales.
    scale: String,
    /// Name of the zero points. They are 0 where there is a choice, and said all the same: without one a runtime that moves a
    /// DequantizeLinear takes its integers for uint8.
    zero_point: String,
}

/// A quantized activation, its scale and zero point.
type Dynamic = [String; 3];

struct Edit<'m> {
    model: &'m Model,
    options: &'m Options,
    names: Names,
    constants: Vec<TensorProto>,
    stored: BTreeMap<(String, Option<usize>, i32), Stored>,
    /// By the activation's name.
    inputs: BTreeMap<String, Dynamic>,
}

impl Edit<'_> {
    fn apply(&mut self, graph: &mut GraphProto, found: &[Weight<'_>]) -> Result<(), QuantizeError> {
        let mut by_node: BTreeMap<usize, Vec<&Weight<'_>>> = BTreeMap::new();
        found.iter().for_each(|weight| by_node.entry(weight.node).or_default().push(weight));
        let mut nodes = Vec::with_capacity(graph.node.len());
        let mut bare = BTreeSet::new();
        for (at, layer) in std::mem::take(&mut graph.node).into_iter().enumerate() {
            let weights = by_node.remove(&at).unwrap_or_default();
            match weights.first() {
                Some(weight) if weight.used == Use::Layer && has_integers(&layer)? => self.layer(&layer, weight, &mut nodes)?,
                _ => {
                    let mut layer = layer;
                    for weight in weights {
                        self.stored_only(&mut layer, weight, &mut bare, &mut nodes)?;
                    }
                    nodes.push(layer);
                }
            }
        }
        graph.node = nodes;
        graph.initializer.append(&mut self.constants);
        Ok(())
    }

    /// A weight as integers of `kind`, once a weight, axis and kind.
    fn store(&mut self, weight: &Weight<'_>, axis: Option<usize>, kind: IntType) -> Result<Stored, QuantizeError> {
        let key = (weight.name().to_owned(), axis, kind.number());
        if let Some(stored) = self.stored.get(&key) {
            return Ok(stored.clone());
        }
        let scales = scales(weight, axis, self.options.largest())?;
        let middle = if kind == IntType::U8 { MIDDLE } else { 0 };
        let values = weight.tensor.to_f32().unwrap_or_default();
        let integer = quantized(&values, &weight.tensor.shape, axis, &scales, &vec![middle; scales.len()], kind);
        let mut fresh = |part: &str| self.names.fresh(&format!("{}/{part}", weight.name()));
        let (name, scale) = (fresh("quantized"), fresh("scale"));
        self.constants.push(integers(&name, &weight.tensor.shape, kind, &integer));
        let shape: &[usize] = if axis.is_some() { &[scales.len()] } else { &[] };
        self.constants.push(floats(&scale, shape, &scales));
        let zero_point = self.zero_point(weight.name(), shape, kind, middle);
        let stored = Stored {
            name,
            scales,
            scale,
            zero_point,
        };
        self.stored.insert(key, stored.clone());
        Ok(stored)
    }

    fn zero_point(&mut self, weight: &str, shape: &[usize], kind: IntType, value: i32) -> String {
        let name = self.names.fresh(&format!("{weight}/zero_point"));
        let values = vec![value; shape.iter().product()];
        self.constants.push(integers(&name, shape, kind, &values));
        name
    }

    /// The weight is stored in integers, the node computes in floats.
    fn stored_only(
        &mut self,
        layer: &mut NodeProto,
        weight: &Weight<'_>,
        given: &mut BTreeSet<String>,
        nodes: &mut Vec<NodeProto>,
    ) -> Result<(), QuantizeError> {
        let axis = weight.axis.filter(|_| self.options.per_channel);
        let stored = self.store(weight, axis, IntType::I8)?;
        let attributes = axis.map(|axis| vec![AttributeProto::int("axis", axis as i64)]).unwrap_or_default();
        if weight.used == Use::Table {
            // Only the rows that are looked up become floats.
            let (Some(output), rows) = (layer.output.first().cloned(), self.names.fresh(&format!("{}/rows", stored.name))) else {
                return Ok(());
            };
            layer.input[0].clone_from(&stored.name);
            let dequantize = giving(
                "DequantizeLinear",
                &[&rows, &stored.scale, &stored.zero_point],
                &output,
                &mut self.names,
            );
            let gather = std::mem::replace(layer, dequantize);
            nodes.push(NodeProto {
                output: vec![rows],
                ..gather
            });
            return Ok(());
        }
        let name = format!("{}/dequantized", stored.name);
        if given.insert(name.clone()) {
            nodes.push(with(
                node("DequantizeLinear", &[&stored.name, &stored.scale, &stored.zero_point], &name),
                attributes,
            ));
        }
        layer.input[weight.input] = name;
        Ok(())
    }

    fn layer(&mut self, layer: &NodeProto, weight: &Weight<'_>, nodes: &mut Vec<NodeProto>) -> Result<(), QuantizeError> {
        let (Some(input), Some(output)) = (layer.input_name(0), layer.output.first()) else {
            return Ok(());
        };
        let conv = layer.op_type == "Conv";
        let kind = if conv { IntType::U8 } else { IntType::I8 };
        // A Gemm's transposed weight is stored as the product needs it.
        let transposed = layer.op_type == "Gemm" && layer.attr_i("transB")?.unwrap_or(0) != 0;
        let axis = weight.axis.filter(|_| self.options.per_channel);
        let stored = match transposed {
            false => self.store(weight, axis, kind)?,
            true => self.store_transposed(weight, axis)?,
        };
        let [quantized, scale, zero_point] = self.input(input, nodes);
        let mut fresh = |part: &str| self.names.fresh(&format!("{output}/{part}"));
        let [sum, float, both, scaled] = ["integer", "float", "scale", "scaled"].map(&mut fresh);
        if conv {
            let middle = fresh("zero_point");
            self.constants.push(integers(&middle, &[], IntType::U8, &[MIDDLE]));
            let mut product = node("ConvInteger", &[&quantized, &stored.name, &zero_point, &middle], &sum);
            product.attribute.clone_from(&layer.attribute);
            nodes.push(product);
        } else {
            nodes.push(node("MatMulInteger", &[&quantized, &stored.name, &zero_point], &sum));
        }
        nodes.push(with(
            node("Cast", &[&sum], &float),
            vec![AttributeProto::int("to", DataType::Float as i64)],
        ));
        // Channels of a convolution are the axis after the batch.
        let scales = match axis {
            Some(_) if conv => {
                let shape: Vec<usize> = [stored.scales.len()]
                    .into_iter()
                    .chain(vec![1; weight.tensor.shape.len() - 2])
                    .collect();
                let name = fresh("weight_scale");
                self.constants.push(floats(&name, &shape, &stored.scales));
                name
            }
            _ => stored.scale.clone(),
        };
        nodes.push(node("Mul", &[&scale, &scales], &both));
        let bias = layer.input_name(2).map(str::to_owned);
        let product = if bias.is_some() { scaled } else { output.clone() };
        nodes.push(giving("Mul", &[&float, &both], &product, &mut self.names));
        if let Some(bias) = bias {
            let bias = if conv {
                self.channel_bias(&bias, weight.tensor.shape.len() - 2, output, nodes)
            } else {
                bias
            };
            nodes.push(giving("Add", &[&product, &bias], output, &mut self.names));
        }
        Ok(())
    }

    fn store_transposed(&mut self, weight: &Weight<'_>, axis: Option<usize>) -> Result<Stored, QuantizeError> {
        // [N, K], transposed after it was quantized: the scales are the same.
        let key = (weight.name().to_owned(), axis, -1);
        if let Some(stored) = self.stored.get(&key) {
            return Ok(stored.clone());
        }
        let scales = scales(weight, axis, self.options.largest())?;
        let (rows, columns) = (weight.tensor.shape[0], weight.tensor.shape[1]);
        let values = weight.tensor.to_f32().unwrap_or_default();
        let integer = quantized(&values, &weight.tensor.shape, axis, &scales, &[], IntType::I8);
        let turned: Vec<i32> = (0..rows * columns).map(|at| integer[at % rows * columns + at / rows]).collect();
        let mut fresh = |part: &str| self.names.fresh(&format!("{}/{part}", weight.name()));
        let (name, scale) = (fresh("transposed"), fresh("scale"));
        self.constants.push(integers(&name, &[columns, rows], IntType::I8, &turned));
        let shape: &[usize] = if axis.is_some() { &[scales.len()] } else { &[] };
        self.constants.push(floats(&scale, shape, &scales));
        let zero_point = self.zero_point(weight.name(), shape, IntType::I8, 0);
        let stored = Stored {
            name,
            scales,
            scale,
            zero_point,
        };
        self.stored.insert(key, stored.clone());
        Ok(stored)
    }

    /// An activation in integers, once an activation.
    fn input(&mut self, name: &str, nodes: &mut Vec<NodeProto>) -> Dynamic {
        if let Some(dynamic) = self.inputs.get(name) {
            return dynamic.clone();
        }
        let dynamic = ["quantized", "scale", "zero_point"].map(|part| self.names.fresh(&format!("{name}/{part}")));
        let mut quantize = node("DynamicQuantizeLinear", &[name], &dynamic[0]);
        quantize.output = dynamic.to_vec();
        nodes.push(quantize);
        self.inputs.insert(name.to_owned(), dynamic.clone());
        dynamic
    }

    /// A bias `[C]` as `[C, 1, ...]`: an initializer where it is one, else by a Reshape.
    fn channel_bias(&mut self, bias: &str, axes: usize, output: &str, nodes: &mut Vec<NodeProto>) -> String {
        let name = self.names.fresh(&format!("{output}/bias"));
        let tensor = self.model.initializer(bias);
        if let Some(values) = tensor.as_ref().and_then(aimass_onnx::TensorRef::to_f32) {
            let shape: Vec<usize> = [values.len()].into_iter().chain(vec![1; axes]).collect();
            self.constants.push(floats(&name, &shape, &values));
        } else {
            let shape = self.names.fresh(&format!("{output}/bias_shape"));
            let dims: Vec<i64> = [-1].into_iter().chain(vec![1; axes]).collect();
            self.constants.push(longs(&shape, &dims));
            nodes.push(node("Reshape", &[bias, &shape], &name));
        }
        name
    }
}

/// Whether a layer has an operator in integers that computes the same.
fn has_integers(layer: &NodeProto) -> Result<bool, QuantizeError> {
    let plain = |name: &str| layer.attr_f(name).map(|value| value.is_none_or(|value| value == 1.0));
    Ok(match layer.op_type.as_str() {
        "Conv" | "MatMul" => true,
        "Gemm" => plain("alpha")? && plain("beta")? && layer.attr_i("transA")?.unwrap_or(0) == 0,
        _ => false,
    })
}
