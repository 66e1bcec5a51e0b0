//! The whole tree of a log, for who keeps it.

use super::{Hash, empty_root, node_hash};

/// Of every so many levels one is kept; the nodes in between are computed again when a proof needs them, at most 14 hashes for one.
const STRIDE: u32 = 4;
const FAN: usize = 1 << STRIDE;

/// A Merkle tree in memory: its leaves' hashes and every fourth level above them, 34 bytes an entry (34 MB for 1,000,000).
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// Row i: the roots of the complete subtrees of 16^i leaves, from the left.
    rows: Vec<Vec<Hash>>,
}

impl Tree {
    /// A tree without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Entries.
    pub fn size(&self) -> u64 {
        self.len() as u64
    }

    fn len(&self) -> usize {
        self.rows.first().map_or(0, Vec::len)
    }

    /// Appends an entry by its [`leaf_hash`](super::leaf_hash); says at which index.
    pub fn append(&mut self, leaf: Hash) -> u64 {
        let index = self.size();
        let mut hash = leaf;
        for row in 0.. {
            if row == self.rows.len() {
                self.rows.push(Vec::new());
            }
            let nodes = &mut self.rows[row];
            nodes.push(hash);
            if !nodes.len().is_multiple_of(FAN) {
                break;
            }
            hash = complete(&nodes[nodes.len() - FAN..]);
        }
        index
    }

    /// The root over all entries.
    pub fn root(&self) -> Hash {
        self.hash_of(0, self.len())
    }

    /// The root over the first `size` entries; `None` when there are fewer.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        Some(self.hash_of(0, self.within(size)?))
    }

    /// The hash of the entry at `index`.
    pub fn leaf(&self, index: u64) -> Option<Hash> {
        self.rows.first()?.get(usize::try_from(index).ok()?).copied()
    }

    /// The proof that the entry at `index` is among the first `size`: the sibling of each node on the way up. `None` when either is beyond the end.
    ///
    /// # Source
    /// RFC 6962, section 2.1.1.
    pub fn inclusion(&self, index: u64, size: u64) -> Option<Vec<Hash>> {
        let (mut start, mut end) = (0, self.within(size)?);
        let index = usize::try_from(index).ok().filter(|index| *index < end)?;
        let mut proof = Vec::new();
        while end - start > 1 {
            let middle = start + left_part(end - start);
            if index < middle {
                proof.push(self.hash_of(middle, end));
                end = middle;
            } else {
                proof.push(self.hash_of(start, middle));
                start = middle;
            }
        }
        proof.reverse();
        Some(proof)
    }

    /// The proof that the first `old` entries are the beginning of the first `new`; empty for none, and for all of them. `None` when the sizes are in
    /// the wrong order or beyond the end.
    ///
    /// # Source
    /// RFC 6962, section 2.1.2.
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        let (mut start, mut end) = (0, self.within(new)?);
        let old = usize::try_from(old).ok().filter(|old| *old <= end)?;
        let mut proof = Vec::new();
        if old == 0 || old == end {
            return Some(proof);
        }
        while old != end {
            let middle = start + left_part(end - start);
            if old <= middle {
                proof.push(self.hash_of(middle, end));
                end = middle;
            } else {
                proof.push(self.hash_of(start, middle));
                start = middle;
            }
        }
        // The whole old tree is known to who checks; a part of it is not.
        if start > 0 {
            proof.push(self.hash_of(start, end));
        }
        proof.reverse();
        Some(proof)
    }

    fn within(&self, size: u64) -> Option<usize> {
        usize::try_from(size).ok().filter(|size| *size <= self.len())
    }

    /// The root over the entries from `start` to before `end`; `start` is a multiple of the power of two that is not below their number.
    fn hash_of(&self, start: usize, end: usize) -> Hash {
        let n = end - start;
        if n == 0 {
            return empty_root();
        }
        if n.is_power_of_two() {
            return self.complete_at(n.trailing_zeros(), start / n);
        }
        let middle = start + left_part(n);
        node_hash(&self.hash_of(start, middle), &self.hash_of(middle, end))
    }

    /// The root of the complete subtree `index` of 2^`level` leaves.
    fn complete_at(&self, level: u32, index: usize) -> Hash {
        let above = level % STRIDE;
        let nodes = &self.rows[(level / STRIDE) as usize];
        complete(&nodes[index << above..(index + 1) << above])
    }
}

/// The root over 2^k nodes.
fn complete(nodes: &[Hash]) -> Hash {
    match nodes {
        [node] => *node,
        _ => {
            let (left, right) = nodes.split_at(nodes.len() / 2);
            node_hash(&complete(left), &complete(right))
        }
    }
}

/// The largest power of two below `n`, for n > 1.
fn left_part(n: usize) -> usize {
    1 << (n - 1).ilog2()
}
