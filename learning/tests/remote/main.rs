//! Training in a worker process that dies, hangs, lies or talks nonsense: the run goes on and ends as it would have on the CPU.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aimass_learning::remote::{Timeouts, WorkerCommand};
use aimass_learning::training::{Stepper, Training};
use aimass_learning::{
    AnyTrainer, BackendChoice, BackendConfig, Batch, BatchNorm, Dataset, Loss, Mask, OptimizerConfig, Rule, StepReport, TrainConfig,
    TrainError, Trainer,
};
use aimass_onnx::build::mlp;
use aimass_onnx::{Model, ParamLayout, TrainableRules};

const STEPS: usize = 12;

/// What a trained model is compared by. The test's worker interprets the graph and the CPU beside it runs a plan, so they agree to rounding:
/// a step that was lost, or made twice, is a thousand times further off.
#[derive(Debug)]
struct Outcome {
    weights: Vec<f32>,
    moments: Vec<Vec<f32>>,
    losses: Vec<f32>,
}

impl PartialEq for Outcome {
    fn eq(&self, other: &Self) -> bool {
        let near = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * b.abs().max(0.01));
        let moments = self.moments.len() == other.moments.len() && self.moments.iter().zip(&other.moments).all(|(a, b)| near(a, b));
        moments && near(&self.weights, &other.weights) && near(&self.losses, &other.losses)
    }
}

struct Setup {
    model: Model,
    layout: ParamLayout,
    config: TrainConfig,
    batches: Vec<Batch>,
    folder: tempfile::TempDir,
    notes: Arc<Mutex<Vec<String>>>,
}

impl Setup {
    fn new() -> Self {
        let model = mlp(&[6, 8, 3], 4);
        let layout = model.layout(&TrainableRules::default()).expect("weights");
        let rule = Rule::Adam {
            beta1: 0.9,
            beta2: 0.99,
            epsilon: 1e-6,
            decoupled: false,
        };
        let config = TrainConfig {
            heads: vec![Loss::cross_entropy().into()],
            optimizer: OptimizerConfig {
                rule,
                ..OptimizerConfig::sgd(0.02)
            },
            batch_norm: BatchNorm::Batch,
            epochs: 1,
            batch: 4,
            seed: [3; 32],
        };
        let batch = |i: usize| {
            let features = (0..24).map(|j| ((i * 24 + j) as f32 * 0.7).sin()).collect();
            let targets = (0..4).map(|j| ((i + j) % 3) as f32).collect();
            Batch::rows(features, targets).expect("whole rows")
        };
        Self {
            model,
            layout,
            config,
            batches: (0..STEPS).map(batch).collect(),
            folder: tempfile::tempdir().expect("a folder"),
            notes: Arc::default(),
        }
    }

    fn backend(&self, args: &[&str]) -> BackendConfig {
        BackendConfig {
            backend: BackendChoice::Wgpu,
            worker: Some(WorkerCommand {
                program: env!("CARGO_BIN_EXE_aimass-test-worker").into(),
                args: args.iter().map(Into::into).collect(),
            }),
            timeouts: Timeouts {
                first: Duration::from_secs(20),
                slack: Duration::from_millis(700),
            },
            ..BackendConfig::default()
        }
    }

    /// A worker whose answer to this step goes wrong, so many times over all processes.
    fn faulty(&self, fault: &str, step: u64, times: u64) -> BackendConfig {
        let file = self.folder.path().join("times");
        let file = file.to_str().expect("a path in UTF-8");
        self.backend(&["discrete", fault, &step.to_string(), file, &times.to_string()])
    }

    fn open(&self, backend: &BackendConfig) -> Result<AnyTrainer, TrainError> {
        let notes = self.notes.clone();
        let take = move |line: &str| notes.lock().expect("no panic").push(line.to_owned());
        AnyTrainer::open(backend, &self.model, &self.layout, &self.config, take)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.lock().expect("no panic").clone()
    }

