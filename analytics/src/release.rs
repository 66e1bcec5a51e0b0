//! Releases: variants of a model that agents measure on their own devices and rows, as bounded whole numbers; what their sum over a stage says; and
//! whether that is good enough to go on.
//!
//! An agent's way: [`fit`] picks a variant for its [`Device`], [`inputs`] says what to feed it and [`compare`] what to make of the outputs, a [`Measured`] holds what was found,
//! [`ReleaseShape::encode`] packs it. The server's: the same shape's codec, an accumulator, and [`ReleaseReport::of_sum`], which holds the sum against the
//! gate. While an agent serves, [`Pressure`] says when another size has to do.

mod buckets;
mod device;
mod gate;
mod measured;
mod pressure;
mod report;
mod self_test;
mod shape;

pub use buckets::{LATENCIES, MEMORIES, latency_bound_ns, latency_bucket, memory_bound_bytes, memory_bucket};
pub use device::{Device, fit};
pub use gate::{Broken, Decision, decide};
pub use measured::{FAILURES, Failure, Measured};
pub use pressure::{Pressure, Size};
pub use report::{ReleaseReport, VariantReport};
pub use self_test::{SelfTestError, compare, inputs};
pub use shape::{ReleaseShape, canonical_release_bytes};
