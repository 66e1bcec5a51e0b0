//! A random rotation that all clients share: it spreads an update's length evenly over its coordinates, so that one small bound fits all of them.
//!
//! # What it does
//! The values are cut into blocks of 4096, the rest into falling powers of two, and fewer than 64 values that are left stay as they are: nothing is
//! padded. Each block x of length b becomes H D x, with D random signs from ChaCha8 of the seed and H the Hadamard matrix over sqrt(b). Both are
//! orthogonal, so lengths stay and D H takes it back.
//!
//! # The bound
//! A coordinate of H D x is a sum of the x_i / sqrt(b) with random signs. By Hoeffding's inequality it exceeds z |x| / sqrt(b) with a probability of at most
//! 2 exp(-z^2 / 2), so that z = 6 holds for all 4096 coordinates of a block that has the whole length of the update in it but for one update in
//! 8,000. That is the worst case for a model of any size: where blocks have parts r_k of the squared length, their chances are at most
//! 8192 exp(-z^2 / (2 r_k)), which sum to less than if one had all. An update that is spread over ten blocks exceeds it once in 10^70. Signs are drawn anew
//! with every seed, whatever the update is, as long as it does not depend on the seed. An update with a coordinate beyond the bound is scaled down as a
//! whole, so it costs length, never direction.
//!
//! # Gain
//! The bound of a coordinate falls from the clip to 6 / 64 of it. Levels are that much closer, which is log2(64 / 6) = 3.4 bits at equal error. Measured
//! with the test `the_rotation_saves_three_bits` (100,000 values of length 1, clip 1, one client): 8 bits have a root mean squared error of 3.3e-4 with and
//! 3.2e-3 without rotation where values are normal, which is worth 3.3 bits, and of 3.6e-4 and 3.9e-3 where one in a thousand is not zero, which is
//! worth 3.4. It costs about 0.5 ns a value with AVX-512 or AVX2, and 1.1 without. Measured with the test `speed_of_encode_validate_add_and_decode`
//! (1,663,370 values of 24 bits, one core, the best of five on a busy machine), ns a value:
//!
//! | | before the kernels | plain Rust | AVX2 | AVX-512 |
//! |---|---|---|---|---|
//! | encode, not rotated | 7.3 | 4.9 | 3.2 | 3.0 |
//! | encode, rotated | 8.7 | 6.1 | 3.7 | 3.5 |
//! | encode and add to an open sum, not rotated | 8.9 | 3.7 | 2.0 | 1.5 |
//! | encode and add to an open sum, rotated | 10.3 | 4.7 | 2.2 | 1.9 |
//! | the same of zeros | 10.3 | 1.7 | 0.8 | 0.6 |
//!
//! (Before the kernels updates were encoded and then added packed; zeros took as long.) What a step takes in the first-level cache, by the example
//! `integers_rates` of the kernels: norm 0.08, scaling 0.11, rotation 0.32, random words 0.17 (AVX2 0.33), rounding 0.26 (AVX2 0.33), packing 0.23, adding
//! 0.05. Before, of 7.3 ns, drawing four random bytes took 3.8, rounding 1.5, packing 1.5 and the norm 0.6.
//!
//! # Determinism
//! The order of all additions is fixed and nothing is fused that rounds, so that all machines and instruction sets get the same bits.
//!
//! # Source
//! Suresh et al. 2017, Distributed Mean Estimation with Limited Communication (ICML), section 3. Under secure aggregation: Kairouz et al. 2021, The
//! Distributed Discrete Gaussian Mechanism for Federated Learning with Secure Aggregation (ICML), section 4, which pads to one power of two and
//! flattens the whole vector; blocks keep the cost at 12 additions a value and the bytes as they are.

use aimass_kernels::Isa;
use aimass_kernels::integers::{self, Keystream, largest_magnitude};

/// Longest block: it stays in the first-level cache.
pub(crate) const LONGEST: usize = 4096;
/// Shortest block. Below 36 the bound would not fall under the clip.
const SHORTEST: usize = 64;
/// z: how many standard deviations of the worst update the bound is.
const DEVIATIONS: f64 = 6.0;

/// Neighbouring blocks of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where it begins.
    pub(crate) start: usize,
    /// Values.
    pub(crate) len: usize,
    /// Values in a block; 1 for those that stay as they are.
    block: usize,
}

