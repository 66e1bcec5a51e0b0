use std::collections::BTreeMap;

use aimass_onnx::build::{
    Cell, InitialWeights, McMahanCnn, MobileNetV2, RecurrentLm, ResNet18, Stack, TransformerClassifier, TransformerLm, mlp,
};
use aimass_onnx::{Model, TrainableRules};
use serde::Deserialize;

use super::*;
use crate::inspect::{Question, inspect};
use crate::program::Mode;

/// Recorded by `bench/peers/torch_flops.py`.
const FLOPS: &str = include_str!("../../../testdata/flops.json");

#[derive(Deserialize)]
struct Recorded {
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    model: String,
    batch: usize,
    forward: u64,
    step: u64,
}

fn weights() -> InitialWeights {
    InitialWeights::seeded(1)
}

/// A model by the name that the records have for it, and the shape of its input for a batch.
fn zoo(name: &str, batch: usize) -> (Model, Vec<usize>) {
    let stack = Stack {
        max_sequence: 64,
        ..Stack::default()
    };
    let (model, row) = match name {
        "2nn" => (Ok(mlp(&[784, 200, 200, 10], 1)), vec![784]),
        "cnn" => (McMahanCnn.build(weights()), vec![1, 28, 28]),
        "lstm-lm" => {
            let lm = RecurrentLm {
                vocabulary: 90,
                embedding: 8,
                ..RecurrentLm::new(Cell::Lstm)
            };
            (lm.build(weights()), vec![80])
        }
        "gru-lm" => (RecurrentLm::new(Cell::Gru).build(weights()), vec![80]),
        "transformer" => (TransformerClassifier { classes: 4, stack }.build(weights()), vec![64]),
        "transformer-lm" => (TransformerLm { stack }.build(weights()), vec![64]),
        "resnet18" => (ResNet18::default().build(weights()), vec![3, 32, 32]),
        "mobilenet" => (MobileNetV2::default().build(weights()), vec![3, 32, 32]),
        other => panic!("no model is called {other}"),
    };
    (model.expect("sizes that fit"), [vec![batch], row].concat())
}

fn planned(model: &Model, shape: &[usize]) -> (Graph, Program) {
    let layout = model.layout(&TrainableRules::default()).expect("a layout");
    let graph = Graph::new(model, Some(&layout)).expect("a graph");
    let mode = Mode::Training { batch_statistics: true };
    let program = graph.plan(&[shape.to_vec()], mode).expect("a program");
    (graph, program)
}

#[test]
fn products_are_counted_as_pytorch_counts_them() {
    let recorded: Recorded = serde_json::from_str(FLOPS).expect("recorded operations");
    assert_eq!(recorded.records.len(), 5);
    for Record {
        model: name,
        batch,
        forward,
        step,
    } in recorded.records
    {
        let (model, shape) = zoo(&name, batch);
        let (graph, program) = planned(&model, &shape);
        let shapes = Shapes {
            graph: &graph,
            program: &program,
        };
        let (ahead, back) = flops(shapes);
        assert_eq!(ahead.products, forward, "{name}, forward");
        let ours = ahead.products + back.products;
        // PyTorch leaves out the gradient by the states that a recurrent layer begins with.
        let apart = ours.abs_diff(step) as f64 / step as f64;
        assert!(apart < 0.003, "{name}: {ours} in a step, PyTorch counts {step}");
        // Everything else is small beside them.
        let whole = cost(&graph, &program, 0);
        assert!(
            whole.forward_flops >= forward && (whole.forward_flops as f64) < 1.02 * forward as f64,
            "{name}: {whole:?}"
        );
        assert!((whole.step_flops as f64) < 1.02 * step as f64, "{name}: {whole:?}");
    }
}

#[test]
fn what_does_not_train_has_no_gradient() {
    let (model, shape) = zoo("2nn", 10);
    let layout = model
        .layout(&TrainableRules::new(&["!fc1.*", "!fc2.*"].map(str::to_owned)).expect("a rule"))
        .expect("a layout");
    let graph = Graph::new(&model, Some(&layout)).expect("a graph");
    let program = graph.plan(&[shape], Mode::Training { batch_statistics: true }).expect("a program");
    let (_, back) = flops(Shapes {
        graph: &graph,
        program: &program,
    });
    // The last layer's weights alone.
    assert_eq!(back.products, 2 * 10 * 200 * 10);
}

