//! One thread's work: a client trained, its update encoded and added.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use aimass_compression::mask::{self, Sign};
use aimass_compression::{Accumulator, ClientUpdate, Evaluation, FixedCodec, OpenSum, Scratch};
use aimass_crypto::secagg::mask as secret;
use aimass_learning::data::{Source, Subset};
use aimass_learning::training::{Training, evaluate_on};
use aimass_learning::{Array, Batch, DataError, LocalUpdate, OptimizerConfig, Trainer};
use aimass_onnx::Model;
use aimass_protocol::CohortId;
use aimass_recipe::held_back::{self, Parts};
use aimass_recipe::{Setting, seeds, taught, train_config};
use aimass_sim::Chance;
use aimass_sim::fleet::Work;
use aimass_sim::population::{ByzantineKind, Role};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;
use rand_distr::{Distribution, StandardNormal};

use super::{Base, Tools, codec};
use crate::holdings::Holding;

/// What a worker has added for a cohort.
pub(super) enum Lane {
    Open(OpenSum),
    Masked(Accumulator),
}

/// Where a worker adds.
pub(super) struct Sums<'a> {
    pub(super) lanes: &'a mut BTreeMap<CohortId, Lane>,
    /// Memory of sums that are over.
    pub(super) spare: &'a Mutex<Vec<OpenSum>>,
}

impl Sums<'_> {
    fn open(&mut self, cohort: CohortId, codec: &FixedCodec) -> Result<&mut OpenSum, String> {
        let lane = self.lanes.entry(cohort).or_insert_with(|| {
            let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
            Lane::Open(match spare {
                Some(sum) => sum.reused(codec.plan()),
                None => OpenSum::new(codec.plan()),
            })
        });
        match lane {
            Lane::Open(sum) => Ok(sum),
            Lane::Masked(_) => Err("the cohort has masks".to_owned()),
        }
    }
}

/// Its plan and buffers are used for one client after another.
pub(super) struct Worker {
    tools: Arc<Tools>,
    trainer: Option<(OptimizerConfig, Trainer)>,
    scratch: Scratch,
    /// What a client that trains nothing has learnt, where it is masked.
    zeros: Vec<f32>,
}

impl Worker {
    pub(super) fn new(tools: &Arc<Tools>) -> Self {
        Self {
            tools: Arc::clone(tools),
            trainer: None,
            scratch: Scratch::default(),
            zeros: Vec::new(),
        }
    }

