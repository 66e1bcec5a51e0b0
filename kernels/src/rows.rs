//! Softmax, cross-entropy and layer norm: rows that are normalised.

mod cross_entropy;
mod norm;
mod softmax;

pub use cross_entropy::{CrossEntropy, Loss, WrongTarget};
pub use norm::RowNorm;
pub use softmax::Softmax;

#[cfg(test)]
mod tests;
