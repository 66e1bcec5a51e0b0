//! From gradients to new weights, in one pass.
