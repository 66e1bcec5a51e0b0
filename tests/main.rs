//! End to end across the crates: real processes of the real executable, real QUIC, real stores.

mod analytics;
mod bad_input;
mod by_hand;
mod calibration;
mod compress;
mod demo;
mod distil;
mod evaluation;
mod fleet;
mod identity;
mod log;
mod release;
mod rounds;
mod secure;
mod serving;
mod sim;
mod support;
mod survive;
mod train;
