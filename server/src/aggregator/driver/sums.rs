//! The running sums: one accumulator a cohort, whatever the number of agents. Spooled updates are added one after the other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::sync::{Arc, PoisonError};

use aimass_compression::{Accumulator, AddError, ContributionError, FixedCodec};
use aimass_federation::coordinator::{CohortTerms, Event};
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::message::agent::SignedDescriptor;
use aimass_protocol::{AgentId, CohortId, ErrorCode, JobId, SignatureBytes, codec};
use serde_bytes::ByteBuf;
use tokio::sync::Mutex;

use super::{Answer, Command, Driver, Ticket, unavailable};
use crate::aggregator::counters::Counter;
use crate::aggregator::spool::Spool;

/// A cohort's sum.
pub(super) struct Sum {
    job: JobId,
    pub(super) codec: Arc<FixedCodec>,
    packed_bytes: u64,
    /// Locked by the one task that adds, or makes the model.
    pub(super) accumulator: Arc<std::sync::Mutex<Accumulator>>,
    queue: VecDeque<AgentId>,
    adding: bool,
    /// Agents whose announced update has another length than the plan's.
    misfits: HashSet<AgentId>,
    writing: HashMap<AgentId, Arc<Mutex<()>>>,
}

impl Sum {
    /// Notes the length that an agent's manifest announces.
    pub(super) fn announced(&mut self, agent: AgentId, size_bytes: u64) {
        if size_bytes == self.packed_bytes {
            self.misfits.remove(&agent);
        } else {
            self.misfits.insert(agent);
        }
    }

    pub(super) fn announced_well(&self, agent: AgentId) -> bool {
        !self.misfits.contains(&agent)
    }

    pub(super) fn ticket(&mut self, agent: AgentId) -> Ticket {
        Ticket {
            job: self.job,
            writing: Arc::clone(self.writing.entry(agent).or_default()),
        }
    }
}

impl Driver {
    pub(super) async fn open_sum(&mut self, job: JobId, cohort: CohortId, round: u32, members: u32) {
        let Some(entry) = self.jobs.get(&job) else { return };
        let Some(work) = entry.job.work.as_ref() else { return };
        // Both were tried when the job was taken; without the sum its uploads are refused, and the round starts anew.
        let codec = match entry.job.codec(&work.layout, members) {
            Ok(codec) => Arc::new(codec),
            Err(error) => return tracing::error!(%job, round, %error, "no sum for the cohort"),
        };
        let spool = self.shared.spool.clone();
        let opened = tokio::task::spawn_blocking(move || spool.open_cohort(cohort))
            .await
            .unwrap_or_else(|e| Err(io::Error::other(e)));
        if let Err(error) = opened {
            return tracing::error!(%job, round, %error, "no spool folder for the cohort");
        }
        tracing::info!(%job, round, %cohort, members, "cohort formed");
        let sum = Sum {
            job,
            packed_bytes: codec.plan().packed_bytes() as u64,
            accumulator: Arc::new(std::sync::Mutex::new(Accumulator::new(codec.plan()))),
            codec,
            queue: VecDeque::new(),
            adding: false,
            misfits: HashSet::new(),
            writing: HashMap::new(),
        };
        self.sums.insert(cohort, sum);
    }

    /// The cohort's descriptor: made and signed once, so that every member gets the same bytes.
    pub(super) fn descriptor(&mut self, terms: CohortTerms) -> Answer {
        if let Some(made) = self.descriptors.get(&terms.cohort) {
            return Answer::Cohort(made.clone());
        }
        let work = self.jobs.get(&terms.job).and_then(|entry| entry.job.work.as_ref());
        let Some(work) = work else {
            return unavailable("the job is over; check in again");
        };
        let descriptor = Descriptor {
            version: Descriptor::VERSION,
            tenant: self.shared.tenant.clone(),
            job: terms.job,
            round: terms.round,
            cohort: terms.cohort,
            bases: vec![terms.base],
            layout_digest: work.layout_digest,
            codec: terms.codec,
            mode: terms.mode,
            members: terms.members,
            floor: terms.floor,
            deadline: terms.deadline,
        };
        match codec::encode(&descriptor) {
            Ok(bytes) => {
                let signature = SignatureBytes::from_bytes(self.shared.trust.sign_descriptor(&bytes));
                let made = SignedDescriptor {
                    descriptor: ByteBuf::from(bytes),
                    signature,
                };
                self.descriptors.insert(terms.cohort, made.clone());
                Answer::Cohort(made)
            }
            Err(error) => {
                tracing::error!(job = %terms.job, round = terms.round, %error, "the cohort's descriptor can't be made");
                unavailable("the cohort's descriptor can't be made; the server's log says why")
            }
        }
    }

