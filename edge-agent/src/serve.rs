//! Serving: models from files, swapped when the files change, answered over loopback and a Unix socket. Beside training or alone.
//!
//! Neither starves the other: requests are computed on threads of their own (`serve.threads`), which sleep when nobody asks, and training takes one
//! thread a core less as many, at least one, unless `compute.threads` says how many. What models take is bounded by `serve.memory_limit_mib`, what
//! training takes by `compute.memory_limit_mib`; the device needs both.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use aimass_serving::queue::QueueConfig;
use aimass_serving::{Endpoints, Host, HostConfig, HostError, ListenError, Watched, Watcher, WatcherHandle};
use tokio::sync::oneshot;

use crate::config::ServeConfig;
use crate::event::{AgentEvent, Reporter};
use crate::exit::ExitKind;
use crate::run::signals::Signals;

/// What switches TCP off.
const NO_TCP: &str = "none";
/// Most threads that read and write requests.
const SOCKET_THREADS: usize = 2;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServingError {
    /// No models.
    #[error("there is nothing to serve: name models with --model NAME=FILE, or in [serve] of agent.toml")]
    NoModels,
    /// Not `NAME=FILE`.
    #[error("the model {entry:?} is not NAME=FILE, for instance digits=digits.onnx (a folder: its newest .onnx file)")]
    Model {
        /// What was given.
        entry: String,
    },
    /// Two of one name.
    #[error("the model {name:?} is named twice: choose another name for one of them")]
    Twice {
        /// The name.
        name: String,
    },
    /// Neither address nor socket.
    #[error("there is no endpoint: give --listen ADDRESS:PORT or --unix PATH")]
    NoEndpoint,
    /// Not an address.
    #[error("serve.listen {text:?} is no address: use for instance 127.0.0.1:8000, or {NO_TCP:?}")]
    Address {
        /// What was given.
        text: String,
    },
    /// A model.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An endpoint.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The operating system.
    #[error("can't start: {0}")]
    System(#[from] std::io::Error),
}

impl ServingError {
    /// The exit code that belongs to it.
    pub fn exit_kind(&self) -> ExitKind {
        match self {
            Self::NoModels | Self::Model { .. } | Self::Twice { .. } | Self::NoEndpoint | Self::Address { .. } => ExitKind::Usage,
            Self::Listen(ListenError::NotLoopback { .. }) | Self::Host(HostError::Name { .. }) => ExitKind::Usage,
            Self::Host(HostError::Thread(_)) | Self::Listen(_) | Self::System(_) => ExitKind::Failure,
            Self::Host(_) => ExitKind::BadData,
        }
    }
}

/// What is served, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    models: Vec<Watched>,
    address: Option<SocketAddr>,
    unix: Option<PathBuf>,
}

impl Plan {
    fn of(config: &ServeConfig) -> Result<Self, ServingError> {
        let mut models: Vec<Watched> = Vec::new();
        for entry in &config.models {
            let (name, path) = entry
                .split_once('=')
                .filter(|(name, path)| !name.is_empty() && !path.is_empty())
                .ok_or_else(|| ServingError::Model { entry: entry.clone() })?;
            if models.iter().any(|watched| watched.model == name) {
                return Err(ServingError::Twice { name: name.to_owned() });
            }
            models.push(Watched {
                model: name.to_owned(),
                path: path.into(),
            });
        }
        if models.is_empty() {
            return Err(ServingError::NoModels);
        }
        let text = config.listen.trim();
        let address = (text != NO_TCP)
            .then(|| text.parse())
            .transpose()
            .map_err(|_| ServingError::Address { text: text.to_owned() })?;
        let unix = (!config.unix.is_empty()).then(|| PathBuf::from(&config.unix));
        if address.is_none() && unix.is_none() {
            return Err(ServingError::NoEndpoint);
        }
        Ok(Self { models, address, unix })
    }
}

