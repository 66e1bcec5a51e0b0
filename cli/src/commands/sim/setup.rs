//! What a run is made of, read from files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aimass_edge_agent::exit::ExitKind;
use aimass_lab::RoundRow;
use aimass_lab::run::{Given, Options, Run, RunError};
use aimass_lab::sweep::{Setting, apply};
use aimass_onnx::Model;
use aimass_protocol::job::JobFile;
use aimass_protocol::limits::MAX_JOB_FILE_BYTES;
use aimass_sim::fleet::Selection as FleetSelection;
use aimass_sim::population::{MAX_POPULATION_BYTES, Population};
use anyhow::Result;

use super::{Selection, SimArgs};
use crate::bounded_file;
use crate::commands::job::attached;
use crate::model_file;
use crate::output::Failure;

/// Files that several runs share.
pub(super) struct Inputs {
    pub(super) job_text: String,
    pub(super) model: Model,
    teacher: Option<Model>,
    /// SHA-256 of the rows that groups are asked about.
    public: Option<String>,
    folder: PathBuf,
    pub(super) population_text: Option<String>,
    population: Population,
    population_folder: PathBuf,
}

fn bad(text: impl Into<String>) -> Failure {
    Failure::new(ExitKind::BadData, text)
}

pub(super) fn of_run(error: RunError) -> anyhow::Error {
    let kind = match &error {
        RunError::Fleet(_) => ExitKind::Failure,
        _ => ExitKind::BadData,
    };
    Failure::new(kind, error.to_string()).into()
}

impl Inputs {
    pub(super) fn read(args: &SimArgs) -> Result<Self> {
        let job = args.job.display();
        let job_text = bounded_file::read_text(&args.job, MAX_JOB_FILE_BYTES).map_err(|e| bad(format!("the job file: {e}")))?;
        let (file, places) = JobFile::parse_with_source(&job_text).map_err(|e| bad(format!("{job}: {e}")))?;
        let folder = args.job.parent().unwrap_or(Path::new(".")).to_owned();
        let model = model_file::read(&folder.join(&file.model.path)).map_err(|e| {
            let fix = "name an ONNX file, relative to the job file".to_owned();
            bad(format!("{job}: {}", places.error_at("model.path", e.to_string(), fix)))
        })?;
        let attached = |(field, problem, fix): attached::Wrong| bad(format!("{job}: {}", places.error_at(&field, problem, fix.to_owned())));
        // What is compressed at the end of a job is no part of a simulation.
        let simulated = JobFile { compress: None, ..file };
        let read = attached::read(&simulated, &folder).map_err(attached)?;
        let public = read.iter().find(|file| file.model.is_none());
        let public = public.map(|file| hex::encode(aimass_crypto::hash::sha256(&file.bytes)));
        let teacher = read.into_iter().find_map(|file| file.model);
        let (population_text, population, population_folder) = population(args)?;
        Ok(Self {
            job_text,
            model,
            teacher,
            public,
            folder,
            population_text,
            population,
            population_folder,
        })
    }

    /// The job file's text with what a sweep sets.
    pub(super) fn job_text(&self, setting: Option<&Setting>) -> Result<String> {
        let Some(setting) = setting else { return Ok(self.job_text.clone()) };
        let known: Vec<String> = aimass_protocol::job::job_file_keys().collect();
        let text = apply(&self.job_text, &setting.fields, &known).map_err(|e| bad(e.to_string()))?;
        Ok(text)
    }

    /// A run that is ready.
    pub(super) fn run(
        &self,
        args: &SimArgs,
        job_text: &str,
        setting: Option<&Setting>,
        recorded: (Vec<RoundRow>, PathBuf),
        began: Instant,
    ) -> Result<Run> {
        let job = JobFile::parse(job_text).map_err(|e| bad(format!("{}: {e}", args.job.display())))?;
        let given = Given {
            job,
            model: self.model.clone(),
            teacher: self.teacher.clone(),
            folder: &self.folder,
            population: (&self.population, &self.population_folder),
            fields: setting.map_or_else(BTreeMap::new, |setting| setting.fields.clone()),
            recorded,
            began,
        };
        Run::new(given, options(args, setting)).map_err(of_run)
    }
}

fn population(args: &SimArgs) -> Result<(Option<String>, Population, PathBuf)> {
    let here = PathBuf::from(".");
    let Some(named) = &args.population else {
        return Ok((None, Population::default(), here));
    };
    if let (Some(text), Some(population)) = (Population::text_of(named), Population::named(named)) {
        return Ok((Some(text.to_owned()), population, here));
    }
    let path = Path::new(named);
    let limit = MAX_POPULATION_BYTES;
    let text = bounded_file::read_text(path, limit).map_err(|e| {
        let names = Population::NAMES.join(", ");
        bad(format!("--population: {e}; name a file, or one of {names}"))
    })?;
    let population = Population::parse(&text).map_err(|e| bad(format!("{}: {e}", path.display())))?;
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    Ok((Some(text), population, folder))
}

pub(super) fn threads(args: &SimArgs) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    args.threads.map_or_else(cores, usize::from)
}

fn options(args: &SimArgs, setting: Option<&Setting>) -> Options {
    Options {
        clients: args.clients,
        cohort: args.cohort,
        rounds: args.rounds,
        seed: setting.map(|setting| setting.seed).or(args.seed),
        data: args.data.clone(),
        labels: args.labels.clone(),
        evaluation: args.evaluate.clone(),
        evaluation_labels: args.evaluate_labels.clone(),
        evaluate_every: args.evaluate_every,
        no_train: args.no_train,
        selection: match args.selection {
            Selection::Uniform => FleetSelection::Uniform,
            Selection::Arrival => FleetSelection::Arrival,
        },
        without_masks: args.without_masks,
        threads: threads(args),
        targets: args.reached.clone(),
    }
}

/// What a run's folder is told apart by, besides the job and the population.
pub(super) fn told_apart_by(args: &SimArgs, inputs: &Inputs, seed: Option<u64>) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            options.insert(key.to_owned(), value);
        }
    };
    put("clients", Some(args.clients.to_string()));
    put("cohort", args.cohort.map(|n| n.to_string()));
    put("rounds", args.rounds.map(|n| n.to_string()));
    put("seed", seed.map(|n| n.to_string()));
    put("no-train", args.no_train.map(|n| n.to_string()));
    put("selection", Some(format!("{:?}", args.selection).to_lowercase()));
    put("without-masks", args.without_masks.then(|| "yes".to_owned()));
    put("evaluate-every", Some(args.evaluate_every.to_string()));
    let digest = |model: &Model| hex::encode(aimass_crypto::hash::sha256(model.as_bytes()));
    put("model", Some(digest(&inputs.model)));
    put("teacher", inputs.teacher.as_ref().map(digest));
    put("public", inputs.public.clone());
    for (name, path) in args
        .data
        .iter()
        .map(|path| ("data", path))
        .chain(args.evaluate.iter().map(|path| ("evaluate", path)))
    {
        let size = size_of(path);
        put(&format!("{name} {}", path.display()), Some(format!("{size} bytes")));
    }
    Ok(options)
}

/// Bytes of a file, or of a folder's files.
fn size_of(path: &Path) -> u64 {
    let Ok(entries) = path.read_dir() else {
        return path.metadata().map_or(0, |meta| meta.len());
    };
    entries
        .flatten()
        .filter_map(|entry| entry.metadata().ok())
        .map(|meta| meta.len())
        .sum()
}
