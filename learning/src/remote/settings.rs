//! [`TrainConfig`] in bytes.

use super::codec::{In, Malformed, Out};
use crate::{
    BatchNorm, BinaryCrossEntropy, ClassAxis, Contrastive, CrossEntropy, Distillation, Head, Huber, Loss, OptimizerConfig, Pairwise, Rule,
    Schedule, TrainConfig,
};

impl Out {
    pub(super) fn config(&mut self, config: &TrainConfig) {
        self.u8(u8::try_from(config.heads.len()).unwrap_or(u8::MAX));
        for head in &config.heads {
            self.option(head.output.as_deref(), Self::text);
            self.f32(head.weight);
            self.loss(&head.loss);
        }
        self.optimizer(&config.optimizer);
        self.u8(match config.batch_norm {
            BatchNorm::Batch => 0,
            BatchNorm::Stored => 1,
        });
        self.u32(config.epochs);
        self.u64(config.batch as u64);
        self.0.extend_from_slice(&config.seed);
    }

    fn loss(&mut self, loss: &Loss) {
        match loss {
            Loss::CrossEntropy(options) => {
                self.u8(0);
                self.f32(options.label_smoothing);
                self.option(options.class_weights.as_deref(), Self::floats);
                self.option(options.ignore_index, |out, index| out.u64(index as u64));
                self.u8(match options.class_axis {
                    ClassAxis::Last => 0,
                    ClassAxis::Second => 1,
                });
            }
            Loss::BinaryCrossEntropy(options) => {
                self.u8(1);
                self.option(options.pos_weight.as_deref(), Self::floats);
            }
            Loss::Mse => self.u8(2),
            Loss::Mae => self.u8(3),
            Loss::Huber(options) => {
                self.u8(4);
                self.f32(options.delta);
            }
            Loss::Contrastive(options) => {
                self.u8(5);
                self.f32(options.temperature);
            }
            Loss::Pairwise(options) => {
                self.u8(6);
                self.f32(options.margin);
            }
            Loss::Distillation(options) => {
                self.u8(7);
                self.f32(options.temperature);
                self.f32(options.alpha);
                self.loss(&options.hard);
            }
        }
    }

    fn optimizer(&mut self, optimizer: &OptimizerConfig) {
        match optimizer.rule {
            Rule::Sgd { momentum, nesterov } => {
                self.u8(0);
                self.f32(momentum);
                self.bool(nesterov);
            }
            Rule::Adam {
                beta1,
                beta2,
                epsilon,
                decoupled,
            } => {
                self.u8(1);
                [beta1, beta2, epsilon].into_iter().for_each(|v| self.f32(v));
                self.bool(decoupled);
            }
            Rule::RmsProp { alpha, epsilon, momentum } => {
                self.u8(2);
                [alpha, epsilon, momentum].into_iter().for_each(|v| self.f32(v));
            }
        }
        self.f32(optimizer.lr);
        self.f32(optimizer.weight_decay);
        self.f32(optimizer.proximal);
        self.option(optimizer.clip_norm, Self::f32);
        match optimizer.schedule {
            Schedule::Constant => self.u8(0),
            Schedule::Step { every, gamma } => {
                self.u8(1);
                self.u64(every);
                self.f32(gamma);
            }
            Schedule::Cosine { warmup, steps, floor } => self.ramp(2, warmup, steps, floor),
            Schedule::Linear { warmup, steps, floor } => self.ramp(3, warmup, steps, floor),
        }
    }

    fn ramp(&mut self, kind: u8, warmup: u64, steps: u64, floor: f32) {
        self.u8(kind);
        self.u64(warmup);
        self.u64(steps);
        self.f32(floor);
    }
}

