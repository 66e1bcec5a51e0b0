//! The cases that `testdata/make_*ops.py` write (their format is told in `testdata/op_cases.py`), and the models made of each.

use aimass_onnx::proto::{DataType, ModelProto, TensorProto, ValueInfoProto, type_proto};
use aimass_onnx::{Model, TrainableRules};
use serde_json::Value;

use crate::array::{Array, Values};
use crate::program::Graph;
use crate::testing::{floats, node, value};

const FILES: &[&str] = &[
    include_str!("../../../testdata/ops.json"),
    include_str!("../../../testdata/ops_nn.json"),
    include_str!("../../../testdata/ops_quantized.json"),
    include_str!("../../../testdata/ops_shapes.json"),
];

pub(super) struct Case {
    pub(super) name: String,
    pub(super) model: Model,
    pub(super) rules: TrainableRules,
    pub(super) inputs: Vec<(String, Array)>,
    pub(super) outputs: Vec<Array>,
    /// Largest difference allowed, as a share of the largest output.
    pub(super) tolerance: f32,
    /// Whether finite differences can tell anything.
    pub(super) gradient: bool,
}

/// Every case of every file.
pub(super) fn cases() -> Vec<Case> {
    let all = FILES.iter().flat_map(|file| read(file));
    all.collect()
}

/// The cases of one file.
pub(super) fn read(file: &str) -> Vec<Case> {
    let all: Value = serde_json::from_str(file).expect("valid JSON");
    all.as_array().expect("a list").iter().map(Case::read).collect()
}

fn float(value: &Value) -> f32 {
    match value.as_str() {
        Some(text) => text.parse().expect("nan or inf"),
        None => value.as_f64().expect("a number") as f32,
    }
}

fn array(value: &Value) -> Array {
    let list = |key: &str| value[key].as_array().expect("a list").iter();
    let shape = list("shape").map(|d| d.as_u64().expect("a length") as usize).collect();
    let int = |v: &Value| v.as_i64().expect("an integer");
    let values = match value["dtype"].as_str().expect("a type") {
        "float" => Values::Floats(list("data").map(float).collect()),
        "int" => Values::Ints(list("data").map(int).collect()),
        "bool" => Values::Bools(list("data").map(|v| int(v) != 0).collect()),
        other => panic!("the type {other} is unknown"),
    };
    Array::new(shape, values).expect("the values fit the shape")
}

/// `element`: ONNX's number of the type that the input had.
fn initializer(name: &str, array: &Array, element: i32) -> TensorProto {
    let mut tensor = floats(name, array.shape(), &[]);
    match array.values() {
        Values::Floats(values) => tensor.float_data.clone_from(values),
        Values::Ints(values) if element != DataType::Int64 as i32 => {
            tensor.data_type = element;
            tensor.int32_data = values.iter().map(|&v| i32::try_from(v).expect("small")).collect();
        }
        Values::Ints(values) => {
            tensor.data_type = DataType::Int64 as i32;
            tensor.int64_data.clone_from(values);
        }
        Values::Bools(values) => {
            tensor.data_type = DataType::Bool as i32;
            tensor.raw_data = values.iter().map(|&v| u8::from(v)).collect::<Vec<_>>().into();
        }
    }
    tensor
}

/// ONNX's number of an input's type.
fn element_of(input: &ValueInfoProto) -> i32 {
    match input.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => tensor.elem_type,
        _ => panic!("{} is no tensor", input.name),
    }
}

impl Case {
    fn read(case: &Value) -> Self {
        let list = |key: &str| case[key].as_array().expect("a list").iter();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let bytes = hex::decode(text(&case["model"])).expect("hex");
        let frozen = list("frozen").map(|name| format!("!{}", text(name)));
        let rules: Vec<String> = std::iter::once("*".to_owned()).chain(frozen).collect();
        Self {
            name: text(&case["name"]),
            model: Model::from_bytes(&bytes).expect("a valid model"),
            rules: TrainableRules::new(&rules).expect("valid globs"),
            inputs: list("inputs").map(|input| (text(&input["name"]), array(input))).collect(),
            outputs: list("outputs").map(array).collect(),
            tolerance: float(&case["tolerance"]),
            gradient: case["gradient"].as_bool().expect("true or false"),
        }
    }

    /// The case with another model.
    pub(super) fn with_model(&self, model: Model) -> Self {
        Self {
            name: self.name.clone(),
            model,
            rules: self.rules.clone(),
            inputs: self.inputs.clone(),
            outputs: self.outputs.clone(),
            ..*self
        }
    }

