use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::*;
use crate::{ClientUpdate, FixedParams};

const N: usize = 50;

fn codec(members: u32) -> FixedCodec {
    FixedCodec::new(FixedParams {
        n_weights: N,
        bits: 16,
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
    let delta: Vec<f32> = (0..N).map(|i| ((i as f32 + 1.0) * (seed % 1000) as f32).sin()).collect();
    let update = ClientUpdate {
        delta: &delta,
        examples: seed % 20 + 1,
        staleness: 0,
        train_loss: 1.0,
        evaluation: None,
    };
    codec.encode(update, &mut ChaCha8Rng::seed_from_u64(seed)).expect("finite").packed
}

/// A reader that fails after the bytes that it has.
struct Breaks<'a>(&'a [u8]);

impl Read for Breaks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("the disk is gone")),
            n => Ok(n),
        }
    }
}

#[test]
fn a_one_hot_update_shows_up_once() {
    let codec = codec(4);
    let mut sum = Accumulator::new(codec.plan());
    for hot in 0..3 {
        let mut delta = [0.0; N];
        delta[hot] = 1.0;
        let update = ClientUpdate {
            delta: &delta,
            examples: 10,
            staleness: 0,
            train_loss: 2.0,
            evaluation: None,
        };
        let encoded = codec.encode(update, &mut ChaCha8Rng::seed_from_u64(hot as u64)).expect("finite");
        sum.add(&encoded.packed).expect("honest");
    }
    let decoded = sum.decode(&codec).expect("three contributions");
    assert_eq!((sum.count(), decoded.weight, decoded.clipped), (3, 30, 0));
    assert_eq!(sum.memory_bytes(), codec.plan().packed_bytes());
    for (i, mean) in decoded.mean_delta.iter().enumerate() {
        let expected = if i < 3 { 1.0 / 3.0 } else { 0.0 };
        assert!((mean - expected).abs() < 1e-4, "{i}: {mean}");
    }
}

#[test]
fn a_bad_contribution_changes_nothing() {
    let codec = codec(4);
    let good = contribution(&codec, 1);
    let mut sum = Accumulator::new(codec.plan());
    sum.add(&good).expect("honest");
    let before = sum.clone();
    let mut bad_end = good.clone();
    *bad_end.last_mut().expect("not empty") = 0xff;
    for bad in [&good[..good.len() - 1], &[good.as_slice(), &[0]].concat(), &bad_end] {
        let error = sum.add(bad).expect_err("refused");
        assert!(error.is_clients_fault(), "{error}");
        assert!(sum == before);
    }
    sum.add(&good).expect("still usable");
}

#[test]
fn a_contribution_that_breaks_off_while_it_is_added_poisons_the_sum() {
    let codec = codec(4);
    let good = contribution(&codec, 1);
    let mut sum = Accumulator::new(codec.plan());
    let error = sum.add_stream(&mut Breaks(&good)).expect_err("the reader fails");
    assert!(matches!(error, AddError::Read(_)) && !error.is_clients_fault());
    assert!(sum.is_poisoned());
    assert!(matches!(sum.add(&good), Err(AddError::Poisoned)));
    assert!(matches!(Accumulator::new(codec.plan()).merge(&sum), Err(AddError::Poisoned)));
    assert_eq!(sum.decode(&codec), Err(DecodeError::Poisoned));
}

#[test]
fn a_reader_that_fails_before_its_first_byte_poisons_nothing() {
    let codec = codec(4);
    let mut sum = Accumulator::new(codec.plan());
    sum.add_stream(&mut Breaks(&[])).expect_err("the reader fails");
    assert!(!sum.is_poisoned());
    sum.add(&contribution(&codec, 1)).expect("still usable");
}

#[test]
fn only_the_planned_number_of_contributions_fits() {
    let codec = codec(2);
    let mut sum = Accumulator::new(codec.plan());
    for seed in 0..2 {
        sum.add(&contribution(&codec, seed)).expect("room");
    }
    assert!(matches!(sum.add(&contribution(&codec, 2)), Err(AddError::Full { members: 2 })));
    let mut leaf = Accumulator::new(codec.plan());
    leaf.add(&contribution(&codec, 3)).expect("room");
    assert!(matches!(leaf.merge(&sum), Err(AddError::Full { members: 2 })));
    assert_eq!(leaf.count(), 1);
}

#[test]
fn sums_of_other_plans_do_not_mix() {
    let (two, three) = (codec(2), codec(3));
    let mut sum = Accumulator::new(two.plan());
    assert!(matches!(sum.merge(&Accumulator::new(three.plan())), Err(AddError::OtherPlan)));
    assert_eq!(sum.decode(&three), Err(DecodeError::OtherPlan));
    assert_eq!(sum.decode(&two), Err(DecodeError::Empty));
}

#[test]
fn the_largest_residues_of_all_members_fit_the_widest_sum() {
    let params = FixedParams {
        n_weights: 1,
        bits: 32,
        clip: 1.0,
        weight_cap: u32::MAX,
        weight_scale: 1,
        members: 3,
        evaluation: false,
        rotation: None,
    };
    let codec = FixedCodec::new(params).expect("possible parameters");
    let update = ClientUpdate {
        delta: &[1.0],
        examples: u64::MAX,
        staleness: 0,
        train_loss: 1024.0,
        evaluation: None,
    };
    let encoded = codec.encode(update, &mut ChaCha8Rng::seed_from_u64(1)).expect("at the bounds");
    let mut sum = Accumulator::new(codec.plan());
    for _ in 0..3 {
        sum.add(&encoded.packed).expect("honest");
    }
    let decoded = sum.decode(&codec).expect("not empty");
    assert_eq!(
        (decoded.mean_delta.as_slice(), decoded.weight, decoded.train_loss),
        (&[1.0][..], 3 * u64::from(u32::MAX), 1024.0)
    );
}

proptest! {
    #[test]
    fn order_and_leaves_do_not_matter(
        seeds in proptest::collection::vec(any::<u64>(), 1..12),
        keys in proptest::collection::vec(any::<u64>(), 12),
        leaves in proptest::collection::vec(0usize..4, 12),
    ) {
        let codec = codec(12);
        let contributions: Vec<_> = seeds.iter().map(|&seed| contribution(&codec, seed)).collect();
        let mut in_order = Accumulator::new(codec.plan());
        for packed in &contributions {
            in_order.add(packed).expect("honest");
        }
        let mut order: Vec<usize> = (0..contributions.len()).collect();
        order.sort_by_key(|&i| keys[i]);
        let mut by_leaf = vec![Accumulator::new(codec.plan()); 4];
        for i in order {
            by_leaf[leaves[i]].add_stream(&mut contributions[i].as_slice()).expect("honest");
        }
        let mut merged = Accumulator::new(codec.plan());
        for leaf in by_leaf.iter().rev() {
            merged.merge(leaf).expect("room");
        }
        prop_assert!(merged == in_order);
        let bits = |sum: &Accumulator| -> Vec<u32> {
            sum.decode(&codec).expect("not empty").mean_delta.iter().map(|mean| mean.to_bits()).collect()
        };
        prop_assert_eq!(bits(&merged), bits(&in_order));
    }
}
