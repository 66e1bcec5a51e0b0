//! Proofs, checked against roots. Nothing of the log is needed.

use super::{Hash, empty_root, node_hash};

/// A proof that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// There can't be such an entry.
    #[error("entry {index} can't be in a log of {size} entries")]
    OutOfRange {
        /// Counted from 0.
        index: u64,
        /// The log's size.
        size: u64,
    },
    /// A log never loses entries.
    #[error("the log had {old} entries and now has {new}: entries were taken out")]
    Shrunk {
        /// Size before.
        old: u64,
        /// Size now.
        new: u64,
    },
    /// Two roots for one size.
    #[error("there are two different logs of {size} entries")]
    Forked {
        /// Their size.
        size: u64,
    },
    /// Too few hashes, or too many.
    #[error("the proof has {found} hashes, not as many as the sizes ask for")]
    Length {
        /// Hashes found.
        found: usize,
    },
    /// Its hashes lead to another root.
    #[error("the proof leads to another root: the entry, or what was before, is not in this log")]
    Root,
}

/// Checks that the entry with this leaf hash stands at `index` in the log of `size` entries with this root.
///
/// # Errors
/// [`ProofError`].
///
/// # Source
/// RFC 9162, section 2.1.3.2.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange { index, size });
    }
    let found = proof.len();
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(ProofError::Length { found });
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // Levels at which the last node has no sibling.
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length { found });
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Checks that the log of `old` entries is the beginning of the log of `new`. Nothing is the beginning of every log.
///
/// # Errors
/// [`ProofError`].
///
/// # Source
/// RFC 9162, section 2.1.4.2.
pub fn verify_consistency(old: u64, old_root: &Hash, new: u64, new_root: &Hash, proof: &[Hash]) -> Result<(), ProofError> {
    if new < old {
        return Err(ProofError::Shrunk { old, new });
    }
    let found = proof.len();
    if old == new && old_root != new_root {
        return Err(ProofError::Forked { size: new });
    }
    if old == 0 && *old_root != empty_root() {
        return Err(ProofError::Root);
    }
    if old == new || old == 0 {
        return if found == 0 { Ok(()) } else { Err(ProofError::Length { found }) };
    }
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    // Where the old tree is complete, its root stands for the proof's first hash.
    let (first, rest) = if old.is_power_of_two() {
        (old_root, proof)
    } else {
        let Some((first, rest)) = proof.split_first() else {
            return Err(ProofError::Length { found });
        };
        (first, rest)
    };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(ProofError::Length { found });
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::Length { found });
    }
    if old_hash == *old_root && new_hash == *new_root {
        Ok(())
    } else {
        Err(ProofError::Root)
    }
}
