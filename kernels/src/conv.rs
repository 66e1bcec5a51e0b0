//! Convolutions over one or two spatial axes, and what is fused with them.
