//! The largest of each window.

use super::{Axis, PoolShape, store_pairs, strided, tiles_in_pairs};
use crate::isa::{Isa, Kernel, dispatch};
use crate::layout::Layout;
use crate::stretch::{put, take};
use crate::vector::Vector;

/// Most lanes of a register.
const MOST_LANES: usize = 16;

/// Taps of a window that a byte can tell apart.
const TAPS_OF_A_BYTE: usize = 256;

/// A maximum pool. The first of equal values is picked, in row-major order; NaN is larger than every number.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool {
    isa: Isa,
    shape: PoolShape,
    layout: Layout,
    axes: [Axis; 2],
}

impl MaxPool {
    /// # Panics
    /// On a shape that [`PoolShape::check`] refuses.
    pub fn new(isa: Isa, shape: PoolShape, layout: Layout) -> Self {
        Self {
            isa,
            shape,
            layout,
            axes: shape.axes(),
        }
    }

    /// Bytes that say what was picked: one a value of the output, four for windows of more than 256 taps.
    pub fn kept_len_bytes(&self) -> usize {
        self.shape.output_len() * self.bytes()
    }

    fn bytes(&self) -> usize {
        if self.taps() <= TAPS_OF_A_BYTE { 1 } else { 4 }
    }

    fn taps(&self) -> usize {
        self.axes[0].kernel * self.axes[1].kernel
    }

    /// How far a tap is from the start of its window, in pixels.
    #[inline(always)]
    fn place(&self, tap: usize) -> isize {
        let [rows, columns] = &self.axes;
        let (r, c) = (tap / columns.kernel, tap % columns.kernel);
        (r * rows.dilation * columns.input + c * columns.dilation) as isize
    }

    /// The same for another number of images.
    pub fn of_images(&self, images: usize) -> Self {
        let shape = PoolShape { images, ..self.shape };
        Self { shape, ..*self }
    }

    /// What it runs over.
    pub fn shape(&self) -> &PoolShape {
        &self.shape
    }

    /// `y` becomes the pool of `x`. `kept` is either empty or [`Self::kept_len_bytes`] long, for the backward pass.
    ///
    /// # Panics
    /// On slices of other lengths; so does [`Self::backward`].
    pub fn forward(&self, x: &[f32], y: &mut [f32], kept: &mut [u8]) {
        assert_eq!(x.len(), self.shape.input_len(), "the input has another length than its shape");
        assert_eq!(y.len(), self.shape.output_len(), "the output has another length than its shape");
        assert!(
            kept.is_empty() || kept.len() == self.kept_len_bytes(),
            "there is no room for what is picked"
        );
        let forward = Forward {
            pool: self,
            x: x.as_ptr_range(),
            y: y.as_mut_ptr(),
            kept: if kept.is_empty() { std::ptr::null_mut() } else { kept.as_mut_ptr() },
        };
        // SAFETY: the lengths are those of the shape, and `Axis::taps` keeps every tap within the image.
        unsafe { dispatch(self.isa, forward) };
    }

    /// `dx` becomes the gradient by the input, from that by the output and what the forward pass kept.
    pub fn backward(&self, dy: &[f32], kept: &[u8], dx: &mut [f32]) {
        assert_eq!(
            dx.len(),
            self.shape.input_len(),
            "the gradient by the input has another length than its shape"
        );
        assert_eq!(
            dy.len(),
            self.shape.output_len(),
            "the gradient by the output has another length than its shape"
        );
        assert_eq!(kept.len(), self.kept_len_bytes(), "what was picked has another length");
        let backward = Backward {
            pool: self,
            dy: dy.as_ptr(),
            kept,
            dx,
        };
        // SAFETY: the lengths are those of the shape; picks are checked before they are followed.
        unsafe { dispatch(self.isa, backward) };
    }
}

struct Forward<'a> {
    pool: &'a MaxPool,
    x: std::ops::Range<*const f32>,
    y: *mut f32,
    /// Null where nothing is kept.
    kept: *mut u8,
}

impl Kernel for Forward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        match (self.pool.layout, self.pool.axes[1].stride) {
            (Layout::ChannelsLast, _) => self.channels_last::<V>(),
            (Layout::ChannelsFirst, 1) => self.planes::<V, 1>(),
            (Layout::ChannelsFirst, 2) => self.planes::<V, 2>(),
            (Layout::ChannelsFirst, _) => self.planes::<V, 0>(),
        }
    }
}

