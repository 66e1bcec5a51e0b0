//! One bit a weight.

/// Which elements of one parameter are kept, row-major, a bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    /// Bit `i % 64` of word `i / 64` is set where element `i` is kept; bits beyond the end are 0.
    words: Vec<u64>,
    len: usize,
}

impl Mask {
    /// Keeps what `keeps` says.
    pub(super) fn new(keeps: impl ExactSizeIterator<Item = bool>) -> Self {
        let len = keeps.len();
        let mut words = vec![0u64; len.div_ceil(64)];
        for (index, keep) in keeps.enumerate() {
            words[index / 64] |= u64::from(keep) << (index % 64);
        }
        Self { words, len }
    }

    /// Elements of the parameter.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the parameter has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether element `index` is kept; `None` beyond the end.
    pub fn get(&self, index: usize) -> Option<bool> {
        (index < self.len).then(|| self.words[index / 64] >> (index % 64) & 1 == 1)
    }

    /// For every element in order whether it is kept.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = bool> {
        (0..self.len).map(|index| self.words[index / 64] >> (index % 64) & 1 == 1)
    }

    /// Elements that are kept.
    pub fn kept(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Elements that are zero.
    pub fn pruned(&self) -> usize {
        self.len - self.kept()
    }

    /// 1 for an element that is kept and 0 for one that is not, in order.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.iter().map(u8::from).collect()
    }

    /// Zeroes what is pruned. Values beyond the mask stay.
    pub fn zero(&self, values: &mut [f32]) {
        for (values, &word) in values.chunks_mut(64).zip(&self.words) {
            // Most words of a sparse mask have a few bits, and most of a dense one all but a few.
            if word == u64::MAX {
                continue;
            }
            for (bit, value) in values.iter_mut().enumerate() {
                if word >> bit & 1 == 0 {
                    *value = 0.0;
                }
            }
        }
    }
}
