//! Quantized layers on integers, against the interpreter, which computes the same graph in floats. With scales that are powers of two float arithmetic is
//! exact, and so both must be equal to the last bit.

use aimass_kernels::Isa;
use aimass_onnx::Model;
use aimass_onnx::proto::{AttributeProto, DataType, NodeProto, TensorProto};

use super::super::build;
use super::super::forward::Weights;
use crate::array::Array;
use crate::executor::{Cpu, Executor};
use crate::program::{Graph, Mode};
use crate::testing::{self, Numbers, floats, node};

/// A graph in the making: a random quantized network.
struct Maker {
    nodes: Vec<NodeProto>,
    tensors: Vec<TensorProto>,
    numbers: Numbers,
    kind: DataType,
}

impl Maker {
    fn below(&mut self, n: usize) -> usize {
        ((self.numbers.next() + 1.0) / 2.0 * n as f32) as usize
    }

    fn integers(&mut self, name: &str, shape: &[usize], kind: DataType, values: Vec<i32>) {
        self.tensors.push(TensorProto {
            name: name.to_owned(),
            dims: shape.iter().map(|&d| d as i64).collect(),
            data_type: kind as i32,
            int32_data: values,
            ..TensorProto::default()
        });
    }

    fn push(&mut self, op: &str, inputs: &[&str], output: &str, attributes: Vec<AttributeProto>) {
        let mut node = node(op, inputs, output, attributes);
        node.name = format!("{op}/{output}");
        self.nodes.push(node);
    }

    /// `from` quantized and back as `to`, with a step of 2^`exponent`.
    fn rounded(&mut self, from: &str, to: &str, exponent: i32) {
        let (scale, zero, q) = (format!("{to}/s"), format!("{to}/z"), format!("{to}/q"));
        let least = if self.kind == DataType::Int8 { -128 } else { 0 };
        let point = least + self.below(200) as i32;
        self.tensors.push(floats(&scale, &[], &[2f32.powi(exponent)]));
        let kind = self.kind;
        self.integers(&zero, &[], kind, vec![point]);
        self.push("QuantizeLinear", &[from, &scale, &zero], &q, vec![]);
        self.push("DequantizeLinear", &[&q, &scale, &zero], to, vec![]);
    }

    /// Weights of this shape with a scale along `axis`, and a bias in the unit of sums where `x` has steps of 2^`exponent`.
    fn weights(&mut self, name: &str, shape: &[usize], axis: usize, exponent: i32) {
        let n = shape[axis];
        let exponents: Vec<i32> = (0..n).map(|_| -7 - self.below(3) as i32).collect();
        let power = |e: &i32| 2f32.powi(*e);
        self.tensors
            .push(floats(&format!("{name}/s"), &[n], &exponents.iter().map(power).collect::<Vec<_>>()));
        let of_bias: Vec<f32> = exponents.iter().map(|e| 2f32.powi(e + exponent)).collect();
        self.tensors.push(floats(&format!("{name}/bs"), &[n], &of_bias));
        self.integers(&format!("{name}/z"), &[n], DataType::Int8, vec![0; n]);
        let values = (0..shape.iter().product::<usize>())
            .map(|_| (self.numbers.next() * 127.0) as i32)
            .collect();
        self.integers(&format!("{name}/q"), shape, DataType::Int8, values);
        let bias = (0..n).map(|_| (self.numbers.next() * 5000.0) as i32).collect();
        self.integers(&format!("{name}/bq"), &[n], DataType::Int32, bias);
        let parts = [
            format!("{name}/q"),
            format!("{name}/s"),
            format!("{name}/z"),
            format!("{name}/bq"),
            format!("{name}/bs"),
        ];
        let [q, s, z, bq, bs] = &parts;
        self.push(
            "DequantizeLinear",
            &[q, s, z],
            &format!("{name}/w"),
            vec![AttributeProto::int("axis", axis as i64)],
        );
        self.push(
            "DequantizeLinear",
            &[bq, bs],
            &format!("{name}/b"),
            vec![AttributeProto::int("axis", 0)],
        );
    }
}

