//! Backward through a max pool: of a window one value has a gradient, and where the ReLU was shut none has.
//!
//! For each output channel the values that have one are listed. By the input, each adds the channel's weights, held in registers,
//! to the window it came from; by the weights, each adds its window to sums in registers. Lanes are input channels.

use std::ops::Range;

use super::image::Transpose;
use super::weights::Panel;
use crate::isa::Kernel;
use crate::vector::Vector;

/// A value of the gradient and where its window begins, in pixels of the padded input.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Entry {
    at: u32,
    value: f32,
}

/// Floats that an entry takes of the scratch.
pub(super) const ENTRY: usize = size_of::<Entry>() / size_of::<f32>();

/// What has a gradient in one image.
#[derive(Clone, Copy)]
pub(super) struct List {
    /// `[channels][slots]`.
    pub(super) entries: *mut Entry,
    pub(super) slots: usize,
    /// `[channels]`.
    pub(super) counts: *mut u32,
}

/// What the list is made of, an image.
pub(super) struct Gather<'a> {
    pub(super) gradient: &'a [f32],
    /// Empty without a ReLU.
    pub(super) y: &'a [f32],
    /// Floats between windows and between channels, in both.
    pub(super) window_step: usize,
    pub(super) channel_step: usize,
    /// `[windows][pick_step]`.
    pub(super) picks: &'a [u8],
    pub(super) pick_step: usize,
    /// Those that are listed.
    pub(super) channels: Range<usize>,
    /// Windows in the order in which they are to be listed, and where each begins in the padded input.
    pub(super) order: &'a [[u32; 2]],
    /// Where the pixels of a window lie from its beginning; 0 behind the last.
    pub(super) offsets: &'a [u32; 256],
}

impl List {
    /// # Safety
    /// There is room for `channels` times `slots` entries, `slots` at least the number of windows, and for `channels` counts.
    pub(super) unsafe fn fill(self, from: &Gather<'_>) {
        let (first, channels) = (from.channels.start, from.channels.len());
        let counts = std::slice::from_raw_parts_mut(self.counts, channels);
        counts.fill(0);
        for &[window, base] in from.order {
            let window = window as usize;
            let picks = &from.picks[window * from.pick_step + first..][..channels];
            let begin = window * from.window_step + first * from.channel_step;
            let last = begin + (channels - 1) * from.channel_step;
            assert!(last < from.gradient.len() && (from.y.is_empty() || last < from.y.len()));
            let mut entries = self.entries;
            for (c, (count, &pick)) in counts.iter_mut().zip(picks).enumerate() {
                let i = begin + c * from.channel_step;
                let open = from.y.is_empty() || *from.y.get_unchecked(i) > 0.0;
                let value = if open { *from.gradient.get_unchecked(i) } else { 0.0 };
                // Written in any case, and kept by counting it: zeros come at random, and a branch would be guessed wrong.
                entries.add(*count as usize).write(Entry {
                    at: base + from.offsets[usize::from(pick)],
                    value,
                });
                *count += u32::from(value != 0.0);
                entries = entries.add(self.slots);
            }
        }
    }

    unsafe fn channel<'a>(self, c: usize) -> &'a [Entry] {
        std::slice::from_raw_parts(self.entries.add(c * self.slots), *self.counts.add(c) as usize)
    }

    /// `target[channel] += alpha * sum of the channel's gradient`.
    ///
    /// # Safety
    /// The list was filled for so many channels.
    pub(super) unsafe fn add_sums(self, target: &mut [f32], alpha: f32) {
        for (c, target) in target.iter_mut().enumerate() {
            *target += alpha * self.channel(c).iter().map(|entry| entry.value).sum::<f32>();
        }
    }
}

