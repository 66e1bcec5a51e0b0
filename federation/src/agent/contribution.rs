//! What an agent holds of its own work, and how far it got. This is what survives a killed agent.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use aimass_protocol::descriptor::{CodecParams, Descriptor, MaskSuite, Profile};
use aimass_protocol::job::{AggregationMode, JobFile};
use aimass_protocol::limits::MAX_SPENT;
use aimass_protocol::{ContributionId, Digest, JobId, Timestamp};
use serde::{Deserialize, Serialize};

use super::log::KnownLog;

/// A trained contribution. Identified by job, base model and its random id; it is in at most one published sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// Its name.
    pub id: ContributionId,
    /// The job.
    pub job: JobId,
    /// The model that it was trained from.
    pub base: Digest,
    /// Where that model is in the server's log; none where the server showed no log.
    #[serde(default)]
    pub log_index: Option<u64>,
    /// What the job's owner signed about how updates are treated.
    pub consent: Consent,
    /// How far it got.
    pub stage: Stage,
}

/// What the signed job promises; a cohort's descriptor may not give less.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consent {
    /// Why the data is used.
    pub purpose: String,
    /// Masked or not.
    pub mode: AggregationMode,
    /// Which attackers the masks hold against.
    #[serde(default)]
    pub profile: Profile,
    /// What expands mask keys.
    #[serde(default)]
    pub suite: MaskSuite,
    /// Fewest contributions in a sum.
    pub floor: u32,
    /// How an update becomes integers.
    pub codec: CodecParams,
    /// `round.max_time`, in milliseconds.
    pub max_time_ms: u64,
    /// How many steps older than the newest model a base may be; 0 unless the rounds are asynchronous.
    #[serde(default)]
    pub max_staleness: u32,
    /// Whether several rounds begin with one model, and an agent takes part in one of them alone, with masks or without: their sums are compared.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once_a_model: bool,
}

impl Consent {
    /// What a job file promises.
    pub fn of(file: &JobFile) -> Self {
        Self {
            purpose: file.job.purpose.clone(),
            mode: file.aggregation.mode,
            profile: file.aggregation.profile,
            suite: file.aggregation.suite,
            floor: file.aggregation.floor,
            codec: file.update,
            max_time_ms: u64::try_from(file.round.max_time.as_millis()).unwrap_or(u64::MAX),
            max_staleness: file.round.max_staleness,
            once_a_model: file.rounds_a_model() > 1,
        }
    }
}

/// How far a contribution got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// On disk; in no cohort. May be offered.
    Trained,
    /// A cohort took it and its terms were agreed to; residues are being made, nothing was sent.
    Offered {
        /// The terms.
        descriptor: Descriptor,
    },
    /// The residues, masked where the cohort is secure, are on disk and may have been sent in part or whole. They are sent byte-identical or not at all.
    Sent {
        /// The terms.
        descriptor: Descriptor,
        /// Whether the server confirmed that it is in the sum.
        accepted: bool,
    },
    /// Shares that unmask its sum were released, or may have been: it is never offered again, whatever the server says.
    Spent {
        /// The terms.
        descriptor: Descriptor,
    },
}

impl Stage {
    /// The terms that were agreed to, if there are any.
    pub fn descriptor(&self) -> Option<&Descriptor> {
        match self {
            Self::Trained => None,
            Self::Offered { descriptor } | Self::Sent { descriptor, .. } | Self::Spent { descriptor } => Some(descriptor),
        }
    }
}

/// Work that was taken and passed the policy, and is being fetched or trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The job.
    pub job: JobId,
    /// The round that the base belongs to.
    pub round: u32,
    /// The model to start from.
    pub base: Digest,
    /// Its size in bytes.
    pub base_bytes: u64,
    /// Where the base is in the server's log; none where the server showed no log.
    #[serde(default)]
    pub log_index: Option<u64>,
    /// What the job's owner signed about how updates are treated.
    pub consent: Consent,
    /// When training stops and what was done by then counts; none where the round waits.
    #[serde(default)]
    pub limit: Option<TimeLimit>,
    /// Whether the base model is on disk.
    pub fetched: bool,
}

/// How long training may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeLimit {
    /// It stops then.
    pub finish_by: Timestamp,
    /// What the server left for it, in milliseconds: a clock that went back while the agent was down does not make that more.
    pub within_ms: u64,
}

/// A model that no other contribution of this agent may stand on, because one that stood on it is in a sum that may have been unmasked: from two such
/// sums the agent's own part could be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The model; of several the newest.
    pub base: Digest,
    /// Where it is in the server's log.
    pub log_index: u64,
    /// Other models of the job that are spent, the last one first: a server could log one of them again.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub others: VecDeque<Digest>,
}

/// So many other models are remembered of a job.
const OTHERS: usize = 256;

impl Spent {
    /// A model that is spent now.
    pub(super) fn new(base: Digest, log_index: u64) -> Self {
        Self {
            base,
            log_index,
            others: VecDeque::new(),
        }
    }

    /// Whether nothing may stand on this model.
    pub(super) fn forbids(&self, base: Digest, log_index: Option<u64>) -> bool {
        base == self.base || log_index.is_some_and(|index| index <= self.log_index) || self.others.contains(&base)
    }

    fn add(&mut self, mut model: Self) {
        if model.base == self.base {
            return;
        }
        if self.log_index <= model.log_index {
            std::mem::swap(&mut self.base, &mut model.base);
            self.log_index = model.log_index;
        }
        if !self.others.contains(&model.base) {
            self.others.push_front(model.base);
            self.others.truncate(OTHERS);
        }
    }
}

/// Everything that a session needs to go on after its process was killed. Keys and masks are not in it: they are never on a disk.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// The contribution that is held: a session finishes one before it asks for other work. Files of any other contribution may be deleted.
    pub held: Option<Contribution>,
    /// The work that is fetched or trained; none while a contribution is held.
    #[serde(default)]
    pub task: Option<Assignment>,
    /// The newest spent model of each job.
    #[serde(default)]
    pub spent: BTreeMap<JobId, Spent>,
    /// What the agent has seen of the server's log: it may only grow.
    #[serde(default)]
    pub log: KnownLog,
}

/// Notes a spent model. Of too many jobs the one whose model is the oldest is forgotten.
pub(super) fn spend(spent: &mut BTreeMap<JobId, Spent>, job: JobId, model: Spent) {
    match spent.entry(job) {
        Entry::Vacant(entry) => {
            entry.insert(model);
        }
        Entry::Occupied(mut entry) => entry.get_mut().add(model),
    }
    while spent.len() > MAX_SPENT {
        let oldest = spent
            .iter()
            .filter(|(other, _)| **other != job)
            .min_by_key(|(_, model)| model.log_index);
        let Some(oldest) = oldest.map(|(other, _)| *other) else { return };
        spent.remove(&oldest);
    }
}
