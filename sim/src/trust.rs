//! Who everybody is: keys of the server and of the agents, and the root that vouches for them.

use std::sync::Arc;

use aimass_crypto::cert::{CERTIFICATE_LIFETIME, Root};
use aimass_crypto::sign::{PublicKey, SigningKey};
use aimass_federation::agent::Identity;
use aimass_protocol::TenantId;

use crate::chance::Chance;
use crate::clock::BEGIN_MS;

/// Real keys and certificates, drawn from the scenario's seed.
pub(crate) struct Trust {
    root: Root,
    chance: Chance,
    pub(crate) tenant: TenantId,
    /// Signs descriptors and the log's checkpoints.
    pub(crate) server: SigningKey,
}

impl Trust {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed, "trust");
        let server = SigningKey::generate(chance.rng());
        Self {
            root: Root::create("simulated root", now_s(), chance.rng()),
            tenant: TenantId::default(),
            server,
            chance,
        }
    }

    pub(crate) fn server_key(&self) -> PublicKey {
        self.server.public()
    }

    /// Enrols one more agent.
    pub(crate) fn enrol(&mut self) -> Identity {
        let key = SigningKey::generate(self.chance.rng());
        self.enrol_with(key)
    }

    /// Enrols the agent with this key.
    ///
    /// # Panics
    /// Never: tenant and role are good ones.
    pub(crate) fn enrol_with(&mut self, key: SigningKey) -> Identity {
        let tenant = self.tenant.as_str();
        let certificate = self
            .root
            .issue(tenant, "agent", &key.public(), now_s(), CERTIFICATE_LIFETIME, self.chance.rng());
        Identity {
            key: Arc::new(key),
            certificate: certificate.expect("the tenant and the role are good ones"),
            roots: vec![self.root.certificate_der().to_vec()],
            tenant: self.tenant.clone(),
        }
    }
}

fn now_s() -> i64 {
    i64::try_from(BEGIN_MS / 1000).unwrap_or(i64::MAX)
}
