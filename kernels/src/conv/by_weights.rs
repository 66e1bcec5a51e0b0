//! The gradient by weights where every pixel has one.

use super::Conv;
use super::depthwise;
use super::outer::{Column, Outer, Sum, outer};
use crate::isa::dispatch;

impl Conv {
    pub(super) fn dense_weights(
        &self,
        images: usize,
        x: &[f32],
        outputs: [&[f32]; 2],
        kept: &[u8],
        alpha: f32,
        target: &mut [f32],
        mut bias: Option<&mut [f32]>,
        [packed, gradient, turned, column, _]: [&mut [f32]; 5],
    ) {
        let len = self.image_len()[0];
        for first in (0..images).step_by(self.block) {
            let n = self.block.min(images - first);
            let (outputs, kept) = self.share(first, n, outputs, kept);
            let gradient = self.gradient(n, outputs, kept, gradient, turned);
            let from = self.pack(&x[first * len..][..n * len], n, packed);
            if let Some(bias) = &mut bias {
                let sum = Sum {
                    gradient,
                    pixels: n * self.made[0] * self.made[1],
                    channels: self.shape.channels_out,
                    target: bias.as_mut_ptr(),
                    alpha,
                };
                // SAFETY: the gradient has so many pixels, the bias so many channels.
                unsafe { dispatch(self.isa, sum) };
            }
            // SAFETY: `from` holds n images as they are read, `gradient` theirs; the target's length was checked.
            unsafe { self.outer_products(n, from, gradient, alpha, target, column) };
        }
    }

    /// # Safety
    /// `from` holds `n` images as they are read, `gradient` their gradients; the target has the weights' length.
    unsafe fn outer_products(&self, n: usize, from: *const f32, gradient: *const f32, alpha: f32, target: &mut [f32], column: &mut [f32]) {
        if self.is_depthwise() {
            let weights = depthwise::Weights {
                taps: self.runs,
                pixels: &self.pixels[..self.made[0] * self.made[1]],
                images: n,
                from,
                from_image: self.read.image,
                gradient,
                target: target.as_mut_ptr(),
                step: self.depthwise_step(),
                alpha,
            };
            return dispatch(self.isa, weights);
        }
        let in_image = self.made[0] * self.made[1];
        let at_once = self.pixels.len() / in_image;
        for group in 0..self.shape.groups {
            for panel in &self.panels {
                let target = target[group * self.group_len() + panel.first * self.taps() * self.channels_in..].as_mut_ptr();
                let channel = group * self.channels_out + panel.first;
                for image in (0..n).step_by(at_once) {
                    let pixels = &self.pixels[..at_once.min(n - image) * in_image];
                    for (part, pixels) in pixels.chunks(self.chunk).enumerate() {
                        let pixel = image * in_image + part * self.chunk;
                        let from_step = self.shape.channels_out;
                        let mut gradient = gradient.add(pixel * from_step + channel);
                        // Whole registers are read: no further than to the last channel of the group.
                        if from_step != panel.width || panel.channels != panel.width {
                            assert!(column.len() >= pixels.len() * panel.width);
                            let to = column.as_mut_ptr();
                            let copy = Column {
                                pixels: pixels.len(),
                                channels: panel.channels,
                                from: gradient,
                                from_step,
                                to,
                            };
                            dispatch(self.isa, copy);
                            gradient = to;
                        }
                        for run in 0..self.runs.rows * self.runs.columns {
                            let (row, column) = (run / self.runs.columns, run % self.runs.columns);
                            let begin = row * self.runs.row_step + column * self.runs.column_step + group * self.channels_in;
                            let one = Outer {
                                len: self.runs.len,
                                pixels,
                                from: from.add(image * self.read.image + begin),
                                gradient,
                                target: target.add(run * self.runs.len * panel.width),
                                alpha,
                                vectors: panel.vectors,
                                last: panel.last,
                            };
                            outer(self.isa, &one);
                        }
                    }
                }
            }
        }
    }
}
