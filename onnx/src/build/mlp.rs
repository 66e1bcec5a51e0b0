//! Multi-layer perceptrons.

use super::builder::{Axis, BATCH, Builder};
use super::error::{MAX_LAYERS, dropout, in_range, sizes};
use super::{Activation, BuildError, InitialWeights};
use crate::Model;
use crate::proto::DataType;

/// A multi-layer perceptron: input `x` `[batch, sizes[0]]`, output `logits` `[batch, sizes.last()]`, layers as Gemm.
///
/// First weights: He-uniform for ReLU and GELU, Glorot-uniform for tanh; biases 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Mlp {
    /// Features, widths of the hidden layers, classes.
    pub sizes: Vec<usize>,
    /// Between the layers.
    pub activation: Activation,
    /// Whether a batch norm follows each hidden layer.
    pub batch_norm: bool,
    /// Share of each hidden layer's values that is dropped while training.
    pub dropout: f64,
}

impl Default for Mlp {
    fn default() -> Self {
        Self {
            sizes: vec![784, 200, 200, 10],
            activation: Activation::Relu,
            batch_norm: false,
            dropout: 0.0,
        }
    }
}

impl Mlp {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        in_range("the number of sizes", self.sizes.len(), 2..=MAX_LAYERS)?;
        sizes("the number of sizes", "a size", &self.sizes)?;
        dropout(self.dropout)?;
        let mut builder = Builder::new("mlp", weights);
        let last = self.sizes.len() - 1;
        let mut value = builder.input("x", DataType::Float, &[BATCH, Axis::Fixed(self.sizes[0])]);
        for (i, pair) in self.sizes.windows(2).enumerate() {
            let layer = i + 1;
            // The last layer too: these are the bytes that earlier versions gave.
            value = builder.linear(&format!("fc{layer}"), &value, (pair[0], pair[1]), self.activation.then())?;
            if layer == last {
                break;
            }
            if self.batch_norm {
                value = builder.batch_norm(&format!("bn{layer}"), &value, pair[1])?;
            }
            value = builder.activation(self.activation, &format!("{}{layer}", self.activation.name()), &value);
            value = builder.dropout(&format!("dropout{layer}"), &value, self.dropout);
        }
        builder.output(&value, "logits", &[BATCH, Axis::Fixed(self.sizes[last])]);
        builder.finish()
    }
}

/// The [`Mlp`] of these sizes with ReLU, its weights He-uniform from `seed`.
///
/// # Panics
/// When [`Mlp::build`] refuses the sizes: fewer than two, one that is 0, or too many parameters.
pub fn mlp(sizes: &[usize], seed: u64) -> Model {
    let mlp = Mlp {
        sizes: sizes.to_vec(),
        ..Mlp::default()
    };
    match mlp.build(InitialWeights::seeded(seed)) {
        Ok(model) => model,
        Err(error) => panic!("no MLP has the sizes {sizes:?}: {error}"),
    }
}
