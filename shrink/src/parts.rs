//! Parts of graphs: nodes, tensors, names that nothing has, and integers of any width.

mod ints;

use std::collections::BTreeSet;

use aimass_onnx::proto::{AttributeProto, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};

pub(crate) use ints::{IntType, Ints, pack};

pub(crate) use crate::wiring::{Names, shown};

/// Microsoft's operator set, of onnxruntime's own operators.
pub(crate) const MICROSOFT: &str = "com.microsoft";

pub(crate) fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: output.to_owned(),
        input: inputs.iter().map(|&input| input.to_owned()).collect(),
        output: vec![output.to_owned()],
        ..NodeProto::default()
    }
}

pub(crate) fn with(mut node: NodeProto, attributes: Vec<AttributeProto>) -> NodeProto {
    node.attribute.extend(attributes);
    node
}

fn dims(shape: &[usize]) -> Vec<i64> {
    shape.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect()
}

/// A float32 tensor. `values` row-major.
pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims(shape),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into(),
        ..TensorProto::default()
    }
}

/// A float64 tensor. `values` row-major.
pub(crate) fn doubles(name: &str, shape: &[usize], values: &[f64]) -> TensorProto {
    TensorProto {
        data_type: DataType::Double as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into(),
        ..floats(name, shape, &[])
    }
}

/// An int64 tensor of one axis.
pub(crate) fn longs(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        data_type: DataType::Int64 as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>().into(),
        ..floats(name, &[values.len()], &[])
    }
}

/// A tensor of integers. `values` row-major, in the type's range.
pub(crate) fn integers(name: &str, shape: &[usize], kind: IntType, values: &[i32]) -> TensorProto {
    TensorProto {
        data_type: kind.number(),
        raw_data: pack(kind, values).into(),
        ..floats(name, shape, &[])
    }
}

/// A node that gives a value which the graph has already, under a name of its own.
pub(crate) fn giving(op: &str, inputs: &[&str], output: &str, names: &mut Names) -> NodeProto {
    NodeProto {
        name: names.fresh(&format!("{output}/{op}")),
        ..node(op, inputs, output)
    }
}

/// Graphs inside a node (branches, bodies of loops).
pub(crate) fn inner_graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute
        .iter()
        .flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}

/// Every name that is read: by nodes, by graphs inside nodes, as outputs.
pub(crate) fn read_names(graph: &GraphProto) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    for node in &graph.node {
        names.extend(node.input.iter().map(String::as_str));
        inner_graphs(node).for_each(|inner| names.extend(read_names(inner)));
    }
    names
}

/// Drops initializers that nothing reads, with the inputs that they are defaults of, and what is said of values that are gone.
pub(crate) fn drop_unread(graph: &mut GraphProto) {
    let read: BTreeSet<String> = read_names(graph).into_iter().map(str::to_owned).collect();
    let gone: BTreeSet<String> = graph
        .initializer
        .iter()
        .map(|tensor| tensor.name.clone())
        .filter(|name| !read.contains(name))
        .collect();
    graph.initializer.retain(|tensor| !gone.contains(&tensor.name));
    graph.input.retain(|input| !gone.contains(&input.name));
    let made: BTreeSet<&String> = graph.node.iter().flat_map(|node| &node.output).collect();
    graph.value_info.retain(|info| made.contains(&info.name));
}

/// Drops nodes whose outputs nothing reads, from the last to the first.
pub(crate) fn drop_dead(graph: &mut GraphProto) {
    let mut read: BTreeSet<String> = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut kept = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node).into_iter().rev() {
        if !node.output.iter().any(|output| read.contains(output)) {
            continue;
        }
        read.extend(node.input.iter().cloned());
        for inner in inner_graphs(&node) {
            read.extend(read_names(inner).into_iter().map(str::to_owned));
        }
        kept.push(node);
    }
    kept.reverse();
    graph.node = kept;
    drop_unread(graph);
}

/// Adds an operator set where the model has none of its domain.
pub(crate) fn import(proto: &mut ModelProto, domain: &str, version: i64) {
    if !proto.opset_import.iter().any(|import| import.domain == domain) {
        proto.opset_import.push(OperatorSetIdProto {
            domain: domain.to_owned(),
            version,
        });
    }
}
