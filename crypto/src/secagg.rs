//! Secure aggregation: a server learns the sum of its agents' vectors and nothing else about any of them.
//!
//! Every agent adds masks to its vector that cancel in the sum: one with each neighbour in a random graph, and one of its own against
//! a server that calls it dropped and then shows its upload. It deals the secrets behind them to its neighbours, so that enough of them
//! can undo the masks of those who dropped out.
//!
//! - [`shamir`]: secrets and their shares; reconstruction in spite of wrong shares.
//! - [`mask`]: key agreement, mask keys, mask streams.
//! - [`graph`]: who is whose neighbour.
//! - [`params`]: how many neighbours, how many shares, from the share of cheats and of drop-outs that is to be endured.
//! - [`Client`]: an agent's side, from fresh keys to unmask shares. It refuses a server that cheats ([`Cheat`]).
//! - [`Server`]: the server's side, which no agent can harm ([`Fault`]); [`Unmasking`] gives the masks that leave the sum.
//!
//! # Source
//! Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine Learning" (CCS): double masks, complete graph.
//! Bell, Bonawitz, Gascón, Lepoint, Raykova 2020, "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead" (CCS): random
//! graphs, the semi-malicious server.

mod advert;
mod bitmap;
mod client;
mod error;
pub mod fuzz;
pub mod graph;
mod kdf;
pub mod mask;
pub mod params;
mod roster;
mod server;
pub mod shamir;
mod share;
mod unmasking;
#[cfg(test)]
mod vectors;

pub use self::advert::{Advert, draw_commitment};
pub use self::bitmap::Bitmap;
pub use self::client::{Client, Opening, Received, Terms};
pub use self::error::{Cheat, Fault, StepError};
pub use self::roster::{MAX_MEMBERS, MIN_MEMBERS, Roster, RosterError};
pub use self::server::{MemberRecord, Server, ServerRecord, UnverifiedShares, VerifiedShares};
pub use self::share::SealedShare;
pub use self::unmasking::{Solved, Target, TargetSecret, UnmaskError, Unmasking};

/// Who takes part: the first half of the SHA-256 of an agent's Ed25519 identity key, as [`crate::sign::PublicKey::fingerprint`] gives it.
pub type MemberId = [u8; 16];
