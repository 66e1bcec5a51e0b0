use aimass_onnx::build::{Conv1d, InitialWeights, McMahanCnn, MobileNetV2, ResNet18, TransformerClassifier, mlp};
use aimass_onnx::proto::{AttributeProto, NodeProto};
use aimass_onnx::{Globs, Model};
use proptest::prelude::*;

use super::*;
use crate::testing::{Net, assert_same, inputs};

mod random;

pub(crate) use random::net as random_net;

fn rules(share: f64) -> ChannelRules {
    ChannelRules::new(Sparsity::new(share).expect("a share"))
}

/// Prunes, and checks that the result computes what the original does with the removed channels silenced.
fn checked(model: &Model, rules: &ChannelRules, shape: &[usize]) -> (Model, ChannelPlan) {
    let (small, plan) = prune_channels(model, rules).expect("prunes");
    assert_same(&small, &plan.silenced(model).expect("its own plan"), &inputs(1, shape), 1e-9);
    assert_eq!((small.inputs(), small.outputs()), (model.inputs(), model.outputs()));
    let count = |model: &Model| {
        model
            .initializers()
            .filter(|t| t.to_f32().is_some())
            .map(|t| t.n_elements())
            .sum::<usize>()
    };
    assert_eq!((plan.parameters_before, plan.parameters_after), (count(model), count(&small)));
    (small, plan)
}

fn shape(model: &Model, name: &str) -> Vec<usize> {
    model.initializer(name).expect("there").shape
}

fn kept(plan: &ChannelPlan) -> Vec<(usize, usize)> {
    plan.groups.iter().map(|group| (group.before, group.kept)).collect()
}

fn int(name: &str, value: i64) -> Vec<AttributeProto> {
    vec![AttributeProto::int(name, value)]
}

/// A net over images `[batch, 3, 6, 6]`.
fn image_net() -> Net {
    Net::new(5, &[0, 3, 6, 6])
}

fn conv(net: &mut Net, name: &str, x: &str, dims: &[i64], group: i64) -> String {
    let w = net.weight(&format!("{name}.weight"), dims);
    let b = net.weight(&format!("{name}.bias"), &dims[..1]);
    let pad = dims[2] / 2;
    let attributes = vec![AttributeProto::int("group", group), AttributeProto::int_list("pads", &[pad; 4])];
    net.node("Conv", name, &[x, &w, &b], attributes)
}

/// Global pooling and a linear layer to 2 outputs.
fn head(net: &mut Net, x: &str, channels: i64) -> Model {
    let pooled = net.node("GlobalAveragePool", "pooled", &[x], vec![]);
    let flat = net.node("Flatten", "flat", &[&pooled], vec![]);
    let w = net.weight("fc.weight", &[2, channels]);
    net.node("Gemm", "y", &[&flat, &w], int("transB", 1));
    net.output("y", &[0, 2]);
    net.model()
}

#[test]
fn should_shrink_hidden_units() {
    let model = mlp(&[12, 10, 8, 3], 7);
    let (small, plan) = checked(&model, &rules(0.5), &[4, 12]);
    assert_eq!(plan.groups.iter().map(|group| group.before - group.kept).sum::<usize>(), 9);
    assert_eq!(shape(&small, "fc3.weight")[0], 3, "the outputs stay");
    assert_eq!(shape(&small, "fc1.weight")[1], 12, "the inputs stay");
    assert_eq!(shape(&small, "fc1.weight")[0], shape(&small, "fc2.weight")[1]);
    assert_eq!(shape(&small, "fc1.bias")[0], plan.groups[0].kept);
    assert!(small.as_bytes().len() < model.as_bytes().len());
}

#[test]
fn should_remove_the_channels_of_least_norm() {
    let mut proto = mlp(&[4, 6, 2], 7).proto().clone();
    let graph = proto.graph.as_mut().expect("there");
    // Unit 4 of the hidden layer is nearly nothing on both sides, unit 1 half of what it was.
    for (tensor, (unit, inner)) in graph.initializer.iter_mut().zip([(6, 4), (6, 1), (6, 1)]) {
        let mut values: Vec<f32> = tensor.raw_data.as_chunks::<4>().0.iter().map(|w| f32::from_le_bytes(*w)).collect();
        values.iter_mut().enumerate().for_each(|(at, value)| {
            *value = match at / inner % unit {
                4 => *value * 1e-3,
                1 => 0.1,
                _ => 1.0,
            }
        });
        tensor.raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    }
    let model = Model::from_proto(proto).expect("sound");
    let (_, plan) = checked(&model, &rules(0.34), &[2, 4]);
    assert_eq!(plan.cuts[0].kept, [0, 2, 3, 5]);
    assert_eq!(
        (plan.cuts[0].param.as_str(), plan.cuts[0].axis, plan.cuts[0].outgoing),
        ("fc1.weight", 0, false)
    );
}

