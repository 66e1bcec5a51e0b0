//! What the driver is told and asked, and what it answers.

use std::sync::Arc;

use aimass_federation::RequestKind;
use aimass_federation::coordinator::{JobView, OpenRound, RoundOutcome, SecureStep};
use aimass_protocol::job::JobKind;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{
    CheckIn, ComeBack, OutcomeQuery, OutcomeReply, Progress, ProgressReply, Ready, SignedDescriptor, Task,
};
use aimass_protocol::message::secagg::{ConsentReply, DrawCall, RevealReply, Roster, Shares, SharesReply, SurvivorsReply, UnmaskReply};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode, JobId};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::publish::PublishFailure;
use super::{Job, JobRecord, RoundRecord};
use crate::store::{CompressionRecord, JournalRecord};

/// An agent's question.
#[derive(Debug)]
pub(crate) enum Ask {
    /// "Is there work for me?"
    CheckIn(CheckIn),
    /// "I have trained; put me in a cohort."
    Ready(Ready),
    /// "Here is my update", of so many bytes.
    Upload {
        /// The cohort.
        cohort: CohortId,
        /// The work.
        contribution: ContributionId,
        /// By its manifest.
        size_bytes: u64,
        /// The update's name, by its manifest.
        digest: Digest,
    },
    /// "What became of my contribution?"
    Outcome(OutcomeQuery),
    /// "I am so far with my work."
    Progress(Progress),
    /// A step of secure aggregation.
    Secure(SecureStep),
    /// Sealed shares, whose signatures nobody has verified yet.
    Shares(Shares),
}

impl Ask {
    pub(super) fn kind(&self) -> RequestKind {
        match self {
            Self::CheckIn(_) => RequestKind::CheckIn,
            Self::Ready(_) => RequestKind::Ready,
            Self::Upload { .. } => RequestKind::Upload,
            Self::Outcome(_) => RequestKind::Outcome,
            Self::Progress(_) => RequestKind::Progress,
            Self::Secure(step) => step.kind(),
            Self::Shares(_) => RequestKind::Shares,
        }
    }

    pub(super) fn cohort(&self) -> Option<CohortId> {
        match self {
            Self::Upload { cohort, .. } => Some(*cohort),
            Self::Secure(step) => Some(step.cohort()),
            Self::Shares(shares) => Some(shares.cohort),
            _ => None,
        }
    }
}

/// An answer to a question. An upload gets two: [`Answer::UploadFrom`], then [`Answer::Accepted`] or a refusal. The channel closes
/// without an answer when a newer request took its place.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Work.
    Task(Task),
    /// No work.
    ComeBack(ComeBack),
    /// A cohort.
    Cohort(SignedDescriptor),
    /// The contribution is of no use.
    Superseded,
    /// The upload may begin, or go on.
    UploadFrom(Ticket),
    /// The upload is in the sum.
    Accepted,
    /// What became of a contribution.
    Outcome(OutcomeReply),
    /// Whether work is still wanted.
    Progress(ProgressReply),
    /// The cohort's inputs are masked: show your keys.
    Draw(DrawCall),
    /// Who takes part.
    Roster(Roster),
    /// The cohort's terms and the agent's neighbours, or another draw.
    Reveal(Box<RevealReply>),
    /// What the neighbours dealt.
    Shares(SharesReply),
    /// Whose inputs are summed.
    Survivors(SurvivorsReply),
    /// Who agrees.
    Consent(ConsentReply),
    /// Whether the sum will be unmasked.
    Unmask(UnmaskReply),
    /// Refused; nothing was changed.
    Refused(Refusal),
}

/// The right to write an upload's file in the journal.
#[derive(Debug)]
pub(crate) struct Ticket {
    /// The job, for accounting.
    pub(crate) job: JobId,
    /// Held while the file is written: an older stream of the same upload may not have noticed yet that it is over.
    pub(crate) writing: Arc<Mutex<()>>,
}

