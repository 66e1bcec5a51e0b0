//! Layers of a quantized model, one behind the other, on integers: floats go in, and floats come out at the end.

use std::sync::Arc;

use aimass_kernels::Isa;
use aimass_kernels::quantized::{Frame, Places, Rescale, Runs, SLACK, To, Weights, dequantize, map, max_pool, product, quantize};

use super::{Backward, Forward, Needs, Operation};

/// What integers stand for: `(byte - zero) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Meaning {
    pub(in super::super) scale: f32,
    pub(in super::super) zero: u8,
}

/// A product of integers with constant weights.
#[derive(Debug, Clone)]
pub(in super::super) struct Layer {
    pub(in super::super) weights: Arc<Weights>,
    pub(in super::super) runs: Runs,
    pub(in super::super) rescale: Rescale,
    /// Of the bytes that come out, and their least; `None`: floats come out.
    pub(in super::super) bytes: Option<(u8, u8)>,
    pub(in super::super) relu: bool,
}

/// What is done with one image after the other.
#[derive(Debug, Clone)]
pub(in super::super) enum Image {
    Convolution {
        layer: Layer,
        stride: [usize; 2],
    },
    MaxPool {
        window: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
    },
    Map(Box<[u8; 256]>),
}

/// What is done with all rows at once.
#[derive(Debug, Clone)]
pub(in super::super) enum Rows {
    Dense(Layer),
    Map(Box<[u8; 256]>),
}

/// See the module. Input: x. The weights are constants of its own.
#[derive(Debug)]
pub(in super::super) struct IntegerChain {
    pub(in super::super) isa: Isa,
    /// Images, or rows.
    pub(in super::super) n: usize,
    /// What the input becomes.
    pub(in super::super) enter: Meaning,
    /// Where each image lies, from the input on, and what is beyond it.
    pub(in super::super) frames: Vec<(Frame, u8)>,
    pub(in super::super) images: Vec<Image>,
    /// With what each gives a row.
    pub(in super::super) rows: Vec<(Rows, usize)>,
    /// What comes out; `None` where floats do already.
    pub(in super::super) exit: Option<Meaning>,
}

impl IntegerChain {
    /// Bytes of a row once images are rows.
    fn features(&self) -> usize {
        self.frames.last().map_or(0, |(frame, _)| frame.len())
    }

    /// Bytes for rows: each of two places in turn.
    fn row_bytes(&self) -> usize {
        if self.rows.is_empty() {
            return 0;
        }
        let widest = self.rows.iter().map(|(_, n)| *n).fold(self.features(), usize::max);
        self.n * widest + SLACK
    }

    fn image_bytes(&self) -> usize {
        self.frames.iter().map(|(frame, _)| frame.len() + SLACK).sum()
    }

    /// One image, through all frames; the last one's bytes go to `to`, or its floats to `y`.
    fn image(&self, x: &[f32], mut bytes: &mut [u8], to: Option<&mut [u8]>, y: &mut [f32]) {
        let mut cut = |frame: &Frame, fill: u8| {
            let place = bytes.split_off_mut(..frame.len() + SLACK).unwrap_or_default();
            if frame.before != [0, 0] || frame.behind != [0, 0] {
                place.fill(fill);
            }
            place
        };
        let (mut from, fill) = self.frames[0];
        let mut now = cut(&from, fill);
        quantize(self.isa, x, self.enter.scale, self.enter.zero, &from, now);
        for (stage, (frame, fill)) in self.images.iter().zip(&self.frames[1..]) {
            let next = cut(frame, *fill);
            match stage {
                Image::Convolution { layer, stride } => convolve(layer, *stride, &from, now, frame, next),
                Image::MaxPool { window, stride, dilation } => {
                    max_pool(self.isa, now, &from, *window, *stride, *dilation, next, frame);
                }
                Image::Map(table) => map(now, &from, table, next, frame),
            }
            (from, now) = (*frame, next);
        }
        match (to, self.exit) {
            (Some(to), _) => to.copy_from_slice(&now[..from.len()]),
            (None, Some(Meaning { scale, zero })) => dequantize(now, scale, zero, &from, y),
            (None, None) => {}
        }
    }

    /// All rows, from the first of two places.
    fn all_rows(&self, bytes: &mut [u8], y: &mut [f32]) {
        let half = bytes.len() / 2;
        let (mut now, mut next) = bytes.split_at_mut(half);
        let mut width = self.features();
        for (stage, n) in &self.rows {
            match stage {
                Rows::Dense(layer) => {
                    let places = Places {
                        count: [1, self.n],
                        x: [0, width],
                        y: [0, *n],
                    };
                    let to = match layer.bytes {
                        Some((zero, least)) => To::Bytes {
                            y: next,
                            zero,
                            least,
                            most: u8::MAX,
                        },
                        None => To::Floats { y, relu: layer.relu },
                    };
                    product(&layer.weights, &layer.runs, &layer.rescale, places, now, to);
                }
                Rows::Map(table) => {
                    let frame = Frame::bare(1, [self.n, width]);
                    map(now, &frame, table, next, &frame);
                }
            }
            (now, next) = (next, now);
            width = *n;
        }
        if let Some(Meaning { scale, zero }) = self.exit {
            dequantize(now, scale, zero, &Frame::bare(1, [self.n, width]), y);
        }
    }
}

fn convolve(layer: &Layer, stride: [usize; 2], from: &Frame, x: &[u8], to: &Frame, y: &mut [u8]) {
    let places = Places {
        count: to.size,
        x: [stride[0] * from.row(), stride[1] * from.channels],
        y: [to.row(), to.channels],
    };
    let (zero, least) = layer.bytes.unwrap_or_default();
    let to = To::Bytes {
        y: &mut y[to.first()..],
        zero,
        least,
        most: u8::MAX,
    };
    product(&layer.weights, &layer.runs, &layer.rescale, places, x, to);
}

impl Operation for IntegerChain {
    fn needs(&self, _threads: usize) -> Needs {
        Needs {
            kept_bytes: self.image_bytes() + 2 * self.row_bytes(),
            ..Needs::default()
        }
    }

    fn forward(&self, io: Forward<'_>) {
        let x = io.input(0);
        let [y, ..] = io.outputs;
        let (images, rows) = io.kept_bytes.split_at_mut(self.image_bytes());
        let (x_len, features) = (x.len() / self.n, self.features());
        let y_len = y.len() / self.n;
        for (i, x) in x.chunks(x_len.max(1)).enumerate() {
            if self.rows.is_empty() {
                self.image(x, images, None, &mut y[i * y_len..][..y_len]);
            } else {
                self.image(x, images, Some(&mut rows[i * features..][..features]), &mut []);
            }
        }
        if !self.rows.is_empty() {
            self.all_rows(rows, y);
        }
    }

    /// It stands in plans that run forward alone.
    fn is_differentiable(&self, _output: usize) -> bool {
        false
    }

    fn backward(&self, _io: Backward<'_>) {}
}
