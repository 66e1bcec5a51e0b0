//! `aimass-agent run`: drives the session over the network until it is told to stop.

mod driver;
mod masks;
pub(crate) mod membership;
pub(crate) mod requests;
pub(crate) mod serving;
pub(crate) mod signals;
mod tasks;

pub use driver::identity_of;
pub use masks::{MaskAnswer, MaskStep};
pub use requests::{OpenUpload, begin_upload, check_in, outcome, ready};

use std::io;
use std::time::{Duration, Instant};

use aimass_federation::agent::Policy;
use aimass_learning::BackendConfig;
use aimass_net::ConnectError;
use aimass_net::enrol::RenewError;
use aimass_net::identity::{IdentityError, IdentityFolder};
use aimass_protocol::Checked as _;
use aimass_protocol::check::Violation;

use crate::capabilities;
use crate::config::{ModelsConfig, ServeConfig};
use crate::data::{DataRegistry, RegistryError};
use crate::event::Reporter;
use crate::exit::ExitKind;
use crate::platform::NoRandomness;
use crate::serve::{Serving, ServingError};
use crate::state::{FolderLock, StateError, StateFolder};

/// How `run` works.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The agent's folder.
    pub state: StateFolder,
    /// How soon a change of the trust bundle is followed.
    pub bundle_refresh: Duration,
    /// The owner's rules.
    pub policy: Policy,
    /// Data files by contract.
    pub data: DataRegistry,
    /// What training computes with.
    pub backend: BackendConfig,
    /// Free-form class of this device.
    pub device_class: String,
    /// Tags that jobs may ask for.
    pub tags: Vec<String>,
    /// Models that this device serves.
    pub models: ModelsConfig,
    /// Where events go.
    pub reporter: Reporter,
    /// Whether to draw training's progress on the terminal.
    pub show_progress: bool,
    /// Stop after one included contribution.
    pub once: bool,
    /// Stop when the operator has revoked this agent, instead of asking again each minute.
    pub exit_on_revoked: bool,
    /// Stop when standard input ends.
    pub exit_with_parent: bool,
    /// What is served meanwhile; nothing where it names no models.
    pub serve: ServeConfig,
}

/// Why `run` ended with an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The data.
    #[error(transparent)]
    Data(#[from] RegistryError),
    /// The device's class or tags.
    #[error("the settings of this device: {0}")]
    Device(#[from] Violation),
    /// The identity folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// No socket.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The certificate can't be renewed any more.
    #[error(transparent)]
    Renew(#[from] RenewError),
    /// The operator has revoked this agent.
    #[error("{text}")]
    Revoked {
        /// What the service said.
        text: String,
    },
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// What is served.
    #[error(transparent)]
    Serving(#[from] ServingError),
    /// The operating system.
    #[error("can't start: {0}")]
    System(#[from] io::Error),
}

impl RunError {
    /// The exit code that belongs to it.
    pub fn exit_kind(&self) -> ExitKind {
        match self {
            Self::Data(RegistryError::File(_)) => ExitKind::BadData,
            Self::Data(_) | Self::Device(_) | Self::Identity(IdentityError::NotJoined { .. }) => ExitKind::Usage,
            Self::Serving(e) => e.exit_kind(),
            Self::Revoked { .. } | Self::Renew(_) => ExitKind::Refused,
            Self::Identity(_) | Self::State(_) | Self::Connect(_) | Self::Randomness(_) | Self::System(_) => ExitKind::Failure,
        }
    }
}

/// Blocking work finds its own thread, which goes soon after, and its memory with it.
const MAX_BLOCKING_THREADS: usize = 4;
const BLOCKING_THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long a process that was killed may take to let go of its folder.
const PREDECESSOR: Duration = Duration::from_secs(1);
/// How long file work that has begun may take at the end.
const LAST_WORK: Duration = Duration::from_millis(300);

/// Runs until it is told to stop, by a signal or by `options`.
///
/// # Errors
/// [`RunError`] when it can't begin, or can't go on without a person.
pub fn run(options: RunOptions) -> Result<ExitKind, RunError> {
    capabilities::of_this_device(&options.device_class, &options.tags).check()?;
    options.data.check()?;
    let lock = open_state(&options.state)?;
    let (identity, _) = IdentityFolder::open(&options.state.identity_dir())?;
    // It answers while the agent trains, and ends after it.
    let serving = (!options.serve.models.is_empty())
        .then(|| Serving::start(&options.serve, false, options.reporter))
        .transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREAD_KEEP_ALIVE)
        .build()?;
    let result = runtime.block_on(async {
        let mut signals = signals::Signals::listen(options.exit_with_parent)?;
        let driver = driver::Driver::new(options, identity)?;
        driver.run(&mut signals).await
    });
    runtime.shutdown_timeout(LAST_WORK);
    drop(serving);
    drop(lock);
    result
}

/// Opens the folder. A process that was just killed may hold it for a moment yet.
fn open_state(state: &StateFolder) -> Result<FolderLock, StateError> {
    let deadline = Instant::now() + PREDECESSOR;
    loop {
        match state.open() {
            Err(StateError::InUse { .. }) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