/// A job that ran before a restart.
#[derive(Debug)]
pub(crate) struct RestoredJob {
    /// Its finished rounds in order.
    pub(crate) rounds: Vec<RoundRecord>,
    /// What went into the last of them, oldest first.
    pub(crate) recent: Vec<RoundOutcome>,
    /// The round that was open, and its journal.
    pub(crate) open: Option<(OpenRound, Vec<JournalRecord>)>,
    /// Its last step, if that was begun.
    pub(crate) compression: Option<CompressionRecord>,
}

/// What happens.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "commands live until they are read")]
pub(crate) enum Command {
    /// An agent asks something.
    Ask {
        /// Who.
        agent: AgentId,
        /// What.
        ask: Ask,
        /// Where the answers go.
        answers: mpsc::UnboundedSender<Answer>,
    },
    /// The signatures of sealed shares were verified.
    Dealt {
        /// Whose.
        agent: AgentId,
        /// What the coordinator is told.
        step: SecureStep,
    },
    /// More of an upload arrived.
    UploadProgressed {
        /// Whose.
        agent: AgentId,
        /// Into which cohort.
        cohort: CohortId,
    },
    /// An upload is whole, verified and on the disk.
    Received {
        /// Whose.
        agent: AgentId,
        /// Into which cohort.
        cohort: CohortId,
        /// What.
        contribution: ContributionId,
        /// The update, by its manifest.
        digest: Digest,
    },
    /// An agent's last connection closed.
    Gone {
        /// Who.
        agent: AgentId,
    },
    /// The operator revoked an agent.
    Revoked {
        /// Who.
        agent: AgentId,
    },
    /// A job whose record is stored: new, or restored.
    AddJob {
        /// The job.
        job: Box<(Job, JobRecord)>,
        /// What was stored of it besides.
        restored: RestoredJob,
    },
    /// The operator stops a job.
    StopJob {
        /// The job.
        job: JobId,
        /// Answered when the end is stored.
        done: oneshot::Sender<Result<(), StopError>>,
    },
    /// The API wants to see jobs.
    Jobs {
        /// Only this one.
        only: Option<JobId>,
        /// Where they go.
        reply: oneshot::Sender<Vec<JobSnapshot>>,
    },
    /// Updates are in the sum and on record, or could not be added.
    Added {
        /// In which cohort.
        cohort: CohortId,
        /// Whose, and how it went; what is in, by its manifest.
        results: Vec<(AgentId, Result<Digest, ErrorCode>)>,
    },
    /// A sum is a stored model, or could not be made one.
    Published {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// The cohort.
        cohort: CohortId,
        /// The stored record, or why there is none.
        result: Result<Box<RoundRecord>, PublishFailure>,
    },
    /// The last step of a job is over, one way or the other.
    Compressed(Box<CompressionRecord>),
    /// Finish what is being published, then end. The sender is dropped at the end.
    Shutdown(oneshot::Sender<()>),
}

/// A job that can't be stopped.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StopError {
    /// No such job.
    #[error("there is no such job")]
    Unknown,
    /// It takes no more part in rounds, but its end could not be stored: it would run on after a restart.
    #[error("the job is stopped, but that could not be stored ({reason}): stop it again after the next restart")]
    Store {
        /// Why.
        reason: String,
    },
}

/// A job as the API shows it.
#[derive(Debug, Clone)]
pub(crate) struct JobSnapshot {
    /// As stored.
    pub(crate) record: JobRecord,
    /// Its name.
    pub(crate) name: String,
    /// What it does.
    pub(crate) kind: JobKind,
    /// The model that it started from.
    pub(crate) initial_model: Digest,
    /// Where it is.
    pub(crate) view: JobView,
    /// Its finished rounds.
    pub(crate) rounds: Arc<Vec<RoundRecord>>,
    /// Its last step: there once it has finished, where it asks for one.
    pub(crate) compression: Option<CompressionRecord>,
    /// What a full round takes in the journal; 0 once it has ended.
    pub(crate) journal_bytes: u64,
}
