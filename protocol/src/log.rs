//! The log of rounds and models.

use serde::{Deserialize, Serialize};

use crate::Digest;

/// A log as it was at some time: the root of its tree (RFC 6962) and how many entries that has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogHead {
    /// Entries.
    pub size: u64,
    /// Root hash.
    pub root: Digest,
}
