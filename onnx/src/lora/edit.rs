//! Changes nodes, initializers and metadata in a file's bytes, and leaves every other byte where it was.

use std::collections::BTreeMap;

use prost::Message;

use super::plan::{Adapted, Side, Use};
use super::{Adapters, BASE, KEY, PREFIX};
use crate::proto::{AttributeProto, DataType, NodeProto, StringStringEntryProto, TensorProto};
use crate::wire::{Fields, WireError, put_varint};

/// Fields of `ModelProto`.
const GRAPH: u64 = 7;
const METADATA: u64 = 14;
/// Fields of `GraphProto`.
const NODE: u64 = 1;
const INITIALIZER: u64 = 5;
/// A field of `NodeProto`.
const OUTPUT: u64 = 2;

/// What becomes of one node, initializer or entry, by its position.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// It goes.
    Drop,
    /// A node's first output gets another name, and nodes follow it.
    Output(String, Vec<NodeProto>),
    /// Initializers follow it.
    Before(Vec<TensorProto>),
}

/// Changes to a model.
#[derive(Debug, Default)]
pub(super) struct Edit {
    pub(super) nodes: BTreeMap<usize, Change>,
    pub(super) initializers: BTreeMap<usize, Change>,
    pub(super) metadata: BTreeMap<usize, Change>,
    new_metadata: Vec<StringStringEntryProto>,
    uses: usize,
}

/// The text of an adapter's entry in the metadata.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Record {
    pub(super) rank: usize,
    pub(super) alpha: f32,
    pub(super) input_is_left: bool,
}

impl Record {
    fn write(self) -> String {
        let order = if self.input_is_left { "AB" } else { "BA" };
        format!("rank={} alpha={} order={order}", self.rank, self.alpha)
    }

    pub(super) fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
        let record = Self {
            rank: part("rank")?.parse().ok().filter(|&rank| rank > 0)?,
            alpha: part("alpha")?.parse().ok().filter(|alpha: &f32| alpha.is_finite())?,
            input_is_left: match part("order")? {
                "AB" => true,
                "BA" => false,
                _ => return None,
            },
        };
        Some(record)
    }

    pub(super) fn scale(self) -> f32 {
        self.alpha / self.rank as f32
    }
}

