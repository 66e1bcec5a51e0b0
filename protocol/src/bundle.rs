//! The trust bundle: which roots and which job owners a fleet trusts. Signed by every root that it holds and by the roots before
//! it, so that a fleet follows a root rollover without trusting a newcomer.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::{PublicKeyBytes, SignatureBytes, TenantId, Timestamp};

/// What is trusted, from `version` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustBundle {
    /// Grows by one with each change; an older bundle is never taken after a newer one.
    pub version: u64,
    /// When it was made.
    pub issued_at: Timestamp,
    /// Root certificates (DER), the one that issues first.
    pub roots: Vec<ByteBuf>,
    /// Keys that may sign jobs.
    pub owners: Vec<TrustedOwner>,
}

/// A key that may sign a tenant's jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustedOwner {
    /// The tenant whose agents trust it.
    pub tenant: TenantId,
    /// A name for people.
    pub name: String,
    /// Its Ed25519 public key.
    pub public_key: PublicKeyBytes,
}

/// A bundle as received, with signatures over exactly these bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedBundle {
    /// [`TrustBundle`] in CBOR.
    pub bundle: ByteBuf,
    /// By roots of this bundle and of the one before.
    pub signatures: Vec<RootSignature>,
}

/// One root's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootSignature {
    /// The root's Ed25519 public key.
    pub root: PublicKeyBytes,
    /// Its signature over the bundle's bytes as received.
    pub signature: SignatureBytes,
}
