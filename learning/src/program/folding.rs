//! What quantized weights stand for, found when a graph is read: a DequantizeLinear of constants is a constant, and a product with weights of a few
//! bits is one with what these stand for. So the kernels for weights serve them too.

use std::collections::BTreeSet;
use std::sync::Arc;

use aimass_onnx::proto::NodeProto;

use super::graph::{node_error, title};
use super::node::Attributes;
use super::plan::elements;
use super::{Element, Graph, GraphError, GraphSource, Integers, Mode, NodeView, Problem, Role, Tensor, Value, missing, refuse};
use crate::array::n_elements;
use crate::ops::quantize;

/// The domain of onnxruntime's own ops.
pub(crate) const MICROSOFT: &str = "com.microsoft";
/// Those that run here.
pub(crate) const OF_MICROSOFT: &[&str] = &["DequantizeLinear", "MatMulNBits", "QuantizeLinear"];

impl Graph {
    /// Replaces what is known by constants.
    pub(super) fn fold(&mut self) -> Result<(), GraphError> {
        let mut made = Vec::with_capacity(self.nodes.len());
        let mut changed = false;
        for node in std::mem::take(&mut self.nodes) {
            if node.domain == MICROSOFT && node.op_type == "MatMulNBits" {
                changed = true;
                made.extend(self.plain_product(&node).map_err(|p| node_error(&node, p.problem, p.fix))?);
            } else if node.op_type == "DequantizeLinear"
                && let Some(source) = self.dequantized(&node)
            {
                changed = true;
                self.sources.push(source);
            } else {
                made.push(node);
            }
        }
        self.nodes = made;
        if changed {
            self.forget_unread();
        }
        Ok(())
    }

    /// Drops constants that nothing reads any more.
    fn forget_unread(&mut self) {
        let read: BTreeSet<&str> = self
            .nodes
            .iter()
            .flat_map(|node| &node.input)
            .chain(&self.outputs)
            .map(String::as_str)
            .collect();
        self.sources
            .retain(|source| source.role != Role::Constant || read.contains(source.name.as_str()));
        self.hosts.retain(|name, _| read.contains(name.as_str()));
    }

    /// A constant by its name, as a planner sees it.
    fn constant(&self, name: &str) -> Option<Value> {
        if let Some(host) = self.hosts.get(name) {
            return Some(Value::Host(host.clone()));
        }
        let source = self.sources.iter().find(|s| s.name == name && s.role == Role::Constant)?;
        Some(Value::Tensor(Tensor {
            slot: 0,
            element: source.element,
            shape: source.shape.clone(),
            constant: Some(source.values.clone()),
        }))
    }

    /// What a DequantizeLinear of constants makes; `None` where they are none. What is wrong with it is said when it is planned.
    fn dequantized(&self, node: &NodeProto) -> Option<GraphSource> {
        let values: Vec<Option<Value>> = node.input.iter().map(|name| self.constant(name)).collect();
        if values
            .iter()
            .zip(&node.input)
            .any(|(value, name)| value.is_none() && !name.is_empty())
        {
            return None;
        }
        let view = NodeView {
            attributes: Attributes {
                proto: node,
                opset: self.opset_of(node),
            },
            inputs: values.iter().map(Option::as_ref).collect(),
            mode: Mode::Inference,
        };
        let (x, parameters) = quantize::dequantized(&view).ok()?;
        let integers: Vec<f32> = match x {
            Value::Tensor(tensor) => tensor.constant.as_deref()?.to_vec(),
            Value::Host(host) => host.values.as_deref()?.iter().map(|&v| v as f32).collect(),
        };
        Some(GraphSource {
            name: node.output.first()?.clone(),
            element: Element::Float,
            shape: x.shape().to_vec(),
            values: parameters.dequantized(&integers, x.shape()).into(),
            role: Role::Constant,
            integers: parameters.differences(&integers, x.shape()).map(Arc::new),
        })
    }

