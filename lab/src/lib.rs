//! Simulated runs: what they record ([`record`]), where that lies and how it is shown ([`report`]), many of them ([`sweep`]), and what a
//! terminal shows meanwhile ([`progress`]).
//!
//! Everything that is written is a function of the rows: the same rows give the same bytes.

pub mod progress;
pub mod record;
pub mod report;
pub mod sweep;

pub use record::{Reached, RoundRow, Summary};
pub use report::RunFolder;
