//! Join tokens: made, listed, withdrawn.

use std::time::Duration;

use aimass_crypto::hash::sha256;
use aimass_protocol::check::is_address;
use aimass_protocol::token::{JoinToken, Role, TokenSecret};
use aimass_protocol::{Digest, TenantId, Timestamp};
use rand_core::Rng as _;
use serde::Serialize;
use zeroize::Zeroizing;

use super::OperatorError;
use super::state::State;
use super::store::TokenRecord;

/// The longest life of a token.
const MAX_TOKEN_LIFETIME_S: u64 = 366 * 24 * 3600;
/// A token is forgotten so long after it expired.
const KEPT_AFTER_EXPIRY: Duration = Duration::from_secs(90 * 24 * 3600);
/// Digits of its hash that name a token towards people.
const ID_DIGITS: usize = 16;

/// What has become of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TokenState {
    /// It can be used.
    Open,
    /// It was.
    Used,
    /// Its time is over.
    Expired,
    /// The operator took it back.
    Withdrawn,
}

/// A token as the operator sees it: never its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TokenView {
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) tenant: TenantId,
    pub(crate) state: TokenState,
    pub(crate) expires_at_ms: u64,
}

/// How many tokens there are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub(crate) struct TokenCounts {
    pub(crate) open: usize,
    pub(crate) used: usize,
    pub(crate) expired: usize,
}

/// What the operator asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewToken {
    pub(crate) role: Role,
    pub(crate) tenant: TenantId,
    /// Where agents find the aggregator; ignored for a server.
    pub(crate) server: String,
    pub(crate) expires_s: u64,
}

impl TokenRecord {
    pub(super) fn state(&self, now: Timestamp) -> TokenState {
        match (self.used_by, self.withdrawn) {
            (Some(_), _) => TokenState::Used,
            (None, true) => TokenState::Withdrawn,
            (None, false) if now >= self.expires_at => TokenState::Expired,
            (None, false) => TokenState::Open,
        }
    }

    fn id(&self) -> String {
        let mut id = self.hash.to_hex();
        id.truncate(ID_DIGITS);
        id
    }
}

impl State {
    /// Makes a token and its name. The secret is in the token alone; the folder has its hash.
    pub(crate) fn create_token(&mut self, now: Timestamp, authority: &str, new: NewToken) -> Result<(JoinToken, String), OperatorError> {
        let server = match new.role {
            Role::Authority => return Err(OperatorError::Role),
            Role::Agent if !is_address(&new.server) => return Err(OperatorError::ServerAddress { given: new.server }),
            Role::Agent => new.server,
            Role::Server => String::new(),
        };
        if !(1..=MAX_TOKEN_LIFETIME_S).contains(&new.expires_s) {
            return Err(OperatorError::Lifetime {
                given_s: new.expires_s,
                max_s: MAX_TOKEN_LIFETIME_S,
            });
        }
        let mut secret = Zeroizing::new([0; TokenSecret::LEN]);
        self.rng.fill_bytes(secret.as_mut());
        let record = TokenRecord {
            hash: Digest::from_bytes(sha256(&*secret)),
            role: new.role,
            tenant: new.tenant,
            server,
            created_at: now,
            expires_at: now.after(Duration::from_secs(new.expires_s)),
            withdrawn: false,
            used_by: None,
        };
        self.store.save_token(&record)?;
        let token = JoinToken {
            authority: authority.to_owned(),
            server: record.server.clone(),
            root_spki: self.anchor_spki(),
            tenant: record.tenant.clone(),
            role: record.role,
            expires_at: record.expires_at,
            secret: TokenSecret::from_bytes(*secret),
        };
        let id = record.id();
        self.tokens.insert(record.hash, record);
        Ok((token, id))
    }

    /// All tokens, the newest first.
    pub(crate) fn list_tokens(&self, now: Timestamp) -> Vec<TokenView> {
        let mut records: Vec<_> = self.tokens.values().collect();
        records.sort_by_key(|record| (std::cmp::Reverse(record.created_at), record.hash));
        let view = |record: &TokenRecord| TokenView {
            id: record.id(),
            role: record.role,
            tenant: record.tenant.clone(),
            state: record.state(now),
            expires_at_ms: record.expires_at.as_ms(),
        };
        records.into_iter().map(view).collect()
    }

    /// How many there are in each state.
    pub(crate) fn count_tokens(&self, now: Timestamp) -> TokenCounts {
        let mut counts = TokenCounts::default();
        for record in self.tokens.values() {
            match record.state(now) {
                TokenState::Open => counts.open += 1,
                TokenState::Used => counts.used += 1,
                TokenState::Expired => counts.expired += 1,
                TokenState::Withdrawn => {}
            }
        }
        counts
    }

    /// Takes a token back that was not used yet; `id` is its name or at least four digits that begin no other.
    pub(crate) fn withdraw_token(&mut self, id: &str) -> Result<(), OperatorError> {
        let fitting: Vec<_> = self
            .tokens
            .values()
            .filter(|record| id.len() >= 4 && record.hash.to_hex().starts_with(id))
            .collect();
        let record = match fitting.as_slice() {
            [] => {
                return Err(OperatorError::UnknownToken {
                    id: id.chars().take(80).collect(),
                });
            }
            [one] if one.used_by.is_some() => return Err(OperatorError::TokenSpent { id: one.id() }),
            [one] => TokenRecord {
                withdrawn: true,
                ..(*one).clone()
            },
            several => {
                return Err(OperatorError::AmbiguousToken {
                    id: id.to_owned(),
                    count: several.len(),
                });
            }
        };
        self.store.save_token(&record)?;
        self.tokens.insert(record.hash, record);
        Ok(())
    }

    /// Forgets tokens that have been over for long, so that the folder does not grow for ever.
    pub(super) fn forget_old_tokens(&mut self, now: Timestamp) {
        let store = &self.store;
        self.tokens.retain(|hash, record| {
            let old = now.since(record.expires_at) > KEPT_AFTER_EXPIRY;
            // One that stays on disk is only seen again at the next start.
            !(old
                && store
                    .remove_token(hash)
                    .inspect_err(|e| tracing::warn!("an old token's file stays: {e}"))
                    .is_ok())
        });
    }
}
