//! Quantized models: the straight-through estimator against PyTorch, and what is refused. What the ops compute is among the cases.

use aimass_onnx::proto::{AttributeProto, DataType, NodeProto, OperatorSetIdProto, TensorProto};
use aimass_onnx::{Model, TrainableRules};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::Value;

use super::descent;
use crate::array::Array;
use crate::compiled::Compiled;
use crate::executor::{Cpu, Executor};
use crate::program::{Graph, Mode};
use crate::testing::{self, apart, floats, ints, node};
use crate::{Batch, Engine, Loss, OptimizerConfig, Pairwise, TrainError, Trainer};

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list").iter();
    list.map(|v| v.as_f64().expect("a number") as f32).collect()
}

/// Integers of a type, as an initializer.
fn quantized(name: &str, shape: &[usize], kind: DataType, values: &[i32]) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: kind as i32,
        int32_data: values.to_vec(),
        ..TensorProto::default()
    }
}

/// `y = dequantize(quantize(w)) + x` with `w` a weight of the values and shape of a case.
fn fake(case: &Value, between: &[NodeProto]) -> Model {
    let shape: Vec<usize> = numbers(&case["shape"]).into_iter().map(|n| n as usize).collect();
    let (scales, zeros) = (numbers(&case["scales"]), numbers(&case["zeros"]));
    let of_parameters: Vec<usize> = if case["axis"].is_null() { Vec::new() } else { vec![scales.len()] };
    let axis = || vec![AttributeProto::int("axis", case["axis"].as_i64().unwrap_or(1))];
    let kind = if case["type"] == 2 { DataType::Uint8 } else { DataType::Int8 };
    let zeros: Vec<i32> = zeros.into_iter().map(|z| z as i32).collect();
    let from = if between.is_empty() { "q" } else { "moved" };
    let mut nodes = vec![node("QuantizeLinear", &["w", "s", "z"], "q", axis())];
    nodes.extend(between.iter().cloned());
    nodes.push(node("DequantizeLinear", &[from, "s", "z"], "d", axis()));
    nodes.push(node("Add", &["d", "x"], "y", vec![]));
    let rank: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
    let more = vec![
        floats("w", &shape, &numbers(&case["x"])),
        floats("s", &of_parameters, &scales),
        quantized("z", &of_parameters, kind, &zeros),
    ];
    testing::model(19, &rank, nodes, more)
}

fn cases() -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../../testdata/fake_quantize.json")).expect("valid JSON");
    all.as_array().expect("a list").clone()
}

/// The output, and the gradient of its product with `by_output` by the weight: of the interpreter and of the compiled plan.
fn both(model: &Model, by_output: &[f32]) -> [(Vec<f32>, Vec<f32>); 2] {
    let rules = TrainableRules::new(&["w".to_owned()]).expect("a glob");
    let layout = model.layout(&rules).expect("w trains");
    let before = model.weights(&layout).expect("weights");
    let graph = || Graph::new(model, Some(&layout)).expect("a graph");
    let shape = model.initializer("w").expect("there").shape;
    let x = || vec![Array::floats(shape.clone(), vec![0.0; before.len()]).expect("a shape")];
    let mut noise = ChaCha20Rng::from_seed([0; 32]);
    let mut y = Vec::new();
    let mut take = |outputs: &[Array]| {
        y = outputs[0].as_floats().expect("floats").to_vec();
        Ok(vec![Some(by_output.to_vec())])
    };
    let mut executor = Executor::<Cpu>::new(graph());
    executor.step(x(), false, &mut descent(1.0), &mut noise, &mut take).expect("a step");
    let mut after = before.clone();
    executor.read_weights(&mut after).expect("weights");
    let gradient = |after: &[f32]| before.iter().zip(after).map(|(b, a)| b - a).collect::<Vec<f32>>();
    let interpreted = (std::mem::take(&mut y), gradient(&after));
    let mut take = |outputs: &[Array]| {
        y = outputs[0].as_floats().expect("floats").to_vec();
        Ok(vec![Some(by_output.to_vec())])
    };
    let mut compiled = Compiled::new(graph(), OptimizerConfig::sgd(1.0));
    compiled.step(x(), false, &mut noise, &mut take).expect("a step");
    let mut after = before.clone();
    compiled.read_weights(&mut after);
    [interpreted, (y, gradient(&after))]
}

