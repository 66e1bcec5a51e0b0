//! The wire protocol of AI Mass: ids, limits, frames, messages, the job file and the cohort descriptor.
//!
//! This crate is pure: it turns bytes into checked types and back, and knows nothing of sockets, clocks or files.
//! `docs/protocol.md` describes the same bytes for people who write another implementation.

pub mod bundle;
pub mod check;
pub mod codec;
pub mod descriptor;
pub mod error;
pub mod frame;
pub mod fuzz;
pub mod id;
pub mod job;
pub mod limits;
pub mod log;
pub mod manifest;
pub mod message;
pub mod time;
pub mod token;

pub use check::{Checked, is_label};
pub use error::ErrorCode;
pub use id::{AgentId, CohortId, ContributionId, Digest, JobId, Nonce, PublicKeyBytes, SignatureBytes, TenantId};
pub use time::Timestamp;
