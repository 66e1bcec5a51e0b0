//! Embedding bags beyond what PyTorch recorded: empty ones, and loops that are nearly but not quite embedding bags.

use std::collections::BTreeMap;

use aimass_learning::{Array, Engine, Values};
use aimass_onnx::Model;
use aimass_onnx::proto::{GraphProto, NodeProto};

use crate::checks::{Check, float_distance, run};
use crate::files::{ModelFile, names};

fn ints(values: &[i64]) -> Array {
    Array::new(vec![values.len()], Values::Ints(values.to_vec())).expect("a list fills its shape")
}

/// Files with offsets, in all three modes: a bag of no rows gives what comes after zeros, which is the bias.
pub(crate) fn empty() -> Vec<Check> {
    let files = ["offset_bags_ts16", "offset_bags_dyn18", "max_bags_ts14", "max_bags_dyn21"];
    files
        .map(|name| run(format!("bags/{name}"), || empty_rows_are_the_bias(name)))
        .into()
}

fn empty_rows_are_the_bias(name: &str) -> Result<String, String> {
    let file = ModelFile::read(name)?.prepared();
    let bias = file
        .model
        .initializer("fc.bias")
        .and_then(|tensor| tensor.to_f32())
        .ok_or("it has no bias")?;
    let mut engine = Engine::new(&file.model).map_err(|e| e.to_string())?;
    // The first, the third and the last bag are empty.
    let inputs = [("tokens", ints(&[3, 1, 4, 1, 5])), ("offsets", ints(&[0, 0, 2, 2, 5]))];
    let inputs: BTreeMap<String, Array> = inputs.map(|(name, array)| (name.to_owned(), array)).into();
    let outputs = engine.run(inputs).map_err(|e| e.to_string())?;
    let rows: Vec<&[f32]> = outputs[0].as_floats().unwrap_or_default().chunks(bias.len()).collect();
    for (bag, row) in rows.iter().enumerate() {
        let apart = float_distance(row, &bias);
        if ([0, 2, 4].contains(&bag)) != (apart == 0.0) {
            return Err(format!("bag {bag} gives {row:?} with the bias {bias:?}"));
        }
    }
    Ok(format!("{} bags", rows.len()))
}

/// Every node inside of a loop by another op, or with another number in an attribute: no embedding bag.
pub(crate) fn changed() -> Vec<Check> {
    let bags = names().into_iter().filter(|name| name.contains("bags"));
    bags.map(|name| run(format!("changed/{name}"), || stay_loops(&name))).collect()
}

fn stay_loops(name: &str) -> Result<String, String> {
    let file = ModelFile::read(name)?;
    if has_loop(&file.prepared().model) {
        return Err("it is not recognised as it is".to_owned());
    }
    let mut tried = 0;
    for place in 0.. {
        for change in [another_op as fn(&mut NodeProto) -> bool, another_number] {
            let mut proto = file.model.proto().clone();
            let graph = proto.graph.as_mut().ok_or("it has no graph")?;
            let mut left = place;
            let loops = graph.node.iter_mut().filter(|node| node.op_type == "Loop");
            let Some(node) = loops.flat_map(inner).find_map(|graph| nth(graph, &mut left)) else {
                return Ok(format!("{tried} changes"));
            };
            if !change(node) {
                continue;
            }
            let what = format!("{} giving {:?}", node.op_type, node.output);
            tried += 1;
            // What does not even read is no embedding bag either.
            let Ok(model) = Model::from_proto(proto) else { continue };
            if !has_loop(&model.prepared().map_err(|e| e.to_string())?) {
                return Err(format!("taken for an embedding bag with a change of {what}"));
            }
        }
    }
    Ok(String::new())
}

fn has_loop(model: &Model) -> bool {
    model.graph().node.iter().any(|node| node.op_type == "Loop")
}

fn inner(node: &mut NodeProto) -> Vec<&mut GraphProto> {
    node.attribute
        .iter_mut()
        .filter_map(|attribute| attribute.g.as_deref_mut())
        .collect()
}

/// A node of a graph or the graphs inside of it, by its number in their order.
fn nth<'a>(graph: &'a mut GraphProto, left: &mut usize) -> Option<&'a mut NodeProto> {
    for node in &mut graph.node {
        if *left == 0 {
            return Some(node);
        }
        *left -= 1;
        for graph in inner(node) {
            if let Some(found) = nth(graph, left) {
                return Some(found);
            }
        }
    }
    None
}

fn another_op(node: &mut NodeProto) -> bool {
    // The number of a constant is one of its inputs' texts; by another op it has no value.
    node.op_type = "Softsign".to_owned();
    true
}

fn another_number(node: &mut NodeProto) -> bool {
    // With a target of one dimension it makes no difference.
    let counts = |name: &str| name != "allowzero";
    let mut numbers = node.attribute.iter_mut().filter(|attribute| counts(&attribute.name));
    match numbers.find_map(|attribute| attribute.i.as_mut()) {
        Some(number) => {
            *number += 1;
            true
        }
        None => false,
    }
}