#[test]
fn should_fake_quantize_as_pytorch_does_with_its_gradient_in_both_executors() {
    for case in cases() {
        let name = case["name"].as_str().expect("a name");
        let by_output = numbers(&case["by_output"]);
        for (who, (y, by_x)) in ["interpreted", "compiled"].into_iter().zip(both(&fake(&case, &[]), &by_output)) {
            assert_eq!(y, numbers(&case["y"]), "{name}, {who}");
            // What weights lose in a step has as many digits as they have themselves.
            assert_eq!(apart(&numbers(&case["by_x"]), &by_x, 1e-6), None, "{name}, {who}");
            let zeros = |values: &[f32]| values.iter().map(|v| *v == 0.0).collect::<Vec<_>>();
            assert_eq!(zeros(&by_x), zeros(&numbers(&case["by_x"])), "{name}, {who}");
        }
    }
}

/// Ops of a training plan that the interpreter runs.
fn interpreted(model: &Model) -> Vec<String> {
    let rules = TrainableRules::new(&["w".to_owned()]).expect("a glob");
    let layout = model.layout(&rules).expect("w trains");
    let graph = Graph::new(model, Some(&layout)).expect("a graph");
    let (shape, mode) = (
        model.initializer("w").expect("there").shape,
        Mode::Training { batch_statistics: true },
    );
    let program = graph.plan(&[shape], mode).expect("plans");
    let (_, nodes) = crate::compiled::estimate(&graph, program, mode, 0, false);
    nodes.into_iter().map(|node| graph.nodes[node].op_type.clone()).collect()
}

#[test]
fn should_compile_both_to_one_operation_or_else_have_them_interpreted_with_the_same_gradient() {
    for case in cases() {
        assert_eq!(interpreted(&fake(&case, &[])), [""; 0], "{}", case["name"]);
    }
    // With another op between them, both are interpreted.
    let case = &cases()[0];
    let twice = vec![
        node("Transpose", &["q"], "t", vec![AttributeProto::int_list("perm", &[1, 0])]),
        node("Transpose", &["t"], "moved", vec![AttributeProto::int_list("perm", &[1, 0])]),
    ];
    let model = fake(case, &twice);
    assert_eq!(interpreted(&model), ["QuantizeLinear", "DequantizeLinear"]);
    for (y, by_x) in both(&model, &numbers(&case["by_output"])) {
        assert_eq!(y, numbers(&case["y"]));
        assert_eq!(apart(&numbers(&case["by_x"]), &by_x, 1e-6), None);
    }
}

/// What is said of a node over `x` `[n, 3]` and these initializers.
fn refusal(nodes: Vec<NodeProto>, more: Vec<TensorProto>) -> String {
    let model = testing::model(21, &[-1, 3], nodes, more);
    run(&model).expect_err("must be refused").to_string()
}

fn run(model: &Model) -> Result<Vec<Array>, TrainError> {
    let x = Array::floats(vec![2, 3], vec![0.5; 6]).expect("a shape");
    Engine::new(model)?.run([("x".to_owned(), x)].into())
}

