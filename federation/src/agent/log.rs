//! What an agent knows of its server's log, and whether a base model is in it.
//!
//! A server that shows two models to two agents has to log both, in one log or in two: auditors see the first, agents the second, since each keeps the
//! last log it saw and asks that the next one continues it.

use aimass_crypto::log::{self, Checkpoint, Hash, NoteError, ProofError};
use aimass_crypto::sign::PublicKey;
use aimass_protocol::log::{BaseProof, LogEntry, LogHead};
use aimass_protocol::{Digest, JobId, TenantId, codec};
use serde::{Deserialize, Serialize};

/// The log as an agent last saw it. Kept in its [`Snapshot`](super::Snapshot), or a server could start another one after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownLog {
    /// Entries.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
}

impl Default for KnownLog {
    /// Nothing seen: every log continues this.
    fn default() -> Self {
        Self {
            size: 0,
            root: Digest::from_bytes(log::empty_root()),
        }
    }
}

/// A log that is not followed. The texts are for the device's owner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// No proof came with the task.
    #[error(
        "the server does not show that the job's model is in its log; ask its operator to update it, and do not train for it until it does"
    )]
    Missing,
    /// The checkpoint is not this server's.
    #[error("the checkpoint of the server's log is not taken: {0}; ask the operator whether the server was replaced")]
    Checkpoint(#[from] NoteError),
    /// The entry does not parse.
    #[error("the log entry of the job's model can't be read ({reason}); update the agent, or tell the operator")]
    Entry {
        /// What the parser says.
        reason: String,
    },
    /// The entry is of something else.
    #[error("the server shows a log entry of another {what} for the job's model; tell the operator")]
    OtherEntry {
        /// What differs.
        what: &'static str,
    },
    /// The entry is not in the log.
    #[error(
        "the job's model is not in the server's log ({0}): it may be meant for this device alone; nothing is trained from it. Tell the operator and the auditor"
    )]
    NotInLog(ProofError),
    /// Two logs of one size.
    #[error(
        "the server has two logs of {size} entries: it shows {shown} to this device, which saw {seen} before. Nothing is trained for it. Tell the auditor, with both values, and keep the agent's state folder"
    )]
    Forked {
        /// Their size.
        size: u64,
        /// The root that was seen.
        seen: Digest,
        /// The root that is shown now.
        shown: Digest,
    },
    /// Entries are gone.
    #[error(
        "the server's log had {seen} entries and has {shown} now: it was cut short, or restored from an old backup. Nothing is trained for it. Ask the operator, and tell the auditor"
    )]
    Shrunk {
        /// Entries seen.
        seen: u64,
        /// Entries now.
        shown: u64,
    },
    /// What was there is not any more.
    #[error(
        "the server rewrote its log: its {shown} entries do not begin with the {seen} that this device saw, whose root is {root} ({reason}). Nothing is trained for it. Tell the auditor, and keep the agent's state folder", root = .root.to_hex()
    )]
    Rewritten {
        /// Entries seen.
        seen: u64,
        /// The root over them.
        root: Digest,
        /// Entries now.
        shown: u64,
        /// What does not hold.
        reason: ProofError,
    },
}

impl KnownLog {
    /// What is known once `head` was shown to continue this log by `consistency` (RFC 6962, section 2.1.2).
    ///
    /// # Errors
    /// [`LogError::Shrunk`], [`LogError::Forked`], [`LogError::Rewritten`]: this log stays the one to be continued.
    pub fn grown(&self, head: &LogHead, consistency: &[Digest]) -> Result<Self, LogError> {
        let proof = hashes(consistency);
        let (old, new) = (self.root.as_bytes(), head.root.as_bytes());
        match log::verify_consistency(self.size, old, head.size, new, &proof) {
            Ok(()) => Ok(Self {
                size: head.size,
                root: head.root,
            }),
            Err(ProofError::Shrunk { old, new }) => Err(LogError::Shrunk { seen: old, shown: new }),
            Err(ProofError::Forked { size }) => Err(LogError::Forked {
                size,
                seen: self.root,
                shown: head.root,
            }),
            Err(reason) => Err(LogError::Rewritten {
                seen: self.size,
                root: self.root,
                shown: head.size,
                reason,
            }),
        }
    }
}

/// Whether `base` is a model of `job` in the server's log, and the log continues the `known` one. Returns the log as it is known now, the model's entry
/// and its index: the later of two models of a job has the higher one.
///
/// `server_key` is the key of the certificate that the server showed on this connection.
///
/// # Errors
/// [`LogError`]: nothing is trained from this model, and `known` stays what is known.
pub fn verify_base(
    known: &KnownLog,
    server_key: &PublicKey,
    tenant: &TenantId,
    job: JobId,
    base: Digest,
    proof: &BaseProof,
) -> Result<(KnownLog, LogEntry, u64), LogError> {
    let checkpoint = Checkpoint::open(&proof.checkpoint, &origin(tenant), server_key)?;
    let head = LogHead {
        size: checkpoint.size,
        root: Digest::from_bytes(checkpoint.root),
    };
    let grown = known.grown(&head, &proof.consistency)?;
    let leaf = log::leaf_hash(&proof.entry);
    log::verify_inclusion(&leaf, proof.index, head.size, &hashes(&proof.inclusion), &checkpoint.root).map_err(LogError::NotInLog)?;
    let entry: LogEntry = codec::decode(&proof.entry).map_err(|e| LogError::Entry { reason: e.to_string() })?;
    let other = |what| Err(LogError::OtherEntry { what });
    if entry.tenant != *tenant {
        return other("tenant");
    }
    if entry.job != job {
        return other("job");
    }
    if entry.model() != Some(base) {
        return other("model");
    }
    Ok((grown, entry, proof.index))
}

/// The name of a tenant's log, in its checkpoints.
pub fn origin(tenant: &TenantId) -> String {
    format!("aimass/{}", tenant.as_str())
}

fn hashes(list: &[Digest]) -> Vec<Hash> {
    list.iter().map(|digest| *digest.as_bytes()).collect()
}

#[cfg(test)]
mod tests;
