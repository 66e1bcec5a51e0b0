//! Whether a log holds: all of its entries lead to the signed root, each step starts from a model that is in it, and it continues what it was.

use std::collections::BTreeMap;

use aimass_crypto::log::{Checkpoint, Tree, leaf_hash};
use aimass_federation::agent::log::origin;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::log::{LogEntry, LogEvent};
use aimass_protocol::{Digest, JobId, codec};

/// A log that does not hold. The texts are for an auditor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuditError {
    #[error("entry {index} can't be read ({reason}): use the version of this command that the server has")]
    Entry { index: u64, reason: String },
    #[error("entry {index} is of the tenant {tenant:?}, not of {origin:?}: the server mixes logs; ask its operator")]
    Tenant { index: u64, tenant: String, origin: String },
    #[error(
        "entry {index}: round {round} of job {job} starts from the model {base}, which is not the one that the log has for the job: that model was trained outside the log; ask the operator, and the owners of devices what they were given", job = .job.to_hex(), base = .base.to_hex()
    )]
    MissingBase { index: u64, job: JobId, round: u32, base: Digest },
    #[error("entry {index}: round {round} of job {job} comes after round {last}: rounds were taken back; ask the operator", job = .job.to_hex())]
    Order { index: u64, job: JobId, round: u32, last: u32 },
    #[error(
        "there are {found} entries, the checkpoint is over {expected}: the file was cut, or is not of this checkpoint; export the log again"
    )]
    Size { found: u64, expected: u64 },
    #[error(
        "the entries do not lead to the root that the server signed for {size} of them: an entry was changed, added or left out. Export the log again; if that does not help, the server does not have what it signed"
    )]
    Root { size: u64 },
    #[error("an older checkpoint is over {old} entries, this log has {new}: it was cut short. Keep both: the two signatures prove it")]
    Shrunk { old: u64, new: u64 },
    #[error("the server signed two different logs of {size} entries. Keep both checkpoints: the two signatures prove it")]
    Forked { size: u64 },
    #[error(
        "the log does not begin with the {old} entries of the older checkpoint: it was rewritten. Keep both: the two signatures prove it"
    )]
    Rewritten { old: u64 },
}

/// What a log says, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Figures {
    pub(crate) entries: u64,
    pub(crate) jobs: usize,
    pub(crate) rounds: u64,
    /// Rounds among them without masks.
    pub(crate) plain: u64,
    pub(crate) abandoned: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
}

/// An audit on its way through a log.
#[derive(Debug)]
pub(crate) struct Audit {
    origin: String,
    tree: Tree,
    jobs: BTreeMap<JobId, Job>,
    figures: Figures,
}

/// A job so far.
#[derive(Debug)]
struct Job {
    model: Digest,
    round: u32,
}

impl Audit {
    /// Of the log with this name.
    pub(crate) fn new(origin: impl Into<String>) -> Self {
        Self {
            origin: origin.into(),
            tree: Tree::new(),
            jobs: BTreeMap::new(),
            figures: Figures::default(),
        }
    }

    /// The next entry.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<LogEntry, AuditError> {
        let index = self.tree.append(leaf_hash(bytes));
        let entry: LogEntry = codec::decode(bytes).map_err(|e| AuditError::Entry {
            index,
            reason: e.to_string(),
        })?;
        if origin(&entry.tenant) != self.origin {
            return Err(AuditError::Tenant {
                index,
                tenant: entry.tenant.as_str().to_owned(),
                origin: self.origin.clone(),
            });
        }
        match &entry.event {
            LogEvent::Base { model } => {
                let job = self.jobs.entry(entry.job).or_insert(Job { model: *model, round: 0 });
                job.model = *model;
            }
            LogEvent::Round(round) => {
                self.follow(index, entry.job, round.round, round.before)?;
                self.jobs.insert(
                    entry.job,
                    Job {
                        model: round.model,
                        round: round.round,
                    },
                );
                self.figures.rounds += 1;
                self.figures.plain += u64::from(round.mode == AggregationMode::Plain);
            }
            LogEvent::Abandoned(round) => {
                self.follow(index, entry.job, round.round, round.before)?;
                self.figures.abandoned += 1;
            }
        }
        let time_ms = entry.time.as_ms();
        if self.figures.entries == 0 {
            self.figures.first_ms = time_ms;
        }
        self.figures.last_ms = time_ms;
        self.figures.entries += 1;
        Ok(entry)
    }

    /// A round starts from its job's latest model, and after its job's latest round.
    fn follow(&self, index: u64, job: JobId, round: u32, base: Digest) -> Result<(), AuditError> {
        let known = self.jobs.get(&job).filter(|known| known.model == base);
        let known = known.ok_or(AuditError::MissingBase { index, job, round, base })?;
        if round > known.round {
            Ok(())
        } else {
            let last = known.round;
            Err(AuditError::Order { index, job, round, last })
        }
    }

    /// All entries were there: whether they are what the checkpoint is over, and begin with what the older ones are over.
    pub(crate) fn finish(mut self, checkpoint: &Checkpoint, older: &[Checkpoint]) -> Result<Figures, AuditError> {
        let found = self.tree.size();
        if found != checkpoint.size {
            return Err(AuditError::Size {
                found,
                expected: checkpoint.size,
            });
        }
        if self.tree.root() != checkpoint.root {
            return Err(AuditError::Root { size: found });
        }
        for old in older {
            match self.tree.root_at(old.size) {
                None => {
                    return Err(AuditError::Shrunk { old: old.size, new: found });
                }
                Some(root) if root == old.root => {}
                Some(_) if old.size == found => return Err(AuditError::Forked { size: found }),
                Some(_) => return Err(AuditError::Rewritten { old: old.size }),
            }
        }
        self.figures.jobs = self.jobs.len();
        Ok(self.figures)
    }
}

#[cfg(test)]
mod tests;
