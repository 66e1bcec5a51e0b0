//! Fully connected layers of few rows, and matrix products of any shape.
