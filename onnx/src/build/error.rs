//! What can be wrong with the sizes of a model that is asked for.

use std::ops::RangeInclusive;

use crate::ReadError;

/// Most floats that a new model may hold (512 MiB of them).
pub const MAX_PARAMETERS: usize = 1 << 27;
/// Largest width of a layer, vocabulary, number of classes and so on.
pub(super) const MAX_SIZE: usize = 1 << 20;
/// Most layers, or entries of a list of them.
pub(super) const MAX_LAYERS: usize = 256;

/// A model that can't be made of these sizes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A number below or above what is possible.
    #[error("{what} is {found}; use {least} to {most}")]
    OutOfRange {
        /// Which number.
        what: &'static str,
        /// What was asked for.
        found: usize,
        /// Smallest possible.
        least: usize,
        /// Largest possible.
        most: usize,
    },
    /// A share or factor below or above what is possible, or not a number.
    #[error("{what} is {found}; use {least} to {most}")]
    Factor {
        /// Which number.
        what: &'static str,
        /// What was asked for.
        found: f64,
        /// Smallest possible.
        least: f64,
        /// Largest possible.
        most: f64,
    },
    /// A number that another one has to divide.
    #[error("{what} is {found}, which {divisor} ({why}) does not divide; change one of them")]
    NotDivisible {
        /// Which number.
        what: &'static str,
        /// What was asked for.
        found: usize,
        /// What should divide it.
        divisor: usize,
        /// Where the divisor comes from.
        why: &'static str,
    },
    /// An even number where the middle is needed.
    #[error("{what} is {found}; use an odd number, which has a middle")]
    Even {
        /// Which number.
        what: &'static str,
        /// What was asked for.
        found: usize,
    },
    /// More parameters than a new model may have.
    #[error("the model would have more than {limit} parameters, the most that a new one may have; use smaller sizes")]
    TooManyParameters {
        /// The most.
        limit: usize,
    },
    /// A matrix that would take too long to make orthogonal.
    #[error("making the {rows} x {columns} matrix {name:?} orthogonal would take too long; use other initial weights or smaller sizes")]
    TooLargeToOrthogonalize {
        /// The initializer.
        name: String,
        /// Its rows.
        rows: usize,
        /// Its columns.
        columns: usize,
    },
    /// A model that this crate would not read.
    #[error(transparent)]
    Refused(#[from] ReadError),
}

pub(super) fn in_range(what: &'static str, found: usize, range: RangeInclusive<usize>) -> Result<(), BuildError> {
    if range.contains(&found) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(BuildError::OutOfRange { what, found, least, most })
}

pub(super) fn size(what: &'static str, found: usize) -> Result<(), BuildError> {
    in_range(what, found, 1..=MAX_SIZE)
}

/// Every size of a list, and how many there are.
pub(super) fn sizes(number: &'static str, what: &'static str, found: &[usize]) -> Result<(), BuildError> {
    in_range(number, found.len(), 1..=MAX_LAYERS)?;
    found.iter().try_for_each(|&entry| size(what, entry))
}

pub(super) fn factor(what: &'static str, found: f64, range: RangeInclusive<f64>) -> Result<(), BuildError> {
    if range.contains(&found) {
        return Ok(());
    }
    let (least, most) = range.into_inner();
    Err(BuildError::Factor { what, found, least, most })
}

/// A share of values that dropout sets to 0 while training.
pub(super) fn dropout(found: f64) -> Result<(), BuildError> {
    factor("the dropout ratio", found, 0.0..=0.95)
}

/// The product, which must be that of a tensor that a new model may have.
pub(super) fn product(lengths: &[usize]) -> Result<usize, BuildError> {
    let too_many = BuildError::TooManyParameters { limit: MAX_PARAMETERS };
    let product = lengths.iter().try_fold(1usize, |product, &length| product.checked_mul(length));
    product.filter(|&product| product <= MAX_PARAMETERS).ok_or(too_many)
}
