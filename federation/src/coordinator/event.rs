//! What the coordinator is told, and what it wants done.

use std::time::Duration;

use aimass_crypto::secagg::{Fault, VerifiedShares};
use aimass_crypto::sign::PublicKey;
use aimass_protocol::descriptor::{CodecParams, SecAggParams};
use aimass_protocol::job::{AggregationMode, JobFile};
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{CheckIn, ComeBack, OutcomeQuery, OutcomeReply, Progress, ProgressReply, Ready};
use aimass_protocol::message::secagg::{
    Advert, Consent, ConsentReply, DrawCall, NeighbourAdvert, Reveal, Roster, SharesReply, SurvivorsQuery, SurvivorsReply, Unmask,
    UnmaskReply,
};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, ErrorCode, JobId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{SecAggRecord, UnmaskingRecord};
use crate::RequestKind;

/// A job as the driver hands it over: new, or restored from its store after a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// The job.
    pub id: JobId,
    /// Its checked job file.
    pub file: JobFile,
    /// The round to run next, counted from 1. A finished job has `rounds + 1`.
    pub next_round: u32,
    /// The model that this round starts from.
    pub base: Digest,
    /// Its size in bytes.
    pub base_bytes: u64,
    /// What the job's target is compared with, as [`Event::Published`] says it of the round before.
    pub accuracy: Option<f32>,
    /// The models before that one, newest first: in an asynchronous job contributions may still stand on `round.max_staleness` of them.
    pub earlier: Vec<Digest>,
    /// What went into the rounds published so far, oldest first; the last [`Config::remembered_rounds`](super::Config::remembered_rounds) are enough.
    pub recent: Vec<RoundOutcome>,
    /// The cohort that was at work when the server ended: it goes on.
    pub open: Option<RestoredRound>,
    /// How it ended, if it has. Ended jobs are restored too: agents may still ask for outcomes.
    pub ended: Option<JobEnd>,
}

/// A round whose cohort is formed, as [`Effect::OpenRound`] and [`Effect::Seal`] make it durable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRound {
    /// What its members were told.
    pub terms: CohortTerms,
    /// Who is in it, with what.
    pub members: Vec<(AgentId, ContributionId)>,
    /// Whose contributions the sum is made of, once that is settled: nothing else goes into it.
    pub survivors: Option<Vec<(AgentId, ContributionId)>>,
    /// Where inputs are masked: what a restarted server needs to go on.
    #[serde(default)]
    pub secagg: Option<SecAggRecord>,
    /// What takes the masks off the sum, once that is known.
    #[serde(default)]
    pub unmasking: Option<UnmaskingRecord>,
}

/// An open round, and what of it lies in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoredRound {
    /// The round.
    pub open: OpenRound,
    /// Contributions that were added once: they are whole, valid and durable, and are added again.
    pub durable: Vec<(AgentId, ContributionId)>,
}

/// What went into a published round. Stored by the driver with the round's record, and handed back in [`JobSpec::recent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundOutcome {
    /// The round, counted from 1.
    pub round: u32,
    /// The model that came out.
    pub model: Digest,
    /// The contributions in its sum, each counted once.
    pub contributions: Vec<ContributionId>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum JobEnd {
    /// All rounds were run, or the target accuracy was reached before.
    Finished {
        /// Whether it was the target accuracy.
        target_reached: bool,
    },
    /// The operator stopped it.
    Stopped,
    /// It can't go on.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

impl JobEnd {
    /// `finished`, `stopped` or `failed`.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Finished { .. } => "finished",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
        }
    }

    /// Why, for people.
    pub fn reason(&self) -> String {
        match self {
            Self::Finished { target_reached: false } => "all rounds were run".to_owned(),
            Self::Finished { target_reached: true } => "the target accuracy was reached".to_owned(),
            Self::Stopped => "stopped by the operator".to_owned(),
            Self::Failed { reason } => reason.clone(),
        }
    }
}

