//! The aggregator: coordinates rounds with agents over QUIC, keeps jobs, rounds and models, and answers the operator over loopback HTTP.
//!
//! | part | does |
//! |---|---|
//! | `net` | connections and requests of agents, uploads to the journal, models from the blob store |
//! | `driver` | owns the coordinator of `aimass-federation`: events in, effects out |
//! | `registry`, `live` | which agents are known, accepted, connected |
//! | `log` | the log of models: its tree, checkpoints and proofs |
//! | `submit`, `job` | checks of a submitted job |
//! | `compressing` | the last model of a job made smaller |
//! | `trust`, `authority_link` | the server's own identity; renewal, bundle and revocations with the authority |
//! | `api` | the operator's HTTP API |
//!
//! Updates are never in memory whole: they go to files of the journal and are added to one accumulator a cohort, off the reactor. In this version
//! updates are protected by TLS alone: this process could read each of them.

mod api;
mod authority_link;
mod catalog;
mod compressing;
mod config;
mod counters;
mod driver;
mod error;
mod job;
mod journal;
mod live;
mod log;
mod memory;
mod models;
mod net;
mod parity;
mod registry;
mod retention;
mod service;
mod submit;
mod traffic;
mod trust;
mod turns;

pub use config::{Accept, Config};
pub use error::ServeError;
pub use service::{Ready, run};