impl Run {
    /// The bound of a coordinate, for an update of length 1.
    pub(crate) fn bound(&self) -> f64 {
        (DEVIATIONS / (self.block as f64).sqrt()).min(1.0)
    }
}

/// The bound of a coordinate of the longest blocks.
pub(crate) fn longest_bound() -> f64 {
    DEVIATIONS / (LONGEST as f64).sqrt()
}

/// The blocks of `n` values. All but the last run have a multiple of 8 values.
pub(crate) fn runs(n: usize) -> impl Iterator<Item = Run> {
    let lengths = std::iter::successors(Some(LONGEST), |&length| (length > SHORTEST).then_some(length / 2));
    let mut start = 0;
    lengths.chain([1]).filter_map(move |block| {
        let run = Run {
            start,
            len: (n - start) / block * block,
            block,
        };
        start += run.len;
        (run.len > 0).then_some(run)
    })
}

/// The signs of all blocks, a bit a value.
pub(crate) struct Signs {
    stream: Keystream,
    words: Box<[u32]>,
    /// The group of chunks whose signs are in `words`.
    group: Option<usize>,
}

impl Signs {
    /// Chunks whose signs are drawn at once.
    pub(crate) const GROUP: usize = 8;

    pub(crate) fn new(isa: Isa, seed: [u8; 32]) -> Self {
        Self {
            stream: Keystream::new(isa, seed),
            words: vec![0; Self::GROUP * LONGEST / 32].into(),
            group: None,
        }
    }

    /// Those of the values from `chunk * LONGEST` on.
    fn of(&mut self, chunk: usize) -> &[u32] {
        let group = chunk / Self::GROUP;
        if self.group != Some(group) {
            // Blocks of the stream have 512 bits.
            self.stream.seek((group * Self::GROUP * LONGEST / 512) as u64);
            self.stream.fill(&mut self.words);
            self.group = Some(group);
        }
        &self.words[chunk % Self::GROUP * (LONGEST / 32)..][..LONGEST / 32]
    }
}

/// Calls `work` with the blocks of a chunk that are rotated and their signs. Chunks are what is left of all values from a multiple of `LONGEST` on, up
/// to `LONGEST` of them: each has blocks of its own.
fn for_blocks(values: &mut [f32], signs: &[u32], work: impl Fn(&mut [f32], &[u32])) {
    for run in runs(values.len()).filter(|run| run.block > 1) {
        let values = values[run.start..][..run.len].chunks_exact_mut(run.block);
        let signs = signs[run.start / 32..][..run.len / 32].chunks_exact(run.block / 32);
        values.zip(signs).for_each(|(block, signs)| work(block, signs));
    }
}

/// Rotates a chunk in place.
pub(crate) fn rotate_chunk(isa: Isa, values: &mut [f32], chunk: usize, signs: &mut Signs) {
    for_blocks(values, signs.of(chunk), |block, signs| integers::rotate(isa, block, signs));
}

/// Takes the rotation of a chunk back, but for rounding: about one part in a million of the block's length.
pub(crate) fn rotate_back_chunk(isa: Isa, values: &mut [f32], chunk: usize, signs: &mut Signs) {
    for_blocks(values, signs.of(chunk), |block, signs| integers::rotate_back(isa, block, signs));
}

/// All chunks, with the signs of a seed.
#[cfg(test)]
pub(crate) fn rotate_back(isa: Isa, values: &mut [f32], seed: [u8; 32]) {
    let mut signs = Signs::new(isa, seed);
    for (chunk, values) in values.chunks_mut(LONGEST).enumerate() {
        rotate_back_chunk(isa, values, chunk, &mut signs);
    }
}

/// What a rotated chunk has to be multiplied with so that all coordinates are within their bounds; 1 where they are.
pub(crate) fn fit(isa: Isa, rotated: &[f32]) -> f64 {
    runs(rotated.len()).fold(1.0, |fit, run| {
        let largest = f64::from(largest_magnitude(isa, &rotated[run.start..][..run.len]));
        if largest > run.bound() {
            f64::min(fit, run.bound() / largest)
        } else {
            fit
        }
    })
}

#[cfg(test)]
mod tests;