/// What happened. Events that name an agent come from authenticated, accepted agents: the driver gates the others.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A job was submitted, or restored after a restart. A job that is known already is left as it is.
    AddJob(Box<JobSpec>),
    /// The operator stops a job. A round that is being published is still finished. Nothing is promised before [`Effect::JobEnded`]: a driver that
    /// is killed has forgotten the wish.
    StopJob {
        /// The job.
        job: JobId,
    },
    /// An agent asks for work.
    CheckIn {
        /// Who.
        agent: AgentId,
        /// What it can do, holds and declines.
        check_in: CheckIn,
    },
    /// An agent offers a contribution. The reply may take long.
    Ready {
        /// Who.
        agent: AgentId,
        /// What.
        ready: Ready,
    },
    /// An agent that trains says how far it is.
    Progress {
        /// Who.
        agent: AgentId,
        /// How far, with what.
        progress: Progress,
    },
    /// An agent wants to upload: its request frame came, no chunk yet.
    UploadBegun {
        /// Who.
        agent: AgentId,
        /// Into which cohort.
        cohort: CohortId,
        /// What.
        contribution: ContributionId,
    },
    /// More chunks of an upload that was allowed arrived. A few times a second for each upload are enough.
    UploadProgressed {
        /// Who.
        agent: AgentId,
        /// Into which cohort.
        cohort: CohortId,
    },
    /// All chunks of an upload that was allowed arrived, fit their digests and are durable.
    Received {
        /// Who.
        agent: AgentId,
        /// Into which cohort.
        cohort: CohortId,
        /// What.
        contribution: ContributionId,
    },
    /// An agent takes a step of secure aggregation. The reply may take long.
    Secure {
        /// Who.
        agent: AgentId,
        /// Which.
        step: SecureStep,
    },
    /// The descriptor that [`Effect::Describe`] asked for is made and signed.
    Described {
        /// Its cohort.
        cohort: CohortId,
        /// SHA-256 of its bytes.
        digest: Digest,
    },
    /// The round that [`Effect::OpenRound`] named could not be made durable, or the descriptor that [`Effect::Describe`] asked for can't be made: its
    /// members were not told of it.
    OpenFailed {
        /// Its cohort.
        cohort: CohortId,
        /// Why, for people.
        reason: String,
    },
    /// What [`Effect::Seal`] asked for could not be made durable, and was not before, of a sum with masks: no member was told whose inputs are summed.
    SealFailed {
        /// The cohort.
        cohort: CohortId,
        /// Why, for people.
        reason: String,
    },
    /// The update that [`Effect::Add`] named is in the running sum, and on record as such.
    Added {
        /// Whose.
        agent: AgentId,
        /// In which cohort's sum.
        cohort: CohortId,
    },
    /// The update that [`Effect::Add`] named is not in the sum, not in part either.
    AddFailed {
        /// Whose.
        agent: AgentId,
        /// In which cohort's sum.
        cohort: CohortId,
        /// Why. A retryable code lets the agent upload again; any other bars it from this round.
        code: ErrorCode,
    },
    /// An agent asks what became of its contribution. The reply may take long.
    Outcome {
        /// Who.
        agent: AgentId,
        /// Of what.
        query: OutcomeQuery,
    },
    /// The agent's last connection closed. Not to be sent while the agent has another one.
    Gone {
        /// Who.
        agent: AgentId,
    },
    /// The operator revoked an agent. What it waits for is refused and what it has not yet added is dropped. An input that is in a sum already, or on
    /// its way into it, stays: a sum can't be taken apart.
    Revoked {
        /// Who.
        agent: AgentId,
    },
    /// The round that [`Effect::Aggregate`] asked for is decoded, stored durably together with its [`RoundOutcome`], and public.
    Published {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// The new model.
        base: Digest,
        /// Its size in bytes.
        base_bytes: u64,
        /// What the job's target is compared with, if it is known: its accuracy on held-out data, or that of the round's base on the devices.
        accuracy: Option<f32>,
    },
    /// The round that [`Effect::Aggregate`] asked for could not be published, and nothing of it was stored.
    PublishFailed {
        /// The job.
        job: JobId,
        /// The round.
        round: u32,
        /// Whether the same sum may be published later: storage failed, not arithmetic.
        retry: bool,
        /// Agents whose shares did not fit their adverts, so that the masks stay on: they are barred from the round.
        blame: Vec<AgentId>,
        /// Why, for people.
        reason: String,
    },
    /// Time passed: [`poll_timeout`](super::Coordinator::poll_timeout) is reached.
    Tick,
}

