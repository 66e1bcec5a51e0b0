//! From updates to whole numbers: rotating, rounding at random, adding, packing.
//!
//! Every function gives the same bits on every instruction set: nothing is fused that rounds, and additions of floats have one order.

mod counters;
mod hadamard;
mod keystream;
mod packing;
mod rounding;
#[cfg(test)]
mod tests;

pub use counters::{add, add_narrow, add_wide, means};
pub use hadamard::{rotate, rotate_back};
pub use keystream::Keystream;
pub use packing::{MAX_WIDTH, Residue, SLACK, packed_len, unpack};
pub use rounding::{Rounding, add_squares, largest_magnitude, random_words, scale};
