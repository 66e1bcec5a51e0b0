//! For the tests of this crate: small graphs, and an evaluator in f64 that is written to be read.

mod eval;

pub(crate) use eval::{Array, run};

use aimass_onnx::Model;
use aimass_onnx::proto::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// A graph that is put together node by node, its weights drawn.
pub(crate) struct Net {
    pub(crate) graph: GraphProto,
    rng: ChaCha8Rng,
    pub(crate) opset: i64,
    pub(crate) ir: i64,
}

impl Net {
    /// With the input `x`.
    pub(crate) fn new(seed: u64, input: &[i64]) -> Self {
        let mut net = Self {
            graph: GraphProto::default(),
            rng: ChaCha8Rng::seed_from_u64(seed),
            opset: 17,
            ir: 8,
        };
        net.graph.input.push(value("x", input));
        net
    }

    /// Below `n`.
    pub(crate) fn draw(&mut self, n: usize) -> usize {
        self.rng.next_u32() as usize % n
    }

    pub(crate) fn uniform(&mut self) -> f32 {
        (f64::from(self.rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    }

    /// An initializer with drawn values.
    pub(crate) fn weight(&mut self, name: &str, dims: &[i64]) -> String {
        let n = dims.iter().product::<i64>();
        let values: Vec<f32> = (0..n).map(|_| self.uniform()).collect();
        self.given(name, dims, &values)
    }

    pub(crate) fn given(&mut self, name: &str, dims: &[i64], values: &[f32]) -> String {
        self.graph.initializer.push(floats(name, dims, values));
        name.to_owned()
    }

    pub(crate) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.graph.initializer.push(TensorProto {
            name: name.to_owned(),
            dims: vec![values.len() as i64],
            data_type: DataType::Int64 as i32,
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
        name.to_owned()
    }

    /// A node with one output, which it is named as.
    pub(crate) fn node(&mut self, op: &str, name: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.node_giving(op, inputs, &[name], attribute);
        name.to_owned()
    }

    pub(crate) fn node_giving(&mut self, op: &str, inputs: &[&str], outputs: &[&str], attribute: Vec<AttributeProto>) {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        self.graph.node.push(NodeProto {
            op_type: op.to_owned(),
            name: format!("node_{}", outputs[0]),
            input: owned(inputs),
            output: owned(outputs),
            attribute,
            ..NodeProto::default()
        });
    }

    /// A batch norm with statistics that are like those of a trained one.
    pub(crate) fn norm(&mut self, name: &str, x: &str, channels: i64) -> String {
        let parts = ["scale", "bias", "mean"].map(|part| self.weight(&format!("{name}.{part}"), &[channels]));
        let variance: Vec<f32> = (0..channels).map(|_| 1.25 + self.uniform()).collect();
        let variance = self.given(&format!("{name}.var"), &[channels], &variance);
        self.node("BatchNormalization", name, &[x, &parts[0], &parts[1], &parts[2], &variance], vec![])
    }

    pub(crate) fn output(&mut self, name: &str, dims: &[i64]) {
        self.graph.output.push(value(name, dims));
    }

    pub(crate) fn model(&self) -> Model {
        let proto = ModelProto {
            ir_version: self.ir,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: self.opset,
            }],
            graph: Some(self.graph.clone()),
            ..ModelProto::default()
        };
        Model::from_proto(proto).expect("a sound model")
    }
}

pub(crate) fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// A float32 value; an axis of 0 is one of unknown length, named `batch`.
pub(crate) fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |&length: &i64| Dimension {
        value: Some(match length {
            0 => Value::DimParam("batch".to_owned()),
            length => Value::DimValue(length),
        }),
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

/// Drawn inputs of a shape.
pub(crate) fn inputs(seed: u64, shape: &[usize]) -> Array {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let n = shape.iter().product::<usize>();
    let data = (0..n)
        .map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0)
        .collect();
    Array {
        shape: shape.to_vec(),
        data,
    }
}

/// That two models give the same for the same input, but for rounding.
pub(crate) fn assert_same(a: &Model, b: &Model, x: &Array, tolerance: f64) {
    let (a, b) = (run(a, x), run(b, x));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a.shape, b.shape);
        let largest = a.data.iter().fold(1.0f64, |m, v| m.max(v.abs()));
        for (at, (a, b)) in a.data.iter().zip(&b.data).enumerate() {
            assert!((a - b).abs() <= tolerance * largest, "{a} and {b} at {at}, of at most {largest}");
        }
    }
}
