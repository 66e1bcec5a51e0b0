//! What a request asks, as drivers tell their open streams apart.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The kinds of request whose answers these state machines deal with. An agent has at most one open request of each kind: a newer one replaces the
/// older, whose stream the driver closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// "Is there work for me?"
    CheckIn,
    /// "Send me this blob." The coordinator never sees it.
    Fetch,
    /// "I have trained; put me in a cohort."
    Ready,
    /// "Here is my update."
    Upload,
    /// "What became of my contribution?"
    Outcome,
    /// "I am so far with my work."
    Progress,
    /// "These are my keys for the cohort."
    Advert,
    /// "This is my part of the draw."
    Reveal,
    /// "These are shares of my secrets."
    Shares,
    /// "Whose inputs are summed?"
    Survivors,
    /// "I agree to that set."
    Consent,
    /// "These shares unmask the sum."
    Unmask,
}

impl RequestKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::CheckIn,
        Self::Fetch,
        Self::Ready,
        Self::Upload,
        Self::Outcome,
        Self::Progress,
        Self::Advert,
        Self::Reveal,
        Self::Shares,
        Self::Survivors,
        Self::Consent,
        Self::Unmask,
    ];

    /// A stable word for logs and counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::CheckIn => "check_in",
            Self::Fetch => "fetch",
            Self::Ready => "ready",
            Self::Upload => "upload",
            Self::Outcome => "outcome",
            Self::Progress => "progress",
            Self::Advert => "advert",
            Self::Reveal => "reveal",
            Self::Shares => "shares",
            Self::Survivors => "survivors",
            Self::Consent => "consent",
            Self::Unmask => "unmask",
        }
    }
}

impl fmt::Display for RequestKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
