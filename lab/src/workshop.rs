//! Training, summing and stepping with real models on several threads: what a [`Fleet`](aimass_sim::fleet::Fleet) asks for.
//!
//! A contribution is trained, encoded and added by one worker in one go, into a sum of its own, so that memory does not grow with the cohort; sums are whole
//! numbers, so that it does not matter who added what. A round's sums are put together when it is published.

mod fusing;
mod pool;
mod publish;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aimass_compression::{FixedCodec, FixedParams};
use aimass_crypto::hash::sha256;
use aimass_learning::data::Source;
use aimass_learning::inspect::{Question, inspect};
use aimass_learning::{Head, Teacher};
use aimass_onnx::{Model, ParamKind, ParamLayout};
use aimass_protocol::job::JobFile;
use aimass_protocol::{CohortId, Digest};
use aimass_recipe::seeds;
use aimass_sim::fleet::{Effort, Published, Sum, Unpublished, Work, Workshop};
use aimass_sim::population::ByzantineKind;

use self::pool::Pool;
use self::publish::{Lanes, Step};
use crate::holdings::Holdings;
use crate::record::RoundRow;

/// What a client without data counts as, in operations: so that it takes part at all.
const LEAST_GFLOP: f64 = 1e-6;

/// What is computed with.
pub struct Tools {
    /// The job, as it is run.
    pub job: JobFile,
    /// Which initializers train.
    pub layout: ParamLayout,
    /// What is learnt.
    pub heads: Vec<Head>,
    /// Who has which data.
    pub holdings: Holdings,
    /// Held-out data.
    pub evaluation: Option<Arc<dyn Source>>,
    /// What is learnt from, where the job has a teacher.
    pub teacher: Option<Teacher>,
    /// Rows that groups are asked about, where the strategy fuses them.
    pub public: Option<Arc<dyn Source>>,
    /// It is used every so many rounds, and after the last.
    pub evaluate_every: u32,
    /// Whether trainings are left out: updates are zeros then.
    pub no_train: bool,
    /// What attackers do.
    pub byzantine: Option<ByzantineKind>,
    /// Of canaries.
    pub seed: u64,
    /// Threads that compute.
    pub threads: usize,
}

impl std::fmt::Debug for Tools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tools").field("job", &self.job.job.name).finish_non_exhaustive()
    }
}

/// A model that is trained from.
#[derive(Debug)]
struct Base {
    digest: Digest,
    model: Model,
    weights: Vec<f32>,
    /// The same for all models of a job.
    buffers: Arc<[f32]>,
}

/// See the module.
pub struct Lab {
    tools: Arc<Tools>,
    pool: Pool,
    bases: BTreeMap<Digest, Arc<Base>>,
    /// Newest first.
    order: Vec<Digest>,
    model_bytes: u64,
    layout_digest: Digest,
    step_gflop: f64,
    /// Rounds that were published before an interruption, and where their last models lie.
    recorded: Vec<RoundRow>,
    models: PathBuf,
    efforts: BTreeMap<u32, Effort>,
    canaries: BTreeSet<u32>,
    canary_cosines: Vec<f64>,
    /// Memory for the next mean.
    mean: Vec<f32>,
    /// The averages of the block's rounds so far, with the examples behind them.
    averages: Vec<(Vec<f32>, u64)>,
    wrong: Option<String>,
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lab").field("bases", &self.order).finish_non_exhaustive()
    }
}

impl Lab {
    /// Starts the threads. `model` is what the first round trains from; `recorded` and the models in `models` are of an interrupted run, whose rounds are not
    /// computed again.
    ///
    /// # Errors
    /// A text that names what does not fit.
    pub fn new(tools: Tools, model: Model, recorded: Vec<RoundRow>, models: &Path) -> Result<Self, String> {
        let digest = Digest::from_bytes(sha256(model.as_bytes()));
        let layout_digest = Digest::from_bytes(sha256(&tools.layout.canonical_bytes()));
        let batch = usize::try_from(tools.job.train.batch).unwrap_or(1);
        let question = Question {
            batch,
            dims: BTreeMap::new(),
            moments: 0,
            gathered: false,
        };
        let cost = inspect(&model, Ok(&tools.layout), &question).cost;
        let flops = cost.map_or(6.0 * tools.layout.n_weights() as f64 * batch as f64, |cost| cost.step_flops as f64);
        let model_bytes = model.as_bytes().len() as u64;
        let tools = Arc::new(tools);
        let mut lab = Self {
            pool: Pool::new(&tools),
            bases: BTreeMap::new(),
            order: Vec::new(),
            model_bytes,
            layout_digest,
            step_gflop: flops / 1e9,
            recorded,
            models: models.to_owned(),
            efforts: BTreeMap::new(),
            canaries: BTreeSet::new(),
            canary_cosines: Vec::new(),
            mean: Vec::new(),
            averages: Vec::new(),
            wrong: None,
            tools,
        };
        lab.keep_read(digest, model)?;
        Ok(lab)
    }

