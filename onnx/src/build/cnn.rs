//! Small convolutional networks.

use super::builder::{Axis, BATCH, Builder};
use super::error::{dropout, in_range, product, size, sizes};
use super::init::{Scheme, Then};
use super::layers::Conv;
use super::{Activation, BuildError, Image, InitialWeights};
use crate::Model;

/// Weights of [`cnn_mcmahan`].
pub const MCMAHAN_CNN_WEIGHTS: usize = 1_663_370;

/// The convolutional network of McMahan et al. with its 1,663,370 parameters: input `x` `[batch, 1, 28, 28]`, two convolutions of 5x5
/// (32 and 64 channels, same padding) each with ReLU and 2x2 max pooling, a fully connected layer of 512 with ReLU, output `logits`
/// `[batch, 10]`. First weights: He-uniform, biases 0.
///
/// # Source
/// McMahan et al. 2017, Communication-Efficient Learning of Deep Networks from Decentralized Data (AISTATS), section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct McMahanCnn;

/// A small convolutional network: input `x` `[batch, channels, height, width]`; for each entry of `channels` a 3x3 convolution, a batch
/// norm if asked for, ReLU and 2x2 max pooling; a fully connected layer with ReLU and dropout; output `logits` `[batch, classes]`.
/// First weights: He-uniform, biases 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Cnn {
    /// Shape of a sample.
    pub image: Image,
    /// Classes.
    pub classes: usize,
    /// Channels that each convolution gives; each is followed by a pooling that halves the image.
    pub channels: Vec<usize>,
    /// Width of the fully connected layer.
    pub hidden: usize,
    /// Whether a batch norm follows each convolution.
    pub batch_norm: bool,
    /// Share of the fully connected layer's values that is dropped while training.
    pub dropout: f64,
}

/// LeNet-5 with tanh and average pooling, every map of the second convolution seeing all of the first: input `x`
/// `[batch, channels, height, width]`, output `logits` `[batch, classes]`; 61,706 parameters for MNIST. Images are padded by 2 pixels,
/// which makes 32 x 32 of MNIST's. First weights: Glorot-uniform, biases 0.
///
/// # Source
/// LeCun et al. 1998, Gradient-Based Learning Applied to Document Recognition, section II.B.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeNet {
    /// Shape of a sample.
    pub image: Image,
    /// Classes.
    pub classes: usize,
}

impl Default for Cnn {
    fn default() -> Self {
        Self {
            image: Image::MNIST,
            classes: 10,
            channels: vec![32, 64],
            hidden: 128,
            batch_norm: false,
            dropout: 0.0,
        }
    }
}

impl Default for LeNet {
    fn default() -> Self {
        Self {
            image: Image::MNIST,
            classes: 10,
        }
    }
}

impl McMahanCnn {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when the weights can't be drawn.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let cnn = Cnn {
            hidden: 512,
            ..Cnn::default()
        };
        cnn.assemble("cnn_mcmahan", &[5, 5], weights)
    }
}

/// The [`McMahanCnn`], its weights He-uniform from `seed`.
pub fn cnn_mcmahan(seed: u64) -> Model {
    match McMahanCnn.build(InitialWeights::seeded(seed)) {
        Ok(model) => model,
        Err(error) => unreachable!("a model of fixed sizes is refused: {error}"),
    }
}

impl Cnn {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range, or the image too small for so many poolings.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        self.assemble("cnn", &[3, 3], weights)
    }

    fn assemble(&self, name: &str, kernel: &[usize], weights: InitialWeights) -> Result<Model, BuildError> {
        in_range("the number of convolutions", self.channels.len(), 1..=12)?;
        self.image.check(1 << self.channels.len())?;
        sizes("the number of convolutions", "a number of channels", &self.channels)?;
        size("the width of the hidden layer", self.hidden)?;
        size("the number of classes", self.classes)?;
        dropout(self.dropout)?;
        let mut builder = Builder::new(name, weights);
        let mut value = self.image.input(&mut builder);
        let Image {
            mut channels,
            mut height,
            mut width,
        } = self.image;
        for (i, &channels_out) in self.channels.iter().enumerate() {
            let layer = i + 1;
            value = builder.conv(&Conv::same(&format!("conv{layer}"), (channels, channels_out), kernel), &value)?;
            if self.batch_norm {
                value = builder.batch_norm(&format!("bn{layer}"), &value, channels_out)?;
            }
            value = builder.activation(Activation::Relu, &format!("relu{layer}"), &value);
            value = builder.pool("MaxPool", &format!("pool{layer}"), &value, 2);
            (channels, height, width) = (channels_out, height / 2, width / 2);
        }
        value = builder.flatten("flatten", &value);
        value = builder.linear("fc1", &value, (product(&[channels, height, width])?, self.hidden), Then::Rectifier)?;
        value = builder.activation(Activation::Relu, &format!("relu{}", self.channels.len() + 1), &value);
        value = builder.dropout("dropout", &value, self.dropout);
        // As the MLP's last layer: these are the bytes that earlier versions gave.
        value = builder.linear("fc2", &value, (self.hidden, self.classes), Then::Rectifier)?;
        builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.classes)]);
        builder.finish()
    }
}

impl LeNet {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        self.image.check(12)?;
        size("the number of classes", self.classes)?;
        let mut builder = Builder::new("lenet", weights);
        let mut value = self.image.input(&mut builder);
        for (layer, channels, pad) in [(1, (self.image.channels, 6), 2), (2, (6, 16), 0)] {
            let name = format!("conv{layer}");
            let conv = Conv {
                pad,
                scheme: Scheme::GlorotUniform,
                then: Then::Other,
                ..Conv::same(&name, channels, &[5, 5])
            };
            value = builder.conv(&conv, &value)?;
            value = builder.activation(Activation::Tanh, &format!("tanh{layer}"), &value);
            value = builder.pool("AveragePool", &format!("pool{layer}"), &value, 2);
        }
        value = builder.flatten("flatten", &value);
        let side = |length: usize| (length / 2 - 4) / 2;
        let flat = product(&[16, side(self.image.height), side(self.image.width)])?;
        for (layer, size) in [(1, (flat, 120)), (2, (120, 84))] {
            value = builder.linear(&format!("fc{layer}"), &value, size, Then::Other)?;
            value = builder.activation(Activation::Tanh, &format!("tanh{}", layer + 2), &value);
        }
        value = builder.linear("fc3", &value, (84, self.classes), Then::Other)?;
        builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.classes)]);
        builder.finish()
    }
}
