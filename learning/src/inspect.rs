//! What a model is, and whether it trains here: answered from shapes alone, without running anything.

mod cost;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{Dim, Model, ParamKind, ParamLayout};

pub use cost::Cost;
pub(crate) use cost::{cost, differentiable};

use crate::compiled;
use crate::program::{Graph, GraphError, Mode, Program, obstacles as graph_obstacles};

/// What to ask of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Length of the first axis of every input that leaves it open.
    pub batch: usize,
    /// Lengths of other open axes by symbol.
    pub dims: BTreeMap<String, usize>,
    /// Vectors that the optimizer keeps a weight, for the estimate of memory: 0 for SGD, 2 for Adam.
    pub moments: usize,
    /// Whether gradients are gathered before weights move, as they are for decay, clipping and proximal terms; with moments they always are.
    pub gathered: bool,
}

/// A reason why a model does not train here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// The node, where it is one.
    pub node: Option<String>,
    /// Its op.
    pub op: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(node), Some(op)) = (&self.node, &self.op) {
            write!(f, "node `{node}` ({op}): ")?;
        }
        write!(f, "{}; {}", self.problem, self.fix)
    }
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// `float32`, `int64`, `bool`, or what the file says.
    pub element: String,
    /// As the file says it: numbers, symbols, `?`.
    pub dims: Option<Vec<String>>,
    /// For the question's lengths, where it could be planned.
    pub shape: Option<Vec<usize>>,
}

/// What [`inspect`] found.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// Why it does not train; empty if it does.
    pub obstacles: Vec<Obstacle>,
    /// Inputs that a batch feeds.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// How often each op is used, by domain and name (`ai.onnx` without a domain).
    pub ops: BTreeMap<String, usize>,
    /// Version of the operator set.
    pub opset: i64,
    /// For a training step on the CPU; `None` where it can't be planned.
    pub cost: Option<Cost>,
    /// Nodes that such a step has no kernels for, so that the interpreter runs them: how often each op.
    pub interpreted: BTreeMap<String, usize>,
}

