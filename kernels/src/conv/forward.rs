//! The forward pass, and what the others share with it: the input as it is read, and the product.

use super::depthwise::Depthwise;
use super::image::{Frame, Pad, Transpose};
use super::pooling::Pool;
use super::tile::{Axis, Start, Sweep, sweep};
use super::{Conv, Layout, Parts, Walk};
use crate::Team;
use crate::buffer::Buffer;
use crate::isa::dispatch;
use crate::team::{cut, ranges};

impl Conv {
    /// Convolves images: `y` from `x`, and, with a pool, `kept` for the backward pass: [`Conv::kept_len_bytes`] for all images of the
    /// shape, and of that the share of the images that are handed in.
    pub fn forward(
        &self,
        team: &Team,
        x: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        mut y: &mut [f32],
        mut kept: &mut [u8],
        mut scratch: &mut [f32],
    ) {
        self.check_weights(weights);
        let images = self.images(x.len(), y.len(), Some(kept.len()));
        if let Some(bias) = bias {
            assert_eq!(bias.len(), self.shape.channels_out, "bias");
        }
        let block = self.at_once(team.threads());
        let scratch_len = self.forward_parts(block).iter().sum();
        let [x_len, y_len] = self.image_len();
        let mut parts = Vec::new();
        for range in ranges(images, self.parts(team, images, images), 1) {
            let n = range.len();
            parts.push((
                &x[range.start * x_len..][..n * x_len],
                cut(&mut y, n * y_len),
                cut(&mut kept, n * self.kept_image()),
                cut(&mut scratch, scratch_len),
            ));
        }
        team.each(parts, |(x, y, kept, scratch)| {
            self.forward_part(block, x, weights, bias, y, kept, scratch);
        });
    }

    /// Some images, `block` at once.
    pub(super) fn forward_part(
        &self,
        block: usize,
        x: &[f32],
        weights: &[f32],
        bias: Option<&[f32]>,
        y: &mut [f32],
        kept: &mut [u8],
        scratch: &mut [f32],
    ) {
        let start = bias.map_or(Start::Zero, |bias| Start::Bias(bias.as_ptr()));
        let mut parts = Parts(scratch);
        let [packed, rows, out] = self.forward_parts(block).map(|len| parts.take(len));
        let [x_len, y_len] = self.image_len();
        let images = x.len() / x_len;
        for first in (0..images).step_by(block) {
            let n = block.min(images - first);
            let x = &x[first * x_len..][..n * x_len];
            let y = &mut y[first * y_len..][..n * y_len];
            let kept = &mut kept[first * self.kept_image()..][..n * self.kept_image()];
            let from = self.pack(x, n, packed);
            let made = if self.output == Layout::ChannelsLast { &mut *y } else { &mut *out };
            if self.pool.is_some() {
                self.pooled(n, from, weights, start, rows, made, kept);
            } else {
                let axes = self.axes(n, self.made, self.read, self.made_walk());
                // SAFETY: `from` holds n images as they are read, `made` as many outputs of this walk; weights and bias were checked.
                unsafe { self.product(axes, from, weights, start, made.as_mut_ptr(), self.relu) };
            }
            if self.output == Layout::ChannelsFirst {
                for image in 0..n {
                    self.channels_first(&out[image * y_len..][..y_len], &mut y[image * y_len..][..y_len]);
                }
            }
        }
    }

    /// Floats of a block as it is read, of rows before the pool, of outputs with their channels last.
    pub(super) fn forward_parts(&self, block: usize) -> [usize; 3] {
        let rows = self
            .pool
            .map_or(0, |pool| pool.window[0] * self.out[1] * pool.window[1] * self.kept_step());
        let out = if self.output == Layout::ChannelsFirst {
            block * self.image_len()[1]
        } else {
            0
        };
        [self.packed_len(block), rows, Buffer::padded(out)]
    }

    /// Floats for [`Conv::pack`].
    pub(super) fn packed_len(&self, block: usize) -> usize {
        if self.direct { 0 } else { block * self.read.image }
    }

    /// Where outputs of the convolution stand, channels last.
    pub(super) fn made_walk(&self) -> Walk {
        let c = self.shape.channels_out;
        Walk {
            image: self.made[0] * self.made[1] * c,
            row: self.made[1] * c,
            pixel: c,
        }
    }

    pub(super) fn frame(&self) -> Frame {
        Frame {
            channels: self.shape.channels_in,
            height: self.shape.height,
            width: self.shape.width,
            before: [self.shape.pads[0], self.shape.pads[1]],
            padded: self.padded,
            channels_first: self.input == Layout::ChannelsFirst,
        }
    }

