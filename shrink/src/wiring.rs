//! What the rewrites share: names, constants and who uses what.

use std::collections::{BTreeMap, BTreeSet};

use aimass_onnx::proto::{GraphProto, NodeProto};

/// A name from a file, short enough for a message.
pub(crate) fn shown(name: &str) -> String {
    const MOST_CHARS: usize = 80;
    match name.char_indices().nth(MOST_CHARS) {
        Some((end, _)) => format!("{}...", &name[..end]),
        None => name.to_owned(),
    }
}

/// The names that a graph has, and new ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    taken: BTreeSet<String>,
    fresh: BTreeSet<String>,
}

impl Names {
    pub(crate) fn of(graph: &GraphProto) -> Self {
        let mut taken = BTreeSet::new();
        collect(graph, &mut taken);
        Self {
            taken,
            fresh: BTreeSet::new(),
        }
    }

    /// A name that nothing has, `wanted` if possible.
    pub(crate) fn fresh(&mut self, wanted: &str) -> String {
        let numbered = (2u64..).map(|i| format!("{wanted}.{i}"));
        let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
        // There are finitely many names, and the numbers do not end.
        let name = names.find(|name| !self.taken.contains(name)).unwrap_or_default();
        self.taken.insert(name.clone());
        self.fresh.insert(name.clone());
        name
    }

    /// Whether a name is one that this gave.
    pub(crate) fn is_fresh(&self, name: &str) -> bool {
        self.fresh.contains(name)
    }
}

/// All names of a graph's values and nodes, those of graphs within it among them.
fn collect(graph: &GraphProto, names: &mut BTreeSet<String>) {
    names.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
    names.extend(
        graph
            .sparse_initializer
            .iter()
            .filter_map(|tensor| Some(tensor.values.as_ref()?.name.clone())),
    );
    names.extend(graph.input.iter().chain(&graph.output).map(|value| value.name.clone()));
    for node in &graph.node {
        names.extend(node.input.iter().chain(&node.output).chain([&node.name]).cloned());
        for attribute in &node.attribute {
            // Not deeper than the limit on nesting that the reader holds.
            attribute
                .g
                .iter()
                .map(|g| &**g)
                .chain(&attribute.graphs)
                .for_each(|graph| collect(graph, names));
        }
    }
}

/// How often each value is used: by nodes, by graphs within them, and as an output.
pub(crate) fn uses(graph: &GraphProto) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    count(graph, &mut found);
    found
}

fn count(graph: &GraphProto, found: &mut BTreeMap<String, usize>) {
    let outputs = graph.output.iter().map(|output| &output.name);
    let inputs = graph.node.iter().flat_map(|node| &node.input);
    for name in inputs.chain(outputs).filter(|name| !name.is_empty()) {
        *found.entry(name.clone()).or_default() += 1;
    }
    for attribute in graph.node.iter().flat_map(|node| &node.attribute) {
        // Not deeper than the limit on nesting that the reader holds.
        attribute
            .g
            .iter()
            .map(|g| &**g)
            .chain(&attribute.graphs)
            .for_each(|graph| count(graph, found));
    }
}

/// Gives a node's inputs their new names.
pub(crate) fn rename_inputs(node: &mut NodeProto, names: &BTreeMap<String, String>) {
    for input in &mut node.input {
        if let Some(name) = names.get(input) {
            input.clone_from(name);
        }
    }
}