impl Forward<'_> {
    /// Stores `n` picks, the first that of output `at`.
    #[inline(always)]
    unsafe fn keep<V: Vector>(&self, picks: V, at: usize, n: usize) {
        if self.kept.is_null() {
            return;
        }
        let bytes = self.pool.bytes();
        let to = self.kept.add(at * bytes);
        if bytes == 1 && n == V::LANES {
            return picks.store_bytes(to);
        }
        let mut lanes = [0.0f32; MOST_LANES];
        picks.store(lanes.as_mut_ptr());
        for (i, &pick) in lanes.iter().enumerate().take(n) {
            if bytes == 1 {
                *to.add(i) = pick as u8;
            } else {
                to.add(4 * i).cast::<[u8; 4]>().write_unaligned((pick as u32).to_le_bytes());
            }
        }
    }

    #[inline(always)]
    unsafe fn channels_last<V: Vector>(&self) {
        let [rows, columns] = &self.pool.axes;
        let channels = self.pool.shape.channels;
        let mut at = 0;
        for image in 0..self.pool.shape.images {
            let x = self.x.start.add(image * rows.input * columns.input * channels);
            for row in 0..rows.output {
                let (row_first, row_end) = rows.taps(row);
                for column in 0..columns.output {
                    let (first, end) = columns.taps(column);
                    let mut channel = 0;
                    while channel < channels {
                        let n = V::LANES.min(channels - channel);
                        let mut best = V::splat(f32::NEG_INFINITY);
                        let mut picks = V::splat((row_first * columns.kernel + first) as f32);
                        for r in row_first..row_end {
                            let line = (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize;
                            for c in first..end {
                                let place = (line + columns.start(column) + (c * columns.dilation) as isize) as usize;
                                let value = take::<V>(x.add(place * channels + channel), n);
                                let better = value.gt_or_nan(best);
                                best = value.select(better, best);
                                picks = V::splat((r * columns.kernel + c) as f32).select(better, picks);
                            }
                        }
                        put(best, self.y.add(at + channel), n);
                        self.keep(picks, at + channel, n);
                        channel += n;
                    }
                    at += channels;
                }
            }
        }
    }

    /// `STRIDE` is that of the columns where it is 1 or 2, else 0.
    #[inline(always)]
    unsafe fn planes<V: Vector, const STRIDE: usize>(&self) {
        let [rows, columns] = &self.pool.axes;
        let (first, end) = if STRIDE == 0 { (0, 0) } else { columns.interior() };
        let mut at = 0;
        for plane in 0..self.pool.shape.images * self.pool.shape.channels {
            let x = self.x.start.add(plane * rows.input * columns.input);
            for row in 0..rows.output {
                for column in (0..first).chain(end..columns.output) {
                    self.single(x, row, column, at + column);
                }
                let (row_first, row_end) = rows.taps(row);
                let mut column = first;
                while column < end {
                    let n = V::LANES.min(end - column);
                    let mut best = V::splat(f32::NEG_INFINITY);
                    let mut picks = V::splat((row_first * columns.kernel) as f32);
                    for r in row_first..row_end {
                        let line = (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize;
                        let line = x.offset(line + columns.start(column));
                        for c in 0..columns.kernel {
                            let value = strided::<V, STRIDE>(line.add(c * columns.dilation), n, self.x.end);
                            let better = value.gt_or_nan(best);
                            best = value.select(better, best);
                            picks = V::splat((r * columns.kernel + c) as f32).select(better, picks);
                        }
                    }
                    put(best, self.y.add(at + column), n);
                    self.keep(picks, at + column, n);
                    column += n;
                }
                at += columns.output;
            }
        }
    }

    /// One window of a plane.
    #[inline(always)]
    unsafe fn single(&self, x: *const f32, row: usize, column: usize, at: usize) {
        let [rows, columns] = &self.pool.axes;
        let ((row_first, row_end), (first, end)) = (rows.taps(row), columns.taps(column));
        let mut best = f32::NEG_INFINITY;
        let mut pick = row_first * columns.kernel + first;
        for r in row_first..row_end {
            let line = (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize + columns.start(column);
            for c in first..end {
                let value = *x.offset(line + (c * columns.dilation) as isize);
                if value > best || value.is_nan() {
                    best = value;
                    pick = r * columns.kernel + c;
                }
            }
        }
        *self.y.add(at) = best;
        if self.kept.is_null() {
            return;
        }
        if self.pool.bytes() == 1 {
            *self.kept.add(at) = pick as u8;
        } else {
            let to = self.kept.add(4 * at).cast::<[u8; 4]>();
            to.write_unaligned((pick as u32).to_le_bytes());
        }
    }
}

/// The gradients of those that picked a tap.
#[inline(always)]
unsafe fn picked<V: Vector>(dy: V, picks: V, tap: f32) -> V {
    dy.keep(picks.eq(V::splat(tap)))
}

struct Backward<'a> {
    pool: &'a MaxPool,
    dy: *const f32,
    kept: &'a [u8],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        self.dx.fill(0.0);
        match self.pool.layout {
            _ if self.pool.bytes() == 4 => self.scattered(),
            Layout::ChannelsLast => self.channels_last::<V>(),
            Layout::ChannelsFirst if tiles_in_pairs(&self.pool.axes) => self.pairs::<V>(),
            Layout::ChannelsFirst => self.scattered(),
        }
    }
}

