use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::{Accumulator, ClientUpdate, DecodeError, Decoding, Evaluation, FixedCodec, FixedParams, Scratch, Sums};

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// What an update is made of.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Zeros,
    Tiny,
    Usual,
    /// Far beyond the clip.
    Long,
    /// One value holds most of the length: blocks of it need a look at their coordinates.
    Spike,
}

fn delta(kind: Kind, n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rng(seed);
    let mut value = || rng.next_u32() as i32 as f32 / 2f32.powi(31);
    (0..n)
        .map(|i| match kind {
            Kind::Zeros => [0.0, -0.0][i % 2],
            Kind::Tiny => 1e-38 * value(),
            Kind::Usual => value() / (n as f32).sqrt(),
            Kind::Long => 1e30 * value(),
            Kind::Spike if i == n / 2 => 0.9,
            Kind::Spike => 1e-6 * value(),
        })
        .collect()
}

fn kind() -> impl Strategy<Value = Kind> {
    proptest::sample::select(vec![Kind::Zeros, Kind::Tiny, Kind::Usual, Kind::Long, Kind::Spike])
}

fn params() -> impl Strategy<Value = FixedParams> {
    let n_weights = prop_oneof![1usize..200, 4000usize..4300, 8000usize..14_000, 32_760usize..33_000];
    (
        n_weights,
        2u8..=32,
        1u32..2000,
        6u32..1000,
        any::<bool>(),
        any::<Option<[u8; 32]>>(),
    )
        .prop_map(|(n_weights, bits, weight_cap, members, evaluation, rotation)| FixedParams {
            n_weights,
            bits,
            clip: 1.0,
            weight_cap,
            weight_scale: 1 + weight_cap % 2 * 1023,
            members,
            evaluation,
            rotation,
        })
}

