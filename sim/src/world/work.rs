//! What the simulated server does with its disk and its sums.

use std::collections::VecDeque;

use aimass_compression::Accumulator;
use aimass_federation::RequestKind;
use aimass_federation::coordinator::{Event, JobSpec, OpenRound, RoundOutcome};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode, JobId};

use super::server::{Open, OpenOnDisk, Spooled, Task, Transfer};
use super::{Happening, World};
use crate::fault::{Blocks, Fault, Key};
use crate::oracle::Violation;
use crate::report::PublishedRound;
use crate::sabotage::Sabotage;
use crate::workload::{Step, codec};

/// The server hears of an upload's progress so often.
const PROGRESS_MS: u64 = 1_000;

impl World {
    /// Makes a round durable, then its sum.
    pub(super) fn open_round(&mut self, open: OpenRound, events: &mut VecDeque<Event>) {
        let (job, cohort, members) = (open.terms.job, open.terms.cohort, open.terms.members);
        let number = self.server.opens;
        self.server.opens += 1;
        if self.faults.take(self.now, Key::Open(number)).is_some() {
            self.note(|| format!("!! cohort {cohort} can't be made durable"));
            self.server.unopened.insert(cohort);
            let reason = "disk full".to_owned();
            return events.push_back(Event::OpenFailed { cohort, reason });
        }
        let Some(spec) = self.server.disk.jobs.get(&job) else { return };
        let codec = match codec(self.workload.n_weights(), &spec.file, members) {
            Ok(codec) => codec,
            Err(error) => {
                let what = format!("cohort {cohort} has no codec: {error}");
                return self.oracle.violate(Violation::Round { job, what });
            }
        };
        if self.sabotage != Sabotage::ForgetsOpenRounds {
            let on_disk = self.server.disk.open.entry(job).or_insert_with(|| OpenOnDisk {
                open: open.clone(),
                durable: Default::default(),
            });
            // A restored round is there already, with what was added.
            if on_disk.open.terms.cohort != cohort {
                let what = format!("cohort {cohort} is opened beside cohort {}", on_disk.open.terms.cohort);
                return self.oracle.violate(Violation::Round { job, what });
            }
        }
        let sum = match open.secagg {
            Some(_) => Accumulator::masked(codec.plan()),
            None => Accumulator::new(codec.plan()),
        };
        self.server.sums.insert(cohort, sum);
        self.oracle.opened(job, cohort);
    }

    pub(super) fn seal(&mut self, cohort: CohortId, survivors: &[(AgentId, ContributionId)]) -> Option<Event> {
        let number = self.server.seals;
        self.server.seals += 1;
        let mut fails = self.faults.take(self.now, Key::Seal(number)).is_some();
        let mut event = None;
        if let Some(on_disk) = self.server.disk.open.values_mut().find(|o| o.open.terms.cohort == cohort) {
            let is_secure = on_disk.open.secagg.is_some();
            fails |= is_secure && self.sabotage == Sabotage::ForgetsSurvivors;
            if !fails {
                on_disk.open.survivors = Some(survivors.to_vec());
            } else if is_secure && on_disk.open.survivors.is_none() {
                self.server.unsealed.insert(cohort);
                let reason = "disk full".to_owned();
                event = Some(Event::SealFailed { cohort, reason }).filter(|_| self.sabotage != Sabotage::ForgetsSurvivors);
            }
        }
        if fails {
            self.note(|| format!("!! the survivors of cohort {cohort} can't be stored"));
        }
        // One that forgets says that it has stored them.
        let says_so = !fails || self.sabotage == Sabotage::ForgetsSurvivors;
        self.oracle.sealed(cohort, survivors, says_so);
        event
    }

