//! Weights and activations in integers of 8 or 4 bits.
//!
//! Static quantization goes in three steps: [`observe()`] says which tensors to watch while the model runs on calibration data, an
//! [`Observed`] counts their values, [`int8`] stores the weights as integers. For quantization-aware training, [`fake()`] makes a graph that
//! computes in floats what the integer one will compute, and [`freeze()`] makes the trained one the integer one. [`dynamic`] needs no data,
//! [`blocks`] stores weights in 4 bits.

pub mod blocks;
pub mod dynamic;
mod error;
mod fake;
mod freeze;
mod histogram;
mod observe;
mod opset;
mod plan;
mod range;
mod weights;

use aimass_onnx::Model;

pub use error::QuantizeError;
pub use fake::fake;
pub use freeze::freeze;
pub use histogram::{BINS, Histogram, HistogramError, MAX_EXPONENT, MIN_EXPONENT, NonFinite};
pub use observe::{Observed, observe};
pub use range::{Activations, Method};

/// How a model is quantized.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// From what was seen of an activation to its range.
    pub method: Method,
    /// Type of quantized activations.
    pub activations: Activations,
    /// Whether each output channel of a weight has a scale of its own.
    pub per_channel: bool,
    /// 7 bits for weights: for processors whose 8-bit products saturate (x86 before VNNI).
    pub reduce_range: bool,
    /// Globs over names of nodes, of their first outputs and of their weights that stay in float32. `*` matches any characters.
    pub exclude: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            method: Method::MinMax,
            activations: Activations::U8,
            per_channel: true,
            reduce_range: false,
            exclude: Vec::new(),
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), QuantizeError> {
        match self.method {
            Method::Percentile(percent) if !(percent > 50.0 && percent <= 100.0) => Err(QuantizeError::Option {
                option: "the percentile",
                found: percent.to_string(),
                wanted: "use one above 50 and at most 100, such as 99.99",
            }),
            _ => Ok(()),
        }
    }

    /// What the largest magnitude of a channel becomes.
    fn largest(&self) -> f32 {
        if self.reduce_range { 63.0 } else { 127.0 }
    }
}

/// The static integer model: weights int8, activations by what was observed of them, as QuantizeLinear and DequantizeLinear nodes around
/// float operators ("QDQ"), which integer runtimes fuse. Biases are int32, with the product of both scales.
///
/// LSTM, GRU and RNN keep their computation in float32: their weights are stored as int8 with a scale a gate row, and so are tables that
/// Gather reads, with one scale.
///
/// # Errors
/// [`QuantizeError`].
/// # Source
/// Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference" (CVPR 2018), section 2.
pub fn int8(model: &Model, observed: &Observed, options: &Options) -> Result<Model, QuantizeError> {
    freeze(&fake(model, observed, options)?)
}

/// Weights alone as int8, a scale an output channel, each behind a DequantizeLinear; activations stay floats. The file is a quarter, and a runtime
/// that computes in floats, as tract does, is as fast as before: it makes the weights floats when it loads them.
///
/// # Errors
/// [`QuantizeError`].
pub fn int8_weights(model: &Model, options: &Options) -> Result<Model, QuantizeError> {
    freeze(&fake::weights(model, options)?)
}

#[cfg(test)]
pub(crate) mod tests;
