//! Steps a second of one of the bench's models, without a peer:
//! `cargo run --release -p aimass-learning --example step_rates -- MODEL BATCH [SECONDS [THREADS]]`.

use std::num::NonZeroUsize;
use std::time::Instant;

use aimass_learning::{Array, Batch, BatchNorm, Loss, OptimizerConfig, TrainConfig, Trainer};
use aimass_onnx::TrainableRules;
use aimass_onnx::build::{Cell, InitialWeights, McMahanCnn, Mlp, RecurrentLm, ResNet18, Stack, TransformerClassifier};

fn main() {
    let argument = |i: usize| std::env::args().nth(i);
    let case = argument(1).expect("a model: 2nn, cnn, lstm-lm, transformer, resnet18");
    let batch: usize = argument(2).and_then(|n| n.parse().ok()).expect("a batch");
    let seconds: f64 = argument(3).and_then(|s| s.parse().ok()).unwrap_or(1.0);
    let threads: NonZeroUsize = argument(4).and_then(|n| n.parse().ok()).unwrap_or(NonZeroUsize::MIN);
    let w = InitialWeights::seeded(1);
    let fl = |shape: &[usize]| {
        let n: usize = shape.iter().product();
        Array::floats(
            shape.to_vec(),
            (0..n).map(|i| ((i * 7919 + 13) % 2001) as f32 / 1000.0 - 1.0).collect(),
        )
        .expect("it fits")
    };
    let ints = |shape: &[usize], below: usize| {
        let n: usize = shape.iter().product();
        Array::ints(shape.to_vec(), (0..n).map(|i| ((i * 7919 + 13) % 10007 % below) as i64).collect()).expect("it fits")
    };
    let (model, x, y) = match case.as_str() {
        "2nn" => (Mlp::default().build(w), fl(&[batch, 784]), ints(&[batch], 10)),
        "cnn" => (McMahanCnn.build(w), fl(&[batch, 1, 28, 28]), ints(&[batch], 10)),
        "resnet18" => (ResNet18::default().build(w), fl(&[batch, 3, 32, 32]), ints(&[batch], 10)),
        "lstm-lm" => (
            RecurrentLm {
                vocabulary: 90,
                embedding: 8,
                ..RecurrentLm::new(Cell::Lstm)
            }
            .build(w),
            ints(&[batch, 80], 90),
            ints(&[batch, 80], 90),
        ),
        _ => (
            TransformerClassifier {
                classes: 4,
                stack: Stack {
                    vocabulary: 128,
                    max_sequence: 64,
                    ..Stack::default()
                },
            }
            .build(w),
            ints(&[batch, 64], 128),
            ints(&[batch], 4),
        ),
    };
    let model = model.expect("it is built");
    let layout = model.layout(&TrainableRules::default()).expect("something trains");
    let config = TrainConfig {
        heads: vec![Loss::cross_entropy().into()],
        optimizer: OptimizerConfig::sgd(0.01),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch,
        seed: [1; 32],
    };
    let mut trainer = Trainer::new(&model, &layout, &config).expect("a trainer");
    trainer.set_threads(threads);
    let b = Batch {
        inputs: vec![x],
        targets: vec![y],
        weights: None,
        flat: false,
    };
    let mut rates = Vec::new();
    for _ in 0..2 {
        trainer.step(b.clone()).expect("a step");
    }
    for _ in 0..7 {
        let (begin, mut n) = (Instant::now(), 0);
        while n == 0 || begin.elapsed().as_secs_f64() < seconds / 7.0 {
            trainer.step(b.clone()).expect("a step");
            n += 1;
        }
        rates.push(f64::from(n) / begin.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "{case} b{batch}, {threads} threads: median {:.1}, best {:.1} steps/s",
        rates[3], rates[6]
    );
}
