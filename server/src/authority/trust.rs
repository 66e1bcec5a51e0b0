//! The trust bundle: owners of jobs, and roots that come and go.

use aimass_crypto::cert::{self, Root};
use aimass_net::enrol::Bundle;
use aimass_protocol::bundle::{TrustBundle, TrustedOwner};
use aimass_protocol::check::is_name;
use aimass_protocol::limits::{MAX_BUNDLE_ENTRIES, MAX_BUNDLE_ROOTS};
use aimass_protocol::{Digest, PublicKeyBytes, TenantId, Timestamp};
use serde_bytes::ByteBuf;

use super::state::{spki, trusted_roots};
use super::{OperatorError, State, seconds};

impl State {
    /// The bundle for somebody who holds `have_version`: the newest that a root of the held one vouches for, so that whoever was away
    /// during several rotations follows step by step. `None` when it is held already.
    pub(crate) fn bundle_after(&self, have_version: u64) -> Option<&Bundle> {
        if have_version >= self.current.version() {
            return None;
        }
        let Some(held) = self.bundles.get(&have_version) else {
            return Some(&self.current);
        };
        let newer = self.bundles.range(have_version + 1..).map(|(_, bundle)| bundle);
        newer.rev().find(|bundle| held.vouches_for(bundle)).or(Some(&self.current))
    }

    /// The bundle in force.
    pub(crate) fn current_bundle(&self) -> &Bundle {
        &self.current
    }

    /// Trusts `public_key` to sign `tenant`'s jobs. Safe to repeat. Returns the bundle's version.
    pub(crate) fn add_owner(
        &mut self,
        now: Timestamp,
        tenant: TenantId,
        name: &str,
        public_key: PublicKeyBytes,
    ) -> Result<u64, OperatorError> {
        if !is_name(name) {
            return Err(OperatorError::OwnerName);
        }
        let owner = TrustedOwner {
            tenant,
            name: name.to_owned(),
            public_key,
        };
        let mut content = self.current.content().clone();
        if content.owners.contains(&owner) {
            return Ok(content.version);
        }
        content
            .owners
            .retain(|o| (&o.tenant, &o.public_key) != (&owner.tenant, &owner.public_key));
        content.owners.push(owner);
        if content.owners.len() > MAX_BUNDLE_ENTRIES {
            return Err(OperatorError::Full {
                what: "owners",
                limit: MAX_BUNDLE_ENTRIES,
            });
        }
        self.put_in_force(now, content)
    }

    /// Trusts `public_key` for no tenant any more. Returns the bundle's version.
    pub(crate) fn remove_owner(&mut self, now: Timestamp, public_key: &PublicKeyBytes) -> Result<u64, OperatorError> {
        let mut content = self.current.content().clone();
        let before = content.owners.len();
        content.owners.retain(|owner| owner.public_key != *public_key);
        if content.owners.len() == before {
            return Err(OperatorError::UnknownOwner { key: public_key.to_hex() });
        }
        self.put_in_force(now, content)
    }

    /// Makes a new root that issues from now on; those before it stay trusted. Returns its SPKI hash and the bundle's version.
    pub(crate) fn rotate_root(&mut self, now: Timestamp) -> Result<(Digest, u64), OperatorError> {
        let mut content = self.current.content().clone();
        if content.roots.len() >= MAX_BUNDLE_ROOTS {
            return Err(OperatorError::Full {
                what: "roots",
                limit: MAX_BUNDLE_ROOTS,
            });
        }
        let root = Root::create(&format!("AI Mass root {}", content.version + 1), seconds(now), &mut self.rng);
        let new = spki(&root)?;
        self.store.save_root(&root, &new)?;
        content.roots.insert(0, ByteBuf::from(root.certificate_der().to_vec()));
        self.roots.insert(new, root);
        let version = self.put_in_force(now, content)?;
        tracing::info!(root = %new.to_hex(), version, "a new root issues");
        Ok((new, version))
    }

    /// Trusts a root no longer: certificates that it issued stop working. Returns the bundle's version.
    pub(crate) fn retire_root(&mut self, now: Timestamp, retired: &Digest) -> Result<u64, OperatorError> {
        match self.trusted.iter().position(|spki| spki == retired) {
            None => Err(OperatorError::UnknownRoot { spki: retired.to_hex() }),
            Some(0) => Err(OperatorError::IssuingRoot),
            Some(_) => {
                let mut content = self.current.content().clone();
                content
                    .roots
                    .retain(|der| cert::spki_sha256(der).is_ok_and(|spki| spki != *retired.as_bytes()));
                let version = self.put_in_force(now, content)?;
                tracing::info!(root = %retired.to_hex(), version, "root retired");
                Ok(version)
            }
        }
    }

    /// Signs `content` as the next version, by its roots and by those of the bundle before it.
    fn put_in_force(&mut self, now: Timestamp, content: TrustBundle) -> Result<u64, OperatorError> {
        let content = TrustBundle {
            version: self.current.version() + 1,
            issued_at: now,
            ..content
        };
        let mut signers = self.trusted.clone();
        for der in &content.roots {
            let spki = Digest::from_bytes(cert::spki_sha256(der)?);
            if !signers.contains(&spki) {
                signers.push(spki);
            }
        }
        let keys = signers.iter().filter_map(|spki| self.roots.get(spki)).map(Root::key);
        let bundle = Bundle::sign(&content, keys)?;
        let trusted = trusted_roots(&bundle)?;
        self.store.save_bundle(&bundle)?;
        self.bundles.insert(bundle.version(), bundle.clone());
        (self.current, self.trusted) = (bundle, trusted);
        Ok(self.current.version())
    }
}
