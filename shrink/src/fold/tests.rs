use aimass_onnx::build::{InitialWeights, MobileNetV2, ResNet18};
use aimass_onnx::proto::AttributeProto;
use proptest::prelude::*;

use super::*;
use crate::testing::{Net, assert_same, inputs};

/// Of float32 weights that were rounded once.
const TOLERANCE: f64 = 2e-6;

fn ops(model: &Model) -> Vec<&str> {
    model.graph().node.iter().map(|node| node.op_type.as_str()).collect()
}

/// Folds, and checks that the result computes the same.
fn checked(model: &Model, shape: &[usize]) -> (Model, Folded) {
    let (plain, folded) = fold(model).expect("folds");
    assert_same(&plain, model, &inputs(3, shape), TOLERANCE);
    assert_eq!((plain.inputs(), plain.outputs()), (model.inputs(), model.outputs()));
    let again = fold(&plain).expect("folds");
    assert!(again.0.proto() == plain.proto() || !again.1.left.is_empty());
    (plain, folded)
}

fn ints(name: &str, values: &[i64]) -> Vec<AttributeProto> {
    vec![AttributeProto::int_list(name, values)]
}

#[test]
fn should_fold_norms_into_convolutions() {
    let mut net = Net::new(1, &[0, 3, 6, 6]);
    let (w, b) = (net.weight("w", &[4, 3, 3, 3]), net.weight("b", &[4]));
    let a = net.node("Conv", "a", &["x", &w, &b], vec![]);
    let a = net.norm("bn1", &a, 4);
    let a = net.node("Relu", "relu", &[&a], vec![]);
    // Without a bias, and grouped.
    let w = net.weight("w2", &[6, 2, 1, 1]);
    let a = net.node("Conv", "c", &[&a, &w], vec![AttributeProto::int("group", 2)]);
    net.norm("y", &a, 6);
    net.output("y", &[0, 6, 4, 4]);
    let model = net.model();
    let (plain, folded) = checked(&model, &[2, 3, 6, 6]);
    assert_eq!(ops(&plain), ["Conv", "Relu", "Conv"]);
    assert_eq!((folded.norms.len(), folded.left.len()), (2, 0));
    let names: Vec<_> = plain.graph().initializer.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(
        names,
        ["w.folded", "b.folded", "w2.folded", "w2.bias.folded"],
        "what is not used any more is gone"
    );
}

#[test]
fn should_fold_transposed_convolutions_with_groups() {
    for groups in [1i64, 2, 4] {
        let mut net = Net::new(2, &[0, 4, 3, 3]);
        let w = net.weight("w", &[4, 3, 2, 2]);
        let attributes = vec![AttributeProto::int("group", groups), AttributeProto::int_list("strides", &[2, 2])];
        let a = net.node("ConvTranspose", "a", &["x", &w], attributes);
        let scale = net.weight("scale", &[3 * groups, 1, 1]);
        let a = net.node("Mul", "scaled", &[&scale, &a], vec![]);
        net.norm("y", &a, 3 * groups);
        net.output("y", &[0, 3 * groups, 6, 6]);
        let (plain, folded) = checked(&net.model(), &[2, 4, 3, 3]);
        assert_eq!((ops(&plain), folded.constants.len()), (vec!["ConvTranspose"], 1));
    }
}

#[test]
fn should_fold_constants_into_gemm_with_its_factors() {
    for transposed in [0, 1] {
        let mut net = Net::new(3, &[0, 5]);
        let w = net.weight("w", if transposed == 1 { &[4, 5] } else { &[5, 4] });
        let c = net.weight("c", &[1, 4]);
        let attributes = vec![
            AttributeProto::int("transB", transposed),
            AttributeProto::float("alpha", 0.5),
            AttributeProto::float("beta", -3.0),
        ];
        let mut a = net.node("Gemm", "a", &["x", &w, &c], attributes);
        for (op, dims, first) in [
            ("Add", &[4i64][..], true),
            ("Mul", &[], false),
            ("Sub", &[1, 4], false),
            ("Sub", &[1], true),
            ("Div", &[4], true),
        ] {
            let name = format!("step{}", net.graph.node.len());
            let constant = net.weight(&format!("{name}.c"), dims);
            let both = if first { [&*a, &*constant] } else { [&*constant, &*a] };
            a = net.node(op, &name, &both, vec![]);
        }
        net.norm("y", &a, 4);
        net.output("y", &[0, 4]);
        let (plain, folded) = checked(&net.model(), &[3, 5]);
        assert_eq!((ops(&plain), folded.constants.len(), folded.norms.len()), (vec!["Gemm"], 5, 1));
        assert_eq!(plain.graph().node[0].attr_f("alpha"), Ok(Some(0.5)));
        assert_eq!(plain.graph().node[0].attr_f("beta"), Ok(None));
    }
}

