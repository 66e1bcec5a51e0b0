//! The parent's side: a trainer that computes in a worker and survives it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aimass_onnx::{Model, ParamKind, ParamLayout};

use super::message::{Adapter, AdapterKind, Load, Refusal, RefusalKind, Reply, Request, State, VERSION};
use super::probe;
use super::process::{Lost, Timeouts, Worker, WorkerCommand};
use super::serve::{load_trainer, set_state, state_of};
use crate::executor::Cpu;
use crate::training::Stepper;
use crate::{Batch, StepReport, TrainConfig, TrainError, Trainer};

/// Gets a line for a person whenever something about the backend is worth one.
pub(crate) type Notes = Box<dyn FnMut(&str) + Send>;

/// Longest time of steps that a lost worker costs.
const STATE_INTERVAL: Duration = Duration::from_secs(10);
/// Most bytes of batches that are kept for a new worker.
const MAX_KEPT_BYTES: usize = 128 << 20;
/// Steps that the CPU makes too, of the first ones of a training: the first checks the outputs, the second the gradients.
const CHECKED_STEPS: u64 = 2;
/// Times of steps that the median is taken over.
const TIMES: usize = 31;
/// Bytes of a reply besides those of a state.
const SMALL_REPLY_BYTES: u64 = 64 << 10;

/// How a worker is started and treated.
#[derive(Debug, Clone)]
pub(crate) struct RemoteSettings {
    pub(crate) command: WorkerCommand,
    pub(crate) timeouts: Timeouts,
    /// Whether a software rasterizer will do.
    pub(crate) allow_software: bool,
    pub(crate) memory_limit_bytes: Option<u64>,
}

/// Why no training can begin on a worker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The worker failed.
    #[error("the GPU worker {0}")]
    Worker(String),
    /// There is no device.
    #[error("no GPU to train on: {0}")]
    NoDevice(String),
    /// There is none but the CPU.
    #[error("the only adapter, {0}, is a software rasterizer, slower than the CPU itself")]
    Software(Adapter),
    /// It computes something else than the CPU.
    #[error("{adapter} computes wrongly: a loss of {theirs} where the CPU has {ours}")]
    Wrong {
        /// The device.
        adapter: Adapter,
        /// Its loss.
        theirs: f32,
        /// The CPU's.
        ours: f32,
    },
    /// The model or the settings, which no backend would take.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl From<Lost> for RemoteError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Device(reason) => Self::NoDevice(reason),
            lost => Self::Worker(lost.to_string()),
        }
    }
}

enum Link {
    Worker(Worker),
    Cpu(Box<Trainer>),
    /// While a worker is being replaced.
    Gone,
}

/// A [`Trainer`] whose steps a worker makes. When the worker is lost, another goes on in its place, and then the CPU.
pub struct RemoteTrainer {
    link: Link,
    settings: RemoteSettings,
    adapter: Adapter,
    load: Load,
    n_weights: usize,
    n_buffers: usize,
    n_moments: usize,
    steps: u64,
    /// As it was `kept.len()` steps ago.
    saved: State,
    saved_at: Instant,
    /// The batches since, encoded.
    kept: Vec<Vec<u8>>,
    kept_bytes: usize,
    /// Whether a worker was lost before.
    replaced: bool,
    /// Shapes of batches that were seen.
    shapes: HashSet<Vec<usize>>,
    times: Vec<Duration>,
    /// Makes the first steps too.
    check: Option<Box<Trainer>>,
    checked: u64,
    notes: Notes,
}

