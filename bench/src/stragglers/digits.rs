//! The example's digits as what a simulation trains: agents' steps, updates and models are those of the demo.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use aimass_cli::example::{self, ExampleOptions};
use aimass_compression::{Accumulator, FixedCodec};
use aimass_federation::strategy;
use aimass_learning::{Dataset, training};
use aimass_onnx::{Model, ParamLayout, TrainableRules};
use aimass_protocol::Digest;
use aimass_recipe::Setting;
use aimass_sim::{Chance, Step, Stepped, Trained, Training, Update, Workload};
use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use super::deal::{Deal, deal};

/// A row's time on a device that is not slow: a pass over an agent's 90 rows takes a minute and a half.
pub(super) const ROW_MS: u64 = 1000;
/// From one training to the next a device is up to this much faster or slower, in percent.
pub(super) const JITTER: u64 = 10;

/// Model and data of a seed.
pub(super) struct Data {
    model: Model,
    layout: ParamLayout,
    agents: Vec<Dataset>,
    held_out: Dataset,
}

impl Data {
    /// The example's rows, dealt to the agents of `how`.
    pub(super) fn example(seed: u64, how: &Deal) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        // One agent: it has all rows that are not held out.
        let options = ExampleOptions {
            agents: 1,
            rounds: 1,
            seed,
            plain: true,
        };
        let example = example::write(dir.path(), options)?;
        let read = |path| Dataset::read_csv(path, &[], example::TARGET);
        let rows = read(&example.agents[0])?;
        let dealt = deal(rows.targets(), how, &mut Chance::new(seed, "rows"));
        let agents = dealt.iter().map(|of_agent| rows.select(of_agent)).collect::<Option<_>>();
        let model = Model::from_bytes(&std::fs::read(&example.model)?)?;
        Ok(Self {
            layout: model.layout(&TrainableRules::default())?,
            model,
            agents: agents.context("rows that are there")?,
            held_out: read(&example.test)?,
        })
    }

    /// Most rows that an agent has.
    pub(super) fn most_rows(&self) -> usize {
        self.agents.iter().map(Dataset::len).max().unwrap_or(0)
    }
}

/// What a run cost, for who looks at it from outside.
#[derive(Debug, Clone, Default)]
pub(super) struct Cost {
    /// Trainings that were begun.
    pub(super) trainings: usize,
    /// What went wrong in one of them.
    pub(super) trouble: Option<String>,
}

/// Trains the example's model with `learning`, as agents do, and measures each round's model on the held-out rows.
pub(super) struct Example {
    data: Rc<Data>,
    models: BTreeMap<Digest, Model>,
    /// How many models in a row must be good: the worst of them counts.
    in_a_row: usize,
    /// Accuracy of each model.
    accuracy: Vec<f32>,
    cost: Rc<RefCell<Cost>>,
}

impl Example {
    pub(super) fn new(data: Rc<Data>, in_a_row: usize, cost: Rc<RefCell<Cost>>) -> Self {
        Self {
            data,
            models: BTreeMap::new(),
            in_a_row: in_a_row.max(1),
            accuracy: Vec::new(),
            cost,
        }
    }

    /// A model by its name; every job begins with the example's.
    fn model(&self, name: Digest) -> &Model {
        self.models.get(&name).unwrap_or(&self.data.model)
    }

    fn learn(&self, wanted: &Training<'_>, rng: &mut ChaCha8Rng) -> Result<Trained> {
        let (model, layout) = (self.model(wanted.base), &self.data.layout);
        let rows = self.data.agents.get(wanted.device).context("a device without data")?;
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let step_ms = ROW_MS * u64::from(wanted.file.train.batch) * (100 - JITTER + rng.next_u64() % (2 * JITTER + 1)) / 100;
        let config = aimass_recipe::train_config(wanted.file, Setting::Round, rows.len(), seed);
        let mut training = training::Training::new(model, layout, rows, &config)?;
        // Like an agent, to the first step after the time is over.
        let most = wanted.budget_ms.map_or(u64::MAX, |budget| budget.div_ceil(step_ms).max(1));
        while training.step_count() < most && training.step()?.is_some() {}
        let learnt = training.into_update()?;
        Ok(Trained {
            took_ms: learnt.steps * step_ms,
            update: Update {
                delta: learnt.delta,
                examples: learnt.examples,
                train_loss: learnt.train_loss,
            },
        })
    }

    fn publish(&mut self, step: &Step<'_>, codec: &FixedCodec, sum: &Accumulator) -> Result<Stepped> {
        let Data { layout, held_out, .. } = &*self.data;
        let base = self.model(step.base);
        let mean = sum.decode(codec)?.mean_delta;
        let weights = strategy::apply(&base.weights(layout)?, &mean, step.file.strategy.server_lr)?;
        let model = base.with_weights(layout, &weights)?;
        let found = training::evaluate_on(&model, held_out, &aimass_recipe::heads(&step.file.train), &[])?;
        let mut name = [0; 32];
        name[..4].copy_from_slice(&step.round.to_be_bytes());
        let name = Digest::from_bytes(name);
        self.models.insert(name, model);
        self.accuracy.push(found.accuracy.context("classes have an accuracy")? as f32);
        let last = self.accuracy.iter().rev().take(self.in_a_row);
        let worst = last.copied().fold(1.0, f32::min);
        Ok(Stepped {
            model: name,
            accuracy: Some(if self.accuracy.len() < self.in_a_row { 0.0 } else { worst }),
        })
    }
}

impl Workload for Example {
    fn n_weights(&self) -> usize {
        self.data.layout.n_weights()
    }

    fn train(&mut self, training: &Training<'_>, rng: &mut ChaCha8Rng) -> Trained {
        let learnt = self.learn(training, rng);
        let mut cost = self.cost.borrow_mut();
        cost.trainings += 1;
        learnt.unwrap_or_else(|error| {
            cost.trouble.get_or_insert(format!("{error:#}"));
            // Nothing that can be encoded: the device fails, and who looks at the cost learns why.
            let update = Update {
                delta: Vec::new(),
                examples: 0,
                train_loss: 0.0,
            };
            Trained { took_ms: ROW_MS, update }
        })
    }

    fn step(&mut self, step: &Step<'_>, codec: &FixedCodec, sum: &Accumulator) -> Result<Stepped, String> {
        self.publish(step, codec, sum).map_err(|error| format!("{error:#}"))
    }
}
