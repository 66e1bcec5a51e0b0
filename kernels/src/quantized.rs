//! Products of 8-bit integers with exact sums of 32 bits, rescaled to 8 bits or to floats: what layers of quantized models compute.
//!
//! Activations are bytes, channels last; an int8 tensor is held as bytes that are 128 more, and its zero point too. Weights are int8, less their
//! zero point. A convolution is a product over *runs*: the bytes under a row of its window lie one behind the other. Sums are exact, and what follows
//! them is rounded in the same order everywhere, so that every instruction set gives the same bits.

mod bytes;
mod dot;
#[cfg(test)]
mod tests;
mod tile;

use crate::Isa;

pub use bytes::{Frame, dequantize, map, max_pool, quantize};
use dot::Kind;
use tile::Tiles;

/// Outputs of a panel of weights.
const PANEL: usize = 16;
/// Bytes behind the last one that is used, which kernels may read.
pub const SLACK: usize = 64;

/// How a product is done: runs of bytes that follow each other, `stride` bytes apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runs {
    /// How many.
    pub count: usize,
    /// Bytes of each.
    pub len: usize,
    /// From one to the next; they lie in `rows` rows of as many.
    pub rows: [usize; 2],
    /// From a run to the next one of its row, and from a row to the next.
    pub strides: [usize; 2],
}

impl Runs {
    /// One run of `len` bytes.
    pub fn one(len: usize) -> Self {
        Self {
            count: 1,
            len,
            rows: [1, 1],
            strides: [0, 0],
        }
    }

    /// The bytes under a window of `kernel` places in images of `channels`, whose rows are `row` bytes apart.
    pub fn window(kernel: [usize; 2], dilation: [usize; 2], channels: usize, row: usize) -> Self {
        let [height, width] = kernel;
        // Taps of a row that lie together are one run.
        let (along, len) = if dilation[1] == 1 {
            (1, width * channels)
        } else {
            (width, channels)
        };
        Self {
            count: height * along,
            len,
            rows: [height, along],
            strides: [dilation[1] * channels, dilation[0] * row],
        }
    }

    /// Where each run begins, and how many bytes are read from the first one on, whatever the order of the runs is; `None` where that is more than an address.
    fn offsets(&self) -> Option<(Vec<usize>, usize)> {
        let offset = |run: usize| {
            let rows = (run / self.rows[1]).checked_mul(self.strides[1])?;
            rows.checked_add((run % self.rows[1]).checked_mul(self.strides[0])?)
        };
        let offsets: Vec<usize> = (0..self.count).map(offset).collect::<Option<_>>()?;
        let furthest = offsets.iter().max().copied().unwrap_or(0);
        let end = furthest.checked_add(self.len.checked_next_multiple_of(4)?)?;
        Some((offsets, end))
    }
}

/// Weights as the kernels read them.
#[derive(Debug, Clone)]
pub struct Weights {
    kind: Kind,
    runs: usize,
    /// Bytes of a run, to the next multiple of 4.
    run: usize,
    outputs: usize,
    packed: Vec<i8>,
    /// By output.
    sums: Vec<i64>,
    magnitudes: Vec<i64>,
}

impl Weights {
    /// Packs the weights of `outputs` outputs. `at(output, i)` is that of byte `i`, counted over all runs.
    ///
    /// # Panics
    /// Where there are none, or more than memory can hold.
    pub fn new(isa: Isa, runs: &Runs, outputs: usize, at: impl Fn(usize, usize) -> i8) -> Self {
        let kind = Kind::of(isa);
        assert!(runs.count > 0 && runs.len > 0 && outputs > 0, "an empty product");
        assert_eq!(runs.count, runs.rows[0] * runs.rows[1], "runs");
        let run = runs.len.next_multiple_of(4);
        let panels = outputs.div_ceil(PANEL);
        let mut packed = vec![0; crate::elements(&[panels, runs.count, run, PANEL])];
        let (mut sums, mut magnitudes) = (vec![0i64; outputs], vec![0i64; outputs]);
        for output in 0..outputs {
            let panel = &mut packed[output / PANEL * runs.count * run * PANEL..][..runs.count * run * PANEL];
            for i in 0..runs.count * runs.len {
                let value = at(output, i);
                let k = i / runs.len * run + i % runs.len;
                panel[kind.place(k, output % PANEL)] = value;
                sums[output] += i64::from(value);
                magnitudes[output] += i64::from(value).abs();
            }
        }
        Self {
            kind,
            runs: runs.count,
            run,
            outputs,
            packed,
            sums,
            magnitudes,
        }
    }

