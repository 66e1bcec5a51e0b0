//! Certificates: the first by token, the next by certificate, and who may not have one.

use aimass_crypto::cert::{self, CertInfo, RENEWAL_GRACE};
use aimass_crypto::hash::sha256;
use aimass_crypto::sign::PublicKey;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::authority::{CertificateReply, Enrol, Renew, RevocationReply, SetRevoked};
use aimass_protocol::token::Role;
use aimass_protocol::{AgentId, Digest, ErrorCode, TenantId, Timestamp};
use serde_bytes::ByteBuf;

use super::store::{Issued, TokenRecord};
use super::{OperatorError, State, seconds};

/// The holder of a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) tenant: TenantId,
    pub(crate) role: Role,
    pub(crate) id: AgentId,
    public_key: PublicKey,
    not_after_s: i64,
}

impl Member {
    /// Reads what the TLS handshake has verified.
    pub(crate) fn from_certificate(info: &CertInfo) -> Result<Self, Refusal> {
        let foreign = || {
            Refusal::new(
                ErrorCode::Forbidden,
                "this certificate names no agent or server: join with a token first",
            )
        };
        let role = match info.subject.role.as_str() {
            "agent" => Role::Agent,
            "server" => Role::Server,
            _ => return Err(foreign()),
        };
        Ok(Self {
            tenant: info.subject.tenant.parse().map_err(|_| foreign())?,
            role,
            id: info.subject.id.parse().map_err(|_| foreign())?,
            public_key: info.public_key,
            not_after_s: info.not_after_s,
        })
    }
}

impl State {
    /// A first certificate for the holder of a token. The same key may ask again until the token expires (its answer may have been lost).
    pub(crate) fn enrol(&mut self, now: Timestamp, ask: &Enrol) -> Result<CertificateReply, Refusal> {
        let public_key = requested_key(&ask.csr)?;
        let id = AgentId::from_bytes(public_key.fingerprint());
        let hash = Digest::from_bytes(sha256(ask.secret.as_bytes()));
        let token = self.tokens.get(&hash).cloned().ok_or_else(|| {
            let text = "this authority does not know the token: copy the whole line that `aimass token create` printed, or ask the operator for a new one";
            Refusal::new(ErrorCode::TokenUnknown, text)
        })?;
        if token.used_by.is_some_and(|user| user != id) {
            let text =
                "the token was used by another device: every device needs its own; ask the operator for a new one (`aimass token create`)";
            return Err(Refusal::new(ErrorCode::TokenUsed, text));
        }
        if token.withdrawn {
            let text = "the operator has withdrawn the token: ask for a new one (`aimass token create`)";
            return Err(Refusal::new(ErrorCode::TokenUnknown, text));
        }
        if now >= token.expires_at {
            let text = "the token has expired: ask the operator for a new one (`aimass token create`)";
            return Err(Refusal::new(ErrorCode::TokenExpired, text));
        }
        self.require_unrevoked(&token.tenant, id)?;
        if token.used_by.is_none() {
            let used = TokenRecord {
                used_by: Some(id),
                ..token.clone()
            };
            self.store.save_token(&used).map_err(|e| unavailable(&e.into()))?;
            self.tokens.insert(hash, used);
        }
        self.certify(now, &token.tenant, token.role, &public_key, Some(hash))
    }

    /// A new certificate for the same subject and key.
    pub(crate) fn renew(&mut self, now: Timestamp, member: &Member, ask: &Renew) -> Result<CertificateReply, Refusal> {
        self.require_unrevoked(&member.tenant, member.id)?;
        let grace_s = i64::try_from(RENEWAL_GRACE.as_secs()).unwrap_or(i64::MAX);
        if seconds(now).saturating_sub(member.not_after_s) > grace_s {
            let text = "the certificate expired too long ago: join again with a new token (`aimass token create`)";
            return Err(Refusal::new(ErrorCode::Forbidden, text));
        }
        let public_key = requested_key(&ask.csr)?;
        if public_key != member.public_key {
            let text = "a renewal is for the key of the certificate shown: to use another key, join again with a new token";
            return Err(Refusal::new(ErrorCode::Forbidden, text));
        }
        self.certify(now, &member.tenant, member.role, &public_key, None)
    }

