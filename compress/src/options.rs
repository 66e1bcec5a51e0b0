//! What is done to a model, and in which order: always distil, channels, prune, quantize, store.

use std::fmt;

use aimass_onnx::Model;
use aimass_shrink::prune::Sparsity;
use aimass_shrink::quantize::{Activations, Method};

/// What is done to a model. Steps that are not named are left out.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The model learns from larger ones first.
    pub distil: Option<Distil>,
    /// Whole channels go, and the graph shrinks.
    pub channels: Option<Channels>,
    /// Single weights become zero.
    pub prune: Option<Prune>,
    /// Weights, and activations with them, become integers.
    pub quantize: Option<Quantize>,
    /// How zeros are stored.
    pub store: Storage,
    /// How weights are trained in between; `None`: they are not.
    pub tune: Option<Tune>,
}

impl Options {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.distil.is_none() && self.channels.is_none() && self.prune.is_none() && self.quantize.is_none() && self.store == Storage::Dense
    }
}

/// Knowledge distillation (Hinton, Vinyals and Dean 2015); of several teachers the mean of what they say (Lin et al. 2020, FedDF).
#[derive(Debug, Clone)]
pub struct Distil {
    /// What is learnt from.
    pub teachers: Vec<Model>,
    /// By which logits are divided.
    pub temperature: f32,
    /// Share of the teacher in the loss; the rest is the data's own targets.
    pub alpha: f32,
    /// Passes over the data.
    pub epochs: u32,
    /// How it is learnt, but for the passes; `None`: as everything else.
    pub tune: Option<Tune>,
}

/// Structured pruning.
#[derive(Debug, Clone, PartialEq)]
pub struct Channels {
    /// Share of each group of channels that goes, above 0 and below 1.
    pub fraction: Sparsity,
    /// Globs over names of weights whose channels stay.
    pub exclude: Vec<String>,
}

/// Magnitude pruning.
#[derive(Debug, Clone, PartialEq)]
pub struct Prune {
    /// Share of the prunable weights that are zero in the end.
    pub sparsity: Sparsity,
    /// Globs over names of weights that stay.
    pub exclude: Vec<String>,
}

/// Integers for floats.
#[derive(Debug, Clone, PartialEq)]
pub enum Quantize {
    /// Weights and activations of 8 bits, ranges from data: QDQ.
    Static {
        /// How ranges follow from what was seen.
        method: Method,
        /// Of which type activations are.
        activations: Activations,
        /// Whether the model is trained with rounding in it first.
        aware: bool,
        /// Rows that are looked at.
        rows: usize,
        /// Globs over names of nodes or weights that stay as they are.
        exclude: Vec<String>,
    },
    /// Weights of 8 bits; activations stay floats.
    Weights {
        /// Globs over names of nodes or weights that stay as they are.
        exclude: Vec<String>,
    },
    /// Weights of 8 bits; activations are rounded while they are computed, by their own range.
    Dynamic {
        /// Globs over names of nodes or weights that stay as they are.
        exclude: Vec<String>,
    },
    /// Weights of 4 bits in blocks with a scale each; activations stay floats.
    Blocks {
        /// Weights a block.
        block: usize,
        /// Globs over names of nodes or weights that stay as they are.
        exclude: Vec<String>,
    },
}

impl fmt::Display for Quantize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Static { aware: false, .. } => f.write_str("8 bits, ranges from data"),
            Self::Static { aware: true, .. } => f.write_str("8 bits, trained with rounding"),
            Self::Weights { .. } => f.write_str("weights of 8 bits, a scale a channel"),
            Self::Dynamic { .. } => f.write_str("8 bits, activations by their own range"),
            Self::Blocks { block, .. } => write!(f, "weights of 4 bits, a scale for {block}"),
        }
    }
}

/// How zeros are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Storage {
    /// As any value.
    #[default]
    Dense,
    /// As a sparse form that every ONNX runtime reads.
    Standard,
    /// As the smallest form, which this project's programs read.
    Compact,
}

/// How weights are trained in between.
#[derive(Debug, Clone)]
pub struct Tune {
    /// Loss, optimizer, batch and seed. Its epochs are those of each step.
    pub config: aimass_learning::TrainConfig,
}