    pub(super) fn drop_sum(&mut self, cohort: CohortId) {
        let dropped: Vec<_> = self.server.disk.open.extract_if(.., |_, o| o.open.terms.cohort == cohort).collect();
        for (_, dropped) in &dropped {
            self.log_abandoned(&dropped.open);
        }
        self.server.sums.remove(&cohort);
        self.server.unmaskings.remove(&cohort);
        self.server.described.remove(&cohort);
        self.server.received.retain(|(of, _), _| *of != cohort);
        self.server.spool.retain(|(_, of, _), _| *of != cohort);
        self.oracle.dropped(cohort);
        self.close_uploads(cohort);
    }

    pub(super) fn done(&mut self, task: Task) {
        match task {
            Task::Add {
                cohort,
                agent,
                contribution,
            } => self.add(cohort, agent, contribution),
            Task::Publish {
                job,
                cohort,
                round,
                base,
                survivors,
            } => self.publish(job, cohort, round, base, survivors),
        }
    }

    fn add(&mut self, cohort: CohortId, agent: AgentId, contribution: ContributionId) {
        // A job that was stopped dropped its sum while updates were on their way into it.
        if !self.server.sums.contains_key(&cohort) {
            return self.tell_server(Event::AddFailed {
                agent,
                cohort,
                code: ErrorCode::Unavailable,
            });
        }
        let on_disk = self.server.disk.open.values().find(|o| o.open.terms.cohort == cohort);
        let restored = on_disk
            .and_then(|o| o.durable.get(&agent))
            .filter(|(c, _)| *c == contribution)
            .cloned();
        let is_restored = restored.is_some();
        let Some((_, bytes)) = restored.or_else(|| self.server.received.remove(&(cohort, agent)).filter(|(c, _)| *c == contribution))
        else {
            let who = format!("contribution {contribution} is to be added to cohort {cohort} and is not there");
            return self.oracle.violate(Violation::Driver { what: who });
        };
        let number = self.server.adds;
        self.server.adds += 1;
        if let Some(Fault::FailAdd { bad_update, .. }) = self.faults.take(self.now, Key::Add(number)) {
            // What was found to be good once is not found to be bad when it is added again.
            let code = if bad_update && !is_restored {
                ErrorCode::UpdateValue
            } else {
                ErrorCode::Unavailable
            };
            self.note(|| format!("!! addition {number} fails: {code}"));
            return self.tell_server(Event::AddFailed { agent, cohort, code });
        }
        let Some(sum) = self.server.sums.get_mut(&cohort) else { return };
        let times = if self.sabotage == Sabotage::AddsTwice && number % 7 == 6 {
            2
        } else {
            1
        };
        for _ in 0..times {
            self.oracle.added(cohort, contribution);
            if let Err(error) = sum.add(&bytes) {
                let what = format!("contribution {contribution} can't be added to cohort {cohort}: {error}");
                return self.oracle.violate(Violation::Driver { what });
            }
        }
        if self.sabotage != Sabotage::ForgetsAdditions
            && let Some(on_disk) = self.server.disk.open.values_mut().find(|o| o.open.terms.cohort == cohort)
        {
            on_disk.durable.insert(agent, (contribution, bytes));
        }
        self.tell_server(Event::Added { agent, cohort });
    }

