//! Convolutions over one or two spatial axes, and what is fused with them: bias, ReLU, max pooling; forward and backward.
//!
//! No patches are written out: images are copied into a frame of zeros, channels last, where they need padding, and a tile of pixels and output channels is summed in registers over the taps (Georganas et al. 2018, "Anatomy of
//! high-performance deep learning convolutions on SIMD architectures", for direct convolution of this kind). The gradient by the input
//! is a convolution with turned weights, or, where there are strides, a product for each tap, added where the tap points; the gradient by
//! weights sums outer products over pixels. Behind a max pool one value in a window has a gradient: then both go over a list of those values.
//!
//! Results don't depend on how images are split between calls.

/// Repeats the block for `T` from 0 to below `N`, written out: the compiler leaves loops of 25 as they are, and arrays in memory.
macro_rules! unrolled {
    ($t:ident < $n:expr, $body:block) => {
        unrolled!(@ $t, $n, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24)
    };
    (@ $t:ident, $n:expr, $body:block, $($i:literal)*) => {
        $(if $i < $n {
            const $t: usize = $i;
            $body
        })*
    };
}

mod backward;
mod depthwise;
mod forward;
mod image;
mod outer;
mod pooling;
mod sparse;
mod tile;
mod weights;

use crate::buffer::Buffer;
use crate::{Isa, Layout};
use tile::{Axis, Runs};
use weights::{Panel, panels};

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

/// Backward by lists of what has a gradient.
#[derive(Debug, Clone)]
struct Sparse {
    /// Windows of the pool, in the order in which they are visited, and where each begins in the padded input, in pixels.
    order: Vec<[u32; 2]>,
    /// Where the pixels of a window lie from its beginning; 0 behind the last, so that any byte is a place.
    offsets: Box<[u32; 256]>,
}

/// Floats of images that are brought into the cache at once, about.
const BLOCK: usize = 5 << 16;

/// Floats of pixels and of their gradients that stay in the first cache while their outer products are summed, and the fewest and the most
/// pixels: fewer would be added to the target too often.
const CACHED: usize = 10 << 10;
const CHUNK: (usize, usize) = (64, 256);

impl Conv {
    /// Plans it: nothing is decided later.
    ///
    /// # Panics
    /// Where a size is 0, groups don't divide the channels, the kernel doesn't fit into the padded input, nothing is left behind the
    /// pool, its window has more than 256 values, or a padded image has 2^32 floats or more.
    pub fn new(isa: Isa, shape: Shape, input: Layout, output: Layout, relu: bool, pool: Option<MaxPool>) -> Self {
        let mut conv = Self::plan(isa, shape, input, output, relu, pool);
        conv.sparse = conv.plan_sparse();
        if conv.sparse.is_none() {
            conv.turned = conv.plan_turned().map(Box::new);
        }
        conv
    }

