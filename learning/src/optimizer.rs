//! Optimizers: from gradients to new weights, on the device, as PyTorch defines them.

mod schedule;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use burn_backend::tensor::{BoolTensor, Device, FloatTensor};
use burn_backend::{Backend, TensorData, TensorMetadata};

pub use schedule::Schedule;

use crate::array::{Array, Values};
use crate::ops::{DeviceTensor, dims};
use crate::program::GraphSource;
use crate::{Mask, TrainError};

/// How gradients move weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Stochastic gradient descent; with `momentum` above 0, heavy-ball momentum (Sutskever et al. 2013, ICML, section 2), of Nesterov's
    /// kind where asked for.
    Sgd {
        /// Share of the velocity that stays, 0 to less than 1.
        momentum: f32,
        /// Look ahead by the velocity.
        nesterov: bool,
    },
    /// Adam (Kingma and Ba 2015, ICLR, algorithm 1).
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
        /// Weight decay apart from the gradient (AdamW; Loshchilov and Hutter 2019, ICLR, algorithm 2).
        decoupled: bool,
    },
    /// RMSprop (Tieleman and Hinton 2012, lecture 6.5).
    RmsProp {
        /// Decay of the mean square.
        alpha: f32,
        /// Added to its root.
        epsilon: f32,
        /// Share of the velocity that stays.
        momentum: f32,
    },
}

/// An optimizer's settings.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerConfig {
    /// The rule.
    pub rule: Rule,
    /// Learning rate, before the schedule.
    pub lr: f32,
    /// Factor of the weights that is added to the gradient (or taken off the weights, for AdamW).
    pub weight_decay: f32,
    /// Factor of the proximal term `proximal / 2 ||w - w0||^2` that is added to the loss (FedProx; Li et al. 2020, MLSys, equation 2), where
    /// `w0` are the weights that training began with; 0 is none. As a part of the loss it is clipped with it, and comes before decay.
    pub proximal: f32,
    /// L2 norm over all weights that gradients are scaled down to.
    pub clip_norm: Option<f32>,
    /// How the learning rate changes.
    pub schedule: Schedule,
}

impl OptimizerConfig {
    /// Plain stochastic gradient descent.
    pub fn sgd(lr: f32) -> Self {
        Self {
            rule: Rule::Sgd {
                momentum: 0.0,
                nesterov: false,
            },
            lr,
            weight_decay: 0.0,
            proximal: 0.0,
            clip_norm: None,
            schedule: Schedule::Constant,
        }
    }

    /// Refuses what can't work.
    pub(crate) fn check(&self) -> Result<(), TrainError> {
        let share = |name: &str, value: f32| {
            if (0.0..1.0).contains(&value) {
                Ok(())
            } else {
                Err(refuse(format!("`{name}` is {value}; use a number from 0 to less than 1")))
            }
        };
        let positive = |name: &str, value: f32| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err(refuse(format!("`{name}` is {value}; use a number above 0")))
            }
        };
        if !self.lr.is_finite() || self.lr < 0.0 {
            return Err(refuse(format!("the learning rate is {}; use a finite number, 0 or more", self.lr)));
        }
        if !self.weight_decay.is_finite() || self.weight_decay < 0.0 {
            return Err(refuse(format!(
                "`weight_decay` is {}; use a finite number, 0 or more",
                self.weight_decay
            )));
        }
        if !self.proximal.is_finite() || self.proximal < 0.0 {
            return Err(refuse(format!("`proximal` is {}; use a finite number, 0 or more", self.proximal)));
        }
        if let Some(norm) = self.clip_norm {
            positive("clip_norm", norm)?;
        }
        match self.rule {
            Rule::Sgd { momentum, nesterov } => {
                share("momentum", momentum)?;
                if nesterov && momentum == 0.0 {
                    return Err(refuse("Nesterov's momentum needs a `momentum` above 0".to_owned()));
                }
            }
            Rule::Adam { beta1, beta2, epsilon, .. } => {
                share("beta1", beta1)?;
                share("beta2", beta2)?;
                positive("epsilon", epsilon)?;
            }
            Rule::RmsProp { alpha, epsilon, momentum } => {
                share("alpha", alpha)?;
                share("momentum", momentum)?;
                positive("epsilon", epsilon)?;
            }
        }
        self.schedule.check()
    }

    /// Vectors that the rule keeps a weight.
    pub(crate) fn moments(&self) -> usize {
        match self.rule {
            Rule::Sgd { momentum: 0.0, .. } => 0,
            Rule::Sgd { .. } | Rule::RmsProp { momentum: 0.0, .. } => 1,
            Rule::Adam { .. } | Rule::RmsProp { .. } => 2,
        }
    }
}

