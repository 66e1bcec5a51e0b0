//! What a session is at.

use aimass_protocol::Timestamp;

use super::{Assignment, Snapshot, Stage};
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
    Fetch(Assignment),
    Train(Assignment),
    /// The rest is about the contribution that is held.
    Offer,
    Encode,
    Upload,
    Await,
}

impl Work {
    /// Where to go on with what is held, or with the task that was at hand.
    pub(super) fn resume(snapshot: &Snapshot) -> Self {
        match snapshot.held.as_ref().map(|c| &c.stage) {
            None => match &snapshot.task {
                None => Self::CheckIn,
                Some(task) if task.fetched => Self::Train(task.clone()),
                Some(task) => Self::Fetch(task.clone()),
            },
            Some(Stage::Trained) => Self::Offer,
            Some(Stage::Offered { .. }) => Self::Encode,
            Some(Stage::Sent { accepted: false, .. }) => Self::Upload,
            Some(Stage::Sent { accepted: true, .. }) => Self::Await,
        }
    }

    /// The task that is fetched or trained.
    pub(super) fn task(&self) -> Option<&Assignment> {
        match self {
            Self::Fetch(task) | Self::Train(task) => Some(task),
            _ => None,
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

/// How far the work at hand has been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    NotYet,
    Open { since: Timestamp },
    NotBefore(Timestamp),
}
