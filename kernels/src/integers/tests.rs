use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::Isa;
use crate::testing::Random;

/// Lengths around every border of registers and groups.
const LENGTHS: [usize; 15] = [0, 1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 100, 257, 4096];

fn words(seed: u64, n: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.next_u32()).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn the_keystream_is_that_of_the_crate() {
    for isa in Isa::available() {
        for seed in 0..3u64 {
            let key: [u8; 32] = std::array::from_fn(|i| (i as u64 * 7 + seed * 101) as u8);
            let mut stream = Keystream::new(isa, key);
            let mut n_blocks = 0;
            for n in LENGTHS {
                let mut rng = ChaCha8Rng::from_seed(key);
                rng.set_word_pos(u128::from(16 * n_blocks));
                let expected: Vec<u32> = (0..n).map(|_| rng.next_u32()).collect();
                let mut found = vec![0; n];
                stream.fill(&mut found);
                assert_eq!(found, expected, "{isa:?}: {n} words from block {n_blocks}");
                n_blocks += n.div_ceil(16) as u64;
            }
        }
    }
}

#[test]
fn the_counter_of_blocks_has_64_bits() {
    for isa in Isa::available() {
        let first = u64::from(u32::MAX) - 5;
        let mut rng = ChaCha8Rng::from_seed([9; 32]);
        rng.set_word_pos(16 * u128::from(first));
        let expected: Vec<u32> = (0..16 * 40).map(|_| rng.next_u32()).collect();
        let (mut stream, mut found) = (Keystream::new(isa, [9; 32]), vec![0; 16 * 40]);
        stream.seek(first);
        stream.fill(&mut found);
        assert_eq!(found, expected, "{isa:?}");
    }
}

/// One step after the other, one value after the other.
fn transformed(mut block: Vec<f32>) -> Vec<f32> {
    let mut half = 1;
    while half < block.len() {
        for i in (0..block.len()).filter(|i| i & half == 0) {
            let (a, b) = (block[i], block[i + half]);
            block[i] = a + b;
            block[i + half] = a - b;
        }
        half *= 2;
    }
    let factor = (block.len() as f32).sqrt().recip();
    block.iter().map(|value| value * factor).collect()
}

fn turned(block: &[f32], signs: &[u32]) -> Vec<f32> {
    let turn = |(i, &value): (usize, &f32)| if signs[i / 32] >> (i % 32) & 1 == 1 { -value } else { value };
    block.iter().enumerate().map(turn).collect()
}

#[test]
fn blocks_are_rotated_to_the_same_bits_on_every_instruction_set() {
    for isa in Isa::available() {
        for power in 0..=13 {
            let n = 1 << power;
            let mut random = Random::new(power);
            let mut block = random.values(n);
            // Zeros of both signs, and numbers of other sizes.
            for i in 0..n / 4 {
                let at = random.below(n);
                block[at] *= [0.0, -0.0, 1e-30, 1e20][i % 4];
            }
            let signs = words(power, n.div_ceil(32));
            let mut found = block.clone();
            rotate(isa, &mut found, &signs);
            let expected = transformed(turned(&block, &signs));
            assert_eq!(bits(&found), bits(&expected), "{isa:?}: {n}");
            let mut found = block.clone();
            rotate_back(isa, &mut found, &signs);
            let expected = turned(&transformed(block), &signs);
            assert_eq!(bits(&found), bits(&expected), "{isa:?}: {n} back");
        }
    }
}

#[test]
fn values_are_rounded_to_the_same_residues_on_every_instruction_set() {
    for isa in Isa::available() {
        for (seed, most) in [(1, 3), (2, 255), (3, (1 << 24) - 1), (4, u32::MAX)] {
            for n in LENGTHS {
                let values = Random::new(seed).values(n);
                let random = words(seed, random_words(n));
                // A value in some goes beyond the bounds a little, as rounding may.
                let half = f64::from(most) / 2.0;
                let rounding = Rounding::new(most, half * 1.0001);
                let mut found = vec![9; n];
                rounding.round(isa, &values, &random, &mut found);
                for (i, (&value, &found)) in values.iter().zip(&found).enumerate() {
                    let word = random[i / 32 * 16 + i % 16];
                    let r = if i % 32 < 16 { word as u16 } else { (word >> 16) as u16 } as i16;
                    let level = f64::from(value) * (half * 1.0001) + (half + 1.0 / 131_072.0) + f64::from(r) / 65536.0;
                    let expected = level.clamp(0.0, f64::from(most)).round_ties_even() as u32;
                    assert_eq!(found, expected, "{isa:?}: value {i} of {n} to {most}");
                }
            }
        }
    }
}

#[test]
fn zeros_are_rounded_as_any_values() {
    for isa in Isa::available() {
        for most in [1, 2, 3, 4, 255, 256, (1 << 24) - 1, u32::MAX] {
            for n in LENGTHS {
                let (random, rounding) = (words(n as u64, random_words(n)), Rounding::new(most, 3.7));
                let (mut found, mut expected) = (vec![9; n], vec![8; n]);
                rounding.round_zeros(isa, &random, &mut found);
                rounding.round(isa, &vec![0.0; n], &random, &mut expected);
                assert_eq!(found, expected, "{isa:?}: {n} to {most}");
            }
        }
    }
}

