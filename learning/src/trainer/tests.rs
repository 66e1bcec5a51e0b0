use std::ops::ControlFlow;

use aimass_onnx::build::{cnn_mcmahan, mlp};
use serde_json::Value;

use super::*;
use crate::testing::{self, clouds, config};
use crate::{Loss, OptimizerConfig, train};

#[test]
fn losses_follow_pytorch() {
    let curves: Value = serde_json::from_str(include_str!("../../testdata/curves.json")).expect("valid JSON");
    for curve in curves.as_array().expect("a list") {
        let numbers = |key: &str| -> Vec<f32> {
            curve[key]
                .as_array()
                .expect("a list")
                .iter()
                .map(|v| v.as_f64().expect("a number") as f32)
                .collect()
        };
        let number = |key: &str| curve[key].as_f64().expect("a number");
        let model = Model::from_bytes(&hex::decode(curve["model"].as_str().expect("hex")).expect("hex")).expect("a valid model");
        let loss = if curve["loss"] == "mse" { Loss::Mse } else { Loss::cross_entropy() };
        let batch = number("batch") as usize;
        let n_features = number("n_features") as usize;
        let config = TrainConfig {
            optimizer: OptimizerConfig::sgd(number("lr") as f32),
            batch,
            ..config(loss)
        };
        let (x, y) = (numbers("x"), numbers("y"));
        let mut trainer = Trainer::new(&model, &testing::layout(&model), &config).expect("a trainer");
        for (step, expected) in numbers("losses").into_iter().enumerate() {
            let start = step * batch % y.len();
            let mean = trainer
                .step(Batch::rows(x[start * n_features..][..batch * n_features].to_vec(), y[start..][..batch].to_vec()).expect("rows"))
                .expect("a step")
                .loss;
            assert!(
                (mean - expected).abs() <= 2e-4 * expected.abs().max(0.1),
                "{} step {step}: {mean}, PyTorch {expected}",
                curve["name"]
            );
        }
        let weights = trainer.weights().expect("weights");
        let norm = weights.iter().map(|w| f64::from(*w).powi(2)).sum::<f64>().sqrt();
        let sum = weights.iter().map(|w| f64::from(*w)).sum::<f64>();
        assert!(
            (norm - number("weights_norm")).abs() < 1e-4 * norm,
            "{}: norm {norm}",
            curve["name"]
        );
        assert!((sum - number("weights_sum")).abs() < 1e-3, "{}: sum {sum}", curve["name"]);
    }
}

#[test]
fn a_diverging_step_leaves_the_weights_as_they_were() {
    let model = mlp(&[2, 2], 1);
    let mut trainer = Trainer::new(&model, &testing::layout(&model), &config(Loss::cross_entropy())).expect("a trainer");
    let before = trainer.weights().expect("weights");
    assert!(matches!(
        trainer.step(Batch::rows(vec![f32::NAN, 0.0], vec![0.0]).expect("a row")),
        Err(TrainError::Diverged { step: 1, .. })
    ));
    assert_eq!((trainer.weights().expect("weights"), trainer.steps()), (before, 0));
    trainer
        .step(Batch::rows(vec![0.5, 0.0], vec![0.0]).expect("a row"))
        .expect("goes on");
}

#[test]
fn weights_can_be_taken_out_and_put_back() {
    let data = clouds(12, 6, 3, 2);
    let model = mlp(&[6, 4, 3], 1);
    let mut trainer = Trainer::new(&model, &testing::layout(&model), &config(Loss::cross_entropy())).expect("a trainer");
    let base = trainer.weights().expect("weights");
    let first = trainer.step(testing::batch(&data)).expect("a step");
    let after = trainer.weights().expect("weights");
    trainer.set_weights(&base).expect("the same length");
    assert_eq!(trainer.step(testing::batch(&data)).expect("a step"), first);
    assert_eq!(trainer.weights().expect("weights"), after);
    assert!(
        trainer
            .set_weights(&base[1..])
            .expect_err("another length")
            .to_string()
            .contains("of another model")
    );
}

/// Trains models that are large enough for parallel kernels, and prints a digest of the deltas.
#[test]
#[ignore = "started by bytes_do_not_depend_on_the_number_of_threads"]
fn probe_for_threads() {
    let data = clouds(300, 784, 10, 4);
    let mut bytes = Vec::new();
    for (model, rows, batch) in [(mlp(&[784, 200, 200, 10], 1), 300, 256), (cnn_mcmahan(1), 24, 16)] {
        let data = data.select(&(0..rows).collect::<Vec<_>>()).expect("there");
        let config = TrainConfig {
            batch,
            optimizer: OptimizerConfig::sgd(1e-3),
            epochs: 2,
            ..config(Loss::cross_entropy())
        };
        let update = train(&model, &testing::layout(&model), &data, &config, &mut |_| ControlFlow::Continue(())).expect("trains");
        bytes.extend(update.delta.iter().flat_map(|d| d.to_le_bytes()));
    }
    // FNV-1a.
    let digest = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    println!("digest {digest:016x}");
}

