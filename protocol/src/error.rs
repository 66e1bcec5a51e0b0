//! What a peer is told when something is refused: one code for machines, one text that says the fix.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a request was refused. The numbers are part of the wire format and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "u16", from = "u16")]
#[non_exhaustive]
pub enum ErrorCode {
    /// The message does not parse, is too long, or has bytes left over.
    Malformed,
    /// The request needs a certificate that was not shown, or another role.
    Forbidden,
    /// The agent was revoked by the operator.
    Revoked,
    /// The agent waits for the operator to accept it.
    Pending,
    /// The token is unknown, or its text was changed.
    TokenUnknown,
    /// The token was used before.
    TokenUsed,
    /// The token's time is over.
    TokenExpired,
    /// There is no such job, or it has ended.
    JobUnknown,
    /// There is no such blob.
    BlobUnknown,
    /// The cohort is unknown, over, or does not hold this agent.
    CohortUnknown,
    /// The round went on with another base model.
    StaleBase,
    /// The upload came after the cohort's deadline.
    Late,
    /// This contribution was already taken.
    Duplicate,
    /// The update does not have the length that the descriptor asks for.
    UpdateLength,
    /// The update holds a value out of range, NaN or infinity.
    UpdateValue,
    /// A chunk or blob does not match its digest.
    DigestMismatch,
    /// The peer asks for more than a limit allows.
    TooLarge,
    /// The server can't do this now (disk full, store failed); the same request may succeed later.
    Unavailable,
    /// A step of secure aggregation that no honest agent takes.
    SecAgg,
    /// A code of a newer protocol. Made by `From<u16>` alone, so that a known number is never held here.
    Other(u16),
}

impl ErrorCode {
    const TABLE: [(Self, u16, &'static str, bool); 19] = [
        (Self::Malformed, 1, "malformed", false),
        (Self::Forbidden, 2, "forbidden", false),
        (Self::Revoked, 3, "revoked", false),
        (Self::Pending, 4, "pending", true),
        (Self::TokenUnknown, 5, "token_unknown", false),
        (Self::TokenUsed, 6, "token_used", false),
        (Self::TokenExpired, 7, "token_expired", false),
        (Self::JobUnknown, 8, "job_unknown", false),
        (Self::BlobUnknown, 9, "blob_unknown", false),
        (Self::CohortUnknown, 10, "cohort_unknown", false),
        (Self::StaleBase, 11, "stale_base", false),
        (Self::Late, 12, "late", false),
        (Self::Duplicate, 13, "duplicate", false),
        (Self::UpdateLength, 14, "update_length", false),
        (Self::UpdateValue, 15, "update_value", false),
        (Self::DigestMismatch, 16, "digest_mismatch", true),
        (Self::TooLarge, 17, "too_large", false),
        (Self::Unavailable, 18, "unavailable", true),
        (Self::SecAgg, 19, "secagg", false),
    ];

    /// Every code that this version knows, in order of its number.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::TABLE.iter().map(|row| row.0)
    }

    fn row(self) -> Option<&'static (Self, u16, &'static str, bool)> {
        Self::TABLE.iter().find(|row| row.0 == self)
    }

    /// The number on the wire.
    pub fn as_u16(self) -> u16 {
        match self {
            Self::Other(n) => n,
            known => known.row().map_or(0, |row| row.1),
        }
    }

    /// A stable word for counters and `--json`.
    pub fn name(self) -> &'static str {
        self.row().map_or("other", |row| row.2)
    }

    /// Whether asking the same again later makes sense: after the operator's decision, on another try, once there is room.
    pub fn is_retryable(self) -> bool {
        self.row().is_some_and(|row| row.3)
    }
}

impl From<u16> for ErrorCode {
    fn from(n: u16) -> Self {
        Self::TABLE.iter().find(|row| row.1 == n).map_or(Self::Other(n), |row| row.0)
    }
}

impl From<ErrorCode> for u16 {
    fn from(code: ErrorCode) -> Self {
        code.as_u16()
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(n) => write!(f, "error {n}"),
            known => f.write_str(known.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_names_are_unique() {
        let numbers: Vec<u16> = ErrorCode::all().map(ErrorCode::as_u16).collect();
        assert_eq!(numbers, (1..=19).collect::<Vec<u16>>());
        let names: std::collections::BTreeSet<_> = ErrorCode::all().map(ErrorCode::name).collect();
        assert_eq!(names.len(), numbers.len());
    }

    #[test]
    fn a_number_is_read_back_as_the_code_it_was() {
        for code in ErrorCode::all() {
            assert_eq!(ErrorCode::from(code.as_u16()), code);
        }
        assert_eq!(ErrorCode::from(4711), ErrorCode::Other(4711));
        assert_eq!(ErrorCode::Other(4711).as_u16(), 4711);
        assert!(!ErrorCode::Other(4711).is_retryable());
    }
}
