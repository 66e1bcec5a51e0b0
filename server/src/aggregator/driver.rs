//! The driver: one task owns the coordinator, tells it what happens and does what it wants done.
//!
//! Nothing here waits for an agent or arithmetic: those run elsewhere and come back as [`Command`]s. For the disk it waits only where what is said next
//! has to be durable first (a round that opens, is sealed or dropped, a job that ends). Of two open requests of one
//! agent and kind the newer gets the answer; the older's stream is closed.

mod clock;
mod command;
mod fusing;
mod jobs;
mod logged;
mod masks;
mod publish;
mod sums;
mod terms;
mod waiting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use aimass_federation::RequestKind;
use aimass_federation::coordinator::{self, AgentReply, Coordinator, Effect, Event, OpenRound, SecureStep};
use aimass_protocol::log::LogHead;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::SignedDescriptor;
use aimass_protocol::message::secagg::{RevealReply, Shares, SurvivorsReply, UnmaskReply};
use aimass_protocol::{AgentId, CohortId, ErrorCode, JobId, Timestamp};
use rand_chacha::ChaCha20Rng;
use tokio::sync::{Semaphore, mpsc, watch};

use super::counters::Counter;
use super::job::Job;
use super::service::Shared;
use crate::store::{JobRecord, JournalRecord, RoundRecord};
use clock::Clock;
pub(crate) use command::{Answer, Ask, Command, JobSnapshot, RestoredJob, StopError, Ticket};
use jobs::JobEntry;
use sums::{Announced, Sum};
use waiting::Waiting;

/// A cohort's descriptor, and the log that it names.
struct Terms {
    signed: SignedDescriptor,
    log: Option<LogHead>,
}

/// A round that was open when the server ended, and what the journal holds of it.
struct Restored {
    open: OpenRound,
    journal: Vec<JournalRecord>,
}

/// The driver's state.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    coordinator: Coordinator,
    config: coordinator::Config,
    rng: ChaCha20Rng,
    jobs: BTreeMap<JobId, JobEntry>,
    sums: HashMap<CohortId, Sum>,
    descriptors: HashMap<CohortId, Terms>,
    /// Rounds that were open when the server ended, until they are over.
    restored: HashMap<CohortId, Restored>,
    clock: Clock,
    waiting: Waiting,
    /// How much of the log the agents that check in now have seen.
    log_seen: HashMap<AgentId, u64>,
    events: VecDeque<Event>,
    /// For what runs elsewhere and comes back.
    commands: mpsc::UnboundedSender<Command>,
    /// Counts changes that somebody may watch for: a round published, a job ended or added.
    changes: watch::Sender<u64>,
    /// One turn for each processor: so many members' shares are verified at once.
    verifying: Arc<Semaphore>,
    /// Sums being made into models now: a shutdown lets them finish.
    publishing: usize,
}