#[test]
fn should_leave_what_would_compute_something_else() {
    // Its result is an output too.
    let mut net = Net::new(4, &[0, 3, 4, 4]);
    let w = net.weight("w", &[4, 3, 1, 1]);
    let a = net.node("Conv", "a", &["x", &w], vec![]);
    net.norm("y", &a, 4);
    net.output("y", &[0, 4, 4, 4]);
    net.output("a", &[0, 4, 4, 4]);
    let (plain, folded) = checked(&net.model(), &[1, 3, 4, 4]);
    assert_eq!((ops(&plain), folded.left.len()), (vec!["Conv", "BatchNormalization"], 1));
    // A constant along another axis, one that makes the output larger, a quotient by the output, a norm of the input.
    for (op, dims, first) in [
        ("Add", &[4i64][..], true),
        ("Mul", &[1, 1, 4, 1], true),
        ("Add", &[1, 1, 4, 1, 1], true),
        ("Div", &[4, 1, 1], false),
    ] {
        let mut net = Net::new(5, &[0, 3, 4, 4]);
        let w = net.weight("w", &[4, 3, 1, 1]);
        let a = net.node("Conv", "a", &["x", &w], vec![]);
        let c = net.weight("c", dims);
        let both = if first { [&*a, &*c] } else { [&*c, &*a] };
        net.node(op, "y", &both, vec![]);
        net.output("y", &[0, 4, 4, 4]);
        let (plain, folded) = fold(&net.model()).expect("folds");
        assert_eq!((ops(&plain), folded), (vec!["Conv", op], Folded::default()), "{op} {dims:?}");
    }
    let mut net = Net::new(6, &[0, 3, 4, 4]);
    net.norm("y", "x", 3);
    net.output("y", &[0, 3, 4, 4]);
    assert_eq!(checked(&net.model(), &[1, 3, 4, 4]).1.left.len(), 1);
}

#[test]
fn should_leave_norms_that_have_no_finite_weights() {
    let mut net = Net::new(7, &[0, 3, 4, 4]);
    let w = net.weight("w", &[3, 3, 1, 1]);
    let a = net.node("Conv", "a", &["x", &w], vec![]);
    net.norm("y", &a, 3);
    net.output("y", &[0, 3, 4, 4]);
    for (part, value) in [
        ("y.var", -1.0f32),
        ("y.scale", f32::NAN),
        ("y.scale", 3e38),
        ("y.mean", f32::INFINITY),
    ] {
        let mut net_graph = net.graph.clone();
        let tensor = net_graph.initializer.iter_mut().find(|t| t.name == part).expect("there");
        tensor.raw_data = [value; 3].iter().flat_map(|v| v.to_le_bytes()).collect();
        std::mem::swap(&mut net.graph, &mut net_graph);
        let (plain, folded) = fold(&net.model()).expect("folds");
        std::mem::swap(&mut net.graph, &mut net_graph);
        // Large, but it may be finite: what can't be written as float32 stays.
        let all_finite = plain
            .initializers()
            .filter(|t| t.proto.name.ends_with("folded"))
            .all(|t| t.to_f32().expect("floats").iter().all(|v| v.is_finite()));
        assert!(all_finite, "{part} {value}");
        assert!(folded.norms.is_empty() || value == 3e38, "{part} {value}");
    }
}

#[test]
fn should_give_shared_weights_a_copy() {
    let mut net = Net::new(8, &[0, 3, 4, 4]);
    let w = net.weight("w", &[3, 3, 1, 1]);
    let a = net.node("Conv", "a", &["x", &w], vec![]);
    let a = net.norm("bn", &a, 3);
    let b = net.node("Conv", "b", &["x", &w], vec![]);
    net.node("Add", "y", &[&a, &b], vec![]);
    net.output("y", &[0, 3, 4, 4]);
    let model = net.model();
    let (plain, _) = checked(&model, &[1, 3, 4, 4]);
    assert_eq!(
        plain.initializer("w").and_then(|t| t.to_f32()),
        model.initializer("w").and_then(|t| t.to_f32())
    );
    assert!(plain.initializer("w.folded").is_some());
}

