use aimass_onnx::build::{InitialWeights, TransformerClassifier, mlp};
use aimass_onnx::lora::{self, Adapters};
use aimass_onnx::proto::{AttributeProto, TensorProto};
use aimass_onnx::{ParamKind, TrainableRules};

use super::*;
use crate::metrics::Average;
use crate::testing::{self, Numbers, clouds, config, floats, node};
use crate::{ClassAxis, CrossEntropy, Engine, OptimizerConfig, TrainConfig, Trainer};

fn adapters(targets: &[&str]) -> Adapters {
    Adapters {
        targets: targets.iter().map(|&t| t.to_owned()).collect(),
        rank: 2,
        alpha: 6.0,
        seed: 1,
    }
}

/// Both factors of every adapter filled with numbers, so that it does something.
fn filled(adapted: &Model) -> Model {
    let layout = lora::layout(adapted, &[]).expect("adapters");
    let mut draw = Numbers::new(9);
    let weights: Vec<f32> = (0..layout.n_weights()).map(|_| 0.3 * draw.next()).collect();
    adapted.with_weights(&layout, &weights).expect("the same layout")
}

fn matrix(name: &str, shape: &[usize], seed: u64) -> TensorProto {
    let mut draw = Numbers::new(seed);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| draw.next()).collect();
    floats(name, shape, &values)
}

/// Largest difference of two lists, by the largest of the second.
fn difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    let largest = b.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / largest
}

#[test]
fn merged_adapters_compute_the_same_wherever_the_weight_is_used() {
    let gemm = |attributes: &[(&str, i64)], inputs: &[&str]| {
        let mut attributes: Vec<AttributeProto> = attributes.iter().map(|(name, v)| AttributeProto::int(name, *v)).collect();
        attributes.push(AttributeProto::float("alpha", 0.5));
        node("Gemm", inputs, "y", attributes)
    };
    let transpose = |from: &str, to: &str| node("Transpose", &[from], to, vec![AttributeProto::int_list("perm", &[1, 0])]);
    let picked = |axis: &str, value: i64| AttributeProto::int(axis, value);
    let cases = [
        (
            "right",
            vec![node("MatMul", &["x", "w"], "y", vec![])],
            vec![matrix("w", &[3, 5], 1)],
        ),
        (
            "left",
            vec![transpose("x", "t"), node("MatMul", &["w", "t"], "l", vec![]), transpose("l", "y")],
            vec![matrix("w", &[5, 3], 1)],
        ),
        (
            "gemm",
            vec![gemm(&[], &["x", "w", "b"])],
            vec![matrix("w", &[3, 5], 1), matrix("b", &[5], 2)],
        ),
        (
            "gemm transB",
            vec![gemm(&[("transB", 1)], &["x", "w"])],
            vec![matrix("w", &[5, 3], 1)],
        ),
        (
            "gemm transA",
            vec![transpose("x", "t"), gemm(&[("transA", 1)], &["t", "w"])],
            vec![matrix("w", &[3, 5], 1)],
        ),
        (
            "gemm left",
            vec![
                node("Gemm", &["w", "x"], "g", vec![picked("transA", 1), picked("transB", 1)]),
                transpose("g", "y"),
            ],
            vec![matrix("w", &[3, 5], 1)],
        ),
        (
            "behind a transpose",
            vec![transpose("w", "wt"), node("MatMul", &["x", "wt"], "y", vec![])],
            vec![matrix("w", &[5, 3], 1)],
        ),
        (
            "tied",
            vec![
                node("MatMul", &["x", "w"], "h", vec![]),
                transpose("w", "wt"),
                node("MatMul", &["h", "wt"], "y", vec![]),
            ],
            vec![matrix("w", &[3, 5], 1)],
        ),
        (
            "a table",
            vec![
                node("Gather", &["w", "i"], "rows", vec![]),
                node("MatMul", &["x", "rows"], "y", vec![]),
            ],
            vec![matrix("w", &[6, 5], 1), testing::ints("i", &[4, 0, 4])],
        ),
    ];
    let x: Vec<f32> = (0..12).map(|i| (i as f32 * 1.3).sin()).collect();
    for (name, nodes, initializers) in cases {
        let original = testing::model(17, &[-1, 3], nodes, initializers);
        let fresh = lora::add(&original, &adapters(&["w"])).expect("can have an adapter");
        let run = |model: &Model| predict(model, &x, 3).expect("computes").0;
        assert_eq!(run(&fresh), run(&original), "{name}: a fresh adapter adds nothing");
        let trained = filled(&fresh);
        let merged = lora::merge(&trained).expect("merges");
        assert!(
            difference(&run(&trained), &run(&original)) > 0.01,
            "{name}: the adapter does nothing"
        );
        let off = difference(&run(&merged), &run(&trained));
        assert!(off < 1e-6, "{name}: {off}");
    }
}

