//! Magnitude pruning: the smallest weights of the whole model become zero and stay zero.
//!
//! [`Masks::by_magnitude`] chooses, [`Masks::apply`] writes the zeros into the file, [`Masks::zero`] keeps them in a trainer's flat weights
//! after every step of its optimizer, and [`Schedule`] says at which step how many are to be gone. What is pruned once stays pruned
//! ([`Masks::grow`]), so fine-tuning between the steps is never undone.
//!
//! # Source
//! Han et al. 2015, Learning both Weights and Connections for Efficient Neural Networks (NeurIPS), section 3; the schedule is Zhu and Gupta
//! 2017, To prune, or not to prune (arXiv 1710.01878), section 3.

mod bits;
mod error;
mod masks;
mod rules;
mod schedule;
mod sparsity;

pub use bits::Mask;
pub use error::PruneError;
pub use masks::{LayerCount, Masks};
pub use rules::PruneRules;
pub use schedule::Schedule;
pub use sparsity::Sparsity;

#[cfg(test)]
mod tests;
