//! Puts the parts together, starts them in order and ends them in order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aimass_net::identity::{IdentityFolder, durable};
use aimass_net::{ClientAuth, Limits, ServerEndpoint, enrol};
use aimass_protocol::frame::ALPN_AGENT;
use aimass_protocol::token::{JoinToken, Role};
use aimass_protocol::{TenantId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::{mpsc, oneshot, watch};

use super::authority_link::{self, Errands};
use super::catalog::Catalog;
use super::config::Config;
use super::counters::Counters;
use super::driver::{Command, Driver, now};
use super::error::ServeError;
use super::journal::Journal;
use super::live::Live;
use super::log::ModelLog;
use super::models::Models;
use super::registry::Registry;
use super::retention;
use super::traffic::Traffic;
use super::trust::ServerTrust;
use super::turns::Turns;
use super::{api, net, submit};
use crate::blobs::BlobStore;
use crate::loopback;
use crate::store::AggregatorStore;

/// How long what is being published may take to finish once the service stops.
const PUBLISH_GRACE: Duration = Duration::from_secs(1);
/// How long closing connections may take: a closing endpoint takes no new ones.
const CLOSE_GRACE: Duration = Duration::from_millis(200);

/// Where the service can be reached, once it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// UDP address for agents.
    pub quic_address: SocketAddr,
    /// TCP address of the operator's API.
    pub api_address: SocketAddr,
}

/// What the parts share.
pub(crate) struct Shared {
    /// The one tenant of this server.
    pub(crate) tenant: TenantId,
    /// When it started.
    pub(crate) started_at: Timestamp,
    /// See [`Config::bundle_refresh_s`].
    pub(crate) bundle_refresh_s: u64,
    /// See [`Config::max_running_jobs`].
    pub(crate) max_running_jobs: usize,
    /// See [`Config::max_agents`].
    pub(crate) max_agents: usize,
    /// See [`Config::max_journal_bytes`].
    pub(crate) max_journal_bytes: u64,
    /// See [`Config::keep_survivors_days`].
    pub(crate) keep_survivors: Duration,
    /// Small records.
    pub(crate) store: AggregatorStore,
    /// The log of models.
    pub(crate) log: ModelLog,
    /// Models and held-out data.
    pub(crate) blobs: BlobStore,
    /// Updates of open rounds.
    pub(crate) journal: Journal,
    /// Whose turn it is to send an update.
    pub(crate) uploads: Turns,
    /// Whose turn it is to get a model.
    pub(crate) fetches: Turns,
    /// Models, and who serves which.
    pub(crate) catalog: Catalog,
    /// Agents.
    pub(crate) registry: Registry,
    /// Their connections.
    pub(crate) live: Live,
    /// Which models agents may fetch.
    pub(crate) models: Models,
    /// What happened.
    pub(crate) counters: Counters,
    /// Bytes by job.
    pub(crate) traffic: Traffic,
    /// Our identity and whom we trust.
    pub(crate) trust: ServerTrust,
    /// Asks for errands at the authority.
    pub(crate) errands: Errands,
    /// To the driver.
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    /// Counts changes of jobs.
    pub(crate) changes: watch::Receiver<u64>,
    /// Held while a job is checked: what takes long comes before `submitting` is held.
    pub(crate) preparing: tokio::sync::Mutex<()>,
    /// Held while a job is stored, and while the registry changes.
    pub(crate) submitting: tokio::sync::Mutex<()>,
    /// One turn: models are made smaller one after the other.
    pub(crate) compressing: tokio::sync::Semaphore,
}

