//! Other orders of axes.
