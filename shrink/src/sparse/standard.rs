//! The standard format: a weight is put together from a bit mask and its values by ONNX's own operators.
//!
//! For a weight `w` of `n` elements, with `m = ceil(n / 8)`:
//!
//! ```text
//! mask [m] uint8 -Cast-> int32 -Reshape-> [m, 1] -Div by 1, 2, 4 ... 128-> [m, 8] -Mod 2-> bits -Reshape, Slice-> [n]
//! bits -CumSum-> how many up to here -Mul by bits-> 0, or which value -Gather of [fill, values ...]-> [n] -Reshape-> w
//! ```

use std::collections::BTreeMap;

use aimass_onnx::proto::{AttributeProto, DataType, GraphProto, NodeProto, TensorProto};
use aimass_onnx::{Model, TensorRef};

use super::code::{Dense, from_bits};
use super::positions::{mask, mask_bytes};
use super::record::Record;
use super::{Format, LEAST_SAVED_BYTES, PREFIX, SparseError, damaged};

/// The first operator set with CumSum.
const OLDEST_OPSET: i64 = 11;
/// The first IR version in which an initializer need not be an input.
const OLDEST_IR: i64 = 4;
/// Ends of names.
const VALUES: &str = "/values";
const MASK: &str = "/mask";
/// What a packed weight costs beside mask and values: its nodes and its shape.
const NODES_BYTES: usize = 1024;

/// That a model can hold this format.
pub(super) fn check(model: &Model) -> Result<(), SparseError> {
    if model.opset() < OLDEST_OPSET {
        return Err(SparseError::Opset {
            found: model.opset(),
            oldest: OLDEST_OPSET,
        });
    }
    if model.proto().ir_version < OLDEST_IR {
        return Err(SparseError::IrVersion {
            found: model.proto().ir_version,
            oldest: OLDEST_IR,
        });
    }
    Ok(())
}

/// What is added to a graph.
#[derive(Default)]
pub(super) struct Parts {
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
}

fn constant(name: String, element: DataType, dims: Vec<i64>, raw: Vec<u8>) -> TensorProto {
    TensorProto {
        name,
        dims,
        data_type: element as i32,
        raw_data: raw.into(),
        ..TensorProto::default()
    }
}

fn shared(name: &str) -> String {
    format!("{PREFIX}{name}")
}

fn int64s(name: String, values: &[i64]) -> TensorProto {
    let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    constant(name, DataType::Int64, vec![values.len() as i64], raw)
}

impl Parts {
    /// The tensor of a weight's values, which stands in its place; the rest is kept for the end. `None` where the weight is not
    /// worth it.
    pub(super) fn tensor(&mut self, weight: &TensorProto, dense: &Dense) -> Option<TensorProto> {
        let (n, name) = (dense.elements(), format!("{PREFIX}{}", weight.name));
        let mut raw = dense.fill.clone();
        dense.values().for_each(|value| raw.extend_from_slice(value));
        let cost = raw.len() + mask_bytes(n) + NODES_BYTES + LEAST_SAVED_BYTES;
        // What expands out of proportion would be refused when it is read.
        if cost > dense.bytes() || i32::try_from(n).is_err() {
            return None;
        }
        let mask_of = mask(&dense.places, n);
        let mask_len = vec![mask_of.len() as i64];
        self.tensors
            .push(constant(format!("{name}{MASK}"), DataType::Uint8, mask_len, mask_of));
        self.rebuild(&weight.name, &weight.dims, n);
        let (element, count) = (Record::of(Format::Standard, weight).element, dense.places.len() + 1);
        Some(constant(format!("{name}{VALUES}"), element, vec![count as i64], raw))
    }

    /// The nodes that put a weight of `n` elements together, and their constants.
    fn rebuild(&mut self, weight: &str, dims: &[i64], n: usize) {
        let name = format!("{PREFIX}{weight}");
        let part = |end: &str| format!("{name}{end}");
        self.tensors.push(int64s(part("/shape"), dims));
        let mut value = part(MASK);
        self.step("Cast", &name, &mut value, &[], "/bytes");
        if let Some(cast) = self.nodes.last_mut() {
            cast.attribute = vec![AttributeProto::int("to", DataType::Int32 as i64)];
        }
        self.step("Reshape", &name, &mut value, &[&shared("column")], "/column");
        self.step("Div", &name, &mut value, &[&shared("powers")], "/shifted");
        self.step("Mod", &name, &mut value, &[&shared("two")], "/bits");
        self.step("Reshape", &name, &mut value, &[&shared("row")], "/row");
        if !n.is_multiple_of(8) {
            self.tensors.push(int64s(part("/length"), &[n as i64]));
            self.step("Slice", &name, &mut value, &[&shared("zero"), &part("/length")], "/cut");
        }
        let bits = value.clone();
        self.step("CumSum", &name, &mut value, &[&shared("axis")], "/sums");
        self.step("Mul", &name, &mut value, &[&bits], "/index");
        let index = value;
        let mut value = part(VALUES);
        self.step("Gather", &name, &mut value, &[&index], "/gathered");
        self.step("Reshape", &name, &mut value, &[&part("/shape")], "/weight");
        if let Some(output) = self.nodes.last_mut().and_then(|node| node.output.first_mut()) {
            weight.clone_into(output);
        }
    }

