use std::ops::ControlFlow;

use aimass_onnx::build::mlp;

use super::*;
use crate::testing::{clouds, config, layout};
use crate::training::Stepper;
use crate::{Batch, Cpu, Loss, OptimizerConfig, Rule, Schedule, TrainConfig, Trainer};

#[test]
fn should_be_read_back_from_its_bytes_and_from_no_others() {
    for n in [0, 1, 7, 8, 9, 64, 65] {
        let weights: Vec<f32> = (0..n).map(|i| if i % 3 == 1 { 0.0 } else { i as f32 + 1.0 }).collect();
        let mask = Mask::of_weights(&weights);
        let bytes = mask.to_bytes();
        assert_eq!(Mask::from_bytes(&bytes, n), Some(mask.clone()));
        assert_eq!((mask.len(), mask.pruned()), (n, weights.iter().filter(|w| **w == 0.0).count()));
        for other in [n + 8, n.wrapping_sub(8), n + 100] {
            assert_eq!(Mask::from_bytes(&bytes, other), None, "{n} as {other}");
        }
    }
    assert_eq!(Mask::from_bytes(&[0b1000], 3), None, "a bit behind the last");
}

#[test]
fn should_name_what_it_can_not_prune() {
    let model = mlp(&[3, 2], 1);
    let layout = layout(&model);
    let weight = layout.params()[0].clone();
    let of = |name: &str, bits: usize| {
        let made = Mask::new(&layout, &BTreeMap::from([(name.to_owned(), vec![false; bits])]));
        made.map_err(|e| e.to_string())
    };
    assert_eq!(of(&weight.name, weight.n_elements()).map(|m| m.pruned()), Ok(weight.n_elements()));
    assert!(of("gone", 6).expect_err("no such weight").contains("`gone`"));
    assert!(of(&weight.name, 5).expect_err("too few").contains("5 bits for 6 values"));
}

/// Optimizers that move weights in every way: at once, by momentum, by two moments, by decay, pulled to where they began, and clipped.
fn optimizers() -> Vec<OptimizerConfig> {
    let all = |rule| OptimizerConfig {
        rule,
        weight_decay: 0.01,
        proximal: 0.1,
        clip_norm: Some(0.5),
        schedule: Schedule::Constant,
        ..OptimizerConfig::sgd(0.05)
    };
    let adam = |decoupled| Rule::Adam {
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        decoupled,
    };
    let momentum = |nesterov| Rule::Sgd { momentum: 0.9, nesterov };
    vec![
        OptimizerConfig::sgd(0.05),
        all(momentum(false)),
        all(momentum(true)),
        all(adam(false)),
        all(adam(true)),
        all(Rule::RmsProp {
            alpha: 0.9,
            epsilon: 1e-8,
            momentum: 0.5,
        }),
    ]
}

fn batches() -> Vec<Batch> {
    (0..12u64).map(|i| crate::testing::batch(&clouds(8, 6, 3, i / 3))).collect()
}

/// A third of every weight and bias.
fn third(layout: &ParamLayout) -> Mask {
    Mask {
        kept: (0..layout.n_weights()).map(|i| i % 3 != 1).collect(),
    }
}

fn is_pruned(mask: &Mask, flat: &[f32]) -> bool {
    // By bits: a negative zero would be another number in a file.
    flat.iter().zip(mask.kept()).all(|(v, kept)| *kept || v.to_bits() == 0)
}

fn check(trainer: &mut dyn Stepper, layout: &ParamLayout, what: &str) -> (Vec<f32>, Vec<Vec<f32>>) {
    let mask = third(layout);
    let batches = batches();
    // Some steps first, so that there are moments to be pruned.
    for batch in &batches[..3] {
        trainer.step(batch.clone()).expect("a step");
    }
    assert!(!is_pruned(&mask, &trainer.weights().expect("weights")));
    trainer.set_mask(Some(&mask)).expect("fits");
    for (i, batch) in batches[3..].iter().enumerate() {
        let (weights, moments) = (trainer.weights().expect("weights"), trainer.optimizer_state().expect("moments"));
        assert!(is_pruned(&mask, &weights), "{what}: weights before step {i}");
        assert!(moments.iter().all(|m| is_pruned(&mask, m)), "{what}: moments before step {i}");
        trainer.step(batch.clone()).expect("a step");
    }
    let end = (trainer.weights().expect("weights"), trainer.optimizer_state().expect("moments"));
    assert!(
        is_pruned(&mask, &end.0) && end.1.iter().all(|m| is_pruned(&mask, m)),
        "{what}: at the end"
    );
    // All the rest trains.
    let alive = end.0.iter().zip(mask.kept()).filter(|(w, kept)| **kept && **w != 0.0).count();
    assert!(alive > mask.len() / 2, "{what}");
    end
}

