//! What is done with quantized images besides products: floats to bytes and back, the largest of windows, tables.

use crate::Isa;
use crate::isa::{Kernel, dispatch};
use crate::vector::Vector;

/// An image of bytes, channels last, within a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Channels.
    pub channels: usize,
    /// Height and width.
    pub size: [usize; 2],
    /// Places above and to the left.
    pub before: [usize; 2],
    /// Places below and to the right.
    pub behind: [usize; 2],
}

impl Frame {
    /// An image without a frame.
    pub fn bare(channels: usize, size: [usize; 2]) -> Self {
        Self {
            channels,
            size,
            before: [0, 0],
            behind: [0, 0],
        }
    }

    /// Bytes of a row.
    pub fn row(&self) -> usize {
        (self.before[1] + self.size[1] + self.behind[1]) * self.channels
    }

    /// Bytes of all, frame and all.
    pub fn len(&self) -> usize {
        (self.before[0] + self.size[0] + self.behind[0]) * self.row()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the image begins.
    pub fn first(&self) -> usize {
        self.before[0] * self.row() + self.before[1] * self.channels
    }
}

/// The integers that floats become: `saturate(round(x / scale) + zero)`, halves to the even neighbour; what is no number becomes the least.
///
/// # Shapes
/// `x`: `[channels, height, width]`. `y`: [`Frame::len`]; the frame itself stays as it is.
///
/// # Panics
/// Where a length is another.
pub fn quantize(isa: Isa, x: &[f32], scale: f32, zero: u8, frame: &Frame, y: &mut [u8]) {
    struct Work<'a>(&'a [f32], f32, u8, &'a Frame, &'a mut [u8]);
    impl Kernel for Work<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            let Self(x, scale, zero, frame, y) = self;
            let zero = f32::from(zero);
            let byte = |x: f32| {
                let kept = (x / scale).max(-zero).min(255.0 - zero);
                (kept.round_ties_even() + zero) as i32 as u8
            };
            let [height, width] = frame.size;
            for row in 0..height {
                let to = &mut y[frame.first() + row * frame.row()..][..width * frame.channels];
                for channel in 0..frame.channels {
                    let from = &x[(channel * height + row) * width..][..width];
                    if frame.channels == 1 {
                        for (to, &x) in to.iter_mut().zip(from) {
                            *to = byte(x);
                        }
                    } else {
                        for (to, &x) in to.iter_mut().skip(channel).step_by(frame.channels).zip(from) {
                            *to = byte(x);
                        }
                    }
                }
            }
        }
    }
    assert!(
        x.len() == frame.channels * frame.size[0] * frame.size[1] && y.len() >= frame.len(),
        "lengths"
    );
    // SAFETY: the kernel goes by checked slices.
    unsafe { dispatch(isa, Work(x, scale, zero, frame, y)) };
}

/// The floats that integers stand for, `(x - zero) * scale`.
///
/// # Shapes
/// `x`: [`Frame::len`]. `y`: `[channels, height, width]`.
///
/// # Panics
/// Where a length is another.
pub fn dequantize(x: &[u8], scale: f32, zero: u8, frame: &Frame, y: &mut [f32]) {
    let [height, width] = frame.size;
    assert!(y.len() == frame.channels * height * width && x.len() >= frame.len(), "lengths");
    let zero = f32::from(zero);
    for channel in 0..frame.channels {
        for row in 0..height {
            let from = &x[frame.first() + row * frame.row()..][..width * frame.channels];
            let to = &mut y[(channel * height + row) * width..][..width];
            for (to, &x) in to.iter_mut().zip(from.iter().skip(channel).step_by(frame.channels)) {
                *to = (f32::from(x) - zero) * scale;
            }
        }
    }
}

/// Bytes by a table, from one frame to another of the same size.
///
/// # Panics
/// Where sizes differ, or a length is another.
pub fn map(x: &[u8], from: &Frame, table: &[u8; 256], y: &mut [u8], to: &Frame) {
    assert!(from.size == to.size && from.channels == to.channels, "sizes");
    let len = from.size[1] * from.channels;
    for row in 0..from.size[0] {
        let x = &x[from.first() + row * from.row()..][..len];
        let y = &mut y[to.first() + row * to.row()..][..len];
        for (y, &x) in y.iter_mut().zip(x) {
            *y = table[usize::from(x)];
        }
    }
}

/// The largest byte of each window, channel by channel. What is beyond the image is 0 in the frame of `x`.
///
/// # Panics
/// Where windows leave the frame, or a length is another.
pub fn max_pool(isa: Isa, x: &[u8], from: &Frame, window: [usize; 2], stride: [usize; 2], dilation: [usize; 2], y: &mut [u8], to: &Frame) {
    struct Work<'a> {
        x: &'a [u8],
        from: &'a Frame,
        window: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        y: &'a mut [u8],
        to: &'a Frame,
    }
    impl Kernel for Work<'_> {
        type Output = ();

        #[inline(always)]
        unsafe fn run<V: Vector>(self) {
            let Self {
                x,
                from,
                window,
                stride,
                dilation,
                y,
                to,
            } = self;
            let c = from.channels;
            for row in 0..to.size[0] {
                for column in 0..to.size[1] {
                    let y = &mut y[to.first() + row * to.row() + column * c..][..c];
                    for i in 0..window[0] {
                        for j in 0..window[1] {
                            let at = (row * stride[0] + i * dilation[0]) * from.row() + (column * stride[1] + j * dilation[1]) * c;
                            let x = &x[at..][..c];
                            if (i, j) == (0, 0) {
                                y.copy_from_slice(x);
                                continue;
                            }
                            for (y, &x) in y.iter_mut().zip(x) {
                                *y = (*y).max(x);
                            }
                        }
                    }
                }
            }
        }
    }
    let reach = |axis: usize| (to.size[axis] - 1) * stride[axis] + (window[axis] - 1) * dilation[axis] + 1;
    let held = |axis: usize| from.before[axis] + from.size[axis] + from.behind[axis];
    assert!(
        !to.size.contains(&0) && reach(0) <= held(0) && reach(1) <= held(1),
        "windows leave the frame"
    );
    assert!(
        from.channels == to.channels && x.len() >= from.len() && y.len() >= to.len(),
        "lengths"
    );
    let work = Work {
        x,
        from,
        window,
        stride,
        dilation,
        y,
        to,
    };
    // SAFETY: the kernel goes by checked slices.
    unsafe { dispatch(isa, work) };
}