    /// Makes a sum into a model and stores it, and announces that a moment later.
    fn publish(&mut self, job: JobId, cohort: CohortId, round: u32, base: Digest, survivors: Vec<(AgentId, ContributionId)>) {
        let number = self.server.publishes;
        self.server.publishes += 1;
        let is_sealed = |on_disk: &OpenOnDisk| {
            let open = &on_disk.open;
            open.terms.cohort == cohort && open.survivors.is_some() && (open.secagg.is_none() || open.unmasking.is_some())
        };
        let is_wrong = matches!(self.sabotage, Sabotage::ForgetsOpenRounds | Sabotage::ForgetsSurvivors);
        if !is_wrong && !self.server.disk.open.values().any(is_sealed) {
            // The seal failed before: without it nothing is published.
            self.seal(cohort, &survivors);
            if let Some(unmasking) = self.server.unmaskings.get(&cohort).cloned() {
                self.keep_unmasking(cohort, unmasking);
            }
            if !self.server.disk.open.values().any(is_sealed) {
                return self.publish_failed(job, round, true);
            }
        }
        if !self.unmask(cohort) {
            return;
        }
        if let Some(Fault::FailPublish { storage, .. }) = self.faults.take(self.now, Key::Publish(number)) {
            return self.publish_failed(job, round, storage);
        }
        let Some((spec, sum)) = self.server.disk.jobs.get(&job).zip(self.server.sums.get(&cohort)) else {
            let what = format!("cohort {cohort} is to be published and has no sum");
            return self.oracle.violate(Violation::Round { job, what });
        };
        let most = usize::try_from(spec.file.round.max).unwrap_or(usize::MAX);
        let size = crate::scenario::need(&spec.file)..=most;
        if spec.next_round != round || spec.base != base || !size.contains(&survivors.len()) {
            let what = format!(
                "round {round} with {} contributions follows round {}",
                survivors.len(),
                spec.next_round - 1
            );
            return self.oracle.violate(Violation::Round { job, what });
        }
        let step = Step {
            job,
            file: &spec.file,
            round,
            cohort,
            base,
            survivors: &survivors,
        };
        let stepped = codec(self.workload.n_weights(), &spec.file, sum.plan().members())
            .map_err(|error| error.to_string())
            .and_then(|codec| self.workload.step(&step, &codec, sum));
        let stepped = match stepped {
            Ok(stepped) => stepped,
            Err(how) => return self.oracle.violate(Violation::WrongSum { round, how }),
        };
        self.oracle.published(job, cohort, round, stepped.model, &survivors);
        let outcome = RoundOutcome {
            round,
            model: stepped.model,
            contributions: survivors.iter().map(|(_, contribution)| *contribution).collect(),
        };
        self.report.rounds.push(PublishedRound {
            at_ms: self.now,
            job,
            round,
            contributions: survivors.len(),
            accuracy: stepped.accuracy,
        });
        self.published_at.insert(job, self.now);
        self.note(|| format!("server stored round {round} of job {job}"));
        if let Some(spec) = self.server.disk.jobs.get_mut(&job) {
            let before = spec.clone();
            store(spec, outcome, stepped.accuracy);
            let open = self.server.disk.open.remove(&job);
            if let Some(on_disk) = &open {
                self.log_round(&on_disk.open, stepped.model, survivors.len());
            }
            if self.sabotage == Sabotage::ForgetsRounds {
                self.server.forgotten.entry(job).or_insert((before, open));
            }
        }
        let event = Event::Published {
            job,
            round,
            base: stepped.model,
            base_bytes: 1000,
            accuracy: stepped.accuracy,
        };
        let life = self.server.life;
        self.soon((1, 200), Happening::Announce { life, event });
    }

    fn publish_failed(&mut self, job: JobId, round: u32, retry: bool) {
        self.note(|| format!("!! round {round} of job {job} can't be published, again: {retry}"));
        let reason = if retry { "disk full" } else { "not a number" }.to_owned();
        self.tell_server(Event::PublishFailed {
            job,
            round,
            retry,
            blame: Vec::new(),
            reason,
        });
    }

    /// The device sends what the server does not have yet.
    pub(super) fn begin_transfer(&mut self, device: usize, open: &Open, cohort: CohortId, contribution: ContributionId) {
        let agent = self.devices[device].agent;
        let upload_ms = self.devices[device].plan.upload_ms;
        let all_ms = self.chance.within(upload_ms);
        let spooled = *self
            .server
            .spool
            .entry((agent, cohort, contribution))
            .or_insert(Spooled { done_ms: 0, all_ms });
        self.seq += 1;
        let transfer = self.seq;
        self.server.transfers.insert(
            transfer,
            Transfer {
                device,
                connection: open.connection,
                agent,
                cohort,
                contribution,
                since: self.now,
            },
        );
        let left = spooled.all_ms.saturating_sub(spooled.done_ms) + 1;
        let life = self.server.life;
        self.at(self.now + left, Happening::TransferDone { life, transfer });
        if left > PROGRESS_MS {
            self.at(self.now + PROGRESS_MS, Happening::TransferProgress { life, transfer });
        }
    }

