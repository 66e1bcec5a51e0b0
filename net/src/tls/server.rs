//! The server's side: which clients it lets in, decided by the application protocol that they ask for.
//!
//! rustls chooses the application protocol and the certificate verifier in one configuration, whereas here the protocol decides what is verified.
//! So every session gets a [`SessionTls`] of its own: as the certificate resolver it sees the client's protocols first, as the verifier it then asks
//! for what the chosen one demands. [`SessionTls::admits`] checks after the handshake that rustls chose the same.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aimass_crypto::cert;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DistinguishedName, Error, ServerConfig};

use super::{ClientAuth, Identity, anchors, provider};
use crate::TlsError;

/// No protocol is chosen yet.
const NONE_YET: usize = usize::MAX;

/// What all sessions of a server share until it is reloaded.
pub(crate) struct ServerTls {
    certified: Arc<CertifiedKey>,
    clients: Arc<dyn ClientCertVerifier>,
    services: Arc<[(Vec<u8>, ClientAuth)]>,
}

impl ServerTls {
    pub(crate) fn new(identity: &Identity, services: Arc<[(Vec<u8>, ClientAuth)]>, roots: &[Vec<u8>]) -> Result<Self, TlsError> {
        let (chain, key) = identity.parts()?;
        let certified = CertifiedKey::from_der(chain, key, &provider()).map_err(|e| TlsError::Identity { reason: e.to_string() })?;
        let clients = WebPkiClientVerifier::builder_with_provider(anchors(roots)?, provider()).build();
        let clients = clients.map_err(|e| TlsError::Trust { reason: e.to_string() })?;
        Ok(Self {
            certified: Arc::new(certified),
            clients,
            services,
        })
    }

    /// For one handshake.
    pub(crate) fn session(self: &Arc<Self>) -> Result<(Arc<SessionTls>, ServerConfig), TlsError> {
        let session = Arc::new(SessionTls {
            server: Arc::clone(self),
            chosen: AtomicUsize::new(NONE_YET),
        });
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| TlsError::Identity { reason: e.to_string() })?;
        let verifier: Arc<dyn ClientCertVerifier> = Arc::<SessionTls>::clone(&session);
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<SessionTls>::clone(&session);
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
        config.alpn_protocols = self.services.iter().map(|(alpn, _)| alpn.clone()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok((session, config))
    }
}

/// One handshake.
pub(crate) struct SessionTls {
    server: Arc<ServerTls>,
    /// Index into the services.
    chosen: AtomicUsize,
}

impl SessionTls {
    /// Whether the session that rustls negotiated is the one that was verified.
    pub(crate) fn admits(&self, alpn: &[u8], has_certificate: bool) -> bool {
        let chosen = self.server.services.get(self.chosen.load(Ordering::Acquire));
        chosen.is_some_and(|(name, auth)| {
            name == alpn
                && match auth {
                    ClientAuth::None => !has_certificate,
                    ClientAuth::Optional { .. } => true,
                    ClientAuth::Required { .. } => has_certificate,
                }
        })
    }

    /// The strictest demand as long as no protocol is chosen.
    fn auth(&self) -> ClientAuth {
        let chosen = self.server.services.get(self.chosen.load(Ordering::Acquire));
        chosen.map_or(ClientAuth::Required { allow_expired: None }, |(_, auth)| *auth)
    }
}

impl ResolvesServerCert for SessionTls {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // The same choice as rustls makes next: the first of ours that the client offers. It is called again after a HelloRetryRequest.
        let offered: Vec<&[u8]> = hello.alpn().map(Iterator::collect).unwrap_or_default();
        let chosen = self.server.services.iter().position(|(ours, _)| offered.contains(&ours.as_slice()));
        self.chosen.store(chosen.unwrap_or(NONE_YET), Ordering::Release);
        Some(Arc::clone(&self.server.certified))
    }
}

impl ClientCertVerifier for SessionTls {
    fn offer_client_auth(&self) -> bool {
        self.auth() != ClientAuth::None
    }

    fn client_auth_mandatory(&self) -> bool {
        matches!(self.auth(), ClientAuth::Required { .. })
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Clients have one certificate; hints would only cost bytes.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let info = cert::parse(end_entity).map_err(|_| CertificateError::ApplicationVerificationFailure)?;
        let at = match self.auth() {
            ClientAuth::None => return Err(CertificateError::ApplicationVerificationFailure.into()),
            ClientAuth::Optional { allow_expired } | ClientAuth::Required { allow_expired } => {
                verification_time(now, info.not_after_s, allow_expired)
            }
        };
        self.server.clients.verify_client_cert(end_entity, intermediates, at)
    }

    handshake_signatures!();
}

impl fmt::Debug for SessionTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionTls").finish_non_exhaustive()
    }
}

/// When the chain is verified: now, or at the certificate's end where it has been over for no longer than `allow_expired`.
pub(super) fn verification_time(now: UnixTime, not_after_s: i64, allow_expired: Option<Duration>) -> UnixTime {
    match (allow_expired, u64::try_from(not_after_s)) {
        (Some(grace), Ok(end)) if now.as_secs() > end && now.as_secs() - end <= grace.as_secs() => {
            UnixTime::since_unix_epoch(Duration::from_secs(end))
        }
        _ => now,
    }
}
