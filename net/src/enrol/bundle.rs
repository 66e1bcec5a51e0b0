//! Trust bundles as bytes: made by the authority, taken by everybody else only from a root that is trusted already.

use aimass_crypto::cert;
use aimass_crypto::sign::{Context, PublicKey, SigningKey};
use aimass_protocol::bundle::{RootSignature, SignedBundle, TrustBundle};
use aimass_protocol::{Digest, PublicKeyBytes, SignatureBytes, TenantId, codec};
use serde_bytes::ByteBuf;

/// A bundle that is not taken; the one held stays.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Its bytes are not a bundle of this version, it holds no root (a fleet that took it could never be reached again), or too much.
    #[error("the trust bundle does not parse: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// Nobody who is trusted already vouches for it.
    #[error(
        "the trust bundle is not signed by a root that is trusted here: it is another deployment's, or ours was retired in the meantime; join again with a new token"
    )]
    Untrusted,
    /// It is older than the one held.
    #[error("the trust bundle has version {got}, but version {have} is held already")]
    Older {
        /// The version held.
        have: u64,
        /// The version received.
        got: u64,
    },
    /// It can't be made: it would hold no root, or too much.
    #[error("the trust bundle can't be encoded: {reason}")]
    Encode {
        /// Why.
        reason: String,
    },
}

/// A [`TrustBundle`] with the signed bytes that it was read from, which are what is stored and passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    bytes: Vec<u8>,
    content: TrustBundle,
}

impl Bundle {
    /// Signs `content` with every key of `signers`. For the authority.
    ///
    /// # Errors
    /// [`BundleError`] when the result would be refused by those it is for.
    pub fn sign<'a>(content: &TrustBundle, signers: impl IntoIterator<Item = &'a SigningKey>) -> Result<Self, BundleError> {
        let encode = |e: codec::EncodeError| BundleError::Encode { reason: e.to_string() };
        let bundle = codec::encode(content).map_err(encode)?;
        let signatures = signers
            .into_iter()
            .map(|key| RootSignature {
                root: PublicKeyBytes::from_bytes(*key.public().as_bytes()),
                signature: SignatureBytes::from_bytes(key.sign(Context::Bundle, &bundle)),
            })
            .collect();
        let bytes = codec::encode(&SignedBundle {
            bundle: ByteBuf::from(bundle),
            signatures,
        })
        .map_err(encode)?;
        Self::from_trusted_bytes(&bytes)
    }

    /// Reads a bundle from a place that is trusted (an own folder): it must be signed by one of its own roots, so that damage is noticed.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn from_trusted_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        let (signed, content) = read(bytes)?;
        let roots = root_keys(&content)?;
        require_signature(&signed, &roots)?;
        Ok(Self {
            bytes: bytes.to_vec(),
            content,
        })
    }

    /// Reads a first bundle: it must hold the root whose SPKI hash is `root_spki` (from a join token) and be signed by it.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn from_pinned(bytes: &[u8], root_spki: &Digest) -> Result<Self, BundleError> {
        let (signed, content) = read(bytes)?;
        root_keys(&content)?;
        let pinned = content
            .roots
            .iter()
            .find(|der| cert::spki_sha256(der).is_ok_and(|spki| spki == *root_spki.as_bytes()));
        let key = pinned
            .and_then(|der| cert::root_public_key(der).ok())
            .ok_or(BundleError::Untrusted)?;
        require_signature(&signed, &[key])?;
        Ok(Self {
            bytes: bytes.to_vec(),
            content,
        })
    }

    /// What follows this bundle when `received` arrives: the received one if it is newer and signed by a root of this one, `None` if it
    /// has the same version.
    ///
    /// # Errors
    /// [`BundleError`] when it may not be taken; this one stays in force.
    pub fn accept(&self, received: &[u8]) -> Result<Option<Self>, BundleError> {
        let (signed, content) = read(received)?;
        root_keys(&content)?;
        require_signature(&signed, &root_keys(&self.content)?)?;
        match content.version.cmp(&self.content.version) {
            std::cmp::Ordering::Less => Err(BundleError::Older {
                have: self.content.version,
                got: content.version,
            }),
            std::cmp::Ordering::Equal => Ok(None),
            std::cmp::Ordering::Greater => Ok(Some(Self {
                bytes: received.to_vec(),
                content,
            })),
        }
    }

    /// The [`SignedBundle`] in CBOR, exactly as it was received.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it says.
    pub fn content(&self) -> &TrustBundle {
        &self.content
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.content.version
    }

    /// Its root certificates (DER), the one that issues first.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.content.roots.iter().map(|der| der.as_slice())
    }

    /// Whether `key` may sign `tenant`'s jobs.
    pub fn trusts_owner(&self, tenant: &TenantId, key: &PublicKey) -> bool {
        self.content
            .owners
            .iter()
            .any(|owner| owner.tenant == *tenant && owner.public_key.as_bytes() == key.as_bytes())
    }

    /// Whether one of this bundle's roots has signed `other`.
    pub fn vouches_for(&self, other: &Self) -> bool {
        let Ok(keys) = root_keys(&self.content) else { return false };
        read(&other.bytes).is_ok_and(|(signed, _)| require_signature(&signed, &keys).is_ok())
    }
}

/// What follows `current` when `received` arrives: see [`Bundle::accept`].
///
/// # Errors
/// [`BundleError`]; `current` stays in force.
pub fn accept_bundle(current: &Bundle, received: &[u8]) -> Result<Option<Bundle>, BundleError> {
    current.accept(received)
}

fn read(bytes: &[u8]) -> Result<(SignedBundle, TrustBundle), BundleError> {
    let malformed = |e: codec::DecodeError| BundleError::Malformed { reason: e.to_string() };
    let signed: SignedBundle = codec::decode(bytes).map_err(malformed)?;
    let content: TrustBundle = codec::decode(&signed.bundle).map_err(malformed)?;
    Ok((signed, content))
}

fn root_keys(content: &TrustBundle) -> Result<Vec<PublicKey>, BundleError> {
    let key = |der: &ByteBuf| {
        cert::root_public_key(der).map_err(|e| BundleError::Malformed {
            reason: format!("a root: {e}"),
        })
    };
    content.roots.iter().map(key).collect()
}

/// One good signature by a trusted key is enough; signatures by unknown keys say nothing.
fn require_signature(signed: &SignedBundle, trusted: &[PublicKey]) -> Result<(), BundleError> {
    let good = |s: &RootSignature| {
        let key = trusted.iter().find(|key| key.as_bytes() == s.root.as_bytes());
        key.is_some_and(|key| key.verify(Context::Bundle, &signed.bundle, s.signature.as_bytes()).is_ok())
    };
    if signed.signatures.iter().any(good) {
        Ok(())
    } else {
        Err(BundleError::Untrusted)
    }
}
