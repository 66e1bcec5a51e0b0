//! The running sums: one accumulator a cohort, whatever the number of agents. Journalled updates are added one after the other.

use std::collections::{HashMap, HashSet};
use std::io::{self, Seek as _};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use aimass_compression::{Accumulator, AddError, ContributionError};
use aimass_federation::RequestKind;
use aimass_federation::coordinator::{Event, OpenRound, UnmaskingRecord};
use aimass_net::blob::update_digest;
use aimass_protocol::message::secagg::{SurvivorsReply, UnmaskReply};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode, JobId};
use tokio::sync::Mutex;

use super::{Answer, Command, Driver, Ticket};
use crate::aggregator::counters::Counter;
use crate::aggregator::job::Codec;
use crate::aggregator::journal::Journal;
use crate::store::{AggregatorStore, JournalRecord};

/// Updates that go on record together: one flush of the store for all of them.
const BATCH: usize = 64;

/// Between tries to open the journal of a restored round.
const RESTORE_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(900)];

/// A cohort's sum.
pub(super) struct Sum {
    job: JobId,
    pub(super) codec: Arc<Codec>,
    packed_bytes: u64,
    /// Locked by the one task that adds, or makes the model.
    pub(super) accumulator: Arc<std::sync::Mutex<Accumulator>>,
    /// What its members were told; sealed once its survivors are settled.
    pub(super) open: OpenRound,
    /// Whether the seal is on the disk.
    pub(super) is_sealed: bool,
    /// Whether the survivors of masked inputs could not be made durable.
    is_untold: bool,
    queue: Vec<Update>,
    adding: bool,
    /// Agents whose announced update has another length than the plan's.
    misfits: HashSet<AgentId>,
    /// By its manifest, the update that each agent announced last.
    announced: HashMap<AgentId, Digest>,
    /// What is in the sum, or on record for it.
    taken: HashMap<AgentId, Digest>,
    /// Whose updates are in the sum now.
    in_sum: HashSet<AgentId>,
    writing: HashMap<AgentId, Arc<Mutex<()>>>,
}

/// A whole update in the journal.
#[derive(Debug, Clone, Copy)]
struct Update {
    agent: AgentId,
    contribution: ContributionId,
    digest: Digest,
    /// Whether it was written in an earlier life of the server: its content is compared with its name again.
    is_old: bool,
}

/// What an agent's manifest means for a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    /// It may come.
    Fits,
    /// Another update of the same name is in the sum.
    Replaces,
}

impl Sum {
    /// Takes note of an agent's manifest.
    pub(super) fn announced(&mut self, agent: AgentId, digest: Digest, size_bytes: u64) -> Announced {
        if self.taken.get(&agent).is_some_and(|taken| *taken != digest) {
            return Announced::Replaces;
        }
        self.announced.insert(agent, digest);
        if size_bytes == self.packed_bytes {
            self.misfits.remove(&agent);
        } else {
            self.misfits.insert(agent);
        }
        Announced::Fits
    }

