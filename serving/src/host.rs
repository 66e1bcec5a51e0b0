//! The models of a process, and what answers their requests.

#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aimass_inference::{Engine, LoadError, LoadOptions, MemoryBudget, Servable, Tensor, read_file};

use self::trial::{MAX_NAME_BYTES, check_name, difference, self_test};
use crate::error::{HostError, ServeError};
use crate::metrics::{Metrics, Shown};
use crate::queue::{Full, Queue, QueueConfig, Workers};
use crate::slot::{ModelSlot, Version};
use crate::windows::{Merge, Windows, received};

/// Most models and versions.
const MAX_VERSIONS: usize = 256;
/// Memory for the bodies of requests, as a multiple of the largest.
const BODIES: u64 = 16;

/// How a host works.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Threads, batches and the queue.
    pub queue: QueueConfig,
    /// Bytes that all models may take together, by estimate; `None`: no limit.
    pub memory_cap_bytes: Option<u64>,
    /// Bytes of the largest model file.
    pub max_model_bytes: u64,
    /// Bytes of the largest request.
    pub max_request_bytes: usize,
    /// Bytes that the pieces of one request may give together.
    pub max_output_bytes: usize,
    /// How long a request may take, from its last byte on.
    pub timeout: Duration,
    /// What computes the models.
    pub engine: Engine,
}

impl Default for HostConfig {
    /// One thread, no memory cap, models of 2 GiB, requests of 16 MiB, results of 256 MiB, 60 s, the faster engine.
    fn default() -> Self {
        Self {
            queue: QueueConfig::default(),
            memory_cap_bytes: None,
            max_model_bytes: 2 << 30,
            max_request_bytes: 16 << 20,
            max_output_bytes: 256 << 20,
            timeout: Duration::from_secs(60),
            engine: Engine::Auto,
        }
    }
}

/// A request, decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Given back with the answer.
    pub id: Option<String>,
    /// All inputs in the model's order.
    pub inputs: Vec<Tensor>,
    /// Indices of the outputs that are wanted.
    pub outputs: Vec<usize>,
    /// Which of them in binary form.
    pub binary: Vec<bool>,
    /// The windows that a long input is cut into.
    pub windows: Option<Windows>,
}

