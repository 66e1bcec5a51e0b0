//! Whole networks by the compiled plan against the interpreter, with every optimizer.

mod integers;

use aimass_kernels::{Isa, Team};
use aimass_onnx::build::{Cell, InitialWeights, LeNet, McMahanCnn, RecurrentLm, ResNet18, Stack, TransformerClassifier, mlp};
use aimass_onnx::{Model, ParamKind};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::Compiled;
use crate::array::Array;
use crate::executor::{Cpu, Executor};
use crate::optimizer::Optimizer;
use crate::program::{Element, Graph};
use crate::testing::{self, Numbers, apart, floats, ints, node};
use crate::{OptimizerConfig, Rule, Schedule, TrainError};

fn weights() -> InitialWeights {
    InitialWeights::seeded(1)
}

/// A network and the shape of a batch of each of its inputs.
fn networks() -> Vec<(&'static str, Model, Vec<usize>)> {
    let stack = Stack {
        vocabulary: 30,
        max_sequence: 12,
        ..Stack::default()
    };
    let small = RecurrentLm {
        vocabulary: 20,
        embedding: 8,
        ..RecurrentLm::new(Cell::Lstm)
    };
    let gru = RecurrentLm {
        vocabulary: 20,
        embedding: 8,
        ..RecurrentLm::new(Cell::Gru)
    };
    let model = |built: Result<Model, aimass_onnx::build::BuildError>| built.expect("it is built");
    vec![
        ("mlp", mlp(&[20, 17, 33, 5], 1), vec![7, 20]),
        ("cnn", model(McMahanCnn.build(weights())), vec![3, 1, 28, 28]),
        ("lenet", model(LeNet::default().build(weights())), vec![3, 1, 28, 28]),
        ("lstm", model(small.build(weights())), vec![3, 6]),
        ("gru", model(gru.build(weights())), vec![3, 6]),
        (
            "transformer",
            model(TransformerClassifier { classes: 4, stack }.build(weights())),
            vec![2, 12],
        ),
        ("resnet18", model(ResNet18::default().build(weights())), vec![2, 3, 32, 32]),
    ]
}

fn inputs(graph: &Graph, shape: &[usize], seed: u64) -> Vec<Array> {
    let mut random = Numbers::new(seed);
    let n = shape.iter().product();
    let array = match graph.inputs[0].element {
        Element::Float => Array::floats(shape.to_vec(), (0..n).map(|_| random.next()).collect()),
        _ => Array::ints(shape.to_vec(), (0..n).map(|_| ((random.next() + 1.0) * 9.0) as i64).collect()),
    };
    vec![array.expect("it fits")]
}

/// Half the sum of squares of the outputs, less a pattern.
fn gradient(outputs: &[Array]) -> Result<Vec<Option<Vec<f32>>>, TrainError> {
    let each = outputs.iter().map(|output| {
        let values = output.as_floats()?;
        let scale = 1.0 / values.len() as f32;
        Some(values.iter().enumerate().map(|(i, y)| (y - (i % 3) as f32) * scale).collect())
    });
    Ok(each.collect())
}