    /// Copies `n` images into the frame, channels last.
    pub(super) fn pad(&self, x: &[f32], n: usize, to: &mut [f32], image: usize) {
        let len = self.image_len()[0];
        assert!(x.len() == n * len && image >= self.padded[0] * self.padded[1] * self.shape.channels_in && to.len() >= n * image);
        for i in 0..n {
            let pad = Pad {
                frame: self.frame(),
                from: x[i * len..].as_ptr(),
                to: to[i * image..].as_mut_ptr(),
            };
            // SAFETY: an image is read and a padded image written, both of which are there.
            unsafe { dispatch(self.isa, pad) };
        }
    }

    /// `n` images as the kernels read them.
    pub(super) fn pack(&self, x: &[f32], n: usize, packed: &mut [f32]) -> *const f32 {
        if self.direct {
            return x.as_ptr();
        }
        self.pad(x, n, packed, self.read.image);
        packed.as_ptr()
    }

    /// The convolution of what `axes` walk through, for all groups and panels, channels last.
    ///
    /// # Safety
    /// What is reached from `from` is there, and so is what is reached from `to`; lengths of weights and bias are the shape's.
    pub(super) unsafe fn product(&self, axes: [Axis; 3], from: *const f32, weights: &[f32], start: Start, to: *mut f32, relu: bool) {
        if self.is_depthwise() {
            let step = self.depthwise_step();
            let depthwise = Depthwise {
                axes,
                taps: self.runs,
                from,
                weights: weights.as_ptr(),
                step,
                to,
                start,
                relu,
            };
            return dispatch(self.isa, depthwise);
        }
        for group in 0..self.shape.groups {
            let weights = weights[group * self.group_len()..].as_ptr();
            for panel in &self.panels {
                let channel = group * self.channels_out + panel.first;
                let one = Sweep {
                    outer: [axes[0], axes[1]],
                    along: axes[2],
                    runs: self.runs,
                    from: from.add(group * self.channels_in),
                    weights: weights.add(panel.first * self.taps() * self.channels_in),
                    to: to.add(channel),
                    start: if let Start::Bias(bias) = start {
                        Start::Bias(bias.add(channel))
                    } else {
                        start
                    },
                    relu,
                    vectors: panel.vectors,
                    last: panel.last,
                };
                sweep(self.isa, &one);
            }
        }
    }

    /// Rows of the convolution, as many as a window is high, and then the windows.
    fn pooled(&self, n: usize, from: *const f32, weights: &[f32], start: Start, rows: &mut [f32], y: &mut [f32], kept: &mut [u8]) {
        let Some(pool) = self.pool else { return };
        let [height, width] = pool.window;
        let (channels, step) = (self.shape.channels_out, self.kept_step());
        let row_step = self.out[1] * width * step;
        let [y_row, kept_row] = [self.out[1] * channels, self.out[1] * step];
        assert!(rows.len() >= height * row_step);
        assert!(y.len() >= n * self.out[0] * y_row && kept.len() >= n * self.out[0] * kept_row);
        let written = Walk {
            image: 0,
            row: row_step,
            pixel: step,
        };
        let axes = self.axes(1, [height, self.out[1] * width], self.read, written);
        for image in 0..n {
            for row in 0..self.out[0] {
                let i = image * self.out[0] + row;
                // SAFETY: the convolution has these rows, `rows` has room for them, and `y` and `kept` for a row of windows each.
                unsafe {
                    let from = from.add(image * self.read.image + row * height * self.read.row);
                    self.product(axes, from, weights, start, rows.as_mut_ptr(), false);
                    let pool = Pool {
                        window: pool.window,
                        windows: self.out[1],
                        channels,
                        rows: rows.as_ptr(),
                        row_step,
                        step,
                        relu: self.relu,
                        y: y.as_mut_ptr().add(i * y_row),
                        picks: kept.as_mut_ptr().add(i * kept_row),
                    };
                    dispatch(self.isa, pool);
                }
            }
        }
    }

    /// An output image with its channels first, from one with its channels last.
    pub(super) fn channels_first(&self, from: &[f32], to: &mut [f32]) {
        let (channels, pixels) = (self.shape.channels_out, self.out[0] * self.out[1]);
        assert!(from.len() == channels * pixels && to.len() == from.len());
        let transpose = Transpose {
            from: from.as_ptr(),
            from_step: channels,
            rows: pixels,
            columns: channels,
            to: to.as_mut_ptr(),
            to_step: pixels,
        };
        // SAFETY: both have all that is reached.
        unsafe { dispatch(self.isa, transpose) };
    }

    /// The other way round.
    pub(super) fn channels_last(&self, from: &[f32], to: &mut [f32]) {
        let (channels, pixels) = (self.shape.channels_out, self.out[0] * self.out[1]);
        assert!(from.len() == channels * pixels && to.len() == from.len());
        let transpose = Transpose {
            from: from.as_ptr(),
            from_step: pixels,
            rows: channels,
            columns: pixels,
            to: to.as_mut_ptr(),
            to_step: channels,
        };
        // SAFETY: both have all that is reached.
        unsafe { dispatch(self.isa, transpose) };
    }
}
