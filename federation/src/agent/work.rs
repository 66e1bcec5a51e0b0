//! What a session is at.

use aimass_protocol::Timestamp;
use aimass_protocol::message::secagg::{Advert, Consent, Reveal, Shares, Unmask};

use super::{Activity, Assignment, Masks, Snapshot, Stage};
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
    /// Steps of a cohort with masks hold what they ask: it is the same each time.
    Advertise(Box<Advert>),
    Reveal(Reveal),
    Share(Box<Shares>),
    Encode(Option<Masks>),
    Upload,
    AwaitSurvivors,
    Consent(Box<Consent>),
    Unmask(Box<Unmask>),
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
            // The keys of a cohort with masks died with the process: it is left, and the contribution is offered again.
            Some(Stage::Offered { descriptor }) if descriptor.secagg.is_none() => Self::Encode(None),
            Some(Stage::Trained | Stage::Offered { .. }) => Self::Offer,
            Some(Stage::Sent { accepted: false, .. }) => Self::Upload,
            Some(Stage::Sent { accepted: true, .. } | Stage::Spent { .. }) => Self::Await,
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
            Self::Advertise(_) => Some(RequestKind::Advert),
            Self::Reveal(_) => Some(RequestKind::Reveal),
            Self::Share(_) => Some(RequestKind::Shares),
            Self::Upload => Some(RequestKind::Upload),
            Self::AwaitSurvivors => Some(RequestKind::Survivors),
            Self::Consent(_) => Some(RequestKind::Consent),
            Self::Unmask(_) => Some(RequestKind::Unmask),
            Self::Await => Some(RequestKind::Outcome),
            Self::Train(_) | Self::Encode(_) => None,
        }
    }

    /// Whether its request is answered late by design.
    pub(super) fn is_long_poll(&self) -> bool {
        match self {
            Self::CheckIn | Self::Fetch(_) | Self::Train(_) | Self::Encode(_) | Self::Upload => false,
            Self::Offer | Self::Advertise(_) | Self::Reveal(_) | Self::Share(_) => true,
            Self::AwaitSurvivors | Self::Consent(_) | Self::Unmask(_) | Self::Await => true,
        }
    }

    /// Whether it may need the keys of a cohort.
    pub(super) fn is_in_cohort(&self) -> bool {
        match self {
            Self::CheckIn | Self::Fetch(_) | Self::Train(_) | Self::Offer | Self::Await => false,
            Self::Advertise(_) | Self::Reveal(_) | Self::Share(_) | Self::Encode(_) | Self::Upload => true,
            Self::AwaitSurvivors | Self::Consent(_) | Self::Unmask(_) => true,
        }
    }

    /// What it is called.
    pub(super) fn activity(&self) -> Activity {
        match self {
            Self::CheckIn => Activity::CheckingIn,
            Self::Fetch(_) => Activity::Fetching,
            Self::Train(_) => Activity::Training,
            Self::Offer => Activity::Offering,
            Self::Advertise(_) => Activity::Advertising,
            Self::Reveal(_) => Activity::Revealing,
            Self::Share(_) => Activity::Sharing,
            Self::Encode(_) => Activity::Encoding,
            Self::Upload => Activity::Uploading,
            Self::AwaitSurvivors => Activity::AwaitingSurvivors,
            Self::Consent(_) => Activity::Consenting,
            Self::Unmask(_) => Activity::Unmasking,
            Self::Await => Activity::AwaitingOutcome,
        }
    }
}

/// How far the work at hand has been asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    NotYet,
    Open { since: Timestamp },
    NotBefore(Timestamp),
}
