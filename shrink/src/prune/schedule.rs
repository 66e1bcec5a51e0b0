//! How many weights are to be gone at which step.

use super::{PruneError, Sparsity};

/// The cubic schedule: fast while many weights are of no use, slow towards the end.
///
/// # Source
/// Zhu and Gupta 2017, section 3, equation 1: `s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Dt))^3`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    initial: Sparsity,
    target: Sparsity,
    begin: u64,
    end: u64,
    frequency: u64,
}

impl Schedule {
    /// From `initial` at step `begin` to `target` at step `end`, in changes every `frequency` steps.
    ///
    /// # Errors
    /// [`PruneError::Schedule`] for a frequency of 0, an end before the beginning, or a target below what it starts from.
    pub fn new(initial: Sparsity, target: Sparsity, begin: u64, end: u64, frequency: u64) -> Result<Self, PruneError> {
        let problem = if frequency == 0 {
            "its frequency is 0; prune every 100 steps, for instance"
        } else if end < begin {
            "it ends before it begins; set its end to a later step"
        } else if target < initial {
            "its target is below what it starts from, but what is pruned stays pruned; set a higher target"
        } else {
            return Ok(Self {
                initial,
                target,
                begin,
                end,
                frequency,
            });
        };
        Err(PruneError::Schedule { problem })
    }

    /// What the masks in force at `step` have: [`Sparsity::DENSE`] before the beginning, the target from the end on, and in between what
    /// the last change gave.
    pub fn at(&self, step: u64) -> Sparsity {
        if step < self.begin {
            return Sparsity::DENSE;
        }
        if step >= self.end {
            return self.target;
        }
        let since = step - self.begin;
        let changed = since - since % self.frequency;
        let left = 1.0 - changed as f64 / (self.end - self.begin) as f64;
        let share = self.target.share() + (self.initial.share() - self.target.share()) * left.powi(3);
        // Between two shares, so a share.
        Sparsity::new(share).unwrap_or(self.target)
    }

    /// The new sparsity where the masks are to change before `step` is computed; `None` where they stay as they are.
    pub fn due(&self, step: u64) -> Option<Sparsity> {
        let inside = (self.begin..self.end).contains(&step) && (step - self.begin).is_multiple_of(self.frequency);
        (inside || step == self.end).then(|| self.at(step))
    }

    /// Every change: its step and the sparsity from there on.
    pub fn changes(&self) -> impl Iterator<Item = (u64, Sparsity)> {
        let step = usize::try_from(self.frequency).unwrap_or(usize::MAX);
        let inside = (self.begin..self.end).step_by(step);
        inside.chain([self.end]).map(|step| (step, self.at(step)))
    }
}