    /// Its forward pass.
    fn plan(isa: Isa, shape: Shape, input: Layout, output: Layout, relu: bool, pool: Option<MaxPool>) -> Self {
        let Shape {
            kernel,
            stride,
            dilation,
            pads,
            groups,
            ..
        } = shape;
        let sizes = [
            shape.images,
            shape.channels_in,
            shape.height,
            shape.width,
            shape.channels_out,
            groups,
        ];
        assert!(
            sizes.iter().chain(&kernel).chain(&stride).chain(&dilation).all(|&n| n > 0),
            "a size is 0: {shape:?}"
        );
        assert!(
            shape.channels_in.is_multiple_of(groups) && shape.channels_out.is_multiple_of(groups),
            "groups don't divide: {shape:?}"
        );
        let padded = [shape.height + pads[0] + pads[2], shape.width + pads[1] + pads[3]];
        let made = [0, 1].map(|axis| {
            let reach = dilation[axis] * (kernel[axis] - 1) + 1;
            assert!(reach <= padded[axis], "the kernel doesn't fit: {shape:?}");
            (padded[axis] - reach) / stride[axis] + 1
        });
        let window = pool.map_or([1, 1], |pool| pool.window);
        assert!(
            window.iter().all(|&n| n > 0) && window[0] * window[1] <= 256,
            "a window of {window:?}"
        );
        let out = [made[0] / window[0], made[1] / window[1]];
        assert!(out[0] * out[1] > 0, "the pool leaves nothing: {shape:?} {window:?}");

        let (channels_in, channels_out) = (shape.channels_in / groups, shape.channels_out / groups);
        // Where an axis has one element the order of axes makes no difference.
        let same = |channels: usize, pixels: usize, layout| {
            if channels == 1 || pixels == 1 {
                Layout::ChannelsLast
            } else {
                layout
            }
        };
        let input = same(shape.channels_in, shape.height * shape.width, input);
        let output = same(shape.channels_out, out[0] * out[1], output);

        let c = shape.channels_in;
        let line = padded[1] * c;
        let direct = pads == [0; 4] && input == Layout::ChannelsLast;
        let read = Walk {
            // A line more than the image takes: images a page apart would share a set of the cache.
            image: if direct {
                padded[0] * line
            } else {
                Buffer::padded(padded[0] * line) + Buffer::LINE
            },
            row: stride[0] * line,
            pixel: stride[1] * c,
        };
        let depthwise = groups > 1 && channels_in == 1 && channels_out == 1;
        let (columns, len) = match () {
            () if depthwise => (kernel[1], c),
            () if groups == 1 && dilation[1] == 1 => (1, kernel[1] * c),
            () => (kernel[1], channels_in),
        };
        let runs = Runs {
            rows: kernel[0],
            row_step: dilation[0] * line,
            columns,
            column_step: dilation[1] * c,
            len,
        };
        let limit = (BLOCK / read.image.max(made[0] * made[1] * shape.channels_out)).max(1);
        // Behind a pool images are finished one by one; otherwise blocks are of nearly the same size.
        let block = if pool.is_some() {
            1
        } else {
            shape.images.div_ceil(shape.images.div_ceil(limit))
        };
        let in_image = made[0] * made[1];
        let panels = panels(channels_out, isa.lanes());
        let most = (CACHED / (read.pixel + panels[0].width)).clamp(CHUNK.0, CHUNK.1);
        let at_once = (most / in_image).clamp(1, block);
        let chunk = if in_image < most {
            at_once * in_image
        } else {
            in_image.div_ceil(in_image.div_ceil(most))
        };
        assert!(u32::try_from(at_once * read.image).is_ok(), "too large: {shape:?}");
        let place = |i| (i / in_image * read.image + i % in_image / made[1] * read.row + i % made[1] * read.pixel) as u32;
        let pixels = (0..at_once * in_image).map(place).collect();
        Self {
            isa,
            shape,
            input,
            output,
            relu,
            pool,
            channels_in,
            channels_out,
            made,
            out,
            padded,
            direct,
            read,
            runs,
            block,
            panels,
            pixels,
            chunk,
            sparse: None,
            turned: None,
        }
    }

    /// The convolution that makes the gradient by the input from that by the output.
    fn plan_turned(&self) -> Option<Self> {
        let Shape {
            kernel, dilation, pads, ..
        } = self.shape;
        if self.shape.stride != [1, 1] {
            return None;
        }
        let reach = [0, 1, 0, 1].map(|axis| dilation[axis] * (kernel[axis] - 1));
        if (0..4).any(|i| pads[i] > reach[i]) {
            return None;
        }
        let shape = Shape {
            channels_in: self.shape.channels_out,
            height: self.made[0],
            width: self.made[1],
            channels_out: self.shape.channels_in,
            pads: [0, 1, 2, 3].map(|i| reach[i] - pads[i]),
            ..self.shape
        };
        let unlimited = Self::plan(self.isa, shape, Layout::ChannelsLast, self.input, false, None);
        Some(Self {
            block: self.block,
            ..unlimited
        })
    }

    fn plan_sparse(&self) -> Option<Sparse> {
        let Shape {
            kernel,
            stride,
            dilation,
            groups,
            ..
        } = self.shape;
        let window = self.pool?.window;
        let worth = self.channels_in >= self.isa.lanes() / 2 && window[0] * window[1] > 1;
        if !worth || groups != 1 || dilation != [1, 1] || !matches!(kernel, [3, 3] | [5, 5]) {
            return None;
        }
        let place = |y: usize, x: usize| (y * stride[0] * self.padded[1] + x * stride[1]) as u32;
        // Neighbours write to the same places: one after the other, each would wait for the one before.
        let apart = kernel[1].div_ceil(window[1] * stride[1]);
        let columns: Vec<usize> = (0..apart).flat_map(|first| (first..self.out[1]).step_by(apart)).collect();
        let order = (0..self.out[0])
            .flat_map(|y| {
                columns
                    .iter()
                    .map(move |&x| [(y * self.out[1] + x) as u32, place(y * window[0], x * window[1])])
            })
            .collect();
        let mut offsets = Box::new([0; 256]);
        for i in 0..window[0] * window[1] {
            offsets[i] = place(i / window[1], i % window[1]);
        }
        Some(Sparse { order, offsets })
    }

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

