//! How weights lie: as the forward pass reads them, one panel of output channels after the other.
//!
//! A group's weights are `[panel][kernel row][kernel column][input channel][panel's channels]`; panels are [`WIDTH`] vectors wide, the
//! last one perhaps narrower, and zero behind the last channel. Depthwise: `[kernel row][kernel column][channels]`, whole vectors.

use super::tile::WIDTH;

/// Some output channels (or, backward, input channels) that are computed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Panel {
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Vectors, and floats in them.
    pub(super) vectors: usize,
    pub(super) width: usize,
    /// Channels in the last vector.
    pub(super) last: usize,
}

/// All panels of so many channels.
pub(super) fn panels(channels: usize, lanes: usize) -> Vec<Panel> {
    (0..channels)
        .step_by(WIDTH * lanes)
        .map(|first| {
            let channels = (channels - first).min(WIDTH * lanes);
            let vectors = channels.div_ceil(lanes);
            Panel {
                first,
                channels,
                vectors,
                width: vectors * lanes,
                last: channels - (vectors - 1) * lanes,
            }
        })
        .collect()
}
