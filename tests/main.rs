//! End to end across the crates: real processes of the real executable, real QUIC, real stores.

mod analytics;
mod bad_input;
mod by_hand;
mod demo;
mod evaluation;
mod fleet;
mod identity;
mod log;
mod rounds;
mod secure;
mod sim;
mod support;
mod survive;
mod train;
