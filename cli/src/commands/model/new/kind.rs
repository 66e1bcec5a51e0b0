//! The kinds of models and their sizes on the command line.

mod images;
mod sequences;
mod tables;

use std::str::FromStr;

use aimass_onnx::Model;
use aimass_onnx::build::{BuildError, Cell, Image, InitialWeights, McMahanCnn};
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use self::images::{AutoencoderArgs, CnnArgs, LenetArgs, Mobilenetv2Args, Resnet18Args};
use self::sequences::{Conv1dArgs, RecurrentArgs, RecurrentLmArgs, TransformerArgs, TransformerLmArgs};
use self::tables::{GcnArgs, LinearArgs, LogisticArgs, MlpArgs, RecommenderArgs};

#[derive(Debug, Subcommand)]
pub(crate) enum Kind {
    /// Linear regression: numbers from features.
    Linear(LinearArgs),
    /// Logistic regression: a class from features.
    Logistic(LogisticArgs),
    /// Multi-layer perceptron: a class from features.
    Mlp(MlpArgs),
    /// Small convolutional network: a class from an image.
    Cnn(CnnArgs),
    /// McMahan et al.'s network for MNIST: 28x28 images, 10 classes, 1,663,370 parameters.
    CnnMcmahan,
    /// LeNet-5 with tanh and average pooling: a class from an image.
    Lenet(LenetArgs),
    /// ResNet-18 for small images, with batch norm: a class from an image.
    Resnet18(Resnet18Args),
    /// MobileNetV2, with depthwise convolutions and batch norm: a class from an image.
    Mobilenetv2(Mobilenetv2Args),
    /// Convolutions over time, for sensors and audio: a class from series.
    Conv1d(Conv1dArgs),
    /// Convolutional autoencoder: an image from itself.
    Autoencoder(AutoencoderArgs),
    /// LSTM language model: the next token from those before.
    LstmLm(RecurrentLmArgs),
    /// GRU language model: the next token from those before.
    GruLm(RecurrentLmArgs),
    /// LSTM over time steps: a class from a sequence of features.
    Lstm(RecurrentArgs),
    /// GRU over time steps: a class from a sequence of features.
    Gru(RecurrentArgs),
    /// Transformer encoder: a class from a sequence of tokens.
    Transformer(TransformerArgs),
    /// Causal transformer: the next token from those before.
    TransformerLm(TransformerLmArgs),
    /// Neural collaborative filtering: a rating from a user and an item.
    Recommender(RecommenderArgs),
    /// Graph convolutions over adjacency matrices: a class of each node, or of the graph.
    Gcn(GcnArgs),
}

impl Kind {
    pub(crate) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        match self {
            Self::Linear(args) => args.build(weights),
            Self::Logistic(args) => args.build(weights),
            Self::Mlp(args) => args.build(weights),
            Self::Cnn(args) => args.build(weights),
            Self::CnnMcmahan => McMahanCnn.build(weights),
            Self::Lenet(args) => args.build(weights),
            Self::Resnet18(args) => args.build(weights),
            Self::Mobilenetv2(args) => args.build(weights),
            Self::Conv1d(args) => args.build(weights),
            Self::Autoencoder(args) => args.build(weights),
            Self::LstmLm(args) => args.build(Cell::Lstm, weights),
            Self::GruLm(args) => args.build(Cell::Gru, weights),
            Self::Lstm(args) => args.build(Cell::Lstm, weights),
            Self::Gru(args) => args.build(Cell::Gru, weights),
            Self::Transformer(args) => args.build(weights),
            Self::TransformerLm(args) => args.build(weights),
            Self::Recommender(args) => args.build(weights),
            Self::Gcn(args) => args.build(weights),
        }
    }
}

/// A choice among values with names.
pub(super) fn named<T: Copy + Send + Sync>(all: &'static [T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|&value| name(value))).try_map(move |text| {
        let found = all.iter().copied().find(|&value| name(value) == text);
        found.ok_or_else(|| format!("{text:?} is none of the names"))
    })
}

/// `CHANNELSxHEIGHTxWIDTH`.
fn image(text: &str) -> Result<Image, String> {
    let wrong = || format!("{text:?} is no shape of an image: write channels, height and width, for instance 3x32x32");
    let lengths: Vec<usize> = text
        .split('x')
        .map(usize::from_str)
        .collect::<Result<_, _>>()
        .map_err(|_| wrong())?;
    match lengths[..] {
        [channels, height, width] => Ok(Image { channels, height, width }),
        _ => Err(wrong()),
    }
}
