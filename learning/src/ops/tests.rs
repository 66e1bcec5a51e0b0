//! Every op against ONNX's reference evaluator (forward) and finite differences (gradient), and what is refused.

use aimass_onnx::proto::AttributeProto;
use aimass_onnx::{Model, TrainableRules};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use serde_json::Value;

use super::TABLE;
use crate::executor::{Cpu, Executor};
use crate::program::{Graph, Mode};
use crate::testing::{self, Numbers, floats, ints, node};
use crate::{Loss, fit_check};

struct Case {
    name: String,
    model: Model,
    rules: TrainableRules,
    x: Vec<f32>,
    rows: usize,
    shape: Vec<usize>,
    y: Vec<f32>,
}

fn numbers(value: &Value) -> Vec<f32> {
    value
        .as_array()
        .expect("a list")
        .iter()
        .map(|v| v.as_f64().expect("a number") as f32)
        .collect()
}

fn cases() -> Vec<Case> {
    let all: Value = serde_json::from_str(include_str!("../../testdata/ops.json")).expect("valid JSON");
    let case = |case: &Value| {
        let bytes = hex::decode(case["model"].as_str().expect("hex")).expect("hex");
        let frozen = case["frozen"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|n| format!("!{}", n.as_str().expect("a name")));
        let rules: Vec<String> = std::iter::once("*".to_owned()).chain(frozen).collect();
        Case {
            name: case["name"].as_str().expect("a name").to_owned(),
            model: Model::from_bytes(&bytes).expect("a valid model"),
            rules: TrainableRules::new(&rules).expect("valid globs"),
            x: numbers(&case["x"]),
            rows: case["rows"].as_u64().expect("rows") as usize,
            shape: numbers(&case["shape"]).into_iter().map(|d| d as usize).collect(),
            y: numbers(&case["y"]),
        }
    };
    all.as_array().expect("a list").iter().map(case).collect()
}

impl Case {
    fn executor(&self) -> Executor<Cpu> {
        let layout = self.model.layout(&self.rules).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let graph = Graph::new(&self.model, Some(&layout)).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        Executor::new(graph, self.x.len() / self.rows)
    }
}

#[test]
fn every_op_computes_what_onnx_says() {
    for case in cases() {
        let mut executor = case.executor();
        for mode in [Mode::Inference, Mode::Training] {
            let program = executor.program(case.rows, mode).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            assert_eq!(program.output_shape, case.shape, "{}", case.name);
        }
        let y = executor.forward(&case.x).expect("the CPU does not fail");
        let largest = case.y.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        for (i, (ours, theirs)) in y.iter().zip(&case.y).enumerate() {
            assert!(
                (ours - theirs).abs() <= 2e-6 * largest,
                "{}: element {i} is {ours}, ONNX says {theirs}",
                case.name
            );
        }
        assert_eq!(y.len(), case.y.len(), "{}", case.name);
    }
}

