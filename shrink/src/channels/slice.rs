//! Takes the removed channels out of the file.

use std::collections::BTreeMap;
use std::rc::Rc;

use aimass_onnx::proto::tensor_shape_proto::{Dimension, dimension};
use aimass_onnx::proto::{AttributeProto, DataType, GraphProto, NodeProto, TensorProto, ValueInfoProto, type_proto};
use aimass_onnx::{ElementType, Model};

use super::atoms::Atom;
use super::choose::Removed;
use super::walk::{Edit, Param, Place, Walk};
use super::{ChannelError, ChannelPlan, Cut};
use crate::wiring::Names;

/// The model without the removed channels.
pub(super) fn slice(model: &Model, walk: &Walk<'_>, removed: &Removed) -> Result<(Model, ChannelPlan), ChannelError> {
    let kept = |atoms: &Rc<[Atom]>| -> Vec<usize> {
        let stays = |(_, atom): &(usize, &Atom)| !removed.roots.contains(&walk.atoms.root(**atom));
        atoms.iter().enumerate().filter(stays).map(|(at, _)| at).collect()
    };
    let mut proto = model.proto().clone();
    let mut cuts = Vec::new();
    let mut gone = 0;
    if let Some(graph) = proto.graph.as_mut() {
        for param in &walk.params {
            let axes = param.axes.iter().map(|(&axis, atoms)| (axis, kept(atoms)));
            let axes: BTreeMap<usize, Vec<usize>> = axes.filter(|(axis, kept)| kept.len() < param.tensor.shape[*axis]).collect();
            if axes.is_empty() {
                continue;
            }
            let tensor = sliced(param, &axes);
            gone += param.tensor.n_elements() - tensor.raw_data.len() / size_of::<f32>();
            put(graph, param, tensor);
            cuts.extend(axes.into_iter().map(|(axis, kept)| Cut {
                param: param.name.to_owned(),
                axis,
                before: param.tensor.shape[axis],
                kept,
                outgoing: param.outgoing.contains(&axis),
            }));
        }
        let mut names = Names::of(graph);
        for edit in &walk.edits {
            apply(graph, walk, edit, &kept, &mut names);
        }
        // Types in between have other shapes now; whoever needs them infers them again.
        graph.value_info.clear();
    }
    let parameters_before = model
        .initializers()
        .filter(|tensor| tensor.element == ElementType::F32)
        .map(|tensor| tensor.n_elements())
        .sum::<usize>();
    let plan = ChannelPlan {
        groups: removed.groups.clone(),
        parameters_before,
        parameters_after: parameters_before.saturating_sub(gone),
        cuts,
    };
    Ok((Model::from_proto(proto)?, plan))
}

/// A weight with these places of its axes.
fn sliced(param: &Param<'_>, axes: &BTreeMap<usize, Vec<usize>>) -> TensorProto {
    let mut shape = param.tensor.shape.clone();
    let mut values = param.tensor.to_f32().unwrap_or_default();
    for (&axis, kept) in axes {
        let inner: usize = shape[axis + 1..].iter().product();
        let whole = inner * shape[axis];
        let mut left = Vec::with_capacity(values.len() / shape[axis].max(1) * kept.len());
        for block in values.chunks_exact(whole.max(1)) {
            kept.iter()
                .for_each(|&at| left.extend_from_slice(&block[at * inner..(at + 1) * inner]));
        }
        values = left;
        shape[axis] = kept.len();
    }
    TensorProto {
        dims: shape.iter().map(|&length| length as i64).collect(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        float_data: Vec::new(),
        ..param.tensor.proto.clone()
    }
}

fn put(graph: &mut GraphProto, param: &Param<'_>, tensor: TensorProto) {
    for input in graph.input.iter_mut().filter(|input| input.name == param.name) {
        set_shape(input, &tensor.dims);
    }
    match param.place {
        Place::Initializer(at) => {
            if let Some(place) = graph.initializer.get_mut(at) {
                *place = tensor;
            }
        }
        Place::Node(at) => {
            let attributes = graph.node.get_mut(at).map(|node| &mut node.attribute);
            if let Some(value) = attributes.and_then(|list| list.iter_mut().find(|attribute| attribute.name == "value")) {
                value.t = Some(Box::new(tensor));
            }
        }
    }
}

/// What an old file declares of an initializer among its inputs.
fn set_shape(input: &mut ValueInfoProto, dims: &[i64]) {
    let Some(type_proto::Value::TensorType(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else {
        return;
    };
    let Some(shape) = &mut tensor.shape else { return };
    let dim = |&length: &i64| Dimension {
        value: Some(dimension::Value::DimValue(length)),
        ..Dimension::default()
    };
    shape.dim = dims.iter().map(dim).collect();
}

/// Writes how many channels are left where a node says it.
fn apply(graph: &mut GraphProto, walk: &Walk<'_>, edit: &Edit, kept: &impl Fn(&Rc<[Atom]>) -> Vec<usize>, names: &mut Names) {
    match edit {
        Edit::Shape { node, input, at, atoms } => {
            let count = kept(atoms).len();
            if count < atoms.len() {
                set_entry(graph, walk, (*node, *input), (*at, count), names);
            }
        }
        Edit::List { node, attribute, runs } => {
            let counts: Vec<i64> = runs.iter().map(|run| kept(run).len() as i64).collect();
            set_attribute(graph.node.get_mut(*node), AttributeProto::int_list(attribute, &counts));
        }
        Edit::Group { node, atoms } => {
            let groups = kept(atoms).len() as i64;
            set_attribute(graph.node.get_mut(*node), AttributeProto::int("group", groups));
        }
    }
}

fn set_attribute(node: Option<&mut NodeProto>, value: AttributeProto) {
    let attributes = node.into_iter().flat_map(|node| &mut node.attribute);
    for attribute in attributes.filter(|attribute| attribute.name == value.name) {
        *attribute = value.clone();
    }
}

/// Puts a number into the constant list at an input of a node, which gets a list of its own: others may read the one that it had.
fn set_entry(graph: &mut GraphProto, walk: &Walk<'_>, (node, input): (usize, usize), (at, count): (usize, usize), names: &mut Names) {
    let Some(name) = graph.node.get(node).and_then(|node| node.input.get(input)).cloned() else {
        return;
    };
    let own = graph.initializer.iter().find(|tensor| tensor.name == name && names.is_fresh(&name));
    let list = match own {
        Some(tensor) => aimass_onnx::TensorRef::new(tensor).ok().and_then(|tensor| tensor.to_i64()),
        None => walk.value(&name).param.and_then(|(param, _)| walk.params[param].tensor.to_i64()),
    };
    let Some(mut list) = list.filter(|list| at < list.len()) else {
        return;
    };
    list[at] = count as i64;
    let raw = list.iter().flat_map(|number| number.to_le_bytes()).collect();
    let fresh = own.is_some();
    let new = if fresh { name } else { names.fresh(&format!("{name}.pruned")) };
    graph.initializer.retain(|tensor| tensor.name != new);
    graph.initializer.push(TensorProto {
        name: new.clone(),
        dims: vec![list.len() as i64],
        data_type: DataType::Int64 as i32,
        raw_data: raw,
        ..TensorProto::default()
    });
    if let Some(place) = graph.node.get_mut(node).and_then(|node| node.input.get_mut(input)) {
        *place = new;
    }
}
