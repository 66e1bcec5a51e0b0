//! A model's graph as read once: the live nodes, the input, and every tensor that is there before the first node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{Dim, ElementType, Model, ParamKind, ParamLayout, TensorRef};

use super::{GraphError, Ints};
use crate::ops;

/// A float tensor that is there from the start.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Arc<[f32]>,
    /// Where it lies in the flat weight vector, if it trains.
    pub(crate) weight: Option<Range<usize>>,
}

/// A model's graph. Only what the first output needs.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) opset: i64,
    /// In order, without `Constant`.
    pub(crate) nodes: Vec<NodeProto>,
    pub(crate) input: String,
    /// Dimensions after the first; `None` when the file says nothing.
    pub(crate) input_dims: Option<Vec<Dim>>,
    pub(crate) output: String,
    /// Source `i` has slot `i + 1`.
    pub(crate) sources: Vec<Source>,
    pub(crate) ints: BTreeMap<String, Ints>,
}

fn model_error(problem: impl Into<String>, fix: impl Into<String>) -> GraphError {
    GraphError::Model {
        problem: problem.into(),
        fix: fix.into(),
    }
}

/// A node's name for people: its own, or that of its first output.
pub(crate) fn title(node: &NodeProto) -> String {
    if node.name.is_empty() {
        node.output.first().cloned().unwrap_or_default()
    } else {
        node.name.clone()
    }
}

pub(crate) fn node_error(node: &NodeProto, problem: impl Into<String>, fix: impl Into<String>) -> GraphError {
    GraphError::Node {
        node: title(node),
        op: node.op_type.clone(),
        problem: problem.into(),
        fix: fix.into(),
    }
}

impl Graph {
    /// Reads the graph and refuses ops that are not supported, by name.
    pub(crate) fn new(model: &Model, layout: Option<&ParamLayout>) -> Result<Self, GraphError> {
        let output = &model
            .outputs()
            .first()
            .ok_or_else(|| model_error("the model has no output", "export it again"))?
            .name;
        let (nodes, needed) = live(&model.graph().node, output);
        let inputs: Vec<_> = model.inputs().iter().filter(|i| needed.contains(i.name.as_str())).collect();
        let input = match inputs[..] {
            [one] => one,
            [] => {
                return Err(model_error(
                    "the first output does not depend on any input",
                    "export the model again",
                ));
            }
            _ => {
                let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
                return Err(model_error(
                    format!("the model has the inputs {}", names.join(", ")),
                    "this version trains models with one input",
                ));
            }
        };
        if input.element != ElementType::F32 {
            return Err(model_error(
                format!("the input `{}` is not float32", input.name),
                "this version trains on float32 features",
            ));
        }
        let input_dims = match input.dims.as_deref() {
            None => None,
            Some([]) => {
                return Err(model_error(
                    format!("the input `{}` is a scalar", input.name),
                    "its first dimension must be the batch",
                ));
            }
            Some([Dim::Fixed(batch), ..]) => {
                let problem = format!("the input `{}` has a fixed batch of {batch}", input.name);
                return Err(model_error(
                    problem,
                    "export it with a dynamic first dimension (dynamic_axes or dynamic_shapes in torch.onnx.export)",
                ));
            }
            Some([_, rest @ ..]) => Some(rest.to_vec()),
        };
        let mut graph = Self {
            opset: model.opset(),
            nodes: Vec::new(),
            input: input.name.clone(),
            input_dims,
            output: output.clone(),
            sources: Vec::new(),
            ints: BTreeMap::new(),
        };
        let weights: BTreeMap<&str, Range<usize>> = layout.map(weight_ranges).unwrap_or_default();
        for name in &needed {
            if let Some(tensor) = model.initializer(name) {
                graph.add(name, &tensor, weights.get(name).cloned()).map_err(|problem| {
                    model_error(
                        format!("the initializer `{name}` {problem}"),
                        "this version computes in float32 with int64, int32 or bool constants",
                    )
                })?;
            }
        }
        graph.add_nodes(nodes)?;
        Ok(graph)
    }

    fn add_nodes(&mut self, nodes: Vec<&NodeProto>) -> Result<(), GraphError> {
        let mut unsupported: Vec<&NodeProto> = Vec::new();
        for node in nodes {
            let standard = matches!(node.domain.as_str(), "" | "ai.onnx");
            if standard && node.op_type == "Constant" {
                self.add_constant(node)?;
            } else if standard && ops::is_supported(&node.op_type) {
                self.nodes.push(node.clone());
            } else {
                unsupported.push(node);
            }
        }
        let Some(first) = unsupported.first() else { return Ok(()) };
        let mut others: Vec<String> = unsupported[1..]
            .iter()
            .filter(|n| n.op_type != first.op_type)
            .map(|n| n.op_type.clone())
            .collect();
        others.sort_unstable();
        others.dedup();
        let domain = if first.domain.is_empty() {
            String::new()
        } else {
            format!(" of the domain {}", first.domain)
        };
        let also = if others.is_empty() {
            String::new()
        } else {
            format!(" (also: {})", others.join(", "))
        };
        Err(node_error(
            first,
            format!("the op{domain} is not supported{also}"),
            format!("use the ops that are: {}", ops::supported().join(", ")),
        ))
    }