#[test]
fn should_prune_the_models_that_are_built_here() {
    let weights = InitialWeights::default;
    let cnn = McMahanCnn.build(weights()).expect("builds");
    let (small, _) = checked(&cnn, &rules(0.5), &[1, 1, 28, 28]);
    // Each channel spreads over 7 x 7 places of the first matrix.
    let channels = shape(&small, "conv2.weight")[0];
    assert!(channels < 64 && shape(&small, "fc1.weight")[1] == channels * 49);
    for (model, x) in [
        (Conv1d::default().build(weights()).expect("builds"), None),
        (
            ResNet18 {
                width: 8,
                ..ResNet18::default()
            }
            .build(weights())
            .expect("builds"),
            Some([1, 3, 8, 8]),
        ),
        (
            MobileNetV2 {
                width: 0.25,
                ..MobileNetV2::default()
            }
            .build(weights())
            .expect("builds"),
            Some([1, 3, 8, 8]),
        ),
    ] {
        let (small, plan) = prune_channels(&model, &rules(0.5)).expect("prunes");
        assert!(
            plan.parameters_after * 2 < plan.parameters_before,
            "{} of {}",
            plan.parameters_after,
            plan.parameters_before
        );
        assert!(small.as_bytes().len() < model.as_bytes().len() * 3 / 5);
        if let Some(x) = x.filter(|_| model.inputs()[0].dims.as_ref().is_some_and(|dims| dims.len() == 4)) {
            assert_same(&small, &plan.silenced(&model).expect("its own"), &inputs(2, &x), 1e-6);
        }
    }
}

#[test]
fn should_follow_residual_connections() {
    let mut net = image_net();
    let stem = conv(&mut net, "stem", "x", &[8, 3, 3, 3], 1);
    let a = conv(&mut net, "a", &stem, &[8, 8, 3, 3], 1);
    let a = net.norm("bn", &a, 8);
    let a = net.node("Relu", "relu", &[&a], vec![]);
    let b = conv(&mut net, "b", &a, &[8, 8, 3, 3], 1);
    let sum = net.node("Add", "sum", &[&b, &stem], vec![]);
    let model = head(&mut net, &sum, 8);
    let (small, plan) = checked(&model, &rules(0.5), &[2, 3, 6, 6]);
    let tied = plan.groups.iter().find(|group| group.layers.len() == 2).expect("stem and b");
    assert_eq!(tied.layers, ["b.weight", "stem.weight"]);
    assert_eq!(shape(&small, "stem.weight")[0], tied.kept);
    assert_eq!(shape(&small, "bn.var"), shape(&small, "a.bias"));
}

#[test]
fn should_follow_depthwise_and_grouped_convolutions() {
    let mut net = image_net();
    let a = conv(&mut net, "a", "x", &[8, 3, 1, 1], 1);
    let depthwise = conv(&mut net, "depthwise", &a, &[16, 1, 3, 3], 8);
    let grouped = conv(&mut net, "grouped", &depthwise, &[12, 4, 3, 3], 4);
    let model = head(&mut net, &grouped, 12);
    let (small, plan) = checked(&model, &rules(0.4), &[2, 3, 6, 6]);
    assert_eq!(plan.groups.len(), 2);
    let group = |at: usize| small.graph().node[at].attr_i("group").expect("typed");
    assert_eq!(group(1), Some(shape(&small, "a.weight")[0] as i64));
    assert_eq!(group(2), Some(4));
    assert_eq!(shape(&small, "grouped.weight")[1] * 4, shape(&small, "depthwise.weight")[0]);
}

