//! What a session is handed beside events: an identity to speak with, and chance. And the secrets that it hands on.

use std::fmt;
use std::sync::Arc;

use aimass_crypto::secagg::MemberId;
use aimass_crypto::secagg::mask::{SignedMask, Suite};
use aimass_crypto::sign::SigningKey;
use aimass_protocol::message::agent::SignedDescriptor;
use aimass_protocol::{AgentId, CohortId, JobId, TenantId};

use crate::RequestKind;

/// Who the agent is, and whom it trusts.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Its Ed25519 key: signs adverts, shares and consents.
    pub key: Arc<SigningKey>,
    /// Its certificate (DER), which other members are shown.
    pub certificate: Vec<u8>,
    /// The roots (DER) whose certificates are believed.
    pub roots: Vec<Vec<u8>>,
    /// The tenant that it and all other members belong to.
    pub tenant: TenantId,
}

impl Identity {
    /// The agent's id, as a member of a cohort.
    pub fn member(&self) -> MemberId {
        self.key.public().fingerprint()
    }

    /// The agent's id.
    pub fn agent(&self) -> AgentId {
        AgentId::from_bytes(self.member())
    }
}

/// What a step may use. `rng` makes keys: it has to be the operating system's, or seeded from it, wherever secrets are at stake.
#[derive(Debug)]
pub struct Hands<'a, R> {
    /// Chance.
    pub rng: &'a mut R,
    /// Who the agent is.
    pub identity: &'a Identity,
}

/// The masks that go over a contribution's residues: whoever knows them can read the update. Erased when dropped.
#[derive(Clone, PartialEq)]
pub struct Masks {
    suite: Suite,
    masks: Vec<SignedMask>,
}

impl Masks {
    /// Those of a cohort. A session makes them; others do so in tests.
    pub fn new(suite: Suite, masks: Vec<SignedMask>) -> Self {
        Self { suite, masks }
    }

    /// What expands them.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The masks, each with its sign.
    pub fn signed(&self) -> &[SignedMask] {
        &self.masks
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Masks({:?}, {}, redacted)", self.suite, self.masks.len())
    }
}

/// What a server did that only a server does which breaks the protocol. For people; nothing in it is secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The job.
    pub job: JobId,
    /// The cohort; none where there was none yet.
    pub cohort: Option<CohortId>,
    /// The request whose answer shows it.
    pub step: RequestKind,
    /// What was seen, and what it means.
    pub what: String,
    /// The cohort's descriptor with the server's signature, which it can't deny; none where it came not so far.
    pub descriptor: Option<SignedDescriptor>,
}
