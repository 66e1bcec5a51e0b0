//! From a trained model to a small one: distil, prune channels, prune weights, quantize, pack; each step fine-tunes where there is data, and
//! what comes out is compared with what went in before anybody is given it.
//!
//! The rewrites of graphs are `shrink/`'s, training is `learning/`'s, and what is measured is measured with tract, as devices run it.

mod distil;
mod error;
mod job;
mod measure;
mod options;
mod pipeline;
mod quantize;
mod ranges;
mod rehearsal;
#[cfg(test)]
mod tests;
mod tune;

pub use aimass_inference::Tolerance;
pub use error::CompressError;
pub use job::{FEWEST_ROWS, compress_calibrated, compress_job};
pub use measure::{Measured, Score, score};
pub use options::{Channels, Distil, Options, Prune, Quantize, Storage, Tune};
pub use pipeline::{Compressed, Data, Event, Step, compress};
pub use quantize::calibrate;
pub use ranges::{Watched, check_served, observed, spread};
pub use rehearsal::rehearse;
