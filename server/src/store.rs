//! Durable state: small records in sled, flushed before anything is acknowledged.
//!
//! [`Database`] and [`Table`] are the only code that knows sled; [`AggregatorStore`] lays the aggregator's records over them. Models
//! and updates never go in here: they are files (see [`crate::blobs`]).

mod aggregator;
mod compression;
mod database;
mod key;
mod log;
mod records;
mod registry;

#[cfg(test)]
mod tests;

pub use aggregator::AggregatorStore;
pub use compression::{CompressedRecord, CompressionRecord, MeasuredRecord, ParityRecord, StepRecord};
pub use database::{Batch, Database, Format, StoreError, Table};
pub use key::Key;
pub use log::{ForgottenRecord, LogRecord, LogWrite, LoggedRecord, SurvivorRecord};
pub use records::{AgentRecord, AgentState, IncludedRecord, JobRecord, JournalRecord, RoundRecord};
pub use registry::{ModelRecord, RegistryChange, VariantRecord, VersionRecord, VersionState};
