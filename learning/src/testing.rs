//! Models for tests.

use aimass_onnx::proto::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};
use aimass_onnx::{Model, ParamLayout, TrainableRules};

use crate::{Batch, BatchNorm, Dataset, Loss, OptimizerConfig, TrainConfig};

pub(crate) fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: op.to_owned(),
        name: format!("the_{}", op.to_lowercase()),
        input: inputs.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: DataType::Float as i32,
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

pub(crate) fn ints(name: &str, values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: vec![values.len() as i64],
        data_type: DataType::Int64 as i32,
        int64_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// -1 stands for a dimension that is not fixed.
pub(crate) fn value(name: &str, dims: &[i64]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |d: &i64| Dimension {
        value: Some(if *d < 0 {
            Value::DimParam("n".to_owned())
        } else {
            Value::DimValue(*d)
        }),
        ..Dimension::default()
    };
    let shape = Some(TensorShapeProto {
        dim: dims.iter().map(dim).collect(),
    });
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape,
    };
    let r#type = Some(TypeProto {
        value: Some(type_proto::Value::TensorType(tensor)),
        ..TypeProto::default()
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type,
        ..ValueInfoProto::default()
    }
}

/// Input `x` of these dimensions, output `y`.
pub(crate) fn model(opset: i64, input: &[i64], nodes: Vec<NodeProto>, initializers: Vec<TensorProto>) -> Model {
    let mut output = value("y", &[]);
    if let Some(type_proto::Value::TensorType(tensor)) = output.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        tensor.shape = None;
    }
    let graph = GraphProto {
        name: "test".to_owned(),
        node: nodes,
        initializer: initializers,
        input: vec![value("x", input)],
        output: vec![output],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto {
        domain: String::new(),
        version: opset,
    }];
    Model::from_proto(ModelProto {
        ir_version: 8,
        opset_import,
        graph: Some(graph),
        ..ModelProto::default()
    })
    .expect("a valid model")
}

/// `y = x W' + b` with 3 features and 2 outputs, and `nodes` between `x` and the input `h` of the product.
pub(crate) fn behind(opset: i64, nodes: Vec<NodeProto>, mut more: Vec<TensorProto>) -> Model {
    let mut all = nodes;
    all.push(node("Gemm", &["h", "w", "b"], "y", vec![AttributeProto::int("transB", 1)]));
    more.push(floats("w", &[2, 3], &[0.1, -0.2, 0.3, 0.4, 0.5, -0.6]));
    more.push(floats("b", &[2], &[0.0, 0.1]));
    model(opset, &[-1, 3], all, more)
}

pub(crate) fn layout(model: &Model) -> ParamLayout {
    model.layout(&TrainableRules::default()).expect("something trains")
}

pub(crate) fn config(loss: Loss) -> TrainConfig {
    TrainConfig {
        heads: vec![loss.into()],
        optimizer: OptimizerConfig::sgd(0.1),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch: 4,
        seed: [7; 32],
    }
}

/// The whole of a data set.
pub(crate) fn batch(data: &Dataset) -> Batch {
    Batch::rows(data.features().to_vec(), data.targets().to_vec()).expect("whole rows")
}

/// Deterministic numbers in -1..1.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }
    pub(crate) fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// `classes` clouds around random centres, easy to tell apart.
pub(crate) fn clouds(rows: usize, n_features: usize, classes: usize, seed: u64) -> Dataset {
    let mut numbers = Numbers::new(seed);
    let centres: Vec<f32> = (0..classes * n_features).map(|_| 2.0 * numbers.next()).collect();
    let mut features = Vec::new();
    let mut targets = Vec::new();
    for row in 0..rows {
        let class = row % classes;
        features.extend(centres[class * n_features..][..n_features].iter().map(|c| c + 0.4 * numbers.next()));
        targets.push(class as f32);
    }
    Dataset::new(features, targets, n_features).expect("whole rows")
}

/// Where `found` is further from `expected` than `tolerance` times the largest value (or 1, where all are smaller); NaN is like NaN.
pub(crate) fn apart(expected: &[f32], found: &[f32], tolerance: f32) -> Option<String> {
    if expected.len() != found.len() {
        return Some(format!("{} values for {}", found.len(), expected.len()));
    }
    let finite = expected.iter().filter(|v| v.is_finite());
    let largest = finite.fold(1.0f32, |m, v| m.max(v.abs()));
    let at = expected.iter().zip(found).position(|(e, f)| {
        let same = e == f || (e.is_nan() && f.is_nan());
        // NaN is apart from every number.
        let near = (e - f).abs() <= tolerance * largest;
        !same && !near
    })?;
    Some(format!(
        "{} for {} at {at} of {}, largest {largest}",
        found[at],
        expected[at],
        expected.len()
    ))
}
