//! Weights in 4 bits, a scale a block.

use std::collections::BTreeMap;

use aimass_onnx::Model;
use aimass_onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};

use super::QuantizeError;
use super::weights::{Exclude, Use, Weight, weights};
use crate::parts::{IntType, MICROSOFT, Names, drop_unread, floats, giving, import, integers, shown, with};

/// Block sizes that runtimes have fast products for.
pub const BLOCK_SIZES: [usize; 4] = [16, 32, 64, 128];
/// The integer of zero in an unsigned nibble.
const MIDDLE: i32 = 8;

/// How weights are stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Weights that share a scale: one of [`BLOCK_SIZES`], along the axis that is summed over.
    pub block_size: usize,
    /// Globs over names of nodes, of their first outputs and of their weights that stay in float32.
    pub exclude: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            block_size: 64,
            exclude: Vec::new(),
        }
    }
}

/// The model with MatMul and Gemm by constant matrices as MatMulNBits of `com.microsoft`: 4-bit weights, symmetric, a float32 scale a
/// block. Of each block the value of largest magnitude is stored best: it becomes -8.
///
/// # Errors
/// [`QuantizeError::Nothing`] without such a product; [`QuantizeError`].
/// # Source
/// onnxruntime's `docs/ContribOperators.md`, com.microsoft.MatMulNBits.
pub fn quantize(model: &Model, options: &Options) -> Result<Model, QuantizeError> {
    if !BLOCK_SIZES.contains(&options.block_size) {
        return Err(QuantizeError::Option {
            option: "the block size",
            found: options.block_size.to_string(),
            wanted: "use 16, 32, 64 or 128",
        });
    }
    let excluded = Exclude::new(&options.exclude)?.nodes(model)?;
    let mut products = BTreeMap::new();
    for weight in weights(model, &excluded)? {
        if weight.used == Use::Layer && weight.tensor.shape.len() == 2 && is_product(&model.graph().node[weight.node])? {
            products.insert(weight.node, weight);
        }
    }
    if products.is_empty() {
        return Err(QuantizeError::Nothing {
            reason: "it has no MatMul or Gemm by a constant float32 matrix that is not excluded: use int8 for its other layers".to_owned(),
        });
    }
    let mut proto = model.proto().clone();
    import(&mut proto, MICROSOFT, 1);
    let mut edit = Edit {
        names: Names::of(model.graph()),
        block: options.block_size,
        stored: BTreeMap::new(),
        constants: Vec::new(),
    };
    for graph in proto.graph.iter_mut() {
        let mut nodes = Vec::with_capacity(graph.node.len());
        for (at, layer) in std::mem::take(&mut graph.node).into_iter().enumerate() {
            match products.get(&at) {
                Some(weight) => edit.product(&layer, weight, &mut nodes)?,
                None => nodes.push(layer),
            }
        }
        graph.node = nodes;
        graph.initializer.append(&mut edit.constants);
        drop_unread(graph);
    }
    Ok(Model::from_proto(proto)?)
}

/// Whether a node is a product with its weight and nothing else but a bias.
fn is_product(layer: &NodeProto) -> Result<bool, QuantizeError> {
    let plain = |name: &str| layer.attr_f(name).map(|value| value.is_none_or(|value| value == 1.0));
    Ok(match layer.op_type.as_str() {
        "MatMul" => true,
        "Gemm" => plain("alpha")? && plain("beta")? && layer.attr_i("transA")?.unwrap_or(0) == 0,
        _ => false,
    })
}

struct Edit {
    names: Names,
    block: usize,
    /// Names of packed weights and scales, by the weight's name and whether it was transposed.
    stored: BTreeMap<(String, bool), [String; 2]>,
    constants: Vec<TensorProto>,
}

impl Edit {
    fn product(&mut self, layer: &NodeProto, weight: &Weight<'_>, nodes: &mut Vec<NodeProto>) -> Result<(), QuantizeError> {
        let by_rows = layer.op_type == "Gemm" && layer.attr_i("transB")?.unwrap_or(0) != 0;
        let [rows, columns] = weight.tensor.shape[..] else { return Ok(()) };
        let (k, n) = if by_rows { (columns, rows) } else { (rows, columns) };
        let (Some(input), Some(output)) = (layer.input_name(0), layer.output.first()) else {
            return Ok(());
        };
        let [packed, scale] = self.store(weight, by_rows, k, n)?;
        let bias = layer.input_name(2);
        let given = if bias.is_some() {
            self.names.fresh(&format!("{output}/product"))
        } else {
            output.clone()
        };
        let int = |name: &str, value: usize| AttributeProto::int(name, value as i64);
        let attributes = vec![int("K", k), int("N", n), int("bits", 4), int("block_size", self.block)];
        let mut product = with(
            giving("MatMulNBits", &[input, &packed, &scale], &given, &mut self.names),
            attributes,
        );
        MICROSOFT.clone_into(&mut product.domain);
        nodes.push(product);
        if let Some(bias) = bias {
            nodes.push(giving("Add", &[&given, bias], output, &mut self.names));
        }
        Ok(())
    }

