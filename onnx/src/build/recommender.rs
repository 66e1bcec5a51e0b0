//! Two inputs: who, and what.

use super::Activation;
use super::builder::{Axis, BATCH, Builder};
use super::error::{BuildError, dropout, size, sizes};
use super::init::{InitialWeights, Then};
use crate::Model;
use crate::proto::{AttributeProto, DataType};

/// Deviation of the embedding tables.
const EMBEDDING_DEVIATION: f64 = 0.1;

/// A recommender by neural collaborative filtering: inputs `user` and `item` int64 `[batch]`, an embedding of each, fully connected
/// layers with ReLU and dropout on both, output `y` `[batch, 1]`: a rating, or the logit of an interaction.
/// First weights: embeddings normal with deviation 0.1, layers He-uniform, the last Glorot-uniform, biases 0.
///
/// # Source
/// He et al. 2017, Neural Collaborative Filtering, section 3.3 (its multi-layer perceptron).
#[derive(Debug, Clone, PartialEq)]
pub struct Recommender {
    /// Number of users.
    pub users: usize,
    /// Number of items.
    pub items: usize,
    /// Width of a user's and of an item's vector.
    pub embedding: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Share of each hidden layer's values that is dropped while training.
    pub dropout: f64,
}

impl Default for Recommender {
    fn default() -> Self {
        Self {
            users: 1000,
            items: 2000,
            embedding: 32,
            hidden: vec![64, 32],
            dropout: 0.0,
        }
    }
}

impl Recommender {
    /// Makes the model.
    ///
    /// # Errors
    /// [`BuildError`] when a size is out of range.
    pub fn build(&self, weights: InitialWeights) -> Result<Model, BuildError> {
        size("the number of users", self.users)?;
        size("the number of items", self.items)?;
        size("the width of the embeddings", self.embedding)?;
        sizes("the number of hidden layers", "a hidden width", &self.hidden)?;
        dropout(self.dropout)?;
        let mut builder = Builder::new("recommender", weights);
        let mut vectors = Vec::new();
        for (input, table, rows) in [("user", "user_embedding", self.users), ("item", "item_embedding", self.items)] {
            let indices = builder.input(input, DataType::Int64, &[BATCH]);
            vectors.push(builder.embedding(table, &indices, (rows, self.embedding), EMBEDDING_DEVIATION)?);
        }
        let axis = vec![AttributeProto::int("axis", 1)];
        let mut value = builder.node("Concat", "concat", &[&vectors[0], &vectors[1]], axis);
        let mut width = 2 * self.embedding;
        for (i, &hidden) in self.hidden.iter().enumerate() {
            let layer = i + 1;
            value = builder.linear(&format!("fc{layer}"), &value, (width, hidden), Then::Rectifier)?;
            value = builder.activation(Activation::Relu, &format!("relu{layer}"), &value);
            value = builder.dropout(&format!("dropout{layer}"), &value, self.dropout);
            width = hidden;
        }
        value = builder.linear(&format!("fc{}", self.hidden.len() + 1), &value, (width, 1), Then::Other)?;
        builder.output(&value, "y", &[BATCH, Axis::Fixed(1)]);
        builder.finish()
    }
}