#[test]
fn bytes_do_not_depend_on_the_number_of_threads() {
    let digest = |threads: &str| {
        let output = std::process::Command::new(std::env::current_exe().expect("this test's program"))
            .args(["--exact", "trainer::tests::probe_for_threads", "--ignored", "--nocapture"])
            .env("RAYON_NUM_THREADS", threads)
            .output()
            .expect("starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let digest = text.split("digest ").nth(1).map(|d| d[..16].to_owned());
        digest.unwrap_or_else(|| panic!("no digest in {text} {}", String::from_utf8_lossy(&output.stderr)))
    };
    let one = digest("1");
    assert_eq!(digest("2"), one);
    assert_eq!(digest("3"), one);
}

/// Prints steps a second: `RAYON_NUM_THREADS=1 cargo test --release -p aimass-learning -- --ignored speed --nocapture`.
#[test]
#[ignore = "a measurement"]
fn speed() {
    let models = [
        ("2NN 784-200-200-10, batch 10", mlp(&[784, 200, 200, 10], 1), 784, 10),
        ("2NN 784-200-200-10, batch 32", mlp(&[784, 200, 200, 10], 1), 784, 32),
        ("digits 64-64-10, batch 10", mlp(&[64, 64, 10], 1), 64, 10),
        ("CNN of McMahan, batch 10", cnn_mcmahan(1), 784, 10),
        ("CNN of McMahan, batch 32", cnn_mcmahan(1), 784, 32),
    ];
    for (name, model, n_features, batch) in models {
        let data = clouds(batch, n_features, 10, 1);
        let config = TrainConfig {
            optimizer: OptimizerConfig::sgd(1e-4),
            batch,
            ..config(Loss::cross_entropy())
        };
        let mut trainer = Trainer::new(&model, &testing::layout(&model), &config).expect("a trainer");
        let mut step = || assert!(trainer.step(testing::batch(&data)).expect("a step").loss.is_finite());
        (0..20).for_each(|_| step());
        let mut rates: Vec<f64> = (0..5)
            .map(|_| {
                let start = std::time::Instant::now();
                let mut steps = 0;
                while start.elapsed().as_secs_f64() < 0.5 {
                    step();
                    steps += 1;
                }
                f64::from(steps) / start.elapsed().as_secs_f64()
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        println!("{name}: {:.0} steps/s", rates[2]);
    }
}

#[test]
fn a_batch_norm_that_is_used_twice_moves_its_statistics_twice() {
    let norm = |x: &str, y: &str| testing::node("BatchNormalization", &[x, "s", "b", "m", "v"], y, Vec::new());
    let two = |name: &str, values: [f32; 2]| testing::floats(name, &[2], &values);
    let tensors = vec![
        two("s", [1.0, 1.0]),
        two("b", [0.5, -1.0]),
        two("m", [0.0, 0.0]),
        two("v", [1.0, 1.0]),
    ];
    let model = testing::model(17, &[-1, 2], vec![norm("x", "h"), norm("h", "y")], tensors);
    let config = TrainConfig {
        optimizer: OptimizerConfig::sgd(0.0),
        ..config(Loss::Mse)
    };
    let mut trainer = Trainer::new(&model, &testing::layout(&model), &config).expect("a trainer");
    let pairs = |values: Vec<f32>| Array::floats(vec![2, 2], values).expect("two rows");
    let batch = Batch {
        inputs: vec![pairs(vec![1.0, 2.0, 3.0, 6.0])],
        targets: vec![pairs(vec![0.0; 4])],
        weights: None,
        flat: false,
    };
    trainer.step(batch).expect("a step");
    // The batch: means 2 and 4, variances 2 and 8. What the first use gives: means 0.5 and -1, variances 2.
    let expected = [0.9 * 0.2 + 0.05, 0.9 * 0.4 - 0.1, 0.9 * 1.1 + 0.2, 0.9 * 1.7 + 0.2];
    for (found, expected) in trainer.buffers().expect("buffers").into_iter().zip(expected) {
        assert!((found - expected).abs() < 1e-4, "{found} for {expected}");
    }
}
