//! Gives batch normalizations statistics of their own, where an exporter merged them with other tensors.
//!
//! `torch.onnx.export` (TorchScript) stores initializers of equal values once and puts an Identity in the others' place. In a fresh
//! batch normalization scale and running variance are ones, shift and running mean zeros, so the variance becomes an Identity of the
//! scale: trained like this, one would drag the other along.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::proto::{GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, tensor_shape_proto, type_proto};
use crate::splice::{GRAPH, INITIALIZER, put};
use crate::wire::{Field, Fields, WireError};
use crate::{ElementType, Model, ReadError};

const NODE: u64 = 1;
const INPUT_OF_NODE: u64 = 1;
const INPUT_OF_GRAPH: u64 = 11;
/// Mean and variance among the inputs of a BatchNormalization.
const STATISTICS: [usize; 2] = [3, 4];
/// The last IR version in which initializers must be inputs of the graph too.
const INITIALIZERS_ARE_INPUTS: i64 = 3;

/// A read of a name: by an input of a batch normalization that takes statistics, or by anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Read<'a> {
    name: &'a str,
    statistic: Option<usize>,
}

impl Model {
    /// This model with an initializer of its own for every running statistic that shares one with something else: each input 3 or 4 of
    /// a BatchNormalization that is, directly or by way of Identity nodes, a float32 initializer that anything else reads too. Its copy
    /// is called `NAME.own`, where `NAME` is what the node read before, with a number after it where that is taken.
    ///
    /// One name that several nodes read in the same place stays one tensor, as in a layer that is used twice. Everything else is byte
    /// for byte as it was, and a model without such statistics is returned as it is.
    ///
    /// # Errors
    /// [`ReadError::TooLarge`] when the copies do not fit.
    pub fn with_own_statistics(&self) -> Result<Self, ReadError> {
        let copies = self.shared_statistics();
        if copies.is_empty() {
            return Ok(self.clone());
        }
        let bytes = rewrite(self, &copies).map_err(|error| ReadError::Decode {
            reason: format!("{} at byte {}", error.what, error.offset),
        })?;
        Self::from_shared(bytes.into())
    }

    /// The copies to make: what is read in which place, and the tensor that takes its place.
    fn shared_statistics(&self) -> BTreeMap<(&str, usize), TensorProto> {
        let graph = self.graph();
        let mut origins: BTreeMap<&str, &str> = graph.initializer.iter().map(|t| (t.name.as_str(), t.name.as_str())).collect();
        let mut readers: BTreeMap<&str, BTreeSet<Read<'_>>> = BTreeMap::new();
        let mut names = BTreeSet::new();
        for node in &graph.node {
            names.extend(node.input.iter().chain(&node.output).map(String::as_str));
            let identity = node.standard_op() == Some("Identity");
            if let (true, Some(output), Some(&origin)) = (identity, node.output.first(), node.input_name(0).and_then(|n| origins.get(n))) {
                origins.insert(output, origin);
                continue;
            }
            for read in reads(node) {
                if let Some(origin) = origins.get(read.name) {
                    readers.entry(origin).or_default().insert(read);
                }
            }
        }
        for output in &graph.output {
            if let Some((origin, name)) = origins.get_key_value(output.name.as_str()).map(|(name, origin)| (*origin, *name)) {
                readers.entry(origin).or_default().insert(Read { name, statistic: None });
            }
        }
        names.extend(graph.initializer.iter().map(|t| t.name.as_str()));
        names.extend(graph.input.iter().chain(&graph.output).map(|v| v.name.as_str()));
        let mut taken: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();

        let mut copies = BTreeMap::new();
        for (origin, readers) in readers.iter().filter(|(_, readers)| readers.len() > 1) {
            let Some(tensor) = self.initializer(origin).filter(|tensor| tensor.element == ElementType::F32) else {
                continue;
            };
            for (read, place) in readers.iter().filter_map(|read| Some((read, read.statistic?))) {
                let own = fresh(read.name, &mut taken);
                let tensor = TensorProto {
                    name: own,
                    ..tensor.proto.clone()
                };
                copies.insert((read.name, place), tensor);
            }
        }
        copies
    }
}

/// What a node reads, the graphs inside it included.
fn reads(node: &NodeProto) -> Vec<Read<'_>> {
    let normalizes = node.standard_op() == Some("BatchNormalization");
    let own = node.input.iter().enumerate().filter(|(_, name)| !name.is_empty());
    let mut found: Vec<_> = own
        .map(|(i, name)| Read {
            name,
            statistic: (normalizes && STATISTICS.contains(&i)).then_some(i),
        })
        .collect();
    let inner = node
        .attribute
        .iter()
        .flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs));
    inner.for_each(|graph| inner_reads(graph, &mut found));
    found
}

