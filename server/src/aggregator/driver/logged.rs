//! What of the rounds goes into the log, and what of the log goes into the rounds.

use std::sync::Arc;

use aimass_crypto::hash::sha256;
use aimass_federation::coordinator::{CohortTerms, OpenRound, SecAggRecord};
use aimass_protocol::log::{AbandonedEntry, BaseProof, LogEvent, LogHead};
use aimass_protocol::{CohortId, Digest, JobId};

use super::{Answer, Driver, now};
use crate::aggregator::log::{ModelLog, Survivors};
use crate::store::{AggregatorStore, StoreError};

impl Driver {
    /// Shows an agent that saw `seen` entries that a job's model is in the log. Without that it trains nothing.
    pub(super) fn base_proof(&self, job: JobId, base: Digest, seen: u64) -> Option<BaseProof> {
        let proof = self.shared.log.base_proof(job, base, seen);
        if proof.is_none() {
            tracing::error!(%job, "the job's model is not in the log: agents will not train from it; start the server again");
        }
        proof
    }

    /// The log as it is now, for a descriptor.
    pub(super) fn log_head(&self) -> LogHead {
        self.shared.log.head()
    }

    /// Shows an agent that saw `seen` entries that they are the beginning of the log of `size`. One that saw more finds that out by the size.
    pub(super) fn log_consistency(&self, seen: u64, size: u64) -> Vec<Digest> {
        self.shared.log.consistency(seen, size).unwrap_or_default()
    }

    /// SHA-256 of the descriptor of a cohort that has a sum, as its members got it.
    pub(super) fn descriptor_digest(&mut self, cohort: CohortId) -> Option<Digest> {
        let open = &self.sums.get(&cohort)?.open;
        if let Some(record) = &open.secagg {
            return Some(record.descriptor_digest());
        }
        let terms = open.terms.clone();
        match self.descriptor(terms) {
            Answer::Cohort(signed) => Some(Digest::from_bytes(sha256(&signed.descriptor))),
            _ => None,
        }
    }

    /// Forgets a round durably: what its members are told next must not be undone by a restart. One whose survivors were settled is in the log from then
    /// on: a server that has it run again without one of them is seen.
    pub(super) async fn drop_round(&mut self, cohort: CohortId) {
        // One that could not be taken up again has no sum, and is on the disk all the same.
        let restored = self.restored.get(&cohort).map(|restored| &restored.open);
        let open = self.sums.get(&cohort).map(|sum| &sum.open).or(restored).cloned();
        if let Some(open) = open {
            let descriptor = match &open.secagg {
                Some(record) => Some(record.descriptor_digest()),
                None => self.descriptor_digest(cohort),
            };
            let (store, log) = (self.shared.store.clone(), self.shared.log.clone());
            let dropped = tokio::task::spawn_blocking(move || abandon(&store, &log, &open, descriptor));
            let dropped = match dropped.await {
                Ok(dropped) => dropped.map_err(|e| e.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(reason) = dropped {
                // A restart would take it up again, with contributions that are offered again under the same names: they are counted once all the same.
                tracing::error!(%cohort, %reason, "a round that is given up could not be forgotten");
            }
        }
        self.forget_sum(cohort, false);
        self.forget_old_survivors();
    }

    /// Forgets who was in rounds of long ago, without anybody waiting for it.
    pub(super) fn forget_old_survivors(&self) {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(
            move || match shared.log.forget_old_survivors(&shared.store, now(), shared.keep_survivors) {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "openings of survivors are old enough to be forgotten"),
                Err(error) => {
                    tracing::error!(%error, "old openings of survivors could not be forgotten; it is tried again after the next round");
                }
            },
        );
    }

    /// Forgets a cohort that was never made durable. If its members were asked for their part of a draw, that is in the log: a server that draws until it
    /// likes the graph is seen.
    pub(super) async fn forget_cohort(&mut self, terms: CohortTerms, draws: u8) {
        let described = self.descriptors.remove(&terms.cohort);
        self.shared.traffic.ended(terms.cohort);
        let Some(before) = terms.bases.first().copied().filter(|_| draws > 0) else {
            return;
        };
        let event = LogEvent::Abandoned(AbandonedEntry {
            round: terms.round,
            before,
            cohort: terms.cohort,
            descriptor: described.map(|made| Digest::from_bytes(sha256(&made.signed.descriptor))),
            mode: terms.mode,
            members: terms.members.max(1),
            survivors: 0,
            survivors_root: None,
            draws,
        });
        let (store, log) = (self.shared.store.clone(), self.shared.log.clone());
        let logged =
            tokio::task::spawn_blocking(move || log.append(terms.job, event, Survivors::default(), |entry| store.add_to_log(entry)));
        if let Err(reason) = logged
            .await
            .map_err(|e| e.to_string())
            .and_then(|done| done.map_err(|e| e.to_string()))
        {
            tracing::error!(cohort = %terms.cohort, %reason, "draws that came to nothing could not be logged");
        }
    }
}

fn abandon(store: &AggregatorStore, log: &ModelLog, open: &OpenRound, descriptor: Option<Digest>) -> Result<(), StoreError> {
    let (terms, settled) = (&open.terms, open.survivors.as_deref().unwrap_or_default());
    let Some(before) = terms.bases.first().copied().filter(|_| !settled.is_empty()) else {
        return store.drop_open_round(terms.job);
    };
    let survivors = Survivors::salted(settled)?;
    let event = LogEvent::Abandoned(AbandonedEntry {
        round: terms.round,
        before,
        cohort: terms.cohort,
        descriptor,
        mode: terms.mode,
        members: terms.members,
        survivors: u32::try_from(settled.len()).unwrap_or(u32::MAX),
        survivors_root: Some(survivors.root()),
        draws: open.secagg.as_ref().map_or(0, SecAggRecord::draw),
    });
    log.append(terms.job, event, survivors, |entry| store.abandon_open_round(terms.job, entry))
        .map(|_| ())
}