fn update(delta: &[f32], seed: u64) -> ClientUpdate<'_> {
    ClientUpdate {
        delta,
        examples: 1 + seed % 3000,
        staleness: (seed % 5) as u32,
        train_loss: (seed % 100) as f32 - 50.0,
        evaluation: (!seed.is_multiple_of(3)).then_some(Evaluation {
            loss: 0.5,
            correct: seed % 700,
            examples: seed % 700 + seed % 11,
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_open_sum_is_that_of_the_packed_contributions(
        params in params(),
        clients in proptest::collection::vec((kind(), 0u64..1 << 40), 1..6),
        cut in 0usize..6,
    ) {
        let codec = FixedCodec::new(params).expect("possible parameters");
        let mut packed = Accumulator::new(codec.plan());
        // Two sums of parts of the clients, with memory that was used before.
        let mut scratch = Scratch::new();
        let mut sums = [OpenSum::new(codec.plan()), OpenSum::new(codec.plan())];
        for (i, &(kind, seed)) in clients.iter().enumerate() {
            let delta = delta(kind, params.n_weights, seed);
            let encoded = codec.encode(update(&delta, seed), &mut rng(seed)).expect("finite");
            packed.add(&encoded.packed).expect("honest");
            let sum = &mut sums[usize::from(i >= cut)];
            let clipped = codec.encode_into(update(&delta, seed), &mut rng(seed), sum, &mut scratch).expect("finite");
            prop_assert_eq!(clipped, encoded.clipped);
        }
        let [first, second] = sums;
        let (mut forward, mut backward) = (first.clone(), second.clone());
        forward.merge(&second).expect("of one plan");
        backward.merge(&first).expect("of one plan");
        prop_assert!(forward == backward);
        prop_assert_eq!(forward.count() as usize, clients.len());
        let merged = forward.to_accumulator();
        prop_assert!(merged == packed, "the packed sums differ");
        let packed = packed.decode(&codec).expect("not empty");
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        // In one piece or in several, and in parts of the mean.
        for sums in [&[forward.clone()][..], &[first.clone(), second.clone()], &[second, first]] {
            let decoding = codec.decoding(Sums::Open(sums)).expect("not empty");
            let mut mean = vec![f32::NAN; params.n_weights];
            for (i, part) in mean.chunks_mut(Decoding::PART).enumerate().rev() {
                decoding.mean(i * Decoding::PART, part);
            }
            prop_assert_eq!(decoding.count() as usize, clients.len());
            let decoded = decoding.finish(mean);
            prop_assert_eq!(bits(&decoded.mean_delta), bits(&packed.mean_delta));
            prop_assert!(decoded == packed);
        }
        let forward = forward.reused(codec.plan());
        prop_assert!(forward == OpenSum::new(codec.plan()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn those_who_learnt_nothing_add_together_what_each_adds_alone(params in params(), seeds in proptest::collection::vec(0u64..1 << 40, 1..6)) {
        let codec = FixedCodec::new(params).expect("possible parameters");
        let (mut alone, mut together) = (OpenSum::new(codec.plan()), OpenSum::new(codec.plan()));
        let (mut scratch, zeros) = (Scratch::new(), vec![0.0; params.n_weights]);
        for &seed in &seeds {
            codec.encode_into(update(&zeros, seed), &mut rng(seed), &mut alone, &mut scratch).expect("finite");
        }
        let mut clients: Vec<_> = seeds.iter().map(|&seed| (update(&[], seed), rng(seed))).collect();
        codec.encode_zeros_into(&mut clients, &mut together, &mut scratch).expect("room for all");
        prop_assert!(alone == together);
    }
}

#[test]
fn sums_up_to_32_bits_take_four_bytes() {
    let params = |members| FixedParams {
        n_weights: 1000,
        bits: 24,
        clip: 1.0,
        weight_cap: 100,
        weight_scale: 1,
        members,
        evaluation: false,
        rotation: None,
    };
    let bytes = |members| OpenSum::new(FixedCodec::new(params(members)).expect("possible").plan()).memory_bytes();
    assert_eq!(bytes(256), 4 * 1003);
    // The weight takes few bits still; deltas and losses have 33.
    assert_eq!(bytes(257), 8 * 1001 + 4 * 2);
}

#[test]
fn what_is_refused_leaves_the_sum_as_it_was() {
    let params = FixedParams {
        n_weights: 5000,
        bits: 8,
        clip: 1.0,
        weight_cap: 100,
        weight_scale: 1,
        members: 2,
        evaluation: true,
        rotation: Some([1; 32]),
    };
    let codec = FixedCodec::new(params).expect("possible parameters");
    let other = FixedCodec::new(FixedParams { bits: 9, ..params }).expect("possible parameters");
    let (mut sum, mut scratch) = (OpenSum::new(codec.plan()), Scratch::new());
    let good = delta(Kind::Usual, 5000, 1);
    let mut bad = good.clone();
    bad[4999] = f32::NAN;
    codec
        .encode_into(update(&good, 1), &mut rng(1), &mut sum, &mut scratch)
        .expect("finite");
    let before = sum.clone();
    let wrong = Evaluation {
        loss: 0.0,
        correct: 2,
        examples: 1,
    };
    let refusals = [
        (&codec, update(&bad, 1), EncodeError::NonFinite { index: 4999 }),
        (
            &codec,
            update(&good[1..], 1),
            EncodeError::Length {
                expected: 5000,
                found: 4999,
            },
        ),
        (
            &codec,
            ClientUpdate {
                evaluation: Some(wrong),
                ..update(&good, 1)
            },
            EncodeError::Evaluation,
        ),
        (
            &codec,
            ClientUpdate {
                train_loss: f32::NAN,
                ..update(&good, 1)
            },
            EncodeError::Loss,
        ),
        (&other, update(&good, 1), EncodeError::OtherPlan),
    ];
    for (codec, update, error) in refusals {
        assert_eq!(codec.encode_into(update, &mut rng(2), &mut sum, &mut scratch), Err(error));
        assert!(sum == before);
    }
    assert!(matches!(sum.merge(&OpenSum::new(other.plan())), Err(AddError::OtherPlan)));
    codec
        .encode_into(update(&good, 2), &mut rng(2), &mut sum, &mut scratch)
        .expect("room for two");
    let full = sum.clone();
    let mut clients = [(update(&[], 3), rng(3))];
    let refused = codec.encode_zeros_into(&mut clients, &mut sum, &mut scratch);
    assert_eq!(refused, Err(EncodeError::Full { members: 2 }));
    let mut one_is_bad = [(update(&[], 1), rng(1)), (update(&good, 1), rng(1))];
    let (mut room, empty) = (OpenSum::new(codec.plan()), OpenSum::new(codec.plan()));
    let refused = codec.encode_zeros_into(&mut one_is_bad, &mut room, &mut scratch);
    assert_eq!(refused, Err(EncodeError::Length { expected: 0, found: 5000 }));
    assert!(room == empty, "nothing of the good one is in it");
    let both = [before.clone(), full.clone()];
    assert_eq!(codec.decoding(Sums::Open(&both)).err(), Some(DecodeError::Full { members: 2 }));
    assert_eq!(codec.decoding(Sums::Open(&both[..0])).err(), Some(DecodeError::Empty));
    assert_eq!(other.decoding(Sums::Open(&both[..1])).err(), Some(DecodeError::OtherPlan));
    let refused = codec.encode_into(update(&good, 3), &mut rng(3), &mut sum, &mut scratch);
    assert_eq!(refused, Err(EncodeError::Full { members: 2 }));
    assert!(matches!(sum.merge(&before), Err(AddError::Full { members: 2 })));
    assert!(sum == full);
}
