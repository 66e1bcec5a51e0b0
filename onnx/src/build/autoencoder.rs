//! Networks that give back what they see.

use super::builder::Builder;
use super::error::{BuildError, in_range, product, size, sizes};
use super::init::{InitialWeights, Then};
use super::layers::Conv;
use super::{Activation, Image};
use crate::Model;

/// A convolutional autoencoder: input `x` and output `y` `[batch, channels, height, width]`; for each entry of `channels` a 3x3
/// convolution of stride 2 with ReLU, a fully connected bottleneck if asked for, and transposed convolutions back.
/// First weights: He-uniform, the last layer Glorot-uniform, biases 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Autoencoder {
    /// Shape of a sample; 2 to the number of convolutions divides both sides.
    pub image: Image,
    /// Channels that each convolution gives; each halves the image.
    pub channels: Vec<usize>,
    /// Width of the bottleneck; `None`: the last convolution's output is the code.
    pub latent: Option<usize>,
}

impl Default for Autoencoder {
    fn default() -> Self {
        Self {
            image: Image::MNIST,
            channels: vec![16, 32],
            latent: Some(32),
        }
    }
}

impl Autoencoder {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range, or the image can't be halved so often.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        self.check()?;
        let mut builder = Builder::new("autoencoder", weights);
        let mut value = self.image.input(&mut builder);
        let mut channels = self.image.channels;
        for (i, &channels_out) in self.channels.iter().enumerate() {
            let name = format!("encoder.conv{}", i + 1);
            let conv = Conv {
                stride: 2,
                ..Conv::same(&name, (channels, channels_out), &[3, 3])
            };
            value = builder.conv(&conv, &value)?;
            value = builder.activation(Activation::Relu, &format!("encoder.relu{}", i + 1), &value);
            channels = channels_out;
        }
        if let Some(latent) = self.latent {
            value = self.bottleneck(&mut builder, &value, latent)?;
        }
        let back = self.channels.iter().rev().skip(1).chain([&self.image.channels]);
        for (i, &channels_out) in back.enumerate() {
            let last = i + 1 == self.channels.len();
            let then = if last { Then::Other } else { Then::Rectifier };
            value = builder.upsample(&format!("decoder.conv{}", i + 1), &value, (channels, channels_out), then)?;
            if !last {
                value = builder.activation(Activation::Relu, &format!("decoder.relu{}", i + 1), &value);
            }
            channels = channels_out;
        }
        builder.output(&value, "y", &self.image.axes());
        builder.finish()
    }

    fn check(&self) -> Result<(), BuildError> {
        in_range("the number of convolutions", self.channels.len(), 1..=8)?;
        sizes("the number of convolutions", "a number of channels", &self.channels)?;
        let divisor = 1 << self.channels.len();
        self.image.check(divisor)?;
        for (what, found) in [("the image's height", self.image.height), ("the image's width", self.image.width)] {
            if !found.is_multiple_of(divisor) {
                return Err(BuildError::NotDivisible {
                    what,
                    found,
                    divisor,
                    why: "2 for each convolution",
                });
            }
        }
        self.latent.map_or(Ok(()), |latent| size("the width of the bottleneck", latent))
    }

    /// To `latent` numbers and back to the image that the convolutions gave.
    fn bottleneck(&self, builder: &mut Builder, input: &str, latent: usize) -> Result<String, BuildError> {
        let halved = |length: usize| length >> self.channels.len();
        let shape = [
            *self.channels.last().unwrap_or(&self.image.channels),
            halved(self.image.height),
            halved(self.image.width),
        ];
        let flat = product(&shape)?;
        let mut value = builder.flatten("encoder.flatten", input);
        value = builder.linear("encoder.fc", &value, (flat, latent), Then::Other)?;
        value = builder.linear("decoder.fc", &value, (latent, flat), Then::Rectifier)?;
        value = builder.activation(Activation::Relu, "decoder.relu0", &value);
        let [channels, height, width] = shape.map(|length| length as i64);
        Ok(builder.reshape("decoder.reshape", &value, &[0, channels, height, width]))
    }
}