/// Steps of both, and what differs behind them.
fn compare(name: &str, model: &Model, shapes: &[Vec<usize>], config: &OptimizerConfig, isa: Isa) -> Option<String> {
    let layout = testing::layout(model);
    let graph = || Graph::new(model, Some(&layout)).expect("a graph");
    let mut interpreter = Executor::<Cpu>::new(graph());
    let mut optimizer = Optimizer::<Cpu>::new(config.clone());
    let mut compiled = Compiled::new(graph(), config.clone()).with_isa(isa);
    // Away from scales that begin at 0, behind which nothing has a gradient.
    let mut random = Numbers::new(3);
    let begun: Vec<f32> = model
        .weights(&layout)
        .expect("weights")
        .into_iter()
        .map(|w| w + 0.05 * random.next())
        .collect();
    interpreter.set_weights(&begun);
    compiled.set_weights(&begun);
    if config.proximal > 0.0 {
        // Both terms of federated rules, or the proximal one alone.
        let device = *interpreter.device();
        optimizer.set_anchor(&interpreter.graph().sources, &begun, &device);
        compiled.set_anchor(&begun);
        let correction: Vec<f32> = begun.iter().map(|_| 0.1 * random.next()).collect();
        let correction = Some(&correction[..]).filter(|_| config.proximal > 1.0);
        optimizer.set_correction(&interpreter.graph().sources, correction, &device);
        compiled.set_correction(correction);
    }
    let noise = || ChaCha20Rng::from_seed([5; 32]);
    for (step, shape) in shapes.iter().enumerate() {
        let x = inputs(interpreter.graph(), shape, step as u64);
        let expected = interpreter
            .step(x.clone(), true, &mut optimizer, &mut noise(), gradient)
            .expect("a step");
        let found = compiled.step(x, true, &mut noise(), gradient).expect("a step");
        if let (Some(e), Some(f)) = (expected.gradient_norm, found.gradient_norm) {
            assert!((e - f).abs() < 1e-5 * e, "{name}: the norm is {f}, not {e}");
        }
        assert_eq!(expected.gradient_norm.is_some(), found.gradient_norm.is_some());
    }
    let (mut expected, mut found) = (begun.clone(), begun.clone());
    interpreter.read_weights(&mut expected).expect("weights");
    compiled.read_weights(&mut found);
    // What moved is compared, a weight vector at a time, at the scale of its own movement.
    for param in layout.params().iter().filter(|p| p.kind == ParamKind::Weight) {
        let moved = |after: &[f32]| -> Vec<f32> { param.range().map(|i| after[i] - begun[i]).collect() };
        let (e, f) = (moved(&expected), moved(&found));
        let largest = e.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let scale = if largest > 1e-6 { 1.0 / largest } else { 1.0 };
        let scaled = |v: Vec<f32>| -> Vec<f32> { v.into_iter().map(|v| v * scale).collect() };
        if let Some(problem) = apart(&scaled(e), &scaled(f), 1e-3) {
            return Some(format!("{name} ({isa:?}, {:?}): `{}`: {problem}", config.rule, param.name));
        }
    }
    let (mut expected, mut found) = (vec![0.0; layout.n_buffers()], vec![0.0; layout.n_buffers()]);
    interpreter.read_buffers(&mut expected).expect("buffers");
    compiled.read_buffers(&mut found);
    apart(&expected, &found, 1e-5).map(|problem| format!("{name} ({isa:?}): running statistics: {problem}"))
}

