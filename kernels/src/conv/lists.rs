//! Both gradients by lists of what has one.

use std::ops::Range;

use super::image::Crop;
use super::plan::Sparse;
use super::sparse::{Blocks, ByInput, Collect, ENTRY, Gather, List, Scatter, Turn, TurnBack};
use super::{Conv, Layout, Parts};
use crate::Team;
use crate::buffer::Buffer;
use crate::isa::dispatch;
use crate::team::{Apart, cut, ranges};

impl Conv {
    /// Floats of weights by input channels, of entries, of counts, of an image in blocks of channels, of one with its channels last.
    pub(super) fn sparse_parts(&self) -> [usize; 5] {
        let lanes = self.isa.lanes();
        let (slots, channels) = (self.out[0] * self.out[1], self.shape.channels_out);
        let weights = self.channels_in.next_multiple_of(lanes) * channels * self.taps();
        let pixels = self.padded[0] * self.padded[1];
        [
            weights,
            slots * channels * ENTRY,
            channels,
            pixels * self.channels_in.next_multiple_of(lanes),
            pixels * self.channels_in,
        ]
        .map(Buffer::padded)
    }

    /// The list of an image's channels `range`.
    fn list(
        &self,
        sparse: &Sparse,
        image: usize,
        outputs: [&[f32]; 2],
        kept: &[u8],
        range: Range<usize>,
        [entries, counts]: [&mut [f32]; 2],
    ) -> List {
        let ([gradient, y], picks) = self.share(image, 1, outputs, kept);
        let (slots, channels) = (self.out[0] * self.out[1], self.shape.channels_out);
        assert!(range.end <= channels && entries.len() >= slots * range.len() * ENTRY && counts.len() >= range.len());
        let list = List {
            entries: entries.as_mut_ptr().cast(),
            slots,
            counts: counts.as_mut_ptr().cast(),
        };
        let first = self.output == Layout::ChannelsFirst;
        let gather = Gather {
            gradient,
            y,
            window_step: if first { 1 } else { channels },
            channel_step: if first { slots } else { 1 },
            picks,
            pick_step: self.kept_step(),
            channels: range,
            order: &sparse.order,
            offsets: &sparse.offsets,
        };
        // SAFETY: there is room, as was just checked; an entry and a count have no more than a float's alignment, and no invalid bits.
        unsafe { list.fill(&gather) };
        list
    }

