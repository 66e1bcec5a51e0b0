//! What people and machines are told, once each, and what is noted for `status`.

use std::collections::BTreeSet;
use std::time::Duration;

use aimass_crypto::sign::PublicKey;
use aimass_federation::agent::{Event, Report, Session, Stage, Warning};
use aimass_protocol::job::AggregationMode;
use aimass_protocol::message::agent::{OutcomeReply, Task};
use aimass_protocol::message::secagg::{ConsentReply, SurvivorsReply, UnmaskReply};
use aimass_protocol::{ContributionId, Digest, JobId, PublicKeyBytes};

use crate::event::{AgentEvent, Reporter};
use crate::platform::wall;
use crate::reports::{self, Reported};
use crate::run::RunOptions;
use crate::state::{StateError, StateFolder};
use crate::status::{Last, LastIncluded, LastRefused};
use crate::verify::VerifiedJob;

/// Tells events, and repeats none of the bad ones while nothing changes.
pub(super) struct Notes {
    reporter: Reporter,
    state: StateFolder,
    last: Last,
    warned: Option<AgentEvent>,
    /// Jobs whose mode was told.
    modes: BTreeSet<JobId>,
    sleeping: String,
}

impl Notes {
    pub(super) fn new(options: &RunOptions) -> Self {
        // What `status` shows beside the session: nothing is lost with it.
        let before: Last = options.state.load_last().ok().flatten().unwrap_or_default();
        Self {
            reporter: options.reporter,
            state: options.state.clone(),
            last: Last {
                pid: std::process::id(),
                started_at_ms: wall().as_ms(),
                ..before
            },
            warned: None,
            modes: BTreeSet::new(),
            sleeping: String::new(),
        }
    }

    pub(super) fn tell(&self, event: &AgentEvent) {
        self.reporter.tell(event);
    }

    /// Tells of something bad, unless it was the last bad thing told.
    fn tell_once(&mut self, event: AgentEvent) {
        if self.warned.as_ref() != Some(&event) {
            self.reporter.tell(&event);
            self.warned = Some(event);
        }
    }

    pub(super) fn task(&mut self, job: &VerifiedJob, task: &Task) {
        self.warned = None;
        self.tell(&AgentEvent::Task {
            job: job.id.to_hex(),
            name: job.file.job.name.clone(),
            round: task.round,
            base: task.base.to_hex(),
        });
    }

    /// Says once a job who can read its updates.
    pub(super) fn mode_of(&mut self, job: JobId, name: &str, mode: AggregationMode, floor: u32) {
        if !self.modes.insert(job) {
            return;
        }
        match mode {
            AggregationMode::Plain => {
                tracing::warn!("job {name}: updates are protected by TLS alone; the server can read each update (plain aggregation)");
            }
            AggregationMode::Secure => {
                tracing::info!(
                    "job {name}: updates are masked; the server sees the sum of at least {floor} of them alone (secure aggregation)"
                );
            }
        }
    }

    /// Keeps a report of cheating, and says it as loudly as can be.
    pub(super) fn report(&self, report: &Report, server: Option<PublicKey>) -> Result<(), StateError> {
        let server = server.map(|key| PublicKeyBytes::from_bytes(*key.as_bytes()));
        let kept = Reported::new(report, wall().as_ms(), server);
        self.tell(&AgentEvent::Report {
            job: report.job.to_hex(),
            cohort: report.cohort.map(|cohort| cohort.to_hex()),
            step: kept.step.clone(),
            what: report.what.clone(),
        });
        reports::keep(&self.state, &kept)
    }

    pub(super) fn sleeping(&mut self, time: Duration, reason: &str) {
        if self.sleeping != reason {
            tracing::info!("waiting: {reason}");
            reason.clone_into(&mut self.sleeping);
        }
        tracing::debug!("sleeps for {:.1} s: {reason}", time.as_secs_f64());
    }

    pub(super) fn uploaded(&self, session: &Session, contribution: ContributionId, bytes: u64, sent_bytes: u64) {
        let (job, round) = work_of(session, contribution);
        self.tell(&AgentEvent::Uploaded {
            job,
            round,
            bytes,
            sent_bytes,
        });
    }

