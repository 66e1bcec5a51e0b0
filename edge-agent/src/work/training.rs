//! Training that goes on after an interruption, to the same bytes.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aimass_learning::checkpoint::{Checkpoint, CheckpointError, Identity};
use aimass_learning::training::{Stepper, Training};
use aimass_learning::{LocalUpdate, Progress, TrainError};
use aimass_onnx::ParamLayout;
use aimass_protocol::Timestamp;
use tracing::{info, warn};

use crate::platform::now;

/// How training is to go on after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// With the next step.
    GoOn,
    /// Not now: it is kept, and a later training goes on from here.
    Pause,
    /// Not at all: nobody needs it any more.
    Drop,
}

/// Where and how often the state of a training is kept.
pub(super) struct Kept {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) every: Duration,
}

/// Trains to the end, or to the first step after `finish_by`. A training that goes on makes one step at least.
pub(super) fn run<'a, T: Stepper>(
    begin: impl Fn() -> Result<Training<'a, T>, TrainError>,
    layout: &ParamLayout,
    kept: &Kept,
    finish_by: Option<Timestamp>,
    control: &mut dyn FnMut(Progress) -> Wish,
) -> Result<LocalUpdate, TrainError> {
    let mut training = begin()?;
    if let Some(checkpoint) = kept.load(layout) {
        match training.resume(&checkpoint) {
            Ok(()) => info!("training goes on after step {} of {}", checkpoint.step, training.steps()),
            Err(e) => {
                kept.drop_it(&e.to_string());
                // Freed before another is made.
                drop(training);
                training = begin()?;
            }
        }
    }
    let mut saved = Instant::now();
    while let Some(stepped) = training.step()? {
        let (step, steps) = (stepped.step, stepped.steps);
        let wish = control(Progress {
            step,
            steps,
            loss: stepped.loss,
        });
        let done = step >= steps || finish_by.is_some_and(|at| at <= now());
        match wish {
            Wish::Drop => return Err(TrainError::Stopped { step }),
            Wish::GoOn | Wish::Pause if done => break,
            Wish::Pause => {
                kept.save(&mut training)?;
                return Err(TrainError::Stopped { step });
            }
            Wish::GoOn if saved.elapsed() >= kept.every => {
                kept.save(&mut training)?;
                saved = Instant::now();
            }
            Wish::GoOn => {}
        }
    }
    training.into_update()
}

impl Kept {
    /// A disk that takes no checkpoint is no reason to stop training.
    fn save<T: Stepper>(&self, training: &mut Training<'_, T>) -> Result<(), TrainError> {
        if let Err(e) = training.checkpoint(self.identity)?.write(&self.path) {
            warn!("training could not be kept: {e}; it goes on, and starts anew if it is interrupted");
        }
        Ok(())
    }

    /// The checkpoint of this training, if there is one. Any other is removed.
    fn load(&self, layout: &ParamLayout) -> Option<Checkpoint> {
        match Checkpoint::read(&self.path, &self.identity, layout.n_weights(), layout.n_buffers()) {
            Ok(checkpoint) => return Some(checkpoint),
            Err(CheckpointError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(CheckpointError::Damaged { problem, .. }) => self.drop_it(&format!("{problem} is damaged")),
            Err(CheckpointError::Other { what, .. }) => self.drop_it(&format!("{what} differs")),
            Err(e) => self.drop_it(&e.to_string()),
        }
        None
    }

    fn drop_it(&self, reason: &str) {
        warn!("the checkpoint of an interrupted training is of no use ({reason}); training starts anew");
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => warn!("{}: {e}", self.path.display()),
            _ => {}
        }
    }
}
