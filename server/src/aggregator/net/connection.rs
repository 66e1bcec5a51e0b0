//! One agent's connection: who it is, whether it may stay, and its requests.

use std::sync::Arc;

use aimass_net::{Connection, HandshakeError, Incoming};
use aimass_protocol::message::Refusal;
use aimass_protocol::token::Role;
use aimass_protocol::{AgentId, ErrorCode};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::request;
use crate::aggregator::counters::Counter;
use crate::aggregator::driver::{Command, now};
use crate::aggregator::registry::revoked;
use crate::aggregator::service::Shared;
use crate::store::AgentState;

/// Requests of one connection that are worked on at once; the next one waits. An agent needs two.
const MAX_REQUESTS: usize = 8;

/// Shakes hands and serves the agent until the connection ends.
pub(crate) async fn serve(shared: Arc<Shared>, incoming: Incoming) {
    let connection = match incoming.handshake().await {
        Ok(connection) => connection,
        Err(error) => {
            shared.counters.count(Counter::HandshakesFailed);
            shared.counters.handshake_failed(error.name());
            tracing::debug!(%error, "handshake failed");
            if matches!(error, HandshakeError::Certificate { .. }) {
                shared.errands.nudge();
            }
            return;
        }
    };
    shared.counters.count(Counter::Connections);
    let agent = match admit(&shared, &connection).await {
        Ok(agent) => agent,
        Err(refusal) => {
            shared.counters.count(Counter::ConnectionsRefused);
            shared.counters.refused(refusal.code);
            tracing::info!(peer = %connection.remote_address(), code = %refusal.code, "connection refused");
            return connection.close(refusal.code, &refusal.text);
        }
    };
    let registered = Registered::new(&shared, agent, connection.clone());
    // It may have been revoked between the look at the registry and now.
    if shared
        .registry
        .check(agent)
        .is_err_and(|refusal| refusal.code == ErrorCode::Revoked)
    {
        let refusal = revoked();
        return connection.close(refusal.code, &refusal.text);
    }
    let span = tracing::info_span!("agent", %agent);
    requests(&shared, agent, &connection).instrument(span).await;
    drop(registered);
}

/// Holds the agent to its certificate and to the operator's will.
async fn admit(shared: &Arc<Shared>, connection: &Connection) -> Result<AgentId, Refusal> {
    let forbidden = |text: &str| Refusal::new(ErrorCode::Forbidden, text);
    let Some(info) = connection.peer() else {
        return Err(forbidden("agents need a certificate: join with a token first"));
    };
    if info.subject.tenant != shared.tenant.as_str() {
        return Err(forbidden(
            "this server works for another tenant: use the address that came with the token",
        ));
    }
    if info.subject.role != Role::Agent.to_string() {
        return Err(forbidden("only agents are served here: join with a token of the role agent"));
    }
    let agent = AgentId::from_bytes(info.public_key.fingerprint());
    if !shared.registry.has_room_for(agent, shared.max_agents) {
        let text = format!(
            "this server has its {} devices: ask the operator, who can raise max_agents",
            shared.max_agents
        );
        return Err(Refusal::new(ErrorCode::Forbidden, text));
    }
    let (registry, address) = (Arc::clone(shared), connection.remote_address());
    let state = tokio::task::spawn_blocking(move || registry.registry.connected(agent, address, now())).await;
    match state {
        Ok(Ok(AgentState::Revoked)) => Err(revoked()),
        Ok(Ok(AgentState::Accepted | AgentState::Pending)) => Ok(agent),
        Ok(Err(error)) => {
            tracing::error!(%agent, %error, "an agent can't be registered");
            Err(Refusal::new(
                ErrorCode::Unavailable,
                "the server can't store who you are now: try again later",
            ))
        }
        Err(_) => Err(Refusal::new(ErrorCode::Unavailable, "the server is shutting down: try again later")),
    }
}

/// An agent's place among the connected; given back however the connection's task ends.
struct Registered<'a> {
    shared: &'a Shared,
    agent: AgentId,
    number: u64,
}

impl<'a> Registered<'a> {
    fn new(shared: &'a Shared, agent: AgentId, connection: Connection) -> Self {
        Self {
            shared,
            agent,
            number: shared.live.join(agent, connection),
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let (commands, agent) = (&self.shared.commands, self.agent);
        self.shared.live.leave(agent, self.number, || {
            // The driver is gone only when the service ends.
            let _ = commands.send(Command::Gone { agent });
        });
    }
}

async fn requests(shared: &Arc<Shared>, agent: AgentId, connection: &Connection) {
    // Dropping the set ends what is open: nobody is there to hear the answers.
    let mut open = JoinSet::new();
    loop {
        while open.len() >= MAX_REQUESTS {
            open.join_next().await;
        }
        match connection.accept().await {
            Ok(Some((writer, reader))) => {
                open.spawn(request::serve(Arc::clone(shared), agent, writer, reader).in_current_span());
            }
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "connection ended");
                return;
            }
        }
        while open.try_join_next().is_some() {}
    }
}
