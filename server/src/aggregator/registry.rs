//! Who the agents are and which of them may take part.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::{Capabilities, CheckIn};
use aimass_protocol::{AgentId, ErrorCode, Timestamp};

use super::config::Accept;
use crate::store::{AgentRecord, AgentState, AggregatorStore, StoreError};

/// How old a stored last-seen time may get before it is written again.
const TOUCH_AFTER_MS: u64 = 60_000;

/// All agents that ever connected. Writes block on the disk: call those off the reactor.
#[derive(Debug)]
pub(crate) struct Registry {
    store: AggregatorStore,
    accept: Accept,
    agents: Mutex<BTreeMap<AgentId, AgentRecord>>,
    /// Held while a record is changed and written, so that memory and disk agree on the order.
    writing: Mutex<()>,
}

/// An operator's order that can't be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RegistryError {
    /// No such agent.
    #[error("no agent has an id that starts with {prefix:?}: `aimass agents list` shows them")]
    Unknown {
        /// What was asked for.
        prefix: String,
    },
    /// Several agents fit.
    #[error("{count} agents have an id that starts with {prefix:?}: give more digits")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many fit.
        count: usize,
    },
    /// Too few digits to be meant.
    #[error("{prefix:?} is no agent id: give at least 4 hexadecimal digits of it")]
    Short {
        /// What was asked for.
        prefix: String,
    },
    /// The record could not be written; nothing has changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Fewest digits of an id that may stand for it.
pub(crate) const MIN_PREFIX_DIGITS: usize = 4;

impl Registry {
    /// Reads the agents from the store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn load(store: AggregatorStore, accept: Accept) -> Result<Self, StoreError> {
        let agents = store.agents()?.into_iter().map(|record| (record.agent, record)).collect();
        Ok(Self {
            store,
            accept,
            agents: Mutex::new(agents),
            writing: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<AgentId, AgentRecord>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an agent may be worked for; the refusal says what it has to wait for.
    ///
    /// # Errors
    /// [`ErrorCode::Pending`], [`ErrorCode::Revoked`].
    pub(crate) fn check(&self, agent: AgentId) -> Result<(), Refusal> {
        match self.lock().get(&agent).map(|record| record.state) {
            Some(AgentState::Accepted) => Ok(()),
            Some(AgentState::Revoked) => Err(revoked()),
            Some(AgentState::Pending) | None => Err(Refusal::new(
                ErrorCode::Pending,
                format!(
                    "the operator has not accepted this device yet: `aimass agents accept {}`",
                    agent.to_hex()
                ),
            )),
        }
    }

    /// Whether this agent is registered, or may be with `max` agents in all.
    pub(crate) fn has_room_for(&self, agent: AgentId, max: usize) -> bool {
        let agents = self.lock();
        agents.contains_key(&agent) || agents.len() < max
    }

    /// Takes note of a connection. A new agent is registered, durably, by the server's policy.
    ///
    /// # Errors
    /// [`StoreError`]; the agent is as unknown as before then.
    pub(crate) fn connected(&self, agent: AgentId, address: SocketAddr, now: Timestamp) -> Result<AgentState, StoreError> {
        let _writing = self.writing();
        let known = self.lock().get(&agent).cloned();
        let is_new = known.is_none();
        let mut record = known.unwrap_or_else(|| AgentRecord {
            agent,
            state: match self.accept {
                Accept::Auto => AgentState::Accepted,
                Accept::Manual => AgentState::Pending,
            },
            address: String::new(),
            capabilities: Capabilities::default(),
            contracts: Vec::new(),
            first_seen_ms: now.as_ms(),
            last_seen_ms: now.as_ms(),
            tell_authority: None,
        });
        record.address = address.to_string();
        record.last_seen_ms = now.as_ms();
        if is_new {
            self.store.put_agent(&record)?;
        } else {
            self.store.touch_agent(&record)?;
        }
        let state = record.state;
        self.lock().insert(agent, record);
        Ok(state)
    }

    /// Takes note of a check-in. Says whether [`Registry::touch`] should write it.
    pub(crate) fn checked_in(&self, agent: AgentId, check_in: &CheckIn, now: Timestamp) -> bool {
        let mut agents = self.lock();
        let Some(record) = agents.get_mut(&agent) else { return false };
        let changed = record.capabilities != check_in.capabilities || record.contracts != check_in.contracts;
        let stale = now.as_ms().saturating_sub(record.last_seen_ms) > TOUCH_AFTER_MS;
        if changed {
            record.capabilities = check_in.capabilities.clone();
            record.contracts.clone_from(&check_in.contracts);
        }
        record.last_seen_ms = now.as_ms();
        changed || stale
    }

    /// Writes an agent's record without waiting for the disk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn touch(&self, agent: AgentId) -> Result<(), StoreError> {
        let _writing = self.writing();
        let record = self.lock().get(&agent).cloned();
        record.map_or(Ok(()), |record| self.store.touch_agent(&record))
    }

    /// Sets an agent's state, durably, and whether the authority has to be told. Returns the record as it is now.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(crate) fn set_state(&self, agent: AgentId, state: AgentState) -> Result<AgentRecord, RegistryError> {
        self.update(agent, |record| {
            match (record.state, state) {
                (_, AgentState::Revoked) => record.tell_authority = Some(true),
                (AgentState::Revoked, _) => record.tell_authority = Some(false),
                _ => {}
            }
            record.state = state;
        })
    }

    /// Takes note that the authority knows. Leaves the record alone when the operator has changed it since.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub(crate) fn authority_told(&self, agent: AgentId, revoked: bool) -> Result<(), RegistryError> {
        self.update(agent, |record| {
            if record.tell_authority == Some(revoked) {
                record.tell_authority = None;
            }
        })?;
        Ok(())
    }

    fn update(&self, agent: AgentId, change: impl FnOnce(&mut AgentRecord)) -> Result<AgentRecord, RegistryError> {
        let _writing = self.writing();
        let known = self.lock().get(&agent).cloned();
        let mut record = known.ok_or_else(|| RegistryError::Unknown { prefix: agent.to_hex() })?;
        change(&mut record);
        self.store.put_agent(&record)?;
        self.lock().insert(agent, record.clone());
        Ok(record)
    }

    /// What the authority has still to be told.
    pub(crate) fn untold(&self) -> Vec<(AgentId, bool)> {
        self.lock()
            .values()
            .filter_map(|record| Some((record.agent, record.tell_authority?)))
            .collect()
    }

    /// All agents, by id.
    pub(crate) fn all(&self) -> Vec<AgentRecord> {
        self.lock().values().cloned().collect()
    }

    /// The agent whose id starts with `prefix`.
    ///
    /// # Errors
    /// [`RegistryError`] when not exactly one does.
    pub(crate) fn find(&self, prefix: &str) -> Result<AgentId, RegistryError> {
        if prefix.len() < MIN_PREFIX_DIGITS {
            return Err(RegistryError::Short { prefix: prefix.to_owned() });
        }
        let prefix = prefix.to_ascii_lowercase();
        let found: Vec<_> = self.lock().keys().copied().filter(|id| id.to_hex().starts_with(&prefix)).collect();
        match found[..] {
            [agent] => Ok(agent),
            [] => Err(RegistryError::Unknown { prefix }),
            _ => Err(RegistryError::Ambiguous {
                prefix,
                count: found.len(),
            }),
        }
    }
}

/// What a revoked agent is told.
pub(crate) fn revoked() -> Refusal {
    Refusal::new(
        ErrorCode::Revoked,
        "the operator has revoked this device: ask the operator, who can undo it with `aimass agents accept`",
    )
}
