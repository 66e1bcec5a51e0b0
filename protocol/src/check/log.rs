//! The rules of the log's entries and proofs.

use super::{Checked, Violation, at_most, filled, violation, within};
use crate::limits::{MAX_CHECKPOINT_BYTES, MAX_DRAWS, MAX_LOG_ENTRY_BYTES, MAX_LOG_SIZE, MAX_MEMBERS, MAX_PROOF_HASHES};
use crate::log::{BaseProof, LogEntry, LogEvent, LogHead};

impl Checked for LogHead {
    fn check(&self) -> Result<(), Violation> {
        within("size", self.size, 0, MAX_LOG_SIZE)
    }
}

impl Checked for LogEntry {
    fn check(&self) -> Result<(), Violation> {
        if self.version != Self::VERSION {
            let problem = format!("log entry version {}, this program knows {}", self.version, Self::VERSION);
            return Err(violation("version", problem));
        }
        match &self.event {
            LogEvent::Base { .. } => Ok(()),
            LogEvent::Round(round) => {
                counts(round.round, round.members, round.draws)?;
                within("survivors", round.survivors.into(), 1, round.members.into())
            }
            LogEvent::Abandoned(round) => {
                counts(round.round, round.members, round.draws)?;
                within("survivors", round.survivors.into(), 0, round.members.into())?;
                if (round.survivors == 0) == round.survivors_root.is_none() {
                    Ok(())
                } else {
                    Err(violation("survivors_root", "has to be there exactly where there are survivors"))
                }
            }
        }
    }
}

fn counts(round: u32, members: u32, draws: u8) -> Result<(), Violation> {
    within("round", round.into(), 1, u32::MAX.into())?;
    within("members", members.into(), 1, MAX_MEMBERS.into())?;
    within("draws", draws.into(), 0, MAX_DRAWS.into())
}

impl Checked for BaseProof {
    fn check(&self) -> Result<(), Violation> {
        filled("checkpoint", self.checkpoint.len(), MAX_CHECKPOINT_BYTES)?;
        filled("entry", self.entry.len(), MAX_LOG_ENTRY_BYTES)?;
        within("index", self.index, 0, MAX_LOG_SIZE - 1)?;
        at_most("inclusion", self.inclusion.len(), MAX_PROOF_HASHES)?;
        at_most("consistency", self.consistency.len(), MAX_PROOF_HASHES)
    }
}
