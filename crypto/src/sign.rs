//! Ed25519 keys (RFC 8032) and domain-separated signatures.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rand_core::CryptoRng;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::hash::{first_half, sha256};

/// PKCS#8 version 1 (RFC 5958, RFC 8410) of an Ed25519 seed, up to the seed itself.
const PKCS8_PREFIX: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// What a signature is for. The signed bytes are `context || 0x00 || message`, so a signature for one purpose is none for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Context {
    /// A job by its owner: "aimass job v1".
    Job,
    /// A cohort descriptor by its server: "aimass descriptor v1".
    Descriptor,
    /// A trust bundle by a root: "aimass bundle v1".
    Bundle,
    /// An agent's keys for one draw of a cohort: "aimass advert v1".
    Advert,
    /// A sealed share by its dealer: "aimass share v1".
    Share,
    /// The survivors of a cohort by one of them: "aimass survivors v1".
    Survivors,
}

impl Context {
    /// The text that goes in front of the message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Job => "aimass job v1",
            Self::Descriptor => "aimass descriptor v1",
            Self::Bundle => "aimass bundle v1",
            Self::Advert => "aimass advert v1",
            Self::Share => "aimass share v1",
            Self::Survivors => "aimass survivors v1",
        }
    }

    fn wrap(self, message: &[u8]) -> Vec<u8> {
        [self.as_str().as_bytes(), &[0], message].concat()
    }
}

/// What a signed note says (C2SP signed-note), and may be signed without a [`Context`]: one line or more of UTF-8 without control characters.
///
/// A signature over a note is none over anything else that this key signs, and none of those is one over a note:
/// - what is signed with a context holds the NUL byte after it, and a note none;
/// - so does what TLS 1.3 signs, after its own context (RFC 8446, section 4.4.3);
/// - certificates and signing requests are DER, whose tag of an integer, 0x02, is there for their version, serial number or key usage; a note has no
///   such control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoteText<'a>(&'a str);

impl<'a> NoteText<'a> {
    /// The text, if it is one.
    pub fn new(text: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let is_lines = text.ends_with('\n') && !text.contains(|c: char| c.is_control() && c != '\n');
        is_lines.then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

/// A private key. `Debug` shows the public half; the seed is zeroized on drop.
pub struct SigningKey {
    seed: Zeroizing<[u8; 32]>,
    public: PublicKey,
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

/// A signature that does not hold, a key that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The signature is not this key's over these bytes.
    #[error("the signature does not match")]
    BadSignature,
    /// Not a key.
    #[error("this is not an Ed25519 key: {reason}")]
    BadKey {
        /// Why.
        reason: String,
    },
}

impl SigningKey {
    /// A new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self::from_seed(seed)
    }

    /// From PKCS#8 PEM, as [`Self::to_pem`] and `openssl genpkey -algorithm ed25519` write it.
    ///
    /// # Errors
    /// [`SignError::BadKey`].
    pub fn from_pem(pem: &str) -> Result<Self, SignError> {
        let bad = |reason: &str| SignError::BadKey { reason: reason.to_owned() };
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| bad("expected PEM with one PRIVATE KEY (PKCS#8)"))?;
        Self::from_pkcs8_der(der.secret_pkcs8_der())
    }

    /// From PKCS#8 DER, version 1 without attributes.
    ///
    /// # Errors
    /// [`SignError::BadKey`].
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, SignError> {
        let seed: Option<&[u8; 32]> = der.strip_prefix(&PKCS8_PREFIX).and_then(|seed| seed.try_into().ok());
        let seed = seed.ok_or_else(|| SignError::BadKey {
            reason: "expected PKCS#8 version 1 with an Ed25519 seed of 32 bytes".to_owned(),
        })?;
        Ok(Self::from_seed(Zeroizing::new(*seed)))
    }

    /// PKCS#8 PEM, for a file of mode 0600.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let body = Zeroizing::new(STANDARD.encode(&*self.to_pkcs8_der()));
        Zeroizing::new(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", &*body))
    }

    /// PKCS#8 DER, for rustls.
    pub fn to_pkcs8_der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([&PKCS8_PREFIX[..], &self.seed[..]].concat())
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        self.public
    }

    pub(crate) fn public_ref(&self) -> &PublicKey {
        &self.public
    }

    /// Signs. Deterministic: the same key and bytes give the same signature.
    pub fn sign(&self, context: Context, message: &[u8]) -> [u8; 64] {
        self.sign_raw(&context.wrap(message))
    }

    /// Signs a note, by C2SP signed-note without a context: [`NoteText`] says why that is safe.
    pub fn sign_note(&self, text: NoteText<'_>) -> [u8; 64] {
        self.sign_raw(text.as_str().as_bytes())
    }

    /// Signs without a context: for X.509 and notes, which have structures of their own.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        // ring's key pair does not wipe itself, so it lives only as long as the signature takes (its set-up is one more scalar multiplication).
        let mut out = [0; 64];
        out.copy_from_slice(key_pair(&self.seed).sign(message).as_ref());
        out
    }

    fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let mut public = [0; 32];
        public.copy_from_slice(key_pair(&seed).public_key().as_ref());
        Self {
            seed,
            public: PublicKey(public),
        }
    }
}

fn key_pair(seed: &[u8; 32]) -> Ed25519KeyPair {
    // The length is the only thing that ring checks.
    Ed25519KeyPair::from_seed_unchecked(seed).expect("any 32 bytes are an Ed25519 seed")
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl PublicKey {
    /// From 32 bytes.
    ///
    /// # Errors
    /// [`SignError::BadKey`] for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignError> {
        let bytes = bytes.try_into().map_err(|_| SignError::BadKey {
            reason: format!("expected 32 bytes, not {}", bytes.len()),
        })?;
        Ok(Self(bytes))
    }

    /// From 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`SignError::BadKey`].
    pub fn from_hex(text: &str) -> Result<Self, SignError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| SignError::BadKey {
            reason: "expected 64 hexadecimal digits".to_owned(),
        })?;
        Ok(Self(bytes))
    }

    /// 64 hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex::encode(self.0)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature.
    ///
    /// # Errors
    /// [`SignError::BadSignature`].
    pub fn verify(&self, context: Context, message: &[u8], signature: &[u8]) -> Result<(), SignError> {
        self.verify_raw(&context.wrap(message), signature)
    }

    /// Checks a signature over a note.
    ///
    /// # Errors
    /// [`SignError::BadSignature`].
    pub fn verify_note(&self, text: NoteText<'_>, signature: &[u8]) -> Result<(), SignError> {
        self.verify_raw(text.as_str().as_bytes(), signature)
    }

    pub(crate) fn verify_raw(&self, message: &[u8], signature: &[u8]) -> Result<(), SignError> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .map_err(|_| SignError::BadSignature)
    }

    /// First 16 bytes of SHA-256 of the key: an agent's id.
    pub fn fingerprint(&self) -> [u8; 16] {
        first_half(sha256(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", hex::encode(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests;
