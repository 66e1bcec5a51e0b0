//! Rewrites of ONNX graphs that make models smaller: pruning, sparse storage, folding, quantization.

pub mod channels;
pub mod fold;
mod parts;
pub mod prune;
pub mod quantize;
pub mod serve;
pub mod sparse;
#[cfg(test)]
mod testing;
mod wiring;
