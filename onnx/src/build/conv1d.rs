//! Convolutions over time.

use super::builder::{Axis, BATCH, Builder};
use super::error::{BuildError, dropout, in_range, size, sizes};
use super::init::Then;
use super::layers::Conv;
use super::{Activation, InitialWeights};
use crate::Model;
use crate::proto::DataType;

/// A classifier of series, for sensors or audio: input `x` `[batch, channels, length]`; for each entry of `filters` a convolution, a
/// batch norm if asked for, ReLU and max pooling by 2; the mean over time, dropout, output `logits` `[batch, classes]`.
/// First weights: He-uniform, the last layer Glorot-uniform, biases 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv1d {
    /// Series a sample, for instance 3 for the axes of an accelerometer.
    pub channels: usize,
    /// Points a series.
    pub length: usize,
    /// Classes.
    pub classes: usize,
    /// Channels that each convolution gives; each is followed by a pooling that halves the length.
    pub filters: Vec<usize>,
    /// Points that a convolution sees: an odd number.
    pub kernel: usize,
    /// Whether a batch norm follows each convolution.
    pub batch_norm: bool,
    /// Share of the last features that is dropped while training.
    pub dropout: f64,
}

impl Default for Conv1d {
    fn default() -> Self {
        Self {
            channels: 1,
            length: 128,
            classes: 10,
            filters: vec![32, 64, 128],
            kernel: 5,
            batch_norm: false,
            dropout: 0.0,
        }
    }
}

impl Conv1d {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range, the series too short for so many poolings, or the kernel even.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        in_range("the number of convolutions", self.filters.len(), 1..=16)?;
        sizes("the number of convolutions", "a number of filters", &self.filters)?;
        size("the number of channels", self.channels)?;
        in_range("the length", self.length, 1 << self.filters.len()..=1 << 24)?;
        size("the number of classes", self.classes)?;
        in_range("the kernel", self.kernel, 1..=1023)?;
        if self.kernel.is_multiple_of(2) {
            return Err(BuildError::Even {
                what: "the kernel",
                found: self.kernel,
            });
        }
        dropout(self.dropout)?;
        let mut builder = Builder::new("conv1d", weights);
        let mut value = builder.input("x", DataType::Float, &[BATCH, Axis::Fixed(self.channels), Axis::Fixed(self.length)]);
        let mut channels = self.channels;
        for (i, &filters) in self.filters.iter().enumerate() {
            let layer = i + 1;
            value = builder.conv(&Conv::same(&format!("conv{layer}"), (channels, filters), &[self.kernel]), &value)?;
            if self.batch_norm {
                value = builder.batch_norm(&format!("bn{layer}"), &value, filters)?;
            }
            value = builder.activation(Activation::Relu, &format!("relu{layer}"), &value);
            value = builder.pool("MaxPool", &format!("pool{layer}"), &value, 1);
            channels = filters;
        }
        value = builder.global_average(&value);
        value = builder.dropout("dropout", &value, self.dropout);
        value = builder.linear("fc", &value, (channels, self.classes), Then::Other)?;
        builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.classes)]);
        builder.finish()
    }
}