    fn store(&mut self, weight: &Weight<'_>, by_rows: bool, k: usize, n: usize) -> Result<[String; 2], QuantizeError> {
        let key = (weight.name().to_owned(), by_rows);
        if let Some(stored) = self.stored.get(&key) {
            return Ok(stored.clone());
        }
        let (nibbles, scales) = packed(weight, by_rows, k, n, self.block)?;
        let names = ["packed", "scales"].map(|part| self.names.fresh(&format!("{}/{part}", weight.name())));
        let blocks = k.div_ceil(self.block);
        self.constants
            .push(integers(&names[0], &[n, blocks, self.block / 2], IntType::U8, &nibbles));
        self.constants.push(floats(&names[1], &[n * blocks], &scales));
        self.stored.insert(key, names.clone());
        Ok(names)
    }
}

/// Bytes of two nibbles, `[n, blocks, block / 2]`, the first weight in the low bits, and scales `[n, blocks]`.
fn packed(weight: &Weight<'_>, by_rows: bool, k: usize, n: usize, block: usize) -> Result<(Vec<i32>, Vec<f32>), QuantizeError> {
    let values = weight.tensor.to_f32().unwrap_or_default();
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(QuantizeError::Weight {
            tensor: shown(weight.name()),
            index,
        });
    }
    let blocks = k.div_ceil(block);
    let (mut bytes, mut scales) = (Vec::with_capacity(n * blocks * block / 2), Vec::with_capacity(n * blocks));
    let at = |row: usize, column: usize| {
        if by_rows {
            values[column * k + row]
        } else {
            values[row * n + column]
        }
    };
    for column in 0..n {
        for first in (0..k).step_by(block) {
            let part: Vec<f32> = (first..(first + block).min(k)).map(|row| at(row, column)).collect();
            let furthest = part.iter().fold(0.0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
            let scale = furthest / -MIDDLE as f32;
            // Of a block of zeros, and one so small that its scale is no normal number.
            let scale = if scale.abs() < f32::MIN_POSITIVE { 1.0 } else { scale };
            let nibble = |at: usize| {
                part.get(at)
                    .map_or(MIDDLE, |v| ((v / scale).round_ties_even() as i32 + MIDDLE).clamp(0, 15))
            };
            bytes.extend((0..block / 2).map(|pair| nibble(2 * pair) | nibble(2 * pair + 1) << 4));
            scales.push(scale);
        }
    }
    Ok((bytes, scales))
}

/// The model with float32 matrices again: each MatMulNBits becomes a MatMul (and an Add, where it has a bias), which every runtime has.
///
/// # Errors
/// [`crate::serve::ServeError`] for one whose parts do not fit its attributes.
pub fn expand(model: &Model) -> Result<Model, crate::serve::ServeError> {
    let mut proto = model.proto().clone();
    let mut names = Names::of(model.graph());
    for graph in proto.graph.iter_mut() {
        expand_graph(model, graph, &mut names)?;
        crate::parts::drop_dead(graph);
    }
    Ok(Model::from_proto(proto)?)
}

fn expand_graph(model: &Model, graph: &mut GraphProto, names: &mut Names) -> Result<(), crate::serve::ServeError> {
    let mut nodes = Vec::with_capacity(graph.node.len());
    let mut made: BTreeMap<String, String> = BTreeMap::new();
    for product in std::mem::take(&mut graph.node) {
        if !crate::serve::is_nbits(&product) {
            nodes.push(product);
            continue;
        }
        let constant = |name: &str| model.initializer(name);
        let matrix = crate::serve::nbits(&product, &constant)?;
        // One weight that several nodes read stays one, where they read it alike.
        let key = format!("{:?} {:?}", &product.input[1..], product.attribute);
        let name = made.entry(key).or_insert_with(|| {
            let name = names.fresh(&format!("{}/float", product.input.get(1).map_or("", String::as_str)));
            graph.initializer.push(floats(&name, &[matrix.k, matrix.n], &matrix.values));
            name
        });
        nodes.extend(matrix.nodes(&product, name, names));
    }
    graph.node = nodes;
    Ok(())
}
