//! The parent's side: a trainer that computes in a worker and survives it.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use aimass_onnx::{Model, ParamKind, ParamLayout};

use super::connect::{RemoteError, RemoteSettings, max_reply_bytes, probe, start, tell};
use super::message::{Adapter, AdapterKind, Load, Reply, Request, State};
use super::process::{Lost, Timeouts, Worker};
use super::serve::{load_trainer, set_state, state_of};
use super::{CHECKED_STEPS, probe as agreement};
use crate::array::Array;
use crate::executor::Cpu;
use crate::training::Stepper;
use crate::{Batch, Mask, StepReport, TrainConfig, TrainError, Trainer};

/// Gets a line for a person whenever something about the backend is worth one.
pub(crate) type Notes = Box<dyn FnMut(&str) + Send>;

/// Longest time of steps that a lost worker costs.
const STATE_INTERVAL: Duration = Duration::from_secs(10);
/// Most bytes of batches that are kept for a new worker.
const MAX_KEPT_BYTES: usize = 128 << 20;
/// Times of steps that the median is taken over.
const TIMES: usize = 31;
/// Times of steps after which the worker is compared with the CPU.
const COMPARED_TIMES: usize = 8;

enum Link {
    Worker(Worker),
    Cpu(Box<Trainer>),
    /// While a worker is being replaced.
    Gone,
}

