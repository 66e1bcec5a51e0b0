use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aimass_learning::remote::WorkerCommand;
use aimass_learning::training::Stepper;
use aimass_learning::{AnyTrainer, BackendChoice, BackendConfig, BatchNorm, OptimizerConfig, TrainConfig, Trainer};
use aimass_onnx::TrainableRules;

use crate::{backend, models, open, open_on};

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

type Notes = Arc<Mutex<Vec<String>>>;

fn taker(notes: &Notes) -> impl FnMut(&str) + Send + 'static {
    let notes = notes.clone();
    move |line: &str| notes.lock().expect("no panic").push(line.to_owned())
}

fn worker_id(trainer: &AnyTrainer) -> String {
    let AnyTrainer::Remote(remote) = trainer else { panic!("no worker") };
    remote.worker_id().expect("a worker").to_string()
}

/// A real worker is killed in the middle of a run, and the one that takes its place stops answering.
#[test]
fn a_run_survives_the_death_of_its_workers() {
    let case = models::all().swap_remove(0);
    let (layout, config) = (case.model.layout(&TrainableRules::default()).expect("weights"), config(&case));
    let notes = Notes::default();
    let mut backend = backend();
    backend.timeouts.slack = Duration::from_secs(1);
    let Some(mut theirs) = open_on(&backend, &case.model, &layout, &config, taker(&notes)) else {
        return;
    };
    let mut ours = Trainer::new(&case.model, &layout, &config).expect("it trains");
    for step in 0..12 {
        if let Some(signal) = [(4, "-KILL"), (8, "-STOP")]
            .into_iter()
            .find_map(|(at, signal)| (at == step).then_some(signal))
        {
            let killed = Command::new("kill").args([signal, &worker_id(&theirs)]).status();
            assert!(killed.expect("kill runs").success());
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
        notes[0].contains("signal: 9") && notes[0].contains("a new one goes on"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains("did not answer") && notes[1].contains("the CPU goes on"),
        "{notes:?}"
    );
}

/// A batch that takes more memory than there is: the worker fails at it, its successor too, and the CPU makes the step.
#[cfg(target_os = "linux")]
#[test]
fn a_run_survives_a_device_without_memory() {
    const MORE_KIB: u64 = 256 << 10;
    let model = aimass_onnx::build::mlp(&[64, 64, 3], 2);
    let case = models::Case {
        name: "wide",
        model,
        batch: rows(3, 64),
        loss: aimass_learning::Loss::cross_entropy(),
    };
    let (layout, config) = (case.model.layout(&TrainableRules::default()).expect("weights"), config(&case));
    let Some(mut first) = open(&case.model, &layout, &config, |_| {}) else {
        return;
    };
    first.step(case.batch.clone()).expect("a step");
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker_id(&first))).expect("the process is there");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).expect("a peak");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    drop(first);

    let notes = Notes::default();
    let mut backend = backend();
    let worker = backend.worker.take().expect("a worker");
    let limited = format!("ulimit -v {}; exec \"$0\"", peak + MORE_KIB);
    backend.worker = Some(WorkerCommand {
        program: "sh".into(),
        args: vec!["-c".into(), limited.into(), worker.program.into()],
    });
    let Some(mut theirs) = open_on(&backend, &case.model, &layout, &config, taker(&notes)) else {
        return;
    };
    let mut ours = Trainer::new(&case.model, &layout, &config).expect("it trains");
    for n in [3, 3, 3, 1 << 19, 3] {
        let (expected, loss) = (
            ours.step(rows(n, 64)).expect("a step").loss,
            theirs.step(rows(n, 64)).expect("a step").loss,
        );
        assert!(
            (loss - expected).abs() <= 1e-4 * expected,
            "{n} rows: {loss}, on the CPU {expected}"
        );
    }
    let notes = notes.lock().expect("no panic");
    println!("{notes:?}");
    assert!(notes.len() == 2 && notes[0].contains("after step 3; a new one"), "{notes:?}");
    assert!(notes[1].contains("after step 3; the CPU goes on"), "{notes:?}");
}

#[cfg(target_os = "linux")]
fn rows(n: usize, features: usize) -> aimass_learning::Batch {
    let values = (0..n * features).map(|i| ((i * 37 % 101) as f32 * 0.61).sin()).collect();
    aimass_learning::Batch::rows(values, (0..n).map(|i| (i % 3) as f32).collect()).expect("whole rows")
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
    let notes = Notes::default();
    let trainer = AnyTrainer::open(&backend, &case.model, &layout, &config, taker(&notes)).expect("the CPU at least");
    let notes = notes.lock().expect("no panic").join("; ");
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
