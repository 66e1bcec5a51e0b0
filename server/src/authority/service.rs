//! What the QUIC side and the HTTP side share: the state behind a lock, counters, the endpoint.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aimass_net::ServerEndpoint;

use super::state::{Served, State};
use super::{OperatorError, now};

/// How often the own certificate is looked at.
const UPKEEP_PERIOD: Duration = Duration::from_secs(60);

/// A running authority.
pub(crate) struct Service {
    state: Mutex<State>,
    counters: Mutex<BTreeMap<&'static str, u64>>,
    endpoint: ServerEndpoint,
    served: Mutex<Served>,
    /// The `host:port` that tokens carry.
    pub(crate) public_address: String,
}

impl Service {
    pub(crate) fn new(state: State, endpoint: ServerEndpoint, served: Served, public_address: String) -> Self {
        Self {
            state: Mutex::new(state),
            counters: Mutex::new(BTreeMap::new()),
            endpoint,
            served: Mutex::new(served),
            public_address,
        }
    }

    /// Runs `work` on the state, off the reactor: it may sync files.
    pub(crate) async fn with_state<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, OperatorError> {
        let service = Arc::clone(self);
        // A change is in memory only after it is on disk, so a panic in between leaves nothing half-done.
        let locked = move || work(&mut service.state.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::task::spawn_blocking(locked)
            .await
            .map_err(|e| OperatorError::Store(io::Error::other(e)))
    }

    /// Counts one `name`.
    pub(crate) fn count(&self, name: &'static str) {
        *self
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name)
            .or_default() += 1;
    }

    /// Everything counted since the start.
    pub(crate) fn counters(&self) -> BTreeMap<&'static str, u64> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where the endpoint is bound.
    pub(crate) fn quic_address(&self) -> std::net::SocketAddr {
        self.endpoint.local_addr()
    }

    /// Serves a fresh certificate and trusts the current roots, from the next handshake on.
    pub(crate) async fn reload_endpoint(self: &Arc<Self>) -> Result<(), OperatorError> {
        let served = self.with_state(|state| state.serve_as(now())).await??;
        self.endpoint.reload(&served.identity, &served.roots)?;
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = served;
        Ok(())
    }

    /// The same after a change that is in force already: if it fails, [`keep_certificate_fresh`] repeats it.
    pub(crate) async fn reload_endpoint_or_later(self: &Arc<Self>) {
        if let Err(e) = self.reload_endpoint().await {
            tracing::error!(
                "the new roots can't be served yet, trying again within {} s: {e}",
                UPKEEP_PERIOD.as_secs()
            );
        }
    }

    async fn is_stale(self: &Arc<Self>) -> Result<bool, OperatorError> {
        let bundle = self.with_state(|state| state.current_bundle().clone()).await?;
        Ok(self.served.lock().unwrap_or_else(PoisonError::into_inner).is_stale(now(), &bundle))
    }
}

/// Replaces the own certificate in time, and repeats a reload that failed. Never ends.
pub(crate) async fn keep_certificate_fresh(service: &Arc<Service>) {
    let mut ticks = tokio::time::interval(UPKEEP_PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match service.is_stale().await {
            Ok(false) => continue,
            Ok(true) => {}
            Err(e) => tracing::error!("the authority's certificate can't be checked: {e}"),
        }
        match service.reload_endpoint().await {
            Ok(()) => tracing::info!("the authority serves a new certificate"),
            Err(e) => tracing::error!("the authority's certificate can't be replaced: {e}"),
        }
    }
}
