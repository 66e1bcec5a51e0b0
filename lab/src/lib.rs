//! Simulated runs: how they are computed ([`run`], [`workshop`], [`holdings`]), what they record ([`record`]), where that lies and how it is shown ([`report`]), many of them ([`sweep`]), and what a
//! terminal shows meanwhile ([`progress`]).
//!
//! Everything that is written is a function of the rows: the same rows give the same bytes.

pub mod holdings;
pub mod progress;
pub mod record;
pub mod report;
pub mod run;
pub mod sweep;
pub mod workshop;

pub use record::{Reached, RoundRow, Summary};
pub use report::RunFolder;
