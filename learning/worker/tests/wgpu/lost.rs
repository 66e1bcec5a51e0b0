use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use aimass_learning::training::Stepper;
use aimass_learning::{AnyTrainer, BackendChoice, BackendConfig, BatchNorm, OptimizerConfig, TrainConfig, Trainer};
use aimass_onnx::TrainableRules;

use crate::{backend, models, open};

pub(crate) fn config(case: &models::Case) -> TrainConfig {
    TrainConfig {
        heads: vec![case.loss.clone().into()],
        optimizer: OptimizerConfig::sgd(0.05),
        batch_norm: BatchNorm::Batch,
        epochs: 1,
        batch: 3,
        seed: [9; 32],
    }
}

/// A real worker is killed in the middle of a run, and so is the one that takes its place.
#[test]
fn a_run_survives_the_death_of_its_workers() {
    let case = models::all().swap_remove(0);
    let (layout, config) = (case.model.layout(&TrainableRules::default()).expect("weights"), config(&case));
    let notes = Arc::new(Mutex::new(Vec::new()));
    let take = notes.clone();
    let take = move |line: &str| take.lock().expect("no panic").push(line.to_owned());
    let Some(mut theirs) = open(&case.model, &layout, &config, take) else {
        return;
    };
    let mut ours = Trainer::new(&case.model, &layout, &config).expect("it trains");
    for step in 0..12 {
        if step == 4 || step == 8 {
            let AnyTrainer::Remote(remote) = &theirs else { panic!("no worker") };
            let id = remote.worker_id().expect("a worker").to_string();
            assert!(Command::new("kill").args(["-9", &id]).status().expect("kill runs").success());
        }
        let expected = ours.step(case.batch.clone()).expect("a step").loss;
        let loss = theirs.step(case.batch.clone()).expect("a step").loss;
        assert!(
            (loss - expected).abs() <= 1e-4 * expected,
            "step {step}: {loss}, on the CPU {expected}"
        );
    }
    let notes = notes.lock().expect("no panic");
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("a new one goes on") && notes[1].contains("the CPU goes on"),
        "{notes:?}"
    );
}

/// Software rasterizers are for tests: without leave they are as good as no GPU.
#[test]
fn auto_never_takes_a_software_rasterizer() {
    let case = models::all().swap_remove(0);
    let (layout, config) = (case.model.layout(&TrainableRules::default()).expect("weights"), config(&case));
    let backend = BackendConfig {
        backend: BackendChoice::Auto,
        ..backend()
    };
    let notes = Arc::new(Mutex::new(String::new()));
    let take = notes.clone();
    let take = move |line: &str| line.clone_into(&mut take.lock().expect("no panic"));
    let trainer = AnyTrainer::open(&backend, &case.model, &layout, &config, take).expect("the CPU at least");
    let notes = notes.lock().expect("no panic");
    match trainer.adapter() {
        // A machine with a real one.
        Some(adapter) => assert_ne!(adapter.kind, aimass_learning::remote::AdapterKind::Software),
        None => assert!(notes.contains("software rasterizer") || notes.contains("no adapter"), "{notes}"),
    }
}

#[test]
fn a_worker_ends_with_its_parent_and_says_what_it_is_for() {
    let program = env!("CARGO_BIN_EXE_aimass-gpu-worker");
    let status = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("it runs");
    assert!(status.success());
    let output = Command::new(program).arg("--help").output().expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("takes no arguments"));
}
