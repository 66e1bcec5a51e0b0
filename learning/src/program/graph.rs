//! A model's graph as read once: the live nodes, the inputs, and every tensor that is there before the first node runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{Dim, ElementType, Model, ParamKind, ParamLayout, TensorRef};

use super::plan::elements;
use super::{Dequantized, Element, GraphError, Host, Integers, folding};
use crate::array::n_elements;
use crate::ops;

/// What a source is to training.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// Never changes.
    Constant,
    /// Trains; where it lies in the flat weight vector.
    Weight(Range<usize>),
    /// A running statistic; where it lies in the flat vector of buffers.
    Buffer(Range<usize>),
}

/// A float tensor that is there from the start.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) name: String,
    /// Floats, or what lies as floats.
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Arc<[f32]>,
    pub(crate) role: Role,
    /// What the values were made of, where a DequantizeLinear made them of constants.
    pub(crate) integers: Option<Arc<Dequantized>>,
}

impl Source {
    pub(crate) fn weight(&self) -> Option<Range<usize>> {
        if let Role::Weight(range) = &self.role {
            Some(range.clone())
        } else {
            None
        }
    }
    /// The values as they were read.
    pub(crate) fn floats(&self) -> Vec<f32> {
        match &self.integers {
            Some(integers) if self.values.is_empty() => integers.floats(),
            _ => self.values.to_vec(),
        }
    }
    pub(crate) fn buffer(&self) -> Option<Range<usize>> {
        if let Role::Buffer(range) = &self.role {
            Some(range.clone())
        } else {
            None
        }
    }
}

/// An input that a batch feeds.
#[derive(Debug)]
pub(crate) struct GraphInput {
    pub(crate) name: String,
    pub(crate) element: Element,
    /// `None` when the file says nothing.
    pub(crate) dims: Option<Vec<Dim>>,
}

/// A model's graph. Only what the chosen outputs need.
#[derive(Debug)]
pub(crate) struct Graph {
    pub(crate) opset: i64,
    /// In order, without `Constant`.
    pub(crate) nodes: Vec<NodeProto>,
    /// Input `i` has slot `i`.
    pub(crate) inputs: Vec<GraphInput>,
    pub(crate) outputs: Vec<String>,
    /// Source `i` has slot `inputs + i`.
    pub(crate) sources: Vec<Source>,
    pub(crate) hosts: BTreeMap<String, Host>,
}

