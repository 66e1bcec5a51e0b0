//! Where values are: one bit an element, or the gaps between values in Rice's code, whichever is shorter.
//!
//! # Source
//! Rice and Plaunt 1971, Adaptive Variable-Length Coding for Efficient Compression of Spacecraft Television Data. Gaps between values that
//! are spread at random are geometric, for which the code is within a few percent of the entropy (Golomb 1966).

/// Largest parameter: a gap is below 2^32.
const MAX_K: u8 = 31;

/// Bytes of a bit mask over `n` elements.
pub(super) fn mask_bytes(n: usize) -> usize {
    n.div_ceil(8)
}

/// The mask: bit `i % 8` of byte `i / 8` for each place `i`.
pub(super) fn mask(places: &[u32], n: usize) -> Vec<u8> {
    let mut mask = vec![0u8; mask_bytes(n)];
    for &place in places {
        mask[place as usize / 8] |= 1 << (place % 8);
    }
    mask
}

/// The places of a mask; `None` when it has a bit beyond its end.
pub(super) fn from_mask(mask: &[u8], n: usize) -> Option<impl Iterator<Item = usize>> {
    let tail = mask.last().copied().unwrap_or(0);
    if mask.len() != mask_bytes(n) || (!n.is_multiple_of(8) && tail >> (n % 8) != 0) {
        return None;
    }
    let places = |(index, &byte): (usize, &u8)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| 8 * index + bit);
    Some(mask.iter().enumerate().flat_map(places))
}

/// The parameter that codes these places in fewest bits, and how many.
pub(super) fn best(places: &[u32]) -> (u8, u64) {
    let bits = |k: u8| gaps(places).map(|gap| u64::from(gap >> k) + 1 + u64::from(k)).sum::<u64>();
    // The cost falls until the best parameter and rises after it.
    let (mut k, mut least) = (0, bits(0));
    while k < MAX_K {
        let next = bits(k + 1);
        if next >= least {
            break;
        }
        (k, least) = (k + 1, next);
    }
    (k, least)
}

/// Elements left out before each place.
fn gaps(places: &[u32]) -> impl Iterator<Item = u32> {
    let mut from = 0;
    places.iter().map(move |&place| {
        let gap = place - from;
        from = place + 1;
        gap
    })
}

/// The gaps, each `gap >> k` ones, a zero and the low `k` bits of the gap, lowest bit first, into bytes from their lowest bit on.
pub(super) fn rice(places: &[u32], k: u8) -> Vec<u8> {
    let mut out = BitWriter::default();
    for gap in gaps(places) {
        (0..gap >> k).for_each(|_| out.put(true));
        out.put(false);
        (0..k).for_each(|bit| out.put(gap >> bit & 1 == 1));
    }
    out.bytes
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    len: usize,
}

impl BitWriter {
    fn put(&mut self, bit: bool) {
        if self.len.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.len % 8);
        }
        self.len += 1;
    }
}

/// Reads back what [`rice`] wrote: calls `with` for each of `count` places below `n`. `None` for a code that ends early, leads beyond
/// `n`, or goes on after its end.
pub(super) fn from_rice(code: &[u8], k: u8, count: usize, n: usize, mut with: impl FnMut(usize)) -> Option<()> {
    if k > MAX_K {
        return None;
    }
    let mut at = 0usize;
    let mut bit = || {
        let byte = code.get(at / 8)?;
        at += 1;
        Some(byte >> ((at - 1) % 8) & 1)
    };
    let mut place = 0usize;
    for _ in 0..count {
        let mut gap = 0usize;
        while bit()? == 1 {
            gap += 1;
        }
        let mut low = 0usize;
        for i in 0..k {
            low |= usize::from(bit()?) << i;
        }
        place = place.checked_add(gap.checked_mul(1 << k)?)?.checked_add(low)?;
        if place >= n {
            return None;
        }
        with(place);
        place += 1;
    }
    let ends = at.div_ceil(8) == code.len() && (at.is_multiple_of(8) || code[at / 8] >> (at % 8) == 0);
    ends.then_some(())
}