    /// The version of the operator set that a node is of: its domain's has but one that matters.
    pub(super) fn opset_of(&self, node: &NodeProto) -> i64 {
        const WITH_ALL: i64 = 21;
        if node.domain == MICROSOFT { WITH_ALL } else { self.opset }
    }

    /// A MatMulNBits as the product that it stands for, with a bias where there is one.
    fn plain_product(&mut self, node: &NodeProto) -> Result<Vec<NodeProto>, Problem> {
        let weights = self.few_bits(node)?;
        let output = node.output.first().cloned().unwrap_or_default();
        let fresh = |graph: &Self, what: &str| {
            let taken = |name: &String| {
                let made = graph.nodes.iter().flat_map(|n| &n.output).any(|other| other == name);
                made || graph.sources.iter().any(|s| s.name == *name) || graph.inputs.iter().any(|i| i.name == *name)
            };
            let mut name = format!("{output}.{what}");
            while taken(&name) || graph.hosts.contains_key(&name) {
                name.push('_');
            }
            name
        };
        let (name, product) = (fresh(self, "weights"), fresh(self, "product"));
        self.sources.push(GraphSource {
            name: name.clone(),
            ..weights
        });
        let plain = |op: &str, input: Vec<String>, output: String| NodeProto {
            op_type: op.to_owned(),
            name: title(node),
            input,
            output: vec![output],
            ..NodeProto::default()
        };
        let a = node.input.first().cloned().unwrap_or_default();
        Ok(match node.input.get(BIAS).filter(|name| !name.is_empty()) {
            None => vec![plain("MatMul", vec![a, name], output)],
            Some(bias) => vec![
                plain("MatMul", vec![a, name], product.clone()),
                plain("Add", vec![product, bias.clone()], output),
            ],
        })
    }

    /// The weights `[K, N]` of a MatMulNBits.
    ///
    /// # Source
    /// `MatMulNBits` in onnxruntime's `docs/ContribOperators.md`: rows of blocks along K, packed from the low bits on.
    fn few_bits(&self, node: &NodeProto) -> Result<GraphSource, Problem> {
        let attributes = Attributes { proto: node, opset: 1 };
        attributes.knows(&["K", "N", "accuracy_level", "bits", "block_size", "weight_prepacked"])?;
        let size = |name: &str, default: i64, fits: &dyn Fn(usize) -> bool| {
            let value = attributes.int(name, default);
            let found = usize::try_from(value).ok().filter(|&value| fits(value));
            found.ok_or_else(|| refuse(format!("its `{name}` is {value}"), "correct the attribute"))
        };
        let positive = |value: usize| value > 0 && value <= 1 << 24;
        let packed = Packed {
            k: size("K", 0, &positive)?,
            n: size("N", 0, &positive)?,
            bits: size("bits", 4, &|bits| matches!(bits, 2 | 4 | 8))?,
            block: size("block_size", 0, &|block| block >= 16 && block.is_power_of_two() && block <= 1 << 24)?,
        };
        size("weight_prepacked", 0, &|packed| packed == 0)?;
        if node.input.get(G_IDX).is_some_and(|name| !name.is_empty()) {
            return Err(refuse(
                format!("its input {G_IDX} (g_idx) reorders the groups"),
                "quantize without act-order, so that groups are neighbours",
            ));
        }
        let input = |i: usize| {
            let name = node.input.get(i).filter(|name| !name.is_empty())?;
            Some(
                self.constant(name)
                    .ok_or_else(|| refuse(format!("its input {i} is not a constant"), "store it as an initializer")),
            )
        };
        let tensor = |value: Value, i: usize| match value {
            Value::Tensor(tensor) => Ok(tensor),
            Value::Host(_) => Err(refuse(
                format!("its input {i} is made of integers"),
                "store it as its op defines it",
            )),
        };
        let required = |i: usize| tensor(input(i).ok_or_else(|| missing(i))??, i);
        let zeros = input(ZEROS).transpose()?.map(|value| tensor(value, ZEROS)).transpose()?;
        let values = packed.unpacked(&required(1)?, &required(2)?, zeros.as_ref())?;
        Ok(GraphSource {
            name: String::new(),
            element: Element::Float,
            shape: vec![packed.k, packed.n],
            values: values.into(),
            role: Role::Constant,
            integers: None,
        })
    }
}