#[test]
fn networks_learn_the_same() {
    let mut wrong = Vec::new();
    for (name, model, shape) in networks() {
        for isa in Isa::available() {
            // One step: a second one would start from weights that differ by rounding, and deep networks make much of that.
            wrong.extend(compare(name, &model, std::slice::from_ref(&shape), &OptimizerConfig::sgd(1.0), isa));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_optimizer_moves_the_same() {
    let rules = [
        Rule::Sgd {
            momentum: 0.0,
            nesterov: false,
        },
        Rule::Sgd {
            momentum: 0.9,
            nesterov: false,
        },
        Rule::Sgd {
            momentum: 0.9,
            nesterov: true,
        },
        Rule::Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-3,
            decoupled: false,
        },
        Rule::Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-3,
            decoupled: true,
        },
        Rule::RmsProp {
            alpha: 0.9,
            epsilon: 1e-2,
            momentum: 0.0,
        },
        Rule::RmsProp {
            alpha: 0.9,
            epsilon: 1e-2,
            momentum: 0.5,
        },
    ];
    let model = mlp(&[20, 17, 33, 5], 1);
    // The last batch of a pass is smaller.
    let shapes = [vec![7, 20], vec![7, 20], vec![2, 20], vec![1, 20]];
    let mut wrong = Vec::new();
    for rule in rules {
        for (weight_decay, clip_norm, proximal) in [
            (0.0, None, 0.0),
            (0.01, Some(0.1), 0.0),
            (0.0, None, 0.5),
            (0.01, None, 2.0),
            (0.01, Some(0.1), 2.0),
        ] {
            let config = OptimizerConfig {
                rule,
                weight_decay,
                clip_norm,
                proximal,
                schedule: Schedule::Constant,
                lr: 0.05,
            };
            wrong.extend(compare("mlp", &model, &shapes, &config, Isa::best()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn optimizers_and_shapes_that_change_move_every_kind_of_weight_the_same() {
    let momentum = Rule::Sgd {
        momentum: 0.5,
        nesterov: false,
    };
    let adam = Rule::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-2,
        decoupled: true,
    };
    let lstm = RecurrentLm {
        vocabulary: 20,
        embedding: 8,
        hidden: 24,
        ..RecurrentLm::new(Cell::Lstm)
    };
    let mut wrong = Vec::new();
    let lenet = LeNet::default().build(weights()).expect("it is built");
    let lstm = lstm.build(weights()).expect("it is built");
    for (name, model, shapes) in [
        ("lenet", lenet, [vec![3, 1, 28, 28], vec![1, 1, 28, 28], vec![3, 1, 28, 28]]),
        ("lstm", lstm, [vec![3, 6], vec![2, 9], vec![3, 6]]),
    ] {
        for rule in [
            Rule::Sgd {
                momentum: 0.0,
                nesterov: false,
            },
            momentum,
            adam,
        ] {
            let config = OptimizerConfig {
                rule,
                weight_decay: if rule == momentum { 0.01 } else { 0.0 },
                clip_norm: None,
                proximal: 0.0,
                schedule: Schedule::Constant,
                // Large enough that what moves is more than rounding.
                lr: if rule == adam { 0.02 } else { 0.5 },
            };
            wrong.extend(compare(name, &model, &shapes, &config, Isa::best()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn list(name: &str, values: &[f32]) -> aimass_onnx::proto::TensorProto {
    floats(name, &[values.len()], values)
}

/// Shapes of graphs that a pattern of operations must not be mistaken for.
#[test]
fn patterns_that_only_look_like_one_are_the_same() {
    let named = |mut node: aimass_onnx::proto::NodeProto, name: &str| {
        name.clone_into(&mut node.name);
        node
    };
    let norm = |x: &str, y: &str| named(node("BatchNormalization", &[x, "scale", "bias", "mean", "var"], y, vec![]), y);
    let statistics = || {
        vec![
            list("scale", &[1.0, 0.5, 2.0]),
            list("bias", &[0.1, -0.1, 0.0]),
            list("mean", &[0.0, 0.1, 0.2]),
            list("var", &[1.0, 2.0, 0.5]),
        ]
    };
    let square = |name: &str| floats(name, &[3, 3], &[0.3, -0.2, 0.5, 0.1, 0.4, -0.6, -0.5, 0.2, 0.7]);
    let cases = [
        // One layer used twice: the second use reads the statistics that the first one moved.
        (
            "a batch norm used twice",
            testing::behind(
                17,
                vec![
                    norm("x", "first"),
                    named(node("Neg", &["x"], "minus", vec![]), "minus"),
                    norm("minus", "second"),
                    named(node("Relu", &["first"], "ra", vec![]), "ra"),
                    named(node("Relu", &["second"], "rb", vec![]), "rb"),
                    named(node("Add", &["ra", "rb"], "h", vec![]), "h"),
                ],
                statistics(),
            ),
        ),
        // Of the ReLU the shape alone is read.
        (
            "an activation that nothing computes with",
            testing::behind(
                17,
                vec![
                    named(node("MatMul", &["x", "inner"], "made", vec![]), "made"),
                    named(node("Relu", &["made"], "dead", vec![]), "dead"),
                    named(node("Shape", &["dead"], "shape", vec![]), "shape"),
                    named(node("Reshape", &["x", "shape"], "again", vec![]), "again"),
                    named(node("Add", &["again", "made"], "h", vec![]), "h"),
                ],
                vec![square("inner")],
            ),
        ),
        // The bias goes along another axis than the product's.
        (
            "a sum that spreads",
            testing::behind(
                17,
                vec![
                    named(node("MatMul", &["x", "inner"], "made", vec![]), "made"),
                    named(node("Reshape", &["made", "tall"], "column", vec![]), "column"),
                    named(node("Add", &["column", "spread"], "wide", vec![]), "wide"),
                    named(node("Relu", &["wide"], "active", vec![]), "active"),
                    named(node("Reshape", &["active", "rows"], "flat", vec![]), "flat"),
                    named(node("MatMul", &["flat", "narrow"], "h", vec![]), "h"),
                ],
                vec![
                    square("inner"),
                    list("spread", &[0.1, 0.2, -0.3]),
                    ints("tall", &[-1, 1]),
                    ints("rows", &[-1, 9]),
                    floats("narrow", &[9, 3], &(0..27).map(|i| (i % 5) as f32 * 0.1 - 0.2).collect::<Vec<_>>()),
                ],
            ),
        ),
    ];
    let mut wrong = Vec::new();
    for (name, model) in cases {
        wrong.extend(compare(
            name,
            &model,
            &[vec![6, 3], vec![6, 3]],
            &OptimizerConfig::sgd(0.1),
            Isa::best(),
        ));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As many channels as positions: scale and bias of channels must not be taken for those of positions.
#[test]
fn instance_norm_of_as_many_channels_as_positions() {
    let model = testing::model(
        17,
        &[-1, 3, 3],
        vec![
            node("InstanceNormalization", &["x", "scale", "bias"], "h", vec![]),
            node("Flatten", &["h"], "f", vec![]),
            node("MatMul", &["f", "narrow"], "y", vec![]),
        ],
        vec![
            list("scale", &[1.0, 0.5, 2.0]),
            list("bias", &[0.1, -0.1, 0.3]),
            floats("narrow", &[9, 2], &(0..18).map(|i| (i % 5) as f32 * 0.1 - 0.2).collect::<Vec<_>>()),
        ],
    );
    let problem = compare("instance norm", &model, &[vec![4, 3, 3]], &OptimizerConfig::sgd(0.1), Isa::best());
    assert!(problem.is_none(), "{problem:?}");
}

#[test]
fn what_is_no_number_stays_visible() {
    let model = mlp(&[20, 17, 5], 1);
    let mut compiled = Compiled::inference(Graph::new(&model, None).expect("a graph"));
    for rows in [2, 100] {
        let mut values = vec![0.5; rows * 20];
        values[3] = f32::NAN;
        let outputs = compiled
            .forward(vec![Array::floats(vec![rows, 20], values).expect("rows")])
            .expect("outputs");
        let first = &outputs[0].as_floats().expect("floats")[..5];
        assert!(first.iter().all(|v| v.is_nan()), "{first:?}");
    }
}

/// All weights after five steps, the last on a smaller batch.
fn trained(model: &Model, shape: &[usize], isa: Isa, threads: usize, config: &OptimizerConfig) -> Vec<u32> {
    let layout = testing::layout(model);
    let graph = Graph::new(model, Some(&layout)).expect("a graph");
    let mut compiled = Compiled::new(graph, config.clone()).with_isa(isa);
    // Everything that can be cut is.
    compiled.set_team(Team::new(threads).cutting_from(0));
    let noise = || ChaCha20Rng::from_seed([5; 32]);
    for step in 0..5 {
        let mut shape = shape.to_vec();
        shape[0] -= usize::from(step == 4);
        let x = inputs(compiled.graph(), &shape, step);
        compiled.step(x, true, &mut noise(), gradient).expect("a step");
    }
    let mut weights = vec![0.0; layout.n_weights()];
    compiled.read_weights(&mut weights);
    weights.into_iter().map(f32::to_bits).collect()
}

#[test]
fn any_number_of_threads_learns_the_same_bits() {
    let adam = OptimizerConfig {
        rule: Rule::Adam {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-3,
            decoupled: true,
        },
        clip_norm: Some(0.5),
        ..OptimizerConfig::sgd(0.001)
    };
    let mut all = networks();
    all.retain(|(name, ..)| *name != "resnet18");
    let narrow = ResNet18 {
        width: 8,
        ..ResNet18::default()
    };
    all.push(("narrow resnet18", narrow.build(weights()).expect("it is built"), vec![3, 3, 32, 32]));
    // Rows enough for products that are cut by rows.
    all.push(("wide mlp", mlp(&[70, 130, 90, 5], 1), vec![270, 70]));
    for (name, model, shape) in all {
        for isa in Isa::available() {
            for config in [OptimizerConfig::sgd(0.01), adam.clone()] {
                let alone = trained(&model, &shape, isa, 1, &config);
                for threads in [2, 3] {
                    let found = trained(&model, &shape, isa, threads, &config);
                    assert!(found == alone, "{name} ({isa:?}, {:?}): {threads} threads", config.rule);
                }
            }
        }
    }
}

/// `y = x w` of one weight, which is 2.
fn one_weight() -> (Model, aimass_onnx::ParamLayout) {
    let model = testing::model(
        17,
        &[1, 1],
        vec![node("MatMul", &["x", "w"], "y", vec![])],
        vec![floats("w", &[1, 1], &[2.0])],
    );
    let layout = testing::layout(&model);
    (model, layout)
}

/// FedProx and SCAFFOLD against figures by hand: the gradient is 1, the rate 1/2, all figures are exact.
#[test]
fn federated_terms_are_those_of_the_papers() {
    let (model, layout) = one_weight();
    let graph = || Graph::new(&model, Some(&layout)).expect("a graph");
    let sgd = OptimizerConfig::sgd(0.5);
    let proximal = OptimizerConfig {
        proximal: 0.25,
        ..sgd.clone()
    };
    let clipped = OptimizerConfig {
        clip_norm: Some(0.5),
        ..proximal.clone()
    };
    for (config, correction, expected) in [
        (sgd, Some(0.5), [1.25, 0.5, -0.25]),
        // w - 1/2 (1 + 1/4 (w - 2))
        (proximal.clone(), None, [1.5, 1.0625, 0.679_687_5]),
        (proximal, Some(0.5), [1.25, 0.593_75, 0.019_531_25]),
        // 1 + 1/4 (w - 2) is 1, 7/8, 3/4: clipped to 1/2, the correction behind that.
        (clipped, Some(0.5), [1.5, 1.0, 0.5]),
    ] {
        let mut compiled = Compiled::new(graph(), config.clone());
        let mut interpreter = Executor::<Cpu>::new(graph());
        let mut optimizer = Optimizer::<Cpu>::new(config.clone());
        let device = *interpreter.device();
        let correction = correction.map(|c| [c]);
        let correction = correction.as_ref().map(|c| &c[..]);
        compiled.set_anchor(&[2.0]);
        compiled.set_correction(correction);
        optimizer.set_anchor(&interpreter.graph().sources, &[2.0], &device);
        optimizer.set_correction(&interpreter.graph().sources, correction, &device);
        for (step, expected) in expected.into_iter().enumerate() {
            let x = || vec![Array::floats(vec![1, 1], vec![1.0]).expect("a value")];
            let noise = || ChaCha20Rng::from_seed([5; 32]);
            let one = |_: &[Array]| Ok(vec![Some(vec![1.0])]);
            let found = compiled.step(x(), true, &mut noise(), one).expect("a step");
            interpreter.step(x(), true, &mut optimizer, &mut noise(), one).expect("a step");
            let (mut a, mut b) = ([0.0], [0.0]);
            compiled.read_weights(&mut a);
            interpreter.read_weights(&mut b).expect("weights");
            assert_eq!((a[0], b[0]), (expected, expected), "{config:?}, {correction:?}, step {step}");
            if config.clip_norm.is_some() {
                assert_eq!(found.gradient_norm, Some([1.0, 0.875, 0.75][step]));
            }
        }
    }
}

/// As where PyTorch has no gradient: neither decay nor momentum nor a federated term moves what the loss does not read.
#[test]
fn a_weight_without_a_gradient_stays() {
    let both = testing::model(
        17,
        &[1, 1],
        vec![node("MatMul", &["x", "w"], "y", vec![]), node("MatMul", &["x", "v"], "z", vec![])],
        vec![floats("w", &[1, 1], &[2.0]), floats("v", &[1, 1], &[3.0])],
    );
    let mut proto = both.proto().clone();
    let graph = proto.graph.as_mut().expect("a graph");
    let mut other = graph.output[0].clone();
    "z".clone_into(&mut other.name);
    graph.output.push(other);
    let model = Model::from_proto(proto).expect("a model");
    let layout = testing::layout(&model);
    let names = ["y".to_owned(), "z".to_owned()];
    let graph = || Graph::with_outputs(&model, Some(&layout), &names).expect("a graph");
    let momentum = Rule::Sgd {
        momentum: 0.5,
        nesterov: false,
    };
    let decaying = OptimizerConfig {
        rule: momentum,
        weight_decay: 0.5,
        proximal: 0.5,
        clip_norm: Some(10.0),
        ..OptimizerConfig::sgd(0.5)
    };
    for config in [OptimizerConfig::sgd(0.5), decaying] {
        let mut compiled = Compiled::new(graph(), config.clone());
        let mut interpreter = Executor::<Cpu>::new(graph());
        let mut optimizer = Optimizer::<Cpu>::new(config.clone());
        let device = *interpreter.device();
        compiled.set_anchor(&[0.0, 0.0]);
        compiled.set_correction(Some(&[1.0, 1.0]));
        optimizer.set_anchor(&interpreter.graph().sources, &[0.0, 0.0], &device);
        optimizer.set_correction(&interpreter.graph().sources, Some(&[1.0, 1.0]), &device);
        // Both, one alone, both.
        for reads in [true, false, false, true] {
            let x = || vec![Array::floats(vec![1, 1], vec![1.0]).expect("a value")];
            let noise = || ChaCha20Rng::from_seed([5; 32]);
            let some = |_: &[Array]| Ok(vec![Some(vec![0.9]), reads.then(|| vec![0.7])]);
            let mut before = [0.0; 2];
            compiled.read_weights(&mut before);
            compiled.step(x(), true, &mut noise(), some).expect("a step");
            interpreter.step(x(), true, &mut optimizer, &mut noise(), some).expect("a step");
            let (mut a, mut b) = ([0.0; 2], [0.0; 2]);
            compiled.read_weights(&mut a);
            interpreter.read_weights(&mut b).expect("weights");
            assert!(apart(&b, &a, 1e-6).is_none(), "{config:?}: {a:?} for {b:?}");
            let [first, second] = ["w", "v"].map(|name| layout.params().iter().find(|p| p.name == name).expect("a weight").range().start);
            assert!(
                (reads || a[first] != before[first]) && (a[second] != before[second]) == reads,
                "{config:?}: {before:?} to {a:?}"
            );
        }
    }
}
