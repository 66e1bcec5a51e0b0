//! Residual networks.

use super::builder::{Axis, BATCH, Builder};
use super::error::{in_range, size};
use super::init::{Scheme, Then};
use super::layers::Conv;
use super::{Activation, BuildError, Image, InitialWeights};
use crate::Model;

/// ResNet-18 for small images: input `x` `[batch, channels, height, width]`, a 3x3 stem without pooling, four stages of two blocks,
/// global average pooling, output `logits` `[batch, classes]`. 11,173,962 parameters for CIFAR-10, and 9,600 running statistics.
///
/// First weights: convolutions normal with variance 2 / fan out, batch norms 1 and 0 but each block's last one 0 and 0, so that every
/// block begins as its shortcut; the last layer Glorot-uniform.
///
/// # Source
/// He et al. 2016, Deep Residual Learning for Image Recognition, table 1 (the stem: section 4.2). The zeros: Goyal et al. 2017,
/// Accurate, Large Minibatch SGD, section 5.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResNet18 {
    /// Shape of a sample.
    pub image: Image,
    /// Classes.
    pub classes: usize,
    /// Channels of the first stage; later ones have 2, 4 and 8 times as many. 64 is the original.
    pub width: usize,
}

impl Default for ResNet18 {
    fn default() -> Self {
        Self {
            image: Image::CIFAR,
            classes: 10,
            width: 64,
        }
    }
}

impl ResNet18 {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        self.image.check(8)?;
        size("the number of classes", self.classes)?;
        in_range("the width of the first stage", self.width, 1..=1024)?;
        let mut builder = Builder::new("resnet18", weights);
        let x = self.image.input(&mut builder);
        let mut value = conv_norm(
            &mut builder,
            ("conv1", "bn1"),
            &x,
            (self.image.channels, self.width),
            &[3, 3],
            1,
            1.0,
        )?;
        value = builder.activation(Activation::Relu, "relu", &value);
        let mut channels = self.width;
        for stage in 0..4 {
            let channels_out = self.width << stage;
            for block in 0..2 {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                let name = format!("layer{}.{block}", stage + 1);
                value = basic_block(&mut builder, &name, &value, (channels, channels_out), stride)?;
                channels = channels_out;
            }
        }
        value = builder.global_average(&value);
        value = builder.linear("fc", &value, (channels, self.classes), Then::Other)?;
        builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.classes)]);
        builder.finish()
    }
}

fn basic_block(builder: &mut Builder, name: &str, x: &str, channels: (usize, usize), stride: usize) -> Result<String, BuildError> {
    let part = |part: &str| format!("{name}.{part}");
    let channels_out = channels.1;
    let mut value = conv_norm(builder, (&part("conv1"), &part("bn1")), x, channels, &[3, 3], stride, 1.0)?;
    value = builder.activation(Activation::Relu, &part("relu1"), &value);
    value = conv_norm(
        builder,
        (&part("conv2"), &part("bn2")),
        &value,
        (channels_out, channels_out),
        &[3, 3],
        1,
        0.0,
    )?;
    let shortcut = if stride == 1 && channels.0 == channels_out {
        x.to_owned()
    } else {
        conv_norm(
            builder,
            (&part("downsample.0"), &part("downsample.1")),
            x,
            channels,
            &[1, 1],
            stride,
            1.0,
        )?
    };
    let sum = builder.node("Add", &part("add"), &[&value, &shortcut], vec![]);
    Ok(builder.activation(Activation::Relu, &part("relu2"), &sum))
}

/// A convolution without bias, and its batch norm with the scale `scale`.
fn conv_norm(
    builder: &mut Builder,
    (conv, norm): (&str, &str),
    input: &str,
    channels: (usize, usize),
    kernel: &[usize],
    stride: usize,
    scale: f32,
) -> Result<String, BuildError> {
    let layer = Conv {
        stride,
        bias: false,
        scheme: Scheme::HeNormalFanOut,
        ..Conv::same(conv, channels, kernel)
    };
    let value = builder.conv(&layer, input)?;
    builder.batch_norm_scaled(norm, &value, channels.1, scale)
}
