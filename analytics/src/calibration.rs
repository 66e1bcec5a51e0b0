//! Calibration: ranges of a model's activations, as two exact sums. In the first round agents say which exponent of 2 bounds their values of each
//! tensor, in the second they count them into bins over `[-2^e, 2^e)` with the largest exponent that occurred.
//!
//! An agent's way: [`exponents`] or [`counts`] of what it saw, [`CalibrationShape::encode`]. The server's: the same shape's codec, an accumulator, and
//! [`CalibrationReport::of_sum`].

mod counted;
mod report;
mod shape;

pub use counted::{CountError, counts, exponents};
pub use report::{BinCounts, CalibrationReport, TensorReport};
pub use shape::{CalibrationShape, Stage, canonical_calibration_bytes};