    /// Queues a spooled update.
    pub(super) fn add(&mut self, cohort: CohortId, agent: AgentId) {
        let Some(sum) = self.sums.get_mut(&cohort) else {
            return self.events.push_back(Event::AddFailed {
                agent,
                cohort,
                code: ErrorCode::Unavailable,
            });
        };
        if sum.misfits.contains(&agent) {
            return self.events.push_back(Event::AddFailed {
                agent,
                cohort,
                code: ErrorCode::UpdateLength,
            });
        }
        sum.queue.push_back(agent);
        self.add_next(cohort);
    }

    fn add_next(&mut self, cohort: CohortId) {
        let Some(sum) = self.sums.get_mut(&cohort) else { return };
        if sum.adding {
            return;
        }
        let Some(agent) = sum.queue.pop_front() else { return };
        sum.adding = true;
        let (spool, accumulator, commands) = (self.shared.spool.clone(), Arc::clone(&sum.accumulator), self.commands.clone());
        tokio::task::spawn_blocking(move || {
            let mut accumulator = accumulator.lock().unwrap_or_else(PoisonError::into_inner);
            let result = add_spooled(&spool, cohort, agent, &mut accumulator);
            // What is in the sum need not lie on the disk; what is refused must not.
            if let Err(error) = spool.remove_upload(cohort, agent) {
                tracing::warn!(%cohort, %agent, %error, "a spooled update could not be removed");
            }
            // The driver is gone only when the service ends.
            let _ = commands.send(Command::Added { cohort, agent, result });
        });
    }

    pub(super) async fn added(&mut self, cohort: CohortId, agent: AgentId, result: Result<(), ErrorCode>) {
        if let Some(sum) = self.sums.get_mut(&cohort) {
            sum.adding = false;
        }
        self.add_next(cohort);
        match result {
            Ok(()) => {
                self.shared.counters.count(Counter::ContributionsAdded);
                self.event(Event::Added { agent, cohort }).await;
            }
            Err(code) => self.event(Event::AddFailed { agent, cohort, code }).await,
        }
    }

    pub(super) fn drop_sum(&mut self, cohort: CohortId) {
        self.sums.remove(&cohort);
        self.descriptors.remove(&cohort);
        self.waiting.close_uploads(cohort);
        let spool = self.shared.spool.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = spool.remove_cohort(cohort) {
                tracing::warn!(%cohort, %error, "the spool of a dropped cohort could not be removed");
            }
        });
    }
}

/// Checks a whole spooled update, then adds it: whole or not at all, a block at a time.
fn add_spooled(spool: &Spool, cohort: CohortId, agent: AgentId, accumulator: &mut Accumulator) -> Result<(), ErrorCode> {
    let added = match spool.read_upload(cohort, agent) {
        Ok(mut file) => accumulator.add_checked(&mut file),
        Err(error) => Err(error.into()),
    };
    added.map_err(|error| {
        tracing::warn!(%cohort, %agent, %error, "update not added");
        match error {
            AddError::Contribution(ContributionError::TooLong { .. } | ContributionError::TooShort { .. }) => ErrorCode::UpdateLength,
            AddError::Contribution(_) => ErrorCode::UpdateValue,
            _ => ErrorCode::Unavailable,
        }
    })
}