impl Backward<'_> {
    /// The first `n` picks from output `at` on.
    #[inline(always)]
    unsafe fn picks<V: Vector>(&self, at: usize, n: usize) -> V {
        if at + V::LANES <= self.kept.len() {
            return V::load_bytes(self.kept.as_ptr().add(at));
        }
        let mut bytes = [0; MOST_LANES];
        bytes[..n].copy_from_slice(&self.kept[at..at + n]);
        V::load_bytes(bytes.as_ptr())
    }

    #[inline(always)]
    unsafe fn channels_last<V: Vector>(self) {
        let [rows, columns] = &self.pool.axes;
        let channels = self.pool.shape.channels;
        let mut at = 0;
        for image in 0..self.pool.shape.images {
            let dx = self.dx.as_mut_ptr().add(image * rows.input * columns.input * channels);
            for row in 0..rows.output {
                let (row_first, row_end) = rows.taps(row);
                for column in 0..columns.output {
                    let (first, end) = columns.taps(column);
                    let mut channel = 0;
                    while channel < channels {
                        let n = V::LANES.min(channels - channel);
                        let picks = self.picks::<V>(at + channel, n);
                        let dy = take::<V>(self.dy.add(at + channel), n);
                        for r in row_first..row_end {
                            let line = (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize;
                            for c in first..end {
                                let place = (line + columns.start(column) + (c * columns.dilation) as isize) as usize;
                                let to = dx.add(place * channels + channel);
                                let picked = picks.eq(V::splat((r * columns.kernel + c) as f32));
                                put(take::<V>(to, n).add(dy.keep(picked)), to, n);
                            }
                        }
                        channel += n;
                    }
                    at += channels;
                }
            }
        }
    }

    /// Planes whose windows are two by two, side by side.
    #[inline(always)]
    unsafe fn pairs<V: Vector>(self) {
        let [rows, columns] = &self.pool.axes;
        let mut at = 0;
        for plane in 0..self.pool.shape.images * self.pool.shape.channels {
            let dx = self.dx.as_mut_ptr().add(plane * rows.input * columns.input);
            for row in 0..rows.output {
                let mut column = 0;
                while column < columns.output {
                    let n = V::LANES.min(columns.output - column);
                    let picks = self.picks::<V>(at + column, n);
                    let dy = take::<V>(self.dy.add(at + column), n);
                    let to = dx.add(2 * row * columns.input + 2 * column);
                    store_pairs(picked(dy, picks, 0.0), picked(dy, picks, 1.0), to, n);
                    store_pairs(picked(dy, picks, 2.0), picked(dy, picks, 3.0), to.add(columns.input), n);
                    column += n;
                }
                at += columns.output;
            }
        }
    }

    /// Any window and layout, value by value.
    #[inline(always)]
    unsafe fn scattered(self) {
        let [rows, columns] = &self.pool.axes;
        let bytes = self.pool.bytes();
        let image = rows.input * columns.input;
        let channels = self.pool.shape.channels;
        // What lies between two pixels, and between two images or planes.
        let (groups, inner) = match self.pool.layout {
            Layout::ChannelsFirst => (self.pool.shape.images * channels, 1),
            Layout::ChannelsLast => (self.pool.shape.images, channels),
        };
        // How far each tap is from the start of its window.
        let mut places = [0isize; TAPS_OF_A_BYTE];
        if bytes == 1 {
            for (tap, place) in places.iter_mut().enumerate().take(self.pool.taps()) {
                *place = self.pool.place(tap);
            }
        }
        let mut at = 0;
        for group in 0..groups {
            let dx = &mut self.dx[group * image * inner..][..image * inner];
            for row in 0..rows.output {
                for column in 0..columns.output {
                    let start = rows.start(row) * columns.input as isize + columns.start(column);
                    for channel in 0..inner {
                        let place = if bytes == 1 {
                            places[usize::from(self.kept[at])]
                        } else {
                            let four = &self.kept[4 * at..][..4];
                            self.pool.place(u32::from_le_bytes([four[0], four[1], four[2], four[3]]) as usize)
                        };
                        dx[(start + place) as usize * inner + channel] += *self.dy.add(at);
                        at += 1;
                    }
                }
            }
        }
    }
}
