//! The optimizer of a plan: where gradients go, and how they move weights.

use aimass_kernels::optimizer::{self, Terms, add_proximal, sum_of_squares};
use aimass_kernels::team::{cut, ranges};
use aimass_kernels::{Buffer, Isa, Team};

use super::ops::{By, in_parts};
use super::plan::Plan;
use super::sources::Sources;
use crate::program::{Graph, GraphSource};
use crate::{Mask, OptimizerConfig, Rule, TrainError};

/// An optimizer at work: its settings, its moments, its steps.
#[derive(Debug)]
pub(super) struct Update {
    config: OptimizerConfig,
    steps: u64,
    /// By source, in the layout of its values; empty where there is none.
    gradients: Vec<Buffer>,
    /// Each by source; none before the first step.
    moments: Vec<Sources>,
    /// What the proximal term pulls to, and what is added to the gradient, where there are.
    anchor: Option<Sources>,
    correction: Option<Sources>,
    /// 0 for what is pruned, where something is.
    mask: Option<Sources>,
}

/// Where the gradients of a backward pass go.
#[derive(Debug)]
pub(super) struct Targets<'a> {
    gradients: &'a mut [Buffer],
    alpha: f32,
}

impl Targets<'_> {
    /// What the gradient by a source is multiplied by.
    pub(super) fn alpha(&self, plan: &Plan, source: usize) -> f32 {
        if plan.fused[source] { self.alpha } else { 1.0 }
    }

    /// What it is added to: the values themselves, or a gradient of their layout.
    pub(super) fn buffer<'a>(&'a mut self, plan: &Plan, source: usize, sources: &'a mut Sources) -> &'a mut Buffer {
        if plan.fused[source] {
            &mut sources.values[source]
        } else {
            &mut self.gradients[source]
        }
    }
}

impl Update {
    pub(super) fn new(config: OptimizerConfig, sources: usize) -> Self {
        Self {
            config,
            steps: 0,
            gradients: vec![Buffer::default(); sources],
            moments: Vec::new(),
            anchor: None,
            correction: None,
            mask: None,
        }
    }

    /// What the proximal term pulls to from now on: a flat vector of all weights.
    pub(super) fn set_anchor(&mut self, graph: &Graph, flat: &[f32]) {
        self.anchor = (self.config.proximal > 0.0).then(|| Sources::of_weights(graph, flat));
    }

    /// What is added to every gradient from now on, behind clipping; a flat vector of all weights.
    pub(super) fn set_correction(&mut self, graph: &Graph, flat: Option<&[f32]>) {
        self.correction = flat.map(|flat| Sources::of_weights(graph, flat));
    }

    /// What is kept 0 from now on; values and moments are made so now.
    pub(super) fn set_mask(&mut self, graph: &Graph, mask: Option<&Mask>, sources: &mut Sources) {
        let Some(mask) = mask else {
            self.mask = None;
            return;
        };
        let n: usize = mask.len();
        let mut vectors = vec![vec![0.0; n]; 1 + self.moments.len()];
        for (vector, of) in vectors.iter_mut().zip([&*sources].into_iter().chain(&self.moments)) {
            of.read(graph, vector, GraphSource::weight);
            mask.apply(vector);
        }
        for (vector, of) in vectors.iter().zip([sources].into_iter().chain(&mut self.moments)) {
            of.set(graph, vector, GraphSource::weight);
        }
        self.mask = Some(Sources::of_weights(graph, &mask.to_floats()));
    }

    /// Vectors as long as the weights that it keeps.
    pub(super) fn vectors(&self) -> usize {
        let besides = [self.config.proximal > 0.0, self.correction.is_some(), self.mask.is_some()];
        self.config.moments() + besides.into_iter().filter(|there| *there).count()
    }

    /// Whether weights move by a multiple of their gradient alone, as soon as it is known.
    pub(super) fn is_plain(&self) -> bool {
        let plain = matches!(self.config.rule, Rule::Sgd { momentum: 0.0, .. });
        // A correction is added behind; the proximal term would need the weights as they were.
        plain && self.config.weight_decay == 0.0 && self.config.proximal == 0.0 && self.config.clip_norm.is_none()
    }

    pub(super) fn moments_a_weight(&self) -> usize {
        self.config.moments()
    }

    fn lr(&self) -> f32 {
        self.config.lr * self.config.schedule.factor(self.steps)
    }