#[test]
fn should_refuse_parameters_that_make_no_sense_by_node() {
    let u8s = |name: &str, values: &[i32]| quantized(name, &[values.len()], DataType::Uint8, values);
    let scale = |values: &[f32]| floats("s", &[values.len()], values);
    let q = |inputs: &[&str], attributes| {
        vec![
            node("QuantizeLinear", inputs, "q", attributes),
            node("Cast", &["q"], "y", vec![AttributeProto::int("to", 1)]),
        ]
    };
    let axis = |axis: i64| vec![AttributeProto::int("axis", axis)];
    let expected = [
        (q(&["x", "s"], vec![]), vec![scale(&[f32::NAN])], "its scale (input 1) is NaN at 0"),
        (q(&["x", "s"], vec![]), vec![scale(&[f32::INFINITY])], "is inf at 0"),
        (q(&["x", "s"], vec![]), vec![scale(&[0.0])], "is 0 at 0"),
        (q(&["x", "s"], vec![]), vec![scale(&[-0.5])], "is -0.5 at 0"),
        (q(&["x", "s"], axis(1)), vec![scale(&[1.0, 1.0, f32::NAN])], "is NaN at 2"),
        (q(&["x", "s"], axis(1)), vec![scale(&[1.0, 1.0])], "2 scales for the axis 1"),
        (q(&["x", "s"], axis(2)), vec![scale(&[1.0, 1.0, 1.0])], "axis 2 is outside"),
        (
            q(&["x", "s", "z"], axis(1)),
            vec![scale(&[1.0; 3]), u8s("z", &[1])],
            "has the shape [1], its scale [3]",
        ),
        (
            q(&["x", "s", "z"], vec![]),
            vec![scale(&[1.0]), floats("z", &[1], &[0.0])],
            "its zero point is made of float",
        ),
        (
            q(&["x", "s", "z"], vec![]),
            vec![scale(&[1.0]), ints("z", &[0])],
            "its zero point is made of int",
        ),
        (
            q(&["x", "s"], vec![AttributeProto::int("output_dtype", 17)]),
            vec![scale(&[1.0])],
            "`output_dtype` is the element type 17",
        ),
        (
            q(&["x", "s", "z"], vec![AttributeProto::int("output_dtype", 3)]),
            vec![scale(&[1.0]), u8s("z", &[1])],
            "its zero point is made of uint8",
        ),
        (
            q(&["x", "s"], vec![AttributeProto::int("precision", 10)]),
            vec![scale(&[1.0])],
            "`precision` is the element type 10",
        ),
        (q(&["x", "x"], vec![]), vec![], "is not a constant"),
        (
            q(
                &["x", "s"],
                vec![AttributeProto::int("axis", 1), AttributeProto::int("block_size", 2)],
            ),
            vec![floats("s", &[2, 3], &[1.0; 6])],
            "for blocks of 2 along the axis 1",
        ),
        (
            vec![node("DequantizeLinear", &["x", "s"], "y", vec![])],
            vec![scale(&[1.0])],
            "its input 0 is made of float",
        ),
        (
            vec![
                node("QuantizeLinear", &["x", "s"], "q", vec![]),
                node("DequantizeLinear", &["q", "s", "z"], "y", vec![]),
            ],
            vec![scale(&[1.0]), quantized("z", &[1], DataType::Int8, &[0])],
            "made of int8, it goes with uint8",
        ),
        (
            vec![node("QuantizeLinear", &["x", "s"], "q", vec![]), node("Relu", &["q"], "y", vec![])],
            vec![scale(&[1.0])],
            "(Relu): its input 0 is made of integers",
        ),
        (
            vec![
                node("DequantizeLinear", &["c", "s"], "d", vec![]),
                node("Add", &["x", "d"], "y", vec![]),
            ],
            vec![u8s("c", &[1, 2, 3]), scale(&[f32::NAN])],
            "`the_dequantizelinear` (DequantizeLinear): its scale (input 1) is NaN",
        ),
    ];
    for (nodes, more, text) in expected {
        let said = refusal(nodes, more);
        assert!(said.contains(text), "expected `{text}`, got `{said}`");
        assert!(said.contains("node `"), "no node named: {said}");
    }
}

#[test]
fn should_refuse_integer_products_that_may_not_be_exact_or_do_not_fit() {
    let to_bytes = || node("QuantizeLinear", &["x", "s"], "q", vec![]);
    let scale = |name: &str, values: &[f32]| floats(name, &[values.len()], values);
    let cast = |from: &str| node("Cast", &[from], "y", vec![AttributeProto::int("to", 1)]);
    let i8s = |name: &str, shape: &[usize], value: i32| quantized(name, shape, DataType::Int8, &vec![value; shape.iter().product()]);
    let u8s = |name: &str, shape: &[usize], value: i32| quantized(name, shape, DataType::Uint8, &vec![value; shape.iter().product()]);
    let s = || scale("s", &[0.1]);
    let said = refusal(
        vec![to_bytes(), node("MatMulInteger", &["q", "x"], "m", vec![]), cast("m")],
        vec![s()],
    );
    assert!(said.contains("(MatMulInteger): its input 1 is made of float"), "{said}");
    let product = |more: TensorProto| {
        refusal(
            vec![to_bytes(), node("MatMulInteger", &["q", "w", "", "z"], "m", vec![]), cast("m")],
            vec![s(), i8s("w", &[3, 2], 1), more],
        )
    };
    assert!(product(u8s("z", &[1], 0)).contains("made of uint8, it goes with int8"));
    assert!(product(i8s("z", &[3], 0)).contains("has the shape [3] for [3, 2]"));
    // More products than 32 bits hold.
    let many = 33_026;
    let wide = vec![
        to_bytes(),
        node("Reshape", &["q", "to"], "r", vec![]),
        node("Expand", &["r", "as"], "e", vec![]),
        node("MatMulInteger", &["e", "w"], "m", vec![]),
        cast("m"),
    ];
    let said = refusal(
        wide,
        vec![s(), ints("to", &[6, 1]), ints("as", &[6, many as i64]), i8s("w", &[many, 1], 1)],
    );
    assert!(said.contains("may be past 32 bits"), "{said}");

    let linear = |zero: TensorProto, factor: f32| {
        let inputs = ["q", "s", "az", "w", "ws", "wz", "ys", "yz"];
        let more = vec![
            s(),
            u8s("az", &[1], 0),
            i8s("w", &[3, 2], 1),
            scale("ws", &[factor]),
            i8s("wz", &[1], 0),
            scale("ys", &[1e-30]),
            zero,
        ];
        refusal(vec![to_bytes(), node("QLinearMatMul", &inputs, "m", vec![]), cast("m")], more)
    };
    assert!(linear(floats("yz", &[1], &[0.0]), 1.0).contains("(input 7) is made of float"));
    assert!(linear(u8s("yz", &[1], 0), f32::NAN).contains("its second scale (input 4) is NaN"));
    assert!(linear(u8s("yz", &[1], 0), 1e30).contains("make a factor of inf"));
    assert!(linear(u8s("yz", &[2], 0), 1.0).contains("is not one constant"));

    let image = |window: i64, bias: i32| {
        let inputs = ["r", "s", "az", "w", "ws", "wz", "ys", "yz", "b"];
        let w = [1, 1, window as usize, 1];
        let more = vec![
            s(),
            u8s("az", &[1], 0),
            i8s("w", &w, 1),
            scale("ws", &[1.0]),
            i8s("wz", &[1], 0),
            scale("ys", &[1.0]),
            u8s("yz", &[1], 0),
            quantized("b", &[1], DataType::Int32, &[bias]),
            ints("to", &[1, 1, 6, 1]),
        ];
        let pads = AttributeProto::int_list("pads", &[300, 0, 300, 0]);
        refusal(
            vec![
                to_bytes(),
                node("Reshape", &["q", "to"], "r", vec![]),
                node("QLinearConv", &inputs, "m", vec![pads]),
                cast("m"),
            ],
            more,
        )
    };
    assert!(image(257, 0).contains("sums are exact for at most 256"));
    assert!(image(2, i32::MAX).contains("with a bias that leaves room"));
}

