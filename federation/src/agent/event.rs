//! What the session is told, and what it wants done.

use std::fmt;

use aimass_crypto::sign::PublicKey;
use aimass_protocol::descriptor::Descriptor;
use aimass_protocol::job::JobFile;
use aimass_protocol::log::BaseProof;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{CheckIn, ComeBack, OutcomeQuery, OutcomeReply, Progress, Ready};
use aimass_protocol::message::secagg::{self, Advert, ConsentReply, DrawCall, Opening, Reveal, Roster, SealedShare, Shares};
use aimass_protocol::message::secagg::{SurvivorsQuery, SurvivorsReply, Unmask, UnmaskReply};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId, Timestamp};

use super::{Masks, Report};
use crate::RequestKind;

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The connection that [`Effect::Connect`] asked for stands.
    Connected,
    /// It broke, or could not be made. Requests that were open are asked again after the next [`Event::Connected`].
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// The check-in was answered with work, whose signature the driver has verified.
    Task {
        /// The job.
        job: JobId,
        /// The job file inside the signed job.
        file: Box<JobFile>,
        /// The round that the base belongs to.
        round: u32,
        /// The model to start from.
        base: Digest,
        /// Its size in bytes.
        base_bytes: u64,
        /// What the round leaves for training, in milliseconds.
        finish_within_ms: Option<u64>,
        /// Shows that the base is in the server's log, as received.
        log: Option<Box<BaseProof>>,
        /// The key of the server's certificate, which signs the log's checkpoints.
        server: PublicKey,
    },
    /// The check-in was answered: nothing now.
    ComeBack(ComeBack),
    /// The base model is on disk, whole and verified.
    Fetched {
        /// Which.
        base: Digest,
    },
    /// The base model on disk is not what it was thought to be: it is fetched again.
    BaseLost {
        /// Which.
        base: Digest,
    },
    /// Training is so far. Said as often as the driver likes.
    Progressed {
        /// How much of it is done, 0 to 100.
        percent: u8,
    },
    /// Progress was answered: the work can't be used any more.
    Unwanted {
        /// The job.
        job: JobId,
        /// The model that is trained from.
        base: Digest,
    },
    /// The contribution is trained and durable: the driver keeps its delta under `contribution`.
    Trained {
        /// The job.
        job: JobId,
        /// The model that it was trained from.
        base: Digest,
        /// Its name, drawn at random by the driver.
        contribution: ContributionId,
    },
    /// Training failed, or there is no data for the job.
    TrainFailed {
        /// The job.
        job: JobId,
        /// Why and what to do, for people.
        reason: String,
    },
    /// A ready was answered: this descriptor, parsed, its signature verified.
    Cohort {
        /// The contribution that was offered.
        contribution: ContributionId,
        /// What the server promises and asks for.
        descriptor: Box<Descriptor>,
    },
    /// A ready was answered: the cohort's inputs are masked, and lots are drawn for its graph.
    Draw {
        /// The contribution that was offered.
        contribution: ContributionId,
        /// Which cohort, which draw.
        call: DrawCall,
    },
    /// An advert was answered.
    Roster {
        /// The cohort of the advert.
        cohort: CohortId,
        /// The draw of the advert.
        draw: u8,
        /// Who takes part.
        roster: Roster,
    },
    /// A reveal was answered: the draw is done.
    Opening {
        /// The cohort of the reveal.
        cohort: CohortId,
        /// The draw of the reveal.
        draw: u8,
        /// As received.
        opening: Box<Opening>,
        /// The descriptor inside it, parsed, its signature verified.
        descriptor: Box<Descriptor>,
    },
    /// A reveal was answered: another draw is needed.
    DrawAgain {
        /// The cohort of the reveal.
        cohort: CohortId,
        /// The draw of the reveal.
        draw: u8,
        /// The next one.
        call: DrawCall,
    },
    /// Shares were answered with those of the neighbours.
    SharesReceived {
        /// The cohort.
        cohort: CohortId,
        /// What the neighbours have dealt to this agent.
        shares: Vec<SealedShare>,
    },
    /// The question for the survivors was answered.
    Survivors {
        /// The cohort.
        cohort: CohortId,
        /// The answer.
        reply: SurvivorsReply,
    },
    /// A consent was answered.
    Agreed {
        /// The cohort.
        cohort: CohortId,
        /// The answer.
        reply: ConsentReply,
    },
    /// Unmask shares were answered.
    Unmasked {
        /// The cohort.
        cohort: CohortId,
        /// The answer.
        reply: UnmaskReply,
    },
    /// A ready was answered: the contribution can't be used any more.
    Superseded {
        /// Which.
        contribution: ContributionId,
    },
    /// What the server sent fails a check of the driver: a signature, a layout digest, a job file that does not parse. The job is declined.
    Invalid {
        /// The job that it was about.
        job: JobId,
        /// What is wrong, for people.
        reason: String,
    },
    /// The residues for this cohort are durable.
    Encoded {
        /// The contribution.
        contribution: ContributionId,
        /// The cohort.
        cohort: CohortId,
    },
    /// The contribution can't be encoded (not finite, wrong length): it is of no use.
    EncodeFailed {
        /// Which.
        contribution: ContributionId,
        /// Why, for people.
        reason: String,
    },
    /// The residues on disk are damaged or gone.
    ResiduesLost {
        /// The contribution.
        contribution: ContributionId,
        /// The cohort.
        cohort: CohortId,
    },
    /// The upload is complete and in the running sum.
    Accepted {
        /// The contribution.
        contribution: ContributionId,
        /// The cohort.
        cohort: CohortId,
    },
    /// The outcome is known.
    Outcome {
        /// Of which contribution.
        contribution: ContributionId,
        /// What became of it.
        reply: OutcomeReply,
    },
    /// The server refused the open request of this kind.
    Refused {
        /// Which request.
        request: RequestKind,
        /// Why.
        refusal: Refusal,
    },
    /// The open request of this kind came to nothing although the connection stands: its stream was reset, the disk is full.
    Failed {
        /// Which request.
        request: RequestKind,
        /// Why, for people.
        reason: String,
    },
    /// Time passed: [`poll_timeout`](super::Session::poll_timeout) is reached. Also the first event of a session.
    Tick,
}

