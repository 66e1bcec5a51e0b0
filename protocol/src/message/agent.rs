//! Agent to aggregator, on [`ALPN_AGENT`](crate::frame::ALPN_AGENT).

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::secagg::{Advert, Consent, DrawCall, Reveal, Shares, SurvivorsQuery, Unmask};
use crate::log::BaseProof;
use crate::manifest::Manifest;
use crate::{CohortId, ContributionId, Digest, JobId, PublicKeyBytes, SignatureBytes};

/// What an agent may ask. Each opens its own stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum AgentRequest {
    /// "Is there work for me?" Answered with [`CheckInReply`]; safe to repeat.
    CheckIn(CheckIn),
    /// "Send me this blob." Answered with [`FetchReply`], then the chunks from `from_chunk` on, each a chunk frame.
    Fetch(Fetch),
    /// "I have trained; put me in a cohort." Answered with [`ReadyReply`] when the cohort is formed, which may take long.
    Ready(Ready),
    /// "Here is my update." Answered with [`UploadReply::Resume`], then chunks follow from there, then [`UploadReply::Accepted`]; or
    /// with [`UploadReply::Accepted`] at once when the server has it all.
    Upload(Upload),
    /// "What became of my contribution?" Answered with [`OutcomeReply`] when the round is over, which may take long.
    Outcome(OutcomeQuery),
    /// "Whom do I trust now?" Answered with [`BundleReply`].
    Bundle(BundleQuery),
    /// "Which release do I serve of each of these models, and of others?" Answered with [`ServeReply`]; safe to repeat.
    Serve(ServeQuery),
    /// "I am so far with my work." Answered with [`ProgressReply`]; safe to repeat, and safe to leave out.
    Progress(Progress),
    /// "These are my keys for the cohort." Answered with [`Roster`](super::secagg::Roster).
    Advert(Advert),
    /// "This is my part of the draw." Answered with [`RevealReply`](super::secagg::RevealReply).
    Reveal(Reveal),
    /// "These are shares of my secrets." Answered with [`SharesReply`](super::secagg::SharesReply).
    Shares(Shares),
    /// "Whose inputs are summed?" Answered with [`SurvivorsReply`](super::secagg::SurvivorsReply).
    Survivors(SurvivorsQuery),
    /// "I agree to that set." Answered with [`ConsentReply`](super::secagg::ConsentReply).
    Consent(Consent),
    /// "These shares unmask the sum." Answered with [`UnmaskReply`](super::secagg::UnmaskReply).
    Unmask(Unmask),
}

/// What a device can do; decides which jobs it is offered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Version of the agent program.
    pub agent_version: String,
    /// Logical processors.
    pub cores: u32,
    /// Main memory in bytes; 0 when unknown.
    pub memory_bytes: u64,
    /// Free-form class, for instance `gateway`.
    pub device_class: String,
    /// Tags that jobs may ask for.
    pub tags: Vec<String>,
}

/// See [`AgentRequest::CheckIn`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckIn {
    /// What the device can do.
    pub capabilities: Capabilities,
    /// Names of the data contracts that it holds data for.
    pub contracts: Vec<String>,
    /// Jobs that this agent declines by its own policy.
    pub declined: Vec<JobId>,
    /// Work already trained and not yet known to be included, by job and base model: it is not asked to train that again.
    pub held: Vec<Held>,
    /// Models that this agent will not train from again, because an input that stood on them was unmasked: the newest one of each job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spent: Vec<Held>,
    /// Size of the log as this agent last saw it; 0 where it never did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub log_size: u64,
}

/// A contribution that an agent holds ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The job.
    pub job: JobId,
    /// The base model that it was trained from.
    pub base: Digest,
}

/// See [`AgentRequest::CheckIn`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum CheckInReply {
    /// Train this, or offer again what is held for the same job and base.
    Task(Task),
    /// Nothing now.
    ComeBack(ComeBack),
}

/// Work for an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The job's id: the first half of the SHA-256 of `signed_job`.
    pub job: JobId,
    /// [`SignedJob`](crate::job::SignedJob) as its owner made it.
    pub signed_job: ByteBuf,
    /// The owner's Ed25519 public key.
    pub owner: PublicKeyBytes,
    /// The owner's signature over `signed_job`.
    pub signature: SignatureBytes,
    /// The round that this base belongs to, counted from 1.
    pub round: u32,
    /// The model to start from.
    pub base: Digest,
    /// Its size in bytes.
    pub base_bytes: u64,
    /// Training stops after this time, in milliseconds, and what was done by then counts; none where the round waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_within_ms: Option<u64>,
    /// Shows that `base` is in the server's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Box<BaseProof>>,
}

