//! `aimass-agent status`: what the folder says, whether or not an agent runs in it.

use std::fmt;

use aimass_federation::agent::{Snapshot, Stage};
use aimass_net::identity::{IdentityError, IdentityFolder};
use aimass_protocol::{AgentId, ContributionId, Digest, JobId, TenantId};
use serde::{Deserialize, Serialize};

use crate::event::span;
use crate::platform::now_s;
use crate::reports::{self, Reported};
use crate::state::{StateError, StateFolder};

/// What a running agent notes for others to read. Nothing depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Last {
    /// The process that wrote this.
    pub pid: u32,
    /// When it started, milliseconds since the epoch.
    pub started_at_ms: u64,
    /// Contributions that were included, ever.
    pub included: u64,
    /// The last of them.
    pub last_included: Option<LastIncluded>,
    /// The last refusal by the server.
    pub last_refused: Option<LastRefused>,
}

/// A contribution that became part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastIncluded {
    /// The job.
    pub job: JobId,
    /// The round, counted from 1.
    pub round: u32,
    /// The model.
    pub model: Digest,
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
}

/// Something that the server refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRefused {
    /// For machines.
    pub code: String,
    /// For people.
    pub text: String,
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
}

/// Everything that `status` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The folder.
    pub data_dir: String,
    /// Whether an agent runs in it now.
    pub running: bool,
    /// Who this device is; `None` before it has joined.
    pub identity: Option<IdentityStatus>,
    /// Contributions held.
    pub held: Vec<HeldStatus>,
    /// What servers did that looks like cheating, the oldest first.
    pub reports: Vec<Reported>,
    /// What a running agent noted last.
    pub last: Last,
}

/// Who this device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IdentityStatus {
    /// The tenant.
    pub tenant: TenantId,
    /// The agent's id.
    pub agent: AgentId,
    /// Where the aggregation server listens.
    pub server: String,
    /// Where the enrolment authority listens.
    pub authority: String,
    /// Seconds until the certificate ends; negative after.
    pub certificate_s: i64,
    /// Version of the trust bundle.
    pub bundle_version: u64,
}

/// A contribution that is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeldStatus {
    /// Its id.
    pub contribution: ContributionId,
    /// The job.
    pub job: JobId,
    /// The model that it was trained from.
    pub base: Digest,
    /// `trained`, `offered`, `sent`, `accepted` or `spent`.
    pub stage: &'static str,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The identity folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Status {
    /// Reads the folder.
    ///
    /// # Errors
    /// [`StatusError`] for damaged files. A folder that is not there is an agent that has not joined.
    pub fn read(state: &StateFolder) -> Result<Self, StatusError> {
        let identity = match IdentityFolder::open(&state.identity_dir()) {
            Ok((_, enrolment)) => {
                let member = enrolment.membership();
                Some(IdentityStatus {
                    tenant: member.tenant.clone(),
                    agent: member.id,
                    server: member.server.clone(),
                    authority: member.authority.clone(),
                    certificate_s: enrolment.info().not_after_s - now_s(),
                    bundle_version: enrolment.bundle().version(),
                })
            }
            Err(IdentityError::NotJoined { .. }) => None,
            Err(e) => return Err(e.into()),
        };
        let running = state.data_dir().is_dir() && state.try_lock()?.is_none();
        let snapshot: Snapshot = state.load_session()?.unwrap_or_default();
        let held = snapshot.held.iter().map(|c| HeldStatus {
            contribution: c.id,
            job: c.job,
            base: c.base,
            stage: stage_name(&c.stage),
        });
        let data_dir = state.data_dir().display().to_string();
        Ok(Self {
            data_dir,
            running,
            identity,
            held: held.collect(),
            reports: reports::load(state)?,
            last: state.load_last()?.unwrap_or_default(),
        })
    }
}

fn stage_name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Trained => "trained",
        Stage::Offered { .. } => "offered",
        Stage::Sent { accepted: false, .. } => "sent",
        Stage::Sent { accepted: true, .. } => "accepted",
        Stage::Spent { .. } => "spent",
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "folder       {}", self.data_dir)?;
        match &self.identity {
            None => writeln!(f, "identity     none: join first, aimass-agent join")?,
            Some(identity) => {
                writeln!(f, "agent        {} of tenant {}", identity.agent.to_hex(), identity.tenant)?;
                writeln!(f, "server       {}", identity.server)?;
                writeln!(f, "authority    {}", identity.authority)?;
                writeln!(f, "certificate  {} left", span(identity.certificate_s))?;
                writeln!(f, "bundle       version {}", identity.bundle_version)?;
            }
        }
        if self.running {
            writeln!(f, "running      yes, process {}", self.last.pid)?;
        } else {
            writeln!(f, "running      no")?;
        }
        writeln!(f, "included     {} contribution(s)", self.last.included)?;
        if let Some(last) = &self.last.last_included {
            writeln!(f, "last         round {} of job {}, model {}", last.round, last.job, last.model)?;
        }
        for held in &self.held {
            writeln!(
                f,
                "held         {} for job {} from model {}: {}",
                held.contribution, held.job, held.base, held.stage
            )?;
        }
        if let Some(last) = self.reports.last() {
            writeln!(
                f,
                "reports      {} of a server that breaks the protocol, in reports.jsonl; the last:",
                self.reports.len()
            )?;
            writeln!(f, "             job {}: {}", last.job, last.what)?;
        }
        if let Some(refused) = &self.last.last_refused {
            writeln!(f, "refused      {} ({})", refused.text, refused.code)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_has_not_joined() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = StateFolder::new(dir.path().join("agent"));
        let status = Status::read(&state).expect("reads nothing");
        assert!(status.identity.is_none() && !status.running && status.held.is_empty());
        assert!(!dir.path().join("agent").exists(), "looking makes nothing");
        assert!(status.to_string().contains("join first"));
    }

    #[test]
    fn a_running_agent_is_seen() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = StateFolder::new(dir.path().join("agent"));
        let lock = state.open().expect("opens");
        state
            .save_last(&Last {
                pid: 7,
                included: 3,
                ..Last::default()
            })
            .expect("writes");
        let status = Status::read(&state).expect("reads");
        assert!(status.running && status.last.included == 3);
        assert!(status.to_string().contains("process 7"));
        drop(lock);
        assert!(!Status::read(&state).expect("reads").running);
    }
}
