//! The simulated server's log of models.

use std::collections::BTreeMap;

use aimass_crypto::log::{Checkpoint, Hash, Tree, leaf_hash};
use aimass_federation::agent::log::origin;
use aimass_federation::coordinator::{CohortTerms, OpenRound, SecAggRecord};
use aimass_protocol::log::{AbandonedEntry, BaseProof, LogEntry, LogEvent, LogHead, RoundEntry};
use aimass_protocol::{Digest, JobId, Timestamp, codec};
use serde_bytes::ByteBuf;

use crate::trust::Trust;

/// Who survived a round is not looked up here.
const NO_OPENINGS: Digest = Digest::from_bytes([0; 32]);

/// It lies on the server's disk, and no kill takes an entry away.
#[derive(Debug, Default)]
pub(crate) struct Log {
    tree: Tree,
    /// The newest entry of each model.
    models: BTreeMap<(JobId, Digest), (u64, Vec<u8>)>,
    /// The newest checkpoint that was signed, and its size.
    signed: Option<(u64, Vec<u8>)>,
}

impl Log {
    /// Appends an entry.
    ///
    /// # Panics
    /// Never: an entry of these few fields can be written.
    pub(crate) fn append(&mut self, trust: &Trust, time: Timestamp, job: JobId, event: LogEvent) {
        let entry = LogEntry {
            version: LogEntry::VERSION,
            tenant: trust.tenant.clone(),
            job,
            time,
            event,
        };
        let bytes = codec::encode(&entry).expect("an entry within the limits can be written");
        let index = self.tree.append(leaf_hash(&bytes));
        if let Some(model) = entry.model() {
            self.models.insert((job, model), (index, bytes));
        }
    }

    pub(crate) fn head(&self) -> LogHead {
        LogHead {
            size: self.tree.size(),
            root: Digest::from_bytes(self.tree.root()),
        }
    }

    /// Shows who saw `seen` entries that a model is in the log.
    pub(crate) fn base_proof(&mut self, trust: &Trust, job: JobId, base: Digest, seen: u64) -> Option<BaseProof> {
        let LogHead { size, root } = self.head();
        let checkpoint = match self.signed.take() {
            Some((of, bytes)) if of == size => bytes,
            _ => {
                let checkpoint = Checkpoint {
                    origin: origin(&trust.tenant),
                    size,
                    root: *root.as_bytes(),
                };
                checkpoint.sign(&trust.server).ok()?.into_bytes()
            }
        };
        self.signed = Some((size, checkpoint.clone()));
        let (index, entry) = self.models.get(&(job, base))?;
        Some(BaseProof {
            checkpoint: ByteBuf::from(checkpoint),
            entry: ByteBuf::from(entry.clone()),
            index: *index,
            inclusion: digests(self.tree.inclusion(*index, size)?),
            consistency: self.consistency(seen, size),
        })
    }

    /// Shows who saw `seen` entries that they are the beginning of the first `size`.
    pub(crate) fn consistency(&self, seen: u64, size: u64) -> Vec<Digest> {
        digests(self.tree.consistency(seen, size).unwrap_or_default())
    }
}

fn digests(hashes: Vec<Hash>) -> Vec<Digest> {
    hashes.into_iter().map(Digest::from_bytes).collect()
}

/// What is logged of a round.
pub(crate) fn round(open: &OpenRound, model: Digest, survivors: usize) -> LogEvent {
    let terms = &open.terms;
    LogEvent::Round(RoundEntry {
        round: terms.round,
        model,
        before: terms.bases[0],
        cohort: terms.cohort,
        descriptor: descriptor_digest(open),
        mode: terms.mode,
        members: terms.members,
        survivors: count(survivors),
        survivors_root: NO_OPENINGS,
        draws: open.secagg.as_ref().map_or(0, SecAggRecord::draw),
    })
}

/// What is logged of a round that was given up after its survivors were settled.
pub(crate) fn given_up(open: &OpenRound, survivors: usize) -> LogEvent {
    let draws = open.secagg.as_ref().map_or(0, SecAggRecord::draw);
    abandoned(&open.terms, Some(descriptor_digest(open)), survivors, draws)
}

/// What is logged of a cohort that came to nothing.
pub(crate) fn abandoned(terms: &CohortTerms, descriptor: Option<Digest>, survivors: usize, draws: u8) -> LogEvent {
    LogEvent::Abandoned(AbandonedEntry {
        round: terms.round,
        before: terms.bases[0],
        cohort: terms.cohort,
        descriptor,
        mode: terms.mode,
        members: terms.members,
        survivors: count(survivors),
        survivors_root: (survivors > 0).then_some(NO_OPENINGS),
        draws,
    })
}

/// Without masks nobody looks for it in the log.
fn descriptor_digest(open: &OpenRound) -> Digest {
    open.secagg.as_ref().map_or(NO_OPENINGS, SecAggRecord::descriptor_digest)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
