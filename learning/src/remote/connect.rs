//! How a parent comes to a worker that it can train on.

use super::message::{Adapter, Load, Reply, Request, VERSION};
use super::process::{Lost, Timeouts, Worker, WorkerCommand};
use super::{CHECKED_STEPS, probe};
use crate::{TrainError, Trainer};

/// Bytes of a reply besides those of a state.
const SMALL_REPLY_BYTES: u64 = 64 << 10;

/// How a worker is started and treated.
#[derive(Debug, Clone)]
pub(crate) struct RemoteSettings {
    pub(crate) command: WorkerCommand,
    pub(crate) timeouts: Timeouts,
    /// Whether a software rasterizer will do.
    pub(crate) allow_software: bool,
    /// Whether the CPU goes on where it is faster.
    pub(crate) prefer_faster: bool,
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

/// Most bytes of a reply of a worker that trains so many numbers.
pub(super) fn max_reply_bytes(n_weights: usize, n_buffers: usize, n_moments: usize) -> u64 {
    let floats = n_weights.saturating_mul(n_moments.saturating_add(1)).saturating_add(n_buffers);
    SMALL_REPLY_BYTES.saturating_add((floats as u64).saturating_mul(4))
}

/// Starts a worker and lets it open its device.
pub(super) fn start(settings: &RemoteSettings, max_reply_bytes: u64) -> Result<(Worker, Adapter), Lost> {
    let mut worker = Worker::spawn(&settings.command, max_reply_bytes)?;
    match worker.ask(Request::Hello { version: VERSION }.encode(), settings.timeouts.first)? {
        Reply::Hello { version: VERSION } => {}
        Reply::Hello { version } => return Err(Lost::Garbage(format!("it speaks version {version}, not {VERSION}"))),
        Reply::Refused(refusal) => return Err(Lost::Garbage(refusal.reason)),
        _ => return Err(Lost::Garbage("no greeting".to_owned())),
    }
    match worker.ask(Request::Probe.encode(), settings.timeouts.first)? {
        Reply::Probe(adapter) => Ok((worker, adapter)),
        Reply::Refused(refusal) => Err(Lost::Device(refusal.reason)),
        _ => Err(Lost::Garbage("another reply than its adapter".to_owned())),
    }
}

/// Sends what is answered by a plain yes. The outer error: the worker is lost.
pub(super) fn tell(worker: &mut Worker, request: &Request, settings: &RemoteSettings) -> Result<Result<(), TrainError>, Lost> {
    match worker.ask(request.encode(), settings.timeouts.first)? {
        Reply::Done => Ok(Ok(())),
        Reply::Refused(refusal) => refusal.into_train_error().map(Err),
        _ => Err(Lost::Garbage("another reply than yes".to_owned())),
    }
}

/// A real training of a small model, beside the CPU.
pub(super) fn probe(worker: &mut Worker, settings: &RemoteSettings, adapter: &Adapter) -> Result<(), RemoteError> {
    let (model, layout, config, batch) = probe::training()?;
    let mut ours = Trainer::new(&model, &layout, &config)?;
    let load = Request::Load(Box::new(Load::new(&model, &layout, &config, None)));
    tell(worker, &load, settings)??;
    for _ in 0..CHECKED_STEPS {
        let theirs = match worker.ask(Request::Batch(batch.clone()).encode(), settings.timeouts.first)? {
            Reply::Progress { report, .. } => report.loss,
            Reply::Refused(refusal) => return Err(Lost::Device(refusal.reason).into()),
            _ => return Err(Lost::Garbage("another reply than to a batch".to_owned()).into()),
        };
        let ours = ours.step(batch.clone())?.loss;
        if !probe::losses_agree(theirs, ours) {
            let adapter = adapter.clone();
            return Err(RemoteError::Wrong { adapter, theirs, ours });
        }
    }
    Ok(())
}
