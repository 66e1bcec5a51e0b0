//! The mean of each window.

use super::{Axis, PoolShape, store_pairs, strided, tiles_in_pairs};
use crate::isa::{Isa, Kernel, dispatch};
use crate::layout::Layout;
use crate::stretch::{put, take};
use crate::vector::Vector;

/// A mean pool.
#[derive(Debug, Clone, Copy)]
pub struct AveragePool {
    isa: Isa,
    shape: PoolShape,
    layout: Layout,
    padding_counts: bool,
    axes: [Axis; 2],
}

impl AveragePool {
    /// `padding_counts`: whether padding counts as zeros (`count_include_pad`); what a window spans beyond the padding never does.
    ///
    /// # Panics
    /// On a shape that [`PoolShape::check`] refuses.
    pub fn new(isa: Isa, shape: PoolShape, layout: Layout, padding_counts: bool) -> Self {
        Self {
            isa,
            shape,
            layout,
            padding_counts,
            axes: shape.axes(),
        }
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

    /// `y` becomes the pool of `x`.
    ///
    /// # Panics
    /// On slices of other lengths; so does [`Self::backward`].
    pub fn forward(&self, x: &[f32], y: &mut [f32]) {
        assert_eq!(x.len(), self.shape.input_len(), "the input has another length than its shape");
        assert_eq!(y.len(), self.shape.output_len(), "the output has another length than its shape");
        let forward = Forward {
            pool: self,
            x: x.as_ptr_range(),
            y: y.as_mut_ptr(),
        };
        // SAFETY: the lengths are those of the shape, and `Axis::taps` keeps every tap within the image.
        unsafe { dispatch(self.isa, forward) };
    }

    /// `dx` becomes the gradient by the input.
    pub fn backward(&self, dy: &[f32], dx: &mut [f32]) {
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
        let backward = Backward {
            pool: self,
            dy: dy.as_ptr(),
            dx,
        };
        // SAFETY: as above.
        unsafe { dispatch(self.isa, backward) };
    }

    /// One over what the window counts.
    #[inline(always)]
    fn factor(&self, row: usize, column: usize) -> f32 {
        let [rows, columns] = &self.axes;
        let counted = rows.counted(row, self.padding_counts) * columns.counted(column, self.padding_counts);
        1.0 / counted as f32
    }
}

struct Forward<'a> {
    pool: &'a AveragePool,
    x: std::ops::Range<*const f32>,
    y: *mut f32,
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
                    let factor = V::splat(self.pool.factor(row, column));
                    let mut channel = 0;
                    while channel < channels {
                        let n = V::LANES.min(channels - channel);
                        let mut sum = V::splat(0.0);
                        for r in row_first..row_end {
                            let line = (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize;
                            for c in first..end {
                                let place = (line + columns.start(column) + (c * columns.dilation) as isize) as usize;
                                sum = sum.add(take::<V>(x.add(place * channels + channel), n));
                            }
                        }
                        put(sum.mul(factor), self.y.add(at + channel), n);
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
                let (row_first, row_end) = rows.taps(row);
                for column in (0..first).chain(end..columns.output) {
                    let mut sum = 0.0;
                    let (column_first, column_end) = columns.taps(column);
                    for r in row_first..row_end {
                        let line = (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize;
                        for c in column_first..column_end {
                            sum += *x.offset(line + columns.start(column) + (c * columns.dilation) as isize);
                        }
                    }
                    *self.y.add(at + column) = sum * self.pool.factor(row, column);
                }
                // The same for all columns of the interior.
                let factor = V::splat(if first < end { self.pool.factor(row, first) } else { 0.0 });
                let mut column = first;
                while column < end {
                    let n = V::LANES.min(end - column);
                    let mut sum = V::splat(0.0);
                    for r in row_first..row_end {
                        let line = (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize;
                        let line = x.offset(line + columns.start(column));
                        for c in 0..columns.kernel {
                            sum = sum.add(strided::<V, STRIDE>(line.add(c * columns.dilation), n, self.x.end));
                        }
                    }
                    put(sum.mul(factor), self.y.add(at + column), n);
                    column += n;
                }
                at += columns.output;
            }
        }
    }
}

struct Backward<'a> {
    pool: &'a AveragePool,
    dy: *const f32,
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        self.dx.fill(0.0);
        match self.pool.layout {
            Layout::ChannelsLast => self.channels_last::<V>(),
            Layout::ChannelsFirst if tiles_in_pairs(&self.pool.axes) => self.pairs::<V>(),
            Layout::ChannelsFirst => self.planes::<V>(),
        }
    }
}

impl Backward<'_> {
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
                    let factor = V::splat(self.pool.factor(row, column));
                    let mut channel = 0;
                    while channel < channels {
                        let n = V::LANES.min(channels - channel);
                        let dy = take::<V>(self.dy.add(at + channel), n).mul(factor);
                        for r in row_first..row_end {
                            let line = (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize;
                            for c in first..end {
                                let place = (line + columns.start(column) + (c * columns.dilation) as isize) as usize;
                                let to = dx.add(place * channels + channel);
                                put(take::<V>(to, n).add(dy), to, n);
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
        let quarter = V::splat(0.25);
        let mut at = 0;
        for plane in 0..self.pool.shape.images * self.pool.shape.channels {
            let dx = self.dx.as_mut_ptr().add(plane * rows.input * columns.input);
            for row in 0..rows.output {
                let mut column = 0;
                while column < columns.output {
                    let n = V::LANES.min(columns.output - column);
                    let dy = take::<V>(self.dy.add(at + column), n).mul(quarter);
                    let to = dx.add(2 * row * columns.input + 2 * column);
                    store_pairs(dy, dy, to, n);
                    store_pairs(dy, dy, to.add(columns.input), n);
                    column += n;
                }
                at += columns.output;
            }
        }
    }

    #[inline(always)]
    unsafe fn planes<V: Vector>(self) {
        let [rows, columns] = &self.pool.axes;
        // Neighbouring windows add to neighbours only where they are one step apart.
        let (first, end) = if columns.stride == 1 { columns.interior() } else { (0, 0) };
        let mut at = 0;
        for plane in 0..self.pool.shape.images * self.pool.shape.channels {
            let dx = self.dx.as_mut_ptr().add(plane * rows.input * columns.input);
            for row in 0..rows.output {
                let (row_first, row_end) = rows.taps(row);
                let line = |r: usize| (rows.start(row) + (r * rows.dilation) as isize) * columns.input as isize;
                for column in (0..first).chain(end..columns.output) {
                    let dy = *self.dy.add(at + column) * self.pool.factor(row, column);
                    let (column_first, column_end) = columns.taps(column);
                    for r in row_first..row_end {
                        for c in column_first..column_end {
                            *dx.offset(line(r) + columns.start(column) + (c * columns.dilation) as isize) += dy;
                        }
                    }
                }
                let factor = V::splat(if first < end { self.pool.factor(row, first) } else { 0.0 });
                let mut column = first;
                while column < end {
                    let n = V::LANES.min(end - column);
                    let dy = take::<V>(self.dy.add(at + column), n).mul(factor);
                    for r in row_first..row_end {
                        for c in 0..columns.kernel {
                            let to = dx.offset(line(r) + columns.start(column) + (c * columns.dilation) as isize);
                            put(take::<V>(to, n).add(dy), to, n);
                        }
                    }
                    column += n;
                }
                at += columns.output;
            }
        }
    }
}