    /// Makes room for the gradients of a backward pass. Returns what those that move weights at once are multiplied by.
    pub(super) fn begin(&mut self, plan: &Plan, sources: &Sources) -> f32 {
        for (i, gradient) in self.gradients.iter_mut().enumerate() {
            let len = if plan.trained[i] && !plan.fused[i] {
                sources.values[i].len()
            } else {
                0
            };
            if gradient.len() == len {
                gradient.fill(0.0);
            } else {
                *gradient = Buffer::new(len);
            }
        }
        -self.lr()
    }

    pub(super) fn targets(&mut self, alpha: f32) -> Targets<'_> {
        Targets {
            gradients: &mut self.gradients,
            alpha,
        }
    }

    /// Moves what has not moved yet, of what a gradient has `reached`; the rest stays as it is. Returns the L2 norm of the gradient before clipping, where clipping is on; a norm that is not finite
    /// is refused, and nothing moves.
    pub(super) fn finish(
        &mut self,
        graph: &Graph,
        plan: &Plan,
        reached: &[bool],
        sources: &mut Sources,
        By { isa, team }: By<'_>,
    ) -> Result<Option<f64>, TrainError> {
        let some = |fused: bool| (0..plan.trained.len()).filter(move |&i| plan.trained[i] && reached[i] && plan.fused[i] == fused);
        let waiting: Vec<usize> = some(false).collect();
        for vector in self.anchor.iter_mut().chain(&mut self.correction).chain(&mut self.mask) {
            vector.lay_out(graph, &plan.layouts);
        }
        if let (Some(_), Some(anchor)) = (self.config.clip_norm, &self.anchor) {
            for &i in &waiting {
                let (weights, anchor) = (&sources.values[i][..], &anchor.values[i][..]);
                in_parts(team, &mut self.gradients[i], Buffer::LINE, |at, gradient| {
                    let range = at..at + gradient.len();
                    add_proximal(isa, self.config.proximal, &weights[range.clone()], &anchor[range], gradient);
                });
            }
        }
        // What is pruned has no part in the norm, nor in moments.
        for &i in &waiting {
            prune(team, self.mask.as_ref(), i, &mut self.gradients[i]);
        }
        let mut scale = 1.0;
        let mut norm = None;
        if let Some(clip) = self.config.clip_norm {
            let total: f64 = waiting.iter().map(|&i| squares(team, isa, &self.gradients[i])).sum();
            let found = total.sqrt();
            norm = Some(found);
            // Scaling what is not finite would make every weight NaN.
            if !found.is_finite() {
                return Err(TrainError::Diverged {
                    step: self.steps + 1,
                    loss: found as f32,
                });
            }
            if found > f64::from(clip) {
                scale = (f64::from(clip) / found) as f32;
            }
        }
        let step = optimizer::Step {
            rule: rule(self.config.rule),
            lr: self.lr(),
            weight_decay: self.config.weight_decay,
            gradient_scale: scale,
            number: self.steps + 1,
        };
        self.steps += 1;
        if self.moments.is_empty() {
            self.moments = (0..self.config.moments()).map(|_| Sources::zeros(graph)).collect();
        }
        for moment in &mut self.moments {
            moment.lay_out(graph, &plan.layouts);
        }
        if let Some(correction) = &self.correction {
            for i in some(true) {
                let correction = &correction.values[i][..];
                in_parts(team, &mut sources.values[i], Buffer::LINE, |at, weights| {
                    for (w, c) in weights.iter_mut().zip(&correction[at..]) {
                        *w -= step.lr * c;
                    }
                });
            }
        }
        // With clipping it is in the gradient already.
        let proximal = if self.config.clip_norm.is_some() {
            0.0
        } else {
            self.config.proximal
        };
        for i in waiting {
            let anchor = self.anchor.as_ref().map_or(&[][..], |anchor| &anchor.values[i]);
            let correction = self.correction.as_ref().map_or(&[][..], |correction| &correction.values[i]);
            let mut moments: Vec<&mut [f32]> = self.moments.iter_mut().map(|moment| &mut moment.values[i][..]).collect();
            let (mut weights, mut gradient) = (&mut sources.values[i][..], &self.gradients[i][..]);
            let parts = ranges(weights.len(), team.parts_of_values(weights.len(), weights.len()), Buffer::LINE);
            let parts = parts.map(|range| {
                let (some, rest) = gradient.split_at(range.len());
                gradient = rest;
                let moments: Vec<&mut [f32]> = moments.iter_mut().map(|moment| cut(moment, range.len())).collect();
                let terms = Terms {
                    proximal,
                    anchor: anchor.get(range.clone()).unwrap_or_default(),
                    correction: correction.get(range.clone()).unwrap_or_default(),
                };
                (cut(&mut weights, range.len()), some, moments, terms)
            });
            let parts: Vec<_> = parts.collect();
            team.each(parts, |(weights, gradient, mut moments, terms)| {
                step.apply(isa, weights, gradient, &mut moments, terms);
            });
            for moment in &mut self.moments {
                prune(team, self.mask.as_ref(), i, &mut moment.values[i]);
            }
        }
        // Whatever else moves weights: decay, a proximal term, a correction, and gradients that move them where they are made.
        for i in some(true).chain(some(false)) {
            prune(team, self.mask.as_ref(), i, &mut sources.values[i]);
        }
        Ok(norm)
    }

    /// The moments as flat vectors of `n_weights` each, laid out as the weights; zero where there was no step yet.
    pub(super) fn read(&self, graph: &Graph, n_weights: usize) -> Vec<Vec<f32>> {
        let mut flat = vec![vec![0.0; n_weights]; self.config.moments()];
        for (flat, moment) in flat.iter_mut().zip(&self.moments) {
            moment.read(graph, flat, GraphSource::weight);
        }
        flat
    }

    /// Goes on from what [`Self::read`] gave after `steps` steps.
    pub(super) fn restore(&mut self, graph: &Graph, flat: &[Vec<f32>], steps: u64) -> Result<(), TrainError> {
        if flat.len() != self.config.moments() {
            return Err(TrainError::Data {
                reason: format!(
                    "the optimizer's state has {} vectors where it keeps {}; it is of another optimizer",
                    flat.len(),
                    self.config.moments()
                ),
            });
        }
        let needed = graph.sources.iter().filter_map(GraphSource::weight).map(|range| range.end).max();
        if steps > 0 && flat.iter().any(|flat| flat.len() < needed.unwrap_or(0)) {
            return Err(TrainError::Data {
                reason: "the optimizer's state is of another model".to_owned(),
            });
        }
        self.steps = steps;
        self.moments.clear();
        if steps > 0 {
            for flat in flat {
                let mut moment = Sources::zeros(graph);
                moment.set(graph, flat, GraphSource::weight);
                self.moments.push(moment);
            }
        }
        Ok(())
    }
}

