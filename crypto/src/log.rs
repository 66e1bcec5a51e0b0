//! A log that only grows: an RFC 6962 Merkle tree, proofs within it, and signed checkpoints over it.
//!
//! | part | does | source |
//! |---|---|---|
//! | [`Tree`] | append, root, proofs of inclusion and consistency | RFC 6962, section 2.1 |
//! | [`verify_inclusion`], [`verify_consistency`] | checks them against roots | RFC 9162, sections 2.1.3.2 and 2.1.4.2 |
//! | [`Checkpoint`] | size and root, as a signed note | C2SP tlog-checkpoint, signed-note |
//! | [`ProofFile`] | an entry with its proof, as a file | C2SP tlog-proof |
//!
//! Who holds a verified checkpoint can check that an entry is in the log with one hash a level, and that a later log holds all of an earlier one with
//! about as many. Nothing here keeps a server from showing two logs to two people: that comes out when they compare checkpoints.

mod checkpoint;
mod proof;
mod proof_file;
mod tree;

pub use checkpoint::{Checkpoint, MAX_NOTE_BYTES, NoteError, key_id, parse_verifier_key, verifier_key};
pub use proof::{ProofError, verify_consistency, verify_inclusion};
pub use proof_file::{MAX_PROOF_FILE_BYTES, ProofFile, ProofFileError};
pub use tree::Tree;

use crate::hash::{Sha256, sha256};

/// A node of the tree.
pub type Hash = [u8; 32];

/// The root over no entries: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    sha256(b"")
}

/// SHA-256(0x00 || `entry`).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(&[0]);
    hash.update(entry);
    hash.finish()
}

/// SHA-256(0x01 || `left` || `right`).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(&[1]);
    hash.update(left);
    hash.update(right);
    hash.finish()
}

#[cfg(test)]
mod tests;
