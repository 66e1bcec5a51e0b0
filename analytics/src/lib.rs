//! Federated analytics: what an agent counts of its rows, as bounded whole numbers, and what their sum over a cohort says.
//!
//! An agent's way: a [`Tally`] over its rows, then [`Shape::encode`]. The server's: the same [`Shape`]'s codec, an accumulator, and a [`Report`] of
//! the sum. Nothing is rounded at random: a value within its range becomes one of 2^bits levels, and all sums of levels are exact, so that a report
//! depends on the rows alone, not on masks, order or seed.
//!
//! # Precision
//! With the range from `low` to `high`, values beyond it count as its ends. The level of a value x is the whole number next to
//! (x - low) / step, with step = (high - low) / (2^bits - 1): x is off by at most step / 2. The mean of levels is therefore off by at most step / 2,
//! and so is their standard deviation, as that of the errors is at most their largest (the triangle inequality).

pub mod calibration;
mod figures;
pub mod release;
mod report;
mod shape;
mod tally;

pub use report::{ClassCounts, FeatureReport, RangeCounts, Report, ReportError};
pub use shape::{Shape, canonical_bytes};
pub use tally::{Tally, WidthError, sampled};
