//! Borrowing several places of one block of memory at once.

use std::ops::Range;

/// What is left of a slice whose written ranges were taken out: read by ranges of the whole.
#[derive(Debug)]
pub(super) struct Rest<'a, const N: usize> {
    /// Where each part begins, and the part; ascending.
    parts: [(usize, &'a [f32]); N],
    len: usize,
    last: (usize, &'a [f32]),
}

impl<'a, const N: usize> Rest<'a, N> {
    /// The values at `range`.
    ///
    /// # Panics
    /// Where the range was taken out, which a plan never asks for.
    pub(super) fn get(&self, range: &Range<usize>) -> &'a [f32] {
        if range.is_empty() {
            return &[];
        }
        let within = |(start, part): (usize, &'a [f32])| {
            let from = range.start.checked_sub(start)?;
            part.get(from..from + range.len())
        };
        let found = self.parts[..self.len].iter().copied().chain([self.last]).find_map(within);
        found.expect("a plan reads nothing from a place that it writes to")
    }
}

/// Takes `writes` out of `all`, each for itself; they must not overlap. Empty ranges give empty slices.
pub(super) fn split<'a, const N: usize>(all: &'a mut [f32], writes: &[Range<usize>; N]) -> ([&'a mut [f32]; N], Rest<'a, N>) {
    let mut order: [usize; N] = std::array::from_fn(|i| i);
    order.sort_unstable_by_key(|&i| writes[i].start);
    let mut taken: [&'a mut [f32]; N] = std::array::from_fn(|_| &mut [][..]);
    let mut parts: [(usize, &'a [f32]); N] = [(0, &[]); N];
    let (mut left, mut at, mut len) = (all, 0, 0);
    for i in order {
        let range = &writes[i];
        if range.is_empty() {
            continue;
        }
        let before = range.start.checked_sub(at).expect("a plan writes to places that do not overlap");
        let (gap, behind) = left.split_at_mut(before);
        let (place, behind) = behind.split_at_mut(range.len());
        parts[len] = (at, gap);
        len += 1;
        taken[i] = place;
        (left, at) = (behind, range.end);
    }
    let rest = Rest {
        parts,
        len,
        last: (at, left),
    };
    (taken, rest)
}

/// A place that is needed for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Floats.
    pub(super) len: usize,
    /// From the beginning of one moment to the end of another.
    pub(super) from: usize,
    pub(super) until: usize,
}

/// Places for all, such that what is needed at the same moment does not overlap: the largest first, each as low as it fits. Returns where
/// each begins, and how much memory it takes together.
pub(super) fn place(wanted: &[Wanted]) -> (Vec<usize>, usize) {
    const LINE: usize = aimass_kernels::Buffer::LINE;
    let mut order: Vec<usize> = (0..wanted.len()).filter(|&i| wanted[i].len > 0).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(wanted[i].len), wanted[i].from, i));
    let mut starts = vec![0; wanted.len()];
    // Those that have a place, by where they begin.
    let mut placed: Vec<(usize, usize)> = Vec::new();
    let mut end = 0;
    for i in order {
        let one = &wanted[i];
        let len = one.len.next_multiple_of(LINE);
        let mut at = 0;
        for &(start, other) in &placed {
            let o = &wanted[other];
            if o.from > one.until || one.from > o.until {
                continue;
            }
            if at + len <= start {
                break;
            }
            at = at.max(start + o.len.next_multiple_of(LINE));
        }
        starts[i] = at;
        end = end.max(at + len);
        let position = placed.partition_point(|&(start, _)| start <= at);
        placed.insert(position, (at, i));
    }
    (starts, end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Numbers;

    #[test]
    fn what_is_written_and_what_is_read_are_apart() {
        let mut all: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let ([a, b, none], rest) = split(&mut all, &[12..15, 3..5, 7..7]);
        assert_eq!((&*a, &*b, none.len()), (&[12.0, 13.0, 14.0][..], &[3.0, 4.0][..], 0));
        assert_eq!(rest.get(&(0..3)), [0.0, 1.0, 2.0]);
        assert_eq!(rest.get(&(5..12)).len(), 7);
        assert_eq!(rest.get(&(15..20)), [15.0, 16.0, 17.0, 18.0, 19.0]);
        assert!(rest.get(&(4..4)).is_empty());
    }

    #[test]
    #[should_panic(expected = "writes to")]
    fn what_is_written_is_not_read() {
        let mut all = [0.0; 8];
        let (_, rest) = split(&mut all, &[2..4, 0..0]);
        rest.get(&(3..5));
    }

    #[test]
    fn places_in_use_at_once_do_not_overlap() {
        for seed in 0..200 {
            let mut random = Numbers::new(seed);
            let mut number = |below: usize| ((random.next() + 1.0) / 2.0 * below as f32) as usize;
            let wanted: Vec<Wanted> = (0..60)
                .map(|_| {
                    let from = number(50);
                    Wanted {
                        len: number(100),
                        from,
                        until: from + number(20),
                    }
                })
                .collect();
            let (starts, end) = place(&wanted);
            for (i, a) in wanted.iter().enumerate() {
                assert!(starts[i] % 16 == 0 && starts[i] + a.len <= end, "seed {seed}");
                for (j, b) in wanted.iter().enumerate().take(i) {
                    let together = a.from <= b.until && b.from <= a.until && a.len > 0 && b.len > 0;
                    let overlap = starts[i] < starts[j] + b.len && starts[j] < starts[i] + a.len;
                    assert!(!(together && overlap), "seed {seed}: {i} and {j}");
                }
            }
        }
    }
}