    /// The newest model.
    pub fn model(&self) -> Option<&Model> {
        self.order.first().and_then(|digest| self.bases.get(digest)).map(|base| &base.model)
    }

    /// The models that contributions may stand on, newest first.
    pub fn models(&self) -> impl Iterator<Item = (Digest, &Model)> {
        self.order
            .iter()
            .filter_map(|digest| Some((*digest, &self.bases.get(digest)?.model)))
    }

    /// Mean cosine between what canaries planted and the steps that they were in; `None` without canaries.
    pub fn canary_cosine(&self) -> Option<f64> {
        let n = self.canary_cosines.len();
        (n > 0).then(|| self.canary_cosines.iter().sum::<f64>() / n as f64)
    }

    /// Keeps a model that was read.
    fn keep_read(&mut self, digest: Digest, model: Model) -> Result<(), String> {
        let values = |kind| model.values(&self.tools.layout, kind).map_err(|e| e.to_string());
        let (weights, buffers) = (values(ParamKind::Weight)?, values(ParamKind::Buffer)?.into());
        self.keep(Base {
            digest,
            model,
            weights,
            buffers,
        });
        Ok(())
    }

    fn keep(&mut self, base: Base) {
        let digest = base.digest;
        self.bases.insert(digest, Arc::new(base));
        self.order.retain(|other| *other != digest);
        self.order.insert(0, digest);
        let kept = 2 + usize::try_from(self.tools.job.round.max_staleness).unwrap_or(0);
        for old in self.order.split_off(kept.min(self.order.len())) {
            self.bases.remove(&old);
        }
    }

    /// A base, from the folder of an interrupted run where it has to be.
    fn base(&mut self, digest: Digest) -> Result<Arc<Base>, String> {
        if let Some(base) = self.bases.get(&digest) {
            return Ok(Arc::clone(base));
        }
        let path = self.models.join(format!("{}.onnx", digest.to_hex()));
        let bytes = std::fs::read(&path).map_err(|e| format!("{}: {e}; delete the folder and run it again", path.display()))?;
        if Digest::from_bytes(sha256(&bytes)) != digest {
            return Err(format!("{} is damaged; delete the folder and run it again", path.display()));
        }
        let model = Model::from_shared(bytes.into()).map_err(|e| e.to_string())?;
        self.keep_read(digest, model)?;
        self.bases.get(&digest).cloned().ok_or_else(|| "the model is gone".to_owned())
    }

    fn codec(&self, members: u32, rotation: Digest) -> Result<FixedCodec, String> {
        codec(&self.tools, members, rotation)
    }

    fn is_recorded(&self, round: u32) -> bool {
        let whole = |last: &RoundRow| last.round - last.round % self.tools.job.rounds_a_model();
        // Averages are not kept: a block that was not fused is computed again.
        self.recorded.last().is_some_and(|last| round <= whole(last))
    }