/// All 2^16 halves: the mean is that of the argument to 2^-17 of a level, and for a quarter exactly.
#[test]
fn rounding_is_right_on_average() {
    let all: Vec<u32> = (0..1u32 << 16).map(|half| half << 16 | (half ^ 0x8000)).collect();
    for isa in Isa::available() {
        for level in [0.0f32, 0.25, 0.5, 0.1, -0.3, 0.7] {
            let values = vec![level; 2 * all.len()];
            let mut residues = vec![0; values.len()];
            Rounding::new(255, 1.0).round(isa, &values, &all, &mut residues);
            let mean = residues.iter().map(|&q| f64::from(q)).sum::<f64>() / values.len() as f64;
            let error = (mean - (127.5 + f64::from(level))).abs();
            assert!(
                error <= if (level * 4.0).fract() == 0.0 { 0.0 } else { 1.0 / 131_072.0 },
                "{isa:?}: {level} is {error} off"
            );
        }
    }
}

#[test]
fn squares_magnitudes_and_scaled_values_are_those_of_the_plain_loops() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let values: Vec<f32> = Random::new(n as u64).values(n);
            let whole = &values[..n / 16 * 16];
            let (mut found, mut expected) = ([0.5; 16], [0.5; 16]);
            add_squares(isa, whole, &mut found);
            for (i, &value) in whole.iter().enumerate() {
                expected[i % 16] += f64::from(value) * f64::from(value);
            }
            assert_eq!(found.map(f64::to_bits), expected.map(f64::to_bits), "{isa:?}: {n}");
            let largest = values.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
            assert_eq!(largest_magnitude(isa, &values), largest, "{isa:?}: {n}");
            let mut scaled = vec![0.0; n];
            scale(isa, &values, 1.0 / 3.0, &mut scaled);
            let expected: Vec<f32> = values.iter().map(|&value| (f64::from(value) * (1.0 / 3.0)) as f32).collect();
            assert_eq!(bits(&scaled), bits(&expected), "{isa:?}: {n}");
        }
    }
}

#[test]
fn counters_are_added_modulo_their_width() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let (a, b) = (words(1, n), words(2, n));
            let mut sums = a.clone();
            add(isa, &mut sums, &b);
            let wide = |x: &[u32]| x.iter().map(|&x| u64::from(x) << 32 | 7).collect::<Vec<u64>>();
            let (mut narrow, mut wider) = (wide(&a), wide(&a));
            add_narrow(isa, &mut narrow, &b);
            add_wide(isa, &mut wider, &wide(&b));
            for i in 0..n {
                let start = u64::from(a[i]) << 32 | 7;
                assert_eq!(sums[i], a[i].wrapping_add(b[i]), "{isa:?}: {i} of {n}");
                assert_eq!(narrow[i], start + u64::from(b[i]), "{isa:?}: {i} of {n}");
                assert_eq!(wider[i], start.wrapping_add(u64::from(b[i]) << 32 | 7), "{isa:?}: {i} of {n}");
            }
        }
    }
}

/// One bit at a time.
fn packed_by_bits(values: &[u64], width: u8) -> Vec<u8> {
    let width = usize::from(width);
    let mut out = vec![0u8; (values.len() * width).div_ceil(8)];
    for bit in 0..values.len() * width {
        out[bit / 8] |= ((values[bit / width] >> (bit % width) & 1) as u8) << (bit % 8);
    }
    out
}

#[test]
fn packing_is_what_the_oracle_packs_and_unpacks_to_the_same() {
    for width in 1..=MAX_WIDTH {
        for n in LENGTHS {
            let mut rng = ChaCha8Rng::seed_from_u64(n as u64);
            let values: Vec<u64> = (0..n).map(|_| rng.next_u64() >> (64 - width)).collect();
            let expected = packed_by_bits(&values, width);
            assert_eq!(expected.len(), packed_len(n, width), "{n} of {width}");
            let mut out = vec![0xff; expected.len() + SLACK];
            Residue::pack(&values, width, &mut out);
            assert_eq!(out[..expected.len()], expected, "{n} of {width}");
            let mut back = vec![1; n];
            unpack(&expected, width, &mut back);
            assert_eq!(back, values, "{n} of {width}");
            let narrow: Vec<u32> = values
                .iter()
                .map(|&value| value as u32 >> 32u8.saturating_sub(width).min(31))
                .collect();
            let wide: Vec<u64> = narrow.iter().map(|&value| value.into()).collect();
            let (mut out, mut expected) = (vec![0xff; out.len()], vec![0; out.len()]);
            Residue::pack(&narrow, width, &mut out);
            Residue::pack(&wide, width, &mut expected);
            let len = packed_len(n, width);
            assert_eq!(out[..len], expected[..len], "{n} of {width}");
        }
    }
}

#[test]
fn means_are_those_of_whole_numbers() {
    for isa in Isa::available() {
        for n in LENGTHS {
            let sums = words(n as u64, n);
            for zero in [0, 5, u64::from(u32::MAX), 77 * (1 << 24)] {
                let mut found = vec![f32::NAN; n];
                means(isa, &sums, zero as f64, 3.7e-9, &mut found);
                let expected: Vec<f32> = sums
                    .iter()
                    .map(|&sum| ((2 * i64::from(sum) - zero as i64) as f64 * 3.7e-9) as f32)
                    .collect();
                assert_eq!(bits(&found), bits(&expected), "{isa:?}: {n} sums, zero {zero}");
            }
        }
    }
}