#[test]
fn should_follow_concatenation_and_splits() {
    let mut net = image_net();
    let a = conv(&mut net, "a", "x", &[6, 3, 3, 3], 1);
    let b = conv(&mut net, "b", "x", &[4, 3, 3, 3], 1);
    let joined = net.node("Concat", "joined", &[&a, "x", &b], int("axis", 1));
    let c = conv(&mut net, "c", &joined, &[10, 13, 1, 1], 1);
    let sizes = net.integers("sizes", &[4, 6]);
    net.node_giving("Split", &[&c, &sizes], &["left", "right"], int("axis", 1));
    let d = conv(&mut net, "d", "left", &[6, 4, 1, 1], 1);
    let sum = net.node("Add", "sum", &[&d, "right"], vec![]);
    let model = head(&mut net, &sum, 6);
    let (small, plan) = checked(&model, &rules(0.5), &[2, 3, 6, 6]);
    assert_eq!(kept(&plan).iter().map(|(before, kept)| before - kept).sum::<usize>(), 10);
    assert_eq!(
        shape(&small, "c.weight")[1],
        shape(&small, "a.weight")[0] + 3 + shape(&small, "b.weight")[0],
        "the input's channels stay"
    );
}

#[test]
fn should_rewrite_shapes_that_say_how_many_channels_there_are() {
    for target in [&[-1i64, 72][..], &[0, 72], &[0, -1], &[-1, 8, 9], &[0, 8, -1], &[0, 0, 9]] {
        let mut net = image_net();
        let a = conv(&mut net, "a", "x", &[8, 3, 3, 3], 1);
        let pool = vec![
            AttributeProto::int_list("kernel_shape", &[2, 2]),
            AttributeProto::int_list("strides", &[2, 2]),
        ];
        let mut a = net.node("MaxPool", "pool", &[&a], pool);
        let to = net.integers("to", target);
        a = net.node("Reshape", "flat", &[&a, &to], vec![]);
        if target.len() == 3 {
            a = net.node("Transpose", "turned", &[&a], vec![AttributeProto::int_list("perm", &[0, 2, 1])]);
            let w = net.weight("w", &[8, 5]);
            a = net.node("MatMul", "product", &[&a, &w], vec![]);
            let mean = vec![AttributeProto::int_list("axes", &[1]), AttributeProto::int("keepdims", 0)];
            a = net.node("ReduceMean", "mean", &[&a], mean);
        }
        let inner = if target.len() == 3 { 5 } else { 72 };
        let w = net.weight("fc", &[inner, 2]);
        net.node("Gemm", "y", &[&a, &w], vec![]);
        net.output("y", &[0, 2]);
        let model = net.model();
        let (small, plan) = checked(&model, &rules(0.5), &[3, 3, 6, 6]);
        let channels = shape(&small, "a.weight")[0];
        assert!(channels < 8, "{target:?}");
        if target.len() == 2 {
            assert_eq!((kept(&plan), shape(&small, "fc")[0]), (vec![(8, 4)], 36));
        }
    }
}

#[test]
fn should_keep_channels_that_a_reshape_mixes_with_the_batch() {
    // [batch, 8, 3, 3] as rows of 36: two rows an image.
    let mut net = image_net();
    let a = conv(&mut net, "a", "x", &[8, 3, 3, 3], 1);
    let pool = vec![
        AttributeProto::int_list("kernel_shape", &[2, 2]),
        AttributeProto::int_list("strides", &[2, 2]),
    ];
    let a = net.node("MaxPool", "pool", &[&a], pool);
    let to = net.integers("to", &[-1, 36]);
    let a = net.node("Reshape", "rows", &[&a, &to], vec![]);
    let w = net.weight("fc", &[36, 6]);
    let a = net.node("MatMul", "hidden", &[&a, &w], vec![]);
    let w = net.weight("fc2", &[6, 2]);
    net.node("MatMul", "y", &[&a, &w], vec![]);
    net.output("y", &[0, 2]);
    let (small, _) = checked(&net.model(), &rules(0.5), &[2, 3, 6, 6]);
    assert_eq!((shape(&small, "a.weight")[0], shape(&small, "fc")), (8, vec![36, 3]));
}

