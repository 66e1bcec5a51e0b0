//! Where training computes: on the CPU, or on a GPU in a worker process.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use aimass_onnx::{Model, ParamLayout};

use crate::remote::{Adapter, RemoteError, RemoteSettings, RemoteTrainer, Timeouts, WorkerCommand};
use crate::training::Stepper;
use crate::{Batch, Mask, StepReport, TrainConfig, TrainError, Trainer};

/// File name of the worker, which is looked for beside the executable that runs.
const WORKER: &str = "aimass-gpu-worker";
/// Names the worker's executable.
const WORKER_VARIABLE: &str = "AIMASS_GPU_WORKER";
/// `1`: a software rasterizer will do.
const SOFTWARE_VARIABLE: &str = "AIMASS_WGPU_SOFTWARE";

/// Most threads: more than the cores of any machine are of no use, and each takes memory.
const MAX_THREADS: usize = 1024;

/// The choice of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackendChoice {
    /// A GPU where there is one that computes what the CPU computes, and faster; otherwise the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or nothing.
    Wgpu,
}

impl FromStr for BackendChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "wgpu" => Ok(Self::Wgpu),
            other => Err(format!("the backend `{other}` is unknown; use auto, cpu or wgpu")),
        }
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Wgpu => "wgpu",
        })
    }
}

/// Where and with how much to compute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackendConfig {
    /// Which.
    pub backend: BackendChoice,
    /// Threads of the CPU that work on a step together; one a core where absent. Those of the interpreter are one pool for the whole
    /// process: its first training decides.
    pub threads: Option<NonZeroUsize>,
    /// A step whose estimate is above this is refused, on the CPU and in the worker (there for the device's memory).
    pub memory_limit_bytes: Option<u64>,
    /// The worker; where absent, `aimass-gpu-worker` beside the executable that runs.
    pub worker: Option<WorkerCommand>,
    /// Whether `wgpu` may be a software rasterizer, which is of use for tests alone. `auto` never takes one.
    pub allow_software: bool,
    /// How long the worker may take.
    pub timeouts: Timeouts,
}

impl BackendConfig {
    /// The CPU, with the defaults of all else.
    pub fn cpu() -> Self {
        Self {
            backend: BackendChoice::Cpu,
            ..Self::default()
        }
    }

    /// The defaults, with the worker that `AIMASS_GPU_WORKER` names, and a software rasterizer allowed where `AIMASS_WGPU_SOFTWARE` is 1.
    pub fn from_environment() -> Self {
        Self {
            worker: std::env::var_os(WORKER_VARIABLE).filter(|v| !v.is_empty()).map(WorkerCommand::new),
            allow_software: std::env::var_os(SOFTWARE_VARIABLE).is_some_and(|v| v == "1"),
            ..Self::default()
        }
    }

    fn worker(&self) -> Result<WorkerCommand, RemoteError> {
        if let Some(worker) = &self.worker {
            return Ok(worker.clone());
        }
        let beside = || -> Option<PathBuf> {
            let name = format!("{WORKER}{}", std::env::consts::EXE_SUFFIX);
            Some(std::env::current_exe().ok()?.parent()?.join(name))
        };
        let found = beside().filter(|path| path.is_file());
        let program = found.ok_or_else(|| {
            RemoteError::NoDevice(format!(
                "there is no `{WORKER}` beside this program; put it there (`cargo build --release -p {WORKER}` makes it), or name it in \
                 {WORKER_VARIABLE}"
            ))
        })?;
        Ok(WorkerCommand::new(program))
    }

    fn open_remote(&self, model: &Model, layout: &ParamLayout, config: &TrainConfig) -> Result<RemoteTrainer, RemoteError> {
        let settings = RemoteSettings {
            command: self.worker()?,
            timeouts: self.timeouts,
            allow_software: self.allow_software && self.backend == BackendChoice::Wgpu,
            prefer_faster: self.backend == BackendChoice::Auto,
            memory_limit_bytes: self.memory_limit_bytes,
        };
        RemoteTrainer::open(settings, model, layout, config)
    }
}

/// A trainer on whichever backend was chosen.
#[derive(Debug)]
pub enum AnyTrainer {
    /// In this process, on the CPU.
    Cpu(Box<Trainer>),
    /// In a worker.
    Remote(Box<RemoteTrainer>),
}

