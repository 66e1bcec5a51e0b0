//! What can be wrong with a pruning.

use aimass_onnx::LayoutError;

/// A pruning that can't be done. Names from the file are shortened.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PruneError {
    /// A share of zeros that is no share, or all of it.
    #[error("a sparsity of {found} {problem}; it is the share of weights that become zero: at least 0 and less than 1")]
    Sparsity {
        /// As given.
        found: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A schedule that can't be followed.
    #[error("the schedule can't be followed: {problem}")]
    Schedule {
        /// Which of its numbers, and the fix.
        problem: &'static str,
    },
    /// A glob that matches no float32 initializer.
    #[error("the glob {glob:?} matches no float32 initializer of the model; the first of them are: {known}")]
    Unmatched {
        /// Its text.
        glob: String,
        /// Some names of the model.
        known: String,
    },
    /// The rules leave nothing.
    #[error(
        "no weight of the model is to be pruned: it has no float32 kernel or matrix of {min_elements} elements that the rules let in; name some"
    )]
    NothingToPrune {
        /// Fewest elements of a tensor that is pruned.
        min_elements: usize,
    },
    /// A weight without a magnitude.
    #[error("the weight {param:?} holds {value} at element {index}; it can't be ranked: train again from finite weights")]
    NonFinite {
        /// The parameter.
        param: String,
        /// Its first such element.
        index: usize,
        /// NaN or an infinity.
        value: f32,
    },
    /// Masks of another model.
    #[error("the masks are of another model: {param:?} is no float32 weight of {expected} elements here")]
    OtherModel {
        /// First parameter that does not fit.
        param: String,
        /// Elements that the mask has.
        expected: usize,
    },
    /// The layout does not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}