#[test]
fn moments_and_batches_take_memory() {
    let (model, shape) = zoo("2nn", 10);
    let (graph, program) = planned(&model, &shape);
    let [sgd, momentum, adam] = [0, 1, 2].map(|moments| cost(&graph, &program, moments).peak_bytes);
    assert_eq!([momentum - sgd, adam - momentum], [4 * 199_210; 2]);
    let (_, larger) = planned(&model, &[20, 784]);
    let more = cost(&graph, &larger, 0).peak_bytes - sgd;
    // Ten rows more: what was fed and what is on the device, two hidden layers before and after their activation.
    assert!((4 * 10 * 2 * 784..4 * 10 * (3 * 784 + 8 * 400)).contains(&more), "{more}");
}

/// The file of the model that the process of [`grows`] trains, and the shape of a batch.
const FILE: &str = "AIMASS_TEST_MEMORY_OF";
const SHAPE: &str = "AIMASS_TEST_MEMORY_SHAPE";

/// A model and its batch.
const GROWING: [(&str, usize); 5] = [
    ("cnn", 32),
    ("transformer-lm", 16),
    ("gru-lm", 10),
    ("resnet18", 4),
    ("mobilenet", 16),
];

#[cfg(target_os = "linux")]
#[test]
fn the_peak_is_what_a_process_grows_by() {
    let me = std::env::current_exe().expect("the test's program");
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, batch) in GROWING {
        let (model, shape) = zoo(name, batch);
        let file = dir.path().join(name);
        std::fs::write(&file, model.as_bytes()).expect("room for the model");
        let lengths: Vec<String> = shape.iter().map(usize::to_string).collect();
        let child = std::process::Command::new(&me)
            .args(["--ignored", "--exact", "inspect::cost::tests::grows", "--nocapture"])
            .env(FILE, &file)
            .env(SHAPE, lengths.join(","))
            // Each thread keeps buffers of its own.
            .env("RAYON_NUM_THREADS", "2")
            .output()
            .expect("a process of the same test");
        let said = String::from_utf8_lossy(&child.stdout);
        let grown = said
            .lines()
            .find_map(|line| line.split_once("grown by ")?.1.trim().parse::<u64>().ok());
        let grown = grown.unwrap_or_else(|| panic!("{name}: {said}{}", String::from_utf8_lossy(&child.stderr)));
        let layout = model.layout(&TrainableRules::default()).expect("a layout");
        let question = Question {
            batch,
            dims: BTreeMap::from([("sequence".to_owned(), shape[1])]),
            moments: 0,
            gathered: false,
        };
        let estimated = inspect(&model, Ok(&layout), &question).cost.expect("it trains").peak_bytes;
        let ratio = estimated as f64 / grown as f64;
        println!("{name}: {} MiB estimated, {} measured", estimated >> 20, grown >> 20);
        assert!(
            (0.75..1.4).contains(&ratio),
            "{name}: {estimated} bytes estimated, {grown} measured"
        );
    }
}

/// Not a test: the process that [`the_peak_is_what_a_process_grows_by`] looks at.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "run by another test, in a process of its own"]
fn grows() {
    use crate::{Array, Batch, BatchNorm, Loss, OptimizerConfig, TrainConfig, Trainer};
    let (Ok(file), Ok(lengths)) = (std::env::var(FILE), std::env::var(SHAPE)) else {
        return;
    };
    let shape: Vec<usize> = lengths.split(',').map(|n| n.parse().expect("a length")).collect();
    let batch = shape[0];
    let n = shape.iter().product::<usize>();
    let tokens = shape.len() == 2;
    let input = if tokens {
        Array::ints(shape.clone(), (0..n as i64).map(|i| i * 7 % 90).collect())
    } else {
        Array::floats(shape.clone(), (0..n).map(|i| (i % 17) as f32 / 17.0).collect())
    };
    let targets = if tokens {
        Array::ints(shape, (0..n as i64).map(|i| i * 11 % 90).collect())
    } else {
        Array::ints(vec![batch], (0..batch as i64).map(|i| i % 10).collect())
    };
    let fed = Batch {
        inputs: vec![input.expect("values that fill it")],
        targets: vec![targets.expect("values that fill it")],
        weights: None,
        flat: false,
    };
    let kib = |name: &str| -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a line of memory");
        line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
    };
    let before = kib("VmRSS:");
    let model = Model::from_shared(std::fs::read(file).expect("the model").into()).expect("the model");
    let layout = model.layout(&TrainableRules::default()).expect("a layout");
    let config = TrainConfig {
        heads: vec![Loss::cross_entropy().into()],
        optimizer: OptimizerConfig::sgd(0.01),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch,
        seed: [0; 32],
    };
    let mut trainer = Trainer::new(&model, &layout, &config).expect("a trainer");
    for _ in 0..2 {
        trainer.step(fed.clone()).expect("a step");
    }
    println!("grown by {}", (kib("VmHWM:") - before) * 1024);
}