impl Inspection {
    /// Whether it trains here.
    pub fn trains(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// Why a model trains on no data at all: its ops, whatever the shapes.
pub fn obstacles(model: &Model) -> Vec<Obstacle> {
    graph_obstacles(model).into_iter().map(obstacle).collect()
}

/// Looks at a model. `layout`: what trains, or why nothing can.
pub fn inspect(model: &Model, layout: Result<&ParamLayout, String>, question: &Question) -> Inspection {
    let outputs: Vec<String> = model.outputs().iter().map(|output| output.name.clone()).collect();
    let mut obstacles = obstacles(model);
    let mut ops = BTreeMap::new();
    for node in &model.graph().node {
        let name = match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type.clone(),
            domain => format!("{domain}.{}", node.op_type),
        };
        *ops.entry(name).or_insert(0) += 1;
    }
    let mut planned = None;
    match layout {
        Err(reason) => obstacles.push(Obstacle {
            node: None,
            op: None,
            problem: reason,
            fix: "choose the weights in [model] trainable".to_owned(),
        }),
        Ok(layout) if obstacles.is_empty() => match plan(model, layout, &outputs, question) {
            Ok(found) => planned = Some(found),
            Err(error) => obstacles.push(obstacle(error)),
        },
        Ok(_) => {}
    }
    let shape_of = |index: usize, program: &Program, output: bool| {
        if output {
            program.outputs.get(index).map(|o| o.shape.clone())
        } else {
            program.input_shapes.get(index).cloned()
        }
    };
    let port = |info: &aimass_onnx::ValueInfo, shape: Option<Vec<usize>>| Port {
        name: info.name.clone(),
        element: info.element.to_string(),
        dims: info.dims.as_ref().map(|dims| dims.iter().map(dim_text).collect()),
        shape,
    };
    let inputs = model
        .inputs()
        .iter()
        .map(|info| {
            let shape = planned.as_ref().and_then(|(graph, program)| {
                let index = graph.inputs.iter().position(|i| i.name == info.name)?;
                shape_of(index, program, false)
            });
            port(info, shape)
        })
        .collect();
    let ports = model.outputs().iter().enumerate();
    let outputs = ports
        .map(|(i, info)| port(info, planned.as_ref().and_then(|(_, program)| shape_of(i, program, true))))
        .collect();
    let mut interpreted = BTreeMap::new();
    let cost = planned.map(|(graph, program)| {
        let cost = cost(&graph, &program, question.moments);
        let mode = Mode::Training { batch_statistics: true };
        let (peak_bytes, nodes) = compiled::estimate(&graph, program, mode, question.moments, question.gathered);
        for node in nodes {
            *interpreted.entry(graph.nodes[node].op_type.clone()).or_insert(0) += 1;
        }
        of_process(Cost { peak_bytes, ..cost })
    });
    Inspection {
        obstacles,
        inputs,
        outputs,
        ops,
        opset: model.opset(),
        cost,
        interpreted,
    }
}

fn of_process(cost: Cost) -> Cost {
    Cost {
        peak_bytes: cost.peak_bytes.saturating_add(cost::PROCESS_BYTES),
        ..cost
    }
}

fn dim_text(dim: &Dim) -> String {
    match dim {
        Dim::Fixed(n) => n.to_string(),
        Dim::Symbol(name) => name.clone(),
        Dim::Unknown => "?".to_owned(),
    }
}

fn obstacle(error: GraphError) -> Obstacle {
    match error {
        GraphError::Node { node, op, problem, fix } => Obstacle {
            node: Some(node),
            op: Some(op),
            problem,
            fix,
        },
        GraphError::Model { problem, fix } | GraphError::Data { problem, fix } => Obstacle {
            node: None,
            op: None,
            problem,
            fix,
        },
    }
}

/// Binds the graph for training at the question's lengths.
fn plan(model: &Model, layout: &ParamLayout, outputs: &[String], question: &Question) -> Result<(Graph, Program), GraphError> {
    let graph = Graph::with_outputs(model, Some(layout), outputs)?;
    if !graph.trains() {
        return Err(GraphError::Model {
            problem: "no weight reaches an output, so nothing would train".to_owned(),
            fix: "check the model or [model] trainable".to_owned(),
        });
    }
    let mode = Mode::Training { batch_statistics: true };
    let (shapes, guessed) = shapes_of(&graph, question, LENGTHS[0])?;
    let first = match graph.plan(&shapes, mode) {
        Ok(program) => return Ok((graph, program)),
        Err(error) if !guessed => return Err(error),
        Err(error) => error,
    };
    // A graph may have a length built in that its inputs do not tell, as older exporters do with attention.
    for length in &LENGTHS[1..] {
        let (shapes, _) = shapes_of(&graph, question, *length)?;
        if let Ok(program) = graph.plan(&shapes, mode) {
            return Ok((graph, program));
        }
    }
    Err(match first {
        GraphError::Node { node, op, problem, fix } => GraphError::Node {
            node,
            op,
            problem,
            fix: format!("{fix}, or say how long its open dimensions are (--dim NAME=N)"),
        },
        other => other,
    })
}

/// Shapes of the inputs, and whether a length was guessed.
fn shapes_of(graph: &Graph, question: &Question, open_length: usize) -> Result<(Vec<Vec<usize>>, bool), GraphError> {
    let mut guessed = false;
    let mut shapes = Vec::with_capacity(graph.inputs.len());
    for input in &graph.inputs {
        let Some(dims) = &input.dims else {
            return Err(GraphError::Model {
                problem: format!("the file says nothing of the shape of the input `{}`", input.name),
                fix: "export the model with shapes".to_owned(),
            });
        };
        let mut length = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(n) => *n,
            Dim::Symbol(name) if question.dims.contains_key(name) => question.dims[name],
            _ if axis == 0 => question.batch,
            _ => {
                guessed = true;
                open_length
            }
        };
        shapes.push(dims.iter().enumerate().map(&mut length).collect::<Vec<_>>());
    }
    Ok((shapes, guessed))
}

/// Lengths to try for an open axis that the question does not name.
const LENGTHS: [usize; 12] = [16, 8, 32, 10, 4, 64, 12, 20, 5, 6, 7, 128];

