//! The order of axes of images.

/// How images lie in memory; without padding in either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[images, channels, height, width]`, as ONNX has them.
    ChannelsFirst,
    /// `[images, height, width, channels]`.
    ChannelsLast,
}