/// What the driver has to do, in this order. A new request replaces an open one of the same kind: its stream is closed and its answer ignored.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Connect to the server; then [`Event::Connected`] or [`Event::Disconnected`].
    Connect,
    /// Ask for work; then [`Event::Task`], [`Event::ComeBack`] or a refusal.
    CheckIn(CheckIn),
    /// Fetch a base model (what is on disk already is not fetched again); then [`Event::Fetched`] or a refusal.
    Fetch {
        /// For which job.
        job: JobId,
        /// The model.
        base: Digest,
        /// Its announced size in bytes.
        base_bytes: u64,
    },
    /// Train, from the checkpoint that there is for the same job and base, if any; then [`Event::Trained`], [`Event::TrainFailed`] or
    /// [`Event::BaseLost`], and [`Event::Progressed`] on the way. Goes on without a connection.
    Train {
        /// The job, as the task brought it.
        job: JobId,
        /// The round.
        round: u32,
        /// The model to start from.
        base: Digest,
        /// Training stops at the first step after this, and what was done counts.
        finish_by: Option<Timestamp>,
    },
    /// Tell how far training is; then [`Event::Unwanted`] if that is the answer. Nothing depends on any other answer, nor on there being one.
    Progress(Progress),
    /// Stop what is done for this task, and delete what is kept for it: its signed job and the checkpoint.
    DropTask {
        /// The job.
        job: JobId,
        /// The base model.
        base: Digest,
    },
    /// Offer a contribution; then [`Event::Cohort`], [`Event::Draw`], [`Event::Superseded`] or a refusal.
    Offer(Ready),
    /// Show the other members these keys; then [`Event::Roster`] or a refusal.
    Advertise(Advert),
    /// Reveal this part of the draw; then [`Event::Opening`], [`Event::DrawAgain`] or a refusal.
    Reveal(Reveal),
    /// Give these shares to the neighbours; then [`Event::SharesReceived`] or a refusal.
    DealShares(Shares),
    /// Turn the contribution's delta into residues under this descriptor, lay the masks over them, and make them durable; then [`Event::Encoded`] or
    /// [`Event::EncodeFailed`]. Residues that are on disk for the same contribution and cohort are kept as they are.
    Encode {
        /// The contribution.
        contribution: ContributionId,
        /// The agreed terms.
        descriptor: Box<Descriptor>,
        /// There exactly when the descriptor's mode is secure: residues without their masks must not reach the disk then.
        masks: Option<Masks>,
    },
    /// Upload the encoded residues, or the rest of them; then [`Event::Accepted`], [`Event::ResiduesLost`] or a refusal.
    Upload {
        /// The contribution.
        contribution: ContributionId,
        /// The cohort.
        cohort: CohortId,
    },
    /// Ask whose inputs are summed; then [`Event::Survivors`] or a refusal.
    AskSurvivors(SurvivorsQuery),
    /// Agree to the survivors; then [`Event::Agreed`] or a refusal.
    Consent(secagg::Consent),
    /// Release these shares, which unmask the sum; then [`Event::Unmasked`] or a refusal.
    Unmask(Unmask),
    /// Ask what became of a contribution; then [`Event::Outcome`] or a refusal.
    AskOutcome(OutcomeQuery),
    /// Make [`Session::snapshot`](super::Session::snapshot), as it is after this step, durable before the effects that follow.
    Persist,
    /// Delete the residues of this contribution for this cohort: they will never be sent again.
    DiscardUpload {
        /// The contribution.
        contribution: ContributionId,
        /// The cohort.
        cohort: CohortId,
    },
    /// Delete everything kept for this contribution.
    Discard {
        /// Which.
        contribution: ContributionId,
    },
    /// For people: this contribution was counted once in the model of this round.
    Included {
        /// The job.
        job: JobId,
        /// Which.
        contribution: ContributionId,
        /// The round.
        round: u32,
        /// The model.
        model: Digest,
    },
    /// For people: nothing to do until then ([`poll_timeout`](super::Session::poll_timeout) says when to tick).
    Sleep {
        /// When it goes on.
        until: Timestamp,
        /// Why it waits.
        reason: String,
    },
    /// Keep this for people: the server did what only a server does that breaks the protocol. A warning follows.
    Report(Report),
    /// For people and counters: something is wrong or was declined.
    Warn(Warning),
}

