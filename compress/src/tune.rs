//! Training in between: what a step took from a model is learnt again by what is left.

use aimass_learning::data::Source;
use aimass_learning::training::Training;
use aimass_learning::{Mask, TrainConfig, Trainer};
use aimass_onnx::{Model, ParamLayout, TrainableRules};
use aimass_shrink::prune::{Masks, Schedule, Sparsity};

use crate::CompressError;
use crate::options::Tune;
use crate::pipeline::Event;

/// Masks change at most so often while weights go.
const CHANGES: u64 = 40;
/// The share of the steps over which weights go; the rest is for those that are left.
const RAMP: f64 = 0.6;

/// What is trained, on what, and how.
pub(crate) struct Tuning<'a> {
    pub(crate) model: &'a Model,
    pub(crate) rules: &'a TrainableRules,
    pub(crate) data: &'a dyn Source,
    pub(crate) config: TrainConfig,
}

impl<'a> Tuning<'a> {
    pub(crate) fn new(model: &'a Model, rules: &'a TrainableRules, data: &'a dyn Source, tune: &Tune) -> Self {
        Self {
            model,
            rules,
            data,
            config: tune.config.clone(),
        }
    }

    /// Trains what `masks` keeps.
    pub(crate) fn run(&self, what: &'static str, masks: Option<&Masks>, show: &mut dyn FnMut(Event<'_>)) -> Result<Model, CompressError> {
        let layout = self.model.layout(self.rules)?;
        let mut training = Training::new(self.model, &layout, self.data, &self.config)?;
        if let Some(masks) = masks {
            training.set_mask(Some(Mask::from_kept(masks.flat(&layout)?)))?;
        }
        show(Event::Began {
            what,
            steps: training.steps(),
        });
        while training.step()?.is_some() {
            show(Event::Stepped);
        }
        finished(&mut training)
    }

    /// Trains while `masks` grow to the sparsity that `to` ends with.
    pub(crate) fn run_pruning(
        &self,
        what: &'static str,
        masks: &mut Masks,
        to: Sparsity,
        show: &mut dyn FnMut(Event<'_>),
    ) -> Result<Model, CompressError> {
        let layout = self.model.layout(self.rules)?;
        let mut training = Training::new(self.model, &layout, self.data, &self.config)?;
        let schedule = schedule(training.steps(), masks, to)?;
        show(Event::Began {
            what,
            steps: training.steps(),
        });
        loop {
            if let Some(sparsity) = schedule.due(training.step_count()) {
                prune(&mut training, &layout, masks, sparsity)?;
            }
            if training.step()?.is_none() {
                break;
            }
            show(Event::Stepped);
        }
        finished(&mut training)
    }
}

fn prune(training: &mut Training<'_, Trainer>, layout: &ParamLayout, masks: &mut Masks, to: Sparsity) -> Result<(), CompressError> {
    masks.grow_flat(layout, &training.weights()?.weights, to)?;
    training.set_mask(Some(Mask::from_kept(masks.flat(layout)?)))?;
    Ok(())
}

/// Over the first part of the training, from what is pruned already.
fn schedule(steps: u64, masks: &Masks, to: Sparsity) -> Result<Schedule, CompressError> {
    let end = ((steps as f64 * RAMP) as u64).min(steps.saturating_sub(1));
    let from = Sparsity::new(masks.sparsity()).unwrap_or(Sparsity::DENSE);
    let from = if from > to { to } else { from };
    Ok(Schedule::new(from, to, 0, end, (end / CHANGES).max(1))?)
}

fn finished(training: &mut Training<'_, Trainer>) -> Result<Model, CompressError> {
    let good = training.weights()?;
    Ok(training.model_with(&good)?)
}
