use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

const SEED: [u8; 32] = [7; 32];

fn length(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

fn rotated_on(isa: Isa, values: &[f32], seed: [u8; 32]) -> Vec<f32> {
    let (mut values, mut signs) = (values.to_vec(), Signs::new(isa, seed));
    for (chunk, values) in values.chunks_mut(LONGEST).enumerate() {
        rotate_chunk(isa, values, chunk, &mut signs);
    }
    values
}

fn rotated(values: &[f32], seed: [u8; 32]) -> Vec<f32> {
    rotated_on(Isa::best(), values, seed)
}

#[test]
fn blocks_fall_in_powers_of_two_and_nothing_is_padded() {
    let lengths = |n| runs(n).map(|run| (run.start, run.len, run.block)).collect::<Vec<_>>();
    assert_eq!(lengths(0), []);
    assert_eq!(lengths(63), [(0, 63, 1)]);
    assert_eq!(lengths(64), [(0, 64, 64)]);
    assert_eq!(
        lengths(3 * 4096 + 1024 + 64 + 5),
        [(0, 3 * 4096, 4096), (3 * 4096, 1024, 1024), (13_312, 64, 64), (13_376, 5, 1)]
    );
    let bounds: Vec<f64> = runs(4096 + 64 + 1).map(|run| run.bound()).collect();
    assert_eq!(bounds, [6.0 / 64.0, 0.75, 1.0]);
}

/// Entry (i, j) of the matrix is (-1)^popcount(i & j).
#[test]
fn each_block_is_the_hadamard_matrix() {
    for b in [8usize, 16, 32, 64, 128] {
        for j in 0..b {
            let mut column = vec![0.0; b];
            column[j] = 1.0;
            integers::rotate(Isa::best(), &mut column, &vec![0; b.div_ceil(32)]);
            for (i, &entry) in column.iter().enumerate() {
                let sign = if (i & j).count_ones() % 2 == 0 { 1.0 } else { -1.0 };
                assert_eq!(entry, sign * (b as f32).sqrt().recip(), "({i}, {j}) of {b}");
            }
        }
    }
}

/// The bits on another machine must be these.
#[test]
fn a_rotation_has_the_same_bits_everywhere() {
    let values: Vec<f32> = (0..128 + 64 + 3).map(|i| 1.0 / (i as f32 + 1.5)).collect();
    for isa in Isa::available() {
        let bits: Vec<u32> = rotated_on(isa, &values, SEED).iter().map(|value| value.to_bits()).collect();
        assert_eq!([bits[0], bits[127], bits[128], bits[191], bits[194]], GOLDEN, "{isa:?}");
    }
}

/// Computed once, with this code.
const GOLDEN: [u32; 5] = [1_031_986_086, 1_023_646_446, 995_438_984, 996_901_108, 1_000_840_315];

/// Many groups of chunks, and a tail with blocks of several lengths: the signs are those of one stream, bit after bit.
#[test]
fn the_signs_are_the_bits_of_one_stream() {
    let n = 19 * LONGEST + 2048 + 64 + 7;
    let mut bytes = vec![0; n.div_ceil(8)];
    ChaCha8Rng::from_seed(SEED).fill_bytes(&mut bytes);
    let values: Vec<f32> = (0..n).map(|i| (i as f32).sin()).collect();
    let mut expected = values.clone();
    for run in runs(n).filter(|run| run.block > 1) {
        for start in (run.start..run.start + run.len).step_by(run.block) {
            let block = &mut expected[start..][..run.block];
            for (i, value) in block.iter_mut().enumerate() {
                if bytes[(start + i) / 8] >> ((start + i) % 8) & 1 == 1 {
                    *value = -*value;
                }
            }
            integers::rotate(Isa::PORTABLE, block, &vec![0; run.block / 32]);
        }
    }
    for isa in Isa::available() {
        assert_eq!(rotated_on(isa, &values, SEED), expected, "{isa:?}");
    }
}

#[test]
fn a_spike_is_spread_over_its_block() {
    let mut values = vec![0.0; 4096 + 100];
    values[77] = 1.0;
    let rotated = rotated(&values, SEED);
    assert!(rotated[..4096].iter().all(|value| value.abs() == 1.0 / 64.0));
    assert!(rotated[4096..].iter().all(|value| *value == 0.0));
}

proptest! {
    #[test]
    fn it_keeps_lengths_and_angles_and_can_be_taken_back(
        x in proptest::collection::vec(-1.0f32..1.0, 0..9000),
        shift in 0usize..50,
        seed: [u8; 32],
    ) {
        let y: Vec<f32> = x.iter().cycle().skip(shift).take(x.len()).map(|value| value * 0.7 + 0.1).collect();
        let (rotated_x, rotated_y) = (rotated(&x, seed), rotated(&y, seed));
        let scale = 1e-6 * (1.0 + length(&x) * length(&y));
        prop_assert!((length(&rotated_x) - length(&x)).abs() <= 1e-6 * (1.0 + length(&x)));
        prop_assert!((dot(&rotated_x, &rotated_y) - dot(&x, &y)).abs() <= scale);
        let mut back = rotated_x;
        rotate_back(Isa::best(), &mut back, seed);
        let distance = back.iter().zip(&x).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt();
        prop_assert!(distance <= 1e-6 * (1.0 + length(&x)), "{distance}");
    }

    #[test]
    fn another_seed_is_another_rotation(seed: [u8; 32], at in 0usize..32, change in 1u8..) {
        let values: Vec<f32> = (0..256).map(|i| (i as f32).sin()).collect();
        let mut other = seed;
        other[at] ^= change;
        prop_assert_ne!(rotated(&values, seed), rotated(&values, other));
    }
}
