//! Who the clients are to the coordinator and to each other.

use std::collections::BTreeMap;

use aimass_crypto::sign::SigningKey;
use aimass_federation::agent::Identity;
use aimass_protocol::AgentId;

use crate::chance::Chance;
use crate::trust::Trust;

/// Names of clients. Where no keys are used, an id is the client's number, so that a million of them take no memory; with masks it is its key's.
pub(super) enum Names {
    Numbers {
        seed: u64,
        /// Stands for each client's: nothing of it is shown to anybody.
        identity: Box<Identity>,
    },
    Keys {
        seed: u64,
        clients: BTreeMap<AgentId, u32>,
        identities: BTreeMap<u32, Identity>,
    },
}

impl Names {
    pub(super) fn new(seed: u64, has_keys: bool, trust: &mut Trust) -> Self {
        if has_keys {
            return Self::Keys {
                seed,
                clients: BTreeMap::new(),
                identities: BTreeMap::new(),
            };
        }
        Self::Numbers {
            seed,
            identity: Box::new(trust.enrol()),
        }
    }

    /// The id of a client.
    pub(super) fn agent(&mut self, client: u32, trust: &mut Trust) -> AgentId {
        match self {
            Self::Numbers { seed, .. } => {
                let mut bytes = [0; AgentId::LEN];
                bytes[..8].copy_from_slice(&mix(*seed ^ (u64::from(client) << 20)).to_le_bytes());
                bytes[AgentId::LEN - 4..].copy_from_slice(&client.to_le_bytes());
                AgentId::from_bytes(bytes)
            }
            Self::Keys { .. } => self.identity(client, trust).agent(),
        }
    }

    /// Its keys.
    pub(super) fn identity(&mut self, client: u32, trust: &mut Trust) -> &Identity {
        match self {
            Self::Numbers { identity, .. } => identity,
            Self::Keys { seed, clients, identities } => identities.entry(client).or_insert_with(|| {
                let mut chance = Chance::new(*seed, &format!("key {client}"));
                let identity = trust.enrol_with(SigningKey::generate(chance.rng()));
                clients.insert(identity.agent(), client);
                identity
            }),
        }
    }

    /// The client of an id that was given out.
    pub(super) fn client(&self, agent: AgentId) -> Option<u32> {
        match self {
            Self::Numbers { .. } => {
                let (_, last) = agent.as_bytes().split_last_chunk::<4>()?;
                Some(u32::from_le_bytes(*last))
            }
            Self::Keys { clients, .. } => clients.get(&agent).copied(),
        }
    }
}

/// A bijection of Steele et al. 2014 (SplitMix64), which spreads neighbouring numbers.
pub(super) fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
