//! Takes out nodes that do nothing, and constants that nobody uses.

use std::collections::{BTreeMap, BTreeSet};

use aimass_onnx::proto::{GraphProto, NodeProto};

use crate::wiring::{rename_inputs, uses};

/// The first operator set in which a Dropout may train.
const TRAINING_DROPOUT: i64 = 12;

/// Takes out identities and dropouts; returns them by node. One that names an output of the graph gives its name to what it repeats,
/// or stays where that has a name of its own to keep.
pub(super) fn pass_through(graph: &mut GraphProto, opset: i64) -> Vec<String> {
    let uses = uses(graph);
    let outputs: BTreeSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut given: BTreeMap<String, usize> = BTreeMap::new();
    for (at, node) in graph.node.iter().enumerate() {
        given.extend(node.output.iter().map(|output| (output.clone(), at)));
    }
    let constants: BTreeMap<String, bool> = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name.clone(), truth(tensor)))
        .collect();
    let inner = used_within(graph);
    let (mut removed, mut gone) = (Vec::new(), BTreeSet::new());
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for at in 0..graph.node.len() {
        let Some((from, to)) = repeats(&graph.node[at], opset, &uses, &constants) else {
            continue;
        };
        let from = renamed.get(&from).cloned().unwrap_or(from);
        if outputs.contains(&to) {
            let giver = given.get(&from).copied();
            // Its name goes to the node that gives what it repeats; nothing else may know that by another name.
            let Some(giver) = giver.filter(|_| !outputs.contains(&from) && !inner.contains(&from)) else {
                continue;
            };
            for output in graph.node[giver].output.iter_mut().filter(|output| **output == from) {
                output.clone_from(&to);
            }
            renamed
                .values_mut()
                .filter(|name| **name == from)
                .for_each(|name| name.clone_from(&to));
            given.insert(to.clone(), giver);
            renamed.insert(from, to);
        } else {
            if inner.contains(&to) {
                continue;
            }
            renamed.insert(to, from);
        }
        removed.push(graph.node[at].label());
        gone.insert(at);
    }
    let mut at = 0..;
    graph.node.retain(|_| at.next().is_none_or(|at: usize| !gone.contains(&at)));
    graph.node.iter_mut().for_each(|node| rename_inputs(node, &renamed));
    removed
}

/// Whether a constant is true, or could be.
fn truth(tensor: &aimass_onnx::proto::TensorProto) -> bool {
    let values = aimass_onnx::TensorRef::new(tensor).ok().and_then(|tensor| tensor.to_bool());
    values.is_none_or(|values| values.contains(&true))
}

/// What a node repeats, and under which name.
fn repeats(node: &NodeProto, opset: i64, uses: &BTreeMap<String, usize>, constants: &BTreeMap<String, bool>) -> Option<(String, String)> {
    let (from, to) = (node.input_name(0)?, node.output.first().filter(|output| !output.is_empty())?);
    let still = match node.standard_op()? {
        "Identity" => true,
        "Dropout" => {
            let masks = node.output.get(1).is_some_and(|mask| uses.contains_key(mask));
            // Without that input it does not train.
            let trains = node.input_name(2).is_some_and(|name| constants.get(name).copied().unwrap_or(true));
            !masks && (opset < TRAINING_DROPOUT || !trains)
        }
        _ => false,
    };
    still.then(|| (from.to_owned(), to.clone()))
}

/// Values that graphs within nodes use: names are not changed there.
fn used_within(graph: &GraphProto) -> BTreeSet<String> {
    let attributes = graph.node.iter().flat_map(|node| &node.attribute);
    let graphs = attributes.flat_map(|attribute| attribute.g.iter().map(|g| &**g).chain(&attribute.graphs));
    graphs.flat_map(|graph| uses(graph).into_keys()).collect()
}

/// Takes out initializers and Constant nodes that nothing uses.
pub(super) fn unused(graph: &mut GraphProto) {
    let uses = uses(graph);
    let inputs: BTreeSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    graph
        .initializer
        .retain(|tensor| uses.contains_key(&tensor.name) || inputs.contains(tensor.name.as_str()));
    graph
        .node
        .retain(|node| node.standard_op() != Some("Constant") || node.output.iter().any(|output| uses.contains_key(output)));
    graph
        .quantization_annotation
        .retain(|annotation| uses.contains_key(&annotation.tensor_name));
}
