//! Work that is asked for, fetched and trained.

use std::time::Duration;

use aimass_crypto::sign::PublicKey;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::limits::MAX_SPREAD_MS;
use aimass_protocol::log::BaseProof;
use aimass_protocol::message::agent::{ComeBack, Progress};
use aimass_protocol::{ContributionId, Digest, JobId, TenantId};

use super::backoff::Backoff;
use super::log::{KnownLog, LogError, verify_base};
use super::session::{FOREVER, Session};
use super::work::{Link, Work};
use super::{Assignment, Config, Consent, Contribution, Effect, Event, Report, Stage, TimeLimit};
use crate::RequestKind;

/// A server can't send an agent away for longer, nor make it ask without pause.
const COME_BACK_MS: std::ops::RangeInclusive<u64> = 50..=3_600_000;

/// Progress is not told more often than this.
const PROGRESS_LEAST: Duration = Duration::from_secs(5);
/// It is told after this, or sooner if there is something to tell.
const PROGRESS_MOST: Duration = Duration::from_secs(10);
/// So many more percent are something to tell.
const PROGRESS_PERCENT: u8 = 5;

impl Session {
    /// What happened to a task.
    pub(super) fn about_task(&mut self, event: Event, tenant: &TenantId, out: &mut Vec<Effect>) {
        match event {
            Event::Task {
                job,
                file,
                round,
                base,
                base_bytes,
                finish_within_ms,
                log,
                server,
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
                    log_index: None,
                    consent: Consent::of(&file),
                    limit,
                    fetched: false,
                };
                self.take(task, log.as_deref(), &server, tenant, out);
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
            // Answers to requests that were replaced, and work that was given up meanwhile.
            _ => {}
        }
    }

    /// Leaves the task at hand, if there is one, and asks for other work.
    pub(super) fn drop_task(&mut self, out: &mut Vec<Effect>) {
        if let Some(task) = self.work.task() {
            let (job, base) = (task.job, task.base);
            out.extend([Effect::Persist, Effect::DropTask { job, base }]);
        }
        self.go(Work::CheckIn);
    }

    fn take(&mut self, mut task: Assignment, log: Option<&BaseProof>, server: &PublicKey, tenant: &TenantId, out: &mut Vec<Effect>) {
        let job = task.job;
        if self.declined.contains_key(&job) {
            // It was told so; asking at once would go round in circles.
            return self.later("the server offers a job that is declined".to_owned(), out);
        }
        if let Err(error) = self.config.policy.check_job(&task.consent) {
            self.decline(job, FOREVER, error.to_string(), out);
            return self.go(Work::CheckIn);
        }
        match self.look_up(&task, log, server, tenant) {
            Ok(Some((known, index))) => {
                task.log_index = Some(index);
                if self.log != known {
                    self.log = known;
                    out.push(Effect::Persist);
                }
            }
            Ok(None) => {}
            Err(error) => {
                if shows_cheating(&error) {
                    out.push(Effect::Report(Report {
                        job,
                        cohort: None,
                        step: RequestKind::CheckIn,
                        what: error.to_string(),
                        descriptor: None,
                    }));
                }
                self.decline(job, FOREVER, error.to_string(), out);
                return self.go(Work::CheckIn);
            }
        }
        if self.spent.get(&job).is_some_and(|spent| spent.forbids(task.base, task.log_index)) {
            let reason = "the server offers a model that a contribution stood on which may have been unmasked; the next model of the job is waited for";
            return self.later(reason.to_owned(), out);
        }
        self.go(Work::Fetch(task));
        out.push(Effect::Persist);
    }

    /// Looks for a task's base in the server's log. Only masks need it: without them the server reads each update anyway.
    fn look_up(
        &self,
        task: &Assignment,
        log: Option<&BaseProof>,
        server: &PublicKey,
        tenant: &TenantId,
    ) -> Result<Option<(KnownLog, u64)>, LogError> {
        match log {
            Some(proof) => {
                let (known, _, index) = verify_base(&self.log, server, tenant, task.job, task.base, proof)?;
                Ok(Some((known, index)))
            }
            None if task.consent.mode == AggregationMode::Secure => Err(LogError::Missing),
            None => Ok(None),
        }
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
                log_index: task.log_index,
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
}

/// Whether only a server that cheats explains this, and not one that is older or newer than this program.
fn shows_cheating(error: &LogError) -> bool {
    !matches!(error, LogError::Missing | LogError::Entry { .. })
}