    fn step(&self, trainer: &mut dyn Stepper, i: usize) -> StepReport {
        trainer.step(self.batches[i].clone()).expect("a step")
    }

    fn run(&self, trainer: &mut dyn Stepper) -> Outcome {
        let losses = (0..STEPS).map(|i| self.step(trainer, i).loss).collect();
        self.outcome(trainer, losses)
    }

    fn outcome(&self, trainer: &mut dyn Stepper, losses: Vec<f32>) -> Outcome {
        assert_eq!(trainer.steps(), STEPS as u64);
        Outcome {
            weights: trainer.weights().expect("weights"),
            moments: trainer.optimizer_state().expect("moments"),
            losses,
        }
    }

    /// As one process on the CPU ends.
    fn expected(&self) -> Outcome {
        self.run(&mut Trainer::new(&self.model, &self.layout, &self.config).expect("a trainer"))
    }
}

fn kill_9(trainer: &AnyTrainer) {
    let AnyTrainer::Remote(remote) = trainer else { panic!("no worker") };
    let id = remote.worker_id().expect("a worker").to_string();
    let status = Command::new("kill").args(["-9", &id]).status().expect("kill runs");
    assert!(status.success());
}

#[test]
fn a_worker_trains_to_the_same() {
    let setup = Setup::new();
    let mut trainer = setup.open(&setup.backend(&[])).expect("a trainer");
    assert_eq!(trainer.adapter().expect("an adapter").name, "test");
    assert_eq!(setup.run(&mut trainer), setup.expected());
    assert_eq!(setup.notes(), [""; 0]);
}

#[test]
fn a_worker_that_is_killed_is_replaced_once_and_then_by_the_cpu() {
    let setup = Setup::new();
    let mut trainer = setup.open(&setup.backend(&[])).expect("a trainer");
    let mut losses = Vec::new();
    for i in 0..STEPS {
        if i == 5 || i == 9 {
            kill_9(&trainer);
        }
        losses.push(setup.step(&mut trainer, i).loss);
    }
    assert_eq!(setup.outcome(&mut trainer, losses), setup.expected());
    assert!(trainer.adapter().is_none());
    let notes = setup.notes();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(
        notes[0].contains("signal: 9") && notes[0].contains("after step 5; a new one goes on"),
        "{notes:?}"
    );
    assert!(
        notes[1].contains("signal: 9") && notes[1].contains("after step 9; the CPU goes on"),
        "{notes:?}"
    );
}

#[test]
fn should_keep_pruned_weights_at_0_when_workers_are_lost() {
    const PRUNED_BEFORE: usize = 3;
    let pruned = |i: usize| i % 3 == 1;
    let step = |setup: &Setup, trainer: &mut dyn Stepper, i: usize| {
        if i == PRUNED_BEFORE {
            let kept: Vec<f32> = (0..setup.layout.n_weights()).map(|i| f32::from(u8::from(!pruned(i)))).collect();
            trainer.set_mask(Some(&Mask::of_weights(&kept))).expect("fits");
        }
        setup.step(trainer, i).loss
    };
    let setup = Setup::new();
    let mut alone = Trainer::new(&setup.model, &setup.layout, &setup.config).expect("a trainer");
    let losses = (0..STEPS).map(|i| step(&setup, &mut alone, i)).collect();
    let expected = setup.outcome(&mut alone, losses);
    // Lost before the mask is set, as it is set, right behind it, and for good.
    for lost in [&[][..], &[2], &[3], &[4], &[5, 9], &[3, 4]] {
        let setup = Setup::new();
        let mut trainer = setup.open(&setup.backend(&[])).expect("a trainer");
        let mut losses = Vec::new();
        for i in 0..STEPS {
            if lost.contains(&i) {
                kill_9(&trainer);
            }
            losses.push(step(&setup, &mut trainer, i));
        }
        let found = setup.outcome(&mut trainer, losses);
        assert_eq!(found, expected, "lost at {lost:?}");
        let zero = |flat: &[f32]| flat.iter().enumerate().all(|(i, v)| !pruned(i) || v.to_bits() == 0);
        assert!(zero(&found.weights) && found.moments.iter().all(|m| zero(m)), "lost at {lost:?}");
        assert_eq!(setup.notes().len(), lost.len(), "{:?}", setup.notes());
    }
}