fn refuse(reason: String) -> TrainError {
    TrainError::Config { reason }
}

/// An optimizer at work: its settings, its moments, its steps.
pub(crate) struct Optimizer<B: Backend> {
    config: OptimizerConfig,
    /// By source; none before its first step.
    moments: BTreeMap<usize, Vec<FloatTensor<B>>>,
    /// By source: what the proximal term pulls to, and what is added to the gradient.
    anchor: BTreeMap<usize, FloatTensor<B>>,
    correction: BTreeMap<usize, FloatTensor<B>>,
    /// By source, where something of it is: what is pruned.
    pruned: BTreeMap<usize, BoolTensor<B>>,
    steps: u64,
}

impl<B: Backend> Optimizer<B> {
    pub(crate) fn new(config: OptimizerConfig) -> Self {
        Self {
            config,
            moments: BTreeMap::new(),
            anchor: BTreeMap::new(),
            correction: BTreeMap::new(),
            pruned: BTreeMap::new(),
            steps: 0,
        }
    }

    /// Vectors that it keeps a weight.
    pub(crate) fn moments_a_weight(&self) -> usize {
        self.config.moments()
    }

    /// What the proximal term pulls to from now on: a flat vector of all weights.
    pub(crate) fn set_anchor(&mut self, sources: &[GraphSource], flat: &[f32], device: &Device<B>) {
        if self.config.proximal > 0.0 {
            self.anchor = tensors::<B>(sources, flat, device);
        }
    }

    /// What is added to every gradient from now on, behind clipping; a flat vector of all weights.
    pub(crate) fn set_correction(&mut self, sources: &[GraphSource], flat: Option<&[f32]>, device: &Device<B>) {
        self.correction = flat.map(|flat| tensors::<B>(sources, flat, device)).unwrap_or_default();
    }

    /// What is kept 0 from now on; moments are made so now.
    pub(crate) fn set_mask(&mut self, sources: &[GraphSource], mask: Option<&Mask>, device: &Device<B>) -> Result<(), TrainError> {
        self.pruned.clear();
        for (i, source) in sources.iter().enumerate() {
            let kept = source.weight().zip(mask).and_then(|(range, mask)| mask.kept().get(range));
            let Some(kept) = kept.filter(|kept| kept.contains(&false)) else {
                continue;
            };
            let pruned = Array::new(source.shape.clone(), Values::Bools(kept.iter().map(|kept| !kept).collect()));
            let pruned = pruned.ok_or_else(|| TrainError::Data {
                reason: "the mask is of another model".to_owned(),
            })?;
            if let DeviceTensor::Bool(pruned) = DeviceTensor::<B>::upload(pruned, device)? {
                self.pruned.insert(i, pruned);
            }
        }
        let mut moments = std::mem::take(&mut self.moments);
        for (i, moments) in &mut moments {
            *moments = std::mem::take(moments).into_iter().map(|moment| self.pruned(*i, moment)).collect();
        }
        self.moments = moments;
        Ok(())
    }

    /// Values of a source, 0 where it is pruned.
    pub(crate) fn pruned(&self, source: usize, values: FloatTensor<B>) -> FloatTensor<B> {
        match self.pruned.get(&source) {
            Some(pruned) => B::float_mask_fill(values, pruned.clone(), 0.0f32.into()),
            None => values,
        }
    }

