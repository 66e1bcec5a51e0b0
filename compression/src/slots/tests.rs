use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::*;
use crate::mask::{Sign, apply};
use crate::{DecodeError, Validator};

const BINS: usize = 300;

fn count(most: u64) -> Coding {
    Coding::Exact { least: 0, most }
}

fn real(bound: f32) -> Coding {
    Coding::Stochastic {
        bits: 16,
        bound,
        weighted: false,
    }
}

fn codec(members: u32) -> SlotCodec {
    SlotCodec::new(
        &[("seen", BINS, count(1)), ("battery", 1, real(100.0)), ("clicks", 1, count(1000))],
        members,
    )
    .expect("a plan")
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[test]
fn impossible_slots_are_refused() {
    let refused = |slots: &[(&'static str, usize, Coding)]| SlotCodec::new(slots, 5).map(|_| ()).expect_err("refused");
    assert_eq!(refused(&[("a", 0, count(1))]), PlanError::EmptySlot { slot: "a" });
    assert_eq!(
        refused(&[("a", 1, count(1)), ("a", 2, count(1))]),
        PlanError::SameName { slot: "a" }
    );
    let bits = |bits| Coding::Stochastic {
        bits,
        bound: 1.0,
        weighted: false,
    };
    for impossible in [1, 33] {
        assert_eq!(refused(&[("a", 1, bits(impossible))]), PlanError::Bits { bits: impossible });
    }
    for coding in [
        count(0),
        Coding::Exact { least: 3, most: 2 },
        real(0.0),
        real(-1.0),
        real(f32::NAN),
        real(f32::INFINITY),
    ] {
        assert_eq!(refused(&[("a", 1, coding)]), PlanError::Bounds { slot: "a" }, "{coding:?}");
    }
    assert_eq!(refused(&[("a", 1, count(1 << 62))]), PlanError::TooWide { slot: "a", members: 5 });
    assert_eq!(SlotCodec::new(&[], 0).map(|_| ()), Err(PlanError::Members));
}

fn battery(values: &[f32]) -> Values<'_> {
    Values::Stochastic { values, factor: 1.0 }
}

#[test]
fn values_that_do_not_fit_are_refused_with_the_place() {
    let codec = codec(3);
    let (seen, clicks) = ([0; BINS], [5]);
    let refused = |values: &[Values<'_>]| codec.encode(values, &mut rng(1)).expect_err("refused");
    let good = [Values::Exact(&seen), battery(&[-100.0]), Values::Exact(&clicks)];
    codec.encode(&good, &mut rng(1)).expect("at the bounds");
    assert_eq!(refused(&good[..2]), EncodeError::OtherSlots { index: 2 });
    assert_eq!(refused(&[good[0], good[2], good[1]]), EncodeError::OtherSlots { index: 1 });
    assert_eq!(
        refused(&[Values::Exact(&seen[1..]), good[1], good[2]]),
        EncodeError::OtherSlots { index: 0 }
    );
    let mut twice = seen;
    twice[299] = 2;
    let beyond = |slot, index| EncodeError::OutOfBounds { slot, index };
    assert_eq!(refused(&[Values::Exact(&twice), good[1], good[2]]), beyond("seen", 299));
    for bad in [100.01, f32::NAN, f32::NEG_INFINITY] {
        let bad = [bad];
        assert_eq!(refused(&[good[0], battery(&bad), good[2]]), beyond("battery", 0));
    }
    assert_eq!(refused(&[good[0], good[1], Values::Exact(&[1001])]), beyond("clicks", 0));
}

#[test]
fn whole_numbers_are_packed_without_randomness_as_with_it() {
    let codec = SlotCodec::new(&[("rows", 1, count(9)), ("seen", 3, count(4))], 5).expect("a plan");
    let with = [Values::Exact(&[9]), Values::Exact(&[0, 4, 1])];
    let packed = codec.encode_exact(&[&[9], &[0, 4, 1]]).expect("within bounds");
    assert_eq!(packed, codec.encode(&with, &mut rng(1)).expect("within bounds"));
    let refused = |values: &[&[u64]]| codec.encode_exact(values).expect_err("refused");
    assert_eq!(refused(&[&[9], &[0, 5, 1]]), EncodeError::OutOfBounds { slot: "seen", index: 1 });
    assert_eq!(refused(&[&[9]]), EncodeError::OtherSlots { index: 1 });
    assert_eq!(refused(&[&[9], &[0, 4]]), EncodeError::OtherSlots { index: 1 });
    assert_eq!(refused(&[&[9], &[0, 4, 1], &[]]), EncodeError::OtherSlots { index: 2 });
    let rounded = SlotCodec::new(&[("battery", 1, real(1.0))], 5).expect("a plan");
    assert_eq!(rounded.encode_exact(&[&[1]]), Err(EncodeError::OtherSlots { index: 0 }));
}

#[test]
fn rounding_is_unbiased() {
    let slots = [(
        "share",
        2,
        Coding::Stochastic {
            bits: 2,
            bound: 1.0,
            weighted: true,
        },
    )];
    let codec = SlotCodec::new(&slots, 20_000).expect("a plan");
    let (mut sum, mut rng) = (codec.accumulator(), rng(2));
    for _ in 0..20_000 {
        let values = Values::Stochastic {
            values: &[1.6, -0.4],
            factor: 0.5,
        };
        sum.add(&codec.encode(&[values], &mut rng).expect("within bounds")).expect("honest");
    }
    let Ok(SlotSum::Stochastic(sums)) = sum.slot("share") else {
        panic!("the slot is rounded");
    };
    // Standard deviation of one is at most half a level, 1/3; five of the sum's.
    let tolerance = 5.0 / 3.0 * 20_000f64.sqrt();
    for (sum, exact) in sums.iter().zip([0.8, -0.2]) {
        assert!((sum - 20_000.0 * exact).abs() < tolerance, "{sum}");
    }
    assert_eq!(sum.slot("other"), Err(DecodeError::NoSlot { slot: "other" }));
    assert_eq!(codec.accumulator().slot("share"), Err(DecodeError::Empty));
}

proptest! {
    #[test]
    fn sums_are_exact_or_within_a_level_a_client_masked_or_not(
        clients in proptest::collection::vec((0usize..BINS, -100.0f32..=100.0, 0u64..=1000), 1..20),
        seed: u64,
    ) {
        let codec = codec(20);
        let (mut plain, mut masked) = (codec.accumulator(), Accumulator::masked(codec.plan()));
        let (mut seen, mut battery, mut clicks) = (vec![0; BINS], 0.0, 0);
        let n_bytes = codec.plan().packed_bytes();
        let mask = |client: usize| {
            let mut bytes = vec![0; n_bytes];
            rng(seed ^ client as u64).fill_bytes(&mut bytes);
            bytes
        };
        let stream = |sign, bytes: Vec<u8>| {
            let mut at = 0;
            (sign, move |out: &mut [u8]| {
                out.copy_from_slice(&bytes[at..][..out.len()]);
                at += out.len();
            })
        };
        for (client, &(bin, level, n)) in clients.iter().enumerate() {
            let mut one_hot = [0; BINS];
            one_hot[bin] = 1;
            let values = [Values::Exact(&one_hot), Values::Stochastic { values: &[level], factor: 1.0 }, Values::Exact(&[n])];
            let mut packed = codec.encode(&values, &mut rng(!seed)).expect("within bounds");
            let mut validator = Validator::new(codec.plan());
            validator.push(&packed).expect("honest");
            validator.finish().expect("whole");
            plain.add(&packed).expect("honest");
            apply(codec.plan(), &mut packed, &mut [stream(Sign::Plus, mask(client))]).expect("the length is right");
            masked.add(&packed).expect("masked");
            seen[bin] += 1;
            battery += f64::from(level);
            clicks += n;
        }
        prop_assert_eq!(masked.slot("seen"), Err(DecodeError::Masked));
        let mut streams: Vec<_> = (0..clients.len()).map(|client| stream(Sign::Minus, mask(client))).collect();
        masked.unmask(&mut streams).expect("the right masks");
        for sum in [&plain, &masked] {
            prop_assert_eq!(sum.slot("seen"), Ok(SlotSum::Exact(seen.clone())));
            prop_assert_eq!(sum.slot("clicks"), Ok(SlotSum::Exact(vec![clicks])));
        }
        prop_assert_eq!(plain.slot("battery"), masked.slot("battery"));
        let Ok(SlotSum::Stochastic(sums)) = plain.slot("battery") else { panic!("the slot is rounded") };
        let level = 200.0 / 65535.0;
        prop_assert!((sums[0] - battery).abs() <= level * clients.len() as f64, "{} is not {battery}", sums[0]);
    }
}