/// A [`Trainer`] whose steps a worker makes. When the worker is lost, another goes on in its place, and then the CPU.
///
/// The CPU makes the first steps too, and what it computes is the truth: where a worker is at odds with it, the CPU goes on.
pub struct RemoteTrainer {
    link: Link,
    settings: RemoteSettings,
    adapter: Adapter,
    load: Load,
    mask: Option<Mask>,
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
    /// How long the last of them took there.
    cpu_time: Option<Duration>,
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
    /// Starts a worker, and checks its device by a small training that the CPU makes too.
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
        let (mut worker, adapter) = start(&settings, max_reply_bytes(n_weights, n_buffers, n_moments))?;
        if adapter.kind == AdapterKind::Software && !settings.allow_software {
            return Err(RemoteError::Software(adapter));
        }
        probe(&mut worker, &settings, &adapter)?;
        tell(&mut worker, &Request::Load(Box::new(load.clone())), &settings)??;
        Ok(Self {
            link: Link::Worker(worker),
            settings,
            adapter,
            load,
            mask: None,
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
            cpu_time: None,
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

    fn median(&self) -> Option<Duration> {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }

    fn timeout(&self, known: bool) -> Duration {
        let Timeouts { first, slack } = self.settings.timeouts;
        match self.median() {
            Some(median) if known => slack.saturating_add(median.saturating_mul(10)),
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
        self.go_on_alone().map(|_| ())
    }

    /// A new worker, brought to where the last one was.
    fn begin_again(&mut self) -> Result<Worker, Lost> {
        let limit = max_reply_bytes(self.n_weights, self.n_buffers, self.n_moments);
        let refused = |e: TrainError| Lost::Garbage(format!("it refuses what was taken before: {e}"));
        let (mut worker, adapter) = start(&self.settings, limit)?;
        if adapter != self.adapter {
            return Err(Lost::Device(format!("it found another: {adapter}")));
        }
        tell(&mut worker, &Request::Load(Box::new(self.load.clone())), &self.settings)?.map_err(refused)?;
        if self.mask.is_some() {
            tell(&mut worker, &Request::SetMask(self.mask.clone()), &self.settings)?.map_err(refused)?;
        }
        tell(&mut worker, &Request::SetState(self.saved.clone()), &self.settings)?.map_err(refused)?;
        for (step, request) in (self.saved.steps + 1..).zip(&self.kept) {
            match worker.ask(request.clone(), self.settings.timeouts.first)? {
                Reply::Progress { steps, report } if steps == step && report.loss.is_finite() => {}
                Reply::Refused(refusal) => return Err(refusal.into_train_error().map_or_else(|lost| lost, refused)),
                _ => return Err(Lost::Garbage("another reply than to a batch".to_owned())),
            }
        }
        Ok(worker)
    }

    /// Gives the worker up for the CPU, which makes the steps since the saved state again.
    fn go_on_alone(&mut self) -> Result<&mut Trainer, TrainError> {
        let mut trainer = Box::new(load_trainer::<Cpu>(&self.load)?);
        trainer.set_mask(self.mask.as_ref())?;
        set_state(&mut trainer, &self.saved)?;
        self.check = None;
        self.link = Link::Gone;
        let kept = std::mem::take(&mut self.kept);
        let redone = kept.iter().try_for_each(|request| trainer.step(batch_of(request)?).map(|_| ()));
        // A step that fails leaves the trainer as it was before.
        self.link = Link::Cpu(trainer);
        redone?;
        match &mut self.link {
            Link::Cpu(trainer) => Ok(trainer),
            _ => Err(unreadable()),
        }
    }

    fn note(&mut self, line: &str) {
        (self.notes)(line);
    }

    /// What the CPU makes of a batch that the worker refuses. Where it refuses too, that is the answer; otherwise it goes on.
    fn second_opinion(&mut self, theirs: &TrainError, request: &[u8]) -> Result<StepReport, TrainError> {
        let diverged = matches!(theirs, TrainError::Diverged { .. });
        if diverged {
            // Saves the CPU the steps since the last state; where the worker can't tell its state, they are made again.
            let _ = self.fetch();
        } else {
            // Whether a batch fits follows from no weight.
            let mut trainer = load_trainer::<Cpu>(&self.load)?;
            trainer.set_mask(self.mask.as_ref())?;
            set_state(&mut trainer, &self.saved)?;
            match trainer.step(batch_of(request)?) {
                Ok(_) | Err(TrainError::Diverged { .. }) => {}
                Err(ours) => return Err(ours),
            }
        }
        if !diverged {
            let step = self.steps + 1;
            self.note(&format!(
                "{} refuses step {step}, which the CPU takes ({theirs}); the CPU goes on",
                self.adapter
            ));
        }
        let report = self.go_on_alone()?.step(batch_of(request)?)?;
        if diverged {
            self.note(&format!(
                "{} computes wrongly: it says that {theirs}, where the CPU has a loss of {}; the CPU goes on",
                self.adapter, report.loss
            ));
        }
        Ok(report)
    }

    /// Compares a step that both made. Where they differ, the CPU goes on, from its own step.
    fn compare(&mut self, theirs: StepReport, ours: Result<StepReport, TrainError>, before: &[f32]) -> Result<StepReport, TrainError> {
        self.checked += 1;
        let wrong = match &ours {
            Err(error) => Some(format!("it has a loss of {}, where the CPU says that {error}", theirs.loss)),
            Ok(ours) if !agreement::losses_agree(theirs.loss, ours.loss) => Some(format!(
                "it has a loss of {}, where the CPU has a loss of {}",
                theirs.loss, ours.loss
            )),
            Ok(_) if self.checked == 1 => {
                while let Err(lost) = self.fetch() {
                    self.replace(lost)?;
                }
                // The CPU that goes on for a lost worker has nothing to be compared with.
                match &self.check {
                    Some(check) if !agreement::steps_agree(&self.saved, &state_of(check)?, before) => {
                        Some("its gradients are not those of the CPU".to_owned())
                    }
                    _ => None,
                }
            }
            Ok(_) => None,
        };
        if let Some(wrong) = wrong
            && let Some(check) = self.check.take()
        {
            let step = self.steps;
            self.note(&format!(
                "{} computes wrongly: at step {step} {wrong}; the CPU goes on",
                self.adapter
            ));
            self.link = Link::Cpu(check);
            return ours;
        }
        if self.checked >= CHECKED_STEPS {
            self.check = None;
        }
        Ok(theirs)
    }

    /// Gives up a worker that is slower than the CPU, where speed is what counts.
    fn take_the_faster(&mut self) -> Result<(), TrainError> {
        let (Some(theirs), Some(ours)) = (self.median(), self.cpu_time) else {
            return Ok(());
        };
        if !self.settings.prefer_faster || self.times.len() != COMPARED_TIMES || theirs <= ours {
            return Ok(());
        }
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        self.note(&format!(
            "{} takes {:.1} ms a step, the CPU {:.1} ms: the CPU goes on; choose the backend wgpu to keep the GPU",
            self.adapter,
            milliseconds(theirs),
            milliseconds(ours)
        ));
        match self.fetch() {
            Ok(()) => self.go_on_alone().map(|_| ()),
            Err(lost) => self.replace(lost),
        }
    }

    /// Fetches the state of the worker. The outer error: it is lost.
    fn fetch(&mut self) -> Result<(), Lost> {
        let timeout = self.settings.timeouts.first;
        let Link::Worker(worker) = &mut self.link else {
            return Ok(());
        };
        let state = match worker.ask(Request::GetState.encode(), timeout)? {
            Reply::State(state) => state,
            Reply::Refused(refusal) => return Err(Lost::Device(refusal.reason)),
            _ => return Err(Lost::Garbage("another reply than its state".to_owned())),
        };
        if state.steps != self.steps || !self.fits(&state) {
            return Err(Lost::Garbage("the state of another training".to_owned()));
        }
        // If the training itself has come to this, the CPU will say so.
        if !state.weights.iter().chain(&state.buffers).all(|v| v.is_finite()) {
            return Err(Lost::Garbage("weights that are not finite".to_owned()));
        }
        self.saved = state;
        self.saved_at = Instant::now();
        self.kept.clear();
        self.kept_bytes = 0;
        Ok(())
    }

    fn prune_saved(&mut self) {
        if let Some(mask) = &self.mask {
            let State { weights, moments, .. } = &mut self.saved;
            [weights].into_iter().chain(moments).for_each(|vector| mask.apply(vector));
        }
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
                _ => {
                    if let Err(lost) = self.fetch() {
                        self.replace(lost)?;
                    }
                }
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
        let start = Instant::now();
        let ours = self.check.as_mut().map(|check| check.step(batch.clone()));
        self.cpu_time = ours.as_ref().map(|_| start.elapsed()).or(self.cpu_time);
        let mut known = !self.shapes.insert(shapes_of(&batch));
        let request = Request::Batch(batch).encode();
        let theirs = loop {
            match self.ask_to_step(&request, known) {
                Ok(answer) => break answer,
                Err(lost) => self.replace(lost)?,
            }
            known = false;
            if let Link::Cpu(trainer) = &mut self.link {
                return trainer.step(batch_of(&request)?);
            }
        };
        let report = match (theirs, &ours) {
            (Ok(report), _) => report,
            (Err(_), Some(Err(_))) => return ours.unwrap_or_else(|| Err(unreadable())),
            (Err(refusal), _) => return self.second_opinion(&refusal, &request),
        };
        let before = if self.checked == 0 {
            self.saved.weights.clone()
        } else {
            Vec::new()
        };
        self.steps += 1;
        self.kept_bytes += request.len();
        self.kept.push(request);
        let report = match ours {
            Some(ours) => self.compare(report, ours, &before)?,
            None => report,
        };
        if matches!(self.link, Link::Worker(_)) {
            if (self.saved_at.elapsed() >= STATE_INTERVAL || self.kept_bytes > MAX_KEPT_BYTES)
                && let Err(lost) = self.fetch()
            {
                self.replace(lost)?;
            }
            self.take_the_faster()?;
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
        self.prune_saved();
        self.saved_at = Instant::now();
        self.kept.clear();
        self.kept_bytes = 0;
        let Link::Worker(worker) = &mut self.link else {
            return Ok(());
        };
        match tell(worker, &Request::SetState(self.saved.clone()), &self.settings) {
            Ok(done) => done,
            // The next one begins from what was just saved.
            Err(lost) => self.replace(lost),
        }
    }

    fn set_mask(&mut self, mask: Option<&Mask>) -> Result<(), TrainError> {
        if let Some(mask) = mask {
            mask.check(self.n_weights)?;
        }
        // What a new worker would begin from is the state as it is pruned now.
        self.current()?;
        self.mask = mask.cloned();
        self.prune_saved();
        if let Some(check) = &mut self.check {
            check.set_mask(mask)?;
        }
        let worker = match &mut self.link {
            Link::Cpu(trainer) => return trainer.set_mask(mask),
            Link::Worker(worker) => worker,
            Link::Gone => return Ok(()),
        };
        match tell(worker, &Request::SetMask(self.mask.clone()), &self.settings) {
            Ok(done) => done,
            // The next one begins from what was just saved.
            Err(lost) => self.replace(lost),
        }
    }
}

/// The shapes of a batch, each after its rank.
fn shapes_of(batch: &Batch) -> Vec<usize> {
    let shapes = batch.inputs.iter().map(Array::shape);
    shapes
        .flat_map(|shape| std::iter::once(shape.len()).chain(shape.iter().copied()))
        .collect()
}

fn unreadable() -> TrainError {
    TrainError::Device {
        reason: "a batch that was kept can't be read".to_owned(),
    }
}

fn batch_of(request: &[u8]) -> Result<Batch, TrainError> {
    match Request::decode(request) {
        Ok(Request::Batch(batch)) => Ok(batch),
        _ => Err(unreadable()),
    }
}