/// Whether a fault, once and again and again, leaves the run as it was, and what is said about it.
fn survives(fault: &str, said: &str) {
    survives_at(7, fault, said);
}

fn survives_at(step: u64, fault: &str, said: &str) {
    for (times, on_cpu) in [(1, false), (9, true)] {
        let setup = Setup::new();
        let mut trainer = setup.open(&setup.faulty(fault, step, times)).expect("a trainer");
        assert_eq!(setup.run(&mut trainer), setup.expected(), "{fault}");
        let notes = setup.notes();
        assert_eq!(trainer.adapter().is_none(), on_cpu, "{fault}: {notes:?}");
        assert_eq!(notes.len(), if on_cpu { 2 } else { 1 }, "{fault}: {notes:?}");
        assert!(notes.iter().all(|note| note.contains(said)), "{fault}: {notes:?}");
    }
}

#[test]
fn a_worker_that_panics_says_why() {
    survives("panic", "the driver is gone");
}

#[test]
fn a_worker_that_ends_is_replaced() {
    survives("exit", "exit status: 3");
}

#[test]
fn a_worker_that_hangs_is_killed() {
    let start = Instant::now();
    survives("hang", "did not answer within");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_worker_that_answers_noise_is_replaced() {
    survives("noise", "makes no sense");
    survives("long", "makes no sense");
    survives("ahead", "makes no sense");
    survives("chatter", "makes no sense");
}

/// The first state is fetched to compare gradients, the other at the end.
#[test]
fn a_worker_whose_weights_are_not_finite_is_replaced() {
    survives_at(1, "nan", "not finite");
    survives_at(STEPS as u64, "nan", "not finite");
}

/// Whether the CPU goes on with the run as it was after a fault that makes the worker untrustworthy, not unwell.
fn is_given_up(backend: impl FnOnce(&Setup) -> BackendConfig, said: &str) {
    let setup = Setup::new();
    let mut trainer = setup.open(&backend(&setup)).expect("a trainer");
    assert_eq!(setup.run(&mut trainer), setup.expected());
    let notes = setup.notes();
    assert!(trainer.adapter().is_none() && notes.len() == 1, "{notes:?}");
    assert!(notes[0].contains(said) && notes[0].contains("the CPU goes on"), "{notes:?}");
}

#[test]
fn a_worker_that_refuses_what_the_cpu_takes_is_given_up() {
    is_given_up(
        |setup| setup.faulty("refuse", 7, 9),
        "refuses step 7, which the CPU takes (it is tired)",
    );
    is_given_up(|setup| setup.faulty("diverge", 7, 9), "became NaN at step 7");
}

#[test]
fn a_device_whose_gradients_are_wrong_is_given_up() {
    is_given_up(|setup| setup.faulty("gradient", 1, 9), "its gradients are not those of the CPU");
}

#[test]
fn auto_prefers_the_faster() {
    let slow = |backend| {
        move |setup: &Setup| BackendConfig {
            backend,
            ..setup.faulty("slow", 0, 0)
        }
    };
    is_given_up(slow(BackendChoice::Auto), "ms a step");
    let setup = Setup::new();
    let mut trainer = setup.open(&slow(BackendChoice::Wgpu)(&setup)).expect("a trainer");
    assert_eq!(setup.run(&mut trainer), setup.expected());
    assert!(trainer.adapter().is_some(), "wgpu is what was asked for");
}

/// A training that does diverge does so on either side, and is refused with the CPU's words.
#[test]
fn a_training_that_diverges_is_no_fault_of_the_worker() {
    let mut setup = Setup::new();
    setup.config.optimizer = OptimizerConfig::sgd(1e30);
    let mut trainer = setup.open(&setup.backend(&[])).expect("a trainer");
    let mut ours = Trainer::new(&setup.model, &setup.layout, &setup.config).expect("a trainer");
    for i in 0..STEPS {
        let (theirs, ours) = (trainer.step(setup.batches[i].clone()), ours.step(setup.batches[i].clone()));
        let (theirs, ours) = (theirs.map_err(|e| e.to_string()), ours.map_err(|e| e.to_string()));
        assert_eq!(theirs, ours, "step {i}");
        if let Err(error) = ours {
            assert!(error.contains("lower the learning rate"), "{error}");
            return;
        }
    }
    panic!("it did not diverge");
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_does_not_reach_the_worker() {
    let setup = Setup::new();
    let trainer = setup.open(&setup.backend(&[])).expect("a trainer");
    let AnyTrainer::Remote(remote) = &trainer else {
        panic!("no worker")
    };
    let id = remote.worker_id().expect("a worker").to_string();
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).expect("the process is there");
    // After the name in parentheses: state, parent, process group.
    let group = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(2));
    assert_eq!(group, Some(id.as_str()));
}