    /// The case with another model and some inputs fewer.
    fn with(&self, proto: ModelProto, keep: impl Fn(&Array) -> bool) -> Self {
        let mut case = self.with_model(Model::from_proto(proto).unwrap_or_else(|e| panic!("{}: {e}", self.name)));
        case.inputs.retain(|(_, array)| keep(array));
        case
    }

    /// With initializers in place of the integer inputs, so that everything that follows from them is known while planning.
    pub(super) fn known(&self) -> Self {
        self.with_initializers(|array| array.as_floats().is_none())
    }

    fn with_initializers(&self, is_known: impl Fn(&Array) -> bool) -> Self {
        let mut proto = self.model.proto().clone();
        let graph = proto.graph.as_mut().expect("a graph");
        for (name, array) in self.inputs.iter().filter(|(_, array)| is_known(array)) {
            let element = graph.input.iter().find(|input| input.name == *name).map(element_of);
            graph.input.retain(|input| input.name != *name);
            graph.initializer.push(initializer(name, array, element.expect("an input")));
        }
        // A graph needs something to read; this one has no part in anything.
        graph.input.push(value("idle", &[1]));
        graph.node.push(node("Identity", &["idle"], "idle.out", vec![]));
        graph.output.push(value("idle.out", &[1]));
        let mut case = self.with(proto, |array| !is_known(array));
        let idle = Array::floats(vec![1], vec![0.0]).expect("one");
        case.inputs.push(("idle".to_owned(), idle.clone()));
        case.outputs.push(idle);
        case
    }

    /// With zeros that train added to each float input, so that the gradients by inputs are gradients by weights.
    pub(super) fn shifted(&self) -> Self {
        let mut proto = self.model.proto().clone();
        let graph = proto.graph.as_mut().expect("a graph");
        for (name, array) in &self.inputs {
            let Some(values) = array.as_floats() else { continue };
            let (shift, shifted) = (format!("{name}.shift"), format!("{name}.shifted"));
            for input in graph.node.iter_mut().flat_map(|n| &mut n.input).filter(|i| *i == name) {
                input.clone_from(&shifted);
            }
            graph.node.insert(0, node("Add", &[name, &shift], &shifted, vec![]));
            graph.initializer.push(floats(&shift, array.shape(), &vec![0.0; values.len()]));
        }
        self.with(proto, |_| true)
    }

    /// Whether it has anything to differentiate.
    pub(super) fn is_differentiable(&self) -> bool {
        self.gradient
            && self.outputs.iter().any(|o| o.as_floats().is_some())
            && (self.model.layout(&self.rules).is_ok() || self.inputs.iter().any(|(_, a)| a.as_floats().is_some()))
    }

    /// # Errors
    /// Why it is refused.
    pub(super) fn graph(&self) -> Result<Graph, String> {
        let layout = self.model.layout(&self.rules).ok();
        let outputs: Vec<String> = self.model.outputs().iter().map(|o| o.name.clone()).collect();
        Graph::with_outputs(&self.model, layout.as_ref(), &outputs).map_err(|e| e.to_string())
    }

    /// The inputs as the graph takes them.
    pub(super) fn feed(&self, graph: &Graph) -> Vec<Array> {
        let array = |name: &str| self.inputs.iter().find(|(n, _)| n == name).map(|(_, array)| array.clone());
        graph
            .inputs
            .iter()
            .map(|input| array(&input.name).expect("an input of the case"))
            .collect()
    }

    /// # Errors
    /// What differs between `outputs` and what is expected.
    pub(super) fn compare(&self, outputs: &[Array]) -> Result<(), String> {
        for (i, (ours, theirs)) in outputs.iter().zip(&self.outputs).enumerate() {
            if ours.shape() != theirs.shape() {
                return Err(format!(
                    "output {i} has the shape {:?}, ONNX says {:?}",
                    ours.shape(),
                    theirs.shape()
                ));
            }
            let (Some(a), Some(b)) = (ours.as_floats(), theirs.as_floats()) else {
                if ours != theirs {
                    return Err(format!("output {i} is {ours:?}, ONNX says {theirs:?}"));
                }
                continue;
            };
            let largest = b.iter().filter(|v| v.is_finite()).fold(1.0f32, |m, v| m.max(v.abs()));
            for (at, (a, b)) in a.iter().zip(b).enumerate() {
                let near = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= self.tolerance * largest;
                if !near {
                    return Err(format!("element {at} of output {i} is {a}, ONNX says {b}"));
                }
            }
        }
        if outputs.len() == self.outputs.len() {
            Ok(())
        } else {
            Err(format!("{} outputs, ONNX has {}", outputs.len(), self.outputs.len()))
        }
    }
}