    /// That a graph has exactly the nodes and constants that put these weights together: then what is expanded is what any other
    /// runtime computes.
    pub(super) fn check<'r>(graph: &GraphProto, weights: impl Iterator<Item = (&'r str, &'r Record)>) -> Result<(), SparseError> {
        let mut expected = Self::default();
        let mut first = "";
        for (name, record) in weights {
            first = if first.is_empty() { name } else { first };
            expected.rebuild(name, &record.dims, record.elements);
        }
        expected.share();
        let added = |name: &String| name.starts_with(PREFIX);
        let nodes = graph.node.iter().filter(|node| added(&node.name));
        let data = |name: &str| name.ends_with(MASK) || name.ends_with(VALUES);
        let tensors = graph.initializer.iter().filter(|tensor| added(&tensor.name) && !data(&tensor.name));
        if nodes.eq(&expected.nodes) && tensors.eq(&expected.tensors) {
            return Ok(());
        }
        Err(damaged(first, "the nodes that put the weights together were changed"))
    }

    /// A node over `value` and `others`; `value` becomes what it gives.
    fn step(&mut self, op: &str, weight: &str, value: &mut String, others: &[&str], end: &str) {
        let given = format!("{weight}{end}");
        let input = std::mem::replace(value, given.clone());
        self.nodes.push(NodeProto {
            op_type: op.to_owned(),
            name: given.clone(),
            input: [input.as_str()].iter().chain(others).map(|&name| name.to_owned()).collect(),
            output: vec![given],
            ..NodeProto::default()
        });
    }

    /// Puts the nodes before the others and the constants after the initializers.
    pub(super) fn put_into(mut self, graph: &mut GraphProto) {
        self.share();
        graph.initializer.append(&mut self.tensors);
        self.nodes.append(&mut graph.node);
        graph.node = self.nodes;
    }

    /// Adds the constants that all weights share.
    fn share(&mut self) {
        if self.nodes.is_empty() {
            return;
        }
        let powers = (0..8).flat_map(|bit| (1i32 << bit).to_le_bytes()).collect();
        self.tensors.push(constant(shared("powers"), DataType::Int32, vec![8], powers));
        self.tensors
            .push(constant(shared("two"), DataType::Int32, vec![], 2i32.to_le_bytes().to_vec()));
        self.tensors
            .push(constant(shared("axis"), DataType::Int32, vec![], 0i32.to_le_bytes().to_vec()));
        self.tensors.push(int64s(shared("column"), &[-1, 1]));
        self.tensors.push(int64s(shared("row"), &[-1]));
        self.tensors.push(int64s(shared("zero"), &[0]));
    }
}

/// The weight whose values an initializer of this name holds.
pub(super) fn weight_of(name: &str) -> Option<&str> {
    name.strip_prefix(PREFIX)?.strip_suffix(VALUES)
}

/// The masks of a graph by weight.
pub(super) struct Masks(BTreeMap<String, TensorProto>);

impl Masks {
    pub(super) fn of(graph: &GraphProto) -> Self {
        let mask = |tensor: &TensorProto| {
            let weight = tensor.name.strip_prefix(PREFIX)?.strip_suffix(MASK)?;
            Some((weight.to_owned(), tensor.clone()))
        };
        Self(graph.initializer.iter().filter_map(mask).collect())
    }

    /// All bytes of a weight.
    pub(super) fn values(&mut self, name: &str, values: &TensorProto, record: &Record) -> Result<Vec<u8>, SparseError> {
        let wrong = |problem| damaged(name, problem);
        let mask = self.0.remove(name).filter(|mask| mask.data_type == DataType::Uint8 as i32);
        let mask = mask.ok_or_else(|| wrong("it has no mask"))?;
        if values.data_type != record.element as i32 || TensorRef::new(values).is_err() || values.raw_data.is_empty() {
            return Err(wrong("its values are of another type"));
        }
        let (fill, values) = values
            .raw_data
            .split_at_checked(record.width)
            .ok_or_else(|| wrong("it has no values"))?;
        from_bits(&mask.raw_data, record.elements, fill, values.chunks_exact(record.width)).map_err(wrong)
    }
}

/// Takes out of a graph what [`Parts::put_into`] put in.
pub(super) fn remove(graph: &mut GraphProto) {
    graph.node.retain(|node| !node.name.starts_with(PREFIX));
    graph.initializer.retain(|tensor| !tensor.name.starts_with(PREFIX));
}
