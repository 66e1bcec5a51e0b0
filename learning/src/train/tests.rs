use std::ops::ControlFlow;

use aimass_onnx::build::{cnn_mcmahan, mlp};
use aimass_onnx::proto::AttributeProto;
use aimass_onnx::{Model, TrainableRules};

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::testing::{self, clouds, config, node};
use crate::{Dataset, Trainer, evaluate, fit_check, predict};

fn go(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn trained(model: &Model, data: &Dataset, config: &TrainConfig) -> (Model, LocalUpdate) {
    let layout = testing::layout(model);
    let update = train(model, &layout, data, config, &mut go).expect("trains");
    let base = model.weights(&layout).expect("weights");
    let weights: Vec<f32> = base.iter().zip(&update.delta).map(|(w, d)| w + d).collect();
    (model.with_weights(&layout, &weights).expect("the same layout"), update)
}

#[test]
fn an_mlp_learns_an_easy_set() {
    let data = clouds(400, 8, 4, 1);
    let model = mlp(&[8, 16, 4], 3);
    let before = evaluate(&model, &data, &Loss::cross_entropy().into()).expect("evaluates");
    let (after, update) = trained(
        &model,
        &data,
        &TrainConfig {
            epochs: 5,
            batch: 10,
            ..config(Loss::cross_entropy())
        },
    );
    let result = evaluate(&after, &data, &Loss::cross_entropy().into()).expect("evaluates");
    assert!(result.accuracy.expect("classes") > 0.95, "{result:?}");
    assert!(result.loss < before.loss && result.examples == 400);
    assert_eq!((update.examples, update.steps), (400, 200));
    assert!(update.train_loss > 0.0 && update.train_loss < before.loss as f32);
}

#[test]
fn the_optical_digits_are_learnt() {
    let file = include_bytes!("../../../examples/optical-digits/digits.csv.gz");
    let all = Dataset::from_csv_bytes("digits.csv.gz", file, &[], "label").expect("reads");
    assert_eq!((all.len(), all.n_features()), (1797, 64));
    let scaled: Vec<f32> = all.features().iter().map(|v| v / 16.0).collect();
    let all = Dataset::new(scaled, all.targets().to_vec(), 64).expect("whole rows");
    let (test, rest) = crate::data::split(all.len(), 0.2, &mut ChaCha20Rng::from_seed([1; 32]));
    let (test, rest) = (all.select(&test).expect("there"), all.select(&rest).expect("there"));
    let (after, _) = trained(
        &mlp(&[64, 64, 10], 3),
        &rest,
        &TrainConfig {
            epochs: 15,
            batch: 10,
            ..config(Loss::cross_entropy())
        },
    );
    let result = evaluate(&after, &test, &Loss::cross_entropy().into()).expect("evaluates");
    assert!(result.accuracy.expect("classes") > 0.95, "{result:?}");
}

#[test]
fn a_line_is_regressed() {
    let features: Vec<f32> = (0..64).map(|i| i as f32 / 64.0).collect();
    let targets = features.iter().map(|x| 3.0 * x - 1.0).collect();
    let data = Dataset::new(features, targets, 1).expect("whole rows");
    let (after, _) = trained(
        &mlp(&[1, 1], 3),
        &data,
        &TrainConfig {
            epochs: 200,
            optimizer: OptimizerConfig::sgd(0.2),
            ..config(Loss::Mse)
        },
    );
    let result = evaluate(&after, &data, &Loss::Mse.into()).expect("evaluates");
    assert!(result.loss < 1e-4 && result.accuracy.is_none(), "{result:?}");
    let (outputs, n) = predict(&after, &[0.5], 1).expect("predicts");
    assert!(n == 1 && (outputs[0] - 0.5).abs() < 0.02, "{outputs:?}");
}

#[test]
fn the_cnn_of_mcmahan_steps_along_its_gradient() {
    let model = cnn_mcmahan(5);
    let layout = testing::layout(&model);
    const LR: f32 = 1e-5;
    let data = clouds(4, 784, 2, 9);
    let quiet: Vec<f32> = data.features().iter().map(|v| 0.1 * v).collect();
    let data = Dataset::new(quiet, data.targets().to_vec(), 784).expect("whole rows");
    let mut trainer = Trainer::new(
        &model,
        &layout,
        &TrainConfig {
            optimizer: OptimizerConfig::sgd(LR),
            ..config(Loss::cross_entropy())
        },
    )
    .expect("a trainer");
    let base = trainer.weights().expect("weights");
    assert_eq!(base.len(), 1_663_370);
    let before = f64::from(trainer.step(testing::batch(&data)).expect("a step").loss);
    let delta: Vec<f64> = trainer
        .weights()
        .expect("weights")
        .iter()
        .zip(&base)
        .map(|(a, b)| f64::from(a - b))
        .collect();
    assert!(
        layout.params().iter().all(|p| delta[p.range()].iter().any(|d| *d != 0.0)),
        "every layer must move"
    );
    // The delta is -lr times the gradient, so the loss must fall by about |delta|^2 / lr to first order.
    let promised = delta.iter().map(|d| d * d).sum::<f64>() / f64::from(LR);
    let after = evaluate(
        &model.with_weights(&layout, &trainer.weights().expect("weights")).expect("layout"),
        &data,
        &Loss::cross_entropy().into(),
    )
    .expect("evaluates");
    let fell = before - after.loss;
    assert!(
        (fell / promised - 1.0).abs() < 0.1,
        "fell by {fell}, the gradient promised {promised}"
    );
}

#[test]
fn a_row_of_features_becomes_the_shape_that_the_model_takes() {
    let model = cnn_mcmahan(5);
    let fit = fit_check(&model, &testing::layout(&model), 784, &Loss::cross_entropy().into(), Some(10)).expect("fits");
    assert_eq!((fit.outputs, fit.weights), (10, 1_663_370));
    let (outputs, n) = predict(&model, &vec![0.1; 2 * 784], 784).expect("predicts");
    assert!(n == 10 && outputs.len() == 20 && outputs[..10] == outputs[10..]);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_does_not() {
    let data = clouds(50, 6, 3, 2);
    let model = mlp(&[6, 8, 3], 1);
    let base = TrainConfig {
        epochs: 2,
        ..config(Loss::cross_entropy())
    };
    let delta = |config: &TrainConfig| trained(&model, &data, config).1.delta;
    let bits = |delta: Vec<f32>| delta.into_iter().map(f32::to_bits).collect::<Vec<_>>();
    assert_eq!(bits(delta(&base)), bits(delta(&base)));
    assert_ne!(bits(delta(&base)), bits(delta(&TrainConfig { seed: [8; 32], ..base })));
}

#[test]
fn zero_epochs_and_a_zero_rate_change_nothing() {
    let data = clouds(20, 6, 3, 2);
    let model = mlp(&[6, 3], 1);
    for config in [
        TrainConfig {
            epochs: 0,
            ..config(Loss::cross_entropy())
        },
        TrainConfig {
            optimizer: OptimizerConfig::sgd(0.0),
            ..config(Loss::cross_entropy())
        },
    ] {
        let (_, update) = trained(&model, &data, &config);
        assert!(update.delta.iter().all(|d| *d == 0.0) && update.examples == 20, "{update:?}");
        assert_eq!(update.train_loss == 0.0, config.epochs == 0);
    }
}

#[test]
fn the_last_batch_is_smaller_and_all_rows_count_once() {
    let data = clouds(10, 6, 3, 2);
    let model = mlp(&[6, 3], 1);
    let mut seen = Vec::new();
    let config = TrainConfig {
        epochs: 2,
        ..config(Loss::cross_entropy())
    };
    train(&model, &testing::layout(&model), &data, &config, &mut |p| {
        seen.push((p.step, p.steps));
        ControlFlow::Continue(())
    })
    .expect("trains");
    assert_eq!(seen, [(1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]);
    let (_, update) = trained(&model, &data, &TrainConfig { batch: 1000, ..config });
    assert_eq!(update.steps, 2, "a batch larger than the data is the data");
}

#[test]
fn frozen_weights_stay() {
    let data = clouds(20, 6, 3, 2);
    let model = mlp(&[6, 5, 3], 1);
    let layout = model
        .layout(&TrainableRules::new(&["!fc1.*".to_owned()]).expect("globs"))
        .expect("fc2 trains");
    assert_eq!(layout.n_weights(), 5 * 3 + 3);
    let update = train(&model, &layout, &data, &config(Loss::cross_entropy()), &mut go).expect("trains");
    assert!(update.delta.len() == 18 && update.delta.iter().any(|d| *d != 0.0));
}

#[test]
fn a_diverging_run_names_its_step_and_returns_nothing() {
    let data = clouds(40, 6, 3, 2);
    let model = mlp(&[6, 16, 3], 1);
    let result = train(
        &model,
        &testing::layout(&model),
        &data,
        &TrainConfig {
            optimizer: OptimizerConfig::sgd(1e30),
            ..config(Loss::cross_entropy())
        },
        &mut go,
    );
    match result {
        Err(TrainError::Diverged { step, loss }) => assert!(step > 1 && !loss.is_finite()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_caller_can_stop_it() {
    let data = clouds(40, 6, 3, 2);
    let model = mlp(&[6, 3], 1);
    let stop = &mut |p: Progress| {
        if p.step == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let result = train(&model, &testing::layout(&model), &data, &config(Loss::cross_entropy()), stop);
    assert!(matches!(result, Err(TrainError::Stopped { step: 3 })), "{result:?}");
}

#[test]
fn data_that_does_not_fit_is_refused_before_training() {
    let model = mlp(&[6, 3], 1);
    let layout = testing::layout(&model);
    let run = |data: &Dataset, config: &TrainConfig| {
        train(&model, &layout, data, config, &mut |_| panic!("must not train"))
            .expect_err("refused")
            .to_string()
    };
    let base = config(Loss::cross_entropy());
    let one = |targets: Vec<f32>, n: usize| Dataset::new(vec![0.5; targets.len() * n], targets, n).expect("whole rows");
    let huge = [vec![1 << 40, 6]];
    let said = crate::program::Graph::new(&model, Some(&layout))
        .expect("a graph")
        .plan(&huge, crate::program::Mode::Inference)
        .expect_err("past every limit")
        .to_string();
    assert!(said.contains("past the memory limit"), "{said}");
    for (said, text) in [
        (run(&one(vec![0.0], 5), &base), "takes 6 features a row, the data has 5"),
        (
            run(&one(vec![0.0, 3.0], 6), &base),
            "row 2 has the target 3, the model's classes are 0 to 2",
        ),
        (run(&one(vec![0.5], 6), &base), "row 1 has the target 0.5"),
        (run(&one(vec![0.0, 0.0, -1.0], 6), &base), "row 3 has the target -1"),
        (run(&one(vec![f32::NAN], 6), &base), "row 1 has the target NaN"),
        (run(&one(vec![], 6), &base), "no rows"),
        (run(&one(vec![0.0], 6), &TrainConfig { batch: 0, ..base.clone() }), "the batch is 0"),
        (
            run(
                &one(vec![0.0], 6),
                &TrainConfig {
                    optimizer: OptimizerConfig::sgd(f32::NAN),
                    ..base.clone()
                },
            ),
            "the learning rate is NaN",
        ),
        (
            run(&one(vec![0.0], 6), &config(Loss::Mse)),
            "mse with one target needs an output [batch] or [batch, 1]",
        ),
    ] {
        assert!(said.contains(text), "expected `{text}`, got `{said}`");
    }
    let too_many = fit_check(&model, &layout, 6, &Loss::cross_entropy().into(), Some(4))
        .expect_err("4 classes, 3 outputs")
        .to_string();
    assert!(too_many.contains("4 classes, the model 3 outputs"), "{too_many}");
    assert!(
        predict(&model, &[0.0; 7], 6)
            .expect_err("half a row")
            .to_string()
            .contains("7 features do not make rows of 6")
    );
    assert!(
        evaluate(&model, &one(vec![3.0], 6), &Loss::cross_entropy().into())
            .expect_err("no such class")
            .to_string()
            .contains("row 1")
    );
}

#[test]
fn a_batch_that_is_frozen_into_the_graph_is_refused() {
    let fixed = testing::model(
        17,
        &[4, 3],
        vec![node("Gemm", &["x", "w"], "y", vec![])],
        vec![testing::floats("w", &[3, 2], &[0.1; 6])],
    );
    let check = |model: &Model| {
        fit_check(model, &testing::layout(model), 3, &Loss::cross_entropy().into(), None)
            .expect_err("refused")
            .to_string()
    };
    assert!(check(&fixed).contains("fixed batch of 4"), "{}", check(&fixed));
    let reshape = vec![node("Gemm", &["x", "w"], "g", vec![]), node("Reshape", &["g", "s"], "y", vec![])];
    let weights = vec![testing::floats("w", &[3, 2], &[0.1; 6]), testing::ints("s", &[1, -1])];
    let said = check(&testing::model(17, &[-1, 3], reshape, weights));
    assert!(said.contains("the batch was mixed into other dimensions"), "{said}");
}

#[test]
fn models_without_one_float_input_are_refused() {
    let base = testing::behind(17, vec![node("Relu", &["x"], "h", vec![])], vec![]);
    let changed = |change: fn(&mut aimass_onnx::proto::GraphProto)| {
        let mut proto = base.proto().clone();
        change(proto.graph.as_mut().expect("a graph"));
        let model = Model::from_proto(proto).expect("a valid model");
        fit_check(&model, &testing::layout(&model), 3, &Loss::cross_entropy().into(), None)
            .expect_err("refused")
            .to_string()
    };
    let two = changed(|g| {
        g.input.push(testing::value("z", &[-1, 3]));
        g.node[0] = node("Add", &["x", "z"], "h", vec![]);
    });
    assert!(two.contains("the inputs x, z"), "{two}");
    let open = changed(|g| g.input[0] = testing::value("x", &[-1, -1, -1]));
    assert!(open.contains("leaves 2 dimensions besides the batch open"), "{open}");
}

#[test]
fn nothing_that_trains_is_refused() {
    // The only weight feeds a part of the graph that the output does not need.
    let nodes = vec![
        node("Relu", &["x"], "y", vec![]),
        node("Gemm", &["x", "w"], "unused", vec![AttributeProto::int("transB", 1)]),
    ];
    let model = testing::model(17, &[-1, 3], nodes, vec![testing::floats("w", &[2, 3], &[0.0; 6])]);
    let said = fit_check(&model, &testing::layout(&model), 3, &Loss::cross_entropy().into(), None)
        .expect_err("refused")
        .to_string();
    assert!(said.contains("no weight reaches the output `y`"), "{said}");
}
