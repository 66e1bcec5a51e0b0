use aimass_onnx::proto::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};
use aimass_onnx::{Model, TrainableRules};
use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::parts::{Ints, floats, node, with};

mod calibration;
mod graphs;

/// A float32 value; `None` is an axis of unknown length.
pub(crate) fn value(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |length: &Option<i64>| Dimension {
        value: length.map(Value::DimValue),
        ..Dimension::default()
    };
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto {
            dim: dims.iter().map(dim).collect(),
        }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

/// A model with the input `x` and the output `y`.
pub(crate) fn model_of(opset: i64, input: &[Option<i64>], node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Model {
    let graph = GraphProto {
        node,
        initializer,
        input: vec![value("x", input)],
        output: vec![value("y", &[None, None])],
        ..GraphProto::default()
    };
    let proto = ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: opset,
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    Model::from_proto(proto).expect("a sound model")
}

fn pattern(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    (0..n)
        .map(|_| (f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5) as f32)
        .collect()
}

/// Conv, Relu, a residual Add, MaxPool, Flatten, Gemm: 10 x 10 images of 2 channels, 5 classes.
fn small_cnn(opset: i64) -> Model {
    let constants = vec![
        floats("w1", &[8, 2, 3, 3], &pattern(144, 1)),
        floats("b1", &[8], &pattern(8, 2)),
        floats("w2", &[8, 8, 3, 3], &pattern(576, 3)),
        floats("w3", &[5, 200], &pattern(1000, 4)),
        floats("b3", &[5], &pattern(5, 5)),
    ];
    let pads = || vec![AttributeProto::int_list("pads", &[1, 1, 1, 1])];
    let nodes = vec![
        with(node("Conv", &["x", "w1", "b1"], "c1"), pads()),
        node("Relu", &["c1"], "r1"),
        with(node("Conv", &["r1", "w2"], "c2"), pads()),
        node("Add", &["c2", "r1"], "a"),
        with(
            node("MaxPool", &["a"], "p"),
            vec![
                AttributeProto::int_list("kernel_shape", &[2, 2]),
                AttributeProto::int_list("strides", &[2, 2]),
            ],
        ),
        node("Flatten", &["p"], "f"),
        with(node("Gemm", &["f", "w3", "b3"], "y"), vec![AttributeProto::int("transB", 1)]),
    ];
    model_of(opset, &[None, Some(2), Some(10), Some(10)], nodes, constants)
}

/// As if every observed tensor had values from -1 to 2.
fn observed(model: &Model, options: &Options) -> Observed {
    let (_, names) = observe(model, options).expect("something is observed");
    let mut observed = Observed::new(&names);
    for name in &names {
        observed.add(name, &[-1.0, -0.3, 0.0, 0.4, 2.0]).expect("finite values");
    }
    observed
}