/// Runs the aggregator until `shutdown` resolves; then it takes no more connections, finishes what is being published and ends within
/// about two seconds. `join` is used on the first start alone. `ready` is called when agents and operator can connect.
///
/// # Errors
/// [`ServeError`].
pub async fn run(
    config: Config,
    join: Option<JoinToken>,
    ready: impl FnOnce(&Ready),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    config.check().map_err(ServeError::Config)?;
    let data_dir = config.data_dir.clone();
    let data_error = |source| ServeError::DataDir {
        path: data_dir.clone(),
        source,
    };
    durable::create_private_dir(&data_dir).map_err(data_error)?;
    // The store comes first: its lock keeps a second process from touching anything else in the folder.
    let (folder, tenant) = (data_dir.join("store"), config.tenant.clone());
    let store = tokio::task::spawn_blocking(move || AggregatorStore::open(&folder, tenant))
        .await
        .map_err(|e| ServeError::Ended {
            part: "store",
            reason: e.to_string(),
        })??;
    let mut rng = system_rng()?;
    let trust = identity(&data_dir, &config.tenant, join, &mut rng).await?;
    let blobs = BlobStore::open(&data_dir.join("blobs"))?;
    let journal = Journal::open(&data_dir.join("journal")).map_err(data_error)?;
    let log = ModelLog::load(&store, config.tenant.clone(), trust.shared_key())?;
    let catalog = Catalog::of(store.registry()?);
    let registry = Registry::load(store.clone(), config.accept)?;

    let (own, roots) = trust.for_endpoint();
    let services: [(&[u8], ClientAuth); 1] = [(ALPN_AGENT, ClientAuth::Required { allow_expired: None })];
    let limits = Limits {
        max_connections: config.max_connections,
        ..Limits::default()
    };
    let endpoint = ServerEndpoint::bind(config.listen, &own, &services, &roots, limits)?;
    let loopback = loopback::bind(&data_dir, config.api_listen).await?;

    let (errands, wishes) = Errands::channel();
    let (commands, received) = mpsc::unbounded_channel();
    let (changed, changes) = watch::channel(0);
    let shared = Arc::new(Shared {
        tenant: config.tenant,
        started_at: now(),
        bundle_refresh_s: config.bundle_refresh_s,
        max_running_jobs: config.max_running_jobs,
        max_agents: config.max_agents,
        max_journal_bytes: config.max_journal_bytes,
        keep_survivors: retention::kept_for(config.keep_survivors_days),
        store,
        log,
        blobs,
        journal,
        uploads: Turns::default(),
        fetches: Turns::default(),
        catalog,
        registry,
        live: Live::default(),
        models: Models::default(),
        counters: Counters::default(),
        traffic: Traffic::default(),
        trust,
        errands,
        commands: commands.clone(),
        changes,
        preparing: tokio::sync::Mutex::default(),
        submitting: tokio::sync::Mutex::default(),
        compressing: tokio::sync::Semaphore::new(1),
    });

    // A release is registered whose record was written by a server that was killed then.
    let restored = submit::restore(&shared).await?;
    let mut driver = tokio::spawn(Driver::new(Arc::clone(&shared), rng, commands.clone(), changed).run(received));
    for command in restored {
        let _ = commands.send(command);
    }
    let quic_address = endpoint.local_addr();
    let link = tokio::spawn(authority_link::run(Arc::clone(&shared), endpoint.clone(), wishes));
    let agents = tokio::spawn(net::accept(Arc::clone(&shared), endpoint.clone()));
    let (stop_api, api_stopped) = oneshot::channel::<()>();
    let addresses = Ready {
        quic_address,
        api_address: loopback.address(),
    };
    let api = api::router(Arc::clone(&shared), quic_address);
    let mut api = std::pin::pin!(loopback.serve(api, async {
        let _ = api_stopped.await;
    }));
    tracing::info!(quic = %addresses.quic_address, api = %addresses.api_address, tenant = %shared.tenant, "serving");
    ready(&addresses);

    let mut stop_api = Some(stop_api);
    let ended = tokio::select! {
        () = shutdown => Ok(()),
        ended = &mut api => {
            stop_api = None;
            Err(ServeError::Ended { part: "API", reason: ended.err().map_or_else(|| "it stopped".to_owned(), |e| e.to_string()) })
        }
        ended = &mut driver => {
            Err(ServeError::Ended { part: "driver", reason: ended.err().map_or_else(|| "it stopped".to_owned(), |e| e.to_string()) })
        }
    };
    tracing::info!("stopping");
    // Traffic stops before the endpoint closes, or closing would wait for long polls.
    agents.abort();
    link.abort();
    shared.live.finish_all();
    let (done, finished) = oneshot::channel();
    let _ = commands.send(Command::Shutdown(done));
    let closing = async {
        // Dropped, not sent: either way the driver has ended.
        let _ = tokio::time::timeout(PUBLISH_GRACE, finished).await;
        driver.abort();
    };
    let stopping_api = async {
        if let Some(stop) = stop_api {
            let _ = stop.send(());
            let _ = api.await;
        }
    };
    tokio::join!(endpoint.close(CLOSE_GRACE), closing, stopping_api);
    let store = shared.store.clone();
    match tokio::task::spawn_blocking(move || store.flush()).await {
        Ok(flushed) => flushed?,
        Err(error) => tracing::error!(%error, "the store could not be flushed"),
    }
    ended
}

fn system_rng() -> Result<ChaCha20Rng, ServeError> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    SystemRandom::new().fill(seed.as_mut()).map_err(|_| ServeError::Randomness)?;
    Ok(ChaCha20Rng::from_seed(*seed))
}

/// Opens the identity, joining first when the folder has none.
async fn identity(data_dir: &Path, tenant: &TenantId, join: Option<JoinToken>, rng: &mut ChaCha20Rng) -> Result<ServerTrust, ServeError> {
    let dir = data_dir.join("identity");
    let mut folder = IdentityFolder::open_or_create(&dir, rng)?;
    if folder.enrolment().is_none()
        && let Some(token) = join
    {
        if token.role != Role::Server {
            return Err(ServeError::TokenRole { role: token.role });
        }
        let enrolment = enrol::join(&token, folder.key(), i64::try_from(now().as_ms() / 1000).unwrap_or(i64::MAX)).await?;
        tracing::info!(tenant = %token.tenant, authority = %token.authority, "joined");
        folder.save(enrolment)?;
    }
    let Some(enrolment) = folder.enrolment().cloned() else {
        return Err(aimass_net::identity::IdentityError::NotJoined { dir }.into());
    };
    let joined = &enrolment.membership().tenant;
    if joined != tenant {
        return Err(ServeError::Tenant {
            joined: joined.clone(),
            configured: tenant.clone(),
        });
    }
    Ok(ServerTrust::new(folder, enrolment))
}