    /// What a client that trains nothing puts in, with its generator.
    fn idle<'a>(&self, work: &Work, delta: &'a [f32]) -> (ClientUpdate<'a>, ChaCha8Rng) {
        let job = &self.tools.job;
        let update = ClientUpdate {
            delta,
            examples: self.tools.holdings.rows(work.client).unwrap_or(1).max(1).into(),
            staleness: work.staleness,
            train_loss: 0.0,
            evaluation: job.on_devices().map(|_| held_back::NOTHING),
        };
        let seed = seeds::of_rounding(job.job.seed, work.base, &client_fingerprint(work.client));
        (update, ChaCha8Rng::from_seed(seed))
    }

    /// Adds contributions of clients that train nothing, of one cohort without masks.
    pub(super) fn contribute_nothing(&mut self, first: &Work, more: &[Box<Work>], sums: &mut Sums<'_>) -> Result<(), String> {
        let codec = codec(&self.tools, first.members, first.rotation)?;
        let works = std::iter::once(first).chain(more.iter().map(Box::as_ref));
        let mut clients: Vec<_> = works.map(|work| self.idle(work, &[])).collect();
        let sum = sums.open(first.cohort, &codec)?;
        codec
            .encode_zeros_into(&mut clients, sum, &mut self.scratch)
            .map_err(|e| e.to_string())
    }

    pub(super) fn contribute(&mut self, work: &Work, base: &Base, sums: &mut Sums<'_>) -> Result<(), String> {
        let tools = Arc::clone(&self.tools);
        let codec = codec(&tools, work.members, work.rotation)?;
        if tools.no_train {
            let mut zeros = std::mem::take(&mut self.zeros);
            zeros.resize(tools.layout.n_weights(), 0.0);
            let (update, rng) = self.idle(work, &zeros);
            let added = self.add(work, &codec, update, rng, sums);
            self.zeros = zeros;
            return added;
        }
        let holding = tools.holdings.client(work.client).map_err(|e| e.to_string())?;
        let fingerprint = holding.fingerprint;
        let (learnt, evaluation) = self.train(work, base, holding)?;
        let update = ClientUpdate {
            delta: &learnt.delta,
            examples: learnt.examples,
            staleness: work.staleness,
            train_loss: learnt.train_loss,
            evaluation: evaluation.or_else(|| tools.job.on_devices().map(|_| held_back::NOTHING)),
        };
        let rng = ChaCha8Rng::from_seed(seeds::of_rounding(tools.job.job.seed, work.base, &fingerprint));
        self.add(work, &codec, update, rng, sums)
    }

    /// Encodes an update, lays its masks over it, and adds it.
    fn add(
        &mut self,
        work: &Work,
        codec: &FixedCodec,
        update: ClientUpdate<'_>,
        mut rng: ChaCha8Rng,
        sums: &mut Sums<'_>,
    ) -> Result<(), String> {
        let Some(masks) = &work.masks else {
            let sum = sums.open(work.cohort, codec)?;
            codec
                .encode_into(update, &mut rng, sum, &mut self.scratch)
                .map_err(|e| e.to_string())?;
            return Ok(());
        };
        let mut packed = codec.encode(update, &mut rng).map_err(|e| e.to_string())?.packed;
        let streams = masks.signed().iter().map(|mask| {
            let sign = match mask.sign {
                secret::Sign::Plus => Sign::Plus,
                secret::Sign::Minus => Sign::Minus,
            };
            let mut stream = secret::MaskStream::new(masks.suite(), &mask.key, 0);
            (sign, move |bytes: &mut [u8]| stream.fill(bytes))
        });
        mask::apply(codec.plan(), &mut packed, &mut streams.collect::<Vec<_>>()).map_err(|e| e.to_string())?;
        let lane = sums
            .lanes
            .entry(work.cohort)
            .or_insert_with(|| Lane::Masked(Accumulator::masked(codec.plan())));
        let Lane::Masked(sum) = lane else {
            return Err("the cohort has no masks".to_owned());
        };
        sum.add(&packed).map_err(|e| e.to_string())
    }

    fn train(&mut self, work: &Work, base: &Base, holding: Holding) -> Result<(LocalUpdate, Option<Evaluation>), String> {
        let tools = Arc::clone(&self.tools);
        let job = &tools.job;
        let Holding { rows, fingerprint } = holding;
        let Parts { train, held_back } = Parts::of(rows, job.on_devices(), job.job.seed, &fingerprint);
        let evaluation = held_back.map(|rows| held_back::evaluate(&base.model, &rows, &tools.heads).unwrap_or(held_back::NOTHING));
        let attack = tools.byzantine.filter(|_| work.role == Role::Byzantine);
        let train: Arc<dyn Source> = match attack {
            Some(ByzantineKind::LabelFlip) => Arc::new(Flipped::of(train)?),
            _ => train,
        };
        let seed = seeds::of_training(job.job.seed, base.digest, &fingerprint);
        let config = train_config(job, Setting::Round, train.len(), seed);
        let mut update = if config.epochs == 0 {
            LocalUpdate {
                delta: vec![0.0; tools.layout.n_weights()],
                examples: train.len() as u64,
                steps: 0,
                train_loss: 0.0,
            }
        } else {
            let trainer = match self.trainer.take() {
                Some((optimizer, trainer)) if optimizer == config.optimizer => trainer,
                _ => Trainer::new(&base.model, &tools.layout, &config).map_err(|e| e.to_string())?,
            };
            let (_, trainer) = self.trainer.insert((config.optimizer.clone(), trainer));
            trainer
                .begin_again(&base.weights, &base.buffers, config.seed)
                .map_err(|e| e.to_string())?;
            let taught = tools
                .teacher
                .as_ref()
                .map(|teacher| taught::taught(&*train, teacher, &base.model, &config, NonZeroUsize::MIN, &mut |_, _| true));
            let taught = taught.transpose().map_err(|e| e.to_string())?;
            let rows: &dyn Source = taught.as_ref().map_or(&*train, |taught| taught);
            let mut training = Training::checked(trainer, &base.model, &tools.layout, rows, &config).map_err(|e| e.to_string())?;
            while let Some(stepped) = training.step().map_err(|e| e.to_string())? {
                if work.steps.is_some_and(|steps| stepped.step >= steps) {
                    break;
                }
            }
            training.into_update().map_err(|e| e.to_string())?
        };
        match (work.role, attack) {
            (Role::Canary, _) => update.delta = canary(tools.seed, work.client, update.delta.len(), job.update.clip),
            (_, Some(ByzantineKind::SignFlip)) => update.delta.iter_mut().for_each(|value| *value = -*value),
            (_, Some(ByzantineKind::Scale { factor })) => update.delta.iter_mut().for_each(|value| *value *= factor as f32),
            (_, Some(ByzantineKind::Noise { sigma })) => {
                let mut chance = Chance::new(tools.seed, &format!("noise {} {}", work.client, work.round));
                let noise = chance.rng();
                for value in &mut update.delta {
                    let drawn: f64 = StandardNormal.sample(noise);
                    *value += (sigma * drawn) as f32;
                }
            }
            _ => {}
        }
        Ok((update, evaluation))
    }

    pub(super) fn evaluate(&self, model: &Model, from: usize, to: usize) -> Result<aimass_learning::Evaluation, String> {
        let data = self.tools.evaluation.as_ref().ok_or("there is no held-out data")?;
        let part = Subset::new(Arc::clone(data), (from..to).collect()).ok_or("the held-out data is shorter than it was")?;
        evaluate_on(model, &part, &self.tools.heads, &[]).map_err(|e| e.to_string())
    }
}

