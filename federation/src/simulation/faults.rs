//! What goes wrong.

use aimass_protocol::Timestamp;

use crate::coordinator::PhaseName;
use crate::fixtures::at_s;

/// What goes wrong, in chances of 1000, until `until`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    /// A request or reply is lost with its stream.
    pub(super) lost: u64,
    /// A request or reply comes twice.
    pub(super) doubled: u64,
    /// An agent's connection breaks, per message of it.
    pub(super) breaks: u64,
    /// A device's process is killed, per step of it, somewhere among its effects.
    pub(super) device_kills: u64,
    /// The server is killed, per step of it, somewhere among its effects.
    pub(super) server_kills: u64,
    /// An update can't be added, or a round not published.
    pub(super) work_fails: u64,
    /// In some runs the operator stops a job.
    pub(super) stops: bool,
    pub(super) until: Timestamp,
    /// The server is killed once, when it first is in this phase.
    pub(super) kill_server_in: Option<PhaseName>,
    /// The server is killed once, after it stored a round and before it is published.
    pub(super) kill_server_after_store: bool,
}

impl Faults {
    pub(super) fn none() -> Self {
        Self {
            lost: 0,
            doubled: 0,
            breaks: 0,
            device_kills: 0,
            server_kills: 0,
            work_fails: 0,
            stops: false,
            until: at_s(0),
            kill_server_in: None,
            kill_server_after_store: false,
        }
    }

    pub(super) fn heavy() -> Self {
        Self {
            lost: 30,
            doubled: 50,
            breaks: 20,
            device_kills: 10,
            server_kills: 4,
            work_fails: 40,
            stops: true,
            until: at_s(1200),
            ..Self::none()
        }
    }
}
