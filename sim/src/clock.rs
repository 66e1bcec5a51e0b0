//! Clocks of simulated machines.

use aimass_protocol::Timestamp;

/// What a right clock shows when a simulation begins: the start of 2026.
pub(crate) const BEGIN_MS: u64 = 1_767_225_600_000;

/// A machine's clock. It was set when its process started, perhaps wrongly, and runs evenly from there on, as the drivers' clocks do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    /// How far it is ahead of the right time.
    pub(crate) ahead_ms: i64,
}

impl Clock {
    /// What it shows at `now_ms` of virtual time.
    pub(crate) fn read(self, now_ms: u64) -> Timestamp {
        Timestamp::from_ms(BEGIN_MS.saturating_add(now_ms).saturating_add_signed(self.ahead_ms))
    }

    /// When it shows `at`, in virtual time.
    pub(crate) fn when(self, at: Timestamp) -> u64 {
        at.as_ms().saturating_add_signed(-self.ahead_ms).saturating_sub(BEGIN_MS)
    }
}
