//! The steps, one after another.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aimass_inference::{Parity, ParityError, parity};
use aimass_learning::data::Source;
use aimass_learning::{Head, Metric};
use aimass_onnx::{Globs, Model, TrainableRules};
use aimass_shrink::channels::{self, ChannelRules, Scope};
use aimass_shrink::prune::{Masks, PruneRules};
use aimass_shrink::quantize::Observed;
use aimass_shrink::{fold, sparse};
use serde::Serialize;

use crate::CompressError;
use crate::distil::distilled;
use crate::measure::Measured;
use crate::options::{Channels, Options, Prune, Storage};
use crate::quantize::{Means, quantize};
use crate::ranges::Pattern;
use crate::tune::Tuning;

/// Rows on which the trainer and tract are compared at most.
const COMPARED: usize = 1024;

/// What a model is trained, calibrated and measured on.
#[derive(Clone)]
pub struct Data {
    /// Rows to train and calibrate on.
    pub train: Option<Arc<dyn Source>>,
    /// Rows to measure on; without them those to train on.
    pub test: Option<Arc<dyn Source>>,
    /// Ranges that were seen elsewhere, of the model that comes before quantization: static quantization takes them instead of looking at rows.
    pub ranges: Option<Arc<Observed>>,
    /// What is learnt.
    pub heads: Vec<Head>,
    /// What is measured besides the loss.
    pub metrics: Vec<Metric>,
    /// Which weights train.
    pub trainable: TrainableRules,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").field("heads", &self.heads).finish_non_exhaustive()
    }
}

impl Data {
    /// No data: what needs none is done, and nothing but size is measured.
    pub fn none() -> Self {
        Self {
            train: None,
            test: None,
            ranges: None,
            heads: Vec::new(),
            metrics: Vec::new(),
            trainable: TrainableRules::default(),
        }
    }

    /// What is measured on.
    pub(crate) fn measured_on(&self) -> Option<&dyn Source> {
        self.test.as_deref().or(self.train.as_deref())
    }
}

/// What happens meanwhile.
#[derive(Debug)]
pub enum Event<'a> {
    /// Something that takes `steps` steps; 0 where that is not known.
    Began {
        /// What, for people.
        what: &'static str,
        /// How many.
        steps: u64,
    },
    /// One of them.
    Stepped,
    /// A step of the pipeline has ended.
    Ended(&'a Step),
}

/// What a step left.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// Which.
    pub name: &'static str,
    /// What it did, for people.
    pub note: String,
    /// The model after it.
    pub after: Measured,
    /// How long it took.
    pub seconds: f64,
}

/// A smaller model, and what it was compared by.
#[derive(Debug, Clone)]
pub struct Compressed {
    /// The model as it is stored.
    pub model: Model,
    /// What went in.
    pub before: Measured,
    /// What came out.
    pub after: Measured,
    /// What was done.
    pub steps: Vec<Step>,
    /// How far the trainer and tract lie apart, on data, on rows drawn from given ranges, or on made-up values; `None` for a model that the trainer does not
    /// take, and no data.
    pub parity: Option<Parity>,
}

impl Compressed {
    /// Points (hundredths) of accuracy or of explained variance that were lost; where there is neither, percent by which the loss grew. Negative where
    /// it became better. `None` without data.
    pub fn drop_points(&self) -> Option<f64> {
        let (before, after) = (self.before.score?, self.after.score?);
        Some(match (before.share(), after.share()) {
            (Some(before), Some(after)) => (before - after) * 100.0,
            _ => (after.loss / before.loss.max(f64::MIN_POSITIVE) - 1.0) * 100.0,
        })
    }
}

/// Makes `model` smaller: distil, channels, prune, quantize, store, as far as they are asked for, and compares what comes out with what went in.
///
/// The same model, data, options and seed give the same bytes.
///
/// # Errors
/// [`CompressError`]. A model that the trainer and tract do not agree about is not handed out.
pub fn compress(model: &Model, data: &Data, options: &Options, show: &mut dyn FnMut(Event<'_>)) -> Result<Compressed, CompressError> {
    let before = Measured::of(model, data)?;
    let mut work = Work {
        model: model.clone(),
        masks: None,
        data,
        options,
        steps: Vec::new(),
        show,
    };
    work.all()?;
    let (model, steps) = (work.model, work.steps);
    let parity = compared(&model, data)?;
    let after = steps.last().map_or(before, |step| step.after);
    Ok(Compressed {
        model,
        before,
        after,
        steps,
        parity,
    })
}

fn compared(model: &Model, data: &Data) -> Result<Option<Parity>, CompressError> {
    let drawn = match (data.measured_on(), &data.ranges) {
        (None, Some(ranges)) => Pattern::within(&sparse::expand(model)?, ranges)?,
        _ => None,
    };
    let rows = data.measured_on().or(drawn.as_ref().map(|rows| rows as &dyn Source));
    let parity = match parity(model, rows, COMPARED) {
        // What needs no data needs no trainer either.
        Err(ParityError::Train(_)) if rows.is_none() => return Ok(None),
        found => found?,
    };
    match parity.excess() {
        None => Ok(Some(parity)),
        Some((found, allowed)) => Err(CompressError::Parity {
            found,
            allowed,
            rows: parity.rows,
        }),
    }
}

/// A model on its way.
struct Work<'a> {
    model: Model,
    masks: Option<Masks>,
    data: &'a Data,
    options: &'a Options,
    steps: Vec<Step>,
    show: &'a mut dyn FnMut(Event<'_>),
}