#[test]
fn should_follow_shapes_that_are_computed() {
    // What older exporters write for x.view(x.size(0), -1).
    let mut net = image_net();
    let a = conv(&mut net, "a", "x", &[8, 3, 3, 3], 1);
    let shape_of = net.node("Shape", "shape", &[&a], vec![]);
    let zero = net.integers("zero", &[0]);
    net.graph.initializer.last_mut().expect("there").dims = vec![];
    let first = net.node("Gather", "first", &[&shape_of, &zero], int("axis", 0));
    let axes = net.integers("axes", &[0]);
    let first = net.node("Unsqueeze", "firsts", &[&first, &axes], vec![]);
    let rest = net.integers("rest", &[-1]);
    let to = net.node("Concat", "to", &[&first, &rest], int("axis", 0));
    let flat = net.node("Reshape", "flat", &[&a, &to], vec![]);
    let w = net.weight("fc", &[2, 8 * 36]);
    net.node("Gemm", "y", &[&flat, &w], int("transB", 1));
    net.output("y", &[0, 2]);
    let (small, _) = checked(&net.model(), &rules(0.5), &[2, 3, 6, 6]);
    assert_eq!(shape(&small, "fc"), [2, 4 * 36]);
}

#[test]
fn should_follow_transposed_convolutions_scales_and_gates() {
    let mut net = image_net();
    let a = conv(&mut net, "a", "x", &[8, 3, 3, 3], 1);
    let w = net.weight("up.weight", &[8, 6, 2, 2]);
    let up = net.node("ConvTranspose", "up", &[&a, &w], vec![AttributeProto::int_list("strides", &[2, 2])]);
    let scale = net.weight("scale", &[6, 1, 1]);
    let up = net.node("Mul", "scaled", &[&up, &scale], vec![]);
    let pooled = net.node("GlobalAveragePool", "squeeze", &[&up], vec![]);
    let gate = conv(&mut net, "gate", &pooled, &[6, 6, 1, 1], 1);
    let gate = net.node("Sigmoid", "sigmoid", &[&gate], vec![]);
    let gated = net.node("Mul", "gated", &[&up, &gate], vec![]);
    let slope = net.weight("slope", &[6, 1, 1]);
    let gated = net.node("PRelu", "prelu", &[&gated, &slope], vec![]);
    let model = head(&mut net, &gated, 6);
    let (small, plan) = checked(&model, &rules(0.5), &[2, 3, 6, 6]);
    assert_eq!(plan.groups.len(), 2, "{plan:?}");
    assert_eq!(shape(&small, "slope")[0], shape(&small, "up.weight")[1]);
}

#[test]
fn should_keep_what_it_does_not_understand() {
    let mut net = image_net();
    let a = conv(&mut net, "a", "x", &[8, 3, 3, 3], 1);
    let b = conv(&mut net, "b", &a, &[8, 8, 3, 3], 1);
    // Softmax over the channels, and an operator that nobody knows.
    let soft = net.node("Softmax", "soft", &[&b], int("axis", 1));
    let c = conv(&mut net, "c", &soft, &[8, 8, 1, 1], 1);
    let odd = net.node("LRN", "odd", &[&c], int("size", 3));
    let model = head(&mut net, &odd, 8);
    let (small, plan) = prune_channels(&model, &rules(0.5)).expect("prunes");
    assert_eq!(kept(&plan), [(8, 4)]);
    assert_eq!([shape(&small, "b.weight")[0], shape(&small, "c.weight")[0]], [8, 8]);
    assert!(
        plan.cuts
            .iter()
            .all(|cut| ["a.weight", "a.bias", "b.weight"].contains(&cut.param.as_str()))
    );
}

#[test]
fn should_keep_what_a_graph_within_a_node_reads() {
    let mut net = image_net();
    let a = conv(&mut net, "a", "x", &[8, 3, 3, 3], 1);
    let b = conv(&mut net, "b", &a, &[8, 8, 3, 3], 1);
    let mut inner = Net::new(1, &[]);
    inner.graph.input.clear();
    inner.node("Identity", "inner", &[&a], vec![]);
    inner.output("inner", &[0, 8, 6, 6]);
    let branch = |name: &str| AttributeProto {
        name: name.to_owned(),
        r#type: 5,
        g: Some(Box::new(inner.graph.clone())),
        ..AttributeProto::default()
    };
    let (then, or) = (branch("then_branch"), branch("else_branch"));
    let truth = net.integers("truth", &[1]);
    net.node("If", "chosen", &[&truth], vec![then, or]);
    net.output("chosen", &[0, 8, 6, 6]);
    let model = head(&mut net, &b, 8);
    let (small, plan) = prune_channels(&model, &rules(0.5)).expect("prunes");
    assert_eq!((shape(&small, "a.weight")[0], kept(&plan)), (8, vec![(8, 4)]));
}

