//! The cases of ops in `learning/testdata/ops*.json`; `op_cases.py` beside them tells the format.

use aimass_learning::{Array, Values};
use aimass_onnx::proto::{DataType, NodeProto, TensorProto};
use aimass_onnx::{Model, ParamLayout, TrainableRules};
use serde_json::Value;

pub(crate) struct Case {
    pub(crate) name: String,
    /// Those of its nodes.
    pub(crate) ops: Vec<String>,
    pub(crate) model: Model,
    /// With zeros that train added to each float input, so that gradients by inputs are gradients by weights.
    pub(crate) shifted: Model,
    rules: TrainableRules,
    pub(crate) inputs: Vec<(String, Array)>,
    /// Whether its gradient means anything.
    pub(crate) gradient: bool,
}

/// Every case of every file, sorted by file.
pub(crate) fn all() -> Vec<Case> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of test data")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with("ops") && name.ends_with(".json")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there are no cases");
    files
        .iter()
        .flat_map(|path| {
            let all: Value = serde_json::from_slice(&std::fs::read(path).expect("a readable file")).expect("valid JSON");
            all.as_array().expect("a list").iter().map(read).collect::<Vec<_>>()
        })
        .collect()
}

fn array(value: &Value) -> Array {
    let list = |key: &str| value[key].as_array().expect("a list").iter();
    let float = |v: &Value| match v.as_str() {
        Some(text) => text.parse().expect("nan or inf"),
        None => v.as_f64().expect("a number") as f32,
    };
    let int = |v: &Value| v.as_i64().expect("an integer");
    let shape = list("shape").map(|d| int(d) as usize).collect();
    let values = match value["dtype"].as_str().expect("a type") {
        "float" => Values::Floats(list("data").map(float).collect()),
        "int" => Values::Ints(list("data").map(int).collect()),
        "bool" => Values::Bools(list("data").map(|v| int(v) != 0).collect()),
        other => panic!("the type {other} is unknown"),
    };
    Array::new(shape, values).expect("the values fit the shape")
}

fn read(case: &Value) -> Case {
    let list = |key: &str| case[key].as_array().expect("a list").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let model = Model::from_bytes(&hex::decode(text(&case["model"])).expect("hex")).expect("a valid model");
    let frozen = list("frozen").map(|name| format!("!{}", text(name)));
    let rules: Vec<String> = std::iter::once("*".to_owned()).chain(frozen).collect();
    let inputs: Vec<_> = list("inputs").map(|input| (text(&input["name"]), array(input))).collect();
    Case {
        name: text(&case["name"]),
        ops: model.graph().node.iter().map(|node| node.op_type.clone()).collect(),
        shifted: shifted(&model, &inputs),
        model,
        rules: TrainableRules::new(&rules).expect("valid globs"),
        inputs,
        gradient: case["gradient"].as_bool().expect("true or false"),
    }
}

fn shifted(model: &Model, inputs: &[(String, Array)]) -> Model {
    let mut proto = model.proto().clone();
    let graph = proto.graph.as_mut().expect("a graph");
    for (name, array) in inputs {
        let Some(values) = array.as_floats() else { continue };
        let (shift, shifted) = (format!("{name}.shift"), format!("{name}.shifted"));
        for input in graph.node.iter_mut().flat_map(|n| &mut n.input).filter(|i| *i == name) {
            input.clone_from(&shifted);
        }
        let add = NodeProto {
            op_type: "Add".to_owned(),
            input: vec![name.clone(), shift.clone()],
            output: vec![shifted],
            ..NodeProto::default()
        };
        graph.node.insert(0, add);
        graph.initializer.push(TensorProto {
            name: shift,
            dims: array.shape().iter().map(|&d| d as i64).collect(),
            data_type: DataType::Float as i32,
            float_data: vec![0.0; values.len()],
            ..TensorProto::default()
        });
    }
    Model::from_proto(proto).expect("a valid model")
}

impl Case {
    /// What trains of the case itself, if anything.
    pub(crate) fn layout(&self) -> Option<ParamLayout> {
        self.model.layout(&self.rules).ok()
    }

    /// What trains of the shifted model; `None` where there is nothing to differentiate by.
    pub(crate) fn shifted_layout(&self) -> Option<ParamLayout> {
        self.shifted.layout(&self.rules).ok().filter(|_| self.gradient)
    }
}
