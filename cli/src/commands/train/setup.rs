//! What a training is made of: the job's model and settings, and the data.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aimass_crypto::hash::{Sha256, sha256};
use aimass_edge_agent::exit::ExitKind;
use aimass_learning::checkpoint::Identity;
use aimass_learning::data::{Joined, Source, Subset, Wanted, split, split_stratified};
use aimass_learning::inspect::doubts;
use aimass_learning::training::check_data;
use aimass_learning::{Evaluator, Loss, Metric, TrainConfig, TrainError, Values};
use aimass_onnx::{Model, ParamLayout, lora};
use aimass_protocol::job::{JobFile, JobSource};
use aimass_protocol::limits::MAX_JOB_FILE_BYTES;
use aimass_recipe::{Recipe, RecipeError, Setting, train_config};
use anyhow::Result;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::TrainArgs;
use crate::model_file;
use crate::output::Failure;
use crate::{bounded_file, local_data};

/// Everything read and checked.
pub(super) struct Setup {
    /// Of the job.
    pub(super) name: String,
    /// With adapters, if the job has some.
    pub(super) model: Model,
    pub(super) layout: ParamLayout,
    pub(super) config: TrainConfig,
    pub(super) metrics: Vec<Metric>,
    pub(super) identity: Identity,
    adapted: bool,
    /// The job says by name what trains.
    chosen: bool,
    data: Data,
    job: PathBuf,
    places: JobSource,
}

/// Data for training, and what is held back.
struct Data {
    files: Vec<PathBuf>,
    all: Arc<Joined>,
    train: Option<Subset>,
    held_back: Option<Subset>,
    validation: Option<Box<dyn Source>>,
}

fn bad(text: String) -> Failure {
    Failure::new(ExitKind::BadData, text)
}

pub(super) fn load(args: &TrainArgs) -> Result<Setup> {
    let job = args.job.display();
    let text = bounded_file::read_text(&args.job, MAX_JOB_FILE_BYTES).map_err(|e| bad(format!("the job file: {e}")))?;
    let (mut file, places) = JobFile::parse_with_source(&text).map_err(|e| bad(format!("{job}: {e}")))?;
    let at = |field: &str, problem: String, fix: &str| bad(format!("{job}: {}", places.error_at(field, problem, fix.to_owned())));
    if !file.trains() {
        let fix = "submit it to a fleet with `aimass job submit`, or write kind = \"train\"";
        return Err(at("job.kind", "the job counts, and nothing of it is trained".to_owned(), fix).into());
    }
    if file.train.distil.is_some() {
        let fix = "remove the table, or train the student by `aimass compress MODEL --teacher TEACHER --job JOB --data FILE -o OUT`";
        return Err(at("train.distil", "a teacher is of rounds".to_owned(), fix).into());
    }
    file.train.epochs = args.epochs.unwrap_or_else(|| file.train.epochs.saturating_mul(file.round.rounds));
    file.job.seed = args.seed.unwrap_or(file.job.seed);

    let folder = args.job.parent().unwrap_or(Path::new("."));
    let model_path = folder.join(&file.model.path);
    let model =
        model_file::read(&model_path).map_err(|e| at("model.path", e.to_string(), "name an ONNX file, relative to the job file"))?;
    let model_digest = sha256(model.as_bytes());
    let wrong = |e: &RecipeError| at(e.field(), e.to_string(), "correct it, see docs/job-file.md");
    let model = aimass_recipe::adapt(&model, &file).map_err(|e| wrong(&e))?;
    let Recipe { layout, heads, wanted } = Recipe::of(&model, &file).map_err(|e| wrong(&e))?;
    let metrics = aimass_recipe::metrics(&file.train).map_err(|e| at("train.metrics", e.to_string(), "correct the name"))?;
    Evaluator::new(&model, &heads, &metrics).map_err(|e| at("train.metrics", e.to_string(), "name metrics of the job's losses"))?;

    let data = read_data(args, &file, folder, &wanted)?;
    let train_rows = data.train().len();
    let config = train_config(&file, Setting::Central, train_rows, seed("aimass/train/central", file.job.seed));
    let setup = Setup {
        name: file.job.name.clone(),
        identity: Identity {
            recipe: recipe_digest(&config, &layout, &file),
            model: model_digest,
            data: data_digest(data.train())?,
        },
        adapted: file.train.lora.is_some(),
        chosen: file.train.lora.is_some() || !file.model.trainable.is_empty(),
        metrics,
        model,
        layout,
        config,
        data,
        job: args.job.clone(),
        places,
    };
    if let Some(validation) = setup.validation() {
        let fits = check_data(&setup.model, &setup.layout, validation, &setup.config.heads);
        fits.map_err(|e| setup.refused_validation(&e))?;
    }
    Ok(setup)
}

/// Seeds what need not be secret.
fn seed(purpose: &str, seed: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(purpose.as_bytes());
    hash.update(&seed.to_le_bytes());
    hash.finish()
}

/// Everything but the number of passes, which may grow; where a schedule depends on it, it is in there.
fn recipe_digest(config: &TrainConfig, layout: &ParamLayout, file: &JobFile) -> [u8; 32] {
    let passes_apart = TrainConfig {
        epochs: 0,
        ..config.clone()
    };
    let mut hash = Sha256::new();
    hash.update(format!("{passes_apart:?} {:?} {}", file.train.lora, file.job.seed).as_bytes());
    hash.update(&layout.canonical_bytes());
    hash.finish()
}