    /// Uploads of this connection end where they are.
    pub(super) fn stop_transfers(&mut self, connection: u64) {
        let now = self.now;
        let server = &mut self.server;
        for (_, t) in server.transfers.extract_if(.., |_, t| t.connection == connection) {
            if let Some(spooled) = server.spool.get_mut(&(t.agent, t.cohort, t.contribution)) {
                spooled.done_ms = (spooled.done_ms + now - t.since).min(spooled.all_ms);
            }
        }
    }

    pub(super) fn transfer_progressed(&mut self, life: u64, transfer: u64) {
        if life != self.server.life {
            return;
        }
        let Some(t) = self.server.transfers.get(&transfer) else { return };
        let (device, agent, cohort) = (t.device, t.agent, t.cohort);
        if self.faults.blocked_until(self.now, device, Blocks::Both).is_none() {
            self.tell_server(Event::UploadProgressed { agent, cohort });
        }
        self.at(self.now + PROGRESS_MS, Happening::TransferProgress { life, transfer });
    }

    /// An upload that stood still is given up by its device, unless it goes on by now.
    pub(super) fn transfer_stalled(&mut self, life: u64, transfer: u64) {
        let Some(t) = self.server.transfers.get(&transfer).filter(|_| life == self.server.life) else {
            return;
        };
        if self.faults.blocked_until(self.now, t.device, Blocks::Both).is_none() {
            return;
        }
        let Some(t) = self.server.transfers.remove(&transfer) else { return };
        let request = self.devices[t.device].latest.get(&RequestKind::Upload).copied();
        if let Some(request) = request.filter(|_| self.devices[t.device].connection == Some(t.connection)) {
            self.give_up(t.device, request, RequestKind::Upload);
        }
    }

    pub(super) fn transfer_done(&mut self, life: u64, transfer: u64) {
        if life != self.server.life {
            return;
        }
        let Some(t) = self.server.transfers.get(&transfer) else { return };
        if let Some(until) = self.faults.blocked_until(self.now, t.device, Blocks::Both) {
            return self.at(until, Happening::TransferDone { life, transfer });
        }
        let Some(t) = self.server.transfers.remove(&transfer) else { return };
        let (agent, cohort, contribution) = (t.agent, t.cohort, t.contribution);
        // The device may have given the upload up meanwhile.
        let Some(bytes) = self.devices[t.device].disk.residues.get(&(contribution, cohort)).cloned() else {
            return;
        };
        if let Some(spooled) = self.server.spool.get_mut(&(agent, cohort, contribution)) {
            spooled.done_ms = spooled.all_ms;
        }
        // Its stream may be closed: another upload of the agent replaced it.
        let open = self.server.open.get(&(agent, RequestKind::Upload));
        if open.is_none_or(|open| open.connection != t.connection || !open.uploads_into(cohort)) {
            return;
        }
        self.oracle.uploaded(t.device, cohort, contribution);
        self.server.received.insert((cohort, agent), (contribution, bytes));
        self.tell_server(Event::Received {
            agent,
            cohort,
            contribution,
        });
    }
}

/// The round's record: one write.
fn store(spec: &mut JobSpec, outcome: RoundOutcome, accuracy: Option<f32>) {
    if outcome.model != spec.base {
        let earlier = spec.base;
        spec.earlier.insert(0, earlier);
        spec.earlier
            .truncate(usize::try_from(spec.file.round.max_staleness).unwrap_or(0).max(1));
    }
    spec.base = outcome.model;
    spec.next_round = outcome.round + 1;
    spec.accuracy = accuracy;
    spec.recent.push(outcome);
}
