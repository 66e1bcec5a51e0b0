//! Pooling over one or two spatial axes.

mod average;
mod max;

pub use average::AveragePool;
pub use max::MaxPool;

use crate::vector::Vector;

/// What a pool runs over. One spatial axis is a height of 1 with a kernel of 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolShape {
    /// Images of the batch.
    pub images: usize,
    /// Channels, pooled each by itself.
    pub channels: usize,
    /// Rows of an image.
    pub height: usize,
    /// Columns of an image.
    pub width: usize,
    /// Rows and columns of the window.
    pub kernel: [usize; 2],
    /// Steps from one window to the next.
    pub stride: [usize; 2],
    /// Steps from one row or column of the window to the next.
    pub dilation: [usize; 2],
    /// Rows and columns of padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Rounds the number of windows up. A window that would begin in the padding behind the image is left out all the same (ONNX since
    /// opset 19, PyTorch always).
    pub ceil: bool,
}

impl PoolShape {
    /// Rows and columns of the output.
    ///
    /// # Panics
    /// On a shape that [`Self::check`] refuses.
    pub fn output(&self) -> [usize; 2] {
        self.axes().map(|axis| axis.output)
    }

    /// What is wrong with it: windows that don't fit into the padded image, or that lie wholly in the padding.
    pub fn check(&self) -> Result<(), &'static str> {
        let sizes = [self.images, self.channels, self.height, self.width];
        let mut windows = self.kernel.iter().chain(&self.stride).chain(&self.dilation).chain(&self.pads);
        let count = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if count.is_none_or(|n| n > 1 << 48) || windows.any(|&n| n >= 1 << 31) {
            return Err("an image or a window is beyond what memory can hold");
        }
        Axis::new(self, 0).and(Axis::new(self, 1)).map(|_| ())
    }

    fn input_len(&self) -> usize {
        self.images * self.channels * self.height * self.width
    }

    fn output_len(&self) -> usize {
        let [rows, columns] = self.output();
        self.images * self.channels * rows * columns
    }

    fn axes(&self) -> [Axis; 2] {
        [0, 1].map(|i| Axis::new(self, i).unwrap_or_else(|problem| panic!("{problem}")))
    }
}

/// One spatial axis.
#[derive(Debug, Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    after: usize,
}

impl Axis {
    fn new(shape: &PoolShape, i: usize) -> Result<Self, &'static str> {
        let mut axis = Self {
            input: [shape.height, shape.width][i],
            output: 0,
            kernel: shape.kernel[i],
            stride: shape.stride[i],
            dilation: shape.dilation[i],
            before: shape.pads[i],
            after: shape.pads[i + 2],
        };
        if axis.kernel == 0 || axis.stride == 0 || axis.dilation == 0 {
            return Err("a window has the size, step or dilation 0");
        }
        let room = (axis.input + axis.before + axis.after).checked_sub(axis.span());
        let room = room.ok_or("a window is larger than the padded image")?;
        axis.output = if shape.ceil {
            room.div_ceil(axis.stride)
        } else {
            room / axis.stride
        } + 1;
        if shape.ceil && (axis.output - 1) * axis.stride >= axis.input + axis.before {
            axis.output -= 1;
        }
        let sees = |at: usize| axis.taps(at).0 < axis.taps(at).1;
        if (0..axis.output).all(sees) {
            Ok(axis)
        } else {
            Err("a window lies wholly in the padding")
        }
    }

    fn span(&self) -> usize {
        self.dilation * (self.kernel - 1) + 1
    }

    /// Where the window `at` begins.
    #[inline(always)]
    fn start(&self, at: usize) -> isize {
        (at * self.stride) as isize - self.before as isize
    }

    /// The taps of window `at` that are within the image: from the first to before the second.
    #[inline(always)]
    fn taps(&self, at: usize) -> (usize, usize) {
        self.within(at, self.before, self.before + self.input)
    }

    /// The taps of window `at` that are within a stretch of the padded image.
    #[inline(always)]
    fn within(&self, at: usize, from: usize, to: usize) -> (usize, usize) {
        let start = at * self.stride;
        let taps = |span: usize| {
            // Mostly there is no dilation; a division would cost more than the rest.
            let taps = if self.dilation == 1 { span } else { span.div_ceil(self.dilation) };
            taps.min(self.kernel)
        };
        (taps(from.saturating_sub(start)), taps(to.saturating_sub(start)))
    }

    /// Taps of window `at` that a mean counts.
    #[inline(always)]
    fn counted(&self, at: usize, padding_counts: bool) -> usize {
        let (first, end) = if padding_counts {
            self.within(at, 0, self.before + self.input + self.after)
        } else {
            self.taps(at)
        };
        end - first
    }

    /// The windows whose taps are all within the image: from the first to before the second.
    fn interior(&self) -> (usize, usize) {
        let first = self.before.div_ceil(self.stride);
        let end = (self.before + self.input).checked_sub(self.span());
        let end = end.map_or(0, |room| room / self.stride + 1).min(self.output);
        (first.min(end), end)
    }
}

/// Whether windows of two by two lie side by side, without padding: what has loops of its own in planes.
fn tiles_in_pairs([rows, columns]: &[Axis; 2]) -> bool {
    let plain =
        |axis: &Axis| axis.kernel == 2 && axis.stride == 2 && axis.dilation == 1 && axis.before == 0 && axis.interior() == (0, axis.output);
    plain(rows) && plain(columns)
}

/// `n` floats, `STRIDE` (1 or 2) apart; `end` is the end of the slice.
#[inline(always)]
unsafe fn strided<V: Vector, const STRIDE: usize>(from: *const f32, n: usize, end: *const f32) -> V {
    if STRIDE == 1 {
        return if n == V::LANES { V::load(from) } else { V::load_n(from, n) };
    }
    if (end as usize) - (from as usize) >= 8 * V::LANES {
        return V::load(from).evens(V::load(from.add(V::LANES)));
    }
    let floats = 2 * n - 1;
    let low = V::load_n(from, floats.min(V::LANES));
    if floats <= V::LANES {
        return low.evens(V::splat(0.0));
    }
    low.evens(V::load_n(from.add(V::LANES), floats - V::LANES))
}

/// Writes the first `n` lanes of both in turn.
#[inline(always)]
unsafe fn store_pairs<V: Vector>(evens: V, odds: V, to: *mut f32, n: usize) {
    let (low, high) = evens.zip(odds);
    if n == V::LANES {
        low.store(to);
        high.store(to.add(V::LANES));
        return;
    }
    low.store_n(to, (2 * n).min(V::LANES));
    if 2 * n > V::LANES {
        high.store_n(to.add(V::LANES), 2 * n - V::LANES);
    }
}

#[cfg(test)]
mod tests;
