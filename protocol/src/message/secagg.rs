//! Secure aggregation, agent to aggregator: the steps between an offer and the outcome. `docs/secure-aggregation.md` describes them.
//!
//! Every request may be repeated: the same again is answered the same again, another one is refused.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_bytes::ByteBuf;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::agent::SignedDescriptor;
use crate::{AgentId, CohortId, ContributionId, Digest, JobId, SignatureBytes};

/// "Draw lots for the cohort's graph with the others."
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrawCall {
    /// The cohort.
    pub cohort: CohortId,
    /// Which draw it is, counted from 1.
    pub draw: u8,
}

/// What a member shows all others of its ephemeral keys. Answered with [`Roster`] when all have shown theirs, which may take long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advert {
    /// The cohort.
    pub cohort: CohortId,
    /// The draw.
    pub draw: u8,
    /// X25519 public key of the pairwise masks.
    pub mask_key: Digest,
    /// X25519 public key that shares are sealed to.
    pub seal_key: Digest,
    /// SHA-256 of the self mask's secret.
    pub self_commitment: Digest,
    /// SHA-256 of the member's part of the draw.
    pub draw_commitment: Digest,
    /// The member's certificate (DER).
    pub certificate: ByteBuf,
    /// Ed25519 signature by the certificate's key over all of this but the certificate.
    pub signature: SignatureBytes,
    /// Size of the log that the agent knows: it is shown that the log has only grown since.
    #[serde(default)]
    pub log_size: u64,
}

/// Answer to [`Advert`]: who takes part, ascending by id. A member's place in it is its index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Roster {
    /// The members.
    pub members: Vec<RosterEntry>,
}

/// A member of a [`Roster`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterEntry {
    /// Who.
    pub agent: AgentId,
    /// From its advert.
    pub draw_commitment: Digest,
}

/// The member's part of the draw. Answered with [`RevealReply`] when all have revealed theirs, which may take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// The cohort.
    pub cohort: CohortId,
    /// The draw.
    pub draw: u8,
    /// What the member committed to.
    pub nonce: Digest,
}

/// Answer to [`Reveal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum RevealReply {
    /// The draw is done.
    Opening(Opening),
    /// A member did not reveal its part: the others draw again, with new keys.
    DrawAgain(DrawCall),
}

/// The cohort's terms, and the neighbours that the draw gave a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The terms: read, check and obey them.
    pub descriptor: SignedDescriptor,
    /// What all members revealed, in the roster's order.
    pub nonces: Vec<Digest>,
    /// The adverts of the member's neighbours.
    pub neighbours: Vec<NeighbourAdvert>,
    /// RFC 6962 consistency proof from the log that the agent knows to the one that the descriptor names.
    pub log_consistency: Vec<Digest>,
}

/// Another member's advert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourAdvert {
    /// Whose.
    pub agent: AgentId,
    /// See [`Advert::mask_key`].
    pub mask_key: Digest,
    /// See [`Advert::seal_key`].
    pub seal_key: Digest,
    /// See [`Advert::self_commitment`].
    pub self_commitment: Digest,
    /// See [`Advert::draw_commitment`].
    pub draw_commitment: Digest,
    /// See [`Advert::certificate`].
    pub certificate: ByteBuf,
    /// See [`Advert::signature`].
    pub signature: SignatureBytes,
}

/// Sealed shares of a member's secrets, one for each neighbour. Answered with [`SharesReply`] when all have sent theirs, which may take long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// The cohort.
    pub cohort: CohortId,
    /// The shares; `agent` is who may open it.
    pub shares: Vec<SealedShare>,
}

/// Two shares that one member sealed for another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedShare {
    /// The other member: the recipient on the way to the server, the dealer on the way from it.
    pub agent: AgentId,
    /// ChaCha20-Poly1305 ciphertext of both shares: [`SealedShare::SEALED_BYTES`] long.
    pub sealed: ByteBuf,
    /// The dealer's Ed25519 signature.
    pub signature: SignatureBytes,
}

impl SealedShare {
    /// Length of a sealed pair of shares: two scalars and a tag.
    pub const SEALED_BYTES: usize = 80;
}

/// Answer to [`Shares`]: those of the neighbours that sent theirs. With them the member lays pairwise masks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharesReply {
    /// The shares; `agent` is who dealt it.
    pub shares: Vec<SealedShare>,
}

/// "Whose inputs are summed?" Answered with [`SurvivorsReply`] when that is settled, which may take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurvivorsQuery {
    /// The job.
    pub job: JobId,
    /// The cohort.
    pub cohort: CohortId,
    /// The work.
    pub contribution: ContributionId,
}

/// Answer to [`SurvivorsQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum SurvivorsReply {
    /// The inputs that the sum is made of: bit i % 8 of byte i / 8 is the member with index i.
    Set(ByteBuf),
    /// The asking member's input is in no sum: it may be offered again while its base is current.
    NotIncluded,
}

/// "I agree to this set, and to no other." Answered with [`ConsentReply`] when enough neighbours do, which may take long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Consent {
    /// The cohort.
    pub cohort: CohortId,
    /// Ed25519 signature over the descriptor's digest and the set.
    pub signature: SignatureBytes,
}

/// Answer to [`Consent`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ConsentReply {
    /// Neighbours that agree to the same set.
    Agreed(Vec<Agreement>),
    /// Too few agree: nothing is unmasked, and the input may be offered again while its base is current.
    NotIncluded,
}

/// A member's signature under a set of survivors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Who.
    pub agent: AgentId,
    /// See [`Consent::signature`].
    pub signature: SignatureBytes,
}

/// The shares that unmask the sum: of a survivor's self mask, of another member's mask key. Answered with [`UnmaskReply`] when the server has made
/// them durable, which may take long.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unmask {
    /// The cohort.
    pub cohort: CohortId,
    /// The member's own [`Consent::signature`], should the server have lost it.
    pub consent: SignatureBytes,
    /// One share of each member whose shares this one holds.
    pub shares: Vec<UnmaskShare>,
}

/// A share of one member's secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnmaskShare {
    /// Whose secret.
    pub agent: AgentId,
    /// The share.
    pub share: ShareBytes,
}

/// Answer to [`Unmask`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum UnmaskReply {
    /// The sum will be unmasked: the outcome says what became of it.
    Taken,
    /// Too few shares came: the sum stays masked for ever. The input is spent all the same.
    Abandoned,
}

/// A share as it travels: zeroized on drop, compared in constant time, never shown by `Debug`.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ShareBytes([u8; Self::LEN]);

impl ShareBytes {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// Wraps a share.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The bytes, to be sent or reconstructed from and for nothing else.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl PartialEq for ShareBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for ShareBytes {}

impl fmt::Debug for ShareBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ShareBytes(redacted)")
    }
}

impl Serialize for ShareBytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for ShareBytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Ok(Self(serde_bytes::ByteArray::<{ Self::LEN }>::deserialize(d)?.into_array()))
    }
}