#[test]
fn should_take_out_identities_and_dropouts() {
    let mut net = Net::new(9, &[0, 4]);
    let first = net.node("Identity", "first", &["x"], vec![]);
    let w = net.weight("w", &[4, 4]);
    let w = net.node("Identity", "w2", &[&w], vec![]);
    let a = net.node("MatMul", "a", &[&first, &w], vec![]);
    net.node_giving("Dropout", &[&a], &["dropped", "mask"], vec![]);
    let b = net.node("Relu", "b", &["dropped"], vec![]);
    // The output's name goes to the node before, whose value is used elsewhere too.
    net.node("Identity", "y", &[&b], vec![]);
    let c = net.node("Tanh", "c", &[&b], vec![]);
    net.node("Identity", "z", &[&c], vec![]);
    net.output("y", &[0, 4]);
    net.output("z", &[0, 4]);
    let (plain, folded) = checked(&net.model(), &[2, 4]);
    assert_eq!(ops(&plain), ["MatMul", "Relu", "Tanh"]);
    assert_eq!(folded.removed.len(), 5);
    assert_eq!(plain.graph().node[2].input, ["y"]);
}

#[test]
fn should_leave_identities_that_give_two_names() {
    let mut net = Net::new(10, &[0, 4]);
    let a = net.node("Relu", "a", &["x"], vec![]);
    for name in ["y", "z"] {
        net.node("Identity", name, &[&a], vec![]);
        net.output(name, &[0, 4]);
    }
    // An input under another name.
    net.node("Identity", "copy", &["x"], vec![]);
    net.output("copy", &[0, 4]);
    let (plain, _) = checked(&net.model(), &[2, 4]);
    assert_eq!(ops(&plain), ["Relu", "Identity", "Identity"]);
}

#[test]
fn should_leave_dropouts_that_train_or_whose_mask_is_used() {
    let net = |input: bool, mask: bool| {
        let mut net = Net::new(11, &[0, 4]);
        let truth = net.integers("train", &[1]);
        net.graph.initializer[0].data_type = 9;
        net.graph.initializer[0].raw_data = vec![1].into();
        net.graph.initializer[0].dims = vec![];
        let inputs = ["x", "", &truth];
        net.node_giving("Dropout", if input { &inputs } else { &inputs[..1] }, &["a", "mask"], vec![]);
        net.node("Relu", "y", &["a"], vec![]);
        net.output("y", &[0, 4]);
        if mask {
            net.output("mask", &[0, 4]);
        }
        fold(&net.model()).expect("folds").1.removed.len()
    };
    assert_eq!([net(false, false), net(true, false), net(false, true)], [1, 0, 0]);
}

#[test]
fn should_keep_weights_that_may_be_fed_and_refuse_files_where_all_may() {
    let mut net = Net::new(12, &[0, 3, 4, 4]);
    let w = net.weight("w", &[3, 3, 1, 1]);
    let a = net.node("Conv", "a", &["x", &w], vec![]);
    net.norm("y", &a, 3);
    net.output("y", &[0, 3, 4, 4]);
    net.graph.input.push(crate::testing::value("w", &[3, 3, 1, 1]));
    let (plain, folded) = fold(&net.model()).expect("folds");
    assert_eq!((ops(&plain).len(), folded.left.len()), (2, 1));
    net.ir = 3;
    assert_eq!(fold(&net.model()).map(|_| ()), Err(FoldError::IrVersion { found: 3 }));
}

#[test]
fn should_fold_all_norms_of_the_models_that_are_built_here() {
    let resnet = ResNet18 {
        width: 8,
        ..ResNet18::default()
    }
    .build(InitialWeights::default())
    .expect("builds");
    let mobile = MobileNetV2 {
        width: 0.25,
        ..MobileNetV2::default()
    }
    .build(InitialWeights::default())
    .expect("builds");
    for model in [resnet, mobile] {
        let (plain, folded) = checked(&model, &[1, 3, 8, 8]);
        assert!(folded.left.is_empty() && folded.norms.len() >= 20);
        assert!(!ops(&plain).contains(&"BatchNormalization"));
    }
}

#[test]
fn should_fold_after_constant_nodes() {
    let mut net = Net::new(13, &[0, 3, 4, 4]);
    let w = net.weight("w", &[3, 3, 1, 1]);
    let a = net.node("Conv", "a", &["x", &w], ints("kernel_shape", &[1, 1]));
    let tensor = crate::testing::floats("", &[3, 1, 1], &[2.0, -3.0, 0.5]);
    let c = net.node("Constant", "c", &[], vec![AttributeProto::tensor("value", tensor)]);
    net.node("Mul", "y", &[&a, &c], vec![]);
    net.output("y", &[0, 3, 4, 4]);
    assert_eq!(ops(&checked(&net.model(), &[1, 3, 4, 4]).0), ["Conv"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn should_compute_the_same(seed in any::<u64>()) {
        let model = crate::channels::random_net(seed);
        let (plain, _) = fold(&model).expect("folds");
        assert_same(&plain, &model, &inputs(seed, &[2, 3, 5, 5]), 1e-5);
    }
}
