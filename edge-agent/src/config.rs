//! Settings: flags over `AIMASS_AGENT_*` variables over `agent.toml` over defaults.

use std::io;
use std::num::{NonZeroU16, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aimass_federation::agent::Policy;
use aimass_inference::Engine;
use aimass_learning::remote::WorkerCommand;
use aimass_learning::{BackendChoice, BackendConfig};
use aimass_protocol::descriptor::Profile;
use aimass_settings::{Layers, Resolved, SettingsError};
use serde::{Deserialize, Serialize};

use crate::args::{Cli, Command, DeviceArgs, ServeArgs};
use crate::data::{DataRegistry, RegistryError};
use crate::state::StateFolder;

/// Prefix of the variables.
pub const PREFIX: &str = "AIMASS_AGENT_";
/// Name of the settings file in the agent's folder.
pub const FILE_NAME: &str = "agent.toml";

const TEN_MINUTES: NonZeroU64 = NonZeroU64::new(600).expect("it is not 0");

/// All settings of the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentConfig {
    /// The agent's folder.
    pub data_dir: String,
    /// Seconds within which a running agent follows a change of the trust bundle (a new root, an owner). So often it asks its server for a
    /// newer bundle, besides at each connection; and so late at most it gets a certificate of a root that is new.
    pub bundle_refresh_s: NonZeroU64,
    /// What this device is.
    pub device: DeviceConfig,
    /// The owner's rules.
    pub policy: PolicyConfig,
    /// Data files.
    pub data: DataConfig,
    /// What training computes with.
    pub compute: ComputeConfig,
    /// Models that are served.
    pub serve: ServeConfig,
    /// Models that this device measures and serves.
    pub models: ModelsConfig,
    /// Logging.
    pub log: LogConfig,
}

/// `[device]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DeviceConfig {
    /// Free-form class, for instance `gateway`.
    pub class: String,
    /// Tags that jobs may ask for.
    pub tags: Vec<String>,
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyConfig {
    /// Whether updates may leave without masks, protected by TLS alone.
    pub allow_plain: bool,
    /// Fewest contributions in a sum, this device's included.
    pub min_survivors: u32,
    /// The weakest attackers that masks have to hold against: `standard` or `hardened`.
    pub min_profile: Profile,
    /// Purposes that the data may be used for; empty permits any.
    pub purposes: Vec<String>,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// `FILE` or `contract=FILE`, each a CSV with a header, an NPZ file or IDX images.
    pub files: Vec<String>,
}

/// `[compute]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ComputeConfig {
    /// `cpu`; `wgpu`: a GPU, or no training; `auto`: whichever is there and faster.
    #[serde(with = "backend_by_name")]
    pub backend: BackendChoice,
    /// Threads of the CPU; 0: one a core.
    pub threads: usize,
    /// Jobs whose steps would take more memory than this, by estimate, are declined; 0: no limit.
    pub memory_limit_mib: u32,
    /// The GPU worker; empty: `aimass-gpu-worker` beside the agent's executable.
    pub gpu_worker: String,
}

impl Default for ComputeConfig {
    /// Devices whose owner did not think of it keep their GPU to themselves.
    fn default() -> Self {
        Self {
            backend: BackendChoice::Cpu,
            threads: 0,
            memory_limit_mib: 0,
            gpu_worker: String::new(),
        }
    }
}

/// `[models]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelsConfig {
    /// Whether releases that the server names are kept ready to be served.
    pub keep: bool,
    /// Files of releases larger than this are refused.
    pub max_mib: u32,
    /// Memory that this agent may use; 0: what the system has.
    pub memory_mib: u32,
    /// With less free memory than this the smallest variant is served; 0: the fitting one always.
    pub low_memory_mib: u32,
    /// Seconds with more than twice as much free memory until the fitting variant is served again.
    pub calm_s: u32,
}

impl Default for ModelsConfig {
    fn default() -> Self {
        Self {
            keep: true,
            max_mib: 1024,
            memory_mib: 0,
            low_memory_mib: 128,
            calm_s: 60,
        }
    }
}