pub(crate) fn model_error(problem: impl Into<String>, fix: impl Into<String>) -> GraphError {
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
    /// Reads the part of the graph that the model's first output needs.
    pub(crate) fn new(model: &Model, layout: Option<&ParamLayout>) -> Result<Self, GraphError> {
        let first = model.outputs().first().map(|output| output.name.clone());
        let first = first.ok_or_else(|| model_error("the model has no output", "export it again"))?;
        Self::with_outputs(model, layout, &[first])
    }

    /// Reads the part of the graph that `outputs` need, and refuses ops that are not supported, by name.
    pub(crate) fn with_outputs(model: &Model, layout: Option<&ParamLayout>, outputs: &[String]) -> Result<Self, GraphError> {
        for name in outputs {
            if !model.outputs().iter().any(|output| output.name == *name) {
                let known: Vec<&str> = model.outputs().iter().map(|o| o.name.as_str()).collect();
                return Err(model_error(
                    format!("the model has no output `{name}`"),
                    format!("it has {}", known.join(", ")),
                ));
            }
        }
        Self::read(model, layout, outputs)
    }

    /// Reads the part of the graph that makes `values`: any of its names.
    pub(crate) fn with_values(model: &Model, values: &[String]) -> Result<Self, GraphError> {
        let graph = model.graph();
        for name in values {
            let made = graph.node.iter().any(|node| node.output.contains(name));
            if !made && model.initializer(name).is_none() && !model.inputs().iter().any(|input| input.name == *name) {
                return Err(model_error(
                    format!("the model has no value `{name}`"),
                    "name an output of one of its nodes, an input or an initializer",
                ));
            }
        }
        Self::read(model, None, values)
    }

    fn read(model: &Model, layout: Option<&ParamLayout>, outputs: &[String]) -> Result<Self, GraphError> {
        let (nodes, needed) = live(&model.graph().node, outputs);
        if let Some(error) = nodes.iter().find_map(|node| is_runnable(node).err()) {
            return Err(with_others(error, &nodes));
        }
        if let Some(error) = unknown_elements(model, &needed).into_iter().next() {
            return Err(error);
        }
        let mut inputs = Vec::new();
        for input in model.inputs().iter().filter(|i| needed.contains(i.name.as_str())) {
            let Some(element) = element(input.element) else { continue };
            inputs.push(GraphInput {
                name: input.name.clone(),
                element,
                dims: input.dims.clone(),
            });
        }
        if inputs.is_empty() {
            return Err(model_error(
                format!("the output `{}` does not depend on any input", outputs.join(", ")),
                "export the model again",
            ));
        }
        let mut graph = Self {
            opset: model.opset(),
            nodes: Vec::new(),
            inputs,
            outputs: outputs.to_vec(),
            sources: Vec::new(),
            hosts: BTreeMap::new(),
        };
        let roles: BTreeMap<&str, Role> = layout.map(roles).unwrap_or_default();
        for name in &needed {
            if let Some(tensor) = model.initializer(name) {
                let role = roles.get(name).cloned().unwrap_or(Role::Constant);
                graph.add(name, &tensor, role).map_err(|problem| {
                    model_error(
                        format!("the initializer `{name}` {problem}"),
                        "this version computes in float32 with int64, int32, bool or quantized constants",
                    )
                })?;
            }
        }
        graph.add_nodes(nodes)?;
        graph.fold()?;
        Ok(graph)
    }

    /// Whether anything trains.
    pub(crate) fn trains(&self) -> bool {
        self.sources.iter().any(|source| source.weight().is_some())
    }

    fn add_nodes(&mut self, nodes: Vec<&NodeProto>) -> Result<(), GraphError> {
        for node in nodes {
            if node.op_type == "Constant" {
                self.add_constant(node)?;
            } else {
                self.nodes.push(node.clone());
            }
        }
        Ok(())
    }

    fn add(&mut self, name: &str, tensor: &TensorRef<'_>, role: Role) -> Result<(), String> {
        let wrong = || "does not hold the values its shape asks for".to_owned();
        let host = |element: Element, values: Vec<i64>| {
            Host::new(element, tensor.shape.clone(), Some(values)).map_err(|p| format!("can't be used: {}", p.problem))
        };
        match tensor.element {
            ElementType::F32 => {
                let values: Arc<[f32]> = tensor.to_f32().ok_or_else(wrong)?.into();
                if n_elements(&tensor.shape) != Some(values.len()) {
                    return Err(wrong());
                }
                if let Role::Weight(range) | Role::Buffer(range) = &role
                    && range.len() != values.len()
                {
                    return Err("is of another shape in the layout".to_owned());
                }
                self.sources.push(Source {
                    name: name.to_owned(),
                    element: Element::Float,
                    shape: tensor.shape.clone(),
                    values,
                    role,
                    integers: None,
                });
            }
            ElementType::I64 | ElementType::I32 => {
                let host = host(Element::Int, tensor.to_i64().ok_or_else(wrong)?)?;
                self.hosts.insert(name.to_owned(), host);
            }
            ElementType::Bool => {
                let values = tensor.to_bool().ok_or_else(wrong)?.into_iter().map(i64::from).collect();
                self.hosts.insert(name.to_owned(), host(Element::Bool, values)?);
            }
            other => {
                let Some(integers) = Integers::of(other) else {
                    return Err(format!("is made of {other}"));
                };
                // They take more room here than in the file.
                if elements(&tensor.shape).is_none() {
                    return Err("is past the limit of elements".to_owned());
                }
                self.sources.push(Source {
                    name: name.to_owned(),
                    element: Element::Quantized(integers),
                    shape: tensor.shape.clone(),
                    values: integers.values(tensor).ok_or_else(wrong)?.into(),
                    role: Role::Constant,
                    integers: None,
                });
            }
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
            element: Element::Float,
            shape,
            values: values.into(),
            role: Role::Constant,
            integers: None,
        };
        let ints = |shape: Vec<usize>, values: Vec<i64>| Host::ints(shape, values).map_err(|p| wrong(&p.problem));
        match attribute.name.as_str() {
            "value" => {
                let tensor = attribute.t.as_deref().ok_or_else(|| wrong("its `value` is missing"))?;
                let tensor = TensorRef::new(tensor).map_err(|e| wrong(&e.to_string()))?;
                self.add(name, &tensor, Role::Constant)
                    .map_err(|problem| wrong(&format!("it {problem}")))?;
            }
            "value_float" => self.sources.push(float(vec![attribute.f.unwrap_or_default()], Vec::new())),
            "value_floats" => self.sources.push(float(attribute.floats.clone(), vec![attribute.floats.len()])),
            "value_int" => drop(
                self.hosts
                    .insert(name.clone(), ints(Vec::new(), vec![attribute.i.unwrap_or_default()])?),
            ),
            "value_ints" => {
                let host = ints(vec![attribute.ints.len()], attribute.ints.clone())?;
                self.hosts.insert(name.clone(), host);
            }
            other => return Err(wrong(&format!("its attribute `{other}` is not supported"))),
        }
        Ok(())
    }
}

