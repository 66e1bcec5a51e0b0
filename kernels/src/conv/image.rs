//! Images on their way into the kernels' scratch and out of it.

use crate::isa::Kernel;
use crate::vector::Vector;

/// `to[column][row] = from[row][column]`.
pub(super) struct Transpose {
    pub(super) from: *const f32,
    pub(super) from_step: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) to: *mut f32,
    pub(super) to_step: usize,
}

impl Kernel for Transpose {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (rows, columns) = (self.rows / V::LANES * V::LANES, self.columns / V::LANES * V::LANES);
        for row in (0..rows).step_by(V::LANES) {
            for column in (0..columns).step_by(V::LANES) {
                let from = self.from.add(row * self.from_step + column);
                V::transpose(
                    from,
                    self.from_step,
                    V::LANES,
                    V::LANES,
                    self.to.add(column * self.to_step + row),
                    self.to_step,
                );
            }
        }
        for row in 0..self.rows {
            for column in if row < rows { columns } else { 0 }..self.columns {
                *self.to.add(column * self.to_step + row) = *self.from.add(row * self.from_step + column);
            }
        }
    }
}

/// A window of a padded image, channels last, and the same without padding in either order of axes.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) channels: usize,
    /// Without padding.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Above, to the left.
    pub(super) before: [usize; 2],
    /// With padding.
    pub(super) padded: [usize; 2],
    pub(super) channels_first: bool,
}

/// Copies an image into the middle of zeros.
pub(super) struct Pad {
    pub(super) frame: Frame,
    pub(super) from: *const f32,
    pub(super) to: *mut f32,
}

impl Kernel for Pad {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let frame = self.frame;
        let (c, line) = (frame.channels, frame.padded[1] * frame.channels);
        let [above, left] = frame.before;
        self.to.write_bytes(0, above * line);
        for y in 0..frame.height {
            let row = self.to.add((above + y) * line);
            row.write_bytes(0, left * c);
            let inside = row.add(left * c);
            if frame.channels_first {
                let transpose = Transpose {
                    from: self.from.add(y * frame.width),
                    from_step: frame.height * frame.width,
                    rows: c,
                    columns: frame.width,
                    to: inside,
                    to_step: c,
                };
                transpose.run::<V>();
            } else {
                let n = frame.width * c;
                inside.copy_from_nonoverlapping(self.from.add(y * n), n);
            }
            let end = (left + frame.width) * c;
            row.add(end).write_bytes(0, line - end);
        }
        let end = above + frame.height;
        self.to.add(end * line).write_bytes(0, (frame.padded[0] - end) * line);
    }
}

/// Copies the middle of a padded image out.
pub(super) struct Crop {
    pub(super) frame: Frame,
    pub(super) from: *const f32,
    pub(super) to: *mut f32,
}

impl Kernel for Crop {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let frame = self.frame;
        let (c, line) = (frame.channels, frame.padded[1] * frame.channels);
        for y in 0..frame.height {
            let inside = self.from.add((frame.before[0] + y) * line + frame.before[1] * c);
            if frame.channels_first {
                let transpose = Transpose {
                    from: inside,
                    from_step: c,
                    rows: frame.width,
                    columns: c,
                    to: self.to.add(y * frame.width),
                    to_step: frame.height * frame.width,
                };
                transpose.run::<V>();
            } else {
                let n = frame.width * c;
                self.to.add(y * n).copy_from_nonoverlapping(inside, n);
            }
        }
    }
}

/// `to = gradient` where `y > 0`, zero elsewhere.
pub(super) struct Mask {
    pub(super) gradient: *const f32,
    pub(super) y: *const f32,
    pub(super) len: usize,
    pub(super) to: *mut f32,
}

impl Kernel for Mask {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let zero = V::splat(0.0);
        for i in (0..self.len).step_by(V::LANES) {
            let n = V::LANES.min(self.len - i);
            if n == V::LANES {
                let positive = V::load(self.y.add(i)).gt(zero);
                V::load(self.gradient.add(i)).keep(positive).store(self.to.add(i));
            } else {
                let positive = V::load_n(self.y.add(i), n).gt(zero);
                V::load_n(self.gradient.add(i), n).keep(positive).store_n(self.to.add(i), n);
            }
        }
    }
}
