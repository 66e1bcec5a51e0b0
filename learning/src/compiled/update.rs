//! The optimizer of a plan: where gradients go, and how they move weights.

use aimass_kernels::optimizer::{self, sum_of_squares};
use aimass_kernels::{Buffer, Isa};

use super::plan::Plan;
use super::sources::{Layout, Sources};
use crate::program::Graph;
use crate::{OptimizerConfig, Rule, TrainError};

/// An optimizer at work: its settings, its moments, its steps.
#[derive(Debug)]
pub(super) struct Update {
    config: OptimizerConfig,
    steps: u64,
    /// By source, in the layout of its values; empty where there is none.
    gradients: Vec<Buffer>,
    /// By source: the layout that its moments are in, and the moments; none before its first step.
    moments: Vec<Option<(Layout, Vec<Buffer>)>>,
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
            moments: (0..sources).map(|_| None).collect(),
        }
    }

    /// Whether weights move by a multiple of their gradient alone, as soon as it is known.
    pub(super) fn is_plain(&self) -> bool {
        let plain = matches!(self.config.rule, Rule::Sgd { momentum: 0.0, .. });
        plain && self.config.weight_decay == 0.0 && self.config.clip_norm.is_none()
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

    /// Moves what has not moved yet. Returns the L2 norm of the gradient before clipping, where clipping is on; a norm that is not finite
    /// is refused, and nothing moves.
    pub(super) fn finish(&mut self, plan: &Plan, sources: &mut Sources, isa: Isa) -> Result<Option<f64>, TrainError> {
        let waiting: Vec<usize> = (0..plan.trained.len()).filter(|&i| plan.trained[i] && !plan.fused[i]).collect();
        let mut scale = 1.0;
        let mut norm = None;
        if let Some(clip) = self.config.clip_norm {
            let squares: f64 = waiting.iter().map(|&i| sum_of_squares(isa, &self.gradients[i])).sum();
            let found = squares.sqrt();
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
        for i in waiting {
            self.follow(i, sources);
            let mut moments: Vec<&mut [f32]> = match &mut self.moments[i] {
                Some((_, moments)) => moments.iter_mut().map(|moment| &mut moment[..]).collect(),
                None => Vec::new(),
            };
            step.apply(isa, &mut sources.values[i], &self.gradients[i], &mut moments);
        }
        Ok(norm)
    }

    /// Has the moments of a source in the layout of its values.
    fn follow(&mut self, i: usize, sources: &Sources) {
        let (layout, len) = (sources.layout(i), sources.values[i].len());
        let zeros = || vec![Buffer::new(len); self.config.moments()];
        match &mut self.moments[i] {
            Some((now, _)) if now == layout => {}
            Some((now, moments)) => {
                for moment in moments.iter_mut() {
                    let mut plain = vec![0.0; now.plain_len(moment.len())];
                    now.read_out(moment, &mut plain);
                    let mut laid_out = Buffer::new(len);
                    layout.lay_out(&plain, &mut laid_out);
                    *moment = laid_out;
                }
                now.clone_from(layout);
            }
            none => *none = Some((layout.clone(), zeros())),
        }
    }

    /// The moments as flat vectors of `n_weights` each, laid out as the weights; zero where there was no step yet.
    pub(super) fn read(&self, graph: &Graph, n_weights: usize) -> Vec<Vec<f32>> {
        let mut flat = vec![vec![0.0; n_weights]; self.config.moments()];
        for (source, moments) in graph.sources.iter().zip(&self.moments) {
            let (Some(range), Some((layout, moments))) = (source.weight(), moments) else {
                continue;
            };
            for (flat, moment) in flat.iter_mut().zip(moments) {
                if let Some(place) = flat.get_mut(range.clone()) {
                    layout.read_out(moment, place);
                }
            }
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
        let of = |range: std::ops::Range<usize>| -> Option<Vec<Buffer>> {
            flat.iter().map(|flat| flat.get(range.clone()).map(Buffer::from_slice)).collect()
        };
        let mut restored = Vec::with_capacity(self.moments.len());
        for source in &graph.sources {
            let range = source.weight().filter(|_| steps > 0 && !flat.is_empty());
            let moments = range.map(|range| of(range).map(|moments| (Layout::Plain, moments)));
            restored.push(match moments {
                Some(None) => {
                    return Err(TrainError::Data {
                        reason: "the optimizer's state is of another model".to_owned(),
                    });
                }
                other => other.flatten(),
            });
        }
        self.moments = restored;
        self.steps = steps;
        Ok(())
    }
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