#[test]
fn should_keep_weights_that_are_used_in_two_ways() {
    let mut net = Net::new(3, &[0, 6]);
    let w = net.weight("w", &[6, 6]);
    // The input is not followed, so the rows of the matrix stay, and with them what the second product reads.
    let a = net.node("MatMul", "a", &["x", &w], vec![]);
    let b = net.node("MatMul", "b", &[&a, &w], vec![]);
    let v = net.weight("v", &[6, 2]);
    net.node("MatMul", "y", &[&b, &v], vec![]);
    net.output("y", &[0, 2]);
    assert_eq!(
        prune_channels(&net.model(), &rules(0.5)).map(|_| ()),
        Err(ChannelError::NothingToRemove)
    );
    // Read by an output too.
    let mut net = Net::new(3, &[0, 6]);
    let w = net.weight("w", &[6, 8]);
    let a = net.node("MatMul", "a", &["x", &w], vec![]);
    let v = net.weight("v", &[8, 2]);
    net.node("MatMul", "y", &[&a, &v], vec![]);
    net.output("y", &[0, 2]);
    net.output("a", &[0, 8]);
    assert_eq!(
        prune_channels(&net.model(), &rules(0.5)).map(|_| ()),
        Err(ChannelError::NothingToRemove)
    );
}

#[test]
fn should_keep_channels_that_a_computed_weight_reads() {
    // As exporters write the gates of an LSTM where they fold no constants.
    for op in ["LSTM", "Conv"] {
        let mut net = Net::new(3, &[0, 6, 5]);
        let w = net.weight("conv", &[8, 6, 1]);
        let a = net.node("Conv", "a", &["x", &w], vec![]);
        let turned = net.node("Transpose", "turned", &[&a], vec![AttributeProto::int_list("perm", &[2, 0, 1])]);
        let half = net.weight("half", if op == "LSTM" { &[1, 8, 8] } else { &[2, 8, 1] });
        let w = net.node("Concat", "w", &[&half, &half], int("axis", i64::from(op == "LSTM")));
        let r = net.weight("r", &[1, 16, 4]);
        match op {
            "LSTM" => net.node("LSTM", "y", &[&turned, &w, &r], int("hidden_size", 4)),
            _ => net.node("Conv", "y", &[&a, &w], vec![]),
        };
        net.output("y", &[]);
        assert_eq!(
            prune_channels(&net.model(), &rules(0.5)).map(|_| ()),
            Err(ChannelError::NothingToRemove),
            "{op}"
        );
    }
}

#[test]
fn should_keep_initializers_that_may_be_fed() {
    let mut proto = mlp(&[12, 10, 3], 7).proto().clone();
    let input = crate::testing::value("fc1.weight", &[10, 12]);
    proto.graph.as_mut().expect("there").input.push(input);
    let fed = Model::from_proto(proto.clone()).expect("sound");
    assert_eq!(prune_channels(&fed, &rules(0.5)).map(|_| ()), Err(ChannelError::NothingToRemove));
    // In the old version every initializer is one, and its declared shape follows.
    proto.ir_version = 3;
    let old = Model::from_proto(proto).expect("sound");
    let (small, _) = checked(&old, &rules(0.5), &[2, 12]);
    assert_eq!(shape(&small, "fc1.weight"), [5, 12]);
}

#[test]
fn should_obey_minimum_multiple_scope_and_globs() {
    let model = mlp(&[12, 20, 10, 3], 7);
    let pruned = |rules: &ChannelRules| kept(&checked(&model, rules, &[2, 12]).1);
    let base = rules(0.5);
    assert_eq!(
        pruned(&ChannelRules {
            scope: Scope::PerGroup,
            ..base.clone()
        }),
        [(20, 10), (10, 5)]
    );
    assert_eq!(
        pruned(&ChannelRules {
            scope: Scope::PerGroup,
            round_to: 8,
            ..base.clone()
        }),
        [(20, 16), (10, 8)]
    );
    assert_eq!(pruned(&ChannelRules { minimum: 9, ..rules(0.99) }), [(20, 9), (10, 9)]);
    assert!(pruned(&rules(0.99)).iter().all(|&(_, kept)| kept >= 1));
    let globs = |text: &str| Globs::new(&[text]).expect("parses");
    assert_eq!(
        pruned(&ChannelRules {
            include: globs("fc1*"),
            ..base.clone()
        }),
        [(20, 10)]
    );
    // fc2 reads the channels of fc1 and makes its own.
    assert_eq!(
        prune_channels(
            &model,
            &ChannelRules {
                exclude: globs("fc2.weight"),
                ..base.clone()
            }
        )
        .map(|_| ()),
        Err(ChannelError::NothingToRemove)
    );
    let refused = prune_channels(
        &model,
        &ChannelRules {
            include: globs("conv*"),
            ..base
        },
    );
    assert!(matches!(refused, Err(ChannelError::Unmatched { glob, .. }) if glob == "conv*"));
}