impl Work<'_> {
    fn all(&mut self) -> Result<(), CompressError> {
        let options = self.options;
        if let Some(distil) = &options.distil {
            let began = Instant::now();
            let data = Arc::clone(self.train("distillation")?);
            let tune = distil
                .tune
                .as_ref()
                .or(options.tune.as_ref())
                .ok_or(CompressError::NoData { what: "distillation" })?;
            self.model = distilled(&self.model, &self.data.trainable, &*data, distil, tune, self.show)?;
            self.ended(
                "distil",
                match distil.teachers.len() {
                    1 => "from a teacher".to_owned(),
                    n => format!("from the mean of {n} teachers"),
                },
                began.elapsed(),
            )?;
        }
        if let Some(channels) = &options.channels {
            self.channels(channels)?;
        }
        if let Some(prune) = &options.prune {
            self.prune(prune)?;
        }
        if let Some(how) = &options.quantize {
            let began = Instant::now();
            let (folded, _) = fold::fold(&self.model)?;
            // Folding gives weights other names; what is zero stays zero.
            let masks = self
                .masks
                .is_some()
                .then(|| Masks::of_zeros(&folded, &PruneRules::default()))
                .transpose()?;
            let means = Means {
                data: self.data.train.as_ref(),
                ranges: self.data.ranges.as_deref(),
                heads: &self.data.heads,
                rules: &self.data.trainable,
                tune: options.tune.as_ref(),
                masks: masks.as_ref(),
            };
            self.model = quantize(&folded, how, &means, self.show)?;
            self.ended("quantize", how.to_string(), began.elapsed())?;
        }
        self.store()
    }

    fn train(&self, what: &'static str) -> Result<&Arc<dyn Source>, CompressError> {
        self.data.train.as_ref().ok_or(CompressError::NoData { what })
    }

    fn channels(&mut self, channels: &Channels) -> Result<(), CompressError> {
        let began = Instant::now();
        let rules = ChannelRules {
            scope: Scope::PerGroup,
            exclude: Globs::new(&channels.exclude)?,
            ..ChannelRules::new(channels.fraction)
        };
        let (smaller, plan) = channels::prune_channels(&self.model, &rules)?;
        self.model = smaller;
        if let (Some(tune), Some(data)) = (&self.options.tune, &self.data.train) {
            self.model = Tuning::new(&self.model, &self.data.trainable, &**data, tune).run("training what is left", None, self.show)?;
        }
        let note = format!(
            "{} of {} weights are left in {} groups of channels",
            plan.parameters_after,
            plan.parameters_before,
            plan.groups.len()
        );
        self.ended("channels", note, began.elapsed())
    }

    fn prune(&mut self, prune: &Prune) -> Result<(), CompressError> {
        let began = Instant::now();
        let rules = PruneRules::new(&[], &prune.exclude)?;
        let mut masks = Masks::dense(&self.model, &rules)?;
        match (&self.options.tune, &self.data.train) {
            (Some(tune), Some(data)) => {
                let tuning = Tuning::new(&self.model, &self.data.trainable, &**data, tune);
                self.model = tuning.run_pruning("pruning", &mut masks, prune.sparsity, self.show)?;
            }
            _ => masks.grow(&self.model, prune.sparsity)?,
        }
        self.model = masks.apply(&self.model)?;
        let note = format!("{} of {} weights are zero", masks.pruned(), masks.elements());
        self.masks = Some(masks);
        self.ended("prune", note, began.elapsed())
    }

    fn store(&mut self) -> Result<(), CompressError> {
        let format = match self.options.store {
            Storage::Dense => return Ok(()),
            Storage::Standard => sparse::Format::Standard,
            Storage::Compact => sparse::Format::Compact,
        };
        let began = Instant::now();
        let packed = sparse::pack(&self.model, format)?;
        let after = Measured {
            bytes: packed.bytes_after as u64,
            ..self
                .steps
                .last()
                .map_or_else(|| Measured::of(&self.model, self.data), |step| Ok(step.after))?
        };
        let readers = match format {
            sparse::Format::Standard => "any runtime reads it",
            sparse::Format::Compact => "this project's programs read it",
        };
        let note = format!("{} tensors by their values alone; {readers}", packed.tensors.len());
        self.model = packed.model;
        self.push("store", note, after, began.elapsed());
        Ok(())
    }

    fn ended(&mut self, name: &'static str, note: String, took: Duration) -> Result<(), CompressError> {
        let after = Measured::of(&self.model, self.data)?;
        self.push(name, note, after, took);
        Ok(())
    }

    fn push(&mut self, name: &'static str, note: String, after: Measured, took: Duration) {
        let step = Step {
            name,
            note,
            after,
            seconds: took.as_secs_f64(),
        };
        (self.show)(Event::Ended(&step));
        self.steps.push(step);
    }
}