    /// Whether this is the update that an agent announced last.
    pub(super) fn expects(&self, agent: AgentId, digest: Digest) -> bool {
        self.announced.get(&agent).is_none_or(|announced| *announced == digest)
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
    /// Makes a round durable, then an empty sum for its cohort. Without a sum nobody is told of the cohort.
    pub(super) async fn open_round(&mut self, open: OpenRound) {
        let cohort = open.terms.cohort;
        let (job, round, members) = (open.terms.job, open.terms.round, open.terms.members);
        match self.make_sum(open).await {
            Ok(sum) => {
                tracing::info!(%job, round, %cohort, members, "cohort formed");
                if sum.open.secagg.is_some() {
                    self.shared.traffic.began(cohort, job);
                }
                self.sums.insert(cohort, sum);
            }
            Err(reason) => {
                tracing::error!(%job, round, %reason, "the round can't be opened; it is tried again");
                self.shared.counters.count(Counter::RoundsFailed);
                self.events.push_back(Event::OpenFailed { cohort, reason });
            }
        }
    }

    async fn make_sum(&self, open: OpenRound) -> Result<Sum, String> {
        let (job, cohort) = (open.terms.job, open.terms.cohort);
        let entry = self.jobs.get(&job).ok_or("the job is gone")?;
        let work = entry.job.work.as_ref().ok_or("the job is over")?;
        // It was tried when the job was taken.
        let codec = work
            .codec(
                &entry.job.file,
                open.terms.round,
                open.terms.members,
                entry.job.rotation(&open.terms),
            )
            .map_err(|e| e.to_string())?;
        let (journal, store, written) = (self.shared.journal.clone(), self.shared.store.clone(), open.clone());
        let is_restored = self.restored.contains_key(&cohort);
        let open_now = move || {
            journal.open_cohort(cohort).map_err(|e| format!("the journal: {e}"))?;
            // A restored round is on the disk as it is.
            if is_restored {
                return Ok(());
            }
            store.put_open_round(&written).map_err(|e| e.to_string())
        };
        let opened = tokio::task::spawn_blocking(move || {
            let mut opened = open_now();
            // What is restored must not be thrown away over one failure.
            for pause in RESTORE_PAUSES.iter().filter(|_| is_restored) {
                if opened.is_ok() {
                    break;
                }
                std::thread::sleep(*pause);
                opened = open_now();
            }
            opened
        });
        opened.await.unwrap_or_else(|e| Err(e.to_string()))?;
        let restored = self.restored.get(&cohort).map_or(&[][..], |restored| &restored.journal);
        Ok(Sum {
            job,
            packed_bytes: codec.plan().packed_bytes() as u64,
            accumulator: Arc::new(std::sync::Mutex::new(match open.secagg {
                Some(_) => Accumulator::masked(codec.plan()),
                None => Accumulator::new(codec.plan()),
            })),
            codec: Arc::new(codec),
            is_sealed: open.survivors.is_some(),
            is_untold: false,
            open,
            queue: Vec::new(),
            adding: false,
            misfits: HashSet::new(),
            announced: HashMap::new(),
            taken: restored.iter().map(|record| (record.agent, record.digest)).collect(),
            in_sum: HashSet::new(),
            writing: HashMap::new(),
        })
    }

    /// Notes durably whose contributions a sum is made of. If that fails now, it is tried again before the sum is published.
    pub(super) async fn seal(&mut self, cohort: CohortId, survivors: Vec<(AgentId, ContributionId)>) {
        let Some(sum) = self.sums.get_mut(&cohort) else { return };
        // A restored one is sealed on the disk already.
        let is_new = sum.open.survivors.is_none();
        sum.open.survivors = Some(survivors);
        let stored = self.store_sealed(cohort).await;
        if let (Err(reason), Some(sum)) = (stored, self.sums.get_mut(&cohort))
            && is_new
            && sum.open.secagg.is_some()
        {
            // Its members must not hear of survivors: after a restart they could be others.
            sum.is_untold = true;
            self.events.push_back(Event::SealFailed { cohort, reason });
        }
    }

    /// Whether what the agent revealed could not be made durable yet: it keeps it until it could.
    pub(super) fn must_keep_shares(&self, agent: AgentId) -> bool {
        let unkept = self.sums.values().filter(|sum| sum.open.unmasking.is_some() && !sum.is_sealed);
        unkept.flat_map(|sum| &sum.open.members).any(|(member, _)| *member == agent)
    }

    /// Whether the agent is in a cohort whose survivors must not be told.
    pub(super) fn must_not_hear_survivors(&self, agent: AgentId) -> bool {
        let untold = self.sums.values().filter(|sum| sum.is_untold);
        untold.flat_map(|sum| &sum.open.members).any(|(member, _)| *member == agent)
    }

    async fn store_sealed(&mut self, cohort: CohortId) -> Result<(), String> {
        let Some(sum) = self.sums.get_mut(&cohort) else { return Ok(()) };
        let (store, sealed) = (self.shared.store.clone(), sum.open.clone());
        let stored = tokio::task::spawn_blocking(move || store.put_open_round(&sealed).map_err(|e| e.to_string()));
        let stored = stored.await.unwrap_or_else(|e| Err(e.to_string()));
        match &stored {
            Ok(()) => sum.is_sealed = true,
            Err(reason) => tracing::error!(%cohort, %reason, "a sum could not be sealed; it is tried again"),
        }
        stored
    }

    /// Keeps durably what takes the masks off a sum. If that fails now, it is tried again before the sum is published.
    pub(super) async fn keep_unmasking(&mut self, cohort: CohortId, unmasking: UnmaskingRecord) {
        let Some(sum) = self.sums.get_mut(&cohort) else { return };
        sum.open.unmasking = Some(unmasking);
        sum.is_sealed = false;
        // What can't be stored now is stored before the sum is published.
        let _ = self.store_sealed(cohort).await;
    }

    /// Queues a whole update.
    pub(super) fn add(&mut self, cohort: CohortId, agent: AgentId, contribution: ContributionId) {
        let refuse = |code| Event::AddFailed { agent, cohort, code };
        let Some(sum) = self.sums.get_mut(&cohort) else {
            return self.events.push_back(refuse(ErrorCode::Unavailable));
        };
        if sum.misfits.contains(&agent) {
            return self.events.push_back(refuse(ErrorCode::UpdateLength));
        }
        // Announced in this life of the server, or on record from an earlier one.
        let Some(digest) = sum.announced.get(&agent).or_else(|| sum.taken.get(&agent)).copied() else {
            return self.events.push_back(refuse(ErrorCode::Unavailable));
        };
        let is_old = !sum.announced.contains_key(&agent);
        sum.queue.push(Update {
            agent,
            contribution,
            digest,
            is_old,
        });
        self.add_next(cohort);
    }

    fn add_next(&mut self, cohort: CohortId) {
        let Some(sum) = self.sums.get_mut(&cohort) else { return };
        if sum.adding || sum.queue.is_empty() {
            return;
        }
        sum.adding = true;
        let updates: Vec<Update> = sum.queue.drain(..sum.queue.len().min(BATCH)).collect();
        let agents: Vec<AgentId> = updates.iter().map(|update| update.agent).collect();
        let adding = Adding {
            journal: self.shared.journal.clone(),
            store: self.shared.store.clone(),
            job: sum.job,
            cohort,
            in_sum: sum.in_sum.iter().copied().collect(),
        };
        let (accumulator, commands) = (Arc::clone(&sum.accumulator), self.commands.clone());
        tokio::spawn(async move {
            let sum = Arc::clone(&accumulator);
            let results = tokio::task::spawn_blocking(move || {
                let mut accumulator = accumulator.lock().unwrap_or_else(PoisonError::into_inner);
                adding.add(updates, &mut accumulator)
            });
            let results = results.await.unwrap_or_else(|_| {
                // A fault of this program, or its end: what is in the sum is not known.
                sum.lock().unwrap_or_else(PoisonError::into_inner).poison();
                agents.into_iter().map(|agent| (agent, Err(ErrorCode::Unavailable))).collect()
            });
            // The driver is gone only when the service ends.
            let _ = commands.send(Command::Added { cohort, results });
        });
    }

    pub(super) async fn added(&mut self, cohort: CohortId, results: Vec<(AgentId, Result<Digest, ErrorCode>)>) {
        if let Some(sum) = self.sums.get_mut(&cohort) {
            sum.adding = false;
            for (agent, result) in &results {
                if let Ok(digest) = result {
                    sum.taken.insert(*agent, *digest);
                    sum.in_sum.insert(*agent);
                }
            }
        }
        self.add_next(cohort);
        for (agent, result) in results {
            match result {
                Ok(_) => {
                    self.shared.counters.count(Counter::ContributionsAdded);
                    self.event(Event::Added { agent, cohort }).await;
                }
                Err(code) => self.event(Event::AddFailed { agent, cohort, code }).await,
            }
        }
    }

    /// Answers the members of a masked sum that is over, where they were kept waiting because of the disk: for the survivors, or for their shares to be taken.
    fn answer_who_waits(&mut self, cohort: CohortId, is_published: bool) {
        let Some(sum) = self.sums.get(&cohort).filter(|sum| sum.open.secagg.is_some()) else {
            return;
        };
        let shares = if is_published { UnmaskReply::Taken } else { UnmaskReply::Abandoned };
        let (is_untold, is_unmasked) = (sum.is_untold, sum.open.unmasking.is_some());
        for (member, _) in &sum.open.members {
            if is_untold {
                let answer = Answer::Survivors(SurvivorsReply::NotIncluded);
                self.waiting.answer_about(cohort, *member, RequestKind::Survivors, answer);
            }
            if is_unmasked {
                let answer = Answer::Unmask(shares);
                self.waiting.answer_about(cohort, *member, RequestKind::Unmask, answer);
            }
        }
    }

    /// Forgets a cohort's sum, which was published or dropped, and removes its updates.
    pub(super) fn forget_sum(&mut self, cohort: CohortId, is_published: bool) {
        self.answer_who_waits(cohort, is_published);
        self.sums.remove(&cohort);
        self.restored.remove(&cohort);
        self.descriptors.remove(&cohort);
        self.shared.traffic.ended(cohort);
        self.waiting.close_uploads(cohort);
        let journal = self.shared.journal.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = journal.remove_cohort(cohort) {
                tracing::warn!(%cohort, %error, "the journal of a cohort that is over could not be removed");
            }
        });
    }
}