fn floats(name: &str, dims: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn node(op: &str, name: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: name.to_owned(),
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

impl Edit {
    /// Puts an adapter with these factors, `[rows, rank]` and `[rank, columns]`, beside every use of a weight.
    pub(super) fn adapt(&mut self, weight: &Adapted<'_>, adapters: &Adapters, left: &[f32], right: &[f32]) {
        let record = Record {
            rank: adapters.rank,
            alpha: adapters.alpha,
            input_is_left: weight.input_is_left,
        };
        let names = weight.factors();
        let left = floats(&names.0, &[weight.rows, adapters.rank], left);
        let right = floats(&names.1, &[adapters.rank, weight.columns], right);
        // A before B.
        let both = if weight.input_is_left {
            vec![left, right]
        } else {
            vec![right, left]
        };
        self.initializers.insert(weight.index, Change::Before(both));
        self.new_metadata.push(StringStringEntryProto {
            key: format!("{KEY}{}", weight.name),
            value: record.write(),
        });
        for used in &weight.uses {
            let nodes = path(self.uses, used, &names, record.scale());
            self.uses += 1;
            self.nodes
                .insert(used.node, Change::Output(format!("{BASE}{}", used.output), nodes));
        }
    }

    /// The file with the changes.
    pub(super) fn apply(&self, bytes: &[u8]) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(bytes.len());
        let (mut nodes, mut initializers, mut entries) = (0, 0, 0);
        for field in Fields::new(bytes, 0..bytes.len()) {
            let field = field?;
            if field.is_bytes(METADATA) {
                if !matches!(self.metadata.get(&entries), Some(Change::Drop)) {
                    out.extend_from_slice(&bytes[field.whole()]);
                }
                entries += 1;
                continue;
            }
            if !field.is_bytes(GRAPH) {
                out.extend_from_slice(&bytes[field.whole()]);
                continue;
            }
            let mut graph = Vec::with_capacity(field.value.len());
            for inner in Fields::new(bytes, field.value.clone()) {
                let inner = inner?;
                let whole = &bytes[inner.whole()];
                if inner.is_bytes(NODE) {
                    match self.nodes.get(&nodes) {
                        Some(Change::Drop) => {}
                        Some(Change::Output(name, after)) => {
                            put(NODE, &renamed(bytes, inner.value, name)?, &mut graph);
                            after.iter().for_each(|node| put(NODE, &node.encode_to_vec(), &mut graph));
                        }
                        _ => graph.extend_from_slice(whole),
                    }
                    nodes += 1;
                } else if inner.is_bytes(INITIALIZER) {
                    match self.initializers.get(&initializers) {
                        Some(Change::Drop) => {}
                        Some(Change::Before(after)) => {
                            graph.extend_from_slice(whole);
                            after
                                .iter()
                                .for_each(|tensor| put(INITIALIZER, &tensor.encode_to_vec(), &mut graph));
                        }
                        _ => graph.extend_from_slice(whole),
                    }
                    initializers += 1;
                } else {
                    graph.extend_from_slice(whole);
                }
            }
            put(GRAPH, &graph, &mut out);
        }
        for entry in &self.new_metadata {
            put(METADATA, &entry.encode_to_vec(), &mut out);
        }
        Ok(out)
    }
}

/// Writes a field that has a length.
fn put(number: u64, value: &[u8], out: &mut Vec<u8>) {
    put_varint(number << 3 | 2, out);
    put_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// A node with another name for its first output.
fn renamed(bytes: &[u8], node: std::ops::Range<usize>, name: &str) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(node.len() + name.len());
    let mut done = false;
    for field in Fields::new(bytes, node) {
        let field = field?;
        if field.is_bytes(OUTPUT) && !done {
            put(OUTPUT, name.as_bytes(), &mut out);
            done = true;
        } else {
            out.extend_from_slice(&bytes[field.whole()]);
        }
    }
    Ok(out)
}

/// The nodes of the path beside a use: with W seen as L R, first the factor that meets the input, then the scale, then the other factor.
fn path(at: usize, used: &Use<'_>, (left, right): &(String, String), scale: f32) -> Vec<NodeProto> {
    let name = |part: &str| format!("{PREFIX}{at}/{part}");
    let mut nodes = Vec::new();
    let mut give = |op: &str, part: &str, inputs: &[&str]| {
        let name = name(part);
        nodes.push(node(op, &name, inputs, &name));
        name
    };
    // The transpose of L R is R' L'.
    let (first, last) = if used.transposed {
        (give("Transpose", "right", &[right]), give("Transpose", "left", &[left]))
    } else {
        (left.clone(), right.clone())
    };
    let other = if used.other_transposed {
        give("Transpose", "input", &[used.other])
    } else {
        used.other.to_owned()
    };
    let constant = give("Constant", "scale", &[]);
    let (down, up) = match used.side {
        Side::Right => (give("MatMul", "down", &[&other, &first]), &last),
        Side::Left => (give("MatMul", "down", &[&last, &other]), &first),
        Side::Rows => (give("Gather", "down", &[&first, &other]), &last),
    };
    let scaled = give("Mul", "scaled", &[&down, &constant]);
    let up = match used.side {
        Side::Left => give("MatMul", "up", &[up, &scaled]),
        Side::Right | Side::Rows => give("MatMul", "up", &[&scaled, up]),
    };
    let value = floats("", &[], &[scale * used.factor]);
    for node in nodes.iter_mut().filter(|node| node.op_type == "Constant") {
        node.attribute = vec![AttributeProto::tensor("value", value.clone())];
    }
    nodes.push(node("Add", &name("sum"), &[&format!("{BASE}{}", used.output), &up], used.output));
    nodes
}