mod backend_by_name {
    use aimass_learning::BackendChoice;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(choice: &BackendChoice, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(choice)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BackendChoice, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// `[serve]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServeConfig {
    /// `NAME=FILE`, or a folder whose newest `.onnx` file is taken; none: nothing is served.
    pub models: Vec<String>,
    /// Where TCP connections come in; `none`: nowhere.
    pub listen: String,
    /// A Unix socket; empty: none.
    pub unix: String,
    /// Whether `listen` may be an address that other machines can reach.
    pub insecure_listen: bool,
    /// What computes: `auto`, `tract` or `plan`.
    pub engine: Engine,
    /// Threads that compute.
    pub threads: NonZeroUsize,
    /// Memory that all models may take, by estimate; 0: no limit.
    pub memory_limit_mib: u32,
    /// Most rows that are computed at once.
    pub max_batch: NonZeroUsize,
    /// How long a request waits for others.
    pub batch_delay_ms: u64,
    /// Most requests that wait; further ones are refused.
    pub queue: usize,
    /// The largest request.
    pub max_request_mib: NonZeroU16,
    /// Seconds between two looks at the models' files.
    pub watch_s: NonZeroU64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            models: Vec::new(),
            listen: "127.0.0.1:8000".to_owned(),
            unix: String::new(),
            insecure_listen: false,
            engine: Engine::Auto,
            threads: NonZeroUsize::MIN,
            memory_limit_mib: 0,
            max_batch: const { NonZeroUsize::new(16).expect("it is not 0") },
            batch_delay_ms: 0,
            queue: 256,
            max_request_mib: const { NonZeroU16::new(16).expect("it is not 0") },
            watch_s: const { NonZeroU64::new(2).expect("it is not 0") },
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter.
    pub level: String,
}

impl Default for AgentConfig {
    fn default() -> Self {
        Self {
            data_dir: "./aimass-agent".to_owned(),
            bundle_refresh_s: TEN_MINUTES,
            device: DeviceConfig::default(),
            policy: PolicyConfig::default(),
            data: DataConfig::default(),
            compute: ComputeConfig::default(),
            serve: ServeConfig::default(),
            models: ModelsConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for PolicyConfig {
    /// Nothing insecure.
    fn default() -> Self {
        let Policy {
            allow_plain,
            min_survivors,
            min_profile,
            purposes,
        } = Policy::default();
        Self {
            allow_plain,
            min_survivors,
            min_profile,
            purposes,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".to_owned() }
    }
}

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can't be read.
    #[error("the settings file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key or value.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An entry that would be taken for two.
    #[error("{flag} {entry:?} holds a comma, which separates entries: write it in the list {key} of {FILE_NAME} instead")]
    Comma {
        /// The flag.
        flag: &'static str,
        /// Its value.
        entry: String,
        /// The key in the file.
        key: &'static str,
    },
}

impl AgentConfig {
    /// The agent's folder.
    pub fn state(&self) -> StateFolder {
        StateFolder::new(&self.data_dir)
    }

    /// How soon a change of the trust bundle is followed.
    pub fn bundle_refresh(&self) -> Duration {
        Duration::from_secs(self.bundle_refresh_s.get())
    }

    /// The owner's rules.
    pub fn policy(&self) -> Policy {
        let PolicyConfig {
            allow_plain,
            min_survivors,
            min_profile,
            purposes,
        } = self.policy.clone();
        Policy {
            allow_plain,
            min_survivors,
            min_profile,
            purposes,
        }
    }

    /// What training computes with.
    pub fn backend(&self) -> BackendConfig {
        let ComputeConfig {
            backend,
            threads,
            memory_limit_mib,
            gpu_worker,
        } = &self.compute;
        let mut config = BackendConfig::from_environment();
        config.backend = *backend;
        config.threads = NonZeroUsize::new(*threads).or_else(|| self.threads_beside_serving());
        config.memory_limit_bytes = (*memory_limit_mib > 0).then(|| u64::from(*memory_limit_mib) << 20);
        if !gpu_worker.is_empty() {
            config.worker = Some(WorkerCommand::new(gpu_worker));
        }
        config
    }

    /// Threads that training takes where nobody says how many and models are served: one a core, less those that compute requests.
    fn threads_beside_serving(&self) -> Option<NonZeroUsize> {
        if self.serve.models.is_empty() {
            return None;
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        NonZeroUsize::new(cores.saturating_sub(self.serve.threads.get()).max(1))
    }

    /// The data files by contract; they are not looked at yet.
    ///
    /// # Errors
    /// [`RegistryError`].
    pub fn registry(&self) -> Result<DataRegistry, RegistryError> {
        DataRegistry::parse(self.data.files.iter().map(String::as_str))
    }
}

/// Resolves the settings for a command line.
///
/// # Errors
/// [`ConfigError`] with the file, variable or flag by name, and the fix.
pub(crate) fn resolve(cli: &Cli, variables: impl Iterator<Item = (String, String)>) -> Result<Resolved<AgentConfig>, ConfigError> {
    let variables: Vec<(String, String)> = variables.collect();
    let flags = flags(cli)?;
    let layers = Layers::new(&AgentConfig::default())?;
    let layers = match config_file(cli, &variables)? {
        Some((path, text)) => layers.file(&path.display().to_string(), &text)?,
        None => layers,
    };
    let mut layers = layers.allow_variable(CONFIG_VARIABLE).environment(PREFIX, variables)?;
    for (key, flag, value) in flags {
        layers = layers.flag(key, flag, &value)?;
    }
    Ok(layers.resolve()?)
}

const CONFIG_VARIABLE: &str = "AIMASS_AGENT_CONFIG";
const DATA_DIR_VARIABLE: &str = "AIMASS_AGENT_DATA_DIR";

/// The settings file and its text: the one that was asked for, or the one in the agent's folder if it is there.
fn config_file(cli: &Cli, variables: &[(String, String)]) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let variable = |name: &str| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    let asked = cli.config.clone().or_else(|| variable(CONFIG_VARIABLE).map(PathBuf::from));
    let default_dir = AgentConfig::default().data_dir;
    let data_dir = cli
        .data_dir
        .as_deref()
        .or_else(|| variable(DATA_DIR_VARIABLE))
        .unwrap_or(&default_dir);
    let path = asked.clone().unwrap_or_else(|| Path::new(data_dir).join(FILE_NAME));
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound && asked.is_none() => Ok(None),
        Err(source) => Err(ConfigError::File { path, source }),
    }
}

/// A flag that was given: the setting's key, the flag's name, the value.
type Flag = (&'static str, &'static str, String);

/// The flags that were given.
fn flags(cli: &Cli) -> Result<Vec<Flag>, ConfigError> {
    let mut flags = Vec::new();
    if let Some(dir) = &cli.data_dir {
        flags.push(("data_dir", "--data-dir", dir.clone()));
    }
    if cli.quiet {
        flags.push(("log.level", "--quiet", "warn".to_owned()));
    }
    if let Some(level) = &cli.log {
        flags.push(("log.level", "--log", level.clone()));
    }
    match &cli.command {
        Command::Run(run) => {
            device_flags(&run.device, &mut flags)?;
            if let Some(class) = &run.device_class {
                flags.push(("device.class", "--device-class", class.clone()));
            }
            push_list(&mut flags, "device.tags", "--tag", &run.tags)?;
            if let Some(backend) = run.backend {
                flags.push(("compute.backend", "--backend", backend.to_string()));
            }
            if let Some(threads) = run.threads {
                flags.push(("compute.threads", "--threads", threads.to_string()));
            }
            if let Some(limit) = run.memory_limit_mib {
                flags.push(("compute.memory_limit_mib", "--memory-limit-mib", limit.to_string()));
            }
        }
        Command::Doctor(doctor) => device_flags(&doctor.device, &mut flags)?,
        Command::Serve(serve) => serve_flags(serve, &mut flags)?,
        Command::Predict(_) | Command::Join(_) | Command::Status | Command::Config { .. } => {}
    }
    Ok(flags)
}

fn device_flags(args: &DeviceArgs, flags: &mut Vec<Flag>) -> Result<(), ConfigError> {
    if args.allow_plain {
        flags.push(("policy.allow_plain", "--allow-plain", "true".to_owned()));
    }
    if let Some(n) = args.min_survivors {
        flags.push(("policy.min_survivors", "--min-survivors", n.to_string()));
    }
    push_list(flags, "policy.purposes", "--purpose", &args.purposes)?;
    push_list(flags, "data.files", "--data", &args.data)
}

fn serve_flags(args: &ServeArgs, flags: &mut Vec<Flag>) -> Result<(), ConfigError> {
    push_list(flags, "serve.models", "--model", &args.models)?;
    let mut push = |key, flag, value: Option<String>| flags.extend(value.map(|value| (key, flag, value)));
    push("serve.listen", "--listen", args.listen.clone());
    push("serve.unix", "--unix", args.unix.as_ref().map(|path| path.display().to_string()));
    push(
        "serve.insecure_listen",
        "--insecure-listen",
        args.insecure_listen.then(|| "true".to_owned()),
    );
    push("serve.engine", "--engine", args.engine.map(|engine| engine.to_string()));
    push("serve.threads", "--threads", args.threads.map(|n| n.to_string()));
    push(
        "serve.memory_limit_mib",
        "--memory-limit-mib",
        args.memory_limit_mib.map(|n| n.to_string()),
    );
    push("serve.max_batch", "--max-batch", args.max_batch.map(|n| n.to_string()));
    push(
        "serve.batch_delay_ms",
        "--batch-delay-ms",
        args.batch_delay_ms.map(|n| n.to_string()),
    );
    Ok(())
}

fn push_list(flags: &mut Vec<Flag>, key: &'static str, flag: &'static str, values: &[String]) -> Result<(), ConfigError> {
    if let Some(entry) = values.iter().find(|v| v.contains(',')) {
        return Err(ConfigError::Comma {
            flag,
            entry: entry.clone(),
            key,
        });
    }
    if !values.is_empty() {
        flags.push((key, flag, values.join(",")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
