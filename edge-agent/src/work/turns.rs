//! How often a device counts for a job. What it counts does not change, so that two sums over nearly the same agents could give it away: it counts once a
//! round, for one report before it, and no more often than the owner signed.

use aimass_crypto::hash::sha256;
use aimass_protocol::{Digest, JobId};
use serde::{Deserialize, Serialize};

use super::{TrainOrder, WorkError};
use crate::state::StateFolder;

/// Jobs that are remembered, the latest first.
const REMEMBERED: usize = 4096;

/// The last round that a device counted for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Turn {
    job: JobId,
    round: u32,
    /// The report that it stood on.
    base: Digest,
}

/// Whether the owner signed such a round. The first stands on nothing but the report of nobody, which follows from the job file: once that is spent, a job of
/// one round gets nothing any more.
///
/// # Errors
/// [`WorkError::Turn`], [`WorkError::Beginning`].
pub(super) fn check(order: &TrainOrder, empty: impl FnOnce() -> Vec<u8>) -> Result<(), WorkError> {
    let (round, rounds) = (order.round, order.file.round.rounds);
    if round == 0 || round > rounds {
        return Err(WorkError::Turn { round, rounds });
    }
    if round == 1 && order.base != Digest::from_bytes(sha256(&empty())) {
        return Err(WorkError::Beginning { base: order.base });
    }
    Ok(())
}

/// Notes durably that this round is counted for, before there is a contribution. The same round on the same report may be counted again, after a kill or a sum that was
/// given up.
///
/// # Errors
/// [`WorkError::Again`] for a round that was counted for on another report, and for an earlier one; [`WorkError::State`].
pub(super) fn note(folder: &StateFolder, order: &TrainOrder) -> Result<(), WorkError> {
    let mut turns: Vec<Turn> = folder.load_turns()?.unwrap_or_default();
    let turn = Turn {
        job: order.job,
        round: order.round,
        base: order.base,
    };
    let known = turns.iter().position(|known| known.job == turn.job).map(|at| turns.remove(at));
    match known {
        Some(known) if known == turn => return Ok(()),
        Some(known) if known.round >= turn.round => {
            return Err(WorkError::Again {
                round: turn.round,
                counted: known.round,
            });
        }
        _ => {}
    }
    turns.insert(0, turn);
    turns.truncate(REMEMBERED);
    Ok(folder.save_turns(&turns)?)
}