impl In<'_> {
    pub(super) fn config(&mut self) -> Result<TrainConfig, Malformed> {
        let heads = self.list("the heads", |bytes| {
            Ok(Head {
                output: bytes.option("a head's output", |bytes| bytes.text("a head's output"))?,
                weight: bytes.f32("a head's weight")?,
                loss: bytes.loss()?,
            })
        })?;
        Ok(TrainConfig {
            heads,
            optimizer: self.optimizer()?,
            batch_norm: match self.u8("batch_norm")? {
                0 => BatchNorm::Batch,
                1 => BatchNorm::Stored,
                value => return Err(unknown("batch_norm", value)),
            },
            epochs: self.u32("epochs")?,
            batch: usize::try_from(self.u64("batch")?).unwrap_or(usize::MAX),
            seed: self.bytes_32("the seed")?,
        })
    }

    fn loss(&mut self) -> Result<Loss, Malformed> {
        match self.u8("a loss")? {
            7 => Ok(Loss::Distillation(Distillation {
                temperature: self.f32("temperature")?,
                alpha: self.f32("alpha")?,
                hard: {
                    let kind = self.u8("the loss of the task")?;
                    Box::new(self.plain_loss(kind)?)
                },
            })),
            kind => self.plain_loss(kind),
        }
    }

    /// All but those that hold another.
    fn plain_loss(&mut self, kind: u8) -> Result<Loss, Malformed> {
        Ok(match kind {
            0 => Loss::CrossEntropy(CrossEntropy {
                label_smoothing: self.f32("label_smoothing")?,
                class_weights: self.option("class_weights", |bytes| bytes.floats("class_weights"))?,
                ignore_index: self.option("ignore_index", |bytes| Ok(bytes.u64("ignore_index")? as i64))?,
                class_axis: match self.u8("class_axis")? {
                    0 => ClassAxis::Last,
                    1 => ClassAxis::Second,
                    value => return Err(unknown("class_axis", value)),
                },
            }),
            1 => Loss::BinaryCrossEntropy(BinaryCrossEntropy {
                pos_weight: self.option("pos_weight", |bytes| bytes.floats("pos_weight"))?,
            }),
            2 => Loss::Mse,
            3 => Loss::Mae,
            4 => Loss::Huber(Huber { delta: self.f32("delta")? }),
            5 => Loss::Contrastive(Contrastive {
                temperature: self.f32("temperature")?,
            }),
            6 => Loss::Pairwise(Pairwise {
                margin: self.f32("margin")?,
            }),
            value => return Err(unknown("a loss", value)),
        })
    }

    fn optimizer(&mut self) -> Result<OptimizerConfig, Malformed> {
        let rule = match self.u8("the optimizer")? {
            0 => Rule::Sgd {
                momentum: self.f32("momentum")?,
                nesterov: self.bool("nesterov")?,
            },
            1 => Rule::Adam {
                beta1: self.f32("beta1")?,
                beta2: self.f32("beta2")?,
                epsilon: self.f32("epsilon")?,
                decoupled: self.bool("decoupled")?,
            },
            2 => Rule::RmsProp {
                alpha: self.f32("alpha")?,
                epsilon: self.f32("epsilon")?,
                momentum: self.f32("momentum")?,
            },
            value => return Err(unknown("the optimizer", value)),
        };
        Ok(OptimizerConfig {
            rule,
            lr: self.f32("lr")?,
            weight_decay: self.f32("weight_decay")?,
            proximal: self.f32("proximal")?,
            clip_norm: self.option("clip_norm", |bytes| bytes.f32("clip_norm"))?,
            schedule: match self.u8("the schedule")? {
                0 => Schedule::Constant,
                1 => Schedule::Step {
                    every: self.u64("every")?,
                    gamma: self.f32("gamma")?,
                },
                2 => Schedule::Cosine {
                    warmup: self.u64("warmup")?,
                    steps: self.u64("steps")?,
                    floor: self.f32("floor")?,
                },
                3 => Schedule::Linear {
                    warmup: self.u64("warmup")?,
                    steps: self.u64("steps")?,
                    floor: self.f32("floor")?,
                },
                value => return Err(unknown("the schedule", value)),
            },
        })
    }
}

fn unknown(what: &'static str, value: u8) -> Malformed {
    Malformed::Unknown { what, value: value.into() }
}