/// Convolution, ReLU, max pool, other scales, two dense layers; what comes out is floats.
fn network(seed: u64, kind: DataType, channels: usize) -> Model {
    let mut make = Maker {
        nodes: Vec::new(),
        tensors: Vec::new(),
        numbers: Numbers::new(seed),
        kind,
    };
    make.weights("c", &[channels, 3, 3, 2], 0, -6);
    let convolved = [[(9 + 2 - 3) / 2 + 1, 8 + 1 + 1 - 2 - 1 + 1]];
    let [[height, width]] = convolved;
    let (pooled_height, pooled_width) = ((height + 1 - 2) / 2 + 1, (width - 2) / 2 + 1);
    let features = channels * pooled_height * pooled_width;
    make.weights("d", &[17, features], 0, -2);
    make.weights("e", &[17, 5], 1, 1);
    make.rounded("x", "x0", -6);
    make.push(
        "Conv",
        &["x0", "c/w", "c/b"],
        "c0",
        vec![
            AttributeProto::int_list("pads", &[1, 1, 1, 1]),
            AttributeProto::int_list("strides", &[2, 1]),
            AttributeProto::int_list("dilations", &[1, 2]),
        ],
    );
    make.push("Relu", &["c0"], "c1", vec![]);
    make.rounded("c1", "c2", -3);
    make.push(
        "MaxPool",
        &["c2"],
        "p0",
        vec![
            AttributeProto::int_list("kernel_shape", &[2, 2]),
            AttributeProto::int_list("strides", &[2, 2]),
            AttributeProto::int_list("pads", &[1, 0, 0, 0]),
        ],
    );
    // The same parameters: the largest integer is the largest.
    make.push("QuantizeLinear", &["p0", "c2/s", "c2/z"], "p1/q", vec![]);
    make.push("DequantizeLinear", &["p1/q", "c2/s", "c2/z"], "p1", vec![]);
    make.push("Flatten", &["p1"], "f0", vec![]);
    make.rounded("f0", "f1", -2);
    make.push("Gemm", &["f1", "d/w", "d/b"], "d0", vec![AttributeProto::int("transB", 1)]);
    make.push("Relu", &["d0"], "d1", vec![]);
    make.rounded("d1", "d2", 1);
    make.push("MatMul", &["d2", "e/w"], "e0", vec![]);
    make.push("Add", &["e0", "e/b"], "y", vec![]);
    testing::model(17, &[-1, 3, 9, 8], make.nodes, make.tensors)
}

fn input(n: usize, seed: u64) -> Array {
    let mut numbers = Numbers::new(seed);
    let values = (0..n * 3 * 72).map(|_| 2.0 * numbers.next()).collect();
    Array::floats(vec![n, 3, 9, 8], values).expect("fits")
}

fn graph(model: &Model) -> Graph {
    Graph::with_outputs(model, None, &["y".to_owned()]).expect("a graph")
}

#[test]
fn should_compute_quantized_layers_as_one_operation_to_the_last_bit() {
    for seed in 0..12 {
        let kind = if seed % 2 == 0 { DataType::Uint8 } else { DataType::Int8 };
        let model = network(seed, kind, [16, 20, 64, 7][seed as usize % 4]);
        let shapes = vec![vec![3, 3, 9, 8]];
        for isa in Isa::available() {
            let graph = graph(&model);
            let program = graph.plan(&shapes, Mode::Inference).expect("plans");
            let plan = build::plan(&graph, program, Mode::Inference, isa, 1, true);
            assert_eq!(plan.nodes.len(), 1, "seed {seed}: {:?}", plan.nodes);
            let x = input(3, seed);
            let mut interpreter = Executor::<Cpu>::new(self::graph(&model));
            let expected = interpreter.forward(vec![x.clone()]).expect("runs");
            let found = Weights::new(self::graph(&model))
                .with_isa(isa)
                .plan(&shapes)
                .expect("plans")
                .run(vec![x], 1)
                .expect("runs");
            assert_eq!(found[0].as_floats(), expected[0].as_floats(), "seed {seed}, {isa:?}");
            let spread = expected[0].as_floats().expect("floats").iter().fold(0f32, |m, v| m.max(v.abs()));
            assert!(spread > 1.0, "seed {seed}: nothing but zeros comes out");
        }
    }
}

#[test]
fn should_share_integers_between_plans_and_hold_no_floats_of_them() {
    let model = network(3, DataType::Uint8, 64);
    let weights = Weights::new(graph(&model));
    let plans: Vec<_> = [1, 4].map(|n| weights.plan(&[vec![n, 3, 9, 8]]).expect("plans")).into();
    let floats = 4 * (64 * 18 + 17 * 64 * 12 + 17 * 5);
    let both = plans[1].run(vec![input(4, 9)], 1).expect("runs");
    let x = input(4, 9).select_rows(&[2]).expect("a row");
    let one = plans[0].run(vec![x], 1).expect("runs");
    assert_eq!(one[0].as_floats(), both[0].as_floats().map(|y| &y[10..15]));
    assert!(weights.bytes() < floats, "{} bytes for {floats} of floats", weights.bytes());
}
