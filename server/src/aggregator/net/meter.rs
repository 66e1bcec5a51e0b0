//! Counts a stream's payload bytes, in all and for its job.

use aimass_net::{FrameReader, FrameWriter};
use aimass_protocol::JobId;

use crate::aggregator::counters::Counter;
use crate::aggregator::service::Shared;

/// What of a stream was counted already.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    up: u64,
    down: u64,
}

impl Meter {
    /// Counts what the stream carried since the last call. `job` is the one that it serves, where it is known.
    pub(crate) fn count(&mut self, shared: &Shared, job: Option<JobId>, writer: &FrameWriter, reader: &FrameReader) {
        let (up, down) = (
            reader.bytes_read().saturating_sub(self.up),
            writer.bytes_written().saturating_sub(self.down),
        );
        self.up += up;
        self.down += down;
        shared.counters.add(Counter::BytesUp, up);
        shared.counters.add(Counter::BytesDown, down);
        if let Some(job) = job {
            shared.traffic.add(job, up, down);
        }
    }
}