/// A model over `x` `[n, 3]` that may use the ops of onnxruntime.
fn of_microsoft(nodes: Vec<NodeProto>, more: Vec<TensorProto>) -> Model {
    let plain = testing::model(21, &[-1, 3], vec![node("Identity", &["x"], "y", vec![])], vec![]);
    let mut proto = plain.proto().clone();
    proto.opset_import.push(OperatorSetIdProto {
        domain: "com.microsoft".to_owned(),
        version: 1,
    });
    let graph = proto.graph.as_mut().expect("a graph");
    (graph.node, graph.initializer) = (nodes, more);
    Model::from_proto(proto).expect("sound")
}

#[test]
fn should_refuse_packed_weights_that_do_not_fit() {
    let of = |change: &dyn Fn(&mut NodeProto, &mut Vec<TensorProto>)| {
        let int = AttributeProto::int;
        let mut product = node(
            "MatMulNBits",
            &["h", "b", "s"],
            "y",
            vec![int("K", 16), int("N", 2), int("bits", 4), int("block_size", 16)],
        );
        product.domain = "com.microsoft".to_owned();
        let mut more = vec![
            quantized("b", &[2, 1, 8], DataType::Uint8, &[0x21; 16]),
            floats("s", &[2], &[1.0, -0.5]),
            floats("up", &[3, 16], &[1.0; 48]),
        ];
        change(&mut product, &mut more);
        let nodes = vec![node("MatMul", &["x", "up"], "h", vec![]), product];
        run(&of_microsoft(nodes, more)).map_err(|e| e.to_string())
    };
    // 16 of 1.5, times 8 pairs of 1 - 8 and 2 - 8.
    let y = of(&|_, _| {}).expect("runs").remove(0);
    assert_eq!(y.as_floats(), Some(&[-156.0, 78.0, -156.0, 78.0][..]));
    let refused = |change: &dyn Fn(&mut NodeProto, &mut Vec<TensorProto>)| {
        let said = of(change).expect_err("refused");
        assert!(said.contains("`the_matmulnbits` (MatMulNBits)"), "{said}");
        said
    };
    let set = |node: &mut NodeProto, i: usize, value: i64| node.attribute[i].i = Some(value);
    assert!(refused(&|node, _| set(node, 2, 3)).contains("its `bits` is 3"));
    assert!(refused(&|node, _| set(node, 3, 24)).contains("its `block_size` is 24"));
    assert!(refused(&|node, _| set(node, 0, 0)).contains("its `K` is 0"));
    assert!(refused(&|node, _| set(node, 0, 17)).contains("32 bytes are needed"));
    assert!(refused(&|_, more| more[1].float_data[1] = f32::NAN).contains("its input 2 is NaN at 1"));
    assert!(refused(&|_, more| more[0].data_type = DataType::Int8 as i32).contains("of int8, 16 bytes are needed"));
    assert!(refused(&|node, _| node.input[1] = "x".to_owned()).contains("its input 1 is not a constant"));
    assert!(refused(&|node, _| node.input.extend(["".to_owned(), "s".to_owned()])).contains("g_idx"));
    assert!(refused(&|node, _| node.attribute[0].name = "L".to_owned()).contains("its attribute `L` is not supported"));
}

