//! Bit packing, little-endian: value i takes bits `i*w .. (i+1)*w` of the byte stream, bit 0 being the lowest of the first byte.
//! Widths w are 1 to 63. Eight values take w bytes, so every eighth value starts at a byte; bits after the last value are 0.

/// Widest value in bits.
pub const MAX_WIDTH: u8 = 63;
/// Bytes behind the last value that packing may overwrite with zeros: a last group of one value of one bit is written as a word, one
/// of a value of 63 bits as eight.
pub const SLACK: usize = 64;

/// Calls `$f::<WIDTH>`, with the width known when it is compiled.
macro_rules! for_width {
    ($width:expr, $f:ident, $($argument:expr),*) => {
        for_width!(@ $width, $f, ($($argument),*),
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32
            33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63)
    };
    (@ $width:expr, $f:ident, $arguments:tt, $($w:literal)*) => {
        match $width {
            $($w => $f::<$w> $arguments,)*
            width => panic!("widths are 1 to {MAX_WIDTH}, got {width}"),
        }
    };
}

/// What can be packed: `u32`, whose width may be more than 32 bits, and `u64`. The code is compiled here, not where it is called.
pub trait Residue: Copy + Into<u64> + Sealed {
    /// Packs `values` to the front of `out`. Bits of a value beyond `width` must be 0. The [`SLACK`] bytes behind the values are overwritten with zeros
    /// in part.
    ///
    /// # Panics
    /// When `width` is 0 or more than [`MAX_WIDTH`]; when `out` is shorter than [`packed_len`] and [`SLACK`].
    fn pack(values: &[Self], width: u8, out: &mut [u8]);
}

/// Keeps the trait to these two.
pub trait Sealed {}

impl Sealed for u32 {}
impl Sealed for u64 {}

impl Residue for u32 {
    fn pack(values: &[Self], width: u8, out: &mut [u8]) {
        let out = &mut out[..packed_len(values.len(), width) + SLACK];
        for_width!(width, pack_groups, values, out);
    }
}

impl Residue for u64 {
    fn pack(values: &[Self], width: u8, out: &mut [u8]) {
        let out = &mut out[..packed_len(values.len(), width) + SLACK];
        for_width!(width, pack_groups, values, out);
    }
}

/// Bytes that `n` values of `width` bits take.
pub fn packed_len(n: usize, width: u8) -> usize {
    let width = usize::from(width);
    n / 8 * width + (n % 8 * width).div_ceil(8)
}

/// Reads `values.len()` values from the front of `packed`.
///
/// # Panics
/// When `width` is 0 or more than [`MAX_WIDTH`], or `packed` is shorter than [`packed_len`].
pub fn unpack(packed: &[u8], width: u8, values: &mut [u64]) {
    let packed = &packed[..packed_len(values.len(), width)];
    for_width!(width, unpack_groups, packed, values);
}

/// `out` has [`SLACK`] bytes more than the values take.
fn pack_groups<const W: usize>(values: &[impl Copy + Into<u64>], out: &mut [u8]) {
    let (groups, rest) = values.as_chunks::<8>();
    let mut start = 0;
    for group in groups {
        pack_group::<W>(group, &mut out[start..][..W.next_multiple_of(8)]);
        start += W;
    }
    if !rest.is_empty() {
        let mut last = [0u64; 8];
        for i in 0..rest.len() {
            last[i] = rest[i].into();
        }
        pack_group::<W>(&last, &mut out[start..][..W.next_multiple_of(8)]);
    }
}

/// Eight values of `W` bits to `W` bytes, and zeros up to a whole number of words. `W` is known when this is compiled, so every
/// shift is a constant.
#[inline(always)]
fn pack_group<const W: usize>(values: &[impl Copy + Into<u64>; 8], out: &mut [u8]) {
    let mut words = [0u64; 8];
    for i in 0..8 {
        let value: u64 = values[i].into();
        let (word, shift) = (i * W / 64, i * W % 64);
        words[word] |= value << shift;
        if shift + W > 64 {
            words[word + 1] |= value >> (64 - shift);
        }
    }
    for (bytes, word) in out.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *bytes = word.to_le_bytes();
    }
}

fn unpack_groups<const W: usize>(packed: &[u8], values: &mut [u64]) {
    let (groups, rest) = values.as_chunks_mut::<8>();
    let n_groups = groups.len();
    // Whole words are read, so near the end they are read from a copy with zeros behind it.
    let n_quick = if packed.len() < read_bytes::<W>() {
        0
    } else {
        (packed.len() - read_bytes::<W>()) / W + 1
    };
    let n_quick = n_quick.min(n_groups);
    for i in 0..n_quick {
        unpack_group::<W>(&packed[i * W..][..read_bytes::<W>()], &mut groups[i]);
    }
    let padded = |from: usize| {
        let mut padded = [0; 80];
        let bytes = &packed[from..packed.len().min(from + W)];
        padded[..bytes.len()].copy_from_slice(bytes);
        padded
    };
    for i in n_quick..n_groups {
        unpack_group::<W>(&padded(i * W)[..read_bytes::<W>()], &mut groups[i]);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        unpack_group::<W>(&padded(n_groups * W)[..read_bytes::<W>()], &mut last);
        rest.copy_from_slice(&last[..rest.len()]);
    }
}

/// Bytes that are read for eight values: two words from where the last one begins.
const fn read_bytes<const W: usize>() -> usize {
    7 * W / 8 + 16
}

/// The reverse of [`pack_group`]; bytes after the first `W` don't matter, but must be there up to [`read_bytes`].
#[inline(always)]
fn unpack_group<const W: usize>(packed: &[u8], values: &mut [u64; 8]) {
    for i in 0..8 {
        let (byte, shift) = (i * W / 8, i * W % 8);
        let mut value = word(packed, byte) >> shift;
        if shift + W > 64 {
            value |= word(packed, byte + 8) << (64 - shift);
        }
        values[i] = value & ((1 << W) - 1);
    }
}

#[inline(always)]
fn word(packed: &[u8], at: usize) -> u64 {
    assert!(at + 8 <= packed.len());
    // SAFETY: checked above, where lengths are known when this is compiled. (A copy of the standard library's would be a call.)
    u64::from_le(unsafe { packed.as_ptr().add(at).cast::<u64>().read_unaligned() })
}