/// Of a client that has no data.
fn client_fingerprint(client: u32) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&client.to_le_bytes());
    bytes
}

/// What a canary sends in place of an update: a direction drawn for it alone, of this length (Andrew et al. 2024, One-shot Empirical Privacy Estimation for
/// Federated Learning, section 3). How much of it is in a model says how much of anybody's update is.
pub(super) fn canary(seed: u64, client: u32, n: usize, length: f32) -> Vec<f32> {
    let mut chance = Chance::new(seed, &format!("canary {client}"));
    let mut direction: Vec<f32> = (0..n)
        .map(|_| {
            let drawn: f32 = StandardNormal.sample(chance.rng());
            drawn
        })
        .collect();
    let norm = direction
        .iter()
        .map(|value| f64::from(*value).powi(2))
        .sum::<f64>()
        .sqrt()
        .max(f64::MIN_POSITIVE);
    direction
        .iter_mut()
        .for_each(|value| *value = (f64::from(*value) / norm * f64::from(length)) as f32);
    direction
}

/// Rows whose classes are in reverse order.
struct Flipped {
    rows: Arc<dyn Source>,
    last: f32,
}

impl Flipped {
    fn of(rows: Arc<dyn Source>) -> Result<Self, String> {
        let targets = rows.targets().and_then(|targets| Some(targets.first()?.as_floats()?.to_vec()));
        let targets = targets.ok_or("labels can't be flipped: the targets are no classes")?;
        let last = targets.iter().copied().fold(0.0, f32::max);
        Ok(Self { rows, last })
    }

    fn flip(&self, targets: &mut [Array]) {
        if let Some(first) = targets.first_mut()
            && let Some(values) = first.as_floats()
        {
            *first = Array::float_list(values.iter().map(|value| self.last - value).collect());
        }
    }
}

impl Source for Flipped {
    fn len(&self) -> usize {
        self.rows.len()
    }
    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let mut batch = self.rows.batch(rows)?;
        self.flip(&mut batch.targets);
        Ok(batch)
    }
    fn targets(&self) -> Option<Vec<Array>> {
        let mut targets = self.rows.targets()?;
        self.flip(&mut targets);
        Some(targets)
    }
    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        self.rows.fingerprint(feed)
    }
}
