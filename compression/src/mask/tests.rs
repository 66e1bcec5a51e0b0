use std::time::Instant;

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::{Accumulator, AddError, ClientUpdate, DecodeError, FixedCodec, FixedParams, Slot, Validator};

type Masks = Vec<(Sign, Vec<u8>)>;

type Fill = fn(&mut [u8]);

fn no_streams() -> [(Sign, Fill); 0] {
    []
}

/// A plan of slots of these lengths and widths, whose sums hold all residues of one client.
fn plan(slots: &[(usize, u8)]) -> SumPlan {
    let slot = |&(len, sum_bits): &(usize, u8)| Slot {
        name: "slot",
        len,
        least: 0,
        most: (1 << sum_bits) - 1,
        sum_bits,
        exact: true,
        bound: 1.0,
        weighted: false,
    };
    SumPlan::new(slots.iter().map(slot).collect(), 1)
}

fn bytes(n: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; n];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// A stream of these bytes from an offset on.
fn reader(bytes: &[u8], offset: u64) -> impl FnMut(&mut [u8]) + '_ {
    let mut rest = &bytes[usize::try_from(offset).expect("fits")..];
    move |out| {
        let (now, later) = rest.split_at(out.len());
        out.copy_from_slice(now);
        rest = later;
    }
}

fn unpack_all(plan: &SumPlan, mut packed: &[u8]) -> Vec<u64> {
    let mut all = Vec::new();
    for slot in plan.slots() {
        let mut values = vec![0; slot.len];
        unpack(packed, slot.sum_bits, &mut values);
        packed = &packed[slot.packed_bytes()..];
        all.extend(values);
    }
    all
}

fn pack_all(plan: &SumPlan, mut values: &[u64]) -> Vec<u8> {
    let mut packed = Vec::new();
    for slot in plan.slots() {
        let (now, later) = values.split_at(slot.len);
        pack(now, slot.sum_bits, &mut packed);
        values = later;
    }
    packed
}

/// Value by value.
fn oracle(plan: &SumPlan, packed: &[u8], masks: &Masks) -> Vec<u8> {
    let mut values = unpack_all(plan, packed);
    for (sign, mask) in masks {
        for (value, mask) in values.iter_mut().zip(unpack_all(plan, mask)) {
            *value = match sign {
                Sign::Plus => value.wrapping_add(mask),
                Sign::Minus => value.wrapping_sub(mask),
            };
        }
    }
    let widths = plan.slots().iter().flat_map(|slot| std::iter::repeat_n(slot.sum_bits, slot.len));
    values.iter_mut().zip(widths).for_each(|(value, width)| *value &= (1 << width) - 1);
    pack_all(plan, &values)
}

fn streams(masks: &Masks, offset: u64) -> Vec<(Sign, impl FnMut(&mut [u8]) + '_)> {
    masks.iter().map(|(sign, mask)| (*sign, reader(mask, offset))).collect()
}

fn reversed(masks: &Masks) -> Masks {
    let other = |sign| if sign == Sign::Plus { Sign::Minus } else { Sign::Plus };
    masks.iter().map(|(sign, mask)| (other(*sign), mask.clone())).collect()
}

fn masks(plan: &SumPlan, n: usize, seed: u64) -> Masks {
    let sign = |i: u64| if (seed >> (i % 64)) & 1 == 0 { Sign::Plus } else { Sign::Minus };
    (0..n as u64)
        .map(|i| (sign(i), bytes(plan.packed_bytes(), seed.wrapping_add(i))))
        .collect()
}

/// Carries of more masks than fit between two fields; all their bits are set.
#[test]
fn the_room_for_carries_is_never_exceeded() {
    for width in [8, 9, 10, 17, 31, 32] {
        let plan = plan(&[(200, width)]);
        let packed = bytes(plan.packed_bytes(), 1);
        let masks = vec![(Sign::Plus, vec![0xff; plan.packed_bytes()]); 1500];
        let mut masked = packed.clone();
        apply(&plan, &mut masked, &mut streams(&masks, 0)).expect("the length is right");
        assert_eq!(masked, oracle(&plan, &packed, &masks), "{width} bits");
    }
}

#[test]
fn a_contribution_of_another_length_is_refused_and_stays() {
    let plan = plan(&[(100, 17), (1, 5)]);
    for n in [plan.packed_bytes() - 1, plan.packed_bytes() + 1, 0] {
        let mut packed = bytes(n, 1);
        let before = packed.clone();
        apply(&plan, &mut packed, &mut no_streams()).expect_err("refused");
        assert_eq!(packed, before);
    }
}

fn codec(n_weights: usize, bits: u8, members: u32) -> FixedCodec {
    FixedCodec::new(FixedParams {
        n_weights,
        bits,
        clip: 1.0,
        weight_cap: 10,
        weight_scale: 1,
        members,
        evaluation: false,
        rotation: None,
    })
    .expect("possible parameters")
}

