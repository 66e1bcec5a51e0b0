//! Convolutions over one or two spatial axes, and what is fused with them: bias, ReLU, max pooling; forward and backward.
//!
//! No patches are written out: images are copied into a frame of zeros, channels last, where they need padding, and a tile of pixels
//! and output channels is summed in registers over the taps (Georganas et al. 2018, "Anatomy of high-performance deep learning
//! convolutions on SIMD architectures", for direct convolution of this kind). The gradient by the input is a convolution with turned
//! weights, or, where there are strides, a product for each tap, added where the tap points; the gradient by weights sums outer products
//! over pixels. Behind a max pool one value in a window has a gradient: then both go over a list of those values.
//!
//! Results don't depend on how images are split between calls.

#[macro_use]
mod unrolled;

mod backward;
mod by_input;
mod by_weights;
mod depthwise;
mod forward;
mod image;
mod lists;
mod outer;
mod plan;
mod pooling;
mod sparse;
mod tile;
mod weights;

use crate::buffer::Buffer;
use crate::{Isa, Layout, Team};
use plan::Sparse;
use tile::Runs;
use weights::Panel;

/// What is convolved with what. Over one axis: `height`, `kernel[0]`, `stride[0]` and `dilation[0]` are 1, and pads above and below 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Images that are handed in at once, at most.
    pub images: usize,
    /// Channels of the input, in all groups.
    pub channels_in: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels of the output, in all groups.
    pub channels_out: usize,
    /// Rows and columns of the kernel.
    pub kernel: [usize; 2],
    /// Down and to the right.
    pub stride: [usize; 2],
    /// Down and to the right; 1 is none.
    pub dilation: [usize; 2],
    /// Zeros above, to the left, below, to the right.
    pub pads: [usize; 4],
    /// Groups of channels that know nothing of each other.
    pub groups: usize,
}

/// A max pool behind the convolution, whose windows tile what comes out: its stride is the window. Rows and columns that fill no window
/// are cut off. Ties go to the first of the window in row-major order. A NaN wins where it is the first of its window, and is passed over
/// elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool {
    /// Rows and columns of the window; at most 256 values.
    pub window: [usize; 2],
}

/// Floats from an image to the next, from a row of output pixels to the next, from a pixel to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Walk {
    image: usize,
    row: usize,
    pixel: usize,
}

/// A convolution of one shape: `y = pool(relu(x * weights + bias))`, all but the convolution where they are asked for.
///
/// Values are f32. `x` is `[images, channels_in, height, width]` in the input's layout; `y` and its gradient are
/// `[images, channels_out, ..output_size]` in the output's; the number of images is any up to the shape's and follows from the slices.
/// Weights lie as [`Conv::lay_out`] puts them; zeros that it adds behind the last channel stay zeros.
///
/// # Panics
/// Every function panics where a slice has another length than the shape says or `scratch` is shorter than it must be.
#[derive(Debug, Clone)]
pub struct Conv {
    isa: Isa,
    shape: Shape,
    input: Layout,
    output: Layout,
    relu: bool,
    pool: Option<MaxPool>,
    /// Channels of a group.
    channels_in: usize,
    channels_out: usize,
    /// Rows and columns that are convolved, and of them those that come out.
    made: [usize; 2],
    out: [usize; 2],
    padded: [usize; 2],
    /// Whether the input is read where it stands: channels last, no padding.
    direct: bool,
    /// How the input is read, and the gradient by the input written.
    read: Walk,
    runs: Runs,
    /// Images that are read at once.
    block: usize,
    panels: Vec<Panel>,
    /// Where the windows of the convolution begin, in as many images as are read when gradients by weights are summed, and how many of
    /// them are summed at once.
    pixels: Vec<u32>,
    chunk: usize,
    sparse: Option<Sparse>,
    turned: Option<Box<Conv>>,
}

impl Conv {
    fn is_depthwise(&self) -> bool {
        self.channels_in == 1 && self.channels_out == 1 && self.shape.groups > 1
    }