#[test]
fn should_pass_the_gradient_through_packed_weights_as_through_what_they_stand_for() {
    let int = AttributeProto::int;
    let attributes = vec![int("K", 16), int("N", 2), int("bits", 4), int("block_size", 16)];
    let mut packed = node("MatMulNBits", &["h", "b", "s"], "y", attributes);
    packed.domain = "com.microsoft".to_owned();
    let up = floats("up", &[3, 16], &(0..48).map(|i| (i as f32 * 0.7).sin()).collect::<Vec<_>>());
    let words: Vec<i32> = (0..16).map(|i| i * 37 % 256).collect();
    let first = || node("MatMul", &["x", "up"], "h", vec![]);
    let more = vec![
        quantized("b", &[2, 1, 8], DataType::Uint8, &words),
        floats("s", &[2], &[0.5, -0.25]),
        up.clone(),
    ];
    let few_bits = of_microsoft(vec![first(), packed], more);
    let value = |k: usize, n: usize| ((words[n * 8 + k / 2] >> (k % 2 * 4) & 15) - 8) as f32 * [0.5, -0.25][n];
    let plain: Vec<f32> = (0..32).map(|i| value(i / 2, i % 2)).collect();
    let plain = of_microsoft(
        vec![first(), node("MatMul", &["h", "w"], "y", vec![])],
        vec![floats("w", &[16, 2], &plain), up],
    );
    let weights_after_a_step = |model: &Model| {
        let rules = TrainableRules::new(&["!w".to_owned()])
            .ok()
            .filter(|_| model.initializer("w").is_some());
        let layout = model.layout(&rules.unwrap_or_default()).expect("up trains");
        let mut trainer = Trainer::new(model, &layout, &testing::config(Loss::Pairwise(Pairwise::default()))).expect("trains");
        let features = (0..24).map(|i| (i as f32).cos()).collect();
        let targets = (0..8).map(|i| (i % 2) as f32).collect();
        trainer.step(Batch::rows(features, targets).expect("rows")).expect("a step");
        trainer.weights().expect("weights")
    };
    let (ours, expected) = (weights_after_a_step(&few_bits), weights_after_a_step(&plain));
    assert_eq!(ours.len(), 48);
    assert_eq!(ours, expected);
}

#[test]
fn should_train_what_is_fake_quantized_and_nothing_else() {
    // A weight behind a quantizer is found by its slot, scales and zero points are not.
    let nodes = vec![
        node("QuantizeLinear", &["w", "s", "z"], "q", vec![]),
        node("DequantizeLinear", &["q", "s", "z"], "d", vec![]),
        node("MatMul", &["x", "d"], "y", vec![]),
    ];
    let weights: Vec<f32> = (0..6).map(|i| (i as f32 * 1.3).sin() * 0.1).collect();
    let more = || {
        vec![
            floats("w", &[3, 2], &weights),
            floats("s", &[], &[0.01]),
            quantized("z", &[], DataType::Int8, &[0]),
        ]
    };
    let model = testing::model(19, &[-1, 3], nodes.clone(), more());
    let layout = testing::layout(&model);
    assert_eq!(layout.n_weights(), 6);
    let said = {
        let rules = TrainableRules::new(&["s".to_owned()]).expect("a glob");
        let layout = model.layout(&rules).expect("the scale is asked for");
        let head = crate::Head::from(Loss::cross_entropy());
        crate::fit_check(&model, &layout, 3, &head, Some(2))
            .expect_err("a scale that trains")
            .to_string()
    };
    assert!(said.contains("is not a constant"), "{said}");
    let data = testing::clouds(60, 3, 2, 4);
    let config = crate::TrainConfig {
        epochs: 20,
        ..testing::config(Loss::cross_entropy())
    };
    let before = crate::evaluate(&model, &data, &config.heads[0]).expect("evaluates").loss;
    let update = crate::train(&model, &layout, &data, &config, &mut |_| std::ops::ControlFlow::Continue(())).expect("trains");
    let after: Vec<f32> = weights.iter().zip(&update.delta).map(|(w, d)| w + d).collect();
    let trained = model.with_weights(&layout, &after).expect("fits");
    let after = crate::evaluate(&trained, &data, &config.heads[0]).expect("evaluates").loss;
    assert!(after < 0.5 * before, "{before} -> {after}");
}
