//! The shape of an image.

use super::builder::{Axis, BATCH, Builder};
use super::error::{BuildError, in_range, product};
use crate::proto::DataType;

/// Longest side of an image in pixels.
const MAX_SIDE: usize = 1 << 12;
/// Most channels of an image.
const MAX_CHANNELS: usize = 1 << 10;

/// The shape of an image: an input `[batch, channels, height, width]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Image {
    /// 1 for grey, 3 for colours.
    pub channels: usize,
    /// In pixels.
    pub height: usize,
    /// In pixels.
    pub width: usize,
}

impl Image {
    /// 28 x 28 grey pixels, as MNIST's.
    pub const MNIST: Self = Self::square(1, 28);
    /// 32 x 32 pixels of three colours, as CIFAR's.
    pub const CIFAR: Self = Self::square(3, 32);

    const fn square(channels: usize, side: usize) -> Self {
        Self {
            channels,
            height: side,
            width: side,
        }
    }

    /// `least`: what each side must have at least.
    pub(super) fn check(self, least: usize) -> Result<(), BuildError> {
        in_range("the number of image channels", self.channels, 1..=MAX_CHANNELS)?;
        in_range("the image's height", self.height, least..=MAX_SIDE)?;
        in_range("the image's width", self.width, least..=MAX_SIDE)?;
        product(&[self.channels, self.height, self.width]).map(|_| ())
    }

    pub(super) fn axes(self) -> [Axis; 4] {
        [BATCH, Axis::Fixed(self.channels), Axis::Fixed(self.height), Axis::Fixed(self.width)]
    }

    /// The input `x`.
    pub(super) fn input(self, builder: &mut Builder) -> String {
        builder.input("x", DataType::Float, &self.axes())
    }
}