impl std::fmt::Debug for RemoteTrainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteTrainer")
            .field("adapter", &self.adapter)
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl RemoteTrainer {
    /// Starts a worker, and checks its device by two steps that the CPU makes too.
    pub(crate) fn open(settings: RemoteSettings, model: &Model, layout: &ParamLayout, config: &TrainConfig) -> Result<Self, RemoteError> {
        let of_layout = |e: aimass_onnx::LayoutError| TrainError::Graph { reason: e.to_string() };
        let (n_weights, n_buffers, n_moments) = (layout.n_weights(), layout.n_buffers(), config.optimizer.moments());
        let saved = State {
            steps: 0,
            weights: model.weights(layout).map_err(of_layout)?,
            buffers: model.values(layout, ParamKind::Buffer).map_err(of_layout)?,
            moments: vec![vec![0.0; n_weights]; n_moments],
        };
        let load = Load::new(model, layout, config, settings.memory_limit_bytes);
        // Whatever the CPU would refuse is refused before a worker is started.
        let check = load_trainer::<Cpu>(&load)?;
        let max_reply_bytes = max_reply_bytes(n_weights, n_buffers, n_moments);
        let (mut worker, adapter) = start(&settings, max_reply_bytes)?;
        if adapter.kind == AdapterKind::Software && !settings.allow_software {
            return Err(RemoteError::Software(adapter));
        }
        probe_worker(&mut worker, &settings, &adapter)?;
        tell(&mut worker, &Request::Load(Box::new(load.clone())), settings.timeouts.first)??;
        Ok(Self {
            link: Link::Worker(worker),
            settings,
            adapter,
            load,
            n_weights,
            n_buffers,
            n_moments,
            steps: 0,
            saved,
            saved_at: Instant::now(),
            kept: Vec::new(),
            kept_bytes: 0,
            replaced: false,
            shapes: HashSet::new(),
            times: Vec::new(),
            check: Some(Box::new(check)),
            checked: 0,
            notes: Box::new(|_| {}),
        })
    }

    /// From now on `notes` gets the lines.
    pub(crate) fn set_notes(&mut self, notes: Notes) {
        self.notes = notes;
    }

    /// What it computes on; `None` once that was given up for the CPU.
    pub fn adapter(&self) -> Option<&Adapter> {
        matches!(self.link, Link::Worker(_)).then_some(&self.adapter)
    }

    /// Process id of the worker, if there is one.
    pub fn worker_id(&self) -> Option<u32> {
        match &self.link {
            Link::Worker(worker) => Some(worker.id()),
            _ => None,
        }
    }

    fn timeout(&self, known: bool) -> Duration {
        let Timeouts { first, slack } = self.settings.timeouts;
        let mut times = self.times.clone();
        times.sort_unstable();
        match times.get(times.len() / 2) {
            Some(&median) if known => slack.saturating_add(median.saturating_mul(10)),
            _ => first,
        }
    }

    /// The worker's answer to a batch. The outer error: it is lost.
    fn ask_to_step(&mut self, request: &[u8], known: bool) -> Result<Result<StepReport, TrainError>, Lost> {
        let timeout = self.timeout(known);
        let expected = self.steps + 1;
        let Link::Worker(worker) = &mut self.link else {
            return Err(Lost::Start("there is none".to_owned()));
        };
        let start = Instant::now();
        match worker.ask(request.to_vec(), timeout)? {
            Reply::Progress { steps, report } if steps == expected && report.loss.is_finite() => {
                if known {
                    if self.times.len() >= TIMES {
                        self.times.remove(0);
                    }
                    self.times.push(start.elapsed());
                }
                Ok(Ok(report))
            }
            Reply::Refused(refusal) => refusal.into_train_error().map(Err),
            _ => Err(Lost::Garbage("another reply than to a batch".to_owned())),
        }
    }

    /// Puts another in the place of a lost worker, at the step that the lost one was asked to go on from.
    fn replace(&mut self, lost: Lost) -> Result<(), TrainError> {
        self.link = Link::Gone;
        // A new one compiles its shaders anew.
        self.shapes.clear();
        let (steps, from) = (self.steps, self.saved.steps);
        let mut lost = lost;
        if !std::mem::replace(&mut self.replaced, true) {
            self.note(&format!(
                "the GPU worker {lost} after step {steps}; a new one goes on from the state after step {from}"
            ));
            match self.begin_again() {
                Ok(worker) => {
                    self.link = Link::Worker(worker);
                    return Ok(());
                }
                Err(again) => lost = again,
            }
        }
        self.note(&format!(
            "the GPU worker {lost} after step {steps}; the CPU goes on from the state after step {from}"
        ));
        self.check = None;
        let mut trainer = load_trainer::<Cpu>(&self.load)?;
        set_state(&mut trainer, &self.saved)?;
        for request in std::mem::take(&mut self.kept) {
            trainer.step(batch_of(&request)?)?;
        }
        self.link = Link::Cpu(Box::new(trainer));
        Ok(())
    }

    /// A new worker, brought to where the last one was.
    fn begin_again(&mut self) -> Result<Worker, Lost> {
        let first = self.settings.timeouts.first;
        let limit = max_reply_bytes(self.n_weights, self.n_buffers, self.n_moments);
        let refused = |e: TrainError| Lost::Garbage(format!("it refuses what was taken before: {e}"));
        let (mut worker, _) = start(&self.settings, limit)?;
        tell(&mut worker, &Request::Load(Box::new(self.load.clone())), first)?.map_err(refused)?;
        tell(&mut worker, &Request::SetState(self.saved.clone()), first)?.map_err(refused)?;
        for request in &self.kept {
            match worker.ask(request.clone(), first)? {
                Reply::Progress { .. } => {}
                Reply::Refused(refusal) => return Err(refusal.into_train_error().map_or_else(|lost| lost, refused)),
                _ => return Err(Lost::Garbage("another reply than to a batch".to_owned())),
            }
        }
        Ok(worker)
    }

    fn note(&mut self, line: &str) {
        (self.notes)(line);
    }

    /// Compares a step with the CPU's. Where they differ, the CPU goes on, from its own step.
    fn checked(&mut self, theirs: Result<StepReport, TrainError>, ours: Result<StepReport, TrainError>) -> Result<StepReport, TrainError> {
        let (loss, theirs) = match (theirs, ours) {
            (Err(error), Err(_)) => return Err(error),
            // Nothing to compare with from here on: the CPU does not take what the worker takes.
            (Ok(theirs), Err(_)) => {
                self.check = None;
                return Ok(theirs);
            }
            (Ok(theirs), Ok(ours)) => {
                self.checked += 1;
                if probe::agree(theirs.loss, ours.loss) {
                    if self.checked >= CHECKED_STEPS {
                        self.check = None;
                    }
                    return Ok(theirs);
                }
                (ours, format!("has a loss of {}", theirs.loss))
            }
            (Err(error), Ok(ours)) => (ours, format!("says that {error}")),
        };
        let Some(check) = self.check.take() else {
            return Ok(loss);
        };
        let step = check.steps();
        self.note(&format!(
            "{} computes wrongly: at step {step} it {theirs}, where the CPU has a loss of {}; the CPU goes on",
            self.adapter, loss.loss
        ));
        self.link = Link::Cpu(check);
        Ok(loss)
    }

    /// Fetches the state of the worker. The outer error: it is lost.
    fn fetch(&mut self) -> Result<(), Lost> {
        let timeout = self.settings.timeouts.first;
        let Link::Worker(worker) = &mut self.link else {
            return Ok(());
        };
        let state = match worker.ask(Request::GetState.encode(), timeout)? {
            Reply::State(state) => state,
            Reply::Refused(refusal) => return Err(refusal.into()),
            _ => return Err(Lost::Garbage("another reply than its state".to_owned())),
        };
        if state.steps != self.steps || !self.fits(&state) {
            return Err(Lost::Garbage("the state of another training".to_owned()));
        }
        self.saved = state;
        self.saved_at = Instant::now();
        self.kept.clear();
        self.kept_bytes = 0;
        Ok(())
    }

    fn fits(&self, state: &State) -> bool {
        let moments = state.moments.len() == self.n_moments && state.moments.iter().all(|m| m.len() == self.n_weights);
        moments && state.weights.len() == self.n_weights && state.buffers.len() == self.n_buffers
    }

    /// The state now, in `saved`.
    fn current(&mut self) -> Result<&State, TrainError> {
        loop {
            match &self.link {
                Link::Cpu(trainer) => {
                    self.saved = state_of(trainer)?;
                    break;
                }
                _ if self.kept.is_empty() => break,
                _ => match self.fetch() {
                    Ok(()) => break,
                    Err(lost) => self.replace(lost)?,
                },
            }
        }
        Ok(&self.saved)
    }
}