impl AnyTrainer {
    /// Chooses, and begins. `notes` gets one line for a person whenever something about the backend is worth it: now why there is no
    /// GPU, later that a worker was lost.
    ///
    /// # Errors
    /// [`TrainError::Graph`], [`TrainError::Config`] as [`Trainer::new`]'s; [`TrainError::Backend`] where `wgpu` was asked for by name
    /// and can't be had.
    pub fn open(
        backend: &BackendConfig,
        model: &Model,
        layout: &ParamLayout,
        config: &TrainConfig,
        mut notes: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self, TrainError> {
        if let Some(threads) = backend.threads {
            if threads.get() > MAX_THREADS {
                return Err(TrainError::Config {
                    reason: format!("{threads} threads are more than the {MAX_THREADS} that are accepted; use one a core at most"),
                });
            }
            set_threads(threads, &mut notes);
        }
        if backend.backend != BackendChoice::Cpu {
            match backend.open_remote(model, layout, config) {
                Ok(mut trainer) => {
                    trainer.set_notes(Box::new(notes));
                    return Ok(Self::Remote(Box::new(trainer)));
                }
                Err(RemoteError::Train(error)) => return Err(error),
                Err(why) if backend.backend == BackendChoice::Wgpu => {
                    let fix = match why {
                        RemoteError::Software(_) => {
                            format!("; allow it by {SOFTWARE_VARIABLE}=1 for a test, or choose the backend cpu or auto")
                        }
                        _ => "; choose the backend cpu or auto".to_owned(),
                    };
                    return Err(TrainError::Backend {
                        reason: format!("{why}{fix}"),
                    });
                }
                Err(why) => notes(&format!("training on the CPU: {why}")),
            }
        }
        let mut trainer = Trainer::new(model, layout, config)?;
        trainer.set_threads(
            backend
                .threads
                .or_else(|| std::thread::available_parallelism().ok())
                .unwrap_or(NonZeroUsize::MIN),
        );
        trainer.limit_memory(backend.memory_limit_bytes)?;
        Ok(Self::Cpu(Box::new(trainer)))
    }

    /// The GPU that it computes on; `None` on the CPU.
    pub fn adapter(&self) -> Option<&Adapter> {
        match self {
            Self::Cpu(_) => None,
            Self::Remote(trainer) => trainer.adapter(),
        }
    }
}

/// Once a process: the pool of threads can't be made anew.
fn set_threads(threads: NonZeroUsize, notes: &mut impl FnMut(&str)) {
    let made = rayon::ThreadPoolBuilder::new().num_threads(threads.get()).build_global();
    let there = rayon::current_num_threads();
    if made.is_err() && there != threads.get() {
        notes(&format!(
            "computing with {there} threads, not {threads}: their number was settled when this process first computed"
        ));
    }
}

impl Stepper for AnyTrainer {
    fn step(&mut self, batch: Batch) -> Result<StepReport, TrainError> {
        match self {
            Self::Cpu(trainer) => trainer.step(batch),
            Self::Remote(trainer) => trainer.step(batch),
        }
    }
    fn steps(&self) -> u64 {
        match self {
            Self::Cpu(trainer) => trainer.steps(),
            Self::Remote(trainer) => trainer.steps(),
        }
    }
    fn weights(&mut self) -> Result<Vec<f32>, TrainError> {
        match self {
            Self::Cpu(trainer) => Trainer::weights(trainer),
            Self::Remote(trainer) => trainer.weights(),
        }
    }
    fn buffers(&mut self) -> Result<Vec<f32>, TrainError> {
        match self {
            Self::Cpu(trainer) => Trainer::buffers(trainer),
            Self::Remote(trainer) => trainer.buffers(),
        }
    }
    fn optimizer_state(&mut self) -> Result<Vec<Vec<f32>>, TrainError> {
        match self {
            Self::Cpu(trainer) => Trainer::optimizer_state(trainer),
            Self::Remote(trainer) => trainer.optimizer_state(),
        }
    }
    fn restore_all(&mut self, steps: u64, weights: &[f32], buffers: &[f32], moments: &[Vec<f32>]) -> Result<(), TrainError> {
        match self {
            Self::Cpu(trainer) => Stepper::restore_all(trainer.as_mut(), steps, weights, buffers, moments),
            Self::Remote(trainer) => trainer.restore_all(steps, weights, buffers, moments),
        }
    }
    fn set_mask(&mut self, mask: Option<&Mask>) -> Result<(), TrainError> {
        match self {
            Self::Cpu(trainer) => Trainer::set_mask(trainer, mask),
            Self::Remote(trainer) => trainer.set_mask(mask),
        }
    }
}
