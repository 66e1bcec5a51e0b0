use aimass_learning::training::Stepper;
use aimass_learning::{BatchNorm, OptimizerConfig, Rule, TrainConfig, Trainer};
use aimass_onnx::{ParamKind, TrainableRules};

use crate::models::{self, Case};
use crate::open;

/// Furthest apart that a loss, or a parameter's gradient, may be, relative to the largest of its values.
const TOLERANCE: f32 = 1e-4;
/// Gradients that are zero in theory (of a bias before a batch norm) are noise of about this share of the largest in the model.
const NOISE: f32 = 1e-6;
const STEPS: usize = 4;
/// Batch norm over three rows may make much of little: what the CPU makes of weights that are off by so much, relative, is allowed four
/// times. But never for the first loss, and never for gradients.
const SHAKEN: f32 = 1e-5;

fn furthest(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    let each = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    // NaN is as far as can be.
    each.fold(0.0, |most: f32, apart| if apart.is_nan() || apart > most { apart } else { most })
}

/// How far losses and running statistics of the CPU come apart when the weights are shaken.
fn sensitivity(case: &Case, mut still: Trainer, mut shaken: Trainer) -> (f32, f32) {
    let weights = shaken.weights().expect("weights");
    let shake = |(i, weight): (usize, f32)| weight * if i % 2 == 0 { 1.0 + SHAKEN } else { 1.0 - SHAKEN };
    let weights: Vec<f32> = weights.into_iter().enumerate().map(shake).collect();
    shaken.set_weights(&weights).expect("as many");
    let losses = |trainer: &mut Trainer| -> Vec<f32> {
        let step = |_| trainer.step(case.batch.clone()).expect("a step").loss;
        (0..STEPS).map(step).collect()
    };
    (
        furthest(&losses(&mut still), &losses(&mut shaken)),
        furthest(&still.buffers().expect("buffers"), &shaken.buffers().expect("buffers")),
    )
}

/// What is wrong, if anything.
fn differences(case: &Case) -> Option<Vec<String>> {
    let layout = case.model.layout(&TrainableRules::default()).expect("weights");
    let config = TrainConfig {
        heads: vec![case.loss.clone().into()],
        // After the first step the velocity is the gradient, to the last bit.
        optimizer: OptimizerConfig {
            rule: Rule::Sgd {
                momentum: 0.5,
                nesterov: false,
            },
            ..OptimizerConfig::sgd(0.02)
        },
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch: 3,
        seed: [9; 32],
    };
    let cpu = || Trainer::new(&case.model, &layout, &config).expect("it trains");
    let mut ours = cpu();
    let sensitivity = sensitivity(case, cpu(), cpu());
    let mut theirs = open(&case.model, &layout, &config, |line| eprintln!("{line}"))?;
    let (mut wrong, mut worst) = (Vec::new(), [0.0f32; 3]);
    let mut compare = |kind: usize, what: &str, ours: &[f32], theirs: &[f32], floor: f32, slack: f32| {
        let largest = ours.iter().fold(floor, |m, v| m.max(v.abs()));
        let apart = furthest(ours, theirs);
        worst[kind] = worst[kind].max(apart / largest);
        if apart.is_nan() || apart > TOLERANCE * largest + slack {
            wrong.push(format!("{}: {what} differ by {apart:e}, the largest is {largest:e}", case.name));
        }
    };
    for step in 1..=STEPS {
        let loss = ours.step(case.batch.clone()).expect("a step").loss;
        let report = theirs.step(case.batch.clone()).expect("a step");
        let slack = if step == 1 { 0.0 } else { 4.0 * sensitivity.0 };
        compare(0, &format!("losses of step {step}"), &[loss], &[report.loss], 0.0, slack);
        if step == 1 {
            let (ours, theirs) = (
                &ours.optimizer_state().expect("a velocity")[0],
                &theirs.optimizer_state().expect("a velocity")[0],
            );
            let noise = NOISE / TOLERANCE * ours.iter().fold(0.0, |m: f32, v| m.max(v.abs()));
            assert!(noise > 0.0, "{}: nothing trains", case.name);
            for param in layout.params().iter().filter(|p| p.kind == ParamKind::Weight) {
                let what = format!("gradients of {}", param.name);
                compare(1, &what, &ours[param.range()], &theirs[param.range()], noise, 0.0);
            }
        }
    }
    assert!(theirs.adapter().is_some(), "{}: the worker was given up", case.name);
    let (ours, theirs) = (ours.buffers().expect("buffers"), theirs.buffers().expect("buffers"));
    compare(2, "running statistics", &ours, &theirs, f32::MIN_POSITIVE, 4.0 * sensitivity.1);
    println!(
        "{}: losses, gradients, running statistics at most {worst:?} apart, relative",
        case.name
    );
    Some(wrong)
}

#[test]
fn every_kind_of_model_trains_as_on_the_cpu() {
    let mut wrong = Vec::new();
    for case in models::all() {
        let start = std::time::Instant::now();
        let Some(found) = differences(&case) else { return };
        println!("{}: {:.1} s", case.name, start.elapsed().as_secs_f64());
        wrong.extend(found);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
