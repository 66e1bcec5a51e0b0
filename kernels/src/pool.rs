//! Pooling over one or two spatial axes.