    /// Whether an agent may renew, as a server of its tenant says.
    pub(crate) fn set_revoked(&mut self, now: Timestamp, member: &Member, ask: &SetRevoked) -> Result<RevocationReply, Refusal> {
        self.require_unrevoked(&member.tenant, member.id)?;
        if member.role != Role::Server || member.tenant != ask.tenant {
            let text = "only a server of the agent's tenant may revoke it";
            return Err(Refusal::new(ErrorCode::Forbidden, text));
        }
        if seconds(now) > member.not_after_s {
            let text =
                "the server's certificate has expired: it renews by itself while it can reach the authority; check its clock and log";
            return Err(Refusal::new(ErrorCode::Forbidden, text));
        }
        if self.is_revoked(&ask.tenant, ask.agent) != ask.revoked {
            let mut revoked = self.revoked.clone();
            let agents = revoked.entry(ask.tenant.clone()).or_default();
            if ask.revoked {
                agents.insert(ask.agent)
            } else {
                agents.remove(&ask.agent)
            };
            self.store.save_revoked(&revoked).map_err(|e| unavailable(&e.into()))?;
            self.revoked = revoked;
        }
        Ok(RevocationReply { revoked: ask.revoked })
    }

    /// Refuses whoever was revoked.
    pub(crate) fn require_unrevoked(&self, tenant: &TenantId, id: AgentId) -> Result<(), Refusal> {
        if self.is_revoked(tenant, id) {
            let text = format!("{id} was revoked: ask the operator of tenant {tenant} to accept it again (`aimass agents accept {id}`)");
            return Err(Refusal::new(ErrorCode::Revoked, text));
        }
        Ok(())
    }

    fn is_revoked(&self, tenant: &TenantId, id: AgentId) -> bool {
        self.revoked.get(tenant).is_some_and(|agents| agents.contains(&id))
    }

    fn certify(
        &mut self,
        now: Timestamp,
        tenant: &TenantId,
        role: Role,
        key: &PublicKey,
        token: Option<Digest>,
    ) -> Result<CertificateReply, Refusal> {
        let now_s = seconds(now);
        let lifetime = match role {
            Role::Server => self.lifetimes.server,
            Role::Agent | Role::Authority => self.lifetimes.agent,
        };
        let (rng, root) = (
            &mut self.rng,
            Self::issuing(&self.roots, &self.trusted).map_err(|e| unavailable(&e))?,
        );
        let certificate = root
            .issue(tenant.as_str(), &role.to_string(), key, now_s, lifetime, rng)
            .map_err(|e| unavailable(&e.into()))?;
        let not_after_s = cert::parse(&certificate).map_err(|e| unavailable(&e.into()))?.not_after_s;
        let id = AgentId::from_bytes(key.fingerprint());
        let issued = Issued {
            at: now,
            tenant: tenant.clone(),
            role,
            id,
            not_after_s,
            token,
        };
        self.store.append_issued(&issued).map_err(|e| unavailable(&e.into()))?;
        self.issued += 1;
        tracing::info!(%tenant, %role, id = %id.to_hex(), not_after_s, first = token.is_some(), "certificate issued");
        Ok(CertificateReply {
            certificate: ByteBuf::from(certificate),
            bundle: ByteBuf::from(self.current.as_bytes().to_vec()),
        })
    }
}

fn requested_key(csr: &[u8]) -> Result<PublicKey, Refusal> {
    cert::verify_signing_request(csr).map_err(|e| Refusal::new(ErrorCode::Malformed, format!("the signing request can't be used: {e}")))
}

/// A fault of ours: the operator finds the reason in the log, the peer hears that it may try again.
fn unavailable(error: &OperatorError) -> Refusal {
    tracing::error!("{error}");
    Refusal::new(
        ErrorCode::Unavailable,
        "the authority can't do this now: try again later, or ask its operator to look into its log",
    )
}
