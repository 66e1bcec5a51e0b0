//! Which agents are connected now.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aimass_net::Connection;
use aimass_protocol::{AgentId, ErrorCode};

/// The open connections of each agent. An agent may have several for a while: after its address changed, the old one takes up to
/// QUIC's idle timeout to die. Of the answers that come late, the newest request of a kind gets them (see the driver).
#[derive(Default)]
pub(crate) struct Live {
    connections: Mutex<HashMap<AgentId, BTreeMap<u64, Connection>>>,
    next: AtomicU64,
}

impl Live {
    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, BTreeMap<u64, Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a connection; the number names it in [`Live::leave`].
    pub(crate) fn join(&self, agent: AgentId, connection: Connection) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.lock().entry(agent).or_default().insert(number, connection);
        number
    }

    /// Forgets a connection. `last` runs when it was the agent's last, before the agent can register another.
    pub(crate) fn leave(&self, agent: AgentId, number: u64, last: impl FnOnce()) {
        let mut all = self.lock();
        if let Some(connections) = all.get_mut(&agent) {
            connections.remove(&number);
            if connections.is_empty() {
                all.remove(&agent);
                last();
            }
        }
    }

    /// Closes all connections of an agent, and says how many there were.
    pub(crate) fn close(&self, agent: AgentId, code: ErrorCode, text: &str) -> usize {
        let connections: Vec<_> = self
            .lock()
            .get(&agent)
            .map(|all| all.values().cloned().collect())
            .unwrap_or_default();
        for connection in &connections {
            connection.close(code, text);
        }
        connections.len()
    }

    /// Closes every connection in peace.
    pub(crate) fn finish_all(&self) {
        let connections: Vec<_> = self.lock().values().flat_map(|all| all.values().cloned()).collect();
        for connection in connections {
            connection.finish();
        }
    }

    /// Agents that are connected.
    pub(crate) fn online(&self) -> usize {
        self.lock().len()
    }

    /// Where an agent's newest connection comes from, if it has one.
    pub(crate) fn address(&self, agent: AgentId) -> Option<SocketAddr> {
        self.lock().get(&agent)?.values().next_back().map(Connection::remote_address)
    }
}
