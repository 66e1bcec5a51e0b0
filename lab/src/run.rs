//! One simulated run, from a job file to a summary.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use aimass_federation::coordinator::check_graph;
use aimass_learning::data::{Source, Wanted};
use aimass_learning::training::check_data;
use aimass_learning::{Metric, Teacher};
use aimass_onnx::Model;
use aimass_protocol::Digest;
use aimass_protocol::job::{AggregationMode, JobFile, RoundMode};
use aimass_recipe::{Recipe, RecipeError, fusion, taught};
use aimass_sim::fleet::{Fleet, FleetError, Round, Selection, Setup};
use aimass_sim::population::{Availability, Population, PopulationError, Trace, TraceError};

use crate::holdings::{Holdings, HoldingsError, open_shared};
use crate::record::{RoundRow, Summary, reached};
use crate::workshop::{Lab, Tools};

/// What is asked of a run, besides its job and population.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Clients in all.
    pub clients: u32,
    /// Clients a round asks for; `None` for what the job says.
    pub cohort: Option<u32>,
    /// Rounds; `None` for what the job says.
    pub rounds: Option<u32>,
    /// Of everything that is drawn; `None` for the job's.
    pub seed: Option<u64>,
    /// Files or folders of training data.
    pub data: Vec<PathBuf>,
    /// Labels of IDX images, or targets of an NPY file.
    pub labels: Option<PathBuf>,
    /// Held-out data; `None` for what the job names.
    pub evaluation: Option<PathBuf>,
    /// Its labels.
    pub evaluation_labels: Option<PathBuf>,
    /// It is used every so many rounds.
    pub evaluate_every: u32,
    /// Nothing is trained: each client counts as having so many rows.
    pub no_train: Option<u32>,
    /// Who checks in.
    pub selection: Selection,
    /// A secure job runs without masks, to the same models.
    pub without_masks: bool,
    /// Threads; the result does not depend on them.
    pub threads: usize,
    /// Accuracies whose first round is noted.
    pub targets: Vec<f64>,
}