#[test]
fn a_transformer_with_adapters_everywhere_merges_to_the_same_outputs() {
    let original = TransformerClassifier::default().build(InitialWeights::seeded(2)).expect("builds");
    let trained = filled(&lora::add(&original, &adapters(&["*"])).expect("can have adapters"));
    let merged = lora::merge(&trained).expect("merges");
    let run = |model: &Model| {
        let mut engine = Engine::new(model).expect("runs");
        let name = engine.inputs()[0].to_owned();
        let tokens = Array::ints(vec![2, 9], (0..18).map(|i| i * 5 % 13).collect()).expect("fits");
        let outputs = engine.run([(name, tokens)].into()).expect("runs");
        outputs[0].as_floats().expect("floats").to_vec()
    };
    let off = difference(&run(&merged), &run(&trained));
    assert!(off < 2e-5, "{off}");
}

#[test]
fn only_the_adapters_train_and_they_learn() {
    let data = clouds(120, 6, 4, 8);
    let original = mlp(&[6, 16, 4], 3);
    let adapted = lora::add(&original, &adapters(&[])).expect("can have adapters");
    let layout = lora::layout(&adapted, &[]).expect("adapters");
    let trains = layout.params().iter().filter(|p| p.kind == ParamKind::Weight);
    assert!(trains.clone().count() == 4 && trains.clone().all(|p| p.name.contains(".lora_")));
    let config = TrainConfig {
        optimizer: OptimizerConfig::sgd(0.2),
        ..config(Loss::cross_entropy())
    };
    let mut trainer = Trainer::new(&adapted, &layout, &config).expect("a trainer");
    for _ in 0..150 {
        trainer.step(testing::batch(&data)).expect("a step");
    }
    let trained = adapted
        .with_weights(&layout, &trainer.weights().expect("weights"))
        .expect("the same layout");
    for tensor in original.initializers() {
        let same = trained.initializer(&tensor.proto.name).expect("is there").proto == tensor.proto;
        assert!(same, "{} changed", tensor.proto.name);
    }
    let head = Loss::cross_entropy().into();
    let before = evaluate(&original, &data, &head).expect("evaluates");
    let with = evaluate(&trained, &data, &head).expect("evaluates");
    let merged = evaluate(&lora::merge(&trained).expect("merges"), &data, &head).expect("evaluates");
    assert!(with.loss < 0.3 * before.loss, "{} to {}", before.loss, with.loss);
    assert!((merged.loss - with.loss).abs() < 1e-5 && merged.accuracy == with.accuracy);
}

