//! The wire format as files: golden vectors, bad ones, a recorded session, properties, and the document that describes them.
//!
//! `AIMASS_REGENERATE=1 cargo test --release --workspace --test wire` writes the vectors of `testdata/v1` anew; the recorded session is written by
//! the test that makes it, in `server/tests/it`. The format of version 1 is fixed once it is released: from then on a changed file means a new
//! version, with its own folder.

mod bad;
mod document;
mod fixtures;
mod golden;
mod properties;
mod seeds;
mod strategies;
mod testdata;
mod transcript;