    /// Moves the weights by their gradients; one that has none stays as it is, whatever else would move it. Returns the L2 norm of the gradient before clipping, where clipping is on; a norm that is not
    /// finite is refused, and nothing moves.
    pub(crate) fn step(
        &mut self,
        sources: &mut [Option<FloatTensor<B>>],
        mut gradients: Vec<(usize, FloatTensor<B>)>,
    ) -> Result<Option<f64>, TrainError> {
        for (i, gradient) in &mut gradients {
            if let (Some(anchor), Some(weight)) = (self.anchor.get(i), &sources[*i]) {
                let way = B::float_sub(weight.clone(), anchor.clone());
                *gradient = B::float_add(gradient.clone(), B::float_mul_scalar(way, self.config.proximal.into()));
            }
        }
        // What is pruned has no part in the norm, nor in moments.
        if !self.pruned.is_empty() {
            gradients = gradients.into_iter().map(|(i, gradient)| (i, self.pruned(i, gradient))).collect();
        }
        let mut norm = None;
        if let Some(clip) = self.config.clip_norm {
            let found = l2_norm::<B>(&gradients)?;
            norm = Some(found);
            // Scaling what is not finite would make every weight NaN.
            if !found.is_finite() {
                return Err(TrainError::Diverged {
                    step: self.steps + 1,
                    loss: found as f32,
                });
            }
            if found > f64::from(clip) {
                let scale = (f64::from(clip) / found) as f32;
                for (_, gradient) in &mut gradients {
                    *gradient = B::float_mul_scalar(gradient.clone(), scale.into());
                }
            }
        }
        let lr = self.config.lr * self.config.schedule.factor(self.steps);
        self.steps += 1;
        for (i, mut gradient) in gradients {
            if let Some(correction) = self.correction.get(&i) {
                gradient = B::float_add(gradient, correction.clone());
            }
            if let Some(weight) = sources[i].take() {
                // Decay, a proximal term and a correction move weights too.
                let moved = self.moved(i, weight, gradient, lr);
                sources[i] = Some(self.pruned(i, moved));
                if self.pruned.contains_key(&i)
                    && let Some(moments) = self.moments.remove(&i)
                {
                    let moments = moments.into_iter().map(|moment| self.pruned(i, moment)).collect();
                    self.moments.insert(i, moments);
                }
            }
        }
        Ok(norm)
    }

    fn moved(&mut self, i: usize, weight: FloatTensor<B>, gradient: FloatTensor<B>, lr: f32) -> FloatTensor<B> {
        let scaled = |t: FloatTensor<B>, by: f32| B::float_mul_scalar(t, by.into());
        let (rule, decay, steps) = (self.config.rule, self.config.weight_decay, self.steps);
        let decoupled = matches!(rule, Rule::Adam { decoupled: true, .. });
        let (weight, gradient) = match decay {
            0.0 => (weight, gradient),
            decay if decoupled => (scaled(weight, 1.0 - lr * decay), gradient),
            decay => (weight.clone(), B::float_add(gradient, scaled(weight, decay))),
        };
        let moments = self.moments.entry(i).or_default();
        // The running mean `keep * old + new`; the first is `new`.
        let running = |old: Option<&FloatTensor<B>>, keep: f32, new: FloatTensor<B>| match old {
            Some(old) => B::float_add(scaled(old.clone(), keep), new),
            None => new,
        };
        let square = |t: &FloatTensor<B>| B::float_mul(t.clone(), t.clone());
        match rule {
            Rule::Sgd { momentum: 0.0, .. } => B::float_sub(weight, scaled(gradient, lr)),
            Rule::Sgd { momentum, nesterov } => {
                let velocity = running(moments.first(), momentum, gradient.clone());
                *moments = vec![velocity.clone()];
                let direction = if nesterov {
                    B::float_add(gradient, scaled(velocity, momentum))
                } else {
                    velocity
                };
                B::float_sub(weight, scaled(direction, lr))
            }
            Rule::Adam { beta1, beta2, epsilon, .. } => {
                let second = running(moments.get(1), beta2, scaled(square(&gradient), 1.0 - beta2));
                let first = running(moments.first(), beta1, scaled(gradient, 1.0 - beta1));
                *moments = vec![first.clone(), second.clone()];
                let correction = |beta: f32| 1.0 - f64::from(beta).powi(i32::try_from(steps).unwrap_or(i32::MAX));
                let root = scaled(B::float_sqrt(second), (1.0 / correction(beta2).sqrt()) as f32);
                let step = B::float_div(first, B::float_add_scalar(root, epsilon.into()));
                B::float_sub(weight, scaled(step, (f64::from(lr) / correction(beta1)) as f32))
            }
            Rule::RmsProp { alpha, epsilon, momentum } => {
                let mean = running(moments.first(), alpha, scaled(square(&gradient), 1.0 - alpha));
                let direction = B::float_div(gradient, B::float_add_scalar(B::float_sqrt(mean.clone()), epsilon.into()));
                if momentum == 0.0 {
                    *moments = vec![mean];
                    return B::float_sub(weight, scaled(direction, lr));
                }
                let velocity = running(moments.get(1), momentum, direction);
                *moments = vec![mean, velocity.clone()];
                B::float_sub(weight, scaled(velocity, lr))
            }
        }
    }