    /// Outputs.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.packed.len() + 16 * self.outputs
    }

    /// What turns sums into results, for activations whose zero point is `zero`; `None` where a sum could be more than 32 bits hold.
    ///
    /// A result is `sum * scale + add`, in float32, of sums that include `bias`: then rounded, halves to the even neighbour, and kept within
    /// `least..=most`, where bytes are made of it.
    ///
    /// # Shapes
    /// `bias`, `scale`, `add`: `[outputs]`.
    pub fn rescale(&self, zero: u8, bias: &[i32], scale: &[f32], add: &[f32]) -> Option<Rescale> {
        assert!([bias.len(), scale.len(), add.len()] == [self.outputs; 3], "a value an output");
        let mut whole = Vec::with_capacity(self.outputs.next_multiple_of(PANEL));
        for output in 0..self.outputs {
            let start = i64::from(bias[output]) - i64::from(zero) * self.sums[output];
            let largest = start.abs() + 255 * self.magnitudes[output];
            if largest > i64::from(i32::MAX) {
                return None;
            }
            whole.push(i32::try_from(start).ok()?);
        }
        let mut padded = Rescale {
            bias: whole,
            scale: scale.to_vec(),
            add: add.to_vec(),
        };
        let len = self.outputs.next_multiple_of(PANEL);
        padded.bias.resize(len, 0);
        padded.scale.resize(len, 0.0);
        padded.add.resize(len, 0.0);
        Some(padded)
    }
}

/// See [`Weights::rescale`]. A value an output, to a whole panel.
#[derive(Debug, Clone)]
pub struct Rescale {
    bias: Vec<i32>,
    scale: Vec<f32>,
    add: Vec<f32>,
}

/// Where results go.
#[derive(Debug)]
pub enum To<'a> {
    /// Rounded, with `zero` added, and kept within `least..=most`.
    Bytes {
        /// Bytes, an output one behind the other.
        y: &'a mut [u8],
        /// Zero point.
        zero: u8,
        /// Least and most that come out: a ReLU's least is the zero point.
        least: u8,
        /// See `least`.
        most: u8,
    },
    /// As they are, or where `relu`, at least 0.
    Floats {
        /// Floats, an output one behind the other.
        y: &'a mut [f32],
        /// Whether what is negative becomes 0.
        relu: bool,
    },
}

/// Which places a product is done at: `rows` times `columns`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Rows and columns.
    pub count: [usize; 2],
    /// From one to the next in what is read, in bytes.
    pub x: [usize; 2],
    /// And in what is written, in values.
    pub y: [usize; 2],
}

impl Places {
    /// Where the last place is; `None` where that is more than an address. No count is 0.
    fn reach(&self, strides: [usize; 2]) -> Option<usize> {
        let [rows, columns] = [0, 1].map(|axis| (self.count[axis] - 1).checked_mul(strides[axis]));
        rows?.checked_add(columns?)
    }
}

/// The product at every place.
///
/// # Shapes
/// `x`: bytes from the first place on, and [`SLACK`] or what a last run asks for behind the last. `y`: `outputs` values at each place.
///
/// # Panics
/// Where `x` or `y` is too short, or weights are of other runs.
pub fn product(weights: &Weights, runs: &Runs, rescale: &Rescale, places: Places, x: &[u8], to: To<'_>) {
    if places.count.contains(&0) {
        return;
    }
    assert_eq!((weights.runs, weights.run), (runs.count, runs.len.next_multiple_of(4)), "runs");
    assert!(rescale.bias.len() == weights.outputs.next_multiple_of(PANEL), "a value an output");
    let (offsets, read) = runs.offsets().expect("runs are further apart than there are addresses");
    let within = |last: Option<usize>, more: usize, len: usize| last.and_then(|last| last.checked_add(more)).is_some_and(|end| end <= len);
    assert!(within(places.reach(places.x), read, x.len()), "x is too short");
    let y_len = match &to {
        To::Bytes { y, .. } => y.len(),
        To::Floats { y, .. } => y.len(),
    };
    assert!(within(places.reach(places.y), weights.outputs, y_len), "y is too short");
    let tiles = Tiles {
        weights,
        offsets: &offsets,
        rescale,
        places,
        x: x.as_ptr(),
    };
    // SAFETY: all that is read and written lies within `x` and `y`, as was just checked; the kind of the weights is the processor's.
    unsafe { weights.kind.run(tiles, to) };
}
