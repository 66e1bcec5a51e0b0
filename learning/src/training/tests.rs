use std::sync::Arc;

use aimass_onnx::build::mlp;
use aimass_onnx::proto::AttributeProto;

use super::*;
use crate::data::Subset;
use crate::testing::{self, Numbers, clouds, config, floats, node};
use crate::{Dataset, Loss, OptimizerConfig, Rule, Schedule};

const IDENTITY: Identity = Identity {
    recipe: [1; 32],
    model: [2; 32],
    data: [3; 32],
};

/// 6 features, 3 classes; batch norm (running statistics) and dropout (seeded by the step) in the middle.
fn noisy_model() -> Model {
    let mut numbers = Numbers::new(4);
    let mut weights = |name: &str, shape: &[usize]| {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| numbers.next()).collect();
        floats(name, shape, &values)
    };
    let mut initializers = vec![weights("w1", &[6, 8]), weights("w2", &[8, 3])];
    for (name, value) in [("scale", 1.0), ("shift", 0.0), ("mean", 0.0), ("variance", 1.0)] {
        initializers.push(floats(name, &[8], &[value; 8]));
    }
    let nodes = vec![
        node("MatMul", &["x", "w1"], "a", vec![]),
        node("BatchNormalization", &["a", "scale", "shift", "mean", "variance"], "b", vec![]),
        node("Relu", &["b"], "c", vec![]),
        node("Dropout", &["c"], "d", vec![AttributeProto::float("ratio", 0.3)]),
        node("MatMul", &["d", "w2"], "y", vec![]),
    ];
    testing::model(10, &[-1, 6], nodes, initializers)
}

fn rules() -> Vec<OptimizerConfig> {
    let adam = Rule::Adam {
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        decoupled: true,
    };
    let cosine = Schedule::Cosine {
        warmup: 3,
        steps: 15,
        floor: 0.1,
    };
    let with = |rule| OptimizerConfig {
        rule,
        weight_decay: 0.01,
        clip_norm: Some(1.0),
        schedule: cosine,
        ..OptimizerConfig::sgd(0.05)
    };
    vec![
        OptimizerConfig::sgd(0.05),
        with(Rule::Sgd {
            momentum: 0.9,
            nesterov: true,
        }),
        with(adam),
        with(Rule::RmsProp {
            alpha: 0.9,
            epsilon: 1e-8,
            momentum: 0.5,
        }),
    ]
}

fn bits(good: &GoodWeights) -> Vec<u32> {
    good.weights.iter().chain(&good.buffers).map(|v| v.to_bits()).collect()
}

/// Runs to the end; what each step found, and the weights.
fn finished(training: &mut Training<'_>) -> (Vec<Stepped>, GoodWeights) {
    let mut all = Vec::new();
    while let Some(stepped) = training.step().expect("steps") {
        all.push(stepped);
    }
    (all, training.weights().expect("finite"))
}

#[test]
fn an_interrupted_training_ends_with_the_same_bytes_wherever_it_was_interrupted() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.bin");
    let model = noisy_model();
    let layout = testing::layout(&model);
    assert_eq!(layout.n_buffers(), 16);
    // 18 rows in batches of 4: the last of the 5 batches of a pass is smaller.
    let data = clouds(18, 6, 3, 2);
    for optimizer in rules() {
        let config = TrainConfig {
            epochs: 3,
            optimizer,
            ..config(Loss::cross_entropy())
        };
        let new = || Training::new(&model, &layout, &data, &config).expect("fits");
        let mut whole = new();
        let (steps, weights) = finished(&mut whole);
        assert_eq!(steps.len(), 15);
        let recent = whole.take_recent_loss();
        for stop_after in 0..=15 {
            let mut first = new();
            for step in &steps[..stop_after] {
                assert_eq!(first.step().expect("steps").as_ref(), Some(step));
            }
            let kept = first.checkpoint(IDENTITY).expect("finite");
            kept.write(&path).expect("writes");
            drop(first);
            let mut second = new();
            let read = Checkpoint::read(&path, &IDENTITY, layout.n_weights(), layout.n_buffers()).expect("reads");
            assert_eq!(read, kept);
            second.resume(&read).expect("fits");
            let (rest, resumed) = finished(&mut second);
            assert_eq!(rest, steps[stop_after..], "after {stop_after}");
            assert_eq!(bits(&resumed), bits(&weights), "after {stop_after}: {:?}", config.optimizer);
            assert_eq!(second.take_recent_loss(), recent);
        }
    }
}