fn contribution(codec: &FixedCodec, seed: u64) -> Vec<u8> {
    let n = codec.params().n_weights;
    let delta: Vec<f32> = (0..n).map(|i| ((i as f32 + 1.0) * (seed % 1000) as f32).sin() / 9.0).collect();
    let update = ClientUpdate {
        delta: &delta,
        examples: seed % 20 + 1,
        staleness: 0,
        train_loss: 1.0,
        evaluation: None,
    };
    codec.encode(update, &mut ChaCha8Rng::seed_from_u64(seed)).expect("finite").packed
}

/// `n` contributions, the first with all the masks over it.
fn masked_sum(codec: &FixedCodec, n: u64, masks: &Masks) -> Accumulator {
    let mut sum = Accumulator::masked(codec.plan());
    for seed in 0..n {
        let mut packed = contribution(codec, seed);
        if seed == 0 {
            apply(codec.plan(), &mut packed, &mut streams(masks, 0)).expect("the length is right");
        }
        sum.add(&packed).expect("a masked contribution");
    }
    sum
}

#[test]
fn a_masked_sum_is_neither_decoded_nor_added_to_at_the_wrong_time() {
    let codec = codec(100, 8, 4);
    let masks = masks(codec.plan(), 3, 5);
    let mut sum = masked_sum(&codec, 2, &masks);
    assert_eq!(sum.decode(&codec), Err(DecodeError::Masked));
    assert!(matches!(Accumulator::new(codec.plan()).merge(&sum), Err(AddError::OtherPlan)));
    sum.unmask(&mut streams(&reversed(&masks), 0)).expect("the right masks");
    assert!(sum.decode(&codec).is_ok());
    assert!(matches!(sum.add(&contribution(&codec, 7)), Err(AddError::Unmasked)));
    assert!(sum.decode(&codec).is_ok(), "nothing happened");
    assert_eq!(sum.unmask(&mut streams(&masks, 0)), Err(DecodeError::Poisoned), "twice");
    assert_eq!(sum.decode(&codec), Err(DecodeError::Poisoned));
}

#[test]
fn a_wrong_mask_is_an_error_and_never_a_model() {
    let codec = codec(100, 8, 4);
    let masks = masks(codec.plan(), 3, 5);
    let right = reversed(&masks);
    let mut other_seed = right.clone();
    other_seed[1].1 = bytes(codec.plan().packed_bytes(), 99);
    for wrong in [masks.clone(), right[..2].to_vec(), other_seed] {
        let mut sum = masked_sum(&codec, 2, &masks);
        let error = sum.unmask(&mut streams(&wrong, 0)).expect_err("refused");
        assert!(matches!(error, DecodeError::OutOfRange { slot: "delta", .. }), "{error}");
        assert_eq!(sum.decode(&codec), Err(DecodeError::Poisoned));
    }
}

#[test]
fn a_part_that_was_left_out_spoils_the_sum() {
    let codec = codec(5000, 8, 4);
    let mut sum = masked_sum(&codec, 2, &Masks::new());
    let result = sum.unmask_parts(2, |parts| {
        assert_eq!(parts.len(), 2);
        parts.into_iter().take(1).for_each(|part| part.unmask(&mut no_streams()));
    });
    assert_eq!(result, Err(DecodeError::Masked));
    assert_eq!(sum.decode(&codec), Err(DecodeError::Poisoned));
}