/// When and why to come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComeBack {
    /// How long to wait.
    pub after_ms: u64,
    /// Why, for people.
    pub reason: String,
    /// If the connection breaks, it is made again after a random part of this time, in milliseconds: a server that comes back does not meet all of its
    /// agents at once.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub spread_ms: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it.
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// See [`AgentRequest::Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The job.
    pub job: JobId,
    /// The base model that is trained from.
    pub base: Digest,
    /// How much of the training is done, 0 to 100.
    pub percent: u8,
}

/// See [`AgentRequest::Progress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgressReply {
    /// Whether the work can still be used. If not, it is dropped and the agent checks in.
    pub wanted: bool,
}

/// See [`AgentRequest::Fetch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fetch {
    /// The blob.
    pub digest: Digest,
    /// First chunk wanted: chunks before it are held and verified already.
    pub from_chunk: u32,
}

/// See [`AgentRequest::Fetch`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FetchReply {
    /// What the blob is made of.
    pub manifest: Manifest,
}

/// See [`AgentRequest::Ready`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// The job.
    pub job: JobId,
    /// The base model that was trained from.
    pub base: Digest,
    /// The work's name.
    pub contribution: ContributionId,
}

/// See [`AgentRequest::Ready`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ReadyReply {
    /// The cohort is formed: read, check and obey this descriptor.
    Cohort(SignedDescriptor),
    /// The cohort is formed, and its inputs are masked: show your keys.
    Draw(DrawCall),
    /// The contribution can't be used any more (its base is superseded, or the job is over): drop it and check in.
    Superseded,
}

/// A [`Descriptor`](crate::descriptor::Descriptor) as received, with the server's signature over exactly these bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedDescriptor {
    /// The descriptor's bytes.
    pub descriptor: ByteBuf,
    /// Ed25519 signature by the key of the server's certificate.
    pub signature: SignatureBytes,
}

/// See [`AgentRequest::Upload`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upload {
    /// The cohort.
    pub cohort: CohortId,
    /// The work.
    pub contribution: ContributionId,
    /// The packed residues, as a blob.
    pub manifest: Manifest,
}

/// See [`AgentRequest::Upload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum UploadReply {
    /// Send the chunks from this one on.
    Resume {
        /// Index of the first chunk that the server lacks.
        next_chunk: u32,
    },
    /// All of it arrived, was checked and is part of the running sum; keep it until the outcome is known.
    Accepted,
}

/// See [`AgentRequest::Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeQuery {
    /// The job.
    pub job: JobId,
    /// The cohort.
    pub cohort: CohortId,
    /// The work.
    pub contribution: ContributionId,
}

/// See [`AgentRequest::Outcome`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum OutcomeReply {
    /// Counted once in the model of this round.
    Included {
        /// The round.
        round: u32,
        /// The model it went into.
        model: Digest,
    },
    /// Never summed; it may be offered again while its base is current.
    NotIncluded,
}

/// See [`AgentRequest::Bundle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleQuery {
    /// Version of the trust bundle that the agent holds.
    pub have_version: u64,
}

/// See [`AgentRequest::Bundle`]; also sent by the authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleReply {
    /// The newer [`SignedBundle`](crate::bundle::SignedBundle) in CBOR, if there is one.
    pub bundle: Option<ByteBuf>,
}

/// See [`AgentRequest::Serve`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeQuery {
    /// The release that this agent was told of last, by model; no model twice. It need not serve it: it may have refused it.
    pub have: Vec<Serving>,
}

/// A release by the model that it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serving {
    /// The model's name in the registry: a label.
    pub model: String,
    /// The release: the job that measured it.
    pub release: JobId,
}

/// See [`AgentRequest::Serve`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeReply {
    /// A release to be served that is not the one that the agent has; the agent asks again for the others. `None` where there is none.
    pub release: Option<Box<SignedRelease>>,
}

/// A release as its owner signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRelease {
    /// The job's id: the first half of the SHA-256 of `signed_job`.
    pub job: JobId,
    /// [`SignedJob`](crate::job::SignedJob) as its owner made it.
    pub signed_job: ByteBuf,
    /// The owner's Ed25519 public key.
    pub owner: PublicKeyBytes,
    /// The owner's signature over `signed_job`.
    pub signature: SignatureBytes,
}
