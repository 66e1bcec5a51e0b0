//! Quantized graphs as tract computes them exactly.
//!
//! tract 0.23.9 reads QuantizeLinear and its kin, but not always as ONNX means them: it multiplies by the reciprocal of a scale, which
//! moves values near the middle of two steps; it takes what lies between a DequantizeLinear and a QuantizeLinear for elementwise where it is
//! not (Softmax); it keeps the scales of 4-bit blocks of 32 in half precision; and it trusts zero points and lengths of parameters.
//! [`ready`] checks all that and rewrites the graph into plain operators on float32 that hold whole numbers where integers are meant.

mod activations;
mod constants;
mod dynamic;
mod error;
mod fuse;
mod glue;
mod nbits;
mod params;
mod products;
mod qlinear;
mod sums;
mod writer;

use aimass_onnx::Model;
use aimass_onnx::proto::{GraphProto, NodeProto};

pub use error::ServeError;
pub(crate) use nbits::{is_nbits, nbits};
use writer::{Writer, holds_quantized, is_quantized};

use crate::parts::{IntType, Ints, drop_dead, inner_graphs, integers};

/// A quantized model that tract computes as onnxruntime does: integers to the last bit, floats as float32 sums in another order may
/// differ. A model without quantization is returned as it is.
///
/// Weights behind a DequantizeLinear become float32 constants, so products run at the speed of float32. Activations are rounded half to
/// even and saturate. Integer products are computed in float32; where a sum could exceed 2^24, in parts that can't, added in float64.
///
/// # Errors
/// [`ServeError::Parameter`] for scales that are NaN, infinite or not positive, zero points and packed weights of another type or length;
/// [`ServeError::Unsupported`] for what there is no exact way to compute. Both name the node.
pub fn ready(model: &Model) -> Result<Model, ServeError> {
    let sub_byte = |graph: &GraphProto| graph.initializer.iter().any(|tensor| bits(tensor.data_type) < 8);
    if !model.graph().node.iter().any(holds_quantized) && !sub_byte(model.graph()) {
        return Ok(model.clone());
    }
    let fused = fuse::layers(model);
    let mut writer = Writer::new(model);
    for node in &fused {
        writer.visit(node)?;
    }
    let mut proto = model.proto().clone();
    for graph in proto.graph.iter_mut() {
        graph.node = std::mem::take(&mut writer.nodes);
        graph.initializer.append(&mut writer.tensors);
        graph.quantization_annotation.clear();
        drop_dead(graph);
        widen(graph);
    }
    Ok(Model::from_proto(proto)?)
}

fn bits(number: i32) -> u32 {
    IntType::from_number(number).map_or(32, IntType::bits)
}

/// Integers of less than a byte that are still read (by a Gather, before they are dequantized) get a byte each.
fn widen(graph: &mut GraphProto) {
    for tensor in graph.initializer.iter_mut().filter(|tensor| bits(tensor.data_type) < 8) {
        let wide = aimass_onnx::TensorRef::new(tensor)
            .ok()
            .and_then(|tensor| Ints::of(&tensor))
            .map(|ints| {
                let kind = if ints.kind.is_signed() { IntType::I8 } else { IntType::U8 };
                integers(&tensor.name, &ints.shape, kind, &ints.values)
            });
        if let Some(wide) = wide {
            *tensor = wide;
        }
    }
}

impl Writer<'_> {
    fn visit(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        if inner_graphs(node).any(|graph| graph.node.iter().any(holds_quantized)) {
            return Err(ServeError::unsupported(
                node,
                "a graph inside it is quantized; quantize the model without its branches and loops",
            ));
        }
        if is_nbits(node) {
            return self.matmul_nbits(node);
        }
        if !is_quantized(node) {
            return self.other(node);
        }
        if node.output.first().is_none_or(String::is_empty) {
            return Err(ServeError::unsupported(node, "it has no output; remove it"));
        }
        match node.op_type.as_str() {
            "QuantizeLinear" => self.quantize(node),
            "DequantizeLinear" => self.dequantize(node),
            "DynamicQuantizeLinear" => self.dynamic_quantize(node),
            "MatMulInteger" => self.matmul_integer(node),
            "ConvInteger" => self.conv_integer(node),
            "QLinearConv" if node.standard_op().is_some() => self.qlinear_conv(node),
            "QLinearMatMul" => self.qlinear_matmul(node),
            _ => self.microsoft(node),
        }
    }

    fn matmul_nbits(&mut self, product: &NodeProto) -> Result<(), ServeError> {
        let matrix = {
            let constant = |name: &str| self.constants.tensor(name);
            nbits(product, &constant)?
        };
        let weight = self.float(&format!("{}/float", product.input[1]), &[matrix.k, matrix.n], &matrix.values);
        let nodes = matrix.nodes(product, &weight, &mut self.names);
        self.nodes.extend(nodes);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
