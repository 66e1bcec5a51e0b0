//! Both gradients by lists of what has one.

use super::image::Crop;
use super::plan::Sparse;
use super::sparse::{Blocks, ByInput, Collect, ENTRY, Gather, List, Scatter, Turn, TurnBack};
use super::{Conv, Layout};
use crate::buffer::Buffer;
use crate::isa::dispatch;

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

    fn list(&self, sparse: &Sparse, image: usize, outputs: [&[f32]; 2], kept: &[u8], entries: &mut [f32], counts: &mut [f32]) -> List {
        let ([gradient, y], picks) = self.share(image, 1, outputs, kept);
        let (slots, channels) = (self.out[0] * self.out[1], self.shape.channels_out);
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
            channels,
            order: &sparse.order,
            offsets: &sparse.offsets,
        };
        assert!(entries.len() >= slots * channels * ENTRY && counts.len() >= channels);
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

    pub(super) fn sparse_input(
        &self,
        sparse: &Sparse,
        images: usize,
        outputs: [&[f32]; 2],
        kept: &[u8],
        weights: &[f32],
        dx: &mut [f32],
        [turned, entries, counts, blocked, padded]: [&mut [f32]; 5],
    ) {
        let (len, pixels) = (self.image_len()[0], self.padded[0] * self.padded[1]);
        let blocks = self.channels_in.div_ceil(self.isa.lanes());
        // SAFETY: weights have their length, and there is room for as many.
        unsafe { dispatch(self.isa, Turn(self.by_input(turned), weights.as_ptr())) };
        for image in 0..images {
            let list = self.list(sparse, image, outputs, kept, entries, counts);
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
        sparse: &Sparse,
        images: usize,
        x: &[f32],
        outputs: [&[f32]; 2],
        kept: &[u8],
        alpha: f32,
        target: &mut [f32],
        mut bias: Option<&mut [f32]>,
        [sums, entries, counts, blocked, padded]: [&mut [f32]; 5],
    ) {
        let (len, pixels) = (self.image_len()[0], self.padded[0] * self.padded[1]);
        let blocks = self.channels_in.div_ceil(self.isa.lanes());
        sums.fill(0.0);
        for image in 0..images {
            let list = self.list(sparse, image, outputs, kept, entries, counts);
            self.pad(&x[image * len..][..len], 1, padded, pixels * self.channels_in);
            let into = Blocks {
                pixels,
                channels: self.channels_in,
                plain: padded.as_mut_ptr(),
                blocked: blocked.as_mut_ptr(),
                back: false,
            };
            let (channels, row) = (self.channels_out, self.padded[1]);
            // SAFETY: as in the other direction.
            unsafe {
                dispatch(self.isa, into);
                let (sums, image) = (sums.as_mut_ptr(), blocked.as_ptr());
                if self.shape.kernel == [3, 3] {
                    dispatch(
                        self.isa,
                        Collect::<3, 3> {
                            list,
                            channels,
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
                            channels,
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
        // SAFETY: the target has the weights' length, and as many sums were made.
        unsafe { dispatch(self.isa, TurnBack(self.by_input(sums), target.as_mut_ptr(), alpha)) };
    }
}
