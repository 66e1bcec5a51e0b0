//! What the rounds of a job need, by its kind: the one place that tells models from reports.

use std::fmt;

use aimass_analytics::calibration::{CalibrationReport, CalibrationShape, canonical_calibration_bytes};
use aimass_analytics::release::{ReleaseReport, ReleaseShape, canonical_release_bytes};
use aimass_analytics::{Report, Shape, canonical_bytes};
use aimass_compress::{CompressError, FEWEST_ROWS, Watched, check_served};
use aimass_compression::{FixedCodec, FixedParams, PlanError, SlotCodec, SumPlan};
use aimass_crypto::hash::sha256;
use aimass_learning::data::{Limits, Source, open_bytes};
use aimass_learning::inspect::obstacles;
use aimass_learning::training::{check_data, evaluate_on};
use aimass_learning::{Evaluation, Head, Metric, TrainError, fit_check};
use aimass_onnx::{Model, ParamLayout};
use aimass_protocol::Digest;
use aimass_protocol::job::{AnalyzeSection, CalibrationSection, JobFile, ReleaseSection};
use aimass_recipe::taught::row_width;
use aimass_recipe::{Recipe, reading};

use super::{Attached, Job, JobError};

/// What the rounds of a job need.
#[derive(Debug)]
pub(crate) enum Work {
    /// Of a job that trains a model.
    Training(Box<Training>),
    /// Of a job that counts: where others have a model, it has the report of the round before.
    Analytics(Analytics),
    /// Of a release, whose variants agents measure: it has the report of the stage before.
    Release(Release),
    /// Of a calibration, whose agents look at the activations of a model: it has the report of the round before.
    Calibration(Calibration),
}

/// See [`Work::Training`].
pub(crate) struct Training {
    /// Which initializers train.
    pub(crate) layout: ParamLayout,
    /// SHA-256 of the layout's canonical bytes.
    layout_digest: Digest,
    /// Held-out data, if the job has some.
    evaluation: Option<Box<dyn Source>>,
    /// Rows that groups' averages are asked about, where the strategy fuses them.
    pub(crate) public: Option<Box<dyn Source>>,
    /// The outputs and losses that it is evaluated with.
    heads: Vec<Head>,
    /// How the initial model does on the held-out data.
    pub(crate) initial: Option<Evaluation>,
}

/// See [`Work::Analytics`].
#[derive(Debug)]
pub(crate) struct Analytics {
    /// What is counted.
    pub(crate) analyze: AnalyzeSection,
    /// SHA-256 of its canonical bytes.
    layout_digest: Digest,
}

/// See [`Work::Release`].
#[derive(Debug)]
pub(crate) struct Release {
    /// What is measured.
    pub(crate) release: ReleaseSection,
    /// SHA-256 of its canonical bytes.
    layout_digest: Digest,
}

/// See [`Work::Calibration`].
#[derive(Debug)]
pub(crate) struct Calibration {
    /// What is looked at.
    pub(crate) calibration: CalibrationSection,
    /// SHA-256 of its canonical bytes.
    layout_digest: Digest,
}

/// How what agents send becomes sums.
#[derive(Debug)]
pub(crate) enum Codec {
    /// Updates of a model.
    Fixed(FixedCodec),
    /// What agents counted.
    Exact(SlotCodec),
}

impl Codec {
    /// The plan.
    pub(crate) fn plan(&self) -> &SumPlan {
        match self {
            Self::Fixed(codec) => codec.plan(),
            Self::Exact(codec) => codec.plan(),
        }
    }
}

impl Work {
    /// SHA-256 of what a contribution's numbers stand for: agents compare it with what they made.
    pub(crate) fn layout_digest(&self) -> Digest {
        match self {
            Self::Training(training) => training.layout_digest,
            Self::Analytics(analytics) => analytics.layout_digest,
            Self::Release(release) => release.layout_digest,
            Self::Calibration(calibration) => calibration.layout_digest,
        }
    }

    /// How contributions to a round become integers, in a sum of `members`. The rotation changes no lengths.
    ///
    /// # Errors
    /// [`PlanError`].
    pub(crate) fn codec(&self, file: &JobFile, round: u32, members: u32, rotation: Option<Digest>) -> Result<Codec, PlanError> {
        let update = file.update;
        match self {
            Self::Training(training) => FixedCodec::new(FixedParams {
                n_weights: training.layout.n_weights(),
                bits: update.bits,
                clip: update.clip,
                weight_scale: file.round.mode.weight_scale(),
                weight_cap: update.weight_cap,
                members,
                rotation: rotation.map(|seed| *seed.as_bytes()),
                evaluation: file.on_devices().is_some(),
            })
            .map(Codec::Fixed),
            Self::Analytics(analytics) => Shape::of(&analytics.analyze).codec(members).map(Codec::Exact),
            Self::Release(release) => ReleaseShape::of(&release.release).codec(members).map(Codec::Exact),
            Self::Calibration(work) => CalibrationShape::of(&work.calibration, round).codec(members).map(Codec::Exact),
        }
    }
}

