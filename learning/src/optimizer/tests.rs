use burn_backend::TensorData;

use super::*;
use crate::executor::Cpu;

fn tensor(values: &[f32]) -> FloatTensor<Cpu> {
    <Cpu as burn_backend::ops::FloatTensorOps<Cpu>>::float_from_data(
        TensorData::new(values.to_vec(), [values.len()]),
        &Device::<Cpu>::default(),
    )
}

/// Three steps over f(w) = w^2 / 2 (the gradient is the weight) from 1 and -2.
fn walk(config: OptimizerConfig) -> Vec<f32> {
    let mut optimizer = Optimizer::<Cpu>::new(config);
    let mut sources = vec![Some(tensor(&[1.0, -2.0]))];
    let mut all = Vec::new();
    for _ in 0..3 {
        let gradient = sources[0].clone().expect("a weight");
        optimizer.step(&mut sources, vec![(0, gradient)]).expect("a step");
        let now = DeviceTensor::<Cpu>::Float(sources[0].clone().expect("a weight"))
            .download()
            .expect("values");
        all.extend_from_slice(now.as_floats().expect("floats"));
    }
    all
}

fn config(rule: Rule) -> OptimizerConfig {
    OptimizerConfig {
        rule,
        weight_decay: 0.1,
        ..OptimizerConfig::sgd(0.1)
    }
}

/// What torch 2.15 computes: torch.optim.{SGD, Adam, AdamW, RMSprop} with lr 0.1 and weight_decay 0.1.
#[test]
fn rules_agree_with_pytorch() {
    let momentum = |nesterov| Rule::Sgd { momentum: 0.9, nesterov };
    let adam = |decoupled| Rule::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        decoupled,
    };
    let rms = |momentum| Rule::RmsProp {
        alpha: 0.99,
        epsilon: 1e-8,
        momentum,
    };
    let expected: serde_json::Value = serde_json::from_str(include_str!("../../testdata/optimizers.json")).expect("valid JSON");
    let rules = [momentum(false), momentum(true), adam(false), adam(true), rms(0.0), rms(0.9)];
    for (rule, expected) in rules.into_iter().zip(expected.as_array().expect("a list")) {
        let expected = expected
            .as_array()
            .expect("a list")
            .iter()
            .map(|v| v.as_f64().expect("a number") as f32);
        for (ours, theirs) in walk(config(rule)).iter().zip(expected) {
            assert!((ours - theirs).abs() < 2e-6, "{rule:?}: {ours}, PyTorch {theirs}");
        }
    }
}

#[test]
fn clipping_scales_all_gradients_to_the_norm() {
    let clipped = OptimizerConfig {
        clip_norm: Some(1.0),
        ..OptimizerConfig::sgd(1.0)
    };
    let mut optimizer = Optimizer::<Cpu>::new(clipped);
    let mut sources = vec![Some(tensor(&[0.0])), Some(tensor(&[0.0]))];
    let norm = optimizer
        .step(&mut sources, vec![(0, tensor(&[3.0])), (1, tensor(&[4.0]))])
        .expect("a step");
    assert_eq!(norm, Some(5.0));
    let values: Vec<f32> = sources
        .into_iter()
        .flatten()
        .flat_map(|t| {
            DeviceTensor::<Cpu>::Float(t)
                .download()
                .expect("values")
                .as_floats()
                .expect("floats")
                .to_vec()
        })
        .collect();
    assert_eq!(values, [-0.6, -0.8]);
}

#[test]
fn a_gradient_that_is_not_finite_moves_nothing_where_it_is_clipped() {
    let mut optimizer = Optimizer::<Cpu>::new(OptimizerConfig {
        clip_norm: Some(1.0),
        ..OptimizerConfig::sgd(1.0)
    });
    let mut sources = vec![Some(tensor(&[2.0, 3.0]))];
    let error = optimizer.step(&mut sources, vec![(0, tensor(&[f32::INFINITY, 1.0]))]);
    assert!(matches!(error, Err(TrainError::Diverged { step: 1, .. })));
    let left = DeviceTensor::<Cpu>::Float(sources.remove(0).expect("a weight"))
        .download()
        .expect("values");
    assert_eq!(left.as_floats(), Some(&[2.0, 3.0][..]));
}

#[test]
fn schedules_rise_and_fall() {
    let cosine = Schedule::Cosine {
        warmup: 1,
        steps: 5,
        floor: 0.1,
    };
    let factors: Vec<f32> = (0..8).map(|step| cosine.factor(step)).collect();
    let expected = [0.5, 1.0, 0.868_198, 0.55, 0.231_802, 0.1, 0.1, 0.1];
    for (ours, theirs) in factors.iter().zip(expected) {
        assert!((ours - theirs).abs() < 1e-6, "{factors:?}");
    }
    let step = Schedule::Step { every: 2, gamma: 0.5 };
    assert_eq!((0..5).map(|s| step.factor(s)).collect::<Vec<_>>(), [1.0, 1.0, 0.5, 0.5, 0.25]);
    let linear = Schedule::Linear {
        warmup: 0,
        steps: 4,
        floor: 0.0,
    };
    assert_eq!(
        (0..6).map(|s| linear.factor(s)).collect::<Vec<_>>(),
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    );
}

#[test]
fn settings_that_can_not_work_are_refused() {
    for bad in [
        OptimizerConfig::sgd(f32::NAN),
        OptimizerConfig {
            clip_norm: Some(0.0),
            ..OptimizerConfig::sgd(0.1)
        },
        OptimizerConfig {
            weight_decay: -1.0,
            ..OptimizerConfig::sgd(0.1)
        },
        config(Rule::Sgd {
            momentum: 1.0,
            nesterov: false,
        }),
        config(Rule::Sgd {
            momentum: 0.0,
            nesterov: true,
        }),
        config(Rule::RmsProp {
            alpha: 0.9,
            epsilon: 0.0,
            momentum: 0.0,
        }),
        OptimizerConfig {
            schedule: Schedule::Step { every: 0, gamma: 0.5 },
            ..OptimizerConfig::sgd(0.1)
        },
        OptimizerConfig {
            schedule: Schedule::Linear {
                warmup: 5,
                steps: 5,
                floor: 0.0,
            },
            ..OptimizerConfig::sgd(0.1)
        },
    ] {
        assert!(bad.check().is_err(), "{bad:?}");
    }
}