    /// The moments as flat vectors of `n_weights` each, laid out as the weights; zero where there was no step yet.
    pub(crate) fn read(&self, sources: &[GraphSource], n_weights: usize) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut flat = vec![vec![0.0; n_weights]; self.config.moments()];
        for (i, moments) in &self.moments {
            let Some(range) = sources.get(*i).and_then(GraphSource::weight) else {
                continue;
            };
            for (flat, moment) in flat.iter_mut().zip(moments) {
                let values = DeviceTensor::<B>::Float(moment.clone()).download()?.into_values();
                if let (Values::Floats(values), Some(place)) = (values, flat.get_mut(range.clone())) {
                    place.copy_from_slice(&values);
                }
            }
        }
        Ok(flat)
    }

    /// Goes on from what [`Self::read`] gave after `steps` steps.
    pub(crate) fn restore(&mut self, sources: &[GraphSource], flat: &[Vec<f32>], steps: u64, device: &Device<B>) -> Result<(), TrainError> {
        if flat.len() != self.config.moments() {
            return Err(TrainError::Data {
                reason: format!(
                    "the optimizer's state has {} vectors where it keeps {}; it is of another optimizer",
                    flat.len(),
                    self.config.moments()
                ),
            });
        }
        self.steps = steps;
        self.moments.clear();
        if steps == 0 || flat.is_empty() {
            return Ok(());
        }
        for (i, source) in sources.iter().enumerate() {
            let Some(range) = source.weight() else { continue };
            let moments = flat.iter().map(|flat| flat.get(range.clone()));
            let moments: Option<Vec<_>> = moments
                .map(|values| Some(B::float_from_data(TensorData::new(values?.to_vec(), dims(&source.shape)), device)))
                .collect();
            let moments = moments.ok_or_else(|| TrainError::Data {
                reason: "the optimizer's state is of another model".to_owned(),
            })?;
            self.moments.insert(i, moments);
        }
        Ok(())
    }
}

/// By source, of a flat vector of all weights.
fn tensors<B: Backend>(sources: &[GraphSource], flat: &[f32], device: &Device<B>) -> BTreeMap<usize, FloatTensor<B>> {
    let each = sources.iter().enumerate().filter_map(|(i, source)| {
        let values = flat.get(source.weight()?)?.to_vec();
        Some((i, B::float_from_data(TensorData::new(values, dims(&source.shape)), device)))
    });
    each.collect()
}

/// Over all gradients together; computed on the device, summed in f64.
fn l2_norm<B: Backend>(gradients: &[(usize, FloatTensor<B>)]) -> Result<f64, TrainError> {
    let mut sum = 0.0f64;
    for (_, gradient) in gradients {
        debug_assert!(gradient.shape().num_elements() > 0);
        let square = B::float_sum(B::float_mul(gradient.clone(), gradient.clone()));
        if let Values::Floats(values) = DeviceTensor::<B>::Float(square).download()?.into_values() {
            sum += values.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
    }
    Ok(sum.sqrt())
}
