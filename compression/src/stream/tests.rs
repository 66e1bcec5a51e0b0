use proptest::prelude::*;

use super::*;
use crate::pack::pack;
use crate::{FixedCodec, FixedParams};

fn params(n_weights: usize, bits: u8) -> FixedParams {
    FixedParams {
        n_weights,
        bits,
        clip: 1.0,
        weight_cap: 100,
        weight_scale: 1,
        members: 5,
        evaluation: false,
        rotation: None,
    }
}

fn plan(n_weights: usize, bits: u8) -> SumPlan {
    FixedCodec::new(params(n_weights, bits))
        .expect("possible parameters")
        .plan()
        .clone()
}

/// A contribution of these residues, one list a slot.
fn contribution(plan: &SumPlan, residues: [&[u64]; 4]) -> Vec<u8> {
    let mut packed = Vec::new();
    for (slot, residues) in plan.slots().iter().zip(residues) {
        assert_eq!(slot.len, residues.len());
        pack(residues, slot.sum_bits, &mut packed);
    }
    packed
}

fn validate(plan: &SumPlan, packed: &[u8]) -> Result<(), ContributionError> {
    let mut validator = Validator::new(plan);
    validator.push(packed)?;
    validator.finish()
}

#[test]
fn residues_at_the_edges_pass_and_one_beyond_does_not() {
    let plan = plan(9, 8);
    let delta = [255, 0, 255, 1, 2, 3, 4, 5, 255];
    let largest = (1 << 24) - 1;
    for weight in [1, 100] {
        assert_eq!(validate(&plan, &contribution(&plan, [&delta, &[largest], &[weight], &[1]])), Ok(()));
    }
    let beyond = |slot, index, (least, most), residues: [&[u64]; 4]| {
        let expected = ContributionError::Residue { slot, index, least, most };
        assert_eq!(validate(&plan, &contribution(&plan, residues)), Err(expected));
    };
    let mut high = delta;
    high[8] = 256;
    beyond("delta", 8, (0, 255), [&high, &[0], &[1], &[0]]);
    beyond("train_loss", 0, (0, largest), [&delta, &[largest + 1], &[1], &[0]]);
    beyond("weight", 0, (1, 100), [&delta, &[0], &[0], &[0]]);
    beyond("weight", 0, (1, 100), [&delta, &[0], &[101], &[0]]);
    beyond("clipped", 0, (0, 1), [&delta, &[0], &[1], &[2]]);
}

/// Every bit of these may be set, and yet 0 is not allowed.
#[test]
fn a_least_above_0_is_checked_where_all_bits_may_be_set() {
    let params = FixedParams {
        weight_cap: 255,
        ..params(1, 8)
    };
    let plan = FixedCodec::new(params).expect("possible parameters").plan().clone();
    let expected = ContributionError::Residue {
        slot: "weight",
        index: 0,
        least: 1,
        most: 255,
    };
    assert_eq!(validate(&plan, &contribution(&plan, [&[0], &[0], &[0], &[0]])), Err(expected));
}

#[test]
fn the_place_of_a_bad_residue_counts_from_the_slots_start() {
    let plan = plan(3000, 8);
    let mut delta = vec![255; 3000];
    delta[2345] = 256;
    let expected = ContributionError::Residue {
        slot: "delta",
        index: 2345,
        least: 0,
        most: 255,
    };
    assert_eq!(validate(&plan, &contribution(&plan, [&delta, &[0], &[1], &[0]])), Err(expected));
}

#[test]
fn padding_must_be_zero() {
    let plan = plan(9, 8);
    // 9 values of 11 bits: 99 of 104 bits.
    let mut packed = contribution(&plan, [&[0; 9], &[0], &[1], &[0]]);
    packed[12] |= 0x80;
    assert_eq!(validate(&plan, &packed), Err(ContributionError::Padding { slot: "delta" }));
}

#[test]
fn the_length_must_be_exact() {
    let plan = plan(9, 8);
    let packed = contribution(&plan, [&[0; 9], &[0], &[1], &[0]]);
    let expected_bytes = plan.packed_bytes();
    let short = validate(&plan, &packed[..expected_bytes - 1]);
    assert_eq!(
        short,
        Err(ContributionError::TooShort {
            expected_bytes,
            found_bytes: expected_bytes - 1
        })
    );
    assert_eq!(
        validate(&plan, &[]),
        Err(ContributionError::TooShort {
            expected_bytes,
            found_bytes: 0
        })
    );
    let mut long = packed;
    long.push(0);
    assert_eq!(
        validate(&plan, &long),
        Err(ContributionError::TooLong {
            expected_bytes,
            found_bytes: expected_bytes + 1
        })
    );
}

#[test]
fn a_failed_validator_stays_failed() {
    let plan = plan(1, 8);
    let bad = contribution(&plan, [&[0], &[0], &[0], &[0]]);
    let mut validator = Validator::new(&plan);
    let error = validator.push(&bad).expect_err("weight 0");
    assert_eq!(validator.push(&[]), Err(error.clone()));
    assert_eq!(validator.finish(), Err(error));
}

proptest! {
    #[test]
    fn the_stream_may_be_cut_anywhere(
        bits in 2u8..=32,
        words in proptest::collection::vec(any::<u64>(), 1..2500),
        pieces in proptest::collection::vec(1usize..400, 1..30),
    ) {
        let plan = plan(words.len(), bits);
        let residues: Vec<u64> = words.iter().map(|word| word >> (64 - bits)).collect();
        let packed = contribution(&plan, [&residues, &[7], &[3], &[1]]);
        let mut blocks = Blocks::new(&plan, false);
        let mut seen = vec![Vec::new(); 4];
        let mut rest = packed.as_slice();
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            blocks.push(now, &mut |slot, packed| {
                let index = plan.slots().iter().position(|other| other == slot).expect("of the plan");
                let n = (8 * packed.len() / usize::from(slot.sum_bits)).min(slot.len - seen[index].len());
                let mut values = vec![0; n];
                unpack(packed, slot.sum_bits, &mut values);
                seen[index].extend(values);
            }).expect("sound");
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(blocks.finish(), Ok(()));
        prop_assert_eq!(seen, vec![residues, vec![7], vec![3], vec![1]]);
    }

    #[test]
    fn no_bytes_make_it_panic(
        bits in 2u8..=32,
        n_weights in 1usize..100,
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        cut in 0usize..600,
    ) {
        let plan = plan(n_weights, bits);
        let (front, back) = bytes.split_at(cut.min(bytes.len()));
        let mut validator = Validator::new(&plan);
        let pieces = validator.push(front).and_then(|()| validator.push(back)).and_then(|()| validator.finish());
        prop_assert_eq!(pieces.is_ok(), validate(&plan, &bytes).is_ok());
    }
}
