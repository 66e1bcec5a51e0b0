//! Samples that are sequences: series, features over time, tokens.

use aimass_onnx::Model;
use aimass_onnx::build::{
    BuildError, Cell, Conv1d, InitialWeights, RecurrentClassifier, RecurrentLm, Stack, TransformerClassifier, TransformerLm,
};
use clap::Args as ClapArgs;

#[derive(Debug, ClapArgs)]
pub(crate) struct Conv1dArgs {
    /// Series a sample, for instance 3 for the axes of an accelerometer.
    #[arg(long, value_name = "N", default_value_t = Conv1d::default().channels)]
    channels: usize,
    /// Points a series.
    #[arg(long, value_name = "N", default_value_t = Conv1d::default().length)]
    length: usize,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = Conv1d::default().classes)]
    classes: usize,
    /// Channels that each convolution gives; each is followed by a pooling that halves the length.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = Conv1d::default().filters)]
    filters: Vec<usize>,
    /// Points that a convolution sees: an odd number.
    #[arg(long, value_name = "N", default_value_t = Conv1d::default().kernel)]
    kernel: usize,
    /// Put a batch norm after each convolution.
    #[arg(long)]
    batch_norm: bool,
    /// Share of the last features that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl Conv1dArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = Conv1d {
            channels: self.channels,
            length: self.length,
            classes: self.classes,
            filters: self.filters.clone(),
            kernel: self.kernel,
            batch_norm: self.batch_norm,
            dropout: self.dropout,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RecurrentLmArgs {
    /// Number of different tokens.
    #[arg(long, value_name = "N", default_value_t = RecurrentLm::new(Cell::Lstm).vocabulary)]
    vocabulary: usize,
    /// Width of a token's vector.
    #[arg(long, value_name = "N", default_value_t = RecurrentLm::new(Cell::Lstm).embedding)]
    embedding: usize,
    /// Width of the recurrent layers.
    #[arg(long, value_name = "N", default_value_t = RecurrentLm::new(Cell::Lstm).hidden)]
    hidden: usize,
    /// Number of recurrent layers.
    #[arg(long, value_name = "N", default_value_t = RecurrentLm::new(Cell::Lstm).layers)]
    layers: usize,
    /// Share of each layer's values that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl RecurrentLmArgs {
    pub(super) fn build(&self, cell: Cell, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = RecurrentLm {
            cell,
            vocabulary: self.vocabulary,
            embedding: self.embedding,
            hidden: self.hidden,
            layers: self.layers,
            dropout: self.dropout,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RecurrentArgs {
    /// Numbers a step.
    #[arg(long, value_name = "N", default_value_t = RecurrentClassifier::new(Cell::Lstm).features)]
    features: usize,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = RecurrentClassifier::new(Cell::Lstm).classes)]
    classes: usize,
    /// Width of the recurrent layers, a direction.
    #[arg(long, value_name = "N", default_value_t = RecurrentClassifier::new(Cell::Lstm).hidden)]
    hidden: usize,
    /// Number of recurrent layers.
    #[arg(long, value_name = "N", default_value_t = RecurrentClassifier::new(Cell::Lstm).layers)]
    layers: usize,
    /// Read the sequence backwards too.
    #[arg(long)]
    bidirectional: bool,
    /// Share of each layer's values that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl RecurrentArgs {
    pub(super) fn build(&self, cell: Cell, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = RecurrentClassifier {
            cell,
            features: self.features,
            classes: self.classes,
            hidden: self.hidden,
            layers: self.layers,
            bidirectional: self.bidirectional,
            dropout: self.dropout,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TransformerArgs {
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = TransformerClassifier::default().classes)]
    classes: usize,
    #[command(flatten)]
    stack: StackArgs,
}

impl TransformerArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = TransformerClassifier {
            classes: self.classes,
            stack: self.stack.sizes(),
        };
        sizes.build(weights)
    }
}

/// Embeddings and layers of a transformer.
#[derive(Debug, ClapArgs)]
pub(crate) struct StackArgs {
    /// Number of different tokens.
    #[arg(long, value_name = "N", default_value_t = Stack::default().vocabulary)]
    vocabulary: usize,
    /// Longest sequence that the model can read.
    #[arg(long, value_name = "N", default_value_t = Stack::default().max_sequence)]
    max_sequence: usize,
    /// Width of a token's vector.
    #[arg(long, value_name = "N", default_value_t = Stack::default().width)]
    width: usize,
    /// Attention heads, which divide the width.
    #[arg(long, value_name = "N", default_value_t = Stack::default().heads)]
    heads: usize,
    /// Number of layers.
    #[arg(long, value_name = "N", default_value_t = Stack::default().layers)]
    layers: usize,
    /// Width of the feed-forward networks.
    #[arg(long, value_name = "N", default_value_t = Stack::default().feed_forward)]
    feed_forward: usize,
    /// Share of each sublayer's output that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl StackArgs {
    fn sizes(&self) -> Stack {
        Stack {
            vocabulary: self.vocabulary,
            max_sequence: self.max_sequence,
            width: self.width,
            heads: self.heads,
            layers: self.layers,
            feed_forward: self.feed_forward,
            dropout: self.dropout,
        }
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TransformerLmArgs {
    #[command(flatten)]
    stack: StackArgs,
}

impl TransformerLmArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = TransformerLm { stack: self.stack.sizes() };
        sizes.build(weights)
    }
}
