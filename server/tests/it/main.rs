//! The services end to end on loopback: one binary for all integration tests.

mod aggregator;
mod authority;
mod http;