impl Stepper for RemoteTrainer {
    fn step(&mut self, batch: Batch) -> Result<StepReport, TrainError> {
        if let Link::Cpu(trainer) = &mut self.link {
            return trainer.step(batch);
        }
        let ours = self.check.as_mut().map(|check| check.step(batch.clone()));
        let mut known = !self.shapes.insert(shapes_of(&batch));
        let request = Request::Batch(batch).encode();
        let mut theirs = loop {
            match self.ask_to_step(&request, known) {
                Ok(answer) => break answer,
                Err(lost) => self.replace(lost)?,
            }
            known = false;
            if let Link::Cpu(trainer) = &mut self.link {
                return trainer.step(batch_of(&request)?);
            }
        };
        if let Some(ours) = ours {
            theirs = self.checked(theirs, ours);
        }
        let report = theirs?;
        if matches!(self.link, Link::Cpu(_)) {
            return Ok(report);
        }
        self.steps += 1;
        self.kept_bytes += request.len();
        self.kept.push(request);
        if (self.saved_at.elapsed() >= STATE_INTERVAL || self.kept_bytes > MAX_KEPT_BYTES)
            && let Err(lost) = self.fetch()
        {
            self.replace(lost)?;
        }
        Ok(report)
    }

    fn steps(&self) -> u64 {
        match &self.link {
            Link::Cpu(trainer) => trainer.steps(),
            _ => self.steps,
        }
    }

