//! The ONNX intermediate representation of AI Mass: read, check, rewrite, write.
//!
//! Pure and a leaf: bytes in, checked types out. What this crate does not understand it keeps: replacing weights splices the new
//! values into the original bytes, so that metadata, names and fields of a newer ONNX survive.

mod bags;
pub mod build;
mod check;
mod error;
pub mod external;
pub mod fuzz;
mod globs;
mod layout;
pub mod lora;
mod model;
mod node;
pub mod proto;
mod scan;
mod slots;
mod splice;
mod tensor;
#[cfg(test)]
mod testing;
mod untie;
mod wire;

pub use error::{AttributeError, LayoutError, ReadError};
pub use globs::Globs;
pub use layout::{Param, ParamKind, ParamLayout, TrainableRules};
pub use model::{Dim, MAX_MODEL_BYTES, Model, NEWEST_IR, NEWEST_OPSET, OLDEST_IR, OLDEST_OPSET, ValueInfo};
pub use scan::{MAX_DEPTH, decoded_budget_bytes};
pub use tensor::{ElementType, TensorRef};
