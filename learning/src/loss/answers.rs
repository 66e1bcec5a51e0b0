//! What losses compare outputs with: targets, and what a teacher answers.

use super::Loss;
use crate::TrainError;
use crate::array::Array;

/// Targets of a batch or of data by head: the arrays of targets, one a head, and behind them what a teacher answers, an array for each head with
/// [`Loss::Distillation`] or for none.
#[derive(Clone, Copy)]
pub(crate) struct Answers<'a> {
    arrays: &'a [Array],
    heads: usize,
}

impl<'a> Answers<'a> {
    /// # Errors
    /// [`TrainError::Data`] for another number of arrays.
    pub(crate) fn new<'l>(losses: impl Iterator<Item = &'l Loss>, arrays: &'a [Array]) -> Result<Self, TrainError> {
        let (mut heads, mut taught) = (0, 0);
        for loss in losses {
            heads += 1;
            taught += usize::from(loss.is_taught());
        }
        if arrays.len() == heads || arrays.len() == heads + taught {
            return Ok(Self { arrays, heads });
        }
        let reason = match taught {
            0 => format!("{} arrays of targets for {heads} heads; feed one a head", arrays.len()),
            _ => format!(
                "{} arrays of targets for {heads} heads, {taught} of them with a teacher; feed one a head, and one for each with a teacher",
                arrays.len()
            ),
        };
        Err(TrainError::Data { reason })
    }

    /// Targets and the teacher's answers of each head.
    pub(crate) fn by_head<'l>(self, losses: impl Iterator<Item = &'l Loss>) -> impl Iterator<Item = (&'a Array, Option<&'a Array>)> {
        let mut taught = self.arrays[self.heads..].iter();
        let teacher: Vec<Option<&Array>> = losses.map(|loss| if loss.is_taught() { taught.next() } else { None }).collect();
        self.arrays.iter().zip(teacher)
    }
}