#[test]
fn an_evaluation_is_the_same_in_any_batches() {
    let data = clouds(101, 6, 3, 5);
    let model = mlp(&[6, 8, 3], 1);
    let metrics = [Metric::F1(Average::Macro), Metric::Auc, Metric::Perplexity, Metric::Top(2)];
    let run = |rows: usize| {
        let mut evaluator = Evaluator::new(&model, &[Loss::cross_entropy().into()], &metrics).expect("fits");
        for (features, targets) in data.features().chunks(rows * 6).zip(data.targets().chunks(rows)) {
            evaluator
                .add(Batch::rows(features.to_vec(), targets.to_vec()).expect("rows"))
                .expect("adds up");
        }
        evaluator.finish().expect("rows")
    };
    let (one, many) = (run(1), run(64));
    assert_eq!(one.examples, 101);
    assert!((one.loss - many.loss).abs() < 1e-6);
    assert_eq!(one.accuracy, many.accuracy);
    let (one, many) = (&one.heads[0], &many.heads[0]);
    assert_eq!(one.values.len(), 5, "accuracy comes by itself");
    for (metric, value) in &one.values {
        assert!((value - many.values[metric]).abs() < 1e-6, "{metric}");
    }
    assert!((one.values[&Metric::Perplexity] - one.loss.exp()).abs() < 1e-9);
}

#[test]
fn heads_are_measured_apart_and_their_losses_add_up() {
    let data = clouds(20, 6, 3, 5);
    let model = mlp(&[6, 8, 3], 1);
    let (plain, smooth) = (
        Head::from(Loss::cross_entropy()),
        Head {
            weight: 0.5,
            ..Head::from(Loss::CrossEntropy(CrossEntropy {
                label_smoothing: 0.2,
                ..CrossEntropy::default()
            }))
        },
    );
    let one = |head: &Head| evaluate(&model, &data, head).expect("evaluates");
    let mut evaluator = Evaluator::new(&model, &[plain.clone(), smooth.clone()], &[]).expect("fits");
    let mut batch = testing::batch(&data);
    batch.targets.push(batch.targets[0].clone());
    evaluator.add(batch).expect("adds up");
    let both = evaluator.finish().expect("rows");
    let apart = (one(&plain), one(&smooth));
    assert_eq!(
        (both.heads[0].loss, both.heads[1].loss),
        (apart.0.heads[0].loss, apart.1.heads[0].loss)
    );
    assert!((both.loss - (both.heads[0].loss + 0.5 * both.heads[1].loss)).abs() < 1e-12);
}

#[test]
fn token_level_models_are_evaluated_and_trained_in_both_layouts() {
    // [batch, 3 positions] -> logits of 4 classes at each.
    let expand = node("Unsqueeze", &["x", "last"], "h", vec![]);
    let product = node("MatMul", &["h", "w"], "y", vec![]);
    let swapped = vec![
        expand.clone(),
        node("MatMul", &["h", "w"], "p", vec![]),
        node("Transpose", &["p"], "y", vec![AttributeProto::int_list("perm", &[0, 2, 1])]),
    ];
    let weights = || vec![matrix("w", &[1, 4], 3), testing::ints("last", &[-1])];
    let last = testing::model(17, &[-1, 3], vec![expand, product], weights());
    let second = testing::model(17, &[-1, 3], swapped, weights());
    let ignoring = |class_axis| {
        Loss::CrossEntropy(CrossEntropy {
            ignore_index: Some(-100),
            class_axis,
            ..CrossEntropy::default()
        })
    };
    let batch = || Batch {
        inputs: vec![Array::floats(vec![2, 3], vec![0.1, -0.4, 0.8, 1.0, 0.3, -0.9]).expect("fits")],
        targets: vec![Array::ints(vec![2, 3], vec![0, -100, 3, 1, 2, -100]).expect("fits")],
        weights: None,
        flat: false,
    };
    let mut found = Vec::new();
    for (model, axis) in [(&last, ClassAxis::Last), (&second, ClassAxis::Second)] {
        let head = Head::from(ignoring(axis));
        let mut evaluator = Evaluator::new(model, std::slice::from_ref(&head), &[Metric::Perplexity]).expect("fits");
        evaluator.add(batch()).expect("adds up");
        let evaluation = evaluator.finish().expect("rows");
        let layout = model.layout(&TrainableRules::default()).expect("trains");
        let mut trainer = Trainer::new(model, &layout, &config(ignoring(axis))).expect("a trainer");
        let report = trainer.step(batch()).expect("a step");
        assert!((f64::from(report.loss) - evaluation.loss).abs() < 1e-6);
        found.push((evaluation.loss, trainer.weights().expect("weights")));
    }
    assert!((found[0].0 - found[1].0).abs() < 1e-6);
    assert!(difference(&found[0].1, &found[1].1) < 1e-6);
}

