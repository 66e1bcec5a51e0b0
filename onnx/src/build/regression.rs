//! Models of one layer.

use super::builder::{Axis, BATCH, Builder};
use super::error::size;
use super::init::Then;
use super::{BuildError, InitialWeights};
use crate::Model;
use crate::proto::DataType;

/// Linear regression: input `x` `[batch, features]`, output `y` `[batch, outputs]`. First weights: Glorot-uniform, bias 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinearRegression {
    /// Numbers a sample.
    pub features: usize,
    /// Numbers to predict.
    pub outputs: usize,
}

/// Logistic regression: input `x` `[batch, features]`, output `logits` `[batch, classes]`. First weights: Glorot-uniform, bias 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogisticRegression {
    /// Numbers a sample.
    pub features: usize,
    /// Classes; 1 for a single logit.
    pub classes: usize,
}

impl Default for LinearRegression {
    fn default() -> Self {
        Self { features: 10, outputs: 1 }
    }
}

impl Default for LogisticRegression {
    fn default() -> Self {
        Self {
            features: 784,
            classes: 10,
        }
    }
}

impl LinearRegression {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        size("the number of features", self.features)?;
        size("the number of outputs", self.outputs)?;
        one_layer("linear", "y", (self.features, self.outputs), weights)
    }
}

impl LogisticRegression {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        size("the number of features", self.features)?;
        size("the number of classes", self.classes)?;
        one_layer("logistic", "logits", (self.features, self.classes), weights)
    }
}

fn one_layer(name: &str, output: &str, (n_in, n_out): (usize, usize), weights: InitialWeights) -> Result<Model, BuildError> {
    let mut builder = Builder::new(name, weights);
    let x = builder.input("x", DataType::Float, &[BATCH, Axis::Fixed(n_in)]);
    let value = builder.linear("linear", &x, (n_in, n_out), Then::Other)?;
    builder.output(&value, output, &[BATCH, Axis::Fixed(n_out)]);
    builder.finish()
}
