//! Makes small models from scratch, so that nobody needs Python to start.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::Model;
use crate::proto::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto, type_proto,
};

/// Weights of [`cnn_mcmahan`].
pub const MCMAHAN_CNN_WEIGHTS: usize = 1_663_370;

/// A multi-layer perceptron with ReLU between its layers: input `x` `[batch, sizes[0]]`, output `logits` `[batch, sizes.last()]`,
/// layers as Gemm with `transB = 1` (PyTorch's order), weights He-uniform from `seed` (the same seed gives the same bytes).
///
/// # Panics
/// When fewer than two sizes are given or one is 0.
pub fn mlp(sizes: &[usize], seed: u64) -> Model {
    assert!(
        sizes.len() >= 2 && sizes.iter().all(|&size| size > 0),
        "an MLP needs at least two sizes above 0, got {sizes:?}"
    );
    let mut builder = Builder::new("mlp", seed);
    let last = sizes.len() - 1;
    let mut value = "x".to_owned();
    for (i, pair) in sizes.windows(2).enumerate() {
        let layer = i + 1;
        value = builder.linear(&format!("fc{layer}"), &value, (pair[0], pair[1]), layer == last);
        if layer < last {
            value = builder.node("Relu", &format!("relu{layer}"), &[&value], vec![]);
        }
    }
    builder.finish(&[sizes[0]], sizes[last])
}

/// The convolutional network of McMahan et al. with its 1,663,370 parameters: input `x` `[batch, 1, 28, 28]`, two convolutions of 5x5
/// (32 and 64 channels, same padding) each with ReLU and 2x2 max pooling, a fully connected layer of 512 with ReLU, output `logits`
/// `[batch, 10]`. Weights He-uniform from `seed` (the same seed gives the same bytes).
///
/// # Source
/// McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data (AISTATS), section 3.
pub fn cnn_mcmahan(seed: u64) -> Model {
    let mut builder = Builder::new("cnn_mcmahan", seed);
    let mut value = "x".to_owned();
    for (i, (channels_in, channels_out)) in [(1, 32), (32, 64)].into_iter().enumerate() {
        let layer = i + 1;
        value = builder.conv5x5(&format!("conv{layer}"), &value, (channels_in, channels_out));
        value = builder.node("Relu", &format!("relu{layer}"), &[&value], vec![]);
        let window = vec![
            AttributeProto::int_list("kernel_shape", &[2, 2]),
            AttributeProto::int_list("strides", &[2, 2]),
        ];
        value = builder.node("MaxPool", &format!("pool{layer}"), &[&value], window);
    }
    value = builder.node("Flatten", "flatten", &[&value], vec![AttributeProto::int("axis", 1)]);
    value = builder.linear("fc1", &value, (7 * 7 * 64, 512), false);
    value = builder.node("Relu", "relu3", &[&value], vec![]);
    builder.linear("fc2", &value, (512, 10), true);
    builder.finish(&[1, 28, 28], 10)
}

struct Builder {
    graph: GraphProto,
    rng: ChaCha8Rng,
}

impl Builder {
    fn new(name: &str, seed: u64) -> Self {
        Self {
            graph: GraphProto {
                name: name.to_owned(),
                ..GraphProto::default()
            },
            rng: ChaCha8Rng::seed_from_u64(seed),
        }
    }

