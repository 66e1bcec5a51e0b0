//! What makes a graph one: names resolve, each is given once, nodes are in order, constants are sound.

use std::collections::{BTreeMap, BTreeSet};

use crate::ReadError;
use crate::error::shown;
use crate::node::is_standard_domain;
use crate::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};
use crate::tensor::{TensorRef, check_sparse};

/// Names that a node may use: those of its graph so far, and those of the graphs around it.
struct Scope<'a> {
    outer: Option<&'a Scope<'a>>,
    names: BTreeSet<&'a str>,
}

impl Scope<'_> {
    fn knows(&self, name: &str) -> bool {
        self.names.contains(name) || self.outer.is_some_and(|outer| outer.knows(name))
    }
}

/// Domains that may be used, ONNX's own as the empty one.
pub(crate) struct Domains<'a>(BTreeSet<&'a str>);

impl<'a> Domains<'a> {
    pub(crate) fn new(imports: &'a [OperatorSetIdProto]) -> Result<Self, ReadError> {
        let mut domains = BTreeSet::new();
        for import in imports {
            let domain = if is_standard_domain(&import.domain) { "" } else { &import.domain };
            if !domains.insert(domain) {
                return Err(ReadError::DuplicateOpset { domain: shown(domain) });
            }
        }
        Ok(Self(domains))
    }

    fn check(&self, node: &NodeProto) -> Result<(), ReadError> {
        if is_standard_domain(&node.domain) || self.0.contains(node.domain.as_str()) {
            return Ok(());
        }
        Err(ReadError::UnimportedDomain {
            node: node.label(),
            domain: shown(&node.domain),
        })
    }
}

/// Checks the model's graph.
pub(crate) fn check_graph(graph: &GraphProto, domains: &Domains<'_>) -> Result<(), ReadError> {
    if graph.output.is_empty() {
        return Err(ReadError::NoOutputs);
    }
    check_scope(graph, None, domains)
}

/// Checks the body of a function.
pub(crate) fn check_function(function: &FunctionProto) -> Result<(), ReadError> {
    let domains = Domains::new(&function.opset_import)?;
    let mut names = BTreeSet::new();
    for (index, input) in function.input.iter().enumerate() {
        define(&mut names, input, "function input", index)?;
    }
    let mut scope = Scope { outer: None, names };
    check_nodes(&function.node, &mut scope, &domains)?;
    check_outputs(function.output.iter(), &scope)
}

fn check_scope<'a>(graph: &'a GraphProto, outer: Option<&'a Scope<'a>>, domains: &Domains<'_>) -> Result<(), ReadError> {
    let mut names = BTreeSet::new();
    for (index, tensor) in graph.initializer.iter().enumerate() {
        define(&mut names, &tensor.name, "initializer", index)?;
        TensorRef::new(tensor)?;
    }
    for (index, tensor) in graph.sparse_initializer.iter().enumerate() {
        define(
            &mut names,
            tensor.values.as_ref().map_or("", |values| &values.name),
            "sparse initializer",
            index,
        )?;
        check_sparse(tensor)?;
    }
    // An input may be an initializer too, its default.
    let mut inputs = BTreeSet::new();
    for (index, input) in graph.input.iter().enumerate() {
        define(&mut inputs, &input.name, "input", index)?;
    }
    names.extend(inputs);
    let mut scope = Scope { outer, names };
    check_nodes(&graph.node, &mut scope, domains)?;
    check_outputs(graph.output.iter().map(|output| &output.name), &scope)
}

/// Adds `name`, which must be new.
fn define<'a>(names: &mut BTreeSet<&'a str>, name: &'a str, what: &'static str, index: usize) -> Result<(), ReadError> {
    if name.is_empty() {
        return Err(ReadError::Unnamed { what, index });
    }
    if !names.insert(name) {
        return Err(ReadError::DuplicateName {
            name: shown(name),
            by: format!("{what} number {index}"),
        });
    }
    Ok(())
}

fn check_nodes<'a>(nodes: &'a [NodeProto], scope: &mut Scope<'a>, domains: &Domains<'_>) -> Result<(), ReadError> {
    for node in nodes {
        if node.op_type.is_empty() {
            return Err(ReadError::NoOperator { node: node.label() });
        }
        domains.check(node)?;
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            if !scope.knows(input) {
                return Err(unresolved(nodes, node, input));
            }
        }
        let mut attributes = BTreeSet::new();
        for attribute in &node.attribute {
            if !attributes.insert(&attribute.name) {
                return Err(ReadError::DuplicateAttribute {
                    node: node.label(),
                    attribute: shown(&attribute.name),
                });
            }
            check_attribute(attribute, scope, domains)?;
        }
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if !scope.names.insert(output) {
                return Err(ReadError::DuplicateName {
                    name: shown(output),
                    by: node.label(),
                });
            }
        }
    }
    Ok(())
}

fn check_attribute(attribute: &AttributeProto, scope: &Scope<'_>, domains: &Domains<'_>) -> Result<(), ReadError> {
    for tensor in attribute.t.iter().map(|t| &**t).chain(&attribute.tensors) {
        TensorRef::new(tensor)?;
    }
    for tensor in attribute.sparse_tensor.iter().map(|t| &**t).chain(&attribute.sparse_tensors) {
        check_sparse(tensor)?;
    }
    // Not deeper than the scan's limit on nesting.
    for graph in attribute.g.iter().map(|g| &**g).chain(&attribute.graphs) {
        check_scope(graph, Some(scope), domains)?;
    }
    Ok(())
}

fn check_outputs<'a>(outputs: impl Iterator<Item = &'a String>, scope: &Scope<'_>) -> Result<(), ReadError> {
    let mut seen = BTreeSet::new();
    for (index, output) in outputs.enumerate() {
        define(&mut seen, output, "output", index)?;
        if !scope.knows(output) {
            return Err(ReadError::MissingOutput { output: shown(output) });
        }
    }
    Ok(())
}

/// Why `node` can't have `input` yet: nobody gives it, a later node does, or the node itself does by way of others.
fn unresolved(nodes: &[NodeProto], node: &NodeProto, input: &str) -> ReadError {
    let mut giver = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        for output in &node.output {
            giver.insert(output.as_str(), index);
        }
    }
    let (node_label, input_name) = (node.label(), shown(input));
    let Some(&first) = giver.get(input) else {
        return ReadError::Dangling {
            node: node_label,
            input: input_name,
        };
    };
    let mut seen = BTreeSet::from([first]);
    let mut open = vec![first];
    while let Some(index) = open.pop() {
        if std::ptr::eq(&nodes[index], node) {
            return ReadError::Cycle {
                node: node_label,
                input: input_name,
            };
        }
        let needs = nodes[index].input.iter().filter_map(|input| giver.get(input.as_str()).copied());
        open.extend(needs.filter(|&index| seen.insert(index)));
    }
    ReadError::OutOfOrder {
        node: node_label,
        input: input_name,
    }
}

#[cfg(test)]
mod tests;