/// `image[block][pixel + tap][lane] += value * weights[block][channel][tap][lane]`, for all that is listed.
pub(super) struct Scatter<const H: usize, const W: usize> {
    pub(super) list: List,
    pub(super) channels: usize,
    pub(super) blocks: usize,
    /// `[blocks][channels][H * W][LANES]`.
    pub(super) weights: *const f32,
    /// `[blocks][pixels][LANES]`.
    pub(super) image: *mut f32,
    pub(super) pixels: usize,
    /// Pixels of a row.
    pub(super) row: usize,
}

impl<const H: usize, const W: usize> Kernel for Scatter<H, W> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for block in 0..self.blocks {
            let image = self.image.add(block * self.pixels * V::LANES);
            for channel in 0..self.channels {
                let weights = self.weights.add((block * self.channels + channel) * H * W * V::LANES);
                let entries = self.list.channel(channel);
                let row = self.row * V::LANES;
                if H * W <= 9 || V::REGISTERS == 32 {
                    scatter::<V, H, W>(entries, weights, image, row);
                } else {
                    for y in (0..H - 1).step_by(2) {
                        scatter::<V, 2, W>(entries, weights.add(y * W * V::LANES), image.add(y * row), row);
                    }
                    if !H.is_multiple_of(2) {
                        scatter::<V, 1, W>(entries, weights.add((H - 1) * W * V::LANES), image.add((H - 1) * row), row);
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn scatter<V: Vector, const H: usize, const W: usize>(entries: &[Entry], weights: *const f32, image: *mut f32, row: usize) {
    let mut held = [V::splat(0.0); 25];
    unrolled!(T < H * W, {
        held[T] = V::load(weights.add(T * V::LANES));
    });
    for entry in entries {
        let corner = image.add(entry.at as usize * V::LANES);
        let value = V::splat(entry.value);
        unrolled!(T < H * W, {
            let at = corner.add(T / W * row + T % W * V::LANES);
            value.fma(held[T], V::load(at)).store(at);
        });
    }
}

/// `sums[block][channel][tap][lane] += value * image[block][pixel + tap][lane]`, for all that is listed.
pub(super) struct Collect<const H: usize, const W: usize> {
    pub(super) list: List,
    /// The first channel that is listed, how many are, and how many there are.
    pub(super) first: usize,
    pub(super) channels: usize,
    pub(super) of_block: usize,
    pub(super) blocks: usize,
    /// `[blocks][of_block][H * W][LANES]`.
    pub(super) sums: *mut f32,
    /// `[blocks][pixels][LANES]`.
    pub(super) image: *const f32,
    pub(super) pixels: usize,
    pub(super) row: usize,
}

impl<const H: usize, const W: usize> Kernel for Collect<H, W> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for block in 0..self.blocks {
            let image = self.image.add(block * self.pixels * V::LANES);
            for channel in 0..self.channels {
                let sums = self.sums.add((block * self.of_block + self.first + channel) * H * W * V::LANES);
                let entries = self.list.channel(channel);
                let row = self.row * V::LANES;
                if H * W <= 9 || V::REGISTERS == 32 {
                    collect::<V, H, W>(entries, sums, image, row);
                } else {
                    for y in (0..H - 1).step_by(2) {
                        collect::<V, 2, W>(entries, sums.add(y * W * V::LANES), image.add(y * row), row);
                    }
                    if !H.is_multiple_of(2) {
                        collect::<V, 1, W>(entries, sums.add((H - 1) * W * V::LANES), image.add((H - 1) * row), row);
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn collect<V: Vector, const H: usize, const W: usize>(entries: &[Entry], sums: *mut f32, image: *const f32, row: usize) {
    let mut held = [V::splat(0.0); 25];
    unrolled!(T < H * W, {
        held[T] = V::load(sums.add(T * V::LANES));
    });
    for entry in entries {
        let corner = image.add(entry.at as usize * V::LANES);
        let value = V::splat(entry.value);
        unrolled!(T < H * W, {
            held[T] = value.fma(V::load(corner.add(T / W * row + T % W * V::LANES)), held[T]);
        });
    }
    unrolled!(T < H * W, {
        held[T].store(sums.add(T * V::LANES));
    });
}

/// From `[pixels][channels]` to `[blocks][pixels][LANES]`, zeros behind the last channel; or back.
pub(super) struct Blocks {
    pub(super) pixels: usize,
    pub(super) channels: usize,
    pub(super) plain: *mut f32,
    pub(super) blocked: *mut f32,
    pub(super) back: bool,
}

impl Kernel for Blocks {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for pixel in 0..self.pixels {
            for c in (0..self.channels).step_by(V::LANES) {
                let plain = self.plain.add(pixel * self.channels + c);
                let blocked = self.blocked.add(c * self.pixels + pixel * V::LANES);
                let n = V::LANES.min(self.channels - c);
                match (self.back, n == V::LANES) {
                    (false, true) => V::load(plain).store(blocked),
                    (false, false) => V::load_n(plain, n).store(blocked),
                    (true, true) => V::load(blocked).store(plain),
                    (true, false) => V::load(blocked).store_n(plain, n),
                }
            }
        }
    }
}

/// Weights `[panel][tap][input channel][panel's channels]` and the same by input channels in lanes,
/// `[block][output channel][tap][LANES]`.
#[derive(Clone, Copy)]
pub(super) struct ByInput<'a> {
    pub(super) panels: &'a [Panel],
    pub(super) taps: usize,
    pub(super) channels_in: usize,
    pub(super) channels_out: usize,
    pub(super) by_input: *mut f32,
}

/// Turns the weights.
pub(super) struct Turn<'a>(pub(super) ByInput<'a>, pub(super) *const f32);

impl Kernel for Turn<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(shape, weights) = self;
        let blocks = shape.channels_in.div_ceil(V::LANES);
        if !shape.channels_in.is_multiple_of(V::LANES) {
            shape.by_input.write_bytes(0, blocks * shape.channels_out * shape.taps * V::LANES);
        }
        for panel in shape.panels {
            let weights = weights.add(panel.first * shape.taps * shape.channels_in);
            for tap in 0..shape.taps {
                for block in 0..blocks {
                    let first = block * V::LANES;
                    let transpose = Transpose {
                        from: weights.add((tap * shape.channels_in + first) * panel.width),
                        from_step: panel.width,
                        rows: V::LANES.min(shape.channels_in - first),
                        columns: panel.channels,
                        to: shape
                            .by_input
                            .add(((block * shape.channels_out + panel.first) * shape.taps + tap) * V::LANES),
                        to_step: shape.taps * V::LANES,
                    };
                    transpose.run::<V>();
                }
            }
        }
    }
}

/// Adds `alpha` times what was summed by input channels to weights.
pub(super) struct TurnBack<'a>(pub(super) ByInput<'a>, pub(super) *mut f32, pub(super) f32);

impl Kernel for TurnBack<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Self(shape, target, alpha) = self;
        let alpha = V::splat(alpha);
        // A block of input channels times a panel, at most.
        let mut turned = [0.0f32; 16 * 32];
        for panel in shape.panels {
            turned.fill(0.0);
            let target = target.add(panel.first * shape.taps * shape.channels_in);
            for tap in 0..shape.taps {
                for first in (0..shape.channels_in).step_by(V::LANES) {
                    let block = first / V::LANES;
                    let rows = V::LANES.min(shape.channels_in - first);
                    let transpose = Transpose {
                        from: shape
                            .by_input
                            .add(((block * shape.channels_out + panel.first) * shape.taps + tap) * V::LANES),
                        from_step: shape.taps * V::LANES,
                        rows: panel.channels,
                        columns: rows,
                        to: turned.as_mut_ptr(),
                        to_step: panel.width,
                    };
                    transpose.run::<V>();
                    let to = target.add((tap * shape.channels_in + first) * panel.width);
                    for i in (0..rows * panel.width).step_by(V::LANES) {
                        alpha.fma(V::load(turned.as_ptr().add(i)), V::load(to.add(i))).store(to.add(i));
                    }
                }
            }
        }
    }
}