/// A step of an agent in a cohort with masks.
#[derive(Debug, Clone, PartialEq)]
pub enum SecureStep {
    /// Its keys.
    Advert {
        /// What it shows the others.
        advert: Box<Advert>,
        /// The key of its certificate, which the driver has verified.
        key: PublicKey,
    },
    /// Its part of the draw.
    Reveal(Reveal),
    /// Its secrets' shares, sealed. [`Coordinator::check_shares`](super::Coordinator::check_shares) makes it.
    Shares {
        /// The cohort.
        cohort: CohortId,
        /// What it dealt, or what is wrong with that; `None` where nobody deals now.
        dealt: Option<Result<VerifiedShares, Fault>>,
    },
    /// It asks whose inputs are summed.
    Survivors(SurvivorsQuery),
    /// It agrees to that set.
    Consent(Consent),
    /// Its shares of others' secrets.
    Unmask(Unmask),
}

impl SecureStep {
    /// The request that brought it.
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Advert { .. } => RequestKind::Advert,
            Self::Reveal(_) => RequestKind::Reveal,
            Self::Shares { .. } => RequestKind::Shares,
            Self::Survivors(_) => RequestKind::Survivors,
            Self::Consent(_) => RequestKind::Consent,
            Self::Unmask(_) => RequestKind::Unmask,
        }
    }

    /// The cohort that it is for.
    pub fn cohort(&self) -> CohortId {
        match self {
            Self::Advert { advert, .. } => advert.cohort,
            Self::Reveal(reveal) => reveal.cohort,
            Self::Shares { cohort, .. } => *cohort,
            Self::Survivors(query) => query.cohort,
            Self::Consent(consent) => consent.cohort,
            Self::Unmask(unmask) => unmask.cohort,
        }
    }
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "effects live as long as a step takes")]
pub enum Effect {
    /// Answer the agent's open request of kind [`AgentReply::kind`]. If it has none (its connection broke) the reply is dropped; the agent asks again.
    Reply {
        /// Whom.
        agent: AgentId,
        /// What.
        reply: AgentReply,
    },
    /// Make the descriptor of these terms, sign it, keep it for the cohort, then [`Event::Described`]. The log that it names stays that one.
    Describe(CohortTerms),
    /// A cohort that was never made durable came to nothing: forget its descriptor, and note its draws in the log.
    ForgetCohort {
        /// What its members were told, as far as it got.
        terms: CohortTerms,
        /// Draws for which members were asked to reveal their part.
        draws: u8,
    },
    /// Make a round durable, then an empty sum for its cohort, before any reply that follows; or [`Event::OpenFailed`] and no reply about that cohort. A
    /// restored round is asked for in the same way.
    OpenRound(OpenRound),
    /// Check the journalled update and add it to the cohort's sum, whole or not at all, and put that on record; then [`Event::Added`] or
    /// [`Event::AddFailed`]. Asked at most once for the same agent and cohort until it failed.
    Add {
        /// The cohort.
        cohort: CohortId,
        /// Whose.
        agent: AgentId,
        /// What.
        contribution: ContributionId,
    },
    /// Note durably that a round's sum is that of these contributions, before any effect that follows. If that fails, so does [`Effect::Aggregate`]; of a sum
    /// with masks it is [`Event::SealFailed`], and no reply that names survivors: a restarted server could settle on others.
    Seal {
        /// The cohort.
        cohort: CohortId,
        /// Whose contributions, ascending by agent.
        survivors: Vec<(AgentId, ContributionId)>,
    },
    /// Keep durably what takes the masks off a sealed sum, before any effect that follows: they are taken off before it is decoded. If that fails, so does
    /// [`Effect::Aggregate`].
    Unmask {
        /// The cohort.
        cohort: CohortId,
        /// The shares.
        unmasking: UnmaskingRecord,
    },
    /// No update goes into the sum any more: uploads still under way were refused before. Decode the sum, take the strategy's step from `base`, evaluate,
    /// store durably, publish; then [`Event::Published`] or [`Event::PublishFailed`]. Asked again for the same sum when that could not be stored.
    Aggregate {
        /// The job.
        job: JobId,
        /// The cohort whose sum it is.
        cohort: CohortId,
        /// The round.
        round: u32,
        /// The model to step from.
        base: Digest,
        /// Whose contributions the sum holds, ascending by agent. To be stored with the round.
        survivors: Vec<(AgentId, ContributionId)>,
    },
    /// Forget a round durably, with its sum and its journal, before any reply that follows. Nothing of it was or will be published; additions under way, if
    /// there are any (the job was stopped), come to nothing.
    DropSum {
        /// The cohort.
        cohort: CohortId,
    },
    /// Record that a job is over.
    JobEnded {
        /// The job.
        job: JobId,
        /// How.
        end: JobEnd,
    },
}