fn data_digest(data: &dyn Source) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    data.fingerprint(&mut |bytes| hash.update(bytes))
        .map_err(|e| local_data::refused(&e))?;
    Ok(hash.finish())
}

fn read_data(args: &TrainArgs, file: &JobFile, folder: &Path, wanted: &Wanted) -> Result<Data> {
    let all = Arc::new(local_data::all(&args.data, &args.labels, wanted)?);
    let mut data = Data {
        files: args.data.clone(),
        all: all.clone(),
        train: None,
        held_back: None,
        validation: None,
    };
    if let Some(share) = args.validation_share {
        let (held_back, rest) = split_rows(&all, share, file);
        if held_back.is_empty() || rest.is_empty() {
            let text = format!(
                "--validation-share {share} of {} rows leaves nothing to train or to measure on; use another share or more data",
                all.len()
            );
            return Err(Failure::new(ExitKind::Usage, text).into());
        }
        data.held_back = Subset::new(all.clone(), held_back);
        data.train = Subset::new(all, rest);
    } else if let Some(path) = &args.validation {
        data.validation = Some(local_data::one(path, args.validation_labels.as_ref(), wanted)?);
    } else if let Some(name) = file.evaluate.as_ref().and_then(|section| section.data.as_ref()) {
        data.validation = Some(local_data::one(&folder.join(name), None, wanted)?);
    }
    Ok(data)
}

/// Held back and left to train on, by class where rows have one.
fn split_rows(all: &Joined, share: f64, file: &JobFile) -> (Vec<usize>, Vec<usize>) {
    let mut rng = ChaCha20Rng::from_seed(seed("aimass/train/split", file.job.seed));
    let classes = matches!(aimass_recipe::heads(&file.train)[..], [ref head, ..] if matches!(head.loss, Loss::CrossEntropy(_)));
    let labels = all.targets().and_then(|targets| targets.into_iter().next());
    match labels
        .filter(|labels| classes && labels.shape().len() == 1)
        .map(aimass_learning::Array::into_values)
    {
        Some(Values::Floats(labels)) => split_stratified(&labels, share, &mut rng),
        Some(Values::Ints(labels)) => {
            let labels: Vec<f32> = labels.into_iter().map(|label| label as f32).collect();
            split_stratified(&labels, share, &mut rng)
        }
        _ => split(all.len(), share, &mut rng),
    }
}

impl Data {
    fn train(&self) -> &dyn Source {
        match &self.train {
            Some(subset) => subset,
            None => &*self.all,
        }
    }
}

impl Setup {
    /// What a person should know of the model.
    pub(super) fn doubts(&self) -> Vec<String> {
        if self.chosen {
            return Vec::new();
        }
        doubts(&self.model, &self.layout)
    }

    pub(super) fn train_data(&self) -> &dyn Source {
        self.data.train()
    }

    /// What is measured on.
    pub(super) fn validation(&self) -> Option<&dyn Source> {
        match (&self.data.held_back, &self.data.validation) {
            (Some(subset), _) => Some(subset),
            (None, Some(source)) => Some(&**source),
            (None, None) => None,
        }
    }

    /// The trained model as it is handed on: without adapters.
    pub(super) fn finished(&self, model: Model) -> Result<Model> {
        Ok(if self.adapted { lora::merge(&model)? } else { model })
    }

    pub(super) fn describe(&self, steps: u64) -> String {
        let held_back = self.validation().map_or_else(
            || "nothing is held back to measure on".to_owned(),
            |data| format!("{} rows to measure on", data.len()),
        );
        format!(
            "{}: {} rows to train on, {held_back}; {} weights train, {} epochs, {steps} steps of {} rows",
            self.name,
            self.train_data().len(),
            self.layout.n_weights(),
            self.config.epochs,
            self.config.batch.min(self.train_data().len())
        )
    }

    /// Why a training does not begin, or can't be measured.
    pub(super) fn refused(&self, error: &TrainError) -> Failure {
        let (field, fix) = match error {
            TrainError::Config { .. } => ("train", "correct the setting"),
            TrainError::Graph { .. } => ("model.path", "use a model whose graph can be trained, see `aimass model check`"),
            TrainError::Data { .. } => ("data", "correct the data, or `data.inputs` and `data.target`"),
            TrainError::Source(error) => return local_data::refused(error),
            _ => return Failure::new(ExitKind::Failure, error.to_string()),
        };
        let error = self.places.error_at(field, error.to_string(), fix);
        bad(format!("{}: {error}", self.job.display()))
    }

    /// The same for the data that is measured on.
    pub(super) fn refused_validation(&self, error: &TrainError) -> Failure {
        if let TrainError::Source(error) = error {
            return local_data::refused(error);
        }
        bad(format!("the data to measure on: {error}"))
    }

    /// Rows of the training data as people find them: counted from 1, by file where there are several.
    pub(super) fn name_rows(&self, rows: &[usize], most: usize) -> String {
        let whole = |row: &usize| self.data.train.as_ref().map_or(*row, |subset| subset.rows()[*row]);
        let mut named: Vec<String> = Vec::new();
        for (source, row) in rows.iter().take(most).map(|row| self.data.all.place(whole(row))) {
            named.push(match &self.data.files[..] {
                [_] => format!("{}", row + 1),
                files => format!("{}:{}", files[source].display(), row + 1),
            });
        }
        let more = rows.len().saturating_sub(most);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("rows {}{more}", named.join(", "))
    }
}
