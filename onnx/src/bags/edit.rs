//! Replaces nodes in a file's bytes, and leaves every other byte where it was.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

use crate::Model;
use crate::proto::NodeProto;
use crate::splice::{GRAPH, put};
use crate::wire::{Fields, WireError};

/// Fields of `GraphProto`.
const NODE: u64 = 1;
const VALUE_INFO: u64 = 13;

/// The file with other nodes in the place of some, by position. What it says of values that nothing makes any more goes too.
pub(super) fn apply(model: &Model, changes: &BTreeMap<usize, Vec<NodeProto>>) -> Result<Vec<u8>, WireError> {
    let bytes = model.as_bytes();
    let nodes = &model.graph().node;
    let dropped = changes.keys().flat_map(|&index| &nodes[index].output);
    let made: BTreeSet<&str> = changes
        .values()
        .flatten()
        .flat_map(|node| &node.output)
        .map(String::as_str)
        .collect();
    let gone: BTreeSet<&str> = dropped.map(String::as_str).filter(|name| !made.contains(name)).collect();
    let mut infos = model.graph().value_info.iter();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    for field in Fields::new(bytes, 0..bytes.len()) {
        let field = field?;
        if !field.is_bytes(GRAPH) {
            out.extend_from_slice(&bytes[field.whole()]);
            continue;
        }
        let mut graph = Vec::with_capacity(field.value.len());
        for inner in Fields::new(bytes, field.value.clone()) {
            let inner = inner?;
            if inner.is_bytes(NODE) {
                match changes.get(&index) {
                    Some(new) => new
                        .iter()
                        .for_each(|node| put(&bytes[inner.tag.clone()], &node.encode_to_vec(), &mut graph)),
                    None => graph.extend_from_slice(&bytes[inner.whole()]),
                }
                index += 1;
            } else if !(inner.is_bytes(VALUE_INFO) && infos.next().is_some_and(|info| gone.contains(info.name.as_str()))) {
                graph.extend_from_slice(&bytes[inner.whole()]);
            }
        }
        put(&bytes[field.tag], &graph, &mut out);
    }
    Ok(out)
}
