//! The device program: joins a deployment, trains on the device's own data, and sends updates.
//!
//! [`main`] is the entry of `aimass-agent` and of `aimass agent`. The decisions are the session's (in the federation crate); this crate performs
//! them: [`run`] drives the session over the network, [`work`] trains and encodes, [`state`] keeps what must survive a killed process. [`serve`] answers requests for
//! predictions, beside training or alone.

mod args;
pub mod capabilities;
pub mod config;
pub mod data;
pub mod doctor;
pub mod event;
pub mod exit;
#[cfg(test)]
mod fixture;
pub mod join;
pub mod memory;
mod platform;
mod predict;
mod program;
pub mod reports;
pub mod run;
pub mod serve;
pub mod shelf;
pub mod state;
pub mod status;
pub mod trial;
pub mod verify;
pub mod work;

pub use program::main;