#[test]
fn what_can_not_be_measured_is_refused() {
    let model = mlp(&[6, 8, 3], 1);
    let new = |heads: &[Head], metrics: &[Metric]| Evaluator::new(&model, heads, metrics).map(|_| ()).expect_err("refused").to_string();
    assert!(new(&[], &[]).contains("name at least one head"));
    assert!(new(&[Loss::Mse.into()], &[Metric::Auc]).contains("the metric auc says nothing about this loss"));
    let bad = Loss::CrossEntropy(CrossEntropy {
        label_smoothing: 2.0,
        ..CrossEntropy::default()
    });
    assert!(new(&[bad.into()], &[]).contains("`label_smoothing` is 2"));
    let mut evaluator = Evaluator::new(&model, &[Loss::cross_entropy().into()], &[]).expect("fits");
    let error = evaluator
        .add(Batch::rows(vec![0.0; 12], vec![0.0, 3.0]).expect("rows"))
        .expect_err("no such class");
    assert!(error.to_string().contains("row 2 has the target 3"), "{error}");
    assert!(
        evaluator
            .finish()
            .expect_err("no rows")
            .to_string()
            .contains("nothing can be evaluated")
    );
}

#[test]
fn should_hand_out_what_nodes_pass_to_each_other_batch_by_batch() {
    let model = mlp(&[4, 6, 3], 2);
    let data = clouds(23, 4, 3, 1);
    let nodes = &model.graph().node;
    let hidden = nodes[0].output[0].clone();
    let (input, output) = (model.inputs()[0].name.clone(), model.outputs()[0].name.clone());
    let weight = model.initializers().next().expect("a weight").proto.name.clone();
    let watch = Watch {
        batch: 5,
        rows: 18,
        ..Watch::new(vec![hidden, output, input, weight.clone()])
    };
    let mut seen: Vec<Vec<f32>> = vec![Vec::new(); 3];
    let mut batches = Vec::new();
    let rows = outputs(&model, &data, &watch, &mut |values| {
        assert_eq!(values.len(), 4);
        batches.push(values[0].shape()[0]);
        let stored = model.initializer(&weight).expect("there").to_f32();
        assert_eq!(values[3].as_floats(), stored.as_deref());
        seen.iter_mut()
            .zip(values)
            .for_each(|(all, some)| all.extend_from_slice(some.as_floats().expect("floats")));
        std::ops::ControlFlow::Continue(())
    });
    assert_eq!((rows.expect("runs"), &batches[..]), (18, &[5, 5, 5, 3][..]));
    assert_eq!(seen[2], data.features()[..18 * 4]);
    let (expected, _) = predict(&model, &data.features()[..18 * 4], 4).expect("predicts");
    assert_eq!(testing::apart(&expected, &seen[1], 1e-6), None);
    assert_eq!(seen[0].len(), 18 * 6);

    let mut calls = 0;
    let stopped = outputs(&model, &data, &watch, &mut |_| {
        calls += 1;
        std::ops::ControlFlow::Break(())
    });
    assert_eq!((stopped.expect("runs"), calls), (5, 1));
    let refused = |watch: &Watch| {
        outputs(&model, &data, watch, &mut |_| std::ops::ControlFlow::Continue(()))
            .expect_err("refused")
            .to_string()
    };
    assert!(refused(&Watch::new(vec!["gone".to_owned()])).contains("no value `gone`"));
    assert!(refused(&Watch::new(Vec::new())).contains("nothing to watch"));
    assert!(refused(&Watch { batch: 0, ..watch.clone() }).contains("nothing to watch"));
    assert!(refused(&Watch { rows: 0, ..watch }).contains("no rows"));
}