#[test]
fn a_worker_that_stops_in_the_middle_of_an_answer_is_replaced() {
    survives("cut", "ended");
}

#[test]
fn a_device_that_computes_wrongly_is_given_up_for_the_cpu() {
    for step in [1, 2] {
        let setup = Setup::new();
        let mut trainer = setup.open(&setup.faulty("wrong", step, 9)).expect("a trainer");
        assert_eq!(setup.run(&mut trainer), setup.expected());
        let notes = setup.notes();
        assert!(trainer.adapter().is_none() && notes.len() == 1, "{notes:?}");
        assert!(
            notes[0].contains(&format!("computes wrongly: at step {step} it has a loss of 123")),
            "{notes:?}"
        );
    }
}

#[test]
fn a_training_that_goes_on_from_a_state_does_so_in_the_worker_too() {
    let setup = Setup::new();
    let mut first = setup.open(&setup.backend(&[])).expect("a trainer");
    let mut losses: Vec<f32> = (0..6).map(|i| setup.step(&mut first, i).loss).collect();
    let (weights, buffers, moments) = (
        first.weights().expect("weights"),
        first.buffers().expect("buffers"),
        first.optimizer_state().expect("moments"),
    );
    let mut second = setup.open(&setup.backend(&[])).expect("a trainer");
    second.restore_all(6, &weights, &buffers, &moments).expect("a state that fits");
    kill_9(&second);
    losses.extend((6..STEPS).map(|i| setup.step(&mut second, i).loss));
    assert_eq!(setup.outcome(&mut second, losses), setup.expected());
    let wrong = second.restore_all(6, &weights[1..], &buffers, &moments);
    assert!(matches!(wrong, Err(TrainError::Data { .. })), "{wrong:?}");
}

#[test]
fn whole_passes_over_data_survive_a_kill() {
    let setup = Setup::new();
    let features = (0..240).map(|i| (i as f32 * 0.3).cos()).collect();
    let data = Dataset::new(features, (0..40).map(|i| (i % 3) as f32).collect(), 6).expect("whole rows");
    let config = TrainConfig {
        epochs: 3,
        ..setup.config.clone()
    };
    let mut losses = Vec::new();
    for kill in [false, true] {
        let mut training = Training::on(&setup.model, &setup.layout, &data, &config, |model, layout, config| {
            AnyTrainer::open(&setup.backend(&[]), model, layout, config, |_| {})
        })
        .expect("a training");
        let mut loss = None;
        while let Some(step) = training.step().expect("a step") {
            if kill && step.step == 14 {
                kill_9(training.stepper());
            }
            loss = step.epoch_loss.or(loss);
        }
        losses.push((loss.expect("a pass"), training.weights().expect("weights")));
    }
    assert_eq!(losses[0], losses[1]);
}

