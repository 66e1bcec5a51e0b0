//! The arithmetic of training on the CPU.
//!
//! Kernels work on slices of `f32`, those of [`integers`] on whole numbers too, and on nothing else: no allocation beyond what a caller hands
//! in, no knowledge of graphs. Each is written once over a vector of lanes ([`Isa`] says of how many) and compiled for every instruction
//! set that the processor may have; which one runs is decided at run time. Threads come from whoever calls, as a [`Team`]; results of one
//! instruction set don't depend on their number, because work is cut only where it is not summed.
//!
//! This is the one crate with `unsafe`. Public functions are safe: they check every length before the first pointer is made. Inside,
//! each unsafe function says what it needs.

pub mod batch_norm;
mod buffer;
pub mod conv;
pub mod dense;
pub mod elementwise;
pub mod integers;
mod isa;
mod layout;
mod math;
mod nest;
pub mod optimizer;
pub mod permute;
pub mod pool;
pub mod quantized;
pub mod recurrent;
pub mod rows;
mod stretch;
pub mod team;
#[cfg(test)]
mod testing;
mod vector;

pub use buffer::Buffer;
pub use isa::Isa;
pub use layout::Layout;
pub use team::Team;

/// The product of sizes that come from outside.
///
/// # Panics
/// Where it overflows.
#[track_caller]
pub(crate) fn elements(sizes: &[usize]) -> usize {
    let product = sizes.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let product = product.filter(|&n| n <= isize::MAX as usize / 64);
    product.unwrap_or_else(|| panic!("sizes of {sizes:?} are beyond what memory can hold"))
}

/// What a gradient is added to: `values += alpha * gradient`. With the weights themselves and minus the learning rate it is a step of
/// plain gradient descent; with zeros and 1 it is the gradient.
#[derive(Debug)]
pub struct Target<'a> {
    /// In the layout of the kernel.
    pub values: &'a mut [f32],
    /// What the gradient is multiplied by.
    pub alpha: f32,
}