/// What adding needs besides the sum.
struct Adding {
    journal: Journal,
    store: AggregatorStore,
    job: JobId,
    cohort: CohortId,
    /// Whose updates are in the sum, should it have to be made again.
    in_sum: Vec<AgentId>,
}

impl Adding {
    /// Adds whole updates, each or not at all, and puts those that are in on record together. What is refused does not stay in the journal. If they can't be
    /// put on record, all of them are taken out of the sum again.
    fn add(&self, updates: Vec<Update>, accumulator: &mut Accumulator) -> Vec<(AgentId, Result<Digest, ErrorCode>)> {
        let cohort = self.cohort;
        let mut results = Vec::with_capacity(updates.len());
        let mut added = Vec::new();
        for update in updates {
            let result = mend(&self.journal, cohort, &self.in_sum, &added, accumulator).and_then(|()| self.add_one(&update, accumulator));
            match result {
                Ok(()) => added.push(update),
                // It can't become right. What could not be read can be, later.
                Err(code) if !code.is_retryable() => {
                    if let Err(error) = self.journal.remove_update(cohort, update.agent) {
                        tracing::warn!(%cohort, agent = %update.agent, %error, "a refused update could not be removed");
                    }
                }
                Err(_) => {}
            }
            results.push((update.agent, result.map(|()| update.digest)));
        }
        if let Err(error) = self.put_on_record(&added) {
            tracing::error!(%cohort, %error, "updates could not be put on record: they are not taken");
            for update in &added {
                self.take_out(update.agent, accumulator);
                results.retain(|(agent, _)| *agent != update.agent);
                results.push((update.agent, Err(ErrorCode::Unavailable)));
            }
        }
        results
    }