/// Whether a node's op runs here at all.
pub(crate) fn is_runnable(node: &NodeProto) -> Result<(), GraphError> {
    if node.domain == folding::MICROSOFT && folding::OF_MICROSOFT.contains(&node.op_type.as_str()) {
        return Ok(());
    }
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return Err(node_error(
            node,
            format!("the op of the domain {} is not supported", node.domain),
            format!(
                "use the ops of the standard domain, or of {} {}",
                folding::MICROSOFT,
                folding::OF_MICROSOFT.join(", ")
            ),
        ));
    }
    if matches!(node.op_type.as_str(), "If" | "Loop" | "Scan") {
        return Err(node_error(
            node,
            "control flow is not supported",
            "export the model without branches and loops over data (torch.export unrolls loops of a fixed length)",
        ));
    }
    if node.op_type == "Constant" || ops::is_supported(&node.op_type) {
        return Ok(());
    }
    Err(node_error(
        node,
        "the op is not supported",
        format!("use the ops that are: {}", ops::supported().join(", ")),
    ))
}

/// Initializers and inputs among `names` of types that are not computed with.
fn unknown_elements(model: &Model, names: &BTreeSet<&str>) -> Vec<GraphError> {
    const FIX: &str = "export the model in float32, with int64, int32 or bool where it needs them";
    let tensors = model.initializers().map(|t| ("initializer", t.proto.name.clone(), t.element));
    let inputs = model.inputs().iter().map(|input| ("input", input.name.clone(), input.element));
    tensors
        .chain(inputs)
        .filter(|(_, name, found)| names.contains(name.as_str()) && element(*found).is_none())
        .map(|(what, name, found)| model_error(format!("the {what} `{name}` is made of {found}"), FIX))
        .collect()
}

/// Everything that keeps the model from running, as far as that shows before it is planned: nodes (those inside of control flow
/// included) and element types.
pub(crate) fn obstacles(model: &Model) -> Vec<GraphError> {
    fn walk(nodes: &[NodeProto], found: &mut Vec<GraphError>) {
        for node in nodes {
            found.extend(is_runnable(node).err());
            for attribute in &node.attribute {
                for inner in attribute.g.as_deref().into_iter().chain(&attribute.graphs) {
                    walk(&inner.node, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(&model.graph().node, &mut found);
    let outputs: Vec<String> = model.outputs().iter().map(|output| output.name.clone()).collect();
    found.extend(unknown_elements(model, &live(&model.graph().node, &outputs).1));
    found
}

/// Names the other ops of the graph that do not run here.
fn with_others(error: GraphError, nodes: &[&NodeProto]) -> GraphError {
    let GraphError::Node { node, op, problem, fix } = error else {
        return error;
    };
    let mut others: Vec<String> = nodes
        .iter()
        .filter(|n| n.op_type != op && is_runnable(n).is_err())
        .map(|n| n.op_type.clone())
        .collect();
    others.sort_unstable();
    others.dedup();
    let problem = if others.is_empty() {
        problem
    } else {
        format!("{problem} (also: {})", others.join(", "))
    };
    GraphError::Node { node, op, problem, fix }
}

/// The element types that are computed with.
pub(crate) fn element(element: ElementType) -> Option<Element> {
    match element {
        ElementType::F32 => Some(Element::Float),
        ElementType::I64 | ElementType::I32 => Some(Element::Int),
        ElementType::Bool => Some(Element::Bool),
        ElementType::Other(_) => Integers::of(element).map(Element::Quantized),
    }
}

/// What each initializer is to training, and where it lies in the flat vector of its kind.
fn roles(layout: &ParamLayout) -> BTreeMap<&str, Role> {
    let role = |kind, range| match kind {
        ParamKind::Weight => Role::Weight(range),
        ParamKind::Buffer => Role::Buffer(range),
        ParamKind::Frozen => Role::Constant,
    };
    layout.params().iter().map(|p| (p.name.as_str(), role(p.kind, p.range()))).collect()
}

/// The nodes that the outputs need, in the file's order, and every name they read.
fn live<'a>(nodes: &'a [NodeProto], outputs: &'a [String]) -> (Vec<&'a NodeProto>, BTreeSet<&'a str>) {
    let mut needed: BTreeSet<&str> = outputs.iter().map(String::as_str).collect();
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