    fn by_input(&self, by_input: &mut [f32]) -> ByInput<'_> {
        assert!(by_input.len() >= self.channels_in.next_multiple_of(self.isa.lanes()) * self.channels_out * self.taps());
        ByInput {
            panels: &self.panels,
            taps: self.taps(),
            channels_in: self.channels_in,
            channels_out: self.channels_out,
            by_input: by_input.as_mut_ptr(),
        }
    }

    /// Turns weights for [`Conv::sparse_input`].
    pub(super) fn sparse_turn(&self, weights: &[f32], turned: &mut [f32]) {
        self.check_weights(weights);
        // SAFETY: weights have their length, and there is room for as many.
        unsafe { dispatch(self.isa, Turn(self.by_input(turned), weights.as_ptr())) };
    }

    pub(super) fn sparse_input(
        &self,
        sparse: &Sparse,
        images: usize,
        outputs: [&[f32]; 2],
        kept: &[u8],
        turned: &[f32],
        dx: &mut [f32],
        [entries, counts, blocked, padded]: [&mut [f32]; 4],
    ) {
        let (len, pixels) = (self.image_len()[0], self.padded[0] * self.padded[1]);
        let blocks = self.channels_in.div_ceil(self.isa.lanes());
        assert!(turned.len() >= self.turned_weights());
        for image in 0..images {
            let list = self.list(
                sparse,
                image,
                outputs,
                kept,
                0..self.shape.channels_out,
                [&mut *entries, &mut *counts],
            );
            blocked.fill(0.0);
            let (image_at, row) = (blocked.as_mut_ptr(), self.padded[1]);
            let (weights, channels) = (turned.as_ptr(), self.channels_out);
            let blocks_back = Blocks {
                pixels,
                channels: self.channels_in,
                plain: padded.as_mut_ptr(),
                blocked: blocked.as_mut_ptr(),
                back: true,
            };
            let crop = Crop {
                frame: self.frame(),
                from: padded.as_ptr(),
                to: dx[image * len..][..len].as_mut_ptr(),
            };
            // SAFETY: entries point at windows that lie in the padded image; all parts have its size.
            unsafe {
                if self.shape.kernel == [3, 3] {
                    dispatch(
                        self.isa,
                        Scatter::<3, 3> {
                            list,
                            channels,
                            blocks,
                            weights,
                            image: image_at,
                            pixels,
                            row,
                        },
                    );
                } else {
                    dispatch(
                        self.isa,
                        Scatter::<5, 5> {
                            list,
                            channels,
                            blocks,
                            weights,
                            image: image_at,
                            pixels,
                            row,
                        },
                    );
                }
                dispatch(self.isa, blocks_back);
                dispatch(self.isa, crop);
            }
        }
    }

    pub(super) fn sparse_weights(
        &self,
        team: &Team,
        sparse: &Sparse,
        images: usize,
        x: &[f32],
        outputs: [&[f32]; 2],
        kept: &[u8],
        (alpha, target, bias): (f32, &mut [f32], Option<&mut [f32]>),
        [sums, _]: [&mut [f32]; 2],
        mut scratch: &mut [f32],
    ) {
        let most = self.parts(team, images, team.threads());
        let lens = self.weights_parts();
        let (mut parts, mut bias) = (Vec::new(), bias);
        for range in ranges(self.shape.channels_out, most, 1) {
            let of_bias = bias.as_mut().map(|bias| cut(bias, range.len()));
            parts.push((range, of_bias, cut(&mut scratch, lens.iter().sum())));
        }
        assert!(sums.len() >= self.sparse_parts()[0]);
        sums.fill(0.0);
        // SAFETY: each part writes to the sums of its own channels.
        let shared = unsafe { Apart::new(sums.as_mut_ptr()) };
        team.each(parts, |(channels, bias, scratch)| {
            let mut parts = Parts(scratch);
            let parts = lens.map(|len| parts.take(len));
            self.collect(sparse, images, x, outputs, kept, shared.get(), channels, (alpha, bias), parts);
        });
        let by_input = self.by_input(sums);
        // SAFETY: each part writes to the target's panels that it has, and the sums are no longer written to.
        let shared = unsafe { Apart::new((by_input, target.as_mut_ptr())) };
        team.each(
            ranges(self.panels.len(), team.parts_of_values(target.len(), self.panels.len()), 1),
            |range| {
                let (by_input, target) = shared.get();
                let by_input = ByInput {
                    panels: &self.panels[range],
                    ..by_input
                };
                // SAFETY: the target has the weights' length, and as many sums were made.
                unsafe { dispatch(self.isa, TurnBack(by_input, target, alpha)) };
            },
        );
    }

    /// Sums of some channels, over all images.
    fn collect(
        &self,
        sparse: &Sparse,
        images: usize,
        x: &[f32],
        outputs: [&[f32]; 2],
        kept: &[u8],
        sums: *mut f32,
        channels: Range<usize>,
        (alpha, mut bias): (f32, Option<&mut [f32]>),
        [entries, counts, blocked, padded]: [&mut [f32]; 4],
    ) {
        let (len, pixels) = (self.image_len()[0], self.padded[0] * self.padded[1]);
        let (blocks, row) = (self.channels_in.div_ceil(self.isa.lanes()), self.padded[1]);
        for image in 0..images {
            let list = self.list(sparse, image, outputs, kept, channels.clone(), [&mut *entries, &mut *counts]);
            self.pad(&x[image * len..][..len], 1, padded, pixels * self.channels_in);
            let into = Blocks {
                pixels,
                channels: self.channels_in,
                plain: padded.as_mut_ptr(),
                blocked: blocked.as_mut_ptr(),
                back: false,
            };
            // SAFETY: entries point at windows that lie in the padded image; all parts have its size, and `sums` has room for all channels.
            unsafe {
                dispatch(self.isa, into);
                let image = blocked.as_ptr();
                let (first, of_block, channels) = (channels.start, self.channels_out, channels.len());
                if self.shape.kernel == [3, 3] {
                    dispatch(
                        self.isa,
                        Collect::<3, 3> {
                            list,
                            first,
                            channels,
                            of_block,
                            blocks,
                            sums,
                            image,
                            pixels,
                            row,
                        },
                    );
                } else {
                    dispatch(
                        self.isa,
                        Collect::<5, 5> {
                            list,
                            first,
                            channels,
                            of_block,
                            blocks,
                            sums,
                            image,
                            pixels,
                            row,
                        },
                    );
                }
                if let Some(bias) = &mut bias {
                    list.add_sums(bias, alpha);
                }
            }
        }
    }
}
