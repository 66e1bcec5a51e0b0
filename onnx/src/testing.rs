//! Small models for the tests of this crate.

use crate::Model;
use crate::proto::{
    DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
    tensor_shape_proto, type_proto,
};

pub(crate) fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        op_type: op.to_owned(),
        input: owned(inputs),
        output: owned(outputs),
        ..NodeProto::default()
    }
}

/// A float32 tensor with raw data.
pub(crate) fn tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// A float32 value; `None` is an axis of unknown length.
pub(crate) fn value(name: &str, dims: &[Option<i64>]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |length: &Option<i64>| Dimension {
        value: length.map(Value::DimValue),
        ..Dimension::default()
    };
    let shape = Some(TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    });
    let tensor = type_proto::Value::TensorType(type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape,
    });
    let r#type = Some(TypeProto {
        value: Some(tensor),
        ..TypeProto::default()
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type,
        ..ValueInfoProto::default()
    }
}

/// A model with the input `x` and the output `y`, both `[?, 2]`.
pub(crate) fn proto(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> ModelProto {
    let graph = GraphProto {
        node,
        initializer,
        input: vec![value("x", &[None, Some(2)])],
        output: vec![value("y", &[None, Some(2)])],
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: 17,
        }],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

pub(crate) fn model(node: Vec<NodeProto>, initializer: Vec<TensorProto>) -> Model {
    Model::from_proto(proto(node, initializer)).expect("a sound model")
}

/// A file of `testdata/`.
pub(crate) fn testdata(name: &str) -> Vec<u8> {
    macro_rules! file {
        ($($known:literal)*) => {
            match name {
                $($known => include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/", $known)).to_vec(),)*
                _ => panic!("testdata/{name} is not listed here"),
            }
        };
    }
    file!(
        "mlp.onnx" "mixed.onnx" "bad_cycle.onnx" "bad_dangling.onnx" "bad_deep.onnx" "bad_external.onnx" "bad_ir.onnx"
        "bad_negative_dim.onnx" "bad_opset.onnx" "bad_order.onnx" "bad_overflow.onnx" "bad_short_data.onnx" "bad_truncated.onnx"
        "bad_twice.onnx"
    )
}
