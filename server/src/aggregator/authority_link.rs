//! Errands at the enrolment authority: the newest trust bundle, our own renewal, revocations. Tried until they succeed.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use aimass_net::ServerEndpoint;
use aimass_net::enrol::{self, RenewError};
use aimass_net::identity::IdentityError;
use aimass_protocol::AgentId;
use tokio::sync::{mpsc, oneshot};

use super::driver::now;
use super::registry::RegistryError;
use super::service::Shared;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(60);
/// Shortest time between two looks that strangers can cause.
const NUDGE_PAUSE: Duration = Duration::from_secs(10);

/// A wish to run the errands now; the sender inside is answered when they were tried.
type Wish = Option<oneshot::Sender<()>>;

/// Asks for errands.
#[derive(Debug)]
pub(crate) struct Errands {
    wishes: mpsc::UnboundedSender<Wish>,
    nudged: Mutex<Option<Instant>>,
}

impl Errands {
    /// The asking and the running end.
    pub(crate) fn channel() -> (Self, mpsc::UnboundedReceiver<Wish>) {
        let (wishes, receiver) = mpsc::unbounded_channel();
        (
            Self {
                wishes,
                nudged: Mutex::default(),
            },
            receiver,
        )
    }

    /// Something is to be told to the authority.
    pub(crate) fn wake(&self) {
        let _ = self.wishes.send(None);
    }

    /// A peer's certificate was not trusted: perhaps its root is newer than our bundle. Strangers can cause this, so it is not followed
    /// each time.
    pub(crate) fn nudge(&self) {
        let mut nudged = self.nudged.lock().unwrap_or_else(PoisonError::into_inner);
        if nudged.is_none_or(|at| at.elapsed() >= NUDGE_PAUSE) {
            *nudged = Some(Instant::now());
            self.wake();
        }
    }

    /// Runs the errands and waits until they were tried, but not for long.
    pub(crate) async fn refresh(&self, patience: Duration) {
        let (done, tried) = oneshot::channel();
        if self.wishes.send(Some(done)).is_ok() {
            // Whether it worked shows in the bundle.
            let _ = tokio::time::timeout(patience, tried).await;
        }
    }
}

/// An errand that failed; all are tried again.
#[derive(Debug, thiserror::Error)]
enum ErrandError {
    #[error(transparent)]
    Authority(#[from] RenewError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Tls(#[from] aimass_net::TlsError),
    #[error("the work was cut short: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

/// Runs errands for as long as the service lives.
pub(crate) async fn run(shared: Arc<Shared>, endpoint: ServerEndpoint, mut wishes: mpsc::UnboundedReceiver<Wish>) {
    let mut retry = FIRST_RETRY;
    let mut asked: Vec<Wish> = Vec::new();
    loop {
        let pause = match errands(&shared, &endpoint).await {
            Ok(()) => {
                retry = FIRST_RETRY;
                until_renewal(&shared).min(Duration::from_secs(shared.bundle_refresh_s))
            }
            Err(error) => {
                // The closer the certificate's end, the more often: without one no agent comes in.
                let pause = retry.min(shared.trust.current().renewal_pause(now_s()));
                tracing::warn!(%error, retry_s = pause.as_secs(), "an errand at the authority failed; it will be tried again");
                retry = (retry * 2).min(LAST_RETRY);
                pause
            }
        };
        for wish in asked.drain(..).flatten() {
            let _ = wish.send(());
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            wish = wishes.recv() => match wish {
                Some(wish) => asked.push(wish),
                None => return,
            },
        }
        while let Ok(wish) = wishes.try_recv() {
            asked.push(wish);
        }
    }
}

async fn errands(shared: &Arc<Shared>, endpoint: &ServerEndpoint) -> Result<(), ErrandError> {
    // First what protects others: nothing may keep a revocation from being told.
    let told = tell_revocations(shared).await;
    let mut current = shared.trust.current();
    if !current.renew_due(now_s())
        && let Some(bundle) = enrol::fetch_bundle(&current, shared.trust.key()).await?
    {
        tracing::info!(version = bundle.version(), "newer trust bundle");
        let trust = Arc::clone(shared);
        tokio::task::spawn_blocking(move || trust.trust.store_bundle(bundle)).await??;
        reload(shared, endpoint)?;
        current = shared.trust.current();
    }
    // By its time, or because the bundle says that another root issues now.
    if current.renew_due(now_s()) {
        let renewed = enrol::renew(&current, shared.trust.key()).await?;
        tracing::info!(not_after_s = renewed.info().not_after_s, "certificate renewed");
        if renewed.expired(now_s()) {
            tracing::error!("by this machine's clock the new certificate is over already: set the clock");
        }
        let trust = Arc::clone(shared);
        tokio::task::spawn_blocking(move || trust.trust.store_enrolment(renewed)).await??;
        reload(shared, endpoint)?;
    }
    told
}

/// How long the certificate is not due, but never so short that a clock that is ahead would make us ask without pause.
fn until_renewal(shared: &Shared) -> Duration {
    let current = shared.trust.current();
    let seconds = u64::try_from(current.renew_at_s().saturating_sub(now_s())).unwrap_or(0);
    Duration::from_secs(seconds).max(FIRST_RETRY)
}

/// Seconds since the epoch, as certificates count.
fn now_s() -> i64 {
    i64::try_from(now().as_ms() / 1000).unwrap_or(i64::MAX)
}

fn reload(shared: &Shared, endpoint: &ServerEndpoint) -> Result<(), ErrandError> {
    let (identity, roots) = shared.trust.for_endpoint();
    Ok(endpoint.reload(&identity, &roots)?)
}

async fn tell_revocations(shared: &Arc<Shared>) -> Result<(), ErrandError> {
    for (agent, revoked) in shared.registry.untold() {
        enrol::set_revoked(&shared.trust.current(), shared.trust.key(), agent, revoked).await?;
        tracing::info!(%agent, revoked, "the authority knows");
        told(shared, agent, revoked).await?;
    }
    Ok(())
}

async fn told(shared: &Arc<Shared>, agent: AgentId, revoked: bool) -> Result<(), ErrandError> {
    let shared = Arc::clone(shared);
    tokio::task::spawn_blocking(move || shared.registry.authority_told(agent, revoked)).await??;
    Ok(())
}