    fn step(&mut self, sum: &Sum<'_>) -> Result<Published, Unpublished> {
        let wrong = |reason: String| Unpublished { reason, blame: Vec::new() };
        if let Some(reason) = self.wrong.take() {
            return Err(wrong(reason));
        }
        let (lanes, failures) = self.pool.collect(sum.cohort);
        if !failures.is_empty() {
            let (client, reason) = &failures[0];
            let reason = format!("client {client}: {reason}");
            return Err(Unpublished {
                reason,
                blame: failures.iter().map(|(client, _)| *client).collect(),
            });
        }
        let codec = self.codec(sum.members, sum.rotation).map_err(wrong)?;
        let base = self.base(sum.base).map_err(wrong)?;
        let step = Step {
            codec: &codec,
            base: &base.weights,
            server_lr: self.tools.job.strategy.server_lr,
            threads: self.tools.threads,
        };
        let (decoded, weights) = step.take(&lanes, sum, std::mem::take(&mut self.mean)).map_err(wrong)?;
        self.pool.give_back(lanes);
        for client in sum.survivors.iter().filter(|client| self.canaries.contains(client)) {
            let planted = worker::canary(self.tools.seed, *client, decoded.mean_delta.len(), 1.0);
            self.canary_cosines.push(cosine(&planted, &decoded.mean_delta));
        }
        let Some(weights) = self.fused(&base, weights, decoded.weight, sum.round).map_err(wrong)? else {
            return Ok(self.kept_base(&base, decoded));
        };
        let model = base
            .model
            .with_weights(&self.tools.layout, &weights)
            .map_err(|e| wrong(e.to_string()))?;
        let is_due = sum.round.is_multiple_of(self.tools.evaluate_every.max(1)) || sum.round >= self.tools.job.round.rounds;
        if is_due {
            self.pool.evaluate(&model);
        }
        // Meanwhile.
        let digest = Digest::from_bytes(sha256(model.as_bytes()));
        self.keep(Base {
            digest,
            model,
            weights,
            buffers: Arc::clone(&base.buffers),
        });
        let found = self.pool.evaluated().map_err(wrong)?;
        self.mean = decoded.mean_delta;
        Ok(Published {
            model: digest,
            model_bytes: self.model_bytes,
            test_accuracy: found.as_ref().and_then(|found| found.accuracy),
            test_loss: found.map(|found| found.loss),
            train_loss: (!self.tools.no_train).then_some(f64::from(decoded.train_loss)),
            device_accuracy: decoded.evaluation.map(|found| found.accuracy()),
            clipped: decoded.clipped,
        })
    }
}

impl Workshop for Lab {
    fn effort(&mut self, client: u32) -> Effort {
        if let Some(effort) = self.efforts.get(&client) {
            return *effort;
        }
        let batch = self.tools.job.train.batch.max(1);
        let rows = self.tools.holdings.rows(client).unwrap_or(0);
        let steps = u64::from(rows.div_ceil(batch)) * u64::from(self.tools.job.train.epochs);
        let effort = Effort {
            steps,
            gflop: (self.step_gflop * f64::from(rows) / f64::from(batch) * f64::from(self.tools.job.train.epochs)).max(LEAST_GFLOP),
        };
        // All alike where nothing is read.
        if self.efforts.len() < 1_000_000 {
            self.efforts.insert(client, effort);
        }
        effort
    }

    fn upload_bytes(&mut self, members: u32) -> u64 {
        let codec = self.codec(members, Digest::from_bytes([0; 32]));
        codec.map_or(0, |codec| codec.plan().packed_bytes() as u64)
    }

    fn layout(&self) -> Digest {
        self.layout_digest
    }

    fn rotation(&self, base: Digest) -> Digest {
        Digest::from_bytes(seeds::of_rotation(self.tools.job.job.seed, base))
    }

    fn contribute(&mut self, work: Work) {
        if self.is_recorded(work.round) {
            return;
        }
        if work.role == aimass_sim::population::Role::Canary {
            self.canaries.insert(work.client);
        }
        match self.base(work.base) {
            Ok(base) => self.pool.contribute(work, base),
            Err(reason) => self.wrong = Some(reason),
        }
    }

    fn forget(&mut self, cohort: CohortId) {
        let _ = self.pool.collect(cohort);
    }

    fn publish(&mut self, sum: &Sum<'_>) -> Result<Published, Unpublished> {
        if !self.is_recorded(sum.round) {
            return self.step(sum);
        }
        let place = self.recorded.binary_search_by_key(&sum.round, |row| row.round);
        let Some(row) = place.ok().and_then(|place| self.recorded.get(place)) else {
            return self.step(sum);
        };
        let digest: Option<Digest> = row.model.parse().ok();
        let model = digest.ok_or_else(|| Unpublished {
            reason: format!("round {} on record names no model; delete the folder and run it again", row.round),
            blame: Vec::new(),
        })?;
        Ok(Published {
            model,
            model_bytes: self.model_bytes,
            test_accuracy: row.test_accuracy,
            test_loss: row.test_loss,
            train_loss: row.train_loss,
            device_accuracy: row.device_accuracy,
            clipped: row.clipped,
        })
    }
}

/// The codec of a cohort, as devices and aggregators make it.
fn codec(tools: &Tools, members: u32, rotation: Digest) -> Result<FixedCodec, String> {
    let update = tools.job.update;
    let codec = FixedCodec::new(FixedParams {
        n_weights: tools.layout.n_weights(),
        bits: update.bits,
        clip: update.clip,
        weight_scale: tools.job.round.mode.weight_scale(),
        weight_cap: update.weight_cap,
        members,
        rotation: Some(*rotation.as_bytes()),
        evaluation: tools.job.on_devices().is_some(),
    });
    codec.map_err(|e| e.to_string())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}
