//! Structured pruning: whole channels and hidden units go, and the graph with them, so that the model is smaller and faster anywhere.
//!
//! A channel runs through a graph: the kernel that makes it, the norm and bias that follow, what a residual connection adds it to, and the
//! columns of every weight that reads it. [`prune_channels`] finds what belongs together, ranks it by its norm, and slices all of it at
//! once. What an operator does with channels is either understood or keeps them: the result always computes what the original would
//! with the removed channels' outgoing weights at zero ([`ChannelPlan::silenced`]).
//!
//! Understood are Conv (grouped and depthwise too), ConvTranspose, Gemm, MatMul with a matrix, the input side of LSTM, GRU and RNN, batch
//! and instance normalization, pooling, Pad, Resize, elementwise operators with broadcasting, Concat, Split, Slice, Gather, Transpose,
//! Squeeze, Unsqueeze, Flatten, Reshape (also with shapes that are computed from shapes) and reductions. Everything else, as attention
//! heads, hidden states and LayerNormalization over the channels, keeps its channels.
//!
//! # Source
//! Fang et al. 2023, DepGraph: Towards Any Structural Pruning (CVPR), sections 3.2 and 3.3.

mod atoms;
mod choose;
mod dims;
mod error;
mod layers;
mod movement;
mod plan;
mod slice;
mod walk;

pub use error::ChannelError;
pub use plan::{ChannelGroup, ChannelPlan, Cut};

use aimass_onnx::{Globs, Model};

use crate::prune::Sparsity;

/// How channels compete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scope {
    /// All against all, by their norm over the mean norm of their group: groups that matter less lose more.
    #[default]
    Global,
    /// Each group loses the same share.
    PerGroup,
}

/// Which channels go, and how many.
#[derive(Debug, Clone)]
pub struct ChannelRules {
    /// Share of the channels that can be removed.
    pub fraction: Sparsity,
    /// How they compete.
    pub scope: Scope,
    /// Channels that every layer keeps; at least 1.
    pub minimum: usize,
    /// The channels that a group keeps are rounded up to a multiple of this: 8 or 16 suit vector units.
    pub round_to: usize,
    /// Globs over the names of weights: only groups that one of these weights makes. None means all.
    pub include: Globs,
    /// Groups that one of these weights is part of stay whole; wins over `include`.
    pub exclude: Globs,
}

impl ChannelRules {
    /// Rules that remove this share of all channels.
    pub fn new(fraction: Sparsity) -> Self {
        Self {
            fraction,
            scope: Scope::default(),
            minimum: 1,
            round_to: 1,
            include: Globs::default(),
            exclude: Globs::default(),
        }
    }
}

/// Removes channels. The model's inputs and outputs keep their names and shapes; types of values in between are dropped from the file.
///
/// # Errors
/// [`ChannelError`]: globs that match no weight, rules that leave nothing to remove, a weight that has no norm, a graph too large to
/// follow.
pub fn prune_channels(model: &Model, rules: &ChannelRules) -> Result<(Model, ChannelPlan), ChannelError> {
    let graph = walk::Walk::over(model)?;
    let removed = choose::choose(&graph, rules)?;
    slice::slice(model, &graph, &removed)
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::random_net;