    /// Floats of the weights: those of the graph, and zeros behind the last channel of each group.
    pub fn weights_len(&self) -> usize {
        if self.is_depthwise() {
            return self.taps() * self.depthwise_step();
        }
        self.shape.groups * self.group_len()
    }

    fn depthwise_step(&self) -> usize {
        self.shape.groups.next_multiple_of(self.isa.lanes())
    }

    /// Floats of one group's weights.
    fn group_len(&self) -> usize {
        self.taps() * self.channels_in * self.channels_out.next_multiple_of(self.isa.lanes())
    }

    /// Where the weight of an output channel, a channel of its group and a tap stands.
    fn place(&self, channel: usize, of_group: usize, tap: usize) -> usize {
        if self.is_depthwise() {
            return tap * self.depthwise_step() + channel;
        }
        let (group, c) = (channel / self.channels_out, channel % self.channels_out);
        let panel = self.panels[c / self.panels[0].width];
        let row = tap * self.channels_in + of_group;
        group * self.group_len() + panel.first * self.taps() * self.channels_in + row * panel.width + c - panel.first
    }

    /// The index in the graph's weights beside the place here, for each.
    fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let (of_group, taps) = (self.channels_in, self.taps());
        (0..self.shape.channels_out * of_group * taps).map(move |i| {
            let (channel, rest) = (i / (of_group * taps), i % (of_group * taps));
            (i, self.place(channel, rest / taps, rest % taps))
        })
    }

    /// Writes the graph's weights, `[channels_out, channels_in / groups, kernel rows, kernel columns]`, as the kernels want them.
    pub fn lay_out(&self, onnx: &[f32], to: &mut [f32]) {
        self.check_weights(to);
        assert_eq!(
            onnx.len(),
            self.shape.channels_out * self.channels_in * self.taps(),
            "weights of the graph"
        );
        to.fill(0.0);
        for (i, place) in self.places() {
            to[place] = onnx[i];
        }
    }

    /// The way back: weights, or what has their layout (gradients, an optimizer's state), as the graph has them.
    pub fn read_out(&self, from: &[f32], onnx: &mut [f32]) {
        self.check_weights(from);
        assert_eq!(
            onnx.len(),
            self.shape.channels_out * self.channels_in * self.taps(),
            "weights of the graph"
        );
        for (i, place) in self.places() {
            onnx[i] = from[place];
        }
    }

    fn check_weights(&self, weights: &[f32]) {
        assert_eq!(weights.len(), self.weights_len(), "weights");
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

    /// Floats of scratch that each function needs. Its content doesn't matter and means nothing afterwards.
    pub fn scratch_len(&self) -> usize {
        let [forward, input, weights] = self.scratch_lens();
        forward.max(input).max(weights)
    }

    /// Floats of scratch for [`Conv::forward`], [`Conv::backward_input`] and [`Conv::backward_weights`].
    pub fn scratch_lens(&self) -> [usize; 3] {
        [
            self.forward_parts().iter().sum(),
            self.input_parts().iter().sum(),
            self.weights_parts().iter().sum(),
        ]
    }

    /// What the axes are when images, rows and pixels are walked through in both: the last is the one along which tiles lie.
    fn axes(&self, images: usize, [rows, columns]: [usize; 2], read: Walk, written: Walk) -> [Axis; 3] {
        let axis = |count, read, written| Axis { count, read, written };
        let image = axis(images, read.image, written.image);
        let row = axis(rows, read.row, written.row);
        let pixel = axis(columns, read.pixel, written.pixel);
        let one = axis(1, 0, 0);
        let follows = |outer: Axis, inner: Axis| {
            outer.count == 1 || (outer.read == inner.count * inner.read && outer.written == inner.count * inner.written)
        };
        let highest = tile::height(self.isa);
        if follows(row, pixel) {
            let pixel = Axis {
                count: rows * columns,
                ..pixel
            };
            if follows(image, pixel) {
                return [
                    one,
                    one,
                    Axis {
                        count: images * pixel.count,
                        ..pixel
                    },
                ];
            }
            if pixel.count > highest / 2 || pixel.count >= images {
                return [one, image, pixel];
            }
            return [one, pixel, image];
        }
        if columns > highest / 2 || columns >= images {
            [image, row, pixel]
        } else {
            [row, pixel, image]
        }
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
