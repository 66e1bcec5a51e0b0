//! Samples that are numbers: features, identifiers, graphs.

use aimass_onnx::Model;
use aimass_onnx::build::{Activation, BuildError, Gcn, InitialWeights, LinearRegression, LogisticRegression, Mlp, Readout, Recommender};
use clap::Args as ClapArgs;

use super::named;

#[derive(Debug, ClapArgs)]
pub(crate) struct LinearArgs {
    /// Numbers a sample.
    #[arg(long, value_name = "N", default_value_t = LinearRegression::default().features)]
    features: usize,
    /// Numbers to predict.
    #[arg(long, value_name = "N", default_value_t = LinearRegression::default().outputs)]
    outputs: usize,
}

impl LinearArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = LinearRegression {
            features: self.features,
            outputs: self.outputs,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct LogisticArgs {
    /// Numbers a sample.
    #[arg(long, value_name = "N", default_value_t = LogisticRegression::default().features)]
    features: usize,
    /// Classes; 1 for a single logit.
    #[arg(long, value_name = "N", default_value_t = LogisticRegression::default().classes)]
    classes: usize,
}

impl LogisticArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = LogisticRegression {
            features: self.features,
            classes: self.classes,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct MlpArgs {
    /// Features, widths of the hidden layers, classes.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = Mlp::default().sizes)]
    sizes: Vec<usize>,
    /// Between the layers.
    #[arg(long, default_value = Activation::Relu.name(), value_parser = named(&Activation::ALL, Activation::name))]
    activation: Activation,
    /// Put a batch norm after each hidden layer.
    #[arg(long)]
    batch_norm: bool,
    /// Share of each hidden layer that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl MlpArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = Mlp {
            sizes: self.sizes.clone(),
            activation: self.activation,
            batch_norm: self.batch_norm,
            dropout: self.dropout,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RecommenderArgs {
    /// Number of users.
    #[arg(long, value_name = "N", default_value_t = Recommender::default().users)]
    users: usize,
    /// Number of items.
    #[arg(long, value_name = "N", default_value_t = Recommender::default().items)]
    items: usize,
    /// Width of a user's and of an item's vector.
    #[arg(long, value_name = "N", default_value_t = Recommender::default().embedding)]
    embedding: usize,
    /// Widths of the hidden layers.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = Recommender::default().hidden)]
    hidden: Vec<usize>,
    /// Share of each hidden layer that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl RecommenderArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = Recommender {
            users: self.users,
            items: self.items,
            embedding: self.embedding,
            hidden: self.hidden.clone(),
            dropout: self.dropout,
        };
        sizes.build(weights)
    }
}

#[derive(Debug, ClapArgs)]
pub(crate) struct GcnArgs {
    /// Numbers a node.
    #[arg(long, value_name = "N", default_value_t = Gcn::default().features)]
    features: usize,
    /// Widths of the layers before the last.
    #[arg(long, value_name = "N,N,...", value_delimiter = ',', default_values_t = Gcn::default().hidden)]
    hidden: Vec<usize>,
    /// Classes.
    #[arg(long, value_name = "N", default_value_t = Gcn::default().classes)]
    classes: usize,
    /// What is classified.
    #[arg(long, default_value = Readout::Nodes.name(), value_parser = named(&Readout::ALL, Readout::name))]
    readout: Readout,
    /// Share of each hidden layer that is dropped while training.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    dropout: f64,
}

impl GcnArgs {
    pub(super) fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        let sizes = Gcn {
            features: self.features,
            hidden: self.hidden.clone(),
            classes: self.classes,
            readout: self.readout,
            dropout: self.dropout,
        };
        sizes.build(weights)
    }
}
