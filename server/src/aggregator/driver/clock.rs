//! The coordinator's clock.

use std::time::Instant;

use aimass_protocol::Timestamp;

use super::now;

/// The time of day at the start, and what passed since: setting the machine's clock, by an hour or a day, moves no deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started_at: Timestamp,
    started: Instant,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self {
            started_at: now(),
            started: Instant::now(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.started_at.after(self.started.elapsed())
    }

    /// Waits until `due`, for ever without it.
    pub(super) async fn sleep_until(self, due: Option<Timestamp>) {
        match due {
            Some(due) => tokio::time::sleep(due.since(self.now())).await,
            None => std::future::pending().await,
        }
    }
}