impl fmt::Debug for Training {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Training")
            .field("layout_digest", &self.layout_digest)
            .finish_non_exhaustive()
    }
}

impl Training {
    /// How a model does on the held-out data; `None` where there is none.
    ///
    /// # Errors
    /// [`TrainError`].
    pub(crate) fn measure(&self, model: &Model) -> Result<Option<Evaluation>, TrainError> {
        let data = self.evaluation.as_deref();
        data.map(|data| evaluate_on(model, data, &self.heads, &[])).transpose()
    }

    /// The held-out data.
    pub(crate) fn held_out(&self) -> Option<&dyn Source> {
        self.evaluation.as_deref()
    }

    /// Whether outputs are right or wrong: classes or labels, not values to regress.
    pub(crate) fn has_accuracy(&self) -> bool {
        self.heads.iter().any(|head| Metric::Accuracy.suits(&head.loss))
    }
}

impl Job {
    /// `model` has to be the report of nobody, which follows from the job file: nobody can start a job from numbers that no agents counted.
    pub(super) fn prepare_analytics(
        &self,
        analyze: &AnalyzeSection,
        model: &[u8],
        evaluation: Option<&[u8]>,
    ) -> Result<Analytics, JobError> {
        if evaluation.is_some() {
            let problem = "held-out data was signed, and an analytics job has no model to evaluate";
            return Err(self.at("job.kind", problem, "submit the job again").into());
        }
        if model != Report::empty(analyze, self.file.aggregation.mode).to_bytes() {
            let problem = "what was signed as its beginning is not the empty report of this job";
            let fix = "submit it with `aimass job submit` of the same version as the server";
            return Err(self.at("analyze", problem, fix).into());
        }
        Ok(Analytics {
            analyze: analyze.clone(),
            layout_digest: Digest::from_bytes(sha256(&canonical_bytes(analyze))),
        })
    }

    /// As with analytics, `model` has to be the report of nobody.
    pub(super) fn prepare_release(&self, release: &ReleaseSection, model: &[u8], evaluation: Option<&[u8]>) -> Result<Release, JobError> {
        if evaluation.is_some() {
            let problem = "held-out data was signed, and a release is measured on devices";
            return Err(self.at("job.kind", problem, "submit the release again").into());
        }
        if model != ReleaseReport::empty(release, self.file.aggregation.mode).to_bytes() {
            let problem = "what was signed as its beginning is not the empty report of this release";
            let fix = "submit it with `aimass release submit` of the same version as the server";
            return Err(self.at("release", problem, fix).into());
        }
        Ok(Release {
            release: release.clone(),
            layout_digest: Digest::from_bytes(sha256(&canonical_release_bytes(release))),
        })
    }

    /// `beginning` has to be the report of nobody, as with analytics; `model` is one that can be quantized, run on devices, and has the activations that
    /// the owner signed.
    pub(super) fn prepare_calibration(
        &self,
        calibration: &CalibrationSection,
        beginning: &[u8],
        evaluation: Option<&[u8]>,
        model: &[u8],
    ) -> Result<Calibration, JobError> {
        if beginning != CalibrationReport::empty(calibration, self.file.aggregation.mode).to_bytes() {
            let problem = "what was signed as its beginning is not the empty report of this job";
            let fix = "submit it with `aimass job submit` of the same version as the server";
            return Err(self.at("calibration", problem, fix).into());
        }
        let unfit = |e: &CompressError| {
            self.at(
                "model.path",
                e.to_string(),
                "use a model in floats that `aimass compress` can quantize",
            )
        };
        let model =
            Model::from_bytes(model).map_err(|e| self.at("model.path", e.to_string(), "use a model that passes `aimass model check`"))?;
        let keep = self.file.compress.as_ref().map_or(&[][..], |section| &section.keep);
        if Watched::of(&model, keep).map_err(|e| unfit(&e))?.tensors() != calibration.tensors {
            let problem = "these are not the activations of the model that are rounded";
            let fix = "remove them, and let `aimass job submit` of the same version as the server fill them in";
            return Err(self.at("calibration.tensors", problem, fix).into());
        }
        check_served(&model).map_err(|e| unfit(&e))?;
        let (heads, wanted) = reading(&model, &self.file).map_err(|e| self.at(e.field(), e.to_string(), "use a model that can be run"))?;
        let named = self.file.evaluate.as_ref().and_then(|section| section.data.as_ref());
        match (evaluation, named) {
            (None, None) => {}
            (Some(bytes), Some(name)) => {
                let data = open_bytes(name, bytes, &wanted, &Limits::default())
                    .map_err(|e| self.at("evaluate.data", e.to_string(), "correct the file at that place"))?;
                evaluate_on(&model, &*data, &heads, &[])
                    .map_err(|e| self.at("evaluate.data", e.to_string(), "use data whose columns and classes fit the model"))?;
            }
            _ => {
                let problem = "held-out data was signed and the job file names none, or the other way round";
                return Err(self.at("evaluate.data", problem, "submit the job again").into());
            }
        }
        Ok(Calibration {
            calibration: calibration.clone(),
            layout_digest: Digest::from_bytes(sha256(&canonical_calibration_bytes(calibration))),
        })
    }

