//! Embedding bags as ordinary nodes, where an exporter made loops of them.
//!
//! `torch.onnx.export` writes `nn.EmbeddingBag` as a Loop over the bags: the TorchScript exporter with a scan output, the newer one with
//! a sequence, an If for empty bags and, where there is a padding index, a loop inside of the loop. Exactly these loops are recognised;
//! every other one stays as it is.
//!
//! Position j of the indices is a member of bag b when `start[b] <= j < end[b]`, and its index is not that of the padding. The sum of a
//! bag is then a row of (members as 0 and 1) x (gathered rows), the mean is that by the number of members, the maximum one over what
//! is no member masked. Bags that are the rows of a matrix need no members: the gathered rows are `[bags, length, columns]`. An empty
//! bag gives zeros, as in PyTorch.

mod edit;
mod matching;
mod patterns;
mod plain;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use crate::proto::{GraphProto, NodeProto};
use crate::{Model, ReadError};

use text::Scope;

/// The first operator set in which the axes of Unsqueeze are an input.
const OLDEST: i64 = 13;

impl Model {
    /// This model with its embedding bags as ordinary nodes: see the module. Weights, inputs, outputs and all other nodes are as they
    /// were, and a model without such loops is returned as it is.
    ///
    /// # Errors
    /// [`ReadError`] when the result does not fit.
    pub fn with_plain_bags(&self) -> Result<Self, ReadError> {
        let nodes = &self.graph().node;
        if self.opset() < OLDEST || !nodes.iter().any(|node| node.standard_op() == Some("Loop")) {
            return Ok(self.clone());
        }
        let scope = Scope::new(self);
        let readers = readers(self.graph());
        let mut changes: BTreeMap<usize, Vec<NodeProto>> = BTreeMap::new();
        let mut taken = names(self.graph());
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.standard_op() == Some("Loop")) {
            let found = place(self.graph(), index, &readers).and_then(|place| {
                let found = patterns::find(&scope, node, place.output)?;
                Some((place, found))
            });
            // With another loop in it the model is refused anyway.
            let Some((place, found)) = found else { return Ok(self.clone()) };
            let made = plain::nodes(&found, place.gives, self.opset(), &mut taken);
            changes.insert(index, Vec::new());
            changes.insert(place.at, made);
        }
        drop_dead(self.graph(), &mut changes);
        let bytes = edit::apply(self, &changes).map_err(|error| ReadError::Decode {
            reason: format!("{} at byte {}", error.what, error.offset),
        })?;
        Self::from_shared(bytes.into())
    }

    /// This model as models should come in: [`Self::with_plain_bags`] and [`Self::with_own_statistics`].
    ///
    /// # Errors
    /// [`ReadError`] when the result does not fit.
    pub fn prepared(&self) -> Result<Self, ReadError> {
        self.with_plain_bags()?.with_own_statistics()
    }
}

/// Where the new nodes go.
struct Place<'a> {
    /// The output of the loop that is read.
    output: usize,
    /// The node that they replace: the loop, or the one that joins its sequence.
    at: usize,
    /// The value that they make.
    gives: &'a str,
}

/// A loop of which one output is read: by anything (the TorchScript exporter's only one), or by one ConcatFromSequence.
fn place<'a>(graph: &'a GraphProto, index: usize, readers: &BTreeMap<&str, Vec<Option<usize>>>) -> Option<Place<'a>> {
    let node = &graph.node[index];
    let mut outputs = node
        .output
        .iter()
        .enumerate()
        .filter(|(_, name)| readers.contains_key(name.as_str()));
    let (output, name) = outputs.next()?;
    if outputs.next().is_some() {
        return None;
    }
    if node.output.len() == 1 {
        return Some(Place {
            output,
            at: index,
            gives: name,
        });
    }
    let &[Some(at)] = &readers.get(name.as_str())?[..] else {
        return None;
    };
    let reader = &graph.node[at];
    let joins = reader.standard_op() == Some("ConcatFromSequence")
        && reader.attr_i("axis") == Ok(Some(0))
        && matches!(reader.attr_i("new_axis"), Ok(None | Some(0)));
    joins.then_some(Place {
        output,
        at,
        gives: reader.output.first()?,
    })
}

/// Who reads each name: nodes by their places, `None` for the outputs of the graph.
fn readers(graph: &GraphProto) -> BTreeMap<&str, Vec<Option<usize>>> {
    let mut found: BTreeMap<&str, Vec<Option<usize>>> = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for name in reads(node).into_iter().filter(|name| !name.is_empty()) {
            found.entry(name).or_default().push(Some(index));
        }
    }
    for output in &graph.output {
        found.entry(&output.name).or_default().push(None);
    }
    found
}

/// Names that a node reads, the graphs inside of it included.
fn reads(node: &NodeProto) -> BTreeSet<&str> {
    fn walk<'a>(node: &'a NodeProto, found: &mut BTreeSet<&'a str>) {
        found.extend(node.input.iter().map(String::as_str));
        for graph in inner(node) {
            graph.node.iter().for_each(|node| walk(node, found));
            found.extend(graph.output.iter().map(|output| output.name.as_str()));
        }
    }
    let mut found = BTreeSet::new();
    walk(node, &mut found);
    found
}

fn inner(node: &NodeProto) -> Vec<&GraphProto> {
    let graphs = node
        .attribute
        .iter()
        .map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs));
    graphs.flatten().collect()
}

/// All names of a graph.
fn names(graph: &GraphProto) -> BTreeSet<String> {
    fn walk(graph: &GraphProto, found: &mut BTreeSet<String>) {
        found.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
        found.extend(graph.input.iter().chain(&graph.output).map(|value| value.name.clone()));
        for node in &graph.node {
            found.extend(node.input.iter().chain(&node.output).cloned());
            inner(node).into_iter().for_each(|graph| walk(graph, found));
        }
    }
    let mut found = BTreeSet::new();
    walk(graph, &mut found);
    found
}

/// Drops the nodes that only the changed ones had read. What nothing had read before stays, with all that it reads.
fn drop_dead(graph: &GraphProto, changes: &mut BTreeMap<usize, Vec<NodeProto>>) {
    let before = live(graph, &BTreeMap::new(), |_| false);
    let after = live(graph, changes, |index| !before.contains(&index));
    for index in before.difference(&after) {
        changes.entry(*index).or_default();
    }
}

/// The nodes that the graph's outputs and those that `stay` need, besides those that change.
fn live(graph: &GraphProto, changes: &BTreeMap<usize, Vec<NodeProto>>, stay: impl Fn(usize) -> bool) -> BTreeSet<usize> {
    let mut needed: BTreeSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    let mut live = BTreeSet::new();
    for (index, node) in graph.node.iter().enumerate().rev() {
        if let Some(new) = changes.get(&index) {
            needed.extend(new.iter().flat_map(|node| node.input.iter().map(String::as_str)));
        } else if stay(index) || node.output.iter().any(|name| needed.contains(name.as_str())) {
            live.insert(index);
            needed.extend(reads(node));
        }
    }
    live
}

#[cfg(test)]
mod tests;
