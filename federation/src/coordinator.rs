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
mod publishing;

pub use event::{AgentReply, CohortTerms, Effect, Event, JobEnd, JobSpec, RoundOutcome};

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aimass_protocol::message::agent::{CheckIn, Ready};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode, JobId, Timestamp};
use rand_core::CryptoRng;
use serde::Serialize;

use self::checkin::Pace;
use self::entry::Entry;
use self::job::Context;
use crate::RequestKind;

/// What the operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// How long an agent without work stays away, on average; half to one and a half times of it.
    pub come_back: Duration,
    /// Idle agents come back at most at this rate a second over all of them: with many agents they stay away longer.
    pub check_ins_per_s: u32,
    /// How long an agent that is training may be gone before its seat in the round is given to another.
    pub gone_grace: Duration,
    /// How many published rounds a job remembers the contributions of.
    pub remembered_rounds: usize,
    /// How often a round that could not be published is tried again before the job fails.
    pub publish_retries: u32,
    /// Pause before the first such try; grows with each.
    pub publish_pause: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            come_back: Duration::from_secs(2),
            check_ins_per_s: 500,
            gone_grace: Duration::from_secs(30),
            remembered_rounds: 64,
            publish_retries: 3,
            publish_pause: Duration::from_secs(5),
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseName {
    /// Agents train and say that they are ready.
    Gathering,
    /// A cohort uploads.
    Collecting,
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
            Event::UploadBegun {
                agent,
                cohort,
                contribution,
            } => match self.with_cohort(cohort) {
                Some(entry) => entry.upload_begun(&mut cx, agent, contribution),
                None => self.upload_of_the_past(&mut cx, agent, contribution),
            },
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
            Event::Outcome { agent, query } => match self.jobs.get_mut(&query.job) {
                Some(entry) => entry.outcome(&mut cx, agent, query),
                None => cx.refuse(agent, RequestKind::Outcome, ErrorCode::JobUnknown, NO_JOB),
            },
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
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        // What is due already waits for something other than time.
        self.jobs.values().filter_map(Entry::timeout).filter(|at| *at > self.now).min()
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
            online: self.online.len(),
            draw: self.check_ins,
        };
        let mut running: Vec<_> = self.jobs.values_mut().filter(|entry| !entry.is_ended()).collect();
        for entry in &mut running {
            entry.job.back(agent);
        }
        running.sort_by_key(|entry| (Reverse(entry.job.file.job.priority), entry.job.served, entry.job.id));
        if let Some(served) = checkin::offer(&mut running, cx, agent, check_in, pace) {
            running[served].job.served = self.check_ins;
        }
    }

    fn ready<R>(&mut self, cx: &mut Context<'_, R>, agent: AgentId, ready: Ready) {
        let Some(entry) = self.jobs.get_mut(&ready.job) else {
            return cx.refuse(agent, RequestKind::Ready, ErrorCode::JobUnknown, NO_JOB);
        };
        if entry.ready(cx, agent, ready) {
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
