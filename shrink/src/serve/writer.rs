//! The rewritten graph while it grows.

use std::collections::BTreeMap;

use aimass_onnx::proto::{AttributeProto, DataType, NodeProto, TensorProto};
use aimass_onnx::{Dim, Model};

use super::constants::Constants;
use crate::parts::{IntType, Names, doubles, floats, giving, inner_graphs, node, with};

/// An integer value as floats that hold exactly these integers.
#[derive(Debug, Clone)]
pub(super) struct Twin {
    /// Name of the float32 value less `zero`.
    pub(super) centred: String,
    /// What has to be added.
    pub(super) zero: Zero,
    /// `None` where it is not known: an input of the graph.
    pub(super) kind: Option<IntType>,
}

/// A zero point.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Zero {
    Known(i32),
    /// The name of a float32 scalar, a whole number from 0 to 255.
    Computed(String),
}

/// Nodes and constants so far, and what is known of the values.
pub(super) struct Writer<'m> {
    pub(super) constants: Constants<'m>,
    pub(super) names: Names,
    pub(super) nodes: Vec<NodeProto>,
    pub(super) tensors: Vec<TensorProto>,
    /// Integer values by name.
    pub(super) twins: BTreeMap<String, Twin>,
    /// The float32 value of a zero point that DynamicQuantizeLinear gives, by the zero point's name.
    pub(super) computed: BTreeMap<String, String>,
    /// Sums of products, by name: the float32 or float64 value that holds them exactly.
    pub(super) sums: BTreeMap<String, String>,
    ranks: BTreeMap<String, usize>,
}

impl<'m> Writer<'m> {
    pub(super) fn new(model: &'m Model) -> Self {
        let rank = |(name, dims): (&String, &Option<Vec<Dim>>)| Some((name.clone(), dims.as_ref()?.len()));
        let values = model.inputs().iter().chain(model.outputs());
        Self {
            constants: Constants::of(model),
            names: Names::of(model.graph()),
            nodes: Vec::new(),
            tensors: Vec::new(),
            twins: BTreeMap::new(),
            computed: BTreeMap::new(),
            sums: BTreeMap::new(),
            ranks: values
                .filter_map(|value| rank((&value.name, &value.dims)))
                .chain(inferred(model))
                .collect(),
        }
    }

    /// Number of axes of a value, where the file says it.
    pub(super) fn rank(&self, name: &str) -> Option<usize> {
        self.ranks.get(name).copied()
    }

    /// A node whose output gets a new name like `hint`.
    pub(super) fn emit(&mut self, op: &str, inputs: &[&str], hint: &str) -> String {
        let output = self.names.fresh(hint);
        self.nodes.push(node(op, inputs, &output));
        output
    }

    /// A node that gives `output`.
    pub(super) fn give(&mut self, op: &str, inputs: &[&str], output: &str) {
        let made = giving(op, inputs, output, &mut self.names);
        self.nodes.push(made);
    }

    pub(super) fn cast(&mut self, input: &str, to: DataType, hint: &str) -> String {
        let output = self.names.fresh(hint);
        self.nodes
            .push(with(node("Cast", &[input], &output), vec![AttributeProto::int("to", to as i64)]));
        output
    }

    pub(super) fn float(&mut self, hint: &str, shape: &[usize], values: &[f32]) -> String {
        let name = self.names.fresh(hint);
        self.tensors.push(floats(&name, shape, values));
        name
    }

    pub(super) fn double(&mut self, hint: &str, shape: &[usize], values: &[f64]) -> String {
        let name = self.names.fresh(hint);
        self.tensors.push(doubles(&name, shape, values));
        name
    }

    /// `round_half_to_even(x / scale)` as float32, the quotient rounded to float32 as a division of float32 is.
    ///
    /// The division is done in float64, because tract turns it into a product with the reciprocal. Rounded to float32 that is the
    /// quotient of two float32 in every case: no quotient of 24-bit numbers lies within 2^-49 of the middle of two others.
    pub(super) fn steps(&mut self, x: &str, scale64: &str, hint: &str) -> String {
        let wide = self.cast(x, DataType::Double, &format!("{hint}/wide"));
        let quotient = self.emit("Div", &[&wide, scale64], &format!("{hint}/quotient"));
        let narrow = self.cast(&quotient, DataType::Float, &format!("{hint}/narrow"));
        self.emit("Round", &[&narrow], &format!("{hint}/round"))
    }

