//! The coordinator: which agent works on which job, who is in a round, and what became of each contribution.
//!
//! [`Coordinator::step`] takes one [`Event`] and returns [`Effect`]s for the driver to perform in order. It holds no weights and no streams.
//! A peer's bad request never changes state: it is answered with a refusal that says the fix.

mod checkin;
mod cohort;
mod collecting;
mod ended;
mod entry;
mod event;
mod gathering;
mod job;
mod joining;
mod known;
mod patience;
mod publishing;
mod record;
mod seats;
mod secure;
mod share;
mod steps;
mod unmasking;

pub use crate::masks::{NoGraph, check_graph, graph_params};
pub use checkin::suits;
pub use event::{AgentReply, CohortTerms, Effect, Event, JobEnd, JobSpec, OpenRound, RestoredRound, RoundOutcome, SecureStep};
pub use record::{SecAggRecord, UnmaskingRecord};
pub use steps::SharesCheck;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aimass_protocol::job::RoundMode;
use aimass_protocol::message::agent::{CheckIn, ProgressReply, Ready};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode, JobId, Timestamp};
use rand_core::CryptoRng;
use serde::Serialize;

use self::checkin::Pace;
use self::entry::Entry;
use self::job::Context;
use self::share::VirtualTime;
use crate::RequestKind;

/// What the operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long an agent without work stays away, on average; half to one and a half times of it.
    pub come_back: Duration,
    /// Idle agents come back at most at this rate a second over all of them: with many agents they stay away longer.
    pub check_ins_per_s: u32,
    /// Agents that lost their connection come back at most at this rate a second over all of them: a handshake costs more than a check-in.
    pub handshakes_per_s: u32,
    /// How long an agent that trains and is late by its own past, or has none and is gone, may be without progress before its seat is given to another.
    pub gone_grace: Duration,
    /// How many published rounds a job remembers the contributions of.
    pub remembered_rounds: usize,
    /// How many sums in a row may make no model before the job fails.
    pub publish_retries: u32,
    /// Pause before a round that could not be opened or published is tried again; doubles with each try.
    pub publish_pause: Duration,
    /// Longest such pause.
    pub longest_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            come_back: Duration::from_secs(2),
            check_ins_per_s: 500,
            handshakes_per_s: 1250,
            gone_grace: Duration::from_secs(30),
            remembered_rounds: 64,
            publish_retries: 3,
            publish_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(300),
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseName {
    /// Agents train and say that they are ready.
    Gathering,
    /// The members of a cohort agree on their masks.
    Joining,
    /// A cohort uploads.
    Collecting,
    /// The masks are taken off the sum.
    Unmasking,
    /// The sum becomes a model.
    Publishing,
    /// Over.
    Ended,
}

/// A job as the API shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct JobView {
    /// The job.
    pub job: JobId,
    /// Where it is.
    pub phase: PhaseName,
    /// How it ended, if it has.
    pub ended: Option<JobEnd>,
    /// The last published round; 0 before the first.
    pub round: u32,
    /// Rounds in all.
    pub rounds: u32,
    /// The latest model.
    pub base: Digest,
    /// Agents that train for the running round or have trained for it.
    pub seats: u32,
    /// Agents that wait to be put in a cohort.
    pub ready: u32,
    /// Agents in the running cohort.
    pub members: u32,
    /// Of those, how many updates have arrived whole.
    pub received: u32,
    /// What is in the way of the running round, for people.
    pub trouble: Option<String>,
}

const REVOKED: &str = "this agent was revoked; ask the operator to accept it again";
const NO_JOB: &str = "there is no such job here; drop its contribution and check in for other work";

/// The coordinator of one aggregator.
#[derive(Debug, Clone, PartialEq)]
pub struct Coordinator {
    config: Config,
    /// The latest time seen.
    now: Timestamp,
    jobs: BTreeMap<JobId, Entry>,
    /// Agents with a connection.
    online: BTreeSet<AgentId>,
    /// Check-ins so far.
    check_ins: u64,
    /// Of the queue that jobs stand in for agents.
    virtual_time: VirtualTime,
}