/// An answer to an agent's request.
#[derive(Debug, Clone, PartialEq)]
pub enum AgentReply {
    /// To a check-in: train this (or offer what is held for it). The driver adds the signed job.
    Task {
        /// The job.
        job: JobId,
        /// Its round, counted from 1.
        round: u32,
        /// The model to start from.
        base: Digest,
        /// Its size in bytes.
        base_bytes: u64,
        /// How long training may take; then what was done counts.
        finish_within: Option<Duration>,
    },
    /// To a check-in: nothing now.
    ComeBack(ComeBack),
    /// To a ready: the cohort is formed. The driver makes and signs the descriptor.
    Cohort(CohortTerms),
    /// To a ready: the contribution can't be used any more.
    Superseded,
    /// To an upload that has begun: take its chunks, from the first one that is not spooled yet.
    UploadAllowed {
        /// The cohort.
        cohort: CohortId,
        /// What.
        contribution: ContributionId,
    },
    /// To an upload: it is in the sum.
    Accepted,
    /// To an outcome query.
    Outcome(OutcomeReply),
    /// To a progress report.
    Progress(ProgressReply),
    /// To a ready: the cohort is formed, and its inputs are masked.
    Draw(DrawCall),
    /// To an advert.
    Roster(Roster),
    /// To a reveal. The driver adds the descriptor, and the proof that the log has only grown from `log_size` to the size that the descriptor names.
    Opening {
        /// The cohort.
        cohort: CohortId,
        /// What all members revealed, in the roster's order.
        nonces: Vec<Digest>,
        /// The member's neighbours.
        neighbours: Vec<NeighbourAdvert>,
        /// The size of the log that the agent knows.
        log_size: u64,
    },
    /// To a reveal: somebody's was missing.
    DrawAgain(DrawCall),
    /// To shares. Not to be sent if the cohort could not be made durable.
    Shares {
        /// The cohort.
        cohort: CohortId,
        /// What was dealt to the agent.
        reply: SharesReply,
    },
    /// To a question for the survivors.
    Survivors(SurvivorsReply),
    /// To a consent.
    Consent(ConsentReply),
    /// To unmask shares.
    Unmask(UnmaskReply),
    /// Refused; nothing was changed.
    Refused {
        /// Which request.
        request: RequestKind,
        /// Why, and what to do about it.
        refusal: Refusal,
    },
}

impl AgentReply {
    /// The kind of request that this answers. [`AgentReply::UploadAllowed`] leaves its request open: [`AgentReply::Accepted`] or a refusal ends it.
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Task { .. } | Self::ComeBack(_) => RequestKind::CheckIn,
            Self::Cohort(_) | Self::Superseded | Self::Draw(_) => RequestKind::Ready,
            Self::Roster(_) => RequestKind::Advert,
            Self::Opening { .. } | Self::DrawAgain(_) => RequestKind::Reveal,
            Self::Shares { .. } => RequestKind::Shares,
            Self::Survivors(_) => RequestKind::Survivors,
            Self::Consent(_) => RequestKind::Consent,
            Self::Unmask(_) => RequestKind::Unmask,
            Self::UploadAllowed { .. } | Self::Accepted => RequestKind::Upload,
            Self::Outcome(_) => RequestKind::Outcome,
            Self::Progress(_) => RequestKind::Progress,
            Self::Refused { request, .. } => *request,
        }
    }
}

/// Everything that a cohort's descriptor needs and the coordinator knows; the driver adds tenant and layout digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CohortTerms {
    /// The job.
    pub job: JobId,
    /// The round, counted from 1.
    pub round: u32,
    /// The cohort.
    pub cohort: CohortId,
    /// The models that its contributions may stand on, newest first: the step is taken from the first.
    pub bases: Vec<Digest>,
    /// Agents in it.
    pub members: u32,
    /// Fewest contributions that will be summed.
    pub floor: u32,
    /// After this no input is taken.
    pub deadline: Timestamp,
    /// How an update becomes integers.
    pub codec: CodecParams,
    /// Whether masks are applied.
    pub mode: AggregationMode,
    /// How, once the graph is drawn.
    #[serde(default)]
    pub secagg: Option<SecAggParams>,
}