#[test]
fn a_trainer_that_begins_again_does_what_a_new_one_does() {
    let model = noisy_model();
    let layout = testing::layout(&model);
    let parts = [clouds(23, 6, 3, 0), clouds(10, 6, 3, 1), clouds(31, 6, 3, 2)];
    for optimizer in rules() {
        let config = |seed: u8| TrainConfig {
            optimizer: optimizer.clone(),
            epochs: 2,
            batch: 8,
            seed: [seed; 32],
            ..config(Loss::cross_entropy())
        };
        let mut trainer = Trainer::new(&model, &layout, &config(9)).expect("a trainer");
        let (weights, buffers) = (trainer.weights().expect("weights"), trainer.buffers().expect("buffers"));
        for (seed, data) in (0..).zip(&parts) {
            let fresh = crate::train(&model, &layout, data, &config(seed), &mut |_| std::ops::ControlFlow::Continue(())).expect("trains");
            trainer.begin_again(&weights, &buffers, config(seed).seed).expect("begins");
            let mut training = Training::checked(&mut trainer, &model, &layout, data, &config(seed)).expect("begins");
            while training.step().expect("steps").is_some() {}
            let again = training.into_update().expect("ends");
            assert_eq!(again, fresh, "{optimizer:?}, part {seed}");
        }
    }
}

#[test]
fn a_training_that_ends_early_counts_what_it_did() {
    let model = noisy_model();
    let layout = testing::layout(&model);
    // 5 batches a pass: 4, 4, 4, 4 and 2 rows.
    let data = clouds(18, 6, 3, 2);
    let config = TrainConfig {
        epochs: 3,
        ..config(Loss::cross_entropy())
    };
    for (steps, rows) in [(1, 4), (4, 16), (5, 18), (6, 18), (15, 18)] {
        let mut training = Training::new(&model, &layout, &data, &config).expect("fits");
        let mut losses = Vec::new();
        for _ in 0..steps {
            let stepped = training.step().expect("steps").expect("is not over");
            losses.push((stepped.epoch, f64::from(stepped.loss) * stepped.rows as f64, stepped.rows));
        }
        assert_eq!(training.rows_seen(), rows);
        let update = training.into_update().expect("finite");
        assert_eq!((update.steps, update.examples), (steps, rows));
        let pass = losses.last().expect("a step").0;
        let last: Vec<_> = losses.iter().filter(|loss| loss.0 == pass).collect();
        let mean = last.iter().map(|loss| loss.1).sum::<f64>() / last.iter().map(|loss| loss.2).sum::<usize>() as f64;
        assert!((f64::from(update.train_loss) - mean).abs() < 1e-6, "{} {mean}", update.train_loss);
        assert!(update.delta.iter().any(|v| *v != 0.0));
    }
}

#[test]
fn a_checkpoint_of_other_data_seed_or_optimizer_is_refused() {
    let model = noisy_model();
    let layout = testing::layout(&model);
    let (data, longer) = (clouds(18, 6, 3, 2), clouds(21, 6, 3, 2));
    let base = config(Loss::cross_entropy());
    let mut training = Training::new(&model, &layout, &data, &base).expect("fits");
    for _ in 0..3 {
        training.step().expect("steps");
    }
    let kept = training.checkpoint(IDENTITY).expect("finite");
    let resumed = |data: &Dataset, config: &TrainConfig, kept: &Checkpoint| {
        let mut training = Training::new(&model, &layout, data, config).expect("fits");
        training.resume(kept).map_err(|e| e.to_string())
    };
    assert_eq!(resumed(&data, &base, &kept), Ok(()));
    let adam = TrainConfig {
        optimizer: rules()[2].clone(),
        ..base.clone()
    };
    assert!(resumed(&data, &adam, &kept).expect_err("refused").contains("another optimizer"));
    let smaller = TrainConfig { batch: 5, ..base.clone() };
    for (data, config) in [(&longer, &base), (&data, &smaller)] {
        // The same number of steps, but elsewhere in the data; or a generator that has come further.
        let mut kept = kept.clone();
        kept.position.rng_words += 1;
        assert!(resumed(data, config, &kept).expect_err("refused").contains("start anew"));
    }
    let mut elsewhere = kept.clone();
    for change in [
        |p: &mut Position| p.row = 13,
        |p: &mut Position| p.row = 8,
        |p: &mut Position| p.row = 400,
        |p: &mut Position| p.epoch = u32::MAX,
    ] {
        elsewhere.position = kept.position;
        change(&mut elsewhere.position);
        assert!(resumed(&data, &base, &elsewhere).expect_err("refused").contains("start anew"));
    }
}