/// Why a run can't begin, or can't go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A key of the job file, or an option.
    #[error("{field}: {problem}; {fix}")]
    Field {
        /// Which.
        field: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        fix: String,
    },
    /// The population.
    #[error("the population: {0}")]
    Population(#[from] PopulationError),
    /// Its trace.
    #[error("the population's trace: {0}")]
    Trace(#[from] TraceError),
    /// Data.
    #[error(transparent)]
    Holdings(#[from] HoldingsError),
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

fn field(field: &str, problem: impl ToString, fix: &str) -> RunError {
    RunError::Field {
        field: field.to_owned(),
        problem: problem.to_string(),
        fix: fix.to_owned(),
    }
}

/// A run that is ready: everything was read and checked, nothing computed.
pub struct Run {
    fleet: Fleet<Lab>,
    job: JobFile,
    options: Options,
    shortcuts: Vec<String>,
    fields: BTreeMap<String, String>,
    seed: u64,
    began: Instant,
    start_seconds: f64,
    rows: Vec<RoundRow>,
    trainings: u64,
    last: Instant,
    end: Option<String>,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("rows", &self.rows.len()).finish_non_exhaustive()
    }
}

/// What a run is made of.
#[derive(Debug)]
pub struct Given<'a> {
    /// The checked job file.
    pub job: JobFile,
    /// The model that it names.
    pub model: Model,
    /// The teacher that it names, if it does.
    pub teacher: Option<Model>,
    /// Where what the job names lies.
    pub folder: &'a Path,
    /// The population, and where what it names lies.
    pub population: (&'a Population, &'a Path),
    /// What a sweep set.
    pub fields: BTreeMap<String, String>,
    /// Rounds of an interrupted run, and the folder of its models.
    pub recorded: (Vec<RoundRow>, PathBuf),
    /// When the program began.
    pub began: Instant,
}

impl Run {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// [`RunError`], which names the field and the fix.
    pub fn new(given: Given<'_>, options: Options) -> Result<Self, RunError> {
        let Given {
            mut job,
            model,
            teacher,
            folder,
            population: (population, population_folder),
            fields,
            recorded: (recorded, models),
            began,
        } = given;
        if !job.trains() {
            return Err(field(
                "job.kind",
                "the job counts, and nothing of it is trained",
                "simulate a job of kind \"train\"",
            ));
        }
        let mut shortcuts = Vec::new();
        let seed = options.seed.unwrap_or(job.job.seed);
        job.job.seed = seed;
        apply(&mut job, &options, &mut shortcuts)?;
        let model = aimass_recipe::adapt(&model, &job).map_err(|e| of_recipe(&e))?;
        let recipe = Recipe::of(&model, &job).map_err(|e| of_recipe(&e))?;
        let Recipe { layout, heads, wanted } = recipe;
        let cohort = job.round.target;
        if cohort > options.clients {
            return Err(field(
                "--clients",
                format!("a cohort of {cohort} is asked of {} clients", options.clients),
                "lower --cohort, or raise --clients",
            ));
        }
        let held_out = evaluation_of(&job, &options, folder);
        let public_wanted = wanted.clone();
        let holdings = match options.no_train {
            Some(rows) => {
                shortcuts.push("nothing was trained: updates are zeros".to_owned());
                Holdings::counted(rows)
            }
            None if options.data.is_empty() => {
                return Err(field(
                    "--data",
                    "there is none",
                    "name the folder or files of the training data, or use --no-train",
                ));
            }
            None => Holdings::open(
                &options.data,
                options.labels.as_deref(),
                held_out.as_ref().map(|(path, _)| path.as_path()),
                &wanted,
                &population.partition,
                options.clients,
                seed,
            )?,
        };
        shortcuts.extend(holdings.notes());
        if let Some(sample) = holdings.sample().map_err(HoldingsError::from)? {
            check_data(&model, &layout, &*sample, &heads).map_err(|e| field("--data", e, "use data that fits the model and the job"))?;
        }
        let evaluation = match held_out {
            Some((path, labels)) => {
                let wanted = aimass_learning::data::Wanted { labels, ..wanted };
                let data: Arc<dyn Source> = open_shared(&path, &wanted)
                    .map_err(|e| field("evaluate.data", e, "name held-out data that fits the model"))?
                    .into();
                check_data(&model, &layout, &*data, &heads).map_err(|e| field("evaluate.data", e, "use data that fits the model"))?;
                Some(data)
            }
            None => None,
        };
        let sample = holdings.sample().map_err(HoldingsError::from)?;
        let teacher = match teacher.filter(|_| options.no_train.is_none()) {
            None => None,
            Some(teacher) => {
                taught::check(&model, &teacher, &job, sample.as_deref()).map_err(|e| of_recipe(&e))?;
                Some(Teacher::new(teacher))
            }
        };
        let public = public_of(&job, &model, &public_wanted, folder, options.no_train.is_some())?;
        let has_accuracy = heads.iter().any(|head| Metric::Accuracy.suits(&head.loss));
        if !options.targets.is_empty() && (evaluation.is_none() || !has_accuracy) {
            return Err(field(
                "--reached",
                "no accuracy is measured",
                "name held-out data with --evaluate, or leave it out",
            ));
        }
        let trace = match &population.availability {
            Availability::Trace { file } => {
                let path = population_folder.join(file);
                let bytes =
                    std::fs::read(&path).map_err(|e| field("availability.file", format!("{}: {e}", path.display()), "name the trace"))?;
                Some(Trace::parse(&bytes, options.clients)?)
            }
            _ => None,
        };
        let clients = population.draw(options.clients, cohort, seed, trace.as_ref())?;
        let digest = Digest::from_bytes(aimass_crypto::hash::sha256(model.as_bytes()));
        let setup = Setup {
            seed,
            job: job.clone(),
            base: digest,
            base_bytes: model.as_bytes().len() as u64,
            selection: options.selection,
            dropout: population.dropout.clone(),
        };
        let tools = Tools {
            job: job.clone(),
            layout,
            heads,
            holdings,
            evaluation,
            teacher,
            public,
            evaluate_every: options.evaluate_every,
            no_train: options.no_train.is_some(),
            byzantine: population.byzantine.as_ref().map(|byzantine| byzantine.kind),
            seed,
            threads: options.threads.max(1),
        };
        let lab = Lab::new(tools, model, recorded, &models)
            .map_err(|e| field("model.path", e, "use a model that passes `aimass model check`"))?;
        let fleet = Fleet::new(setup, clients, lab);
        Ok(Self {
            fleet,
            job,
            options,
            shortcuts,
            fields,
            seed,
            began,
            start_seconds: began.elapsed().as_secs_f64(),
            rows: Vec::new(),
            trainings: 0,
            last: Instant::now(),
            end: None,
        })
    }

    /// Runs the next round; `None` when the job is over.
    ///
    /// # Errors
    /// [`RunError::Fleet`].
    pub fn next_round(&mut self) -> Result<Option<&RoundRow>, RunError> {
        let round = match self.fleet.next_round() {
            Ok(Some(round)) => round,
            Ok(None) => {
                self.end.get_or_insert_with(|| "finished".to_owned());
                return Ok(None);
            }
            Err(error) => {
                self.end = Some(error.to_string());
                return Err(error.into());
            }
        };
        let seconds = self.last.elapsed().as_secs_f64();
        self.last = Instant::now();
        self.trainings += u64::from(round.trainings);
        self.rows.push(row(&round, seconds));
        Ok(self.rows.last())
    }

    /// Runs to the end, or until `each` breaks.
    ///
    /// # Errors
    /// [`RunError::Fleet`].
    pub fn all(&mut self, mut each: impl FnMut(&Self) -> ControlFlow<()>) -> Result<(), RunError> {
        while self.next_round()?.is_some() {
            if each(self).is_break() {
                self.end = Some("interrupted".to_owned());
                break;
            }
        }
        Ok(())
    }

    /// The rounds so far.
    pub fn rows(&self) -> &[RoundRow] {
        &self.rows
    }

    /// The job as it is run.
    pub fn job(&self) -> &JobFile {
        &self.job
    }

    /// What computes, with the models.
    pub fn lab(&mut self) -> &mut Lab {
        self.fleet.workshop()
    }

    /// The run in figures.
    pub fn summary(&mut self) -> Summary {
        let sum = |of: fn(&RoundRow) -> u64| self.rows.iter().map(of).sum::<u64>();
        let measured = || self.rows.iter().filter_map(|row| row.test_accuracy);
        let last = self.rows.last();
        let (bytes_up, bytes_down) = (sum(|row| row.bytes_up), sum(|row| row.bytes_down));
        let (contributions, dropped) = (sum(|row| row.contributions.into()), sum(|row| row.dropped.into()));
        Summary {
            job: self.job.job.name.clone(),
            seed: self.seed,
            clients: self.options.clients,
            cohort: self.job.round.target,
            rounds: last.map_or(0, |row| row.round),
            mode: mode(self.job.round.mode).to_owned(),
            aggregation: aggregation(self.job.aggregation.mode).to_owned(),
            shortcuts: self.shortcuts.clone(),
            fields: self.fields.clone(),
            end: self.end.clone().unwrap_or_else(|| "interrupted".to_owned()),
            test_accuracy: measured().next_back(),
            best_accuracy: measured().reduce(f64::max),
            reached: reached(&self.rows, &self.options.targets),
            seconds: self.began.elapsed().as_secs_f64(),
            start_seconds: self.start_seconds,
            virtual_seconds: last.map_or(0.0, |row| row.virtual_seconds),
            bytes_up,
            bytes_down,
            energy_j: self.rows.iter().map(|row| row.energy_j).sum(),
            contributions,
            trainings: self.trainings,
            dropped,
            peak_memory_mib: peak_memory_mib(),
            canary_cosine: self.fleet.workshop().canary_cosine(),
            threads: u32::try_from(self.options.threads).unwrap_or(u32::MAX),
            model: last.map_or_else(String::new, |row| row.model.clone()),
        }
    }
}

/// Where the held-out data lies.
fn evaluation_of(job: &JobFile, options: &Options, folder: &Path) -> Option<(PathBuf, Option<PathBuf>)> {
    if let Some(path) = &options.evaluation {
        return Some((path.clone(), options.evaluation_labels.clone()));
    }
    let named = job.evaluate.as_ref()?.data.as_ref()?;
    Some((folder.join(named), None))
}

/// The rows that groups are asked about.
fn public_of(job: &JobFile, model: &Model, wanted: &Wanted, folder: &Path, no_train: bool) -> Result<Option<Arc<dyn Source>>, RunError> {
    let Some(fusion) = &job.strategy.fusion else { return Ok(None) };
    if no_train {
        return Err(field(
            "--no-train",
            "the strategy fuses what agents have learnt",
            "leave it out, or use another strategy",
        ));
    }
    let path = folder.join(&fusion.data.path);
    let wrong = |e: &dyn ToString| {
        field(
            "strategy.data",
            e.to_string(),
            "give rows that feed the model; targets need not be there",
        )
    };
    let rows = fusion::open(wanted, |wanted| open_shared(&path, wanted)).map_err(|e| wrong(&e))?;
    fusion::check(model, job, &*rows).map_err(|e| wrong(&e))?;
    Ok(Some(rows.into()))
}

fn of_recipe(error: &RecipeError) -> RunError {
    field(error.field(), error, "correct it, see docs/job-file.md")
}

/// What the options say of the job.
fn apply(job: &mut JobFile, options: &Options, shortcuts: &mut Vec<String>) -> Result<(), RunError> {
    if let Some(rounds) = options.rounds {
        job.round.rounds = rounds;
    }
    let (groups, rounds) = (job.rounds_a_model(), job.round.rounds);
    if !rounds.is_multiple_of(groups) {
        let problem = format!("{groups} groups are fused into a model, and {rounds} rounds leave some over");
        return Err(field("--rounds", problem, "use a multiple of strategy.groups"));
    }
    if let Some(cohort) = options.cohort {
        let round = &mut job.round;
        let scaled = |n: u32| u32::try_from(u64::from(n) * u64::from(cohort) / u64::from(round.target.max(1))).unwrap_or(u32::MAX);
        let (min, max) = (scaled(round.min).clamp(1, cohort), scaled(round.max).max(cohort));
        (round.min, round.target, round.max) = (min, cohort, max);
        job.aggregation.floor = job.aggregation.floor.min(min);
    }
    if options.without_masks && job.aggregation.mode == AggregationMode::Secure {
        job.aggregation.mode = AggregationMode::Plain;
        shortcuts.push("masks were left out: sums of the same clients, and so their models, are the same bytes".to_owned());
    }
    check_graph(job).map_err(|e| {
        field(
            "--cohort",
            e.problem,
            "lower --cohort, use profile = \"standard\", or add --without-masks",
        )
    })?;
    if !options.targets.is_empty() && options.no_train.is_some() {
        return Err(field("--reached", "nothing is trained, so no accuracy is reached", "leave it out"));
    }
    if job.aggregation.mode == AggregationMode::Secure && job.aggregation.floor < 3 {
        return Err(field(
            "--cohort",
            "secure aggregation needs 3 contributions at least",
            "raise --cohort, or add --without-masks",
        ));
    }
    Ok(())
}

fn row(round: &Round, seconds: f64) -> RoundRow {
    let published = &round.published;
    RoundRow {
        round: round.round,
        test_accuracy: published.test_accuracy,
        test_loss: published.test_loss,
        train_loss: published.train_loss,
        device_accuracy: published.device_accuracy,
        seconds,
        virtual_seconds: round.at_ms as f64 / 1000.0,
        bytes_up: round.bytes_up,
        bytes_down: round.bytes_down,
        energy_j: round.energy_j,
        contributions: round.contributions,
        members: round.members,
        dropped: round.dropped,
        clipped: published.clipped,
        mean_staleness: round.mean_staleness,
        model: published.model.to_hex(),
    }
}

fn mode(mode: RoundMode) -> &'static str {
    match mode {
        RoundMode::Sync => "sync",
        RoundMode::SemiSync => "semi_sync",
        RoundMode::Async => "async",
    }
}

fn aggregation(mode: AggregationMode) -> &'static str {
    match mode {
        AggregationMode::Plain => "plain",
        AggregationMode::Secure => "secure",
    }
}

/// Most memory that the process ever held, where Linux says so.
fn peak_memory_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests;
