//! Agents: their connections, and one task for each request.

mod connection;
mod fetch;
mod meter;
mod request;
mod upload;

use std::sync::Arc;

use aimass_net::ServerEndpoint;
use tokio::task::JoinSet;

use super::service::Shared;

/// Takes connections until the endpoint closes. Aborting this ends every connection's tasks.
pub(crate) async fn accept(shared: Arc<Shared>, endpoint: ServerEndpoint) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => {
                    connections.spawn(connection::serve(Arc::clone(&shared), incoming));
                }
                None => return,
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended
                    && error.is_panic()
                {
                    tracing::error!(%error, "a connection's task panicked");
                }
            }
        }
    }
}