proptest! {
    #[test]
    fn masks_are_added_as_the_oracle_adds_them(
        slots in proptest::collection::vec((1usize..2500, 1u8..=63), 1..5),
        n_masks in 0usize..12,
        seed: u64,
    ) {
        let plan = plan(&slots);
        // Padding as a stream has it: at random.
        let masks = masks(&plan, n_masks, seed);
        let packed = pack_all(&plan, &unpack_all(&plan, &bytes(plan.packed_bytes(), !seed)));
        let mut masked = packed.clone();
        apply(&plan, &mut masked, &mut streams(&masks, 0)).expect("the length is right");
        prop_assert_eq!(&masked, &oracle(&plan, &packed, &masks));
        let mut validator = Validator::masked(&plan);
        prop_assert_eq!(validator.push(&masked), Ok(()));
        prop_assert_eq!(validator.finish(), Ok(()));
        apply(&plan, &mut masked, &mut streams(&reversed(&masks), 0)).expect("the length is right");
        prop_assert_eq!(masked, packed);
    }

    /// Members with a mask for each pair and one of their own; a few of them drop out.
    #[test]
    fn masked_sums_are_the_plain_ones_bit_for_bit(
        n_weights in 1usize..5000,
        bits in 2u8..=32,
        members in 2u32..8,
        dropped in 0u32..4,
        n_parts in 1usize..5,
        seed: u64,
    ) {
        let codec = codec(n_weights, bits, members);
        let plan = codec.plan();
        let pair = |i: u32, j: u32| bytes(plan.packed_bytes(), seed ^ u64::from(i.min(j) * 100 + i.max(j)));
        let own = |i: u32| bytes(plan.packed_bytes(), !seed ^ u64::from(i));
        let survivors = members - dropped.min(members - 1);
        let (mut plain, mut sum) = (Accumulator::new(plan), Accumulator::masked(plan));
        let mut left = Masks::new();
        for i in 0..survivors {
            let packed = contribution(&codec, seed.wrapping_add(i.into()));
            plain.add(&packed).expect("honest");
            let mut masks = vec![(Sign::Plus, own(i))];
            for j in (0..members).filter(|&j| j != i) {
                let sign = if j > i { Sign::Plus } else { Sign::Minus };
                masks.push((sign, pair(i, j)));
                if j >= survivors {
                    left.push((sign, pair(i, j)));
                }
            }
            left.push((Sign::Plus, own(i)));
            let mut masked = packed;
            apply(plan, &mut masked, &mut streams(&masks, 0)).expect("the length is right");
            sum.add(&masked).expect("a masked contribution");
            if i + 1 < members {
                let before = sum.clone();
                sum.add(&masked).expect("a masked contribution");
                sum.take_out(&mut masked.as_slice()).expect("the same bytes");
                prop_assert!(sum == before);
            }
        }
        let left = reversed(&left);
        sum.unmask_parts(n_parts, |parts| {
            for part in parts {
                let offset = part.offset();
                part.unmask(&mut streams(&left, offset));
            }
        }).expect("the right masks");
        let bits = |sum: &Accumulator| {
            let sum = sum.decode(&codec).expect("not empty");
            let mean: Vec<u32> = sum.mean_delta.iter().map(|mean| mean.to_bits()).collect();
            (mean, sum.weight, sum.train_loss.to_bits(), sum.clipped)
        };
        prop_assert_eq!(bits(&sum), bits(&plain));
        plain.unmask(&mut no_streams()).expect("no masks");
        prop_assert_eq!(bits(&sum), bits(&plain));
    }
}

/// Prints what masks cost: `cargo test --release -p aimass-compression -- --ignored --nocapture speed_of_masks`.
#[test]
#[ignore = "a measurement of some seconds"]
#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn speed_of_masks() {
    const N: usize = 1_000_000;
    let best = |work: &mut dyn FnMut()| {
        (0..7).fold(f64::INFINITY, |best, _| {
            let start = Instant::now();
            work();
            best.min(start.elapsed().as_secs_f64())
        })
    };
    for (bits, members) in [(8, 512), (16, 256)] {
        let codec = codec(N, bits, members);
        let (plan, width) = (codec.plan(), codec.plan().slots()[0].sum_bits);
        let contribution = contribution(&codec, 1);
        let gigabytes = contribution.len() as f64 / 1e9;
        println!("{N} values of {width} bits, {:.3} MB", gigabytes * 1e3);
        let mut copy = contribution.clone();
        let seconds = best(&mut || {
            copy.copy_from_slice(&contribution);
            std::hint::black_box(&mut copy);
        });
        println!("  memcpy: {:.1} GB/s", gigabytes / seconds);
        for (name, mut sum) in [("plain", Accumulator::new(plan)), ("masked", Accumulator::masked(plan))] {
            let seconds = best(&mut || sum.add(&contribution).expect("honest"));
            println!(
                "  {name} add: {:.1} GB/s, {:.3} ns a value",
                gigabytes / seconds,
                seconds * 1e9 / N as f64
            );
        }
        let mask = bytes(plan.packed_bytes(), 3);
        for n_streams in [1, 10, 135, 1000] {
            let sign = |i| if i % 2 == 0 { Sign::Plus } else { Sign::Minus };
            let streams = || (0..n_streams).map(|i| (sign(i), reader(&mask, 0))).collect::<Vec<_>>();
            let mut packed = contribution.clone();
            let apply = best(&mut || apply(plan, &mut packed, &mut streams()).expect("the length is right"));
            let unmask = best(&mut || {
                // What comes out of wrong masks does not matter here.
                let _ = Accumulator::masked(plan).unmask(&mut streams());
            });
            let halves = best(&mut || {
                let _ = Accumulator::masked(plan).unmask_parts(2, |parts| {
                    std::thread::scope(|scope| {
                        for part in parts {
                            let mask = &mask;
                            scope.spawn(move || {
                                let offset = part.offset();
                                part.unmask(&mut (0..n_streams).map(|i| (sign(i), reader(mask, offset))).collect::<Vec<_>>());
                            });
                        }
                    });
                });
            });
            for (name, seconds) in [("apply", apply), ("unmask", unmask), ("unmask on two threads", halves)] {
                let seconds = seconds / f64::from(n_streams);
                println!(
                    "  {name} {n_streams} masks: {:.1} GB/s, {:.3} ns a value and mask",
                    gigabytes / seconds,
                    seconds * 1e9 / N as f64
                );
            }
        }
    }
}