/// What a person should know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// The server can't be reached.
    Unreachable {
        /// Why.
        reason: String,
    },
    /// The server refused a request.
    Refused {
        /// Which.
        request: RequestKind,
        /// Why.
        refusal: Refusal,
    },
    /// A request came to nothing.
    Failed {
        /// Which.
        request: RequestKind,
        /// Why.
        reason: String,
    },
    /// A job is declined, by policy or because it can't be done here.
    Declined {
        /// The job.
        job: JobId,
        /// Why and what could be changed.
        reason: String,
    },
    /// Members of a cohort have sealed shares that can't be opened. The cohort goes on; it can't do without so many others then.
    UnreadableShares {
        /// The cohort.
        cohort: CohortId,
        /// Who sealed them.
        from: Vec<AgentId>,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { reason } => write!(f, "the server can't be reached: {reason}"),
            Self::Refused { request, refusal } => write!(f, "the server refused a {request} request: {refusal}"),
            Self::Failed { request, reason } => write!(f, "a {request} request failed: {reason}"),
            Self::Declined { job, reason } => write!(f, "job {job} is declined: {reason}"),
            Self::UnreadableShares { cohort, from } => {
                write!(
                    f,
                    "in cohort {cohort}, {} member(s) sealed shares that can't be opened:",
                    from.len()
                )?;
                from.iter().try_for_each(|agent| write!(f, " {agent}"))
            }
        }
    }
}