/// Names that a graph inside a node reads; those that it defines itself are harmless here.
fn inner_reads<'a>(graph: &'a GraphProto, found: &mut Vec<Read<'a>>) {
    let other = |name: &'a str| Read { name, statistic: None };
    for node in &graph.node {
        found.extend(reads(node).into_iter().map(|read| other(read.name)));
    }
    found.extend(graph.output.iter().map(|output| other(&output.name)));
}

/// A name that nothing has.
fn fresh(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2u64..).map(|i| format!("{name}.own{i}"));
    let free = std::iter::once(format!("{name}.own"))
        .chain(numbered)
        .find(|name| !taken.contains(name));
    let free = free.unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// The file with the copies at the end of its graph, and the nodes reading them.
fn rewrite(model: &Model, copies: &BTreeMap<(&str, usize), TensorProto>) -> Result<Vec<u8>, WireError> {
    let bytes = model.as_bytes();
    let fields: Vec<Field> = Fields::new(bytes, 0..bytes.len()).collect::<Result<_, _>>()?;
    // A graph given in pieces is one graph.
    let last = fields.iter().rposition(|field| field.is_bytes(GRAPH));
    let mut nodes = model.graph().node.iter();
    let mut out = Vec::with_capacity(bytes.len());
    for (index, field) in fields.iter().enumerate() {
        if !field.is_bytes(GRAPH) {
            out.extend_from_slice(&bytes[field.whole()]);
            continue;
        }
        let mut graph = rewrite_nodes(bytes, field, &mut nodes, copies)?;
        if Some(index) == last {
            for tensor in copies.values() {
                put(&tag(INITIALIZER), &tensor.encode_to_vec(), &mut graph);
                if model.proto().ir_version <= INITIALIZERS_ARE_INPUTS {
                    put(&tag(INPUT_OF_GRAPH), &input_of(tensor).encode_to_vec(), &mut graph);
                }
            }
        }
        put(&bytes[field.tag.clone()], &graph, &mut out);
    }
    Ok(out)
}

fn rewrite_nodes<'m>(
    bytes: &[u8],
    graph: &Field,
    nodes: &mut impl Iterator<Item = &'m NodeProto>,
    copies: &BTreeMap<(&str, usize), TensorProto>,
) -> Result<Vec<u8>, WireError> {
    let mut out = Vec::with_capacity(graph.value.len());
    for field in Fields::new(bytes, graph.value.clone()) {
        let field = field?;
        let node = if field.is_bytes(NODE) { nodes.next() } else { None };
        let own = |node: &NodeProto, place: usize| copies.get(&(node.input_name(place)?, place)).map(|t| t.name.clone());
        let owns = node.filter(|node| node.standard_op() == Some("BatchNormalization"));
        let owns = owns.map(|node| STATISTICS.map(|place| own(node, place))).unwrap_or_default();
        if owns.iter().all(Option::is_none) {
            out.extend_from_slice(&bytes[field.whole()]);
            continue;
        }
        let mut node = Vec::with_capacity(field.value.len());
        let mut place = 0;
        for part in Fields::new(bytes, field.value.clone()) {
            let part = part?;
            if !part.is_bytes(INPUT_OF_NODE) {
                node.extend_from_slice(&bytes[part.whole()]);
                continue;
            }
            let name = STATISTICS.iter().position(|&s| s == place).and_then(|i| owns[i].as_ref());
            match name {
                Some(name) => put(&bytes[part.tag], name.as_bytes(), &mut node),
                None => node.extend_from_slice(&bytes[part.whole()]),
            }
            place += 1;
        }
        put(&bytes[field.tag], &node, &mut out);
    }
    Ok(out)
}

/// The tag of a field that has a length, of a number below 16.
fn tag(number: u64) -> [u8; 1] {
    [(number << 3) as u8 | 2]
}

fn input_of(tensor: &TensorProto) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&length: &i64| Dimension {
        value: Some(Value::DimValue(length)),
        ..Dimension::default()
    };
    let r#type = type_proto::Tensor {
        elem_type: tensor.data_type,
        shape: Some(TensorShapeProto {
            dim: tensor.dims.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: tensor.name.clone(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(r#type)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

#[cfg(test)]
mod tests;