impl Request {
    /// A request for all outputs.
    pub fn new(version: &Version, inputs: Vec<Tensor>) -> Self {
        let n = version.servable.outputs().len();
        Self {
            id: None,
            inputs,
            outputs: (0..n).collect(),
            binary: vec![false; n],
            windows: None,
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub struct Answer {
    /// What computed it.
    pub version: Arc<Version>,
    /// The request's id.
    pub id: Option<String>,
    /// Name, tensor, and whether it is wanted in binary form.
    pub outputs: Vec<(String, Tensor, bool)>,
}

/// See the module. Dropped, it computes what waits and ends its threads.
pub struct Host {
    config: HostConfig,
    models: RwLock<BTreeMap<String, Arc<ModelSlot>>>,
    memory: MemoryBudget,
    bodies: MemoryBudget,
    queue: Arc<Queue>,
    metrics: Metrics,
    _workers: Workers,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("models", &self.names()).finish_non_exhaustive()
    }
}

impl Host {
    /// A host without models; its threads wait for work.
    ///
    /// # Errors
    /// [`HostError::Thread`].
    pub fn start(config: HostConfig) -> Result<Self, HostError> {
        let (queue, workers) = Queue::start(config.queue).map_err(HostError::Thread)?;
        Ok(Self {
            models: RwLock::default(),
            memory: MemoryBudget::new(config.memory_cap_bytes.unwrap_or(u64::MAX)),
            bodies: MemoryBudget::new(BODIES * config.max_request_bytes as u64),
            queue,
            metrics: Metrics::default(),
            config,
            _workers: workers,
        })
    }

    /// How it works.
    pub fn config(&self) -> &HostConfig {
        &self.config
    }

    /// Bytes that the models take, by estimate.
    pub fn memory_used(&self) -> u64 {
        self.memory.used()
    }

    /// What requests may take while they are read.
    pub(crate) fn bodies(&self) -> &MemoryBudget {
        &self.bodies
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The figures in Prometheus' text format.
    pub fn metrics_text(&self) -> String {
        let current = |slot: Arc<ModelSlot>| {
            let current = slot.current();
            Shown {
                model: current.model.clone(),
                version: current.version.clone(),
                engine: current.servable.engine(),
                batch: current.servable.best_batch(),
            }
        };
        let models: Vec<Shown> = self.slots().into_iter().map(current).collect();
        self.metrics.text(&models, self.queue.depth(), self.memory.used())
    }

    /// Loads a version of a model: the first is in service, others are beside it, for requests that name them.
    ///
    /// # Errors
    /// [`HostError`]; nothing has changed then.
    pub fn load(&self, model: &str, version: &str, bytes: &[u8]) -> Result<Arc<Version>, HostError> {
        check_name(model)?;
        check_name(version)?;
        let slot = self.slot(model);
        if slot.as_ref().is_some_and(|slot| slot.version(version).is_some()) {
            return Err(HostError::Exists {
                model: model.to_owned(),
                version: version.to_owned(),
            });
        }
        let loaded = self.prepare(model, version, bytes)?;
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        match models.get(model) {
            Some(slot) => slot.add(Arc::clone(&loaded)),
            None => {
                models.insert(model.to_owned(), Arc::new(ModelSlot::new(Arc::clone(&loaded))));
            }
        }
        Ok(loaded)
    }

    /// [`load`](Self::load) from a file.
    ///
    /// # Errors
    /// [`HostError`]; nothing has changed then.
    pub fn load_file(&self, model: &str, version: &str, path: &Path) -> Result<Arc<Version>, HostError> {
        self.load(model, version, &self.read(model, version, path)?)
    }

    /// Puts another version of a model into service, once it is loaded, warm, and has passed its self-test. Requests under way finish on the old one,
    /// which is freed after the last of them. Both need memory meanwhile.
    ///
    /// # Errors
    /// [`HostError`]; the old version stays in service then.
    pub fn swap(&self, model: &str, version: &str, bytes: &[u8]) -> Result<Arc<Version>, HostError> {
        let unknown = || HostError::Unknown {
            model: model.to_owned(),
            version: version.to_owned(),
        };
        let slot = self.slot(model).ok_or_else(unknown)?;
        let _one_at_a_time = slot.changing.lock().unwrap_or_else(PoisonError::into_inner);
        check_name(version)?;
        let old = slot.current();
        if old.version == version {
            return Err(HostError::Exists {
                model: model.to_owned(),
                version: version.to_owned(),
            });
        }
        let next = self.prepare(model, version, bytes)?;
        if let Some(difference) = difference(&old.servable, &next.servable) {
            return Err(HostError::Interface {
                model: model.to_owned(),
                version: version.to_owned(),
                difference,
            });
        }
        drop(old);
        slot.swap(Arc::clone(&next));
        self.metrics.swapped(model);
        Ok(next)
    }

    /// [`swap`](Self::swap) from a file.
    ///
    /// # Errors
    /// [`HostError`]; the old version stays in service then.
    pub fn swap_file(&self, model: &str, version: &str, path: &Path) -> Result<Arc<Version>, HostError> {
        self.swap(model, version, &self.read(model, version, path)?)
    }

    /// Takes a version away, and the model with its last one. The version in service goes only when it is the last.
    ///
    /// # Errors
    /// [`HostError::Unknown`].
    pub fn unload(&self, model: &str, version: &str) -> Result<(), HostError> {
        let unknown = || HostError::Unknown {
            model: model.to_owned(),
            version: version.to_owned(),
        };
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let slot = models.get(model).ok_or_else(unknown)?;
        if slot.remove(version).is_some() {
            return Ok(());
        }
        if slot.names() == [version] {
            models.remove(model);
            return Ok(());
        }
        Err(unknown())
    }

    fn read(&self, model: &str, version: &str, path: &Path) -> Result<Vec<u8>, HostError> {
        read_file(path, self.config.max_model_bytes).map_err(|source| load_error(model, version, source))
    }

    /// Loads, warms and tests a version.
    fn prepare(&self, model: &str, version: &str, bytes: &[u8]) -> Result<Arc<Version>, HostError> {
        let loaded: usize = self.slots().iter().map(|slot| slot.names().len()).sum();
        if loaded >= MAX_VERSIONS {
            return Err(HostError::TooMany { limit: MAX_VERSIONS });
        }
        let servable = Servable::load(bytes, &self.load_options()).map_err(|source| load_error(model, version, source))?;
        tracing::info!(
            model,
            version,
            "computed by {} ({}), in batches of up to {}",
            servable.engine(),
            servable.engine_reason(),
            servable.best_batch()
        );
        self_test(&servable).map_err(|reason| HostError::SelfTest {
            model: model.to_owned(),
            version: version.to_owned(),
            reason,
        })?;
        Ok(Arc::new(Version {
            model: model.to_owned(),
            version: version.to_owned(),
            servable,
        }))
    }

    fn load_options(&self) -> LoadOptions {
        let max = self.queue.max_batch();
        LoadOptions {
            max_model_bytes: self.config.max_model_bytes,
            threads: self.config.queue.threads.max(1),
            // Any number of rows is put together from these.
            batches: vec![1, (max / 4).max(1), max],
            memory: self.memory.clone(),
            engine: self.config.engine,
            ..LoadOptions::default()
        }
    }

    /// Names of the models.
    pub fn names(&self) -> Vec<String> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.keys().cloned().collect()
    }

    fn slots(&self) -> Vec<Arc<ModelSlot>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.values().cloned().collect()
    }

    /// A model by name.
    pub fn slot(&self, model: &str) -> Option<Arc<ModelSlot>> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        models.get(model).cloned()
    }

