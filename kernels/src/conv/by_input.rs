//! The gradient by the input where every pixel has one.

use super::Conv;
use super::depthwise::Depthwise;
use super::image::Crop;
use super::tile::{Runs, Start, Sweep, sweep};
use super::weights::panels;
use crate::isa::dispatch;

/// One tap alone.
fn one_run(len: usize) -> Runs {
    Runs {
        rows: 1,
        row_step: 0,
        columns: 1,
        column_step: 0,
        len,
    }
}

impl Conv {
    pub(super) fn dense_input(
        &self,
        block: usize,
        images: usize,
        outputs: [&[f32]; 2],
        kept: &[u8],
        weights: &[f32],
        turned: &[f32],
        dx: &mut [f32],
        [gradient, turned_outputs, padded, _]: [&mut [f32]; 4],
    ) {
        let len = self.image_len()[0];
        for first in (0..images).step_by(block) {
            let n = block.min(images - first);
            let (outputs, kept) = self.share(first, n, outputs, kept);
            let from = self.gradient(n, outputs, kept, gradient, turned_outputs);
            let dx = &mut dx[first * len..][..n * len];
            if let Some(conv) = &self.turned {
                // SAFETY: a gradient is as long as what the turned convolution takes.
                let from = unsafe { std::slice::from_raw_parts(from, n * self.made_walk().image) };
                conv.forward_part(block, from, &turned[..conv.weights_len()], None, dx, &mut [], padded);
                continue;
            }
            let to = if self.direct {
                &mut *dx
            } else {
                &mut padded[..n * self.read.image]
            };
            to.fill(0.0);
            let to = to.as_mut_ptr();
            // SAFETY: `from` holds n images' gradients, `to` n images of this walk, and every tap of every pixel lies in them.
            unsafe { self.spread(n, from, weights, turned, to) };
            if self.direct {
                continue;
            }
            for image in 0..n {
                let crop = Crop {
                    frame: self.frame(),
                    from: padded[image * self.read.image..].as_ptr(),
                    to: dx[image * len..][..len].as_mut_ptr(),
                };
                // SAFETY: a padded image is read, an image written.
                unsafe { dispatch(self.isa, crop) };
            }
        }
    }

    /// Adds every pixel's gradient, times the weights of a tap, to where the tap points: one tap after the other.
    ///
    /// # Safety
    /// `from` holds `n` images' gradients and `to` as many images as they are written.
    unsafe fn spread(&self, n: usize, from: *const f32, weights: &[f32], turned: &[f32], to: *mut f32) {
        let [rows, columns] = self.shape.kernel;
        let c = self.shape.channels_in;
        let [down, right] = [self.shape.dilation[0] * self.padded[1] * c, self.shape.dilation[1] * c];
        let axes = self.axes(n, self.made, self.made_walk(), self.read);
        if self.is_depthwise() {
            for tap in 0..self.taps() {
                let depthwise = Depthwise {
                    axes,
                    taps: one_run(c),
                    from,
                    weights: weights[tap * self.depthwise_step()..].as_ptr(),
                    step: self.depthwise_step(),
                    to: to.add(tap / columns * down + tap % columns * right),
                    start: Start::Written,
                    relu: false,
                };
                dispatch(self.isa, depthwise);
            }
            return;
        }
        for group in 0..self.shape.groups {
            let turned = &turned[group * self.turned_group_len()..][..self.turned_group_len()];
            for panel in panels(self.channels_in, self.isa.lanes()) {
                for tap in 0..rows * columns {
                    let weights = panel.first * self.taps() * self.channels_out + tap * self.channels_out * panel.width;
                    let one = Sweep {
                        outer: [axes[0], axes[1]],
                        along: axes[2],
                        runs: one_run(self.channels_out),
                        from: from.add(group * self.channels_out),
                        weights: turned[weights..].as_ptr(),
                        to: to.add(tap / columns * down + tap % columns * right + group * self.channels_in + panel.first),
                        start: Start::Written,
                        relu: false,
                        vectors: panel.vectors,
                        last: panel.last,
                    };
                    sweep(self.isa, &one);
                }
            }
        }
    }
}