#[test]
fn a_loss_that_is_not_finite_names_the_rows_and_keeps_the_weights_before() {
    let model = noisy_model();
    let layout = testing::layout(&model);
    let config = config(Loss::cross_entropy());
    let clean = clouds(18, 6, 3, 2);
    // A row of the third batch.
    let mut training = Training::new(&model, &layout, &clean, &config).expect("fits");
    for _ in 0..2 {
        training.step().expect("steps");
    }
    let bad = training.next_rows().1[1];
    let mut features = clean.features().to_vec();
    features[bad * 6 + 2] = f32::NAN;
    let data = Dataset::new(features, clean.targets().to_vec(), 6).expect("whole rows");
    let mut training = Training::new(&model, &layout, &data, &config).expect("fits");
    let mut before = training.weights().expect("finite");
    let error = loop {
        match training.step() {
            Ok(Some(_)) => before = training.weights().expect("finite"),
            Ok(None) => panic!("the row is in every pass"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    let (epoch, rows) = training.next_rows();
    assert!(epoch == 1 && rows.contains(&bad), "{rows:?}");
    assert_eq!(before.step, 2);
    assert_eq!(training.last_good().expect("there"), before);
    let kept = training.model_with(&before).expect("fits");
    assert_eq!(kept.weights(&layout).expect("weights"), before.weights);
    assert_eq!(kept.values(&layout, ParamKind::Buffer).expect("buffers"), before.buffers);
    assert_ne!(before.buffers, training.model.values(&layout, ParamKind::Buffer).expect("buffers"));
}

#[test]
fn weights_that_grew_beyond_use_are_not_the_good_ones() {
    let data = clouds(20, 6, 3, 2);
    let model = mlp(&[6, 16, 16, 3], 1);
    let layout = testing::layout(&model);
    let config = TrainConfig {
        epochs: 100,
        optimizer: OptimizerConfig::sgd(1e20),
        ..config(Loss::cross_entropy())
    };
    let mut training = Training::new(&model, &layout, &data, &config).expect("fits");
    let begin = training.weights().expect("finite");
    let error = loop {
        if let Err(error) = training.step() {
            break error;
        }
    };
    assert!(matches!(error, TrainError::Diverged { .. }), "{error}");
    assert_eq!(training.last_good().expect("there"), begin, "those that the first pass began with");
    let loss = evaluate_on(&model, &data, &config.heads, &[]).expect("evaluates").loss;
    assert!(loss.is_finite());
}

#[test]
fn a_subset_trains_as_its_rows_alone() {
    let all = clouds(30, 6, 3, 2);
    let chosen: Vec<usize> = (0..30).filter(|row| row % 3 != 1).rev().collect();
    let alone = all.select(&chosen).expect("there");
    let model = mlp(&[6, 3], 1);
    let layout = testing::layout(&model);
    let config = TrainConfig {
        epochs: 2,
        ..config(Loss::cross_entropy())
    };
    let all: Arc<dyn Source> = Arc::new(all);
    let subset = Subset::new(all.clone(), chosen).expect("there");
    let mut by_subset = Training::new(&model, &layout, &subset, &config).expect("fits");
    let mut by_rows = Training::new(&model, &layout, &alone, &config).expect("fits");
    assert_eq!(finished(&mut by_subset), finished(&mut by_rows));
    let on = |data: &dyn Source| evaluate_on(&model, data, &config.heads, &[]).expect("evaluates");
    assert_eq!(on(&subset), on(&alone));
    assert!(Subset::new(all, vec![30]).is_none());
}

#[test]
fn data_with_another_number_of_targets_is_refused() {
    let data = clouds(9, 6, 3, 2);
    let model = mlp(&[6, 3], 1);
    let layout = testing::layout(&model);
    let heads = vec![Loss::cross_entropy().into(), Loss::cross_entropy().into()];
    let error = check_data(&model, &layout, &data, &heads).expect_err("one target").to_string();
    assert!(error.contains("1 targets a row, the job 2 heads"), "{error}");
    assert_eq!(inputs_needed(&model, &heads[..1]).expect("a graph").len(), 1);
}

#[test]
fn should_end_a_pruned_training_with_the_same_bytes_wherever_it_was_interrupted() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("checkpoint.bin");
    let model = noisy_model();
    let layout = testing::layout(&model);
    let data = clouds(18, 6, 3, 2);
    let mask = Mask::new(
        &layout,
        &std::collections::BTreeMap::from([("w1".to_owned(), (0..48).map(|i| i % 4 != 2).collect())]),
    );
    let mask = mask.expect("a weight");
    // Pruned after step 2, more after step 7.
    let more = {
        let mut weights: Vec<f32> = mask.kept().iter().map(|&kept| f32::from(u8::from(kept))).collect();
        weights[1] = 0.0;
        weights[60] = 0.0;
        Mask::of_weights(&weights)
    };
    let is_pruned = |mask: &Mask, flat: &[f32]| flat.iter().zip(mask.kept()).all(|(v, kept)| *kept || v.to_bits() == 0);
    for optimizer in rules() {
        let config = TrainConfig {
            epochs: 3,
            optimizer,
            ..config(Loss::cross_entropy())
        };
        let new = || Training::new(&model, &layout, &data, &config).expect("fits");
        let go = |training: &mut Training<'_>, until: u64| {
            while training.step_count() < until {
                match training.step_count() {
                    2 => training.set_mask(Some(mask.clone())).expect("fits"),
                    7 => training.set_mask(Some(more.clone())).expect("fits"),
                    _ => {}
                }
                training.step().expect("steps");
                let now = training.weights().expect("finite");
                assert!(training.mask().is_none_or(|mask| is_pruned(mask, &now.weights)));
            }
        };
        let mut whole = new();
        go(&mut whole, 15);
        let expected = whole.weights().expect("finite");
        assert!(is_pruned(&more, &expected.weights) && is_pruned(&more, &whole.last_good().expect("good").weights));
        for stop_after in 0..15 {
            let mut first = new();
            go(&mut first, stop_after);
            let kept = first.checkpoint(IDENTITY).expect("finite");
            kept.write(&path).expect("writes");
            drop(first);
            let mut second = new();
            let read = Checkpoint::read(&path, &IDENTITY, layout.n_weights(), layout.n_buffers()).expect("reads");
            assert_eq!(read, kept);
            second.resume(&read).expect("fits");
            assert_eq!(second.mask(), read.mask.as_ref());
            go(&mut second, 15);
            let resumed = second.weights().expect("finite");
            assert_eq!(bits(&resumed), bits(&expected), "after {stop_after}: {:?}", config.optimizer);
        }
        // A checkpoint of before the pruning frees what is pruned.
        let mut early = new();
        let kept = early.checkpoint(IDENTITY).expect("finite");
        go(&mut early, 5);
        early.resume(&kept).expect("fits");
        assert_eq!(early.mask(), None);
        go(&mut early, 15);
        assert_eq!(bits(&early.weights().expect("finite")), bits(&expected));
    }
}

#[test]
fn should_refuse_a_checkpoint_whose_mask_is_of_another_model() {
    let model = noisy_model();
    let layout = testing::layout(&model);
    let data = clouds(18, 6, 3, 2);
    let mut training = Training::new(&model, &layout, &data, &config(Loss::cross_entropy())).expect("fits");
    let mut kept = training.checkpoint(IDENTITY).expect("finite");
    kept.mask = Some(Mask::of_weights(&[1.0; 5]));
    let error = training.resume(&kept).expect_err("another model").to_string();
    assert!(error.contains("a mask of 5 bits"), "{error}");
}