impl Driver {
    /// A driver without jobs; `rng` must be seeded by the operating system.
    pub(crate) fn new(
        shared: Arc<Shared>,
        rng: ChaCha20Rng,
        commands: mpsc::UnboundedSender<Command>,
        changes: watch::Sender<u64>,
    ) -> Self {
        let config = coordinator::Config::default();
        Self {
            shared,
            coordinator: Coordinator::new(config),
            config,
            rng,
            jobs: BTreeMap::new(),
            sums: HashMap::new(),
            descriptors: HashMap::new(),
            restored: HashMap::new(),
            clock: Clock::start(),
            waiting: Waiting::default(),
            log_seen: HashMap::new(),
            events: VecDeque::new(),
            commands,
            changes,
            verifying: Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from))),
            publishing: 0,
        }
    }

    /// Runs until [`Command::Shutdown`], or until nobody can send a command any more.
    pub(crate) async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut stopping = None;
        loop {
            if stopping.is_some() && self.publishing == 0 {
                return;
            }
            let due = self.coordinator.poll_timeout();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Shutdown(done)) => stopping = Some(done),
                    Some(command) => self.command(command).await,
                    None => return,
                },
                () = self.clock.sleep_until(due) => self.event(Event::Tick).await,
            }
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Ask { agent, ask, answers } => self.ask(agent, ask, answers).await,
            // Who is gone by now sends them again.
            Command::Dealt { agent, .. } if !self.waiting.is_open(agent, RequestKind::Shares) => {}
            Command::Dealt { agent, step } => self.event(Event::Secure { agent, step }).await,
            Command::UploadProgressed { agent, cohort } => self.event(Event::UploadProgressed { agent, cohort }).await,
            Command::Received {
                agent,
                cohort,
                contribution,
                digest,
            } => {
                // A newer stream may have announced another update meanwhile: that one's file is what counts.
                if self.sums.get(&cohort).is_some_and(|sum| !sum.expects(agent, digest)) {
                    return;
                }
                self.event(Event::Received {
                    agent,
                    cohort,
                    contribution,
                })
                .await;
            }
            Command::Gone { agent } => {
                self.waiting.forget(agent);
                self.log_seen.remove(&agent);
                self.event(Event::Gone { agent }).await;
            }
            Command::Revoked { agent } => {
                self.event(Event::Revoked { agent }).await;
                self.waiting.forget(agent);
            }
            Command::AddJob { job, restored } => self.add_job(job, restored).await,
            Command::StopJob { job, done } => self.stop_job(job, done).await,
            Command::Jobs { only, reply } => {
                // Nobody listens any more: the HTTP request was cut.
                let _ = reply.send(self.snapshots(only));
            }
            Command::Added { cohort, results } => self.added(cohort, results).await,
            Command::Published {
                job,
                round,
                cohort,
                result,
            } => self.published(job, round, cohort, result).await,
            Command::Compressed(record) => self.compressed(*record),
            Command::Shutdown(_) => {}
        }
    }

    async fn ask(&mut self, agent: AgentId, ask: Ask, answers: mpsc::UnboundedSender<Answer>) {
        if let Err(refusal) = self.shared.registry.check(agent) {
            let _ = answers.send(Answer::Refused(refusal));
            return;
        }
        self.waiting.wait(agent, ask.kind(), ask.cohort(), answers);
        let event = match ask {
            Ask::CheckIn(check_in) => {
                self.log_seen.insert(agent, check_in.log_size);
                Event::CheckIn { agent, check_in }
            }
            Ask::Ready(ready) => Event::Ready { agent, ready },
            Ask::Outcome(query) => Event::Outcome { agent, query },
            Ask::Progress(progress) => Event::Progress { agent, progress },
            Ask::Secure(step) => Event::Secure { agent, step },
            Ask::Shares(shares) => match self.deal(agent, &shares) {
                Some(step) => Event::Secure { agent, step },
                None => return,
            },
            Ask::Upload {
                cohort,
                contribution,
                size_bytes,
                digest,
            } => {
                if let Some(sum) = self.sums.get_mut(&cohort)
                    && sum.announced(agent, digest, size_bytes) == Announced::Replaces
                {
                    let text = "an update of this name with other content was taken already; wait for the outcome";
                    let refusal = Refusal::new(ErrorCode::Duplicate, text);
                    return self.waiting.answer(agent, RequestKind::Upload, Answer::Refused(refusal));
                }
                Event::UploadBegun {
                    agent,
                    cohort,
                    contribution,
                }
            }
        };
        self.event(event).await;
    }

    /// Has the signatures of a member's sealed shares verified, a few members' at a time; gives the step at once where there is nothing to verify.
    fn deal(&self, agent: AgentId, shares: &Shares) -> Option<SecureStep> {
        let check = self.coordinator.check_shares(agent, shares);
        if check.is_settled() {
            return Some(check.verify());
        }
        let (verifying, commands) = (Arc::clone(&self.verifying), self.commands.clone());
        tokio::spawn(async move {
            // Nobody closes it.
            let _turn = verifying.acquire().await;
            if let Ok(step) = tokio::task::spawn_blocking(move || check.verify()).await {
                // The driver is gone only when the service ends.
                let _ = commands.send(Command::Dealt { agent, step });
            }
        });
        None
    }

    /// Steps the coordinator and performs what it wants, in order.
    async fn event(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            let mut effects = Vec::new();
            self.coordinator.step(self.clock.now(), event, &mut self.rng, &mut effects);
            for effect in effects {
                self.effect(effect).await;
            }
        }
    }

    async fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Reply { agent, reply } => self.reply(agent, reply),
            Effect::OpenRound(open) => self.open_round(open).await,
            Effect::Describe(terms) => self.describe(&terms),
            Effect::ForgetCohort { terms, draws } => self.forget_cohort(terms, draws).await,
            Effect::Seal { cohort, survivors } => self.seal(cohort, survivors).await,
            Effect::Unmask { cohort, unmasking } => self.keep_unmasking(cohort, unmasking).await,
            Effect::Add {
                cohort,
                agent,
                contribution,
            } => self.add(cohort, agent, contribution),
            Effect::Aggregate {
                job,
                cohort,
                round,
                base,
                survivors,
            } => self.aggregate(job, cohort, round, base, survivors),
            Effect::DropSum { cohort } => self.drop_round(cohort).await,
            Effect::JobEnded { job, end } => self.job_ended(job, end).await,
        }
    }

    fn reply(&mut self, agent: AgentId, reply: AgentReply) {
        let kind = reply.kind();
        let log_seen = match kind {
            RequestKind::CheckIn => self.log_seen.remove(&agent).unwrap_or(0),
            _ => 0,
        };
        let answer = match reply {
            AgentReply::Task {
                job,
                round,
                base,
                base_bytes,
                finish_within,
            } => match self.jobs.get(&job) {
                Some(entry) => {
                    self.shared.counters.count(Counter::Tasks);
                    let log = self.base_proof(job, base, log_seen);
                    Answer::Task(entry.task(round, base, base_bytes, finish_within, log))
                }
                None => unavailable("the job is gone; ask again"),
            },
            AgentReply::ComeBack(come_back) => Answer::ComeBack(come_back),
            AgentReply::Cohort(terms) => self.descriptor(terms),
            AgentReply::Superseded => Answer::Superseded,
            AgentReply::UploadAllowed { cohort, contribution } => match self.sums.get_mut(&cohort) {
                Some(sum) if sum.announced_well(agent) => Answer::UploadFrom(sum.ticket(agent)),
                Some(_) => {
                    // A wrong length can't become right: it goes the way of any update that can't be added.
                    self.events.push_back(Event::Received {
                        agent,
                        cohort,
                        contribution,
                    });
                    return;
                }
                None => unavailable("the cohort has no sum; offer the contribution again"),
            },
            AgentReply::Accepted => Answer::Accepted,
            AgentReply::Outcome(outcome) => Answer::Outcome(outcome),
            AgentReply::Progress(reply) => Answer::Progress(reply),
            AgentReply::Draw(call) => {
                if let Some(job) = self.coordinator.job_of(call.cohort) {
                    self.shared.traffic.began(call.cohort, job);
                }
                Answer::Draw(call)
            }
            AgentReply::Roster(roster) => Answer::Roster(roster),
            AgentReply::DrawAgain(call) => Answer::Reveal(Box::new(RevealReply::DrawAgain(call))),
            AgentReply::Opening {
                cohort,
                nonces,
                neighbours,
                log_size,
            } => self.opening(cohort, nonces, neighbours, log_size),
            // It could not be made durable: nobody may lay masks for it.
            AgentReply::Shares { cohort, .. } if !self.sums.contains_key(&cohort) => Answer::Refused(Refusal::new(
                ErrorCode::CohortUnknown,
                "the round could not be opened; offer the contribution again",
            )),
            AgentReply::Shares { reply, .. } => Answer::Shares(reply),
            AgentReply::Survivors(SurvivorsReply::Set(_)) if self.must_not_hear_survivors(agent) => return,
            AgentReply::Survivors(reply) => Answer::Survivors(reply),
            AgentReply::Consent(reply) => Answer::Consent(reply),
            AgentReply::Unmask(UnmaskReply::Taken) if self.must_keep_shares(agent) => return,
            AgentReply::Unmask(reply) => Answer::Unmask(reply),
            AgentReply::Refused { refusal, .. } => Answer::Refused(refusal),
        };
        self.waiting.answer(agent, kind, answer);
    }

    fn notify(&self) {
        self.changes.send_modify(|n| *n += 1);
    }
}

fn unavailable(text: &str) -> Answer {
    Answer::Refused(Refusal::new(ErrorCode::Unavailable, text))
}

/// The time of day, for records and certificates.
pub(crate) fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