    /// Adds a node with one output, named as the node, and returns that name.
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attribute: Vec<AttributeProto>) -> String {
        self.graph.node.push(NodeProto {
            op_type: op.to_owned(),
            name: name.to_owned(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.to_owned()],
            attribute,
            ..NodeProto::default()
        });
        name.to_owned()
    }

    /// Adds `NAME.weight` and `NAME.bias`, and the node that uses them.
    fn layer(&mut self, op: &str, name: &str, input: &str, shape: &[usize], attribute: Vec<AttributeProto>) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        let weights = he_uniform(&mut self.rng, shape);
        self.graph.initializer.push(tensor(&weight, shape, &weights));
        self.graph.initializer.push(tensor(&bias, &shape[..1], &vec![0.0; shape[0]]));
        self.node(op, name, &[input, &weight, &bias], attribute)
    }

    fn linear(&mut self, name: &str, input: &str, (n_in, n_out): (usize, usize), last: bool) -> String {
        let value = self.layer("Gemm", name, input, &[n_out, n_in], vec![AttributeProto::int("transB", 1)]);
        if !last {
            return value;
        }
        if let Some(node) = self.graph.node.last_mut() {
            node.output = vec!["logits".to_owned()];
        }
        "logits".to_owned()
    }

    fn conv5x5(&mut self, name: &str, input: &str, (channels_in, channels_out): (usize, usize)) -> String {
        let attributes = vec![
            AttributeProto::int_list("kernel_shape", &[5, 5]),
            AttributeProto::int_list("pads", &[2, 2, 2, 2]),
            AttributeProto::int_list("strides", &[1, 1]),
        ];
        self.layer("Conv", name, input, &[channels_out, channels_in, 5, 5], attributes)
    }

    /// `input`: its shape without the batch.
    fn finish(mut self, input: &[usize], n_classes: usize) -> Model {
        self.graph.input = vec![value("x", input)];
        self.graph.output = vec![value("logits", &[n_classes])];
        let proto = ModelProto {
            ir_version: 8,
            opset_import: vec![OperatorSetIdProto {
                domain: String::new(),
                version: 17,
            }],
            producer_name: "aimass".to_owned(),
            graph: Some(self.graph),
            ..ModelProto::default()
        };
        Model::from_proto(proto).unwrap_or_else(|error| unreachable!("a model that this module made is refused: {error}"))
    }
}

/// Uniform in +-sqrt(6 / fan in). Source: He et al. 2015, Delving Deep into Rectifiers, section 2.2 (its variance, uniformly).
fn he_uniform(rng: &mut ChaCha8Rng, shape: &[usize]) -> Vec<f32> {
    let fan_in: usize = shape[1..].iter().product();
    let bound = (6.0 / fan_in as f64).sqrt();
    let count: usize = shape.iter().product();
    // 24 random bits make an f32 without rounding.
    let unit = |word: u32| f64::from(word >> 8) / f64::from(1 << 24);
    (0..count).map(|_| ((2.0 * unit(rng.next_u32()) - 1.0) * bound) as f32).collect()
}

fn tensor(name: &str, shape: &[usize], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&length| length as i64).collect(),
        data_type: DataType::Float as i32,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

/// A float32 value of shape `[batch, shape...]`.
fn value(name: &str, shape: &[usize]) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |value: Value| Dimension {
        value: Some(value),
        ..Dimension::default()
    };
    let batch = dim(Value::DimParam("batch".to_owned()));
    let dims = std::iter::once(batch).chain(shape.iter().map(|&length| dim(Value::DimValue(length as i64))));
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: dims.collect() }),
    };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value,
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dim, TrainableRules};

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_one_does_not() {
        assert_eq!(mlp(&[4, 3, 2], 7).as_bytes(), mlp(&[4, 3, 2], 7).as_bytes());
        assert_ne!(mlp(&[4, 3, 2], 7).as_bytes(), mlp(&[4, 3, 2], 8).as_bytes());
    }

    #[test]
    fn the_mlp_has_the_layers_asked_for() {
        let model = mlp(&[64, 32, 10], 1);
        let ops: Vec<_> = model.graph().node.iter().map(|node| node.op_type.as_str()).collect();
        assert_eq!(ops, ["Gemm", "Relu", "Gemm"]);
        assert_eq!(model.inputs()[0].dims, Some(vec![Dim::Symbol("batch".into()), Dim::Fixed(64)]));
        assert_eq!(model.outputs()[0].name, "logits");
        let layout = model.layout(&TrainableRules::default()).expect("weights");
        assert_eq!(layout.n_weights(), 64 * 32 + 32 + 32 * 10 + 10);
        let bound = (6.0f32 / 64.0).sqrt();
        let first = model.initializer("fc1.weight").and_then(|t| t.to_f32()).expect("float weights");
        assert!(first.iter().all(|w| w.abs() <= bound) && first.iter().any(|w| w.abs() > 0.9 * bound));
    }

    #[test]
    fn the_cnn_has_its_published_number_of_parameters() {
        let layout = cnn_mcmahan(1).layout(&TrainableRules::default()).expect("weights");
        assert_eq!(layout.n_weights(), MCMAHAN_CNN_WEIGHTS);
    }

    #[test]
    #[should_panic(expected = "at least two sizes")]
    fn an_mlp_of_one_size_panics() {
        mlp(&[3], 1);
    }
}
