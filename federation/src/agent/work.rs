//! What a session is at.

use aimass_protocol::{Digest, JobId, Timestamp};

use super::{Consent, Contribution, Stage};
use crate::RequestKind;

/// The connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    Down { retry_at: Timestamp },
    Connecting,
    Up,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    CheckIn,
    Fetch(Task),
    Train(Task),
    /// The rest is about the contribution that is held.
    Offer,
    Encode,
    Upload,
    Await,
}

impl Work {
    /// Where to go on with what is held.
    pub(super) fn resume(held: Option<&Contribution>) -> Self {
        match held.map(|c| &c.stage) {
            None => Self::CheckIn,
            Some(Stage::Trained) => Self::Offer,
            Some(Stage::Offered { .. }) => Self::Encode,
            Some(Stage::Sent { accepted: false, .. }) => Self::Upload,
            Some(Stage::Sent { accepted: true, .. }) => Self::Await,
        }
    }

    /// The request that it makes; none if it is done on the device.
    pub(super) fn request(&self) -> Option<RequestKind> {
        match self {
            Self::CheckIn => Some(RequestKind::CheckIn),
            Self::Fetch(_) => Some(RequestKind::Fetch),
            Self::Offer => Some(RequestKind::Ready),
            Self::Upload => Some(RequestKind::Upload),
            Self::Await => Some(RequestKind::Outcome),
            Self::Train(_) | Self::Encode => None,
        }
    }

    /// Whether its request is answered late by design.
    pub(super) fn is_long_poll(&self) -> bool {
        matches!(self, Self::Offer | Self::Await)
    }
}

/// Work that was taken and passed the policy.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Task {
    pub(super) job: JobId,
    pub(super) round: u32,
    pub(super) base: Digest,
    pub(super) base_bytes: u64,
    pub(super) consent: Consent,
}

/// How far the work at hand has been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    NotYet,
    Open { since: Timestamp },
    NotBefore(Timestamp),
}
