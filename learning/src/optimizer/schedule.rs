//! How the learning rate changes over the steps.

use crate::TrainError;

/// A factor of the learning rate by step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Always 1.
    Constant,
    /// Multiplied by `gamma` after every `every` steps.
    Step {
        /// Steps between two changes, at least 1.
        every: u64,
        /// Factor of each change.
        gamma: f32,
    },
    /// From 0 up to 1 over `warmup` steps, then along half a cosine down to `floor` at step `steps`, where it stays.
    ///
    /// # Source
    /// Loshchilov and Hutter 2017, SGDR (ICLR), equation 5, without restarts.
    Cosine {
        /// Steps of the rise.
        warmup: u64,
        /// Steps in all.
        steps: u64,
        /// The last factor, 0 to 1.
        floor: f32,
    },
    /// From 0 up to 1 over `warmup` steps, then in a line down to `floor` at step `steps`, where it stays.
    Linear {
        /// Steps of the rise.
        warmup: u64,
        /// Steps in all.
        steps: u64,
        /// The last factor, 0 to 1.
        floor: f32,
    },
}

impl Schedule {
    pub(super) fn check(self) -> Result<(), TrainError> {
        let refuse = |reason: &str| Err(TrainError::Config { reason: reason.to_owned() });
        match self {
            Self::Step { every: 0, .. } => refuse("a step schedule with 0 steps between changes; use 1 or more"),
            Self::Step { gamma, .. } if !gamma.is_finite() || gamma < 0.0 => {
                refuse("a step schedule's `gamma` is no number from 0 on; use for instance 0.5")
            }
            Self::Cosine { warmup, steps, floor } | Self::Linear { warmup, steps, floor } => {
                if steps <= warmup {
                    refuse("a schedule's `steps` are not more than its `warmup`; use more steps")
                } else if !(0.0..=1.0).contains(&floor) {
                    refuse("a schedule's `floor` is not from 0 to 1; correct it")
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }

    /// The factor of step `step`, counted from 0.
    pub(crate) fn factor(self, step: u64) -> f32 {
        let after_warmup = |warmup: u64, steps: u64, fall: &dyn Fn(f64) -> f64| {
            if step < warmup {
                return (step + 1) as f32 / (warmup + 1) as f32;
            }
            let progress = (step - warmup) as f64 / (steps - warmup) as f64;
            fall(progress.min(1.0)) as f32
        };
        match self {
            Self::Constant => 1.0,
            Self::Step { every, gamma } => f64::from(gamma).powf((step / every) as f64) as f32,
            Self::Cosine { warmup, steps, floor } => after_warmup(warmup, steps, &|p| {
                let floor = f64::from(floor);
                floor + (1.0 - floor) * 0.5 * (1.0 + (std::f64::consts::PI * p).cos())
            }),
            Self::Linear { warmup, steps, floor } => after_warmup(warmup, steps, &|p| 1.0 - (1.0 - f64::from(floor)) * p),
        }
    }
}