/// Makes 0 what is pruned, of the values of a source.
fn prune(team: &Team, mask: Option<&Sources>, source: usize, values: &mut [f32]) {
    let Some(mask) = mask.map(|mask| &mask.values[source][..]) else {
        return;
    };
    in_parts(team, values, Buffer::LINE, |at, values| {
        for (value, kept) in values.iter_mut().zip(&mask[at..]) {
            *value = if *kept == 0.0 { 0.0 } else { *value };
        }
    });
}

/// Values whose squares are summed at once: sums of such are added in order, whoever makes them.
const SUMMED: usize = 1 << 16;

fn squares(team: &Team, isa: Isa, values: &[f32]) -> f64 {
    let stretches = values.len().div_ceil(SUMMED);
    let mut sums = vec![0.0; stretches];
    let (mut rest, mut parts) = (&mut sums[..], Vec::new());
    for range in ranges(stretches, team.parts_of_values(values.len(), stretches), 1) {
        parts.push((&values[range.start * SUMMED..], cut(&mut rest, range.len())));
    }
    team.each(parts, |(values, sums)| {
        for (sum, values) in sums.iter_mut().zip(values.chunks(SUMMED)) {
            *sum = sum_of_squares(isa, values);
        }
    });
    sums.iter().sum()
}

fn rule(rule: Rule) -> optimizer::Rule {
    match rule {
        Rule::Sgd { momentum, nesterov } => optimizer::Rule::Sgd { momentum, nesterov },
        Rule::Adam {
            beta1,
            beta2,
            epsilon,
            decoupled,
        } => optimizer::Rule::Adam {
            beta1,
            beta2,
            epsilon,
            decoupled,
        },
        Rule::RmsProp { alpha, epsilon, momentum } => optimizer::Rule::RmsProp { alpha, epsilon, momentum },
    }
}
