//! `[train]`, parsed.

use super::distil::DistilSection;

/// `[train]`
#[derive(Debug, Clone, PartialEq)]
pub struct TrainSection {
    /// What is learnt: at least one.
    pub heads: Vec<HeadSection>,
    /// The optimizer.
    pub optimizer: OptimizerSection,
    /// Learning rate.
    pub lr: f32,
    /// Factor of the weights that is added to the gradient, or taken off the weights by AdamW.
    pub weight_decay: f32,
    /// L2 norm over all weights that gradients are scaled down to.
    pub clip_norm: Option<f32>,
    /// How the learning rate changes over the steps of one training.
    pub schedule: ScheduleSection,
    /// Passes over the local data. 0 is a dry run: the update is zero and everything but training happens.
    pub epochs: u32,
    /// Examples a step.
    pub batch: u32,
    /// What batch normalisation uses; `None` is "stored" in rounds and "batch" in centralised training.
    pub batch_norm: Option<BatchNormName>,
    /// Low-rank adapters to train instead of the weights.
    pub lora: Option<LoraSection>,
    /// A larger model that agents learn from as well.
    pub distil: Option<DistilSection>,
    /// Names of metrics that centralised training reports besides the loss, checked against [`METRICS`].
    pub metrics: Vec<String>,
}

impl TrainSection {
    /// No training, as in an analytics job: nothing is learnt, for no epoch.
    pub(super) fn none() -> Self {
        Self {
            heads: Vec::new(),
            epochs: 0,
            ..Self::sgd(1.0)
        }
    }

    /// No training, as in a release: one output is compared with classes.
    pub(super) fn measured() -> Self {
        Self {
            epochs: 0,
            ..Self::sgd(1.0)
        }
    }

    /// Plain stochastic gradient descent on softmax cross-entropy, one pass, 32 examples a step.
    pub fn sgd(lr: f32) -> Self {
        Self {
            heads: vec![HeadSection::default()],
            optimizer: OptimizerSection::Sgd,
            lr,
            weight_decay: 0.0,
            clip_norm: None,
            schedule: ScheduleSection::Constant,
            epochs: 1,
            batch: 32,
            batch_norm: None,
            lora: None,
            distil: None,
            metrics: Vec::new(),
        }
    }
}

/// An entry of `[[train.heads]]`, or what stands in `[train]` when there is one head.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadSection {
    /// Name of the model's output; the first where absent.
    pub output: Option<String>,
    /// The column to predict; that of `[data]` where absent.
    pub target: Option<String>,
    /// The loss.
    pub loss: LossSection,
    /// How much it counts beside the other heads.
    pub weight: f32,
}

impl Default for HeadSection {
    fn default() -> Self {
        Self {
            output: None,
            target: None,
            loss: LossSection::cross_entropy(),
            weight: 1.0,
        }
    }
}

/// A loss with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum LossSection {
    /// Softmax cross-entropy over class indices, of rows or of every position (token) of a row.
    CrossEntropy {
        /// Share of the target that is spread over all classes, 0 to 1.
        label_smoothing: f32,
        /// Weight of each class.
        class_weights: Option<Vec<f32>>,
        /// Targets of this value do not count.
        ignore_index: Option<i64>,
        /// Where the classes are in an output with positions.
        class_axis: ClassAxisName,
    },
    /// Binary cross-entropy on logits.
    BinaryCrossEntropy {
        /// Weight of positive answers: one, or one a label.
        pos_weight: Option<Vec<f32>>,
    },
    /// Mean squared error.
    Mse,
    /// Mean absolute error.
    Mae,
    /// Squared near the target, absolute far from it.
    Huber {
        /// Where the loss becomes a line.
        delta: f32,
    },
    /// Supervised contrastive loss.
    Contrastive {
        /// Divides the similarities.
        temperature: f32,
    },
    /// Contrastive loss of pairs.
    Pairwise {
        /// Distance that rows of different labels keep.
        margin: f32,
    },
}

impl LossSection {
    /// Plain softmax cross-entropy.
    pub const fn cross_entropy() -> Self {
        Self::CrossEntropy {
            label_smoothing: 0.0,
            class_weights: None,
            ignore_index: None,
            class_axis: ClassAxisName::Last,
        }
    }
}

/// Which axis of logits with positions holds the classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClassAxisName {
    /// The last.
    Last,
    /// The one after the batch.
    Second,
}

/// An optimizer with its options.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum OptimizerSection {
    /// Plain stochastic gradient descent.
    Sgd,
    /// Heavy-ball momentum.
    Momentum {
        /// Share of the velocity that stays.
        momentum: f32,
    },
    /// Nesterov's momentum.
    Nesterov {
        /// Share of the velocity that stays.
        momentum: f32,
    },
    /// Adam, with weight decay in the gradient.
    Adam {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
    },
    /// Adam with weight decay apart from the gradient.
    AdamW {
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root of the second moment.
        epsilon: f32,
    },
    /// RMSprop.
    RmsProp {
        /// Decay of the mean square.
        alpha: f32,
        /// Added to its root.
        epsilon: f32,
        /// Share of the velocity that stays.
        momentum: f32,
    },
}

/// How the learning rate changes over the steps of one training: a round's local training, or all of a centralised one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ScheduleSection {
    /// Not at all.
    Constant,
    /// Multiplied by `gamma` after every `every` steps.
    Step {
        /// Steps between two changes.
        every: u64,
        /// Factor of each change.
        gamma: f32,
    },
    /// Up over `warmup` steps, then down along half a cosine.
    Cosine(Fall),
    /// Up over `warmup` steps, then down in a line.
    Linear(Fall),
}

/// From 0 up to 1, and down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fall {
    /// Steps of the rise.
    pub warmup: u64,
    /// Steps in all; those of the training where absent.
    pub steps: Option<u64>,
    /// The last factor, 0 to 1.
    pub floor: f32,
}

/// What batch normalisation uses while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchNormName {
    /// The statistics of the batch.
    Batch,
    /// The stored statistics.
    Stored,
}

/// `lora = { ... }`: low-rank adapters (Hu et al. 2022).
#[derive(Debug, Clone, PartialEq)]
pub struct LoraSection {
    /// Rank of each adapter.
    pub rank: u32,
    /// The adapters' product is multiplied by `alpha / rank`.
    pub alpha: f32,
    /// Globs over the weights that get one; none means all of MatMul and Gemm.
    pub targets: Vec<String>,
}

/// Metrics by name. `top5` stands for any number.
pub const METRICS: &[&str] = &[
    "accuracy",
    "top5",
    "f1_macro",
    "f1_micro",
    "f1_weighted",
    "auc",
    "mae",
    "rmse",
    "perplexity",
    "confusion",
];
