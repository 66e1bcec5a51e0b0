//! Who we are and whom we trust: TLS 1.3 only, ring only, no resumption, no early data.
//!
//! Resumption is off: a resumed handshake does not verify the client's certificate again, so a ticket from the renewal protocol (where expired
//! certificates pass) would open every other one. Verifying again by hand costs what resumption saves, a few signature checks.

/// What rustls asks of a verifier on either side in the same words: a handshake's signature is one of TLS 1.3 that ring verifies.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &rustls::pki_types::CertificateDer<'_>,
            signature: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let algorithms = &super::provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            super::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aimass_crypto::cert;
use aimass_crypto::hash::Sha256;
use aimass_crypto::sign::{PublicKey, SigningKey};
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

pub(crate) use client::client_config;
pub(crate) use server::{ServerTls, SessionTls};

use crate::TlsError;

/// A certificate chain (leaf first, DER) and its private key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<Vec<u8>>,
    public: PublicKey,
    key_pkcs8: Zeroizing<Vec<u8>>,
}

impl Identity {
    /// `chain`: the leaf's DER first; the authority adds its root, so that joining devices can check it against their token.
    pub fn new(chain: Vec<Vec<u8>>, key: &SigningKey) -> Self {
        Self {
            chain,
            public: key.public(),
            key_pkcs8: key.to_pkcs8_der(),
        }
    }

    /// The chain, leaf first (DER).
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.chain
    }

    /// Key of this service's stateless resets and connection ids: the same after every restart, and known to nobody else.
    pub(crate) fn reset_key(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"aimass stateless reset v1\0");
        hash.update(&self.key_pkcs8);
        hash.finish()
    }

    /// For rustls, after checking that the leaf is ours and of this key.
    fn parts(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TlsError> {
        let bad = |reason: String| TlsError::Identity { reason };
        let leaf = self.chain.first().ok_or_else(|| bad("there is no certificate".to_owned()))?;
        let info = cert::parse(leaf).map_err(|e| bad(e.to_string()))?;
        if info.public_key != self.public {
            return Err(bad("the certificate is of another key".to_owned()));
        }
        let chain = self.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
        Ok((chain, PrivatePkcs8KeyDer::from(self.key_pkcs8.to_vec()).into()))
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}

/// What a client accepts a server's certificate from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Root certificates (DER); several while a root is being replaced.
    Roots(Vec<Vec<u8>>),
    /// SHA-256 of a root's SubjectPublicKeyInfo, from a join token: the server must send that root in its chain.
    PinnedRoot([u8; 32]),
}

/// What a service asks of its clients' certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for.
    None,
    /// One is asked for; a client without one is let in.
    Optional {
        /// How long after its end a certificate still passes.
        allow_expired: Option<Duration>,
    },
    /// A client without one is refused.
    Required {
        /// How long after its end a certificate still passes.
        allow_expired: Option<Duration>,
    },
}

/// ring with AES-128-GCM first (fast where the CPU has AES), ChaCha20-Poly1305 for the rest, TLS 1.3 suites only.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || {
        let suites = vec![
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
            cipher_suite::TLS13_AES_256_GCM_SHA384,
        ];
        Arc::new(CryptoProvider {
            cipher_suites: suites,
            ..default_provider()
        })
    };
    Arc::clone(PROVIDER.get_or_init(make))
}

/// The anchors for webpki, after checking that each is a root of our kind.
fn anchors(roots: &[Vec<u8>]) -> Result<Arc<RootCertStore>, TlsError> {
    let bad = |reason: String| TlsError::Trust { reason };
    if roots.is_empty() {
        return Err(bad("there is none".to_owned()));
    }
    let mut store = RootCertStore::empty();
    for root in roots {
        cert::root_public_key(root).map_err(|e| bad(e.to_string()))?;
        store.add(CertificateDer::from(root.clone())).map_err(|e| bad(e.to_string()))?;
    }
    Ok(Arc::new(store))
}
