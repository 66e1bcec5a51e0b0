//! Softmax, cross-entropy and layer norm: rows that are normalised.
