//! The session itself.

use std::collections::BTreeMap;
use std::time::Duration;

use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::limits::MAX_SPREAD_MS;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{CheckIn, ComeBack, Held, OutcomeQuery, OutcomeReply, Progress, Ready};
use aimass_protocol::{CohortId, ContributionId, Digest, ErrorCode, JobId, Timestamp};

use super::backoff::Backoff;
use super::work::{Asked, Link, Work};
use super::{Activity, Assignment, Config, Consent, Contribution, Effect, Event, Snapshot, Stage, TimeLimit, Warning};
use crate::{RequestKind, jitter};

/// A server can't send an agent away for longer, nor make it ask without pause.
const COME_BACK_MS: std::ops::RangeInclusive<u64> = 50..=3_600_000;

/// Progress is not told more often than this.
const PROGRESS_LEAST: Duration = Duration::from_secs(5);
/// It is told after this, or sooner if there is something to tell.
const PROGRESS_MOST: Duration = Duration::from_secs(10);
/// So many more percent are something to tell.
const PROGRESS_PERCENT: u8 = 5;

/// Until the program is started again.
const FOREVER: Timestamp = Timestamp::from_ms(u64::MAX);

/// One agent's session with its server. It finishes one contribution before it asks for other work.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    config: Config,
    /// The latest time seen.
    now: Timestamp,
    started: bool,
    link: Link,
    work: Work,
    asked: Asked,
    held: Option<Contribution>,
    /// Jobs that are declined, and until when.
    declined: BTreeMap<JobId, Timestamp>,
    /// Between tries to connect.
    reconnect: Backoff,
    /// Between tries of one request.
    retry: Backoff,
    /// Between fetches of a base that is lost again and again. There is none until one is lost, which is fetched again at once.
    refetch: Option<Backoff>,
    /// Over how long reconnects are to be spread, as the server said last.
    spread_ms: u64,
    /// Connections that were lost; makes each draw another.
    lost: u64,
    /// When progress was told last, and which; training begins with none.
    told: Option<(Timestamp, u8)>,
    /// The wall clock, and what time it was here then.
    wall: Option<(Timestamp, Timestamp)>,
}

impl Session {
    /// A session that goes on from `snapshot` (the default one for a new agent). Give it [`Event::Tick`] first.
    pub fn new(config: Config, snapshot: Snapshot) -> Self {
        let backoff = |salt| Backoff::new(config.backoff_first, config.backoff_max, config.seed ^ salt);
        Self {
            now: Timestamp::default(),
            started: false,
            link: Link::Down {
                retry_at: Timestamp::default(),
            },
            work: Work::resume(&snapshot),
            asked: Asked::NotYet,
            held: snapshot.held,
            declined: BTreeMap::new(),
            reconnect: backoff(0),
            retry: backoff(1),
            refetch: None,
            spread_ms: 0,
            lost: 0,
            told: None,
            wall: None,
            config,
        }
    }