    fn put_on_record(&self, added: &[Update]) -> io::Result<()> {
        if added.is_empty() {
            return Ok(());
        }
        self.journal.sync_cohort(self.cohort)?;
        let records: Vec<JournalRecord> = added
            .iter()
            .map(|update| JournalRecord {
                cohort: self.cohort,
                agent: update.agent,
                contribution: update.contribution,
                digest: update.digest,
            })
            .collect();
        self.store.put_journal(self.job, &records).map_err(io::Error::other)
    }

    /// Checks a whole update while it is added, a block at a time.
    fn add_one(&self, update: &Update, accumulator: &mut Accumulator) -> Result<(), ErrorCode> {
        let Update { agent, digest, is_old, .. } = *update;
        let added = self
            .journal
            .read_update(self.cohort, agent)
            .map_err(AddError::from)
            .and_then(|mut file| {
                if is_old {
                    if update_digest(&mut file)? != digest {
                        return Err(io::Error::other("it was changed on the disk").into());
                    }
                    file.rewind()?;
                }
                accumulator.add_checked(&mut file)
            });
        added.map_err(|error| {
            tracing::warn!(cohort = %self.cohort, %agent, %error, "update not added");
            match error {
                AddError::Contribution(ContributionError::TooLong { .. } | ContributionError::TooShort { .. }) => ErrorCode::UpdateLength,
                AddError::Contribution(_) => ErrorCode::UpdateValue,
                _ => ErrorCode::Unavailable,
            }
        })
    }

    /// Undoes [`Adding::add_one`]. If the update can't be read again, the sum is poisoned, and is made again before it is used.
    fn take_out(&self, agent: AgentId, accumulator: &mut Accumulator) {
        let taken = match self.journal.read_update(self.cohort, agent) {
            Ok(mut file) => accumulator.take_out(&mut file),
            Err(error) => {
                accumulator.poison();
                Err(error.into())
            }
        };
        if let Err(error) = taken {
            tracing::error!(cohort = %self.cohort, %agent, %error, "an update could not be taken out of the sum, which is made again");
        }
    }
}

/// Makes a sum again that something which should not be in it spoiled: of the updates of these agents, which lie in the journal.
fn mend(journal: &Journal, cohort: CohortId, in_sum: &[AgentId], added: &[Update], accumulator: &mut Accumulator) -> Result<(), ErrorCode> {
    if !accumulator.is_poisoned() {
        return Ok(());
    }
    let agents = in_sum.iter().copied().chain(added.iter().map(|update| update.agent));
    remake(journal, cohort, agents, accumulator).map_err(|error| {
        tracing::error!(%cohort, %error, "the sum can't be made again now");
        ErrorCode::Unavailable
    })
}

/// Makes a sum of the updates of these agents, which are valid and lie in the journal. The sum stays as it was when that fails.
///
/// # Errors
/// [`AddError`].
pub(super) fn remake(
    journal: &Journal,
    cohort: CohortId,
    agents: impl IntoIterator<Item = AgentId>,
    accumulator: &mut Accumulator,
) -> Result<(), AddError> {
    let mut made = accumulator.emptied();
    for agent in agents {
        made.add_checked(&mut journal.read_update(cohort, agent)?)?;
    }
    *accumulator = made;
    Ok(())
}