    pub(super) fn prepare_training(&self, model: &[u8], evaluation: Option<&[u8]>, attached: &Attached) -> Result<Training, JobError> {
        let model =
            Model::from_bytes(model).map_err(|e| self.at("model.path", e.to_string(), "use a model that passes `aimass model check`"))?;
        let recipe = Recipe::of(&model, &self.file).map_err(|e| {
            self.at(
                e.field(),
                e.to_string(),
                "correct it, or submit the job with `aimass job submit`, which adds adapters",
            )
        })?;
        let Recipe { layout, heads, wanted } = recipe;
        let named = self.file.evaluate.as_ref().and_then(|section| section.data.as_ref());
        let evaluation = match (evaluation, named) {
            (None, None) => None,
            (Some(bytes), Some(name)) => {
                let data = open_bytes(name, bytes, &wanted, &Limits::default())
                    .map_err(|e| self.at("evaluate.data", e.to_string(), "correct the file at that place"))?;
                Some(data)
            }
            (None, Some(_)) => {
                return Err(self
                    .at(
                        "evaluate.data",
                        "the held-out data was not signed with the job",
                        "submit the job again",
                    )
                    .into());
            }
            (Some(_), None) => {
                return Err(self
                    .at(
                        "evaluate",
                        "held-out data was signed, but the job file names none",
                        "add [evaluate] with data",
                    )
                    .into());
            }
        };
        // Found out now, and not on a thousand devices.
        let fits = match &evaluation {
            Some(data) => check_data(&model, &layout, &**data, &heads),
            None => check_alone(&model, &layout, &self.file, &heads),
        };
        fits.map_err(|e| match e {
            TrainError::Config { .. } => self.at("train.loss", e.to_string(), "correct the loss's options"),
            TrainError::Data { .. } => self.at("data.inputs", e.to_string(), "name the columns that the model takes"),
            _ => self.at("model.path", e.to_string(), "use a model whose graph can be trained"),
        })?;
        if let Some(rows) = evaluation.as_ref().filter(|_| self.file.compress.is_some()).map(|data| data.len())
            && rows < FEWEST_ROWS
        {
            let problem = format!("{rows} rows can't be split into one half to look at and one to measure on, as [compress] needs");
            return Err(self.at("evaluate.data", problem, "give at least 2").into());
        }
        self.check_attached(attached, &model, evaluation.as_deref())?;
        let public = self.public(attached, &model, &wanted)?;
        let layout_digest = Digest::from_bytes(sha256(&layout.canonical_bytes()));
        let mut training = Training {
            layout,
            layout_digest,
            evaluation,
            public,
            heads,
            initial: None,
        };
        training.initial = training
            .measure(&model)
            .map_err(|e| self.at("evaluate.data", e.to_string(), "use data whose columns and classes fit the model"))?;
        Ok(training)
    }
}

/// Whether a model trains, as far as that can be known without data.
fn check_alone(model: &Model, layout: &ParamLayout, file: &JobFile, heads: &[Head]) -> Result<(), TrainError> {
    if let ([head], Some(width)) = (heads, row_width(model, file)) {
        return fit_check(model, layout, width, head, None).map(|_| ());
    }
    match obstacles(model).first() {
        None => Ok(()),
        Some(obstacle) => Err(TrainError::Graph {
            reason: obstacle.to_string(),
        }),
    }
}