impl Coordinator {
    /// A coordinator without jobs.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            now: Timestamp::default(),
            jobs: BTreeMap::new(),
            online: BTreeSet::new(),
            check_ins: 0,
            virtual_time: VirtualTime::default(),
        }
    }

    /// Takes one event and appends what has to be done to `out`. `now` may stand still or go back: the latest time seen counts.
    pub fn step(&mut self, now: Timestamp, event: Event, rng: &mut impl CryptoRng, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        let mut cx = Context {
            now: self.now,
            config: self.config,
            rng,
            out,
        };
        match event {
            Event::AddJob(spec) => {
                self.jobs.entry(spec.id).or_insert_with(|| Entry::new(*spec, &mut cx));
            }
            Event::StopJob { job } => self.with_job(job, |entry| entry.stop(&mut cx)),
            Event::CheckIn { agent, check_in } => self.check_in(&mut cx, agent, &check_in),
            Event::Ready { agent, ready } => self.ready(&mut cx, agent, ready),
            Event::Progress { agent, progress } => match self.jobs.get_mut(&progress.job) {
                Some(entry) => entry.progressed(&mut cx, agent, progress),
                None => cx.reply(agent, AgentReply::Progress(ProgressReply { wanted: false })),
            },
            Event::UploadBegun {
                agent,
                cohort,
                contribution,
            } => {
                let stays_open = match self.with_cohort(cohort) {
                    Some(entry) => entry.upload_begun(&mut cx, agent, contribution),
                    None => {
                        self.upload_of_the_past(&mut cx, agent, contribution);
                        false
                    }
                };
                if stays_open {
                    // One request of a kind is open at a time: this one replaced an upload into another cohort, and its answers are its own.
                    for other in self.jobs.values_mut().filter(|other| !other.has_cohort(cohort)) {
                        other.uploads_elsewhere(cx.now, agent);
                    }
                }
            }
            Event::UploadProgressed { agent, cohort } => {
                if let Some(entry) = self.with_cohort(cohort) {
                    entry.upload_progressed(&mut cx, agent);
                }
            }
            Event::OpenFailed { cohort, reason } => {
                if let Some(entry) = self.with_cohort(cohort) {
                    entry.open_failed(&mut cx, &reason);
                }
            }
            Event::SealFailed { cohort, reason } => {
                if let Some(entry) = self.with_cohort(cohort) {
                    entry.seal_failed(&mut cx, &reason);
                }
            }
            Event::Received {
                agent,
                cohort,
                contribution,
            } => match self.with_cohort(cohort) {
                Some(entry) => entry.received(&mut cx, agent, contribution),
                None => self.upload_of_the_past(&mut cx, agent, contribution),
            },
            Event::Added { agent, cohort } => {
                if let Some(entry) = self.with_cohort(cohort) {
                    entry.added(&mut cx, agent);
                }
            }
            Event::AddFailed { agent, cohort, code } => {
                if let Some(entry) = self.with_cohort(cohort) {
                    entry.add_failed(&mut cx, agent, code);
                }
            }
            Event::Outcome { agent, query } => {
                let job = query.job;
                let stays_open = match self.jobs.get_mut(&job) {
                    Some(entry) => entry.outcome(&mut cx, agent, query),
                    None => {
                        cx.refuse(agent, RequestKind::Outcome, ErrorCode::JobUnknown, NO_JOB);
                        false
                    }
                };
                if stays_open {
                    for other in self.jobs.values_mut().filter(|other| other.job.id != job) {
                        other.stop_asking(agent);
                    }
                }
            }
            Event::Secure { agent, step } => self.secure_step(&mut cx, agent, step),
            Event::Described { cohort, digest } => {
                if let Some(entry) = self.with_cohort(cohort) {
                    entry.described(&mut cx, digest);
                }
            }
            Event::Gone { agent } => {
                self.online.remove(&agent);
                self.jobs.values_mut().for_each(|entry| entry.gone(cx.now, agent));
            }
            Event::Revoked { agent } => {
                self.online.remove(&agent);
                self.jobs.values_mut().for_each(|entry| entry.revoked(&mut cx, agent));
            }
            Event::Published { job, .. } | Event::PublishFailed { job, .. } => self.with_job(job, |entry| entry.concluded(&mut cx, &event)),
            Event::Tick => {}
        }
        for entry in self.jobs.values_mut() {
            entry.advance(&mut cx);
        }
        self.yield_agents(&mut cx);
    }

    /// A round that waited for all of its time and can't be filled lets its agents go when another job has none: two jobs could each hold half of the agents
    /// that they need, and wait for ever.
    fn yield_agents<R>(&mut self, cx: &mut Context<'_, R>) {
        let mut unfillable: Vec<JobId> = self
            .jobs
            .iter()
            .filter(|(_, e)| e.is_unfillable(cx.now))
            .map(|(id, _)| *id)
            .collect();
        for id in &unfillable {
            // Else agents that work elsewhere by now would make it look as if it had enough.
            if let Some(entry) = self.jobs.get_mut(id) {
                entry.job.free_seats(cx.now, cx.config.gone_grace);
            }
        }
        // Those with the fewest trained agents first; once one has let its agents go, the others wait for these.
        unfillable.sort_by_key(|id| self.jobs.get(id).map_or(0, |entry| entry.job.waiting().len()));
        let mut some_are_free = false;
        for id in unfillable {
            let another_is_hungry = self.jobs.iter().any(|(other, e)| *other != id && e.is_hungry());
            let Some(entry) = self.jobs.get_mut(&id) else { continue };
            if some_are_free {
                entry.wait_on(cx.now);
            } else if another_is_hungry && entry.job.seats.len() > 0 {
                entry.let_go(cx, self.virtual_time);
                some_are_free = true;
            } else if entry.job.mode() == RoundMode::SemiSync {
                // It lets nobody in any more whose training would end too late.
                entry.wait_on(cx.now);
            }
        }
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        // What is due already waits for something other than time.
        self.jobs
            .values()
            .filter_map(|entry| entry.timeout(self.now))
            .filter(|at| *at > self.now)
            .min()
    }

    /// Every job, by id.
    pub fn jobs(&self) -> impl Iterator<Item = JobView> + '_ {
        self.jobs.values().map(Entry::view)
    }

    /// One job.
    pub fn job(&self, id: JobId) -> Option<JobView> {
        self.jobs.get(&id).map(Entry::view)
    }

    fn with_job(&mut self, job: JobId, then: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.jobs.get_mut(&job) {
            then(entry);
        }
    }

    fn with_cohort(&mut self, cohort: CohortId) -> Option<&mut Entry> {
        self.jobs.values_mut().find(|entry| entry.has_cohort(cohort))
    }

    fn check_in<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, check_in: &CheckIn) {
        if let Err(text) = checkin::check(check_in) {
            return cx.refuse(agent, RequestKind::CheckIn, ErrorCode::TooLarge, text);
        }
        self.online.insert(agent);
        self.check_ins += 1;
        let pace = Pace {
            come_back: cx.config.come_back,
            check_ins_per_s: cx.config.check_ins_per_s,
            handshakes_per_s: cx.config.handshakes_per_s,
            online: self.online.len(),
            draw: self.check_ins,
        };
        let mut running: Vec<_> = self.jobs.values_mut().filter(|entry| !entry.is_ended()).collect();
        for entry in &mut running {
            entry.job.seats.back(agent);
            if !check_in.held.iter().any(|held| held.job == entry.job.id) {
                entry.abandoned(cx, agent);
            }
        }
        let time = self.virtual_time;
        running.sort_by_key(|entry| {
            (
                entry.standing(),
                entry.job.share.start(time),
                Reverse(entry.job.file.job.priority),
                entry.job.id,
            )
        });
        checkin::look(&mut running, agent, check_in);
        if let Some(served) = checkin::offer(&mut running, cx, agent, check_in, pace) {
            running[served].pay(cx.now, &mut self.virtual_time);
        }
    }

    fn ready<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, ready: Ready) {
        let Some(entry) = self.jobs.get_mut(&ready.job) else {
            return cx.refuse(agent, RequestKind::Ready, ErrorCode::JobUnknown, NO_JOB);
        };
        if entry.ready(cx, agent, ready) {
            let was_looked_at = self.online.contains(&agent);
            for entry in self.jobs.values_mut() {
                entry.offered(ready.job, was_looked_at);
            }
            // One request of a kind is open at a time: this one replaces what the agent waited for in other jobs.
            for other in self.jobs.values_mut().filter(|other| other.job.id != ready.job) {
                other.job.stop_waiting(agent);
            }
        }
    }

    /// An upload for a cohort that is over: the agent may have missed that it was counted.
    fn upload_of_the_past<R>(&self, cx: &mut Context<'_, R>, agent: AgentId, contribution: ContributionId) {
        if self.jobs.values().any(|entry| entry.job.included(contribution).is_some()) {
            cx.reply(agent, AgentReply::Accepted);
        } else {
            collecting::not_a_member(cx, agent);
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