/// Inputs of a MatMulNBits besides A, B and the scales.
const ZEROS: usize = 3;
const G_IDX: usize = 4;
const BIAS: usize = 5;

/// How the weights of a MatMulNBits are packed.
struct Packed {
    k: usize,
    n: usize,
    bits: usize,
    block: usize,
}

impl Packed {
    /// Value `i` of a list of packed ones.
    fn at(&self, bytes: &[f32], i: usize) -> f32 {
        let bit = i * self.bits;
        let byte = bytes[bit / 8] as u32;
        ((byte >> (bit % 8)) & ((1 << self.bits) - 1)) as f32
    }

    /// `[K, N]`, row-major.
    fn unpacked(&self, b: &Tensor, scales: &Tensor, zeros: Option<&Tensor>) -> Result<Vec<f32>, Problem> {
        let &Self { k, n, bits, block } = self;
        if elements(&[k, n]).is_none() {
            return Err(refuse(
                format!("its weights [{k}, {n}] are past the limit of elements"),
                "use a smaller model",
            ));
        }
        let blocks = k.div_ceil(block);
        let (row_bytes, zero_bytes) = (blocks * block * bits / 8, (blocks * bits).div_ceil(8));
        let bytes = |tensor: &Tensor, i: usize, wanted: usize| {
            let all = tensor.constant.as_deref().unwrap_or_default();
            if tensor.element == Element::Quantized(Integers::U8) && all.len() == wanted && n_elements(&tensor.shape) == Some(wanted) {
                return Ok(all.to_vec());
            }
            Err(refuse(
                format!(
                    "its input {i} is {:?} of {}, {wanted} bytes are needed",
                    tensor.shape, tensor.element
                ),
                format!("pack {n} rows of {blocks} blocks of {block} values of {bits} bits"),
            ))
        };
        let packed = bytes(b, 1, n.saturating_mul(row_bytes))?;
        let floats = |tensor: &Tensor, i: usize| {
            let all = tensor.constant.as_deref().unwrap_or_default();
            if tensor.element != Element::Float || all.len() != n * blocks {
                return Err(refuse(
                    format!("its input {i} is {:?} of {}", tensor.shape, tensor.element),
                    format!("store a float32 for each of {n} x {blocks} blocks"),
                ));
            }
            // Scales of weights that are alike on both sides of 0 may be below 0, and are 0 for a block of zeros.
            match all.iter().position(|v| !v.is_finite()) {
                Some(at) => Err(refuse(format!("its input {i} is {} at {at}", all[at]), "quantize the model again")),
                None => Ok(all.to_vec()),
            }
        };
        let scales = floats(scales, 2)?;
        let middle = (1u32 << (bits - 1)) as f32;
        let zeros: Vec<f32> = match zeros {
            None => vec![middle; n * blocks],
            Some(zeros) if zeros.element == Element::Float => floats(zeros, ZEROS)?,
            Some(zeros) => {
                let packed = bytes(zeros, ZEROS, n * zero_bytes)?;
                let rows = packed.chunks(zero_bytes);
                rows.flat_map(|row| (0..blocks).map(|i| self.at(row, i)).collect::<Vec<_>>())
                    .collect()
            }
        };
        let mut values = vec![0.0; k * n];
        for (row, bytes) in packed.chunks(row_bytes).enumerate() {
            for i in 0..k {
                let of = row * blocks + i / block;
                values[i * n + row] = (self.at(bytes, i) - zeros[of]) * scales[of];
            }
        }
        Ok(values)
    }
}