    /// The version that a request is for: the one that it names, or the one in service.
    ///
    /// # Errors
    /// [`ServeError::NotFound`].
    pub fn find(&self, model: &str, version: Option<&str>) -> Result<(Arc<ModelSlot>, Arc<Version>), ServeError> {
        let shown = |name: &str| name.chars().take(MAX_NAME_BYTES).collect::<String>();
        let slot = self.slot(model).ok_or_else(|| {
            let names = self.names();
            let there = if names.is_empty() {
                "none is loaded".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            ServeError::NotFound(format!("there is no model {:?}; {there}", shown(model)))
        })?;
        let found = match version {
            None => slot.current(),
            Some(version) => slot.version(version).ok_or_else(|| {
                let names = slot.names().join(", ");
                ServeError::NotFound(format!("model {model:?} has no version {:?}; there are {names}", shown(version)))
            })?,
        };
        Ok((slot, found))
    }

    /// Computes a request.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn infer(&self, version: &Arc<Version>, request: Request) -> Result<Answer, ServeError> {
        let late = || ServeError::Late {
            seconds: self.config.timeout.as_secs(),
        };
        let begin = Instant::now();
        let outputs = tokio::time::timeout(self.config.timeout, self.compute(version, &request))
            .await
            .map_err(|_| late())??;
        self.metrics.computed(&version.model, begin.elapsed());
        let ports = version.servable.outputs();
        let mut outputs: Vec<Option<Tensor>> = outputs.into_iter().map(Some).collect();
        let wanted = request.outputs.iter().zip(&request.binary).map(|(&at, &binary)| {
            let tensor = outputs.get_mut(at).and_then(Option::take);
            let name = ports.get(at).map(|port| port.name.clone());
            name.zip(tensor)
                .map(|(name, tensor)| (name, tensor, binary))
                .ok_or_else(|| ServeError::Internal(format!("output {at} did not come out")))
        });
        Ok(Answer {
            outputs: wanted.collect::<Result<_, _>>()?,
            version: Arc::clone(version),
            id: request.id,
        })
    }

    async fn compute(&self, version: &Arc<Version>, request: &Request) -> Result<Vec<Tensor>, ServeError> {
        if let Some(windows) = &request.windows {
            return windows
                .run(&self.queue, version, &request.inputs, self.config.max_output_bytes)
                .await;
        }
        let servable = &version.servable;
        servable.check(&request.inputs)?;
        let rows = request.inputs.first().map_or(1, Tensor::rows);
        let max = self.queue.max_batch();
        if !servable.has_independent_rows() || rows <= max {
            let waiting = self.queue.push(version, request.inputs.clone(), false)?;
            return received(Some(waiting)).await;
        }
        // Many rows go in pieces, so that all threads compute them and others' requests come between.
        let pieces = Windows {
            input: 0,
            window: max,
            stride: max,
            axis: 0,
            merge: Merge::Concat,
            per_step: false,
        };
        let limit = self.config.max_output_bytes;
        pieces.rows(&self.queue, version, &request.inputs, rows, limit).await
    }
}

impl From<Full> for ServeError {
    fn from(full: Full) -> Self {
        Self::Busy {
            what: full.to_string(),
            retry_s: 1,
        }
    }
}

fn load_error(model: &str, version: &str, source: LoadError) -> HostError {
    HostError::Load {
        model: model.to_owned(),
        version: version.to_owned(),
        source: Box::new(source),
    }
}
