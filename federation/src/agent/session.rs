//! The session itself.

use std::collections::BTreeMap;
use std::time::Duration;

use aimass_protocol::message::agent::{CheckIn, Held, OutcomeQuery, Ready};
use aimass_protocol::message::secagg::SurvivorsQuery;
use aimass_protocol::{JobId, Timestamp};
use rand_core::CryptoRng;

use super::backoff::Backoff;
use super::log::KnownLog;
use super::secure::Cohort;
use super::work::{Asked, Link, Work};
use super::{Activity, Config, Contribution, Effect, Event, Hands, Snapshot, Spent, Stage, Warning};
use crate::{RequestKind, jitter};

/// Until the program is started again.
pub(super) const FOREVER: Timestamp = Timestamp::from_ms(u64::MAX);

/// One agent's session with its server. It finishes one contribution before it asks for other work.
#[derive(Debug)]
pub struct Session {
    pub(super) config: Config,
    /// The latest time seen.
    pub(super) now: Timestamp,
    started: bool,
    pub(super) link: Link,
    pub(super) work: Work,
    pub(super) asked: Asked,
    pub(super) held: Option<Contribution>,
    /// The cohort with masks that it is in, with its keys: in memory alone, and not longer than they are needed.
    pub(super) cohort: Option<Cohort>,
    /// The newest spent model of each job.
    pub(super) spent: BTreeMap<JobId, Spent>,
    /// What is known of the server's log.
    pub(super) log: KnownLog,
    /// Jobs that are declined, and until when.
    pub(super) declined: BTreeMap<JobId, Timestamp>,
    /// Between tries to connect.
    reconnect: Backoff,
    /// Between tries of one request.
    retry: Backoff,
    /// Between fetches of a base that is lost again and again. There is none until one is lost, which is fetched again at once.
    pub(super) refetch: Option<Backoff>,
    /// Over how long reconnects are to be spread, as the server said last.
    pub(super) spread_ms: u64,
    /// Connections that were lost; makes each draw another.
    lost: u64,
    /// When progress was told last, and which; training begins with none.
    pub(super) told: Option<(Timestamp, u8)>,
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
            cohort: None,
            spent: snapshot.spent,
            log: snapshot.log,
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
            spent: self.spent.clone(),
            log: self.log,
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
            (work, _) => work.activity(),
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
    pub fn step<R: CryptoRng>(&mut self, now: Timestamp, event: Event, hands: &mut Hands<'_, R>, out: &mut Vec<Effect>) {
        self.now = self.now.max(now);
        if !self.started {
            self.started = true;
            self.recheck(out);
        }
        match event {
            Event::Tick => {}
            Event::Connected => self.connected(),
            Event::Disconnected { reason } => self.disconnected(reason, out),
            event @ (Event::Task { .. }
            | Event::ComeBack(_)
            | Event::Fetched { .. }
            | Event::BaseLost { .. }
            | Event::Progressed { .. }
            | Event::Unwanted { .. }
            | Event::Trained { .. }
            | Event::TrainFailed { .. }) => self.about_task(event, &hands.identity.tenant, out),
            event @ (Event::Draw { .. }
            | Event::Roster { .. }
            | Event::Opening { .. }
            | Event::DrawAgain { .. }
            | Event::SharesReceived { .. }
            | Event::Survivors { .. }
            | Event::Agreed { .. }
            | Event::Unmasked { .. }) => self.about_masks(event, hands, out),
            event @ (Event::Cohort { .. }
            | Event::Superseded { .. }
            | Event::Encoded { .. }
            | Event::EncodeFailed { .. }
            | Event::ResiduesLost { .. }
            | Event::Accepted { .. }
            | Event::Outcome { .. }) => self.about_held(event, out),
            Event::Invalid { job, reason } => self.invalid(job, reason, out),
            Event::Refused { request, refusal } if self.is_open(request) => self.refused(request, refusal, out),
            Event::Failed { request, reason } if self.is_open(request) => {
                out.push(Effect::Warn(Warning::Failed {
                    request,
                    reason: reason.clone(),
                }));
                self.later(reason, out);
            }
            // Answers to requests that were replaced.
            Event::Refused { .. } | Event::Failed { .. } => {}
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
        Some(match (&self.work, &self.held) {
            (Work::CheckIn, held) => {
                self.declined.retain(|_, until| *until > self.now);
                Effect::CheckIn(CheckIn {
                    capabilities: self.config.capabilities.clone(),
                    contracts: self.config.contracts.clone(),
                    declined: self.declined.keys().copied().collect(),
                    held: held.iter().map(|c| Held { job: c.job, base: c.base }).collect(),
                    spent: self
                        .spent
                        .iter()
                        .map(|(job, spent)| Held {
                            job: *job,
                            base: spent.base,
                        })
                        .collect(),
                    log_size: self.log.size,
                })
            }
            (Work::Fetch(task), _) => Effect::Fetch {
                job: task.job,
                base: task.base,
                base_bytes: task.base_bytes,
            },
            (Work::Train(task), _) => Effect::Train {
                job: task.job,
                round: task.round,
                base: task.base,
                finish_by: task.limit.map(|limit| limit.finish_by),
            },
            (Work::Offer, Some(c)) => Effect::Offer(Ready {
                job: c.job,
                base: c.base,
                contribution: c.id,
            }),
            (Work::Advertise(advert), _) => Effect::Advertise((**advert).clone()),
            (Work::Reveal(reveal), _) => Effect::Reveal(*reveal),
            (Work::Share(shares), _) => Effect::DealShares((**shares).clone()),
            (Work::Encode(masks), Some(c)) => Effect::Encode {
                contribution: c.id,
                descriptor: Box::new(c.stage.descriptor()?.clone()),
                masks: masks.clone(),
            },
            (Work::Upload, Some(c)) => Effect::Upload {
                contribution: c.id,
                cohort: c.stage.descriptor()?.cohort,
            },
            (Work::AwaitSurvivors, Some(c)) => Effect::AskSurvivors(SurvivorsQuery {
                job: c.job,
                cohort: c.stage.descriptor()?.cohort,
                contribution: c.id,
            }),
            (Work::Consent(consent), _) => Effect::Consent(**consent),
            (Work::Unmask(unmask), _) => Effect::Unmask((**unmask).clone()),
            (Work::Await, Some(c)) => Effect::AskOutcome(OutcomeQuery {
                job: c.job,
                cohort: c.stage.descriptor()?.cohort,
                contribution: c.id,
            }),
            (Work::Offer | Work::Encode(_) | Work::Upload | Work::AwaitSurvivors | Work::Await, None) => return None,
        })
    }

    pub(super) fn go(&mut self, work: Work) {
        self.told = matches!(work, Work::Train(_)).then_some((self.now, 0));
        if !work.is_in_cohort() {
            self.cohort = None;
        }
        self.work = work;
        self.asked = Asked::NotYet;
        self.retry.reset();
    }

    /// Does the work at hand again after a pause that grows.
    pub(super) fn later(&mut self, reason: String, out: &mut Vec<Effect>) {
        let until = self.now.after(self.retry.next());
        self.wait(until, reason, out);
    }

    pub(super) fn wait(&mut self, until: Timestamp, reason: String, out: &mut Vec<Effect>) {
        self.asked = Asked::NotBefore(until);
        out.push(Effect::Sleep { until, reason });
    }

    /// The server answered as hoped.
    pub(super) fn heard(&mut self) {
        self.reconnect.reset();
        self.retry.reset();
    }

    pub(super) fn is_open(&self, request: RequestKind) -> bool {
        self.work.request() == Some(request) && matches!(self.asked, Asked::Open { .. })
    }

    pub(super) fn pause(&self) -> Timestamp {
        self.now.after(self.config.failed_job_pause)
    }

    /// The policy may have become stricter while the agent was down, and the clock may have gone back.
    fn recheck(&mut self, out: &mut Vec<Effect>) {
        let policy = &self.config.policy;
        if let Some(error) = self.held.as_ref().and_then(|c| policy.check_job(&c.consent).err()) {
            return self.give_up(error.to_string(), FOREVER, out);
        }
        if let Some(Stage::Offered { descriptor }) = self.held.as_ref().map(|c| &c.stage)
            && descriptor.secagg.is_some()
        {
            // The keys died with the process.
            return self.offer_again(out);
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
    pub(super) fn date(&self) -> Timestamp {
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

    pub(super) fn decline(&mut self, job: JobId, until: Timestamp, reason: String, out: &mut Vec<Effect>) {
        self.declined.insert(job, until);
        out.push(Effect::Warn(Warning::Declined { job, reason }));
    }
}
