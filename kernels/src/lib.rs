//! The arithmetic of training on the CPU.
//!
//! Kernels work on slices of `f32` and on nothing else: no threads, no allocation beyond what a caller hands in, no knowledge of graphs.
//! Each is written once over a vector of lanes ([`Isa`] says of how many) and compiled for every instruction set that the processor may
//! have; which one runs is decided at run time. Results of one instruction set don't depend on the number of threads, because kernels
//! have none: who calls them splits the work where it is not summed.
//!
//! This is the one crate with `unsafe`. Public functions are safe: they check every length before the first pointer is made. Inside,
//! each unsafe function says what it needs.

pub mod batch_norm;
mod buffer;
pub mod conv;
pub mod dense;
pub mod elementwise;
mod isa;
mod layout;
mod math;
mod nest;
pub mod optimizer;
pub mod permute;
pub mod pool;
pub mod recurrent;
pub mod rows;
mod stretch;
#[cfg(test)]
mod testing;
mod vector;

pub use buffer::Buffer;
pub use isa::Isa;
pub use layout::Layout;