/// How a host works by these settings.
pub(crate) fn host_config(config: &ServeConfig) -> HostConfig {
    HostConfig {
        queue: QueueConfig {
            threads: config.threads.get(),
            max_batch: config.max_batch.get(),
            delay: Duration::from_millis(config.batch_delay_ms),
            capacity: config.queue,
        },
        memory_cap_bytes: (config.memory_limit_mib > 0).then(|| u64::from(config.memory_limit_mib) << 20),
        engine: config.engine,
        max_request_bytes: (config.max_request_mib.get() as usize) << 20,
        ..HostConfig::default()
    }
}

/// A service that runs on threads of its own until it is dropped; requests under way are finished then.
#[derive(Debug)]
pub struct Serving {
    _watch: WatcherHandle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    address: Option<SocketAddr>,
}

impl Serving {
    /// Loads the models and begins to answer. With `strict` every model must load; else those that don't are logged and watched.
    ///
    /// # Errors
    /// [`ServingError`].
    pub fn start(config: &ServeConfig, strict: bool, reporter: Reporter) -> Result<Self, ServingError> {
        let plan = Plan::of(config)?;
        let host = Arc::new(Host::start(host_config(config))?);
        let mut watcher = Watcher::new(Arc::clone(&host), plan.models.clone());
        if strict {
            watcher.load_all()?;
        } else {
            watcher.load_what_can_be();
        }
        let (stop, stopped) = oneshot::channel();
        let (address, thread) = listen(Arc::clone(&host), &plan, config, stopped)?;
        reporter.tell(&AgentEvent::Serving {
            models: host.names(),
            address: address.map(|address| address.to_string()),
            unix: plan.unix.map(|path| path.display().to_string()),
        });
        Ok(Self {
            _watch: watcher.run(Duration::from_secs(config.watch_s.get()))?,
            stop: Some(stop),
            thread: Some(thread),
            address,
        })
    }

    /// Where TCP connections come in.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Binds the endpoints and answers on a thread with a runtime of its own: neither reading large requests nor writing them holds up anything else.
fn listen(
    host: Arc<Host>,
    plan: &Plan,
    config: &ServeConfig,
    stopped: oneshot::Receiver<()>,
) -> Result<(Option<SocketAddr>, JoinHandle<()>), ServingError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(config.threads.get().min(SOCKET_THREADS))
        .thread_name("serve-io")
        .enable_all()
        .build()?;
    let (tell, told) = mpsc::channel();
    let (plan, insecure) = (plan.clone(), config.insecure_listen);
    let thread = std::thread::Builder::new().name("serve".to_owned()).spawn(move || {
        runtime.block_on(async move {
            let endpoints = match bind(&plan, insecure).await {
                Ok(endpoints) => endpoints,
                Err(e) => {
                    let _ = tell.send(Err(e));
                    return;
                }
            };
            let _ = tell.send(Ok(endpoints.address()));
            let end = async {
                let _ = stopped.await;
            };
            if let Err(e) = aimass_serving::serve(host, endpoints, end).await {
                tracing::error!("serving ended: {e}");
            }
        });
    })?;
    let ended = || std::io::Error::other("the serving thread ended at once");
    let address = told.recv().map_err(|_| ended())??;
    Ok((address, thread))
}

async fn bind(plan: &Plan, insecure: bool) -> Result<Endpoints, ListenError> {
    let mut endpoints = Endpoints::default();
    if let Some(address) = plan.address {
        endpoints = endpoints.tcp(address, insecure).await?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                "serving on {address}: other machines can reach it, without encryption and without a password (insecure_listen)"
            );
        }
    }
    if let Some(path) = &plan.unix {
        endpoints = endpoints.unix(path).await?;
    }
    Ok(endpoints)
}

/// `aimass-agent serve`: until a signal, or the end of standard input where that is asked for.
///
/// # Errors
/// [`ServingError`].
pub fn run(config: &ServeConfig, reporter: Reporter, exit_with_parent: bool) -> Result<ExitKind, ServingError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _in_runtime = runtime.enter();
        Signals::listen(exit_with_parent)?
    };
    let serving = Serving::start(config, true, reporter)?;
    let (reason, kind) = runtime.block_on(signals.stop());
    drop(serving);
    reporter.tell(&AgentEvent::Stopped { reason: reason.to_owned() });
    Ok(kind)
}