    /// Brings values into `[low, high]`.
    pub(super) fn clip(&mut self, x: &str, low: f32, high: f32, hint: &str) -> String {
        let low = self.float(&format!("{hint}/low"), &[], &[low]);
        let high = self.float(&format!("{hint}/high"), &[], &[high]);
        let above = self.emit("Max", &[x, &low], &format!("{hint}/max"));
        self.emit("Min", &[&above, &high], &format!("{hint}/min"))
    }

    /// Notes an integer value: `centred` plus `zero`; and gives it by its name, for readers other than those that know its twin.
    pub(super) fn integer(&mut self, name: &str, centred: String, zero: i32, kind: IntType) {
        let twin = Twin {
            centred,
            zero: Zero::Known(zero),
            kind: Some(kind),
        };
        self.twins.insert(name.to_owned(), twin);
        let whole = self.whole(name);
        let cast = giving("Cast", &[&whole], name, &mut self.names);
        self.nodes.push(with(cast, vec![AttributeProto::int("to", kind.number().into())]));
    }

    /// The twin of an integer value: the known one, that of a constant, or a cast.
    pub(super) fn twin(&mut self, name: &str) -> Twin {
        if let Some(twin) = self.twins.get(name) {
            return twin.clone();
        }
        let twin = match self.constants.ints(name) {
            Some(ints) => {
                let values: Vec<f32> = ints.values.iter().map(|&v| v as f32).collect();
                Twin {
                    centred: self.float(&format!("{name}/float"), &ints.shape, &values),
                    zero: Zero::Known(0),
                    kind: Some(ints.kind),
                }
            }
            None => Twin {
                centred: self.cast(name, DataType::Float, &format!("{name}/float")),
                zero: Zero::Known(0),
                kind: None,
            },
        };
        self.twins.insert(name.to_owned(), twin.clone());
        twin
    }

    /// The integers themselves as float32.
    pub(super) fn whole(&mut self, name: &str) -> String {
        self.less(name, &Zero::Known(0))
    }

    /// The integers less a zero point, as float32.
    pub(super) fn less(&mut self, name: &str, zero: &Zero) -> String {
        let twin = self.twin(name);
        if twin.zero == *zero {
            return twin.centred;
        }
        let hint = format!("{name}/less");
        let mut value = twin.centred;
        if let (Zero::Known(a), Zero::Known(b)) = (&twin.zero, zero) {
            let difference = self.float(&format!("{hint}/zero"), &[], &[(a - b) as f32]);
            return self.emit("Add", &[&value, &difference], &hint);
        }
        for (op, zero) in [("Add", &twin.zero), ("Sub", zero)] {
            let operand = match zero {
                Zero::Known(0) => continue,
                Zero::Known(zero) => self.float(&format!("{hint}/zero"), &[], &[*zero as f32]),
                Zero::Computed(name) => name.clone(),
            };
            value = self.emit(op, &[&value, &operand], &hint);
        }
        value
    }
}

/// Ranks by what the file says of values inside.
fn inferred(model: &Model) -> Vec<(String, usize)> {
    use aimass_onnx::proto::type_proto::Value;
    let rank = |info: &aimass_onnx::proto::ValueInfoProto| match info.r#type.as_ref()?.value.as_ref()? {
        Value::TensorType(tensor) => Some((info.name.clone(), tensor.shape.as_ref()?.dim.len())),
        _ => None,
    };
    model.graph().value_info.iter().filter_map(rank).collect()
}

/// Whether an operator belongs to quantized graphs.
pub(super) fn is_quantized(node: &NodeProto) -> bool {
    let op = node.op_type.as_str();
    let microsoft = node.domain == crate::parts::MICROSOFT;
    match op {
        "QuantizeLinear" | "DequantizeLinear" => microsoft || node.standard_op().is_some(),
        "DynamicQuantizeLinear" | "MatMulInteger" | "ConvInteger" | "QLinearConv" | "QLinearMatMul" => node.standard_op().is_some(),
        _ => {
            microsoft
                && ([
                    "QLinear",
                    "QGemm",
                    "DynamicQuantize",
                    "QAttention",
                    "QEmbed",
                    "QOrdered",
                    "QMoE",
                    "QuickQ",
                ]
                .iter()
                .any(|start| op.starts_with(start))
                    || ["NBits", "Bnb4", "FpQ4", "Integer", "Quantized", "Quantize", "IntegerToFloat"]
                        .iter()
                        .any(|part| op.contains(part)))
        }
    }
}

/// Whether a node, or one in a graph inside it, is of a quantized graph.
pub(super) fn holds_quantized(node: &NodeProto) -> bool {
    is_quantized(node) || inner_graphs(node).any(|graph| graph.node.iter().any(holds_quantized))
}
