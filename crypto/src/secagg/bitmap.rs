//! Sets of members, as bits over roster indices.

/// A set of roster indices: bit i % 8 of byte i / 8 is member i. As long as the roster needs, with unused bits 0.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Bitmap(Vec<u8>);

impl Bitmap {
    /// The set of `indices` among `members`; those that are no index are left out.
    pub fn from_indices(members: u32, indices: impl IntoIterator<Item = u32>) -> Self {
        let mut bytes = vec![0; bytes_for(members)];
        for index in indices.into_iter().filter(|index| *index < members) {
            bytes[index as usize / 8] |= 1 << (index % 8);
        }
        Self(bytes)
    }

    /// Reads a set among `members`. `None` for another length, or when an unused bit is 1.
    pub fn from_bytes(members: u32, bytes: &[u8]) -> Option<Self> {
        let unused = bytes.len() * 8 - (members as usize).min(bytes.len() * 8);
        let clean = unused == 0 || bytes.last().is_some_and(|last| last.leading_zeros() as usize >= unused);
        (bytes.len() == bytes_for(members) && clean).then(|| Self(bytes.to_vec()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether member `index` is in it.
    pub fn contains(&self, index: u32) -> bool {
        self.0.get(index as usize / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
    }

    /// How many are in it.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Who is in it, ascending.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        (0u32..).take(self.0.len() * 8).filter(|index| self.contains(*index))
    }
}

fn bytes_for(members: u32) -> usize {
    (members as usize).div_ceil(8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_set_reads_as_what_was_written(members in 1..200u32, picks in proptest::collection::btree_set(0..250u32, 0..100)) {
            let set = Bitmap::from_indices(members, picks.iter().copied());
            let within: Vec<u32> = picks.iter().copied().filter(|index| *index < members).collect();
            prop_assert_eq!(set.indices().collect::<Vec<_>>(), within.clone());
            prop_assert_eq!(set.count() as usize, within.len());
            prop_assert_eq!(Bitmap::from_bytes(members, set.as_bytes()), Some(set));
        }

        #[test]
        fn one_set_has_one_text(members in 1..40u32, bytes in proptest::collection::vec(any::<u8>(), 0..6)) {
            if let Some(set) = Bitmap::from_bytes(members, &bytes) {
                let again = Bitmap::from_indices(members, set.indices());
                prop_assert_eq!(again.as_bytes(), &bytes[..]);
            }
        }
    }

    #[test]
    fn other_lengths_and_unused_bits_are_refused() {
        assert!(Bitmap::from_bytes(9, &[0xff, 0x01]).is_some());
        assert_eq!(Bitmap::from_bytes(9, &[0xff, 0x03]), None);
        assert_eq!(Bitmap::from_bytes(9, &[0xff]), None);
        assert_eq!(Bitmap::from_bytes(8, &[0xff, 0x00]), None);
        assert_eq!(Bitmap::from_bytes(9, &[]), None);
    }
}