    fn taps(&self) -> usize {
        self.shape.kernel[0] * self.shape.kernel[1]
    }

    /// Rows and columns of `y`.
    pub fn output_size(&self) -> [usize; 2] {
        self.out
    }

    /// Bytes that the forward pass keeps for the backward pass, besides `x` and `y`: which of each window was picked.
    pub fn kept_len_bytes(&self) -> usize {
        self.shape.images * self.kept_image()
    }

    fn kept_image(&self) -> usize {
        if self.pool.is_none() {
            0
        } else {
            self.out[0] * self.out[1] * self.kept_step()
        }
    }

    /// Channels in whole vectors.
    fn kept_step(&self) -> usize {
        Buffer::padded(self.shape.channels_out)
    }

    /// Floats of an input image and of an output image.
    fn image_len(&self) -> [usize; 2] {
        [
            self.shape.channels_in * self.shape.height * self.shape.width,
            self.shape.channels_out * self.out[0] * self.out[1],
        ]
    }

    /// Bytes that the plan itself takes: where pixels and windows begin.
    pub fn plan_bytes(&self) -> usize {
        let windows = self.sparse.as_ref().map_or(0, |sparse| size_of_val(&sparse.order[..]));
        let turned = self.turned.as_ref().map_or(0, |conv| conv.plan_bytes());
        size_of_val(&self.pixels[..]) + windows + turned
    }

    /// Products and sums of a pass over so many images, two operations each; padding counts. The same in all three directions.
    pub fn operations(&self, images: usize) -> f64 {
        let pixels = images * self.made[0] * self.made[1];
        2.0 * (pixels * self.shape.channels_out * self.channels_in * self.taps()) as f64
    }

    /// How many images there are, from the lengths of both slices.
    fn images(&self, x: usize, y: usize, kept: Option<usize>) -> usize {
        let [x_len, y_len] = self.image_len();
        let images = x / x_len;
        assert!(
            images <= self.shape.images,
            "{images} images where {} were planned",
            self.shape.images
        );
        assert_eq!(x, images * x_len, "the input");
        assert_eq!(y, images * y_len, "the output");
        if let Some(kept) = kept {
            assert_eq!(kept, images * self.kept_image(), "what is kept");
        }
        images
    }

    /// Floats of scratch that each function needs with a team of so many threads. Its content doesn't matter and means nothing afterwards.
    pub fn scratch_len(&self, threads: usize) -> usize {
        let [forward, input, weights] = self.scratch_lens(threads);
        forward.max(input).max(weights)
    }

    /// Floats of scratch for [`Conv::forward`], [`Conv::backward_input`] and [`Conv::backward_weights`].
    pub fn scratch_lens(&self, threads: usize) -> [usize; 3] {
        let (block, by_image) = (self.at_once(threads), threads.clamp(1, self.shape.images));
        let all = |parts: &[usize]| parts.iter().sum::<usize>();
        let input = self.turned_weights() + by_image * all(&self.input_parts(block));
        [
            by_image * all(&self.forward_parts(block)),
            input,
            all(&self.shared_parts()) + threads.max(1) * all(&self.weights_parts()),
        ]
    }

    /// Images that one of so many threads reads at once, where each has images of its own.
    fn at_once(&self, threads: usize) -> usize {
        self.block.min(self.shape.images.div_ceil(threads.max(1)))
    }

    /// Into how many parts a pass over so many images is cut.
    fn parts(&self, team: &Team, images: usize, most: usize) -> usize {
        team.parts(self.operations(images) as usize, most)
    }
}

/// Takes scratch apart, in whole cache lines.
struct Parts<'a>(&'a mut [f32]);

impl<'a> Parts<'a> {
    fn take(&mut self, len: usize) -> &'a mut [f32] {
        let (part, rest) = std::mem::take(&mut self.0).split_at_mut(len);
        self.0 = rest;
        part
    }
}

#[cfg(test)]
mod tests;