#[test]
fn should_say_why_it_can_not_prune() {
    let linear = mlp(&[12, 3], 7);
    assert_eq!(prune_channels(&linear, &rules(0.5)).map(|_| ()), Err(ChannelError::NothingToRemove));
    let layout = linear.layout(&Default::default()).expect("it trains");
    assert!(!layout.params().is_empty());
    let model = mlp(&[4, 6, 2], 7);
    let layout = model.layout(&Default::default()).expect("it trains");
    let nan = model.with_weights(&layout, &vec![f32::NAN; layout.n_weights()]).expect("fits");
    assert!(matches!(prune_channels(&nan, &rules(0.5)), Err(ChannelError::NonFinite { param }) if param == "fc1.weight"));
}

#[test]
fn should_prune_the_feed_forward_layers_of_a_transformer() {
    let model = TransformerClassifier::default().build(InitialWeights::default()).expect("builds");
    let (small, plan) = prune_channels(&model, &rules(0.5)).expect("prunes");
    assert!(plan.parameters_after < plan.parameters_before && !plan.groups.is_empty());
    assert_eq!(small.outputs(), model.outputs());
}

#[test]
fn should_be_deterministic() {
    let model = McMahanCnn.build(InitialWeights::default()).expect("builds");
    let prune = || prune_channels(&model, &rules(0.3)).expect("prunes").0;
    assert!(prune().as_bytes() == prune().as_bytes());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn should_compute_what_the_silenced_model_does(seed in any::<u64>(), share in 0.1f64..0.95, round_to in 1usize..4, global in any::<bool>()) {
        let model = random::net(seed);
        let scope = if global { Scope::Global } else { Scope::PerGroup };
        let rules = ChannelRules { round_to, scope, ..rules(share) };
        match prune_channels(&model, &rules) {
            Ok((small, plan)) => {
                assert_same(&small, &plan.silenced(&model).expect("its own"), &inputs(seed, &[2, 3, 5, 5]), 1e-9);
                prop_assert!(plan.cuts.iter().all(|cut| !cut.kept.is_empty()));
                let shorter = plan.groups.iter().any(|group| group.kept < group.before);
                prop_assert_eq!(plan.parameters_after < plan.parameters_before, shorter);
            }
            Err(error) => prop_assert_eq!(error, ChannelError::NothingToRemove),
        }
    }

    #[test]
    fn should_never_panic_on_odd_graphs(seed in any::<u64>(), ops in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 1..12)) {
        let mut proto = random::net(seed).proto().clone();
        if let Some(graph) = proto.graph.as_mut() {
            let names = ["Conv", "Gemm", "MatMul", "Concat", "Split", "Reshape", "Flatten", "Transpose", "Squeeze", "Pad", "Resize",
                "ReduceSum", "Slice", "Gather", "LSTM", "ConvTranspose", "BatchNormalization", "MaxPool", "Where", "Shape", "Unsqueeze"];
            let n = graph.node.len();
            for (at, op, input) in ops {
                // Another operator over the same inputs, or other inputs for the same operator.
                let known: Vec<String> = graph.initializer.iter().map(|t| t.name.clone()).collect();
                let node: &mut NodeProto = &mut graph.node[usize::from(at) % n];
                if op % 2 == 0 {
                    node.op_type = names[usize::from(op) % names.len()].to_owned();
                } else if let Some(place) = node.input.last_mut() {
                    *place = known[usize::from(input) % known.len()].clone();
                }
            }
        }
        if let Ok(model) = Model::from_proto(proto) {
            let _ = prune_channels(&model, &rules(0.5));
        }
    }
}