    fn weights(&mut self) -> Result<Vec<f32>, TrainError> {
        Ok(self.current()?.weights.clone())
    }

    fn buffers(&mut self) -> Result<Vec<f32>, TrainError> {
        Ok(self.current()?.buffers.clone())
    }

    fn optimizer_state(&mut self) -> Result<Vec<Vec<f32>>, TrainError> {
        Ok(self.current()?.moments.clone())
    }

    fn restore_all(&mut self, steps: u64, weights: &[f32], buffers: &[f32], moments: &[Vec<f32>]) -> Result<(), TrainError> {
        let state = State {
            steps,
            weights: weights.to_vec(),
            buffers: buffers.to_vec(),
            moments: moments.to_vec(),
        };
        if let Link::Cpu(trainer) = &mut self.link {
            return set_state(trainer, &state);
        }
        if !self.fits(&state) {
            return Err(TrainError::Data {
                reason: "the state is of another model or optimizer; start anew".to_owned(),
            });
        }
        if let Some(check) = &mut self.check {
            set_state(check, &state)?;
        }
        self.steps = steps;
        self.saved = state;
        self.saved_at = Instant::now();
        self.kept.clear();
        self.kept_bytes = 0;
        let timeout = self.settings.timeouts.first;
        let Link::Worker(worker) = &mut self.link else {
            return Ok(());
        };
        match tell(worker, &Request::SetState(self.saved.clone()), timeout) {
            Ok(done) => done,
            // The next one begins from what was just saved.
            Err(lost) => self.replace(lost),
        }
    }
}

impl Load {
    fn new(model: &Model, layout: &ParamLayout, config: &TrainConfig, memory_limit_bytes: Option<u64>) -> Self {
        Self {
            config: config.clone(),
            kinds: layout.params().iter().map(|param| param.kind).collect(),
            memory_limit_bytes,
            model: model.as_bytes().to_vec(),
        }
    }
}

