//! Training in another process, which may die: a GPU's driver can crash in ways that nothing in its process can catch.
//!
//! The **parent** ([`RemoteTrainer`]) owns the data and the truth: it feeds batches, fetches the state (weights, running statistics,
//! moments, steps) at least every ten seconds of steps, and keeps the batches since. The **worker** ([`serve`]) holds a
//! [`Trainer`](crate::Trainer) and does as it is told. A worker that dies, hangs or answers garbage is replaced by a new one that goes on
//! from the last state through the kept batches, the second time by the CPU, so that a run ends whatever happens to its worker.
//!
//! They speak frames over the worker's standard input and output, documented in `docs/gpu-worker.md`. Neither trusts the other's
//! lengths.

mod codec;
mod connect;
mod frame;
mod message;
mod probe;
mod process;
mod serve;
mod settings;
#[cfg(test)]
mod tests;
mod trainer;

pub use connect::RemoteError;
pub use message::{Adapter, AdapterKind, VERSION};
pub use process::{Timeouts, WorkerCommand};
pub use serve::{ServeError, serve};
pub use trainer::RemoteTrainer;

pub(crate) use connect::RemoteSettings;

/// Steps that the CPU makes too, of the first ones of a training.
const CHECKED_STEPS: u64 = 2;
