//! Training that goes on after an interruption, to the same bytes.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use aimass_learning::checkpoint::{Checkpoint, CheckpointError, Identity};
use aimass_learning::training::{Stepper, Training};
use aimass_learning::{LocalUpdate, Progress, TrainError};
use aimass_net::disk;
use aimass_onnx::ParamLayout;
use aimass_protocol::Timestamp;
use tracing::{info, warn};

use crate::platform::now;

/// Training goes on for this many times as long as a save took before the next one.
const TIMES_A_SAVE: u32 = 20;

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
    let (mut saved, mut pause) = (Instant::now(), kept.every);
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
            Wish::GoOn if saved.elapsed() >= pause => {
                let begin = Instant::now();
                kept.save(&mut training)?;
                saved = Instant::now();
                pause = kept.pause_after(saved - begin);
            }
            Wish::GoOn => {}
        }
    }
    training.into_update()
}

impl Kept {
    /// How long after a save that took so long the next one is due: saving takes a twentieth of the time at most.
    fn pause_after(&self, took: Duration) -> Duration {
        self.every.max(took.saturating_mul(TIMES_A_SAVE))
    }

    /// A disk that takes no checkpoint is no reason to stop training.
    fn save<T: Stepper>(&self, training: &mut Training<'_, T>) -> Result<(), TrainError> {
        let checkpoint = training.checkpoint(self.identity)?;
        let written = disk::call("writing a checkpoint")
            .map_err(|e| e.to_string())
            .and_then(|()| checkpoint.write(&self.path).map_err(|e| e.to_string()));
        if let Err(e) = written {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_is_asked_less_often() {
        let kept = Kept {
            path: PathBuf::new(),
            identity: Identity {
                recipe: [0; 32],
                model: [0; 32],
                data: [0; 32],
            },
            every: Duration::from_secs(10),
        };
        for (took_ms, pause_ms) in [(0, 10_000), (499, 10_000), (600, 12_000), (5000, 100_000)] {
            assert_eq!(kept.pause_after(Duration::from_millis(took_ms)), Duration::from_millis(pause_ms));
        }
    }
}
