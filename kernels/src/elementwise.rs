//! One value out for one value (or two) in: activations, sums, products.
