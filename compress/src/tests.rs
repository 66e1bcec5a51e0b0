//! The pipeline on models and rows that are made here.

mod job;

use std::sync::Arc;

use aimass_learning::data::Source;
use aimass_learning::{BatchNorm, Dataset, Head, Loss, OptimizerConfig, TrainConfig};
use aimass_onnx::Model;
use aimass_onnx::build::mlp;
use aimass_shrink::prune::{Masks, PruneRules, Sparsity};
use aimass_shrink::quantize::{Activations, Method};

use crate::{Channels, CompressError, Compressed, Data, Distil, Options, Prune, Quantize, Score, Storage, Tune, compress};

const FEATURES: usize = 12;

/// Rows whose class is the third of the features with the largest sum.
fn rows(n: usize) -> Arc<dyn Source> {
    let value = |row: usize, at: usize| ((row * 31 + at * 17 + row * row % 7 * at) as f32 * 0.73).sin();
    let (mut features, mut targets) = (Vec::new(), Vec::new());
    for row in 0..n {
        let all: Vec<f32> = (0..FEATURES).map(|at| value(row, at)).collect();
        let sums: Vec<f32> = all.chunks(FEATURES / 3).map(|third| third.iter().sum()).collect();
        let best = (0..3).max_by(|&a, &b| sums[a].total_cmp(&sums[b])).unwrap_or_default();
        features.extend(all);
        targets.push(best as f32);
    }
    Arc::new(Dataset::new(features, targets, FEATURES).expect("whole rows"))
}

fn data() -> Data {
    Data {
        train: Some(rows(600)),
        test: Some(rows(200)),
        heads: vec![Head::from(Loss::cross_entropy())],
        ..Data::none()
    }
}

fn tune(epochs: u32) -> Option<Tune> {
    let config = TrainConfig {
        heads: vec![Head::from(Loss::cross_entropy())],
        optimizer: OptimizerConfig::sgd(0.2),
        batch_norm: BatchNorm::Batch,
        epochs,
        batch: 16,
        seed: [7; 32],
    };
    Some(Tune { config })
}

fn run(model: &Model, options: &Options) -> Result<Compressed, CompressError> {
    compress(model, &data(), options, &mut |_| {})
}

/// Trained by the pipeline itself, from a teacher that is the model: then it learns from the targets.
fn trained() -> Model {
    let fresh = mlp(&[FEATURES, 48, 3], 1);
    let distil = Distil {
        teachers: vec![fresh.clone()],
        temperature: 1.0,
        alpha: 0.0,
        epochs: 12,
        tune: None,
    };
    let options = Options {
        distil: Some(distil),
        tune: tune(12),
        ..Options::default()
    };
    let done = run(&fresh, &options).expect("trains");
    assert!(accuracy(done.after.score) > accuracy(done.before.score) + 0.3, "{:?}", done.steps);
    done.model
}

fn accuracy(score: Option<Score>) -> f64 {
    score.and_then(|score| score.accuracy).expect("an accuracy")
}

fn eight_bits(aware: bool) -> Quantize {
    Quantize::Static {
        method: Method::MinMax,
        activations: Activations::U8,
        aware,
        rows: 100,
        exclude: Vec::new(),
    }
}

#[test]
fn should_keep_exactly_the_share_of_weights_through_training_rounding_and_storage() {
    let model = trained();
    let options = Options {
        prune: Some(Prune {
            sparsity: Sparsity::new(0.75).expect("a share"),
            exclude: Vec::new(),
        }),
        store: Storage::Compact,
        tune: tune(6),
        ..Options::default()
    };
    let done = run(&model, &options).expect("prunes");
    let dense = aimass_shrink::sparse::expand(&done.model).expect("expands");
    let masks = Masks::of_zeros(&dense, &PruneRules::default()).expect("masks");
    let prunable = FEATURES * 48 + 48 * 3;
    assert_eq!(masks.pruned(), prunable * 3 / 4);
    assert!(accuracy(done.after.score) > accuracy(done.before.score) - 0.1, "{:?}", done.steps);
    let names: Vec<&str> = done.steps.iter().map(|step| step.name).collect();
    assert_eq!(names, ["prune", "store"]);
}

#[test]
fn should_train_what_is_rounded_and_agree_with_tract() {
    let model = trained();
    for aware in [false, true] {
        let options = Options {
            quantize: Some(eight_bits(aware)),
            tune: tune(2),
            ..Options::default()
        };
        let done = run(&model, &options).expect("quantizes");
        assert!(accuracy(done.after.score) > accuracy(done.before.score) - 0.05, "{:?}", done.steps);
        assert!(done.parity.is_some_and(|parity| parity.rows == 200 && parity.holds()));
        assert!(done.drop_points().is_some_and(|points| points < 5.0));
    }
}

#[test]
fn should_ask_for_data_where_a_step_needs_it_and_do_the_rest_without() {
    let model = mlp(&[FEATURES, 400, 3], 1);
    let nothing = Data::none();
    let of = |options: Options| compress(&model, &nothing, &options, &mut |_| {});
    let static_alone = of(Options {
        quantize: Some(eight_bits(false)),
        ..Options::default()
    });
    assert!(matches!(static_alone, Err(CompressError::NoData { .. })), "{static_alone:?}");
    let weights = of(Options {
        quantize: Some(Quantize::Weights { exclude: Vec::new() }),
        ..Options::default()
    })
    .expect("needs no data");
    assert!(weights.after.bytes * 2 < weights.before.bytes);
    assert!(weights.drop_points().is_none() && weights.parity.is_some_and(|parity| parity.holds()));
}

#[test]
fn should_refuse_a_student_whose_outputs_differ_and_groups_that_do_not_exist() {
    let model = mlp(&[FEATURES, 48, 3], 1);
    let distil = Distil {
        teachers: vec![mlp(&[FEATURES, 48, 4], 1)],
        temperature: 2.0,
        alpha: 0.5,
        epochs: 1,
        tune: None,
    };
    let other = run(
        &model,
        &Options {
            distil: Some(distil),
            tune: tune(1),
            ..Options::default()
        },
    );
    let text = other.expect_err("another number of classes").to_string();
    assert!(text.contains("the student's output") && text.contains("distil into"), "{text}");
    let nowhere = run(
        &model,
        &Options {
            channels: Some(Channels {
                fraction: Sparsity::new(0.5).expect("a share"),
                exclude: vec!["nowhere*".to_owned()],
            }),
            ..Options::default()
        },
    );
    assert!(nowhere.expect_err("no such weight").to_string().contains("nowhere*"));
}

#[test]
fn should_count_points_of_accuracy_or_of_explained_variance() {
    let score = |accuracy, explained, loss| Score {
        accuracy,
        explained,
        loss,
        examples: 4,
    };
    assert_eq!(score(Some(0.5), Some(0.25), 1.0).share(), Some(0.5));
    assert_eq!(score(None, Some(0.25), 1.0).share(), Some(0.25));
    assert_eq!(score(None, None, 1.0).share(), None);
}