    /// What has to survive a killed process; see [`Effect::Persist`].
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            held: self.held.clone(),
            task: self.work.task().cloned(),
        }
    }

    /// Notes what the wall clock says at `now`. What others have dated (a cohort's deadline) is compared with it; where it is not known, with `now`.
    /// No timer depends on it, so that it may jump.
    pub fn set_wall_clock(&mut self, now: Timestamp, wall: Timestamp) {
        self.wall = Some((now, wall));
    }

    /// What it does now, for status and logs.
    pub fn activity(&self) -> Activity {
        match (&self.work, self.asked) {
            (Work::CheckIn, Asked::NotBefore(_)) => Activity::Idle,
            (Work::CheckIn, _) => Activity::CheckingIn,
            (Work::Fetch(_), _) => Activity::Fetching,
            (Work::Train(_), _) => Activity::Training,
            (Work::Offer, _) => Activity::Offering,
            (Work::Encode, _) => Activity::Encoding,
            (Work::Upload, _) => Activity::Uploading,
            (Work::Await, _) => Activity::AwaitingOutcome,
        }
    }

    /// When [`Event::Tick`] is due, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        match self.link {
            Link::Down { retry_at } => Some(retry_at),
            Link::Connecting => None,
            Link::Up => match self.asked {
                Asked::NotBefore(at) => Some(at),
                Asked::Open { since } if self.work.is_long_poll() => Some(since.after(self.config.repeat_after)),
                Asked::Open { .. } | Asked::NotYet => None,
            },
        }
    }

    /// Takes one event and appends what has to be done to `out`. `now` may stand still or go back: the latest time seen counts.
    pub fn step(&mut self, now: Timestamp, event: Event, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if !self.started {
            self.started = true;
            self.recheck(out);
        }
        match event {
            Event::Tick => {}
            Event::Connected => self.connected(),
            Event::Disconnected { reason } => self.disconnected(reason, out),
            Event::Task {
                job,
                file,
                round,
                base,
                base_bytes,
                finish_within_ms,
            } if self.is_open(RequestKind::CheckIn) => {
                self.heard();
                let limit = finish_within_ms.map(|within_ms| TimeLimit {
                    finish_by: self.now.after(Duration::from_millis(within_ms)),
                    within_ms,
                });
                let task = Assignment {
                    job,
                    round,
                    base,
                    base_bytes,
                    consent: Consent::of(&file),
                    limit,
                    fetched: false,
                };
                self.take(task, out);
            }
            Event::ComeBack(come_back) if self.is_open(RequestKind::CheckIn) => {
                self.heard();
                self.come_back(come_back, out);
            }
            Event::Fetched { base } => self.fetched(base, out),
            Event::BaseLost { base } => self.base_lost(base, out),
            Event::Progressed { percent } => self.progressed(percent, out),
            Event::Unwanted { job, base } if self.work.task().is_some_and(|task| task.job == job && task.base == base) => {
                self.drop_task(out);
            }
            Event::Trained { job, base, contribution } => self.trained(job, base, contribution, out),
            Event::TrainFailed { job, reason } if matches!(&self.work, Work::Train(task) if task.job == job) => {
                self.decline(job, self.pause(), reason, out);
                self.drop_task(out);
            }
            Event::Cohort { contribution, descriptor } if self.is_open(RequestKind::Ready) && self.holds(contribution) => {
                self.heard();
                self.join(descriptor, out);
            }
            Event::Superseded { contribution } if self.is_open(RequestKind::Ready) && self.holds(contribution) => {
                self.heard();
                self.discard(out);
                self.go(Work::CheckIn);
            }
            Event::Invalid { job, reason } => self.invalid(job, reason, out),
            Event::Encoded { contribution, cohort } if self.work == Work::Encode && self.is_in(contribution, cohort) => {
                self.sent(false, out);
                self.go(Work::Upload);
            }
            Event::EncodeFailed { contribution, reason } if self.work == Work::Encode && self.holds(contribution) => {
                self.give_up(reason, self.pause(), out);
            }
            Event::Accepted { contribution, cohort } if self.is_open(RequestKind::Upload) && self.is_in(contribution, cohort) => {
                self.heard();
                self.sent(true, out);
                self.go(Work::Await);
            }
            Event::Outcome { contribution, reply } if self.is_open(RequestKind::Outcome) && self.holds(contribution) => {
                self.heard();
                self.outcome(reply, out);
            }
            Event::Refused { request, refusal } if self.is_open(request) => self.refused(request, refusal, out),
            Event::Failed { request, reason } if self.is_open(request) => {
                out.push(Effect::Warn(Warning::Failed {
                    request,
                    reason: reason.clone(),
                }));
                self.later(reason, out);
            }
            // Answers to requests that were replaced, and work that was given up meanwhile.
            _ => {}
        }
        self.pump(out);
    }

    /// Does what is due.
    fn pump(&mut self, out: &mut Vec<Effect>) {
        if let Link::Down { retry_at } = self.link
            && retry_at <= self.now
        {
            self.link = Link::Connecting;
            out.push(Effect::Connect);
        }
        let due = match self.asked {
            Asked::NotYet => true,
            Asked::NotBefore(at) => at <= self.now,
            Asked::Open { since } => self.work.is_long_poll() && since.after(self.config.repeat_after) <= self.now,
        };
        if due && (self.link == Link::Up || self.work.request().is_none()) {
            self.asked = Asked::Open { since: self.now };
            out.extend(self.ask());
        }
    }

    /// The effect that does the work at hand.
    fn ask(&mut self) -> Option<Effect> {
        match (&self.work, &self.held) {
            (Work::CheckIn, held) => {
                self.declined.retain(|_, until| *until > self.now);
                Some(Effect::CheckIn(CheckIn {
                    capabilities: self.config.capabilities.clone(),
                    contracts: self.config.contracts.clone(),
                    declined: self.declined.keys().copied().collect(),
                    held: held.iter().map(|c| Held { job: c.job, base: c.base }).collect(),
                    log_size: 0,
                }))
            }
            (Work::Fetch(task), _) => Some(Effect::Fetch {
                job: task.job,
                base: task.base,
                base_bytes: task.base_bytes,
            }),
            (Work::Train(task), _) => Some(Effect::Train {
                job: task.job,
                round: task.round,
                base: task.base,
                finish_by: task.limit.map(|limit| limit.finish_by),
            }),
            (Work::Offer, Some(c)) => Some(Effect::Offer(Ready {
                job: c.job,
                base: c.base,
                contribution: c.id,
            })),
            (Work::Encode, Some(c)) => c.stage.descriptor().map(|d| Effect::Encode {
                contribution: c.id,
                descriptor: Box::new(d.clone()),
            }),
            (Work::Upload, Some(c)) => c.stage.descriptor().map(|d| Effect::Upload {
                contribution: c.id,
                cohort: d.cohort,
            }),
            (Work::Await, Some(c)) => c.stage.descriptor().map(|d| {
                Effect::AskOutcome(OutcomeQuery {
                    job: c.job,
                    cohort: d.cohort,
                    contribution: c.id,
                })
            }),
            (Work::Offer | Work::Encode | Work::Upload | Work::Await, None) => None,
        }
    }

    fn go(&mut self, work: Work) {
        self.told = matches!(work, Work::Train(_)).then_some((self.now, 0));
        self.work = work;
        self.asked = Asked::NotYet;
        self.retry.reset();
    }

    /// Leaves the task at hand, if there is one, and asks for other work.
    fn drop_task(&mut self, out: &mut Vec<Effect>) {
        if let Some(task) = self.work.task() {
            let (job, base) = (task.job, task.base);
            out.extend([Effect::Persist, Effect::DropTask { job, base }]);
        }
        self.go(Work::CheckIn);
    }

    /// Does the work at hand again after a pause that grows.
    fn later(&mut self, reason: String, out: &mut Vec<Effect>) {
        let until = self.now.after(self.retry.next());
        self.wait(until, reason, out);
    }

    fn wait(&mut self, until: Timestamp, reason: String, out: &mut Vec<Effect>) {
        self.asked = Asked::NotBefore(until);
        out.push(Effect::Sleep { until, reason });
    }

    /// The server answered as hoped.
    fn heard(&mut self) {
        self.reconnect.reset();
        self.retry.reset();
    }

    fn is_open(&self, request: RequestKind) -> bool {
        self.work.request() == Some(request) && matches!(self.asked, Asked::Open { .. })
    }

    fn holds(&self, contribution: ContributionId) -> bool {
        self.held.as_ref().is_some_and(|c| c.id == contribution)
    }

    fn is_in(&self, contribution: ContributionId, cohort: CohortId) -> bool {
        self.holds(contribution)
            && self
                .held
                .as_ref()
                .and_then(|c| c.stage.descriptor())
                .is_some_and(|d| d.cohort == cohort)
    }

    fn pause(&self) -> Timestamp {
        self.now.after(self.config.failed_job_pause)
    }

    /// The policy may have become stricter while the agent was down, and the clock may have gone back.
    fn recheck(&mut self, out: &mut Vec<Effect>) {
        let policy = &self.config.policy;
        if let Some(error) = self.held.as_ref().and_then(|c| policy.check_job(&c.consent).err()) {
            return self.give_up(error.to_string(), FOREVER, out);
        }
        let (Work::Fetch(task) | Work::Train(task)) = &mut self.work else {
            return;
        };
        if let Err(error) = policy.check_job(&task.consent) {
            let job = task.job;
            self.decline(job, FOREVER, error.to_string(), out);
            return self.drop_task(out);
        }
        if let Some(limit) = &mut task.limit {
            let latest = self.now.after(Duration::from_millis(limit.within_ms));
            if limit.finish_by > latest {
                limit.finish_by = latest;
                out.push(Effect::Persist);
            }
        }
    }

    /// The time as others date things.
    fn date(&self) -> Timestamp {
        match self.wall {
            Some((at, wall)) => wall.after(self.now.since(at)),
            None => self.now,
        }
    }

    fn connected(&mut self) {
        self.link = Link::Up;
    }

    fn disconnected(&mut self, reason: String, out: &mut Vec<Effect>) {
        if matches!(self.link, Link::Down { .. }) {
            return;
        }
        // It grows as well where connections come about and nothing is answered on them.
        let mut pause = self.reconnect.next();
        if self.link == Link::Up {
            self.lost += 1;
            let spread = Duration::from_millis(self.spread_ms);
            pause = pause.max(jitter::part(spread, self.config.seed ^ jitter::mix(self.lost)));
        }
        self.link = Link::Down {
            retry_at: self.now.after(pause),
        };
        if self.work.request().is_some() && matches!(self.asked, Asked::Open { .. }) {
            self.asked = Asked::NotYet;
        }
        out.push(Effect::Warn(Warning::Unreachable { reason }));
    }

    fn take(&mut self, task: Assignment, out: &mut Vec<Effect>) {
        if self.declined.contains_key(&task.job) {
            // It was told so; asking at once would go round in circles.
            return self.later("the server offers a job that is declined".to_owned(), out);
        }
        if let Err(error) = self.config.policy.check_job(&task.consent) {
            self.decline(task.job, FOREVER, error.to_string(), out);
            return self.go(Work::CheckIn);
        }
        self.go(Work::Fetch(task));
        out.push(Effect::Persist);
    }

    fn come_back(&mut self, come_back: ComeBack, out: &mut Vec<Effect>) {
        let after_ms = come_back.after_ms.clamp(*COME_BACK_MS.start(), *COME_BACK_MS.end());
        let until = self.now.after(Duration::from_millis(after_ms));
        self.spread_ms = come_back.spread_ms.min(MAX_SPREAD_MS);
        self.wait(until, come_back.reason, out);
    }

    fn fetched(&mut self, base: Digest, out: &mut Vec<Effect>) {
        if let Work::Fetch(task) = &self.work
            && task.base == base
        {
            let task = Assignment {
                fetched: true,
                ..task.clone()
            };
            self.heard();
            self.go(Work::Train(task));
            out.push(Effect::Persist);
        }
    }

    fn base_lost(&mut self, base: Digest, out: &mut Vec<Effect>) {
        if let Work::Train(task) = &self.work
            && task.base == base
        {
            let task = Assignment {
                fetched: false,
                ..task.clone()
            };
            self.go(Work::Fetch(task));
            out.push(Effect::Persist);
            if let Some(refetch) = &mut self.refetch {
                let until = self.now.after(refetch.next());
                self.wait(until, "the base model is lost on disk again and again".to_owned(), out);
            } else {
                let Config {
                    backoff_first,
                    backoff_max,
                    seed,
                    ..
                } = self.config;
                self.refetch = Some(Backoff::new(backoff_first, backoff_max, seed ^ 2));
            }
        }
    }

    fn progressed(&mut self, percent: u8, out: &mut Vec<Effect>) {
        let Work::Train(task) = &self.work else { return };
        let due = self.told.is_none_or(|(at, told)| {
            let since = self.now.since(at);
            since >= PROGRESS_MOST || (since >= PROGRESS_LEAST && percent >= told.saturating_add(PROGRESS_PERCENT))
        });
        if due && self.link == Link::Up {
            let (job, base, percent) = (task.job, task.base, percent.min(100));
            self.told = Some((self.now, percent));
            out.push(Effect::Progress(Progress { job, base, percent }));
        }
    }

    fn trained(&mut self, job: JobId, base: Digest, id: ContributionId, out: &mut Vec<Effect>) {
        if let Work::Train(task) = &self.work
            && task.job == job
            && task.base == base
        {
            self.held = Some(Contribution {
                id,
                job,
                base,
                consent: task.consent.clone(),
                stage: Stage::Trained,
            });
            out.extend([Effect::Persist, Effect::DropTask { job, base }]);
            self.refetch = None;
            self.go(Work::Offer);
        } else if !self.holds(id) {
            out.push(Effect::Discard { contribution: id });
        }
    }

    fn join(&mut self, descriptor: Box<Descriptor>, out: &mut Vec<Effect>) {
        let date = self.date();
        let Some(held) = &mut self.held else { return };
        match self.config.policy.check_cohort(date, held, &descriptor) {
            Ok(()) => {
                held.stage = Stage::Offered { descriptor: *descriptor };
                out.push(Effect::Persist);
                self.go(Work::Encode);
            }
            Err(error) => self.give_up(error.to_string(), FOREVER, out),
        }
    }

    fn sent(&mut self, accepted: bool, out: &mut Vec<Effect>) {
        if let Some(held) = &mut self.held
            && let Some(descriptor) = held.stage.descriptor().cloned()
        {
            held.stage = Stage::Sent { descriptor, accepted };
            out.push(Effect::Persist);
        }
    }

    fn outcome(&mut self, reply: OutcomeReply, out: &mut Vec<Effect>) {
        match reply {
            OutcomeReply::Included { round, model } => {
                if let Some(held) = &self.held {
                    out.push(Effect::Included {
                        job: held.job,
                        contribution: held.id,
                        round,
                        model,
                    });
                }
                self.discard(out);
                self.go(Work::CheckIn);
            }
            OutcomeReply::NotIncluded => self.offer_again(out),
        }
    }

    /// The contribution is in no sum: it may go into another cohort.
    fn offer_again(&mut self, out: &mut Vec<Effect>) {
        if let Some(held) = &mut self.held {
            let cohort = held.stage.descriptor().map(|d| d.cohort);
            held.stage = Stage::Trained;
            out.push(Effect::Persist);
            out.extend(cohort.map(|cohort| Effect::DiscardUpload {
                contribution: held.id,
                cohort,
            }));
        }
        self.go(Work::Offer);
    }

    fn discard(&mut self, out: &mut Vec<Effect>) {
        if let Some(held) = self.held.take() {
            out.push(Effect::Persist);
            out.push(Effect::Discard { contribution: held.id });
        }
    }

    fn decline(&mut self, job: JobId, until: Timestamp, reason: String, out: &mut Vec<Effect>) {
        self.declined.insert(job, until);
        out.push(Effect::Warn(Warning::Declined { job, reason }));
    }

    /// Drops the contribution that is held, and its job for a while.
    fn give_up(&mut self, reason: String, until: Timestamp, out: &mut Vec<Effect>) {
        if let Some(job) = self.held.as_ref().map(|c| c.job) {
            self.decline(job, until, reason, out);
        }
        self.discard(out);
        self.go(Work::CheckIn);
    }

    fn invalid(&mut self, job: JobId, reason: String, out: &mut Vec<Effect>) {
        match &self.work {
            Work::CheckIn if self.is_open(RequestKind::CheckIn) => {
                self.decline(job, self.pause(), reason.clone(), out);
                self.later(reason, out);
            }
            Work::Fetch(task) | Work::Train(task) if task.job == job => {
                self.decline(job, self.pause(), reason, out);
                self.drop_task(out);
            }
            Work::Offer | Work::Encode | Work::Upload | Work::Await if self.held.as_ref().is_some_and(|c| c.job == job) => {
                self.give_up(reason, self.pause(), out);
            }
            _ => {}
        }
    }

    fn refused(&mut self, request: RequestKind, refusal: Refusal, out: &mut Vec<Effect>) {
        use ErrorCode::{CohortUnknown, Duplicate, Forbidden, JobUnknown, Late, Revoked, StaleBase};

        out.push(Effect::Warn(Warning::Refused {
            request,
            refusal: refusal.clone(),
        }));
        let Refusal { code, text } = refusal;
        // A revocation can be undone: what is held is kept for that.
        if code.is_retryable() || matches!(code, Revoked | Forbidden) {
            return self.later(text, out);
        }
        match (request, code) {
            // It is never the request at hand.
            (RequestKind::Progress, _) => {}
            (RequestKind::CheckIn, _) => self.later(text, out),
            (RequestKind::Fetch, _) => {
                // Most likely the round went on.
                self.drop_task(out);
                self.later(text, out);
            }
            (RequestKind::Upload, Duplicate) => self.go(Work::Await),
            (RequestKind::Upload | RequestKind::Outcome, CohortUnknown | Late) => self.offer_again(out),
            (_, StaleBase | JobUnknown | Duplicate) => {
                self.discard(out);
                self.go(Work::CheckIn);
            }
            (RequestKind::Ready | RequestKind::Upload | RequestKind::Outcome, _) => self.give_up(text, self.pause(), out),
        }
    }
}