    fn add(&mut self, name: &str, tensor: &TensorRef<'_>, weight: Option<Range<usize>>) -> Result<(), String> {
        let wrong = || "does not hold the values its shape asks for".to_owned();
        match tensor.element {
            ElementType::F32 => {
                let values: Arc<[f32]> = tensor.to_f32().ok_or_else(wrong)?.into();
                if tensor.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) != Some(values.len()) {
                    return Err(wrong());
                }
                if weight.as_ref().is_some_and(|w| w.len() != values.len()) {
                    return Err("is of another shape in the layout".to_owned());
                }
                self.sources.push(Source {
                    name: name.to_owned(),
                    shape: tensor.shape.clone(),
                    values,
                    weight,
                });
            }
            ElementType::I64 | ElementType::I32 => {
                let ints = Ints::new(tensor.shape.clone(), tensor.to_i64().ok_or_else(wrong)?);
                self.ints.insert(
                    name.to_owned(),
                    ints.ok_or("is an integer table; only shapes and axes may be integers")?,
                );
            }
            ElementType::Bool => {
                let values = tensor.to_bool().ok_or_else(wrong)?.into_iter().map(i64::from).collect();
                self.ints
                    .insert(name.to_owned(), Ints::new(tensor.shape.clone(), values).ok_or_else(wrong)?);
            }
            ElementType::Other(number) => return Err(format!("has the element type {number}")),
        }
        Ok(())
    }

    fn add_constant(&mut self, node: &NodeProto) -> Result<(), GraphError> {
        let wrong = |problem: &str| node_error(node, problem, "this version knows float32, int64, int32 and bool constants");
        let [attribute] = &node.attribute[..] else {
            return Err(wrong("it needs exactly one attribute"));
        };
        let Some(name) = node.output.first() else {
            return Err(wrong("it has no output"));
        };
        let float = |values: Vec<f32>, shape: Vec<usize>| Source {
            name: name.clone(),
            shape,
            values: values.into(),
            weight: None,
        };
        match attribute.name.as_str() {
            "value" => {
                let tensor = attribute.t.as_deref().ok_or_else(|| wrong("its `value` is missing"))?;
                let tensor = TensorRef::new(tensor).map_err(|e| wrong(&e.to_string()))?;
                self.add(name, &tensor, None).map_err(|problem| wrong(&format!("it {problem}")))?;
            }
            "value_float" => self.sources.push(float(vec![attribute.f.unwrap_or_default()], Vec::new())),
            "value_floats" => self.sources.push(float(attribute.floats.clone(), vec![attribute.floats.len()])),
            "value_int" => drop(self.ints.insert(
                name.clone(),
                Ints {
                    shape: Vec::new(),
                    values: vec![attribute.i.unwrap_or_default()],
                },
            )),
            "value_ints" => {
                let ints =
                    Ints::new(vec![attribute.ints.len()], attribute.ints.clone()).ok_or_else(|| wrong("it holds too many integers"))?;
                self.ints.insert(name.clone(), ints);
            }
            other => return Err(wrong(&format!("its attribute `{other}` is not supported"))),
        }
        Ok(())
    }
}

/// Where each weight lies in the flat vector.
fn weight_ranges(layout: &ParamLayout) -> BTreeMap<&str, Range<usize>> {
    let weights = layout.params().iter().filter(|p| p.kind == ParamKind::Weight);
    weights.map(|p| (p.name.as_str(), p.range())).collect()
}

/// The nodes that the output needs, in the file's order, and every name they read.
fn live<'a>(nodes: &'a [NodeProto], output: &'a str) -> (Vec<&'a NodeProto>, BTreeSet<&'a str>) {
    let mut needed = BTreeSet::from([output]);
    let mut kept = Vec::new();
    for node in nodes.iter().rev() {
        if node.output.iter().any(|o| !o.is_empty() && needed.contains(o.as_str())) {
            needed.extend(node.input.iter().filter(|i| !i.is_empty()).map(String::as_str));
            kept.push(node);
        }
    }
    kept.reverse();
    (kept, needed)
}
