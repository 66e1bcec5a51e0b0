//! The server's own identity, and whom it trusts.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aimass_crypto::cert;
use aimass_crypto::sign::{Context, PublicKey, SigningKey};
use aimass_net::Identity;
use aimass_net::enrol::Bundle;
use aimass_net::identity::{Enrolment, IdentityError, IdentityFolder};
use aimass_protocol::message::Refusal;
use aimass_protocol::{AgentId, ErrorCode, TenantId};

use super::driver::now;

/// What the identity folder holds, in memory; writes go through to the folder.
pub(crate) struct ServerTrust {
    key: Arc<SigningKey>,
    folder: Mutex<IdentityFolder>,
    current: RwLock<Arc<Enrolment>>,
}

impl ServerTrust {
    /// Over an identity folder that has joined as `enrolment`.
    pub(crate) fn new(folder: IdentityFolder, enrolment: Enrolment) -> Self {
        Self {
            key: Arc::clone(folder.key()),
            folder: Mutex::new(folder),
            current: RwLock::new(Arc::new(enrolment)),
        }
    }

    /// The private key.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The private key, shared.
    pub(crate) fn shared_key(&self) -> Arc<SigningKey> {
        Arc::clone(&self.key)
    }

    /// Certificate and bundle in force.
    pub(crate) fn current(&self) -> Arc<Enrolment> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the QUIC endpoint shows, and the roots that it verifies agents against.
    pub(crate) fn for_endpoint(&self) -> (Identity, Vec<Vec<u8>>) {
        let current = self.current();
        (
            Identity::new(vec![current.certificate().to_vec()], &self.key),
            current.bundle().roots().map(<[u8]>::to_vec).collect(),
        )
    }

    /// Whether `key` may sign `tenant`'s jobs.
    pub(crate) fn trusts_owner(&self, tenant: &TenantId, key: &PublicKey) -> bool {
        self.current().bundle().trusts_owner(tenant, key)
    }

    /// The key of a member of a cohort, which its neighbours verify its steps with: its certificate has to be one that they accept.
    ///
    /// # Errors
    /// What is wrong with the certificate.
    pub(crate) fn member_key(&self, tenant: &TenantId, agent: AgentId, certificate: &[u8]) -> Result<PublicKey, Refusal> {
        let refuse = |problem: &str| {
            Refusal::new(
                ErrorCode::Forbidden,
                format!("the advert's certificate {problem}; send the one of the connection"),
            )
        };
        let info = cert::parse(certificate).map_err(|_| refuse("can't be read"))?;
        if !info.subject.is_agent() || info.subject.tenant != tenant.as_str() || info.public_key.fingerprint() != *agent.as_bytes() {
            return Err(refuse("is another agent's"));
        }
        // As its neighbours look at it.
        if info.not_after_s < i64::try_from(now().as_ms() / 1000).unwrap_or(i64::MAX) {
            let text = "the advert's certificate has ended; it is renewed by itself within minutes, then offer again";
            return Err(Refusal::new(ErrorCode::Unavailable, text));
        }
        let current = self.current();
        if current
            .bundle()
            .roots()
            .any(|root| cert::verify_issued_by(certificate, root).is_ok())
        {
            Ok(info.public_key)
        } else {
            let text = "the advert's certificate is of a root that this server does not know; while roots change, offer again later";
            Err(Refusal::new(ErrorCode::Unavailable, text))
        }
    }

    /// Signs a cohort's descriptor.
    pub(crate) fn sign_descriptor(&self, descriptor: &[u8]) -> [u8; 64] {
        self.key.sign(Context::Descriptor, descriptor)
    }

    /// Stores a newer bundle. Blocks.
    ///
    /// # Errors
    /// [`IdentityError`]; the old one stays in force.
    pub(crate) fn store_bundle(&self, bundle: Bundle) -> Result<(), IdentityError> {
        self.store(|folder| folder.save_bundle(bundle))
    }

    /// Stores a renewed enrolment. Blocks.
    ///
    /// # Errors
    /// [`IdentityError`]; the old one stays in force.
    pub(crate) fn store_enrolment(&self, enrolment: Enrolment) -> Result<(), IdentityError> {
        self.store(|folder| folder.save(enrolment))
    }

    fn store(&self, write: impl FnOnce(&mut IdentityFolder) -> Result<(), IdentityError>) -> Result<(), IdentityError> {
        let mut folder = self.folder.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut folder)?;
        if let Some(stored) = folder.enrolment() {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(stored.clone());
        }
        Ok(())
    }
}
