//! The gradient by weights where every pixel has one.

use std::ops::Range;

use super::Conv;
use super::depthwise;
use super::outer::{Column, Outer, Sum, outer};
use super::tile;
use crate::Team;
use crate::isa::dispatch;
use crate::team::{Apart, cut, ranges};

impl Conv {
    pub(super) fn dense_weights(
        &self,
        team: &Team,
        images: usize,
        x: &[f32],
        outputs: [&[f32]; 2],
        kept: &[u8],
        (alpha, target, mut bias): (f32, &mut [f32], Option<&mut [f32]>),
        [packed, gradient]: [&mut [f32]; 2],
        scratch: &mut [f32],
    ) {
        let len = self.image_len()[0];
        let [of_turned, of_column, ..] = self.weights_parts();
        let at_most = self.parts(team, images, team.threads());
        let rows = self.target_rows();
        for first in (0..images).step_by(self.block) {
            let n = self.block.min(images - first);
            let (outputs, kept) = self.share(first, n, outputs, kept);
            let x = &x[first * len..][..n * len];
            self.prepare(team, at_most, n, x, outputs, kept, [packed, gradient], scratch);
            let from = if self.direct { x.as_ptr() } else { packed.as_ptr() };
            let gradient = if gradient.is_empty() {
                outputs[0].as_ptr()
            } else {
                gradient.as_ptr()
            };
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
                // SAFETY: `from` and `gradient` hold n images, the target has the weights' length.
                unsafe { dispatch(self.isa, weights) };
                continue;
            }
            let mut rest = &mut *scratch;
            let mut parts = Vec::new();
            for range in ranges(rows, at_most, tile::height(self.isa)) {
                let own = cut(&mut rest, of_turned + of_column);
                parts.push((range, &mut own[of_turned..]));
            }
            // SAFETY: each part writes to its own rows of the target.
            let shared = unsafe { Apart::new((from, gradient, target.as_mut_ptr())) };
            team.each(parts, |(rows, column)| {
                let (from, gradient, target) = shared.get();
                // SAFETY: `from` holds n images as they are read, `gradient` theirs; the target's length was checked.
                unsafe { self.outer_products(n, from, gradient, alpha, target, rows, column) };
            });
        }
    }

    /// Packs `n` images, and makes the gradients by what the convolution alone gives.
    fn prepare(
        &self,
        team: &Team,
        at_most: usize,
        n: usize,
        x: &[f32],
        outputs: [&[f32]; 2],
        kept: &[u8],
        [mut packed, mut gradient]: [&mut [f32]; 2],
        mut scratch: &mut [f32],
    ) {
        let len = self.image_len()[0];
        let (no_gradient, of_turned) = (gradient.is_empty(), self.weights_parts()[0]);
        let own = self.weights_parts().iter().sum();
        let mut parts = Vec::new();
        for range in ranges(n, at_most, 1) {
            let some = range.len();
            parts.push((
                cut(&mut packed, if self.direct { 0 } else { some * self.read.image }),
                cut(&mut gradient, if no_gradient { 0 } else { some * self.made_walk().image }),
                &mut cut(&mut scratch, own)[..of_turned],
                range,
            ));
        }
        team.each(parts, |(packed, gradient, turned, range)| {
            let (outputs, kept) = self.share(range.start, range.len(), outputs, kept);
            self.gradient(range.len(), outputs, kept, gradient, turned);
            self.pack(&x[range.start * len..range.end * len], range.len(), packed);
        });
    }

    /// Rows of the target, all groups' and panels' one after the other: those of a panel are as wide as it is.
    fn target_rows(&self) -> usize {
        self.shape.groups * self.panels.len() * self.panel_rows()
    }

    fn panel_rows(&self) -> usize {
        self.runs.rows * self.runs.columns * self.runs.len
    }

    /// Of some rows of the target.
    ///
    /// # Safety
    /// `from` holds `n` images as they are read, `gradient` their gradients; the target has the weights' length.
    unsafe fn outer_products(
        &self,
        n: usize,
        from: *const f32,
        gradient: *const f32,
        alpha: f32,
        target: *mut f32,
        rows: Range<usize>,
        column: &mut [f32],
    ) {
        let in_image = self.made[0] * self.made[1];
        let at_once = self.pixels.len() / in_image;
        let of_panel = self.panel_rows();
        for unit in rows.start / of_panel..rows.end.div_ceil(of_panel) {
            let (group, panel) = (unit / self.panels.len(), &self.panels[unit % self.panels.len()]);
            let rows = rows.start.max(unit * of_panel) - unit * of_panel..rows.end.min((unit + 1) * of_panel) - unit * of_panel;
            let target = target.add(group * self.group_len() + panel.first * self.taps() * self.channels_in);
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
                    for run in rows.start / self.runs.len..rows.end.div_ceil(self.runs.len) {
                        let (row, column) = (run / self.runs.columns, run % self.runs.columns);
                        let begin = row * self.runs.row_step + column * self.runs.column_step + group * self.channels_in;
                        // Of the run what is among the rows.
                        let first = rows.start.max(run * self.runs.len);
                        let one = Outer {
                            len: rows.end.min((run + 1) * self.runs.len) - first,
                            pixels,
                            from: from.add(image * self.read.image + begin + first - run * self.runs.len),
                            gradient,
                            target: target.add(first * panel.width),
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
