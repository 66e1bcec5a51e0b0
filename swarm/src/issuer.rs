//! Certificates for many, quickly: by the key of the real authority, from its folder.

use std::path::Path;
use std::sync::Arc;

use aimass_crypto::cert::{self, CERTIFICATE_LIFETIME, Root};
use aimass_crypto::sign::SigningKey;
use aimass_net::enrol::Bundle;
use aimass_net::identity::{self, Enrolment, Membership};
use aimass_protocol::token::Role;
use aimass_protocol::{AgentId, Digest, TenantId};
use anyhow::{Context as _, Result};
use rand_core::CryptoRng;

/// An agent's key and what says who it is.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its key.
    pub key: Arc<SigningKey>,
    /// Its certificate, and whom it trusts.
    pub enrolment: Enrolment,
}

impl Member {
    /// Its id.
    pub fn id(&self) -> AgentId {
        self.enrolment.membership().id
    }
}

/// The authority's issuing root and its current trust bundle.
pub struct Issuer {
    root: Root,
    bundle: Bundle,
}

impl Issuer {
    /// Reads the folder of an authority that may be running.
    ///
    /// # Errors
    /// When a file is missing or damaged.
    pub fn open(authority: &Path) -> Result<Self> {
        let files = std::fs::read_dir(authority.join("bundles"))?.filter_map(|entry| Some(entry.ok()?.path()));
        // Named by their version, with leading zeros or without.
        let newest = files
            .filter_map(|path| Some((path.file_stem()?.to_str()?.parse::<u64>().ok()?, path.clone())))
            .max()
            .context("the authority has no trust bundle")?;
        let bundle = Bundle::from_trusted_bytes(&std::fs::read(newest.1)?)?;
        let certificate = bundle.roots().next().context("the trust bundle has no root")?.to_vec();
        let spki = Digest::from_bytes(cert::spki_sha256(&certificate)?);
        let key = identity::read_key(&authority.join("roots").join(spki.to_hex()).with_extension("pem"))?;
        Ok(Self {
            root: Root::load(key, &certificate)?,
            bundle,
        })
    }

    /// A new agent of the default tenant, whose aggregator is at `server`.
    ///
    /// # Errors
    /// When the certificate can't be made.
    pub fn issue(&self, server: &str, rng: &mut impl CryptoRng) -> Result<Member> {
        let key = SigningKey::generate(rng);
        let membership = Membership {
            tenant: TenantId::default(),
            role: Role::Agent,
            id: AgentId::from_bytes(key.public().fingerprint()),
            // Nobody here lives long enough to renew.
            authority: server.to_owned(),
            server: server.to_owned(),
        };
        let now_s = i64::try_from(aimass_cli::now().as_ms() / 1000)?;
        let (tenant, role) = (membership.tenant.clone(), membership.role.to_string());
        let certificate = self
            .root
            .issue(tenant.as_str(), &role, &key.public(), now_s, CERTIFICATE_LIFETIME, rng)?;
        Ok(Member {
            enrolment: Enrolment::new(membership, certificate, self.bundle.clone())?,
            key: Arc::new(key),
        })
    }
}
