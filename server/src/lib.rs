//! The aggregator and the enrolment authority as services: QUIC, HTTP, store, drivers.

pub mod aggregator;
pub mod authority;
pub mod blobs;
mod lock;
pub mod loopback;
pub mod store;