#[test]
fn should_keep_pruned_weights_at_0_after_every_step_of_every_optimizer() {
    let model = mlp(&[6, 8, 3], 3);
    let layout = layout(&model);
    for optimizer in optimizers() {
        let config = TrainConfig {
            optimizer: optimizer.clone(),
            ..config(Loss::cross_entropy())
        };
        let mut compiled = Trainer::new(&model, &layout, &config).expect("a trainer");
        let mut interpreted = Trainer::<Cpu>::on(&model, &layout, &config).expect("a trainer");
        let ours = check(&mut compiled, &layout, &format!("compiled, {optimizer:?}"));
        let theirs = check(&mut interpreted, &layout, &format!("interpreted, {optimizer:?}"));
        assert_eq!(crate::testing::apart(&ours.0, &theirs.0, 2e-5), None, "{optimizer:?}");
        for (ours, theirs) in ours.1.iter().zip(&theirs.1) {
            assert_eq!(crate::testing::apart(ours, theirs, 2e-5), None, "{optimizer:?}");
        }
    }
}

#[test]
fn should_free_weights_again_and_refuse_masks_of_other_models() {
    let model = mlp(&[6, 8, 3], 3);
    let layout = layout(&model);
    let mask = third(&layout);
    let mut trainer = Trainer::new(&model, &layout, &config(Loss::cross_entropy())).expect("a trainer");
    let wrong = trainer.set_mask(Some(&Mask::of_weights(&[1.0, 0.0]))).expect_err("another model");
    assert!(wrong.to_string().contains("2 bits for a model of 83"), "{wrong}");
    trainer.set_mask(Some(&mask)).expect("fits");
    // Weights from elsewhere are pruned as they come in.
    trainer.set_weights(&vec![1.0; layout.n_weights()]).expect("fits");
    assert!(is_pruned(&mask, &trainer.weights().expect("weights")));
    trainer.set_mask(None).expect("free");
    let batches = batches();
    trainer.step(batches[0].clone()).expect("a step");
    assert!(!is_pruned(&mask, &trainer.weights().expect("weights")));
    // What begins again has no mask, and is what a new trainer is.
    trainer.set_mask(Some(&mask)).expect("fits");
    let base = model.weights(&layout).expect("weights");
    trainer.begin_again(&base, &[], [7; 32]).expect("begins");
    let mut fresh = Trainer::new(&model, &layout, &config(Loss::cross_entropy())).expect("a trainer");
    for batch in &batches {
        assert_eq!(
            trainer.step(batch.clone()).expect("a step"),
            fresh.step(batch.clone()).expect("a step")
        );
    }
    assert_eq!(trainer.weights().expect("weights"), fresh.weights().expect("weights"));
}

#[test]
fn should_not_change_a_training_in_which_everything_is_kept() {
    let model = mlp(&[6, 8, 3], 3);
    let layout = layout(&model);
    for optimizer in optimizers() {
        let config = TrainConfig {
            optimizer,
            ..config(Loss::cross_entropy())
        };
        let data = clouds(24, 6, 3, 1);
        let expected = crate::train(&model, &layout, &data, &config, &mut |_| ControlFlow::Continue(())).expect("trains");
        let mut training = crate::training::Training::new(&model, &layout, &data, &config).expect("fits");
        training
            .set_mask(Some(Mask::of_weights(&vec![1.0; layout.n_weights()])))
            .expect("fits");
        while training.step().expect("steps").is_some() {}
        assert_eq!(
            training.into_update().expect("ends").delta,
            expected.delta,
            "{:?}",
            config.optimizer
        );
    }
}
