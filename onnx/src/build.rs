//! Makes models from scratch, so that nobody needs Python to start.
//!
//! One type an architecture. Its fields are the model's sizes, its `Default` is a sound choice of them, and its `build` checks them, draws
//! the first weights and returns the model. The same fields and the same [`InitialWeights`] give the same bytes on every machine.
//!
//! # Conventions
//! - Opset 17. The first axis of every input and output is `batch`, of any length; so is `sequence` where there is one.
//! - The first input is `x` (float32) or `tokens` (int64); two-input models name theirs. The output is `logits` where a cross-entropy
//!   follows, otherwise `y`.
//! - Initializers are the parameters and nothing else, named as PyTorch names them (`fc1.weight`, `layer1.0.bn1.running_mean`); other
//!   constants are Constant nodes. Gemm and Conv weights have PyTorch's shapes, those of MatMul are `[in, out]`, those of LSTM and GRU
//!   are ONNX's: `weight_ih_l0` `[directions, gates hidden, in]` and so on, gates in ONNX's order.

mod autoencoder;
mod builder;
mod cnn;
mod conv1d;
mod error;
mod gcn;
mod image;
mod init;
mod layers;
mod mlp;
mod mobilenet;
mod random;
mod recommender;
mod recurrent;
mod regression;
mod resnet;
mod transformer;

pub use autoencoder::Autoencoder;
pub use cnn::{Cnn, LeNet, MCMAHAN_CNN_WEIGHTS, McMahanCnn, cnn_mcmahan};
pub use conv1d::Conv1d;
pub use error::{BuildError, MAX_PARAMETERS};
pub use gcn::{Gcn, Readout};
pub use image::Image;
pub use init::{Init, InitialWeights};
pub use layers::Activation;
pub use mlp::{Mlp, mlp};
pub use mobilenet::MobileNetV2;
pub use recommender::Recommender;
pub use recurrent::{Cell, RecurrentClassifier, RecurrentLm};
pub use regression::{LinearRegression, LogisticRegression};
pub use resnet::ResNet18;
pub use transformer::{Stack, TransformerClassifier, TransformerLm};

#[cfg(test)]
mod tests;