/// What a person should know of a model that trains: tensors that look like parameters and stay constant, and tensors that several nodes
/// read, which train as one.
pub fn doubts(model: &Model, layout: &ParamLayout) -> Vec<String> {
    let frozen = layout.params().iter().filter(|p| p.kind == ParamKind::Frozen && p.n_elements() > 1);
    let frozen: Vec<String> = frozen.map(|p| format!("`{}` {:?}", p.name, p.shape)).collect();
    let mut doubts = Vec::new();
    if !frozen.is_empty() {
        doubts.push(format!(
            "{} stay constant, as nothing shows that they are parameters; if they are, name them in `[model] trainable`",
            listed(&frozen)
        ));
    }
    let mut readers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    // A weight's gates are sliced apart, and its shape is read: no second use.
    let uses = |node: &&NodeProto| !matches!(node.standard_op(), Some("Slice" | "Split" | "Shape"));
    for node in model.graph().node.iter().filter(uses) {
        for name in &node.input {
            readers.entry(name).or_default().insert(shown_node(node));
        }
    }
    let weights = layout.params().iter().filter(|p| p.kind == ParamKind::Weight);
    let shared: Vec<String> = weights
        .filter(|p| readers.get(p.name.as_str()).is_some_and(|nodes| nodes.len() > 1))
        .map(|p| format!("`{}`", p.name))
        .collect();
    if !shared.is_empty() {
        doubts.push(format!(
            "several nodes read {}: each trains as one. If your code does not tie them, the exporter merged what had equal values; give them different first values, then export again",
            listed(&shared)
        ));
    }
    doubts
}

fn shown_node(node: &NodeProto) -> &str {
    if node.name.is_empty() {
        return node.output.first().map_or("", String::as_str);
    }
    &node.name
}

/// The first few, and how many more.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names[..names.len().min(SHOWN)].join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

/// Counts of a layout by what its parameters are to training.
pub fn parameters(layout: &ParamLayout) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::from([("weights", 0), ("buffers", 0), ("frozen", 0)]);
    for param in layout.params() {
        let kind = match param.kind {
            ParamKind::Weight => "weights",
            ParamKind::Buffer => "buffers",
            ParamKind::Frozen => "frozen",
        };
        *counts.entry(kind).or_insert(0) += param.n_elements();
    }
    counts
}

#[cfg(test)]
mod tests {
    use aimass_onnx::TrainableRules;
    use aimass_onnx::build::mlp;

    use super::*;

    #[test]
    fn what_stays_constant_and_what_is_read_twice_is_named() {
        let mut proto = mlp(&[2, 3, 3, 2], 1).proto().clone();
        let shown = |model: &Model| doubts(model, &model.layout(&TrainableRules::new(&[]).expect("none")).expect("trains"));
        assert!(shown(&Model::from_proto(proto.clone()).expect("sound")).is_empty());
        let graph = proto.graph.as_mut().expect("a graph");

        // The second layer reads the first one's biases, and a position is added to the input.
        let graph_node = |graph: &mut aimass_onnx::proto::GraphProto, nth: usize| {
            let at = graph
                .node
                .iter()
                .enumerate()
                .filter(|(_, n)| n.op_type == "Gemm")
                .nth(nth)
                .map(|(at, _)| at);
            at.expect("a product")
        };
        let (first, second) = (graph_node(graph, 0), graph_node(graph, 1));
        let bias = graph.node[first].input[2].clone();
        graph.node[second].input[2].clone_from(&bias);
        let position = aimass_onnx::proto::TensorProto {
            name: "position".to_owned(),
            ..graph.initializer.iter().find(|t| t.name == bias).expect("there").clone()
        };
        graph.initializer.push(position);
        let hidden = graph.node[first].output[0].clone();
        let reader = graph.node.iter().position(|n| n.input.contains(&hidden)).expect("an activation");
        let mut added = graph.node[reader].clone();
        (added.op_type, added.name) = ("Mul".to_owned(), "with position".to_owned());
        (added.input, added.output) = (vec![hidden.clone(), "position".to_owned()], vec!["moved".to_owned()]);
        for input in &mut graph.node[reader].input {
            if *input == hidden {
                "moved".clone_into(input);
            }
        }
        graph.node.insert(reader, added);
        let found = shown(&Model::from_proto(proto).expect("sound"));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("`position` [3]") && found[0].contains("[model] trainable"),
            "{found:?}"
        );
        assert!(found[1].contains(&format!("`{bias}`")), "{found:?}");
    }
}