    pub(super) fn superseded(&self, session: &Session, contribution: ContributionId) {
        self.tell(&AgentEvent::Superseded {
            job: work_of(session, contribution).0,
        });
    }

    pub(super) fn outcome(&self, session: &Session, contribution: ContributionId, reply: OutcomeReply) {
        if reply == OutcomeReply::NotIncluded {
            self.not_included(session, contribution);
        }
    }

    /// What is spent is offered no more.
    fn not_included(&self, session: &Session, contribution: ContributionId) {
        let job = work_of(session, contribution).0;
        let held = session.snapshot().held.filter(|held| held.id == contribution);
        let is_spent = held.is_some_and(|held| matches!(held.stage, Stage::Spent { .. }));
        self.tell(&if is_spent {
            AgentEvent::Abandoned { job }
        } else {
            AgentEvent::NotIncluded { job }
        });
    }

    /// What the server said in a step of a cohort with masks, before the session hears it.
    pub(super) fn masks(&self, session: &Session, event: &Event) {
        let ends = matches!(
            event,
            Event::Survivors {
                reply: SurvivorsReply::NotIncluded,
                ..
            } | Event::Agreed {
                reply: ConsentReply::NotIncluded,
                ..
            } | Event::Unmasked {
                reply: UnmaskReply::Abandoned,
                ..
            }
        );
        if let Some(held) = session.snapshot().held.filter(|_| ends) {
            self.not_included(session, held.id);
        }
    }

    pub(super) fn included(&mut self, job: JobId, round: u32, model: Digest) {
        self.warned = None;
        self.tell(&AgentEvent::Included {
            job: job.to_hex(),
            round,
            model: model.to_hex(),
        });
        self.last.included += 1;
        self.last.last_included = Some(LastIncluded {
            job,
            round,
            model,
            at_ms: wall().as_ms(),
        });
        self.save();
    }

    pub(super) fn warn(&mut self, warning: Warning, retry: Duration) {
        match warning {
            Warning::Unreachable { reason } => {
                // The pause grows from try to try: it is no news by itself.
                let known = matches!(&self.warned, Some(AgentEvent::Disconnected { reason: before, .. }) if *before == reason);
                let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
                let event = AgentEvent::Disconnected { reason, retry_ms };
                if !known {
                    self.tell_once(event);
                }
            }
            Warning::Refused { request, refusal } => {
                tracing::debug!("refused request: {request}");
                self.last.last_refused = Some(LastRefused {
                    code: refusal.code.name().to_owned(),
                    text: refusal.text.clone(),
                    at_ms: wall().as_ms(),
                });
                self.save();
                self.tell_once(AgentEvent::refused(refusal.code, &refusal.text));
            }
            Warning::Declined { job, reason } => {
                let rule = rule_of(&reason).to_owned();
                self.tell_once(AgentEvent::Declined {
                    job: job.to_hex(),
                    rule,
                    reason,
                });
            }
            other => tracing::warn!("{other}"),
        }
    }

    fn save(&self) {
        if let Err(e) = self.state.save_last(&self.last) {
            tracing::warn!("what happened last could not be noted for `status`: {e}");
        }
    }
}

/// The policy's rule that a reason names.
fn rule_of(reason: &str) -> &'static str {
    ["allow_plain", "min_survivors", "min_profile", "purposes"]
        .into_iter()
        .find(|rule| reason.contains(rule))
        .unwrap_or("check")
}

/// The job and the round of a contribution, for people.
fn work_of(session: &Session, contribution: ContributionId) -> (String, u32) {
    let held = session.snapshot().held.into_iter().find(|c| c.id == contribution);
    held.map_or_else(Default::default, |c| {
        let round = match &c.stage {
            Stage::Offered { descriptor } | Stage::Sent { descriptor, .. } | Stage::Spent { descriptor } => descriptor.round,
            Stage::Trained => 0,
        };
        (c.job.to_hex(), round)
    })
}