#[test]
fn errors_of_the_batch_are_the_callers_and_change_nothing() {
    let setup = Setup::new();
    let mut trainer = setup.open(&setup.backend(&[])).expect("a trainer");
    let mut losses = Vec::new();
    for i in 0..STEPS {
        let no_class = Batch::rows(vec![0.0; 6], vec![7.0]).expect("a row");
        let error = trainer.step(no_class);
        assert!(matches!(error, Err(TrainError::Data { .. })), "{error:?}");
        losses.push(setup.step(&mut trainer, i).loss);
    }
    assert_eq!(setup.outcome(&mut trainer, losses), setup.expected());
    assert_eq!(setup.notes(), [""; 0]);
}

/// `auto` takes the CPU and says why; `wgpu` is refused.
fn has_no_gpu(mut backend: BackendConfig, why: &str) {
    let setup = Setup::new();
    let error = setup.open(&backend).expect_err("no GPU").to_string();
    assert!(error.contains(why) && error.contains("choose the backend cpu or auto"), "{error}");
    backend.backend = BackendChoice::Auto;
    let mut trainer = setup.open(&backend).expect("the CPU");
    assert!(trainer.adapter().is_none());
    let notes = setup.notes();
    assert!(
        notes.len() == 1 && notes[0].starts_with("training on the CPU: ") && notes[0].contains(why),
        "{notes:?}"
    );
    assert_eq!(setup.run(&mut trainer), setup.expected());
}

#[test]
fn without_a_gpu_auto_takes_the_cpu_and_says_why() {
    let setup = Setup::new();
    let program = |path: &str| BackendConfig {
        worker: Some(WorkerCommand {
            program: path.into(),
            args: Vec::new(),
        }),
        ..setup.backend(&[])
    };
    has_no_gpu(setup.backend(&["none"]), "no adapter was found");
    has_no_gpu(setup.backend(&["software"]), "software rasterizer");
    has_no_gpu(program("no/such/worker"), "can't be started");
    has_no_gpu(program("true"), "ended");
    has_no_gpu(program("cat"), "makes no sense");
    let nowhere = BackendConfig {
        worker: None,
        ..setup.backend(&[])
    };
    has_no_gpu(nowhere, "aimass-gpu-worker");
}

#[test]
fn a_software_rasterizer_is_taken_by_name_alone() {
    let setup = Setup::new();
    let mut backend = BackendConfig {
        allow_software: true,
        ..setup.backend(&["software"])
    };
    let trainer = setup.open(&backend).expect("it is allowed");
    assert!(trainer.adapter().is_some());
    backend.backend = BackendChoice::Auto;
    let trainer = setup.open(&backend).expect("the CPU");
    assert!(trainer.adapter().is_none());
}

#[test]
fn what_takes_too_much_memory_is_refused_on_either_side() {
    let setup = Setup::new();
    let large = Batch::rows(vec![0.5; 6 * 4096], vec![1.0; 4096]).expect("whole rows");
    for choice in [BackendChoice::Cpu, BackendChoice::Wgpu] {
        let mut backend = BackendConfig {
            backend: choice,
            memory_limit_bytes: Some(64 << 10),
            ..setup.backend(&[])
        };
        let mut trainer = setup.open(&backend).expect("a small model");
        setup.step(&mut trainer, 0);
        let error = trainer.step(large.clone()).expect_err("a large batch").to_string();
        assert!(error.contains("use a smaller batch"), "{choice}: {error}");
        setup.step(&mut trainer, 1);
        backend.memory_limit_bytes = Some(100);
        let error = setup.open(&backend).expect_err("weights alone are more").to_string();
        assert!(error.contains("raise the limit"), "{choice}: {error}");
    }
}
