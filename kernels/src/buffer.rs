//! Memory that vectors load from without crossing a cache line.

use std::ops::{Deref, DerefMut};

/// A cache line of floats.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; Buffer::LINE]);

/// Floats at an aligned place (64 bytes), in whole cache lines; zero at first.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

impl Buffer {
    /// Floats in a cache line, and most lanes of a vector.
    pub const LINE: usize = 16;

    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        Self {
            lines: vec![Line([0.0; Self::LINE]); len.div_ceil(Self::LINE)],
            len,
        }
    }

    /// The values, `[len]`, as they are.
    pub fn from_slice(values: &[f32]) -> Self {
        let mut buffer = Self::new(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// `n`, or the next multiple of a cache line.
    pub const fn padded(n: usize) -> usize {
        n.div_ceil(Self::LINE) * Self::LINE
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `lines` holds at least `len` floats one after the other (`Line` is `repr(C)` and has no padding), all initialised.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and the borrow of `self` is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_aligned_and_holds_what_was_put_in() {
        for len in [0, 1, 15, 16, 17, 1000] {
            let values: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let buffer = Buffer::from_slice(&values);
            assert_eq!(&*buffer, &values[..]);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(Buffer::padded(len).is_multiple_of(Buffer::LINE) && Buffer::padded(len) - len < Buffer::LINE);
        }
    }
}
