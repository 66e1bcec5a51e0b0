//! What is decided when a convolution is planned.

use super::tile::{self, Axis, Runs};
use super::weights::panels;
use super::{Conv, Layout, MaxPool, Shape, Walk};
use crate::Isa;
use crate::buffer::Buffer;

/// Backward by lists of what has a gradient.
#[derive(Debug, Clone)]
pub(super) struct Sparse {
    /// Windows of the pool, in the order in which they are visited, and where each begins in the padded input, in pixels.
    pub(super) order: Vec<[u32; 2]>,
    /// Where the pixels of a window lie from its beginning; 0 behind the last, so that any byte is a place.
    pub(super) offsets: Box<[u32; 256]>,
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
        let largest = sizes.iter().chain(&kernel).chain(&stride).chain(&dilation).chain(&pads).max();
        assert!(largest.is_none_or(|&n| n < 1 << 31), "a size is too large: {shape:?}");
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

    /// What the axes are when images, rows and pixels are walked through in both: the last is the one along which tiles lie.
    pub(super) fn axes(&self, images: usize, [rows, columns]: [usize; 2], read: Walk, written: Walk) -> [Axis; 3] {
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
