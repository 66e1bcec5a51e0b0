//! Samples that are images.

use aimass_onnx::Model;
use aimass_onnx::build::{Autoencoder, BuildError, Cnn, Image, InitialWeights, LeNet, MobileNetV2, ResNet18};
use clap::Args as ClapArgs;

use super::image;

#[derive(Debug, ClapArgs)]
pub(crate) struct CnnArgs {
    /// Shape of an image: channels, height and width in pixels.
    #[arg(long, value_name = "CxHxW", default_value = "1x28x28", value_parser = image)]
    input: Image,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = Cnn::default().classes)]
    classes: usize,
    /// Channels that each 3x3 convolution gives; each is followed by a pooling that halves the image.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = Cnn::default().channels)]
    channels: Vec<usize>,
    /// Width of the fully connected layer.
    #[arg(long, value_name = "N", default_value_t = Cnn::default().hidden)]
    hidden: usize,
    /// Put a batch norm after each convolution.
    #[arg(long)]
    batch_norm: bool,
    /// Share of the fully connected layer that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl CnnArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = Cnn {
            image: self.input,
            classes: self.classes,
            channels: self.channels.clone(),
            hidden: self.hidden,
            batch_norm: self.batch_norm,
            dropout: self.dropout,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LenetArgs {
    /// Shape of an image: channels, height and width in pixels.
    #[arg(long, value_name = "CxHxW", default_value = "1x28x28", value_parser = image)]
    input: Image,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = LeNet::default().classes)]
    classes: usize,
}

impl LenetArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = LeNet {
            image: self.input,
            classes: self.classes,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Resnet18Args {
    /// Shape of an image: channels, height and width in pixels.
    #[arg(long, value_name = "CxHxW", default_value = "3x32x32", value_parser = image)]
    input: Image,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = ResNet18::default().classes)]
    classes: usize,
    /// Channels of the first stage; later ones have 2, 4 and 8 times as many.
    #[arg(long, value_name = "N", default_value_t = ResNet18::default().width)]
    width: usize,
}

impl Resnet18Args {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = ResNet18 {
            image: self.input,
            classes: self.classes,
            width: self.width,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct Mobilenetv2Args {
    /// Shape of an image: channels, height and width in pixels.
    #[arg(long, value_name = "CxHxW", default_value = "3x32x32", value_parser = image)]
    input: Image,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = MobileNetV2::default().classes)]
    classes: usize,
    /// Factor of all numbers of channels, 0.1 to 4.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    width: f64,
    /// Share of the last features that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl Mobilenetv2Args {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = MobileNetV2 {
            image: self.input,
            classes: self.classes,
            width: self.width,
            dropout: self.dropout,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AutoencoderArgs {
    /// Shape of an image: channels, height and width in pixels.
    #[arg(long, value_name = "CxHxW", default_value = "1x28x28", value_parser = image)]
    input: Image,
    /// Channels that each convolution gives; each halves the image.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = Autoencoder::default().channels)]
    channels: Vec<usize>,
    /// Width of the bottleneck; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 32)]
    latent: usize,
}

impl AutoencoderArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = Autoencoder {
            image: self.input,
            channels: self.channels.clone(),
            latent: (self.latent > 0).then_some(self.latent),
        };
        sizes.build(weights)
    }
}