#[test]
fn every_gradient_agrees_with_finite_differences() {
    const STEP: f32 = 4e-3;
    // Differentiates sum(output * by_output); with SGD at a rate of 1 the change of the weights is the negated gradient.
    for case in cases() {
        let mut executor = case.executor();
        let mut random = Numbers::new(11);
        let by_output: Vec<f32> = case.y.iter().map(|_| random.next()).collect();
        let layout = case.model.layout(&case.rules).expect("something trains");
        let n = layout.n_weights();
        let flat = case.model.weights(&layout).expect("weights");
        executor
            .step(&case.x, 1.0, &mut ChaCha20Rng::from_seed([0; 32]), |_| Ok(by_output.clone()))
            .expect("a step");
        let mut after = flat.clone();
        executor.read_weights(&mut after).expect("the CPU does not fail");
        let gradient: Vec<f32> = flat.iter().zip(&after).map(|(before, after)| before - after).collect();
        let mut objective = |weights: &[f32]| {
            executor.set_weights(weights);
            let y = executor.forward(&case.x).expect("the CPU does not fail");
            y.iter().zip(&by_output).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let largest = gradient.iter().fold(0.1f32, |m, v| m.max(v.abs()));
        let mut weights = flat.clone();
        for i in 0..n {
            weights[i] = flat[i] + STEP;
            let above = objective(&weights);
            weights[i] = flat[i] - STEP;
            let below = objective(&weights);
            weights[i] = flat[i];
            let finite = ((above - below) / f64::from(2.0 * STEP)) as f32;
            let apart = (gradient[i] - finite).abs();
            assert!(
                apart <= 5e-3 * largest,
                "{}: weight {i} has the gradient {}, finite differences say {finite}",
                case.name,
                gradient[i]
            );
        }
    }
}

#[test]
fn every_op_of_the_table_has_a_case() {
    let cases = cases();
    for (op, _) in TABLE {
        let met = cases.iter().any(|c| c.model.graph().node.iter().any(|n| n.op_type == *op));
        assert!(met, "{op} is claimed but not tested");
    }
}

/// What checking the model says; it must be refused.
fn refusal(model: &Model) -> String {
    let layout = testing::layout(model);
    fit_check(model, &layout, 3, Loss::CrossEntropy, Some(2))
        .expect_err("must be refused")
        .to_string()
}

#[test]
fn what_can_not_run_is_refused_by_node_and_op() {
    let list = |name: &str, values: &[i64]| AttributeProto::int_list(name, values);
    let reshaped = |shape: &[i64], mut nodes: Vec<_>| {
        let mut all = vec![node("Reshape", &["x", "to"], "r", vec![])];
        all.append(&mut nodes);
        all.push(node("Reshape", &["z", "back"], "h", vec![]));
        testing::behind(
            17,
            all,
            vec![ints("to", shape), ints("back", &[0, 3]), floats("k", &[1, 2, 2], &[0.0; 4])],
        )
    };
    let one = |op: &str, attributes: Vec<AttributeProto>| testing::behind(17, vec![node(op, &["x"], "h", attributes)], vec![]);
    let two = |op: &str, second: &str, more| testing::behind(17, vec![node(op, &["x", second], "h", vec![])], more);
    let expected = [
        (one("Sinh", vec![]), "`the_sinh` (Sinh): the op is not supported"),
        (
            one("Relu", vec![AttributeProto::float("alpha", 1.0)]),
            "`the_relu` (Relu): its attribute `alpha` is not supported",
        ),
        (
            one("LeakyRelu", vec![AttributeProto::int("alpha", 1)]),
            "its attribute `alpha` is of the type Int",
        ),
        (one("Cast", vec![AttributeProto::int("to", 10)]), "casts to the element type 10"),
        (
            one("Cast", vec![AttributeProto::int("to", 7)]),
            "makes integers of values that are not constant",
        ),
        (one("Transpose", vec![list("perm", &[0, 0])]), "name each dimension once"),
        (
            one("Softmax", vec![AttributeProto::int("axis", 2)]),
            "axis 2 is outside a tensor of 2 dimensions",
        ),
        (
            one("Gelu", vec![AttributeProto::text("approximate", "cubic")]),
            "`approximate` is `cubic`",
        ),
        (one("MaxPool", vec![list("kernel_shape", &[2])]), "its input has 2 dimensions"),
        (two("Add", "c", vec![floats("c", &[4], &[0.0; 4])]), "do not broadcast"),
        (two("Pow", "x", vec![]), "its exponent is not one constant number"),
        (two("Reshape", "s", vec![ints("s", &[0, 4])]), "can't become [0, 4]"),
        (two("Reshape", "s", vec![ints("s", &[-1, -1])]), "can't become [-1, -1]"),
        (two("Reshape", "x", vec![]), "known integers are needed"),
        (two("MatMul", "m", vec![floats("m", &[2, 3], &[0.0; 6])]), "can't be multiplied"),
        (two("Gather", "i", vec![ints("i", &[0])]), "gathers from floats"),
        (two("Squeeze", "a", vec![ints("a", &[1])]), "is not 1"),
        (two("Concat", "c", vec![floats("c", &[1, 3, 1], &[0.0; 3])]), "can't be joined"),
        (two("Clip", "x", vec![]), "its `min` is not a constant number"),
        (two("Reshape", "s", vec![ints("s", &[0, i64::MAX])]), "can't become"),
        (
            two("Add", "big", vec![floats("big", &[1 << 8, 1, 1], &[0.0; 1 << 8])]),
            "Gemm takes matrices",
        ),
        (
            reshaped(&[0, 1, 3], vec![node("Conv", &["r", "k"], "z", vec![])]),
            "do not fit an input of shape",
        ),
        (
            reshaped(&[0, 1, 3], vec![node("MaxPool", &["r"], "z", vec![list("kernel_shape", &[4])])]),
            "its window spans 4",
        ),
        (
            reshaped(&[0, 1, 3], vec![node("MaxPool", &["r"], "z", vec![])]),
            "`kernel_shape` is missing",
        ),
        (
            reshaped(&[0, 1, 3], vec![node("MaxPool", &["r"], "z", vec![list("kernel_shape", &[0])])]),
            "which is not 1 numbers from 1",
        ),
        (
            reshaped(
                &[0, 1, 3],
                vec![node(
                    "MaxPool",
                    &["r"],
                    "z",
                    vec![list("kernel_shape", &[1]), list("pads", &[1, 1])],
                )],
            ),
            "wholly in the padding",
        ),
        (
            reshaped(
                &[0, 1, 3],
                vec![node(
                    "AveragePool",
                    &["r"],
                    "z",
                    vec![list("kernel_shape", &[2]), list("pads", &[0, 1])],
                )],
            ),
            "uneven pads that do not count",
        ),
    ];
    for (model, text) in expected {
        let said = refusal(&model);
        assert!(said.contains(text), "expected `{text}`, got `{said}`");
        assert!(said.contains("node `"), "no node named: {said}");
    }
}

#[test]
fn batch_norm_in_training_mode_is_refused_with_what_to_do() {
    let statistics = ["s", "o", "m", "v"].map(|n| floats(n, &[3], &[1.0; 3])).to_vec();
    let attributes = vec![AttributeProto::int("training_mode", 1)];
    let model = testing::behind(
        17,
        vec![node("BatchNormalization", &["x", "s", "o", "m", "v"], "h", attributes)],
        statistics,
    );
    let said = refusal(&model);
    assert!(
        said.contains("(BatchNormalization): it is in training mode") && said.contains("model.eval()"),
        "{said}"
    );
}

#[test]
fn huge_outputs_are_refused_before_anything_is_allocated() {
    let big = floats("big", &[1 << 14, 1, 1], &vec![0.0; 1 << 14]);
    let wide = floats("wide", &[1 << 14, 1, 1, 1], &vec![0.0; 1 << 14]);
    let nodes = vec![node("Add", &["x", "big"], "a", vec![]), node("Add", &["a", "wide"], "h", vec![])];
    let said = refusal(&testing::behind(17, nodes, vec![big, wide]));
    assert!(said.contains("past the memory limit"), "{said}");
}

#[test]
fn dropout_drops_while_training_only_and_by_seed() {
    let flag = aimass_onnx::proto::TensorProto {
        name: "on".to_owned(),
        data_type: aimass_onnx::proto::DataType::Bool as i32,
        raw_data: vec![1u8].into(),
        ..Default::default()
    };
    let model = testing::behind(
        17,
        vec![node("Dropout", &["x", "ratio", "on"], "h", vec![])],
        vec![floats("ratio", &[], &[0.5]), flag],
    );
    let layout = testing::layout(&model);
    let x = [1.0f32; 3 * 64];
    let outputs = |seed: u8| {
        let mut executor = Executor::<Cpu>::new(Graph::new(&model, Some(&layout)).expect("a graph"), 3);
        let mut seen = Vec::new();
        let mut noise = ChaCha20Rng::from_seed([seed; 32]);
        executor
            .step(&x, 0.0, &mut noise, |y| {
                seen = y.to_vec();
                Ok(vec![0.0; y.len()])
            })
            .expect("a step");
        seen
    };
    assert_eq!(outputs(1), outputs(1));
    assert_ne!(outputs(1), outputs(2));
    let (still, n) = crate::predict(&model, &x, 3).expect("predicts");
    assert!(still.chunks(n).all(|row| row == &still[..n]), "prediction must not drop");
    // Of 64 rows with 3 values each kept with probability one half, about an eighth keeps all.
    let dropped = outputs(1).chunks(n).filter(|row| row[0] != outputs(1)[0]).count();
    assert!((16..64).contains(&dropped), "{dropped}");
}