impl Refusal {
    /// The error that the trainer in the worker gave, or that the worker is of no use.
    fn into_train_error(self) -> Result<TrainError, Lost> {
        let Self { reason, step, loss, .. } = self;
        Ok(match self.kind {
            RefusalKind::Graph => TrainError::Graph { reason },
            RefusalKind::Data => TrainError::Data { reason },
            RefusalKind::Config => TrainError::Config { reason },
            RefusalKind::Diverged => TrainError::Diverged { step, loss },
            RefusalKind::Device => return Err(Lost::Device(reason)),
            RefusalKind::Protocol => return Err(Lost::Garbage(reason)),
        })
    }
}

fn max_reply_bytes(n_weights: usize, n_buffers: usize, n_moments: usize) -> u64 {
    let floats = n_weights.saturating_mul(1 + n_moments).saturating_add(n_buffers);
    SMALL_REPLY_BYTES.saturating_add((floats as u64).saturating_mul(4))
}

/// Starts a worker and lets it open its device.
fn start(settings: &RemoteSettings, max_reply_bytes: u64) -> Result<(Worker, Adapter), Lost> {
    let mut worker = Worker::spawn(&settings.command, max_reply_bytes)?;
    match worker.ask(Request::Hello { version: VERSION }.encode(), settings.timeouts.first)? {
        Reply::Hello { version: VERSION } => {}
        Reply::Hello { version } => return Err(Lost::Garbage(format!("it speaks version {version}, not {VERSION}"))),
        Reply::Refused(refusal) => return Err(Lost::Garbage(refusal.reason)),
        _ => return Err(Lost::Garbage("no greeting".to_owned())),
    }
    match worker.ask(Request::Probe.encode(), settings.timeouts.first)? {
        Reply::Probe(adapter) => Ok((worker, adapter)),
        Reply::Refused(refusal) => Err(refusal.into()),
        _ => Err(Lost::Garbage("another reply than its adapter".to_owned())),
    }
}

/// Sends what is answered by a plain yes. The outer error: the worker is lost.
fn tell(worker: &mut Worker, request: &Request, timeout: Duration) -> Result<Result<(), TrainError>, Lost> {
    match worker.ask(request.encode(), timeout)? {
        Reply::Done => Ok(Ok(())),
        Reply::Refused(refusal) => refusal.into_train_error().map(Err),
        _ => Err(Lost::Garbage("another reply than yes".to_owned())),
    }
}

/// A real training of a small model, beside the CPU.
fn probe_worker(worker: &mut Worker, settings: &RemoteSettings, adapter: &Adapter) -> Result<(), RemoteError> {
    let (model, layout, config, batch) = probe::training()?;
    let mut ours = Trainer::new(&model, &layout, &config)?;
    let load = Request::Load(Box::new(Load::new(&model, &layout, &config, None)));
    tell(worker, &load, settings.timeouts.first)??;
    for _ in 0..CHECKED_STEPS {
        let theirs = match worker.ask(Request::Batch(batch.clone()).encode(), settings.timeouts.first)? {
            Reply::Progress { report, .. } => report.loss,
            Reply::Refused(refusal) => return Err(Lost::from(refusal).into()),
            _ => return Err(Lost::Garbage("another reply than to a batch".to_owned()).into()),
        };
        let ours = ours.step(batch.clone())?.loss;
        if !probe::agree(theirs, ours) {
            let adapter = adapter.clone();
            return Err(RemoteError::Wrong { adapter, theirs, ours });
        }
    }
    Ok(())
}

/// The shapes of a batch, each after its rank.
fn shapes_of(batch: &Batch) -> Vec<usize> {
    let shapes = batch.inputs.iter().map(super::super::array::Array::shape);
    shapes
        .flat_map(|shape| std::iter::once(shape.len()).chain(shape.iter().copied()))
        .collect()
}

fn batch_of(request: &[u8]) -> Result<Batch, TrainError> {
    match Request::decode(request) {
        Ok(Request::Batch(batch)) => Ok(batch),
        _ => Err(TrainError::Device {
            reason: "a batch that was kept can't be read".to_owned(),
        }),
    }
}
