//! Networks of depthwise convolutions.

use super::builder::{Axis, BATCH, Builder};
use super::error::{dropout, factor, size};
use super::init::{Scheme, Then};
use super::layers::Conv;
use super::{BuildError, Image, InitialWeights};
use crate::Model;

/// Shorter sides than this are reduced by 8, not by 32.
const SMALL_SIDE: usize = 96;

/// MobileNetV2: input `x` `[batch, channels, height, width]`, output `logits` `[batch, classes]`; 2,236,682 parameters for three colours
/// and ten classes, whatever the image's size. Images with a side below 96 pixels keep the first two reductions' resolution.
///
/// First weights: convolutions normal with variance 2 / fan out, batch norms 1 and 0, the last layer Glorot-uniform.
///
/// # Source
/// Sandler et al. 2018, MobileNetV2: Inverted Residuals and Linear Bottlenecks, table 2; channels rounded as by torchvision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MobileNetV2 {
    /// Shape of a sample.
    pub image: Image,
    /// Classes.
    pub classes: usize,
    /// Factor of all numbers of channels, 0.1 to 4.
    pub width: f64,
    /// Share of the last features that is dropped while training.
    pub dropout: f64,
}

impl Default for MobileNetV2 {
    fn default() -> Self {
        Self {
            image: Image::CIFAR,
            classes: 10,
            width: 1.0,
            dropout: 0.0,
        }
    }
}

/// Expansion, channels, blocks, stride of the first block.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

impl MobileNetV2 {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        self.image.check(8)?;
        size("the number of classes", self.classes)?;
        factor("the width factor", self.width, 0.1..=4.0)?;
        dropout(self.dropout)?;
        let small = self.image.height.min(self.image.width) < SMALL_SIDE;
        let mut builder = Builder::new("mobilenetv2", weights);
        let mut value = self.image.input(&mut builder);
        let mut channels = rounded(32.0 * self.width);
        let stem = unit(self.image.channels, channels).of_3x3(if small { 1 } else { 2 });
        value = stem.add(&mut builder, ("features.0.0", "features.0.1"), &value)?;
        value = relu6(&mut builder, "features.0.2", &value);
        let mut index = 1;
        for (stage, (expansion, channels_out, blocks, stride)) in STAGES.into_iter().enumerate() {
            let channels_out = rounded(channels_out as f64 * self.width);
            for block in 0..blocks {
                let stride = if block > 0 || small && stage == 1 { 1 } else { stride };
                value = inverted_residual(&mut builder, index, &value, (channels, channels_out), expansion, stride)?;
                channels = channels_out;
                index += 1;
            }
        }
        let last = rounded(1280.0 * self.width.max(1.0));
        let name = |part: usize| format!("features.{index}.{part}");
        value = unit(channels, last).add(&mut builder, (&name(0), &name(1)), &value)?;
        value = relu6(&mut builder, &name(2), &value);
        value = builder.global_average(&value);
        value = builder.dropout("classifier.0", &value, self.dropout);
        value = builder.linear("classifier.1", &value, (last, self.classes), Then::Other)?;
        builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.classes)]);
        builder.finish()
    }
}

fn inverted_residual(
    builder: &mut Builder,
    index: usize,
    x: &str,
    (channels, channels_out): (usize, usize),
    expansion: usize,
    stride: usize,
) -> Result<String, BuildError> {
    let name = |part: String| format!("features.{index}.conv.{part}");
    let hidden = channels * expansion;
    let mut value = x.to_owned();
    let mut part = 0;
    if expansion > 1 {
        value = unit(channels, hidden).add(builder, (&name("0.0".into()), &name("0.1".into())), &value)?;
        value = relu6(builder, &name("0.2".into()), &value);
        part = 1;
    }
    let depthwise = unit(hidden, hidden).of_3x3(stride).depthwise();
    value = depthwise.add(builder, (&name(format!("{part}.0")), &name(format!("{part}.1"))), &value)?;
    value = relu6(builder, &name(format!("{part}.2")), &value);
    let project = unit(hidden, channels_out);
    value = project.add(builder, (&name(format!("{}", part + 1)), &name(format!("{}", part + 2))), &value)?;
    if stride != 1 || channels != channels_out {
        return Ok(value);
    }
    Ok(builder.node("Add", &format!("features.{index}.add"), &[x, &value], vec![]))
}

/// A convolution without bias and its batch norm.
#[derive(Debug, Clone, Copy)]
struct Unit {
    channels: (usize, usize),
    kernel: &'static [usize],
    stride: usize,
    groups: usize,
}

/// One of 1x1.
fn unit(channels_in: usize, channels_out: usize) -> Unit {
    Unit {
        channels: (channels_in, channels_out),
        kernel: &[1, 1],
        stride: 1,
        groups: 1,
    }
}

impl Unit {
    fn of_3x3(self, stride: usize) -> Self {
        Self {
            kernel: &[3, 3],
            stride,
            ..self
        }
    }

    fn depthwise(self) -> Self {
        Self {
            groups: self.channels.0,
            ..self
        }
    }

    fn add(self, builder: &mut Builder, (conv, norm): (&str, &str), input: &str) -> Result<String, BuildError> {
        let layer = Conv {
            stride: self.stride,
            groups: self.groups,
            bias: false,
            scheme: Scheme::HeNormalFanOut,
            ..Conv::same(conv, self.channels, self.kernel)
        };
        let value = builder.conv(&layer, input)?;
        builder.batch_norm(norm, &value, self.channels.1)
    }
}

/// min(max(x, 0), 6), a Clip as PyTorch exports it.
fn relu6(builder: &mut Builder, name: &str, input: &str) -> String {
    let (low, high) = (builder.scalar("relu6.min", 0.0), builder.scalar("relu6.max", 6.0));
    builder.node("Clip", name, &[input, &low, &high], vec![])
}

/// The nearest multiple of 8 that is at least 8 and takes away at most a tenth.
fn rounded(channels: f64) -> usize {
    let nearest = ((channels as usize + 4) / 8 * 8).max(8);
    if (nearest as f64) < 0.9 * channels { nearest + 8 } else { nearest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_rounded_as_by_torchvision() {
        // torchvision.models._utils._make_divisible(v, 8)
        for (channels, expected) in [
            (3.2, 8),
            (11.2, 16),
            (12.0, 16),
            (16.0, 16),
            (22.4, 24),
            (33.6, 32),
            (44.0, 48),
            (1792.0, 1792),
        ] {
            assert_eq!(rounded(channels), expected, "{channels}");
        }
    }
}
