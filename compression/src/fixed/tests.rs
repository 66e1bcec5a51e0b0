use std::time::Instant;

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use super::*;
use crate::{Accumulator, Validator};

fn params(n_weights: usize, bits: u8) -> FixedParams {
    FixedParams {
        n_weights,
        bits,
        clip: 2.0,
        weight_cap: 100,
        weight_scale: 1,
        members: 10,
    }
}

fn codec(params: FixedParams) -> FixedCodec {
    FixedCodec::new(params).expect("possible parameters")
}

fn update(delta: &[f32], examples: u64) -> ClientUpdate<'_> {
    ClientUpdate {
        delta,
        examples,
        staleness: 0,
        train_loss: 0.5,
    }
}

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[test]
fn the_plan_has_the_slots_of_the_design() {
    let codec = codec(FixedParams {
        members: 30,
        bits: 24,
        n_weights: 1_663_370,
        ..params(1, 2)
    });
    let slots: Vec<_> = codec.plan().slots().iter().map(|s| (s.name, s.len, s.most, s.sum_bits)).collect();
    let levels = (1 << 24) - 1;
    assert_eq!(
        slots,
        [
            ("delta", 1_663_370, levels, 29),
            ("train_loss", 1, levels, 29),
            ("weight", 1, 100, 12),
            ("clipped", 1, 1, 5)
        ]
    );
    assert_eq!(codec.plan().packed_bytes(), (1_663_370 * 29usize).div_ceil(8) + 4 + 2 + 1);
    assert_eq!(codec.plan().n_values(), 1_663_373);
}

#[test]
fn impossible_parameters_are_refused() {
    let refused = |params| FixedCodec::new(params).map(|_| ()).expect_err("refused");
    assert_eq!(refused(params(0, 8)), PlanError::NoWeights);
    for bits in [0, 1, 33] {
        assert_eq!(refused(params(1, bits)), PlanError::Bits { bits });
    }
    for clip in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(FixedParams { clip, ..params(1, 8) }), PlanError::Clip);
    }
    assert_eq!(
        refused(FixedParams {
            weight_cap: 0,
            ..params(1, 8)
        }),
        PlanError::WeightCap
    );
    assert_eq!(
        refused(FixedParams {
            weight_scale: 0,
            ..params(1, 8)
        }),
        PlanError::WeightScale
    );
    assert_eq!(
        refused(FixedParams {
            members: 0,
            ..params(1, 8)
        }),
        PlanError::Members
    );
    let many = FixedParams {
        members: u32::MAX,
        ..params(1, 32)
    };
    assert_eq!(
        refused(many),
        PlanError::TooWide {
            slot: "delta",
            members: u32::MAX
        }
    );
}

#[test]
fn updates_that_cannot_be_encoded_are_refused_with_the_place() {
    let codec = codec(params(3, 8));
    let refused = |update| codec.encode(update, &mut rng(1)).map(|_| ()).expect_err("refused");
    assert_eq!(refused(update(&[0.0, 1.0], 1)), EncodeError::Length { expected: 3, found: 2 });
    assert_eq!(
        refused(update(&[0.0, f32::NAN, f32::INFINITY], 1)),
        EncodeError::NonFinite { index: 1 }
    );
    assert_eq!(
        refused(update(&[0.0, 0.0, f32::NEG_INFINITY], 1)),
        EncodeError::NonFinite { index: 2 }
    );
    assert_eq!(refused(update(&[0.0; 3], 0)), EncodeError::NoExamples);
    for train_loss in [f32::NAN, f32::INFINITY, 1024.1, -1025.0] {
        assert_eq!(
            refused(ClientUpdate {
                train_loss,
                ..update(&[0.0; 3], 1)
            }),
            EncodeError::Loss
        );
    }
}

#[test]
fn the_largest_finite_update_is_clipped_not_refused() {
    let codec = codec(params(2, 16));
    let encoded = codec.encode(update(&[f32::MAX, f32::MAX], 100), &mut rng(1)).expect("finite");
    assert!(encoded.clipped);
    let mean = decode_all(&codec, &[encoded]).mean_delta;
    for value in mean {
        assert!((value - 2.0f32.sqrt()).abs() < 1e-3, "{value}");
    }
}

fn decode_all(codec: &FixedCodec, contributions: &[Encoded]) -> crate::DecodedSum {
    let mut sum = Accumulator::new(codec.plan());
    for contribution in contributions {
        sum.add(&contribution.packed).expect("an honest contribution");
    }
    sum.decode(codec).expect("not empty")
}

#[test]
fn the_same_generator_gives_the_same_bytes() {
    let delta: Vec<f32> = (0..5000).map(|i| (i as f32).sin() / 50.0).collect();
    let codec = codec(params(5000, 12));
    let encode = |seed| codec.encode(update(&delta, 7), &mut rng(seed)).expect("finite");
    assert_eq!(encode(1), encode(1));
    assert_ne!(encode(1), encode(2));
    assert_eq!(encode(1).packed.len(), codec.plan().packed_bytes());
}

#[test]
fn rounding_is_unbiased() {
    // Two bits: levels 4/3 apart, so that rounding is coarse and its mean tells.
    let delta = [0.9f32, -0.35, 0.0, 0.2];
    let codec = codec(FixedParams {
        weight_cap: 1,
        members: 20_000,
        ..params(4, 2)
    });
    let mut rng = rng(3);
    let contributions: Vec<_> = (0..20_000)
        .map(|_| codec.encode(update(&delta, 1), &mut rng).expect("finite"))
        .collect();
    let mean = decode_all(&codec, &contributions).mean_delta;
    // Standard deviation of one is at most half a level; five of the mean's.
    let tolerance = 5.0 * (4.0 / 3.0 / 2.0) / 20_000f32.sqrt();
    for (mean, exact) in mean.iter().zip(delta) {
        assert!((mean - exact).abs() < tolerance, "{mean} is not {exact} within {tolerance}");
    }
}

#[test]
fn losses_may_be_negative_and_count_by_weight() {
    let codec = codec(params(1, 8));
    let loss = |train_loss, examples| {
        codec
            .encode(
                ClientUpdate {
                    train_loss,
                    ..update(&[0.0], examples)
                },
                &mut rng(1),
            )
            .expect("in bounds")
    };
    let sum = decode_all(&codec, &[loss(-3.0, 25), loss(1.0, 75), loss(0.0, 1000)]);
    assert_eq!(sum.weight, 200);
    assert!((sum.train_loss - (-3.0 * 25.0 + 75.0) / 200.0).abs() < 1e-3, "{}", sum.train_loss);
}

/// One example each: a discount that was rounded to whole examples would be none.
#[test]
fn a_discount_of_few_examples_is_not_rounded_away() {
    let scaled = codec(FixedParams {
        weight_scale: 1024,
        ..params(1, 32)
    });
    let weight = scaled.plan().slots().iter().find(|slot| slot.name == "weight").expect("the slot");
    assert_eq!(
        (weight.most, weight.sum_bits),
        (102_400, 20),
        "10 members of 100 examples in 1024 parts"
    );
    let encode = |delta: f32, staleness| {
        let delta = [delta];
        let update = ClientUpdate {
            staleness,
            ..update(&delta, 1)
        };
        scaled.encode(update, &mut rng(1)).expect("finite")
    };
    // Weights 1 and 1/2: the mean is (1 * 0.9 + 0.5 * 0.0) / 1.5.
    let sum = decode_all(&scaled, &[encode(0.9, 0), encode(0.0, 3)]);
    assert!((sum.mean_delta[0] - 0.6).abs() < 1e-5, "{:?}", sum.mean_delta);
    assert_eq!(sum.weight, 2, "1.5 examples, rounded");
    // The oldest of all still counts.
    let sum = decode_all(&scaled, &[encode(0.9, u32::MAX)]);
    assert!((sum.mean_delta[0] - 0.9).abs() < 1e-2, "{:?}", sum.mean_delta);
}

proptest! {
    #[test]
    fn the_mean_is_within_the_documented_bound(
        bits in 2u8..=32,
        clients in proptest::collection::vec((proptest::collection::vec(-1.0f32..1.0, 11), 1u64..300, -9.0f32..9.0), 1..8),
        seed: u64,
    ) {
        let codec = codec(params(11, bits));
        let mut rng = rng(seed);
        let mut contributions = Vec::new();
        let (mut exact, mut total, mut exact_loss) = ([0.0f64; 11], 0.0, 0.0);
        let mut n_clipped = 0;
        for (delta, examples, train_loss) in &clients {
            let encoded = codec.encode(ClientUpdate { delta, examples: *examples, staleness: 0, train_loss: *train_loss }, &mut rng).expect("finite");
            let norm = delta.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            prop_assert_eq!(encoded.clipped, norm > 2.0);
            n_clipped += u32::from(encoded.clipped);
            let weight = (*examples).min(100) as f64;
            exact.iter_mut().zip(delta).for_each(|(sum, &x)| *sum += weight * f64::from(x) * (2.0 / norm).min(1.0));
            exact_loss += weight * f64::from(*train_loss);
            total += weight;
            contributions.push(encoded);
        }
        let sum = decode_all(&codec, &contributions);
        prop_assert_eq!((sum.weight, sum.clipped), (total as u64, n_clipped));
        let bound = |level: f64| clients.len() as f64 * level * 100.0 / total + 1e-6;
        let within = |mean: f32, sum: f64, level: f64| (f64::from(mean) - sum / total).abs() <= bound(level);
        for (mean, exact) in sum.mean_delta.iter().zip(exact) {
            prop_assert!(within(*mean, exact, 4.0 / levels(bits) as f64), "{} {}", mean, exact / total);
        }
        prop_assert!(within(sum.train_loss, exact_loss, 2048.0 / levels(24) as f64));
    }

    #[test]
    fn stale_updates_are_discounted_to_within_the_documented_bound(
        clients in proptest::collection::vec((proptest::collection::vec(-1.0f32..1.0, 11), 1u64..300, 0u32..32, -9.0f32..9.0), 1..8),
        seed: u64,
    ) {
        let codec = codec(FixedParams { weight_scale: 1024, ..params(11, 32) });
        let mut rng = rng(seed);
        let mut contributions = Vec::new();
        let (mut exact, mut total, mut exact_loss) = ([0.0f64; 11], 0.0, 0.0);
        for (delta, examples, staleness, train_loss) in &clients {
            let update = ClientUpdate { delta, examples: *examples, staleness: *staleness, train_loss: *train_loss };
            contributions.push(codec.encode(update, &mut rng).expect("finite"));
            let norm = delta.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            // The weight as it should be, not rounded.
            let weight = (*examples).min(100) as f64 / (1.0 + f64::from(*staleness)).sqrt();
            exact.iter_mut().zip(delta).for_each(|(sum, &x)| *sum += weight * f64::from(x) * (2.0 / norm).min(1.0));
            exact_loss += weight * f64::from(*train_loss);
            total += weight;
        }
        let sum = decode_all(&codec, &contributions);
        let n = clients.len() as f64;
        prop_assert!((sum.weight as f64 - total.max(1.0)).abs() <= 0.5 + n / 2048.0 + 1e-9, "{} of {}", sum.weight, total);
        // Rounding of values, as above; rounding of weights moves the mean by at most the spread of the values a part.
        let within = |mean: f32, sum: f64, level: f64, spread: f64| {
            (f64::from(mean) - sum / total).abs() <= (n * level * 100.0 + n * spread / 2048.0) / (total - n / 2048.0) + 1e-6
        };
        for (mean, exact) in sum.mean_delta.iter().zip(exact) {
            prop_assert!(within(*mean, exact, 4.0 / levels(32) as f64, 2.0), "{} {}", mean, exact / total);
        }
        prop_assert!(within(sum.train_loss, exact_loss, 2048.0 / levels(24) as f64, 18.0));
    }

    #[test]
    fn without_staleness_the_scale_changes_the_widths_and_no_mean(
        delta in proptest::collection::vec(-1.0f32..1.0, 11),
        examples in 1u64..300,
        seed: u64,
    ) {
        let decoded = |weight_scale| {
            let codec = codec(FixedParams { weight_scale, ..params(11, 24) });
            let encoded = codec.encode(update(&delta, examples), &mut rng(seed)).expect("finite");
            decode_all(&codec, &[encoded])
        };
        let (plain, scaled) = (decoded(1), decoded(1024));
        prop_assert_eq!(plain.weight, scaled.weight);
        for (a, b) in plain.mean_delta.iter().zip(&scaled.mean_delta) {
            prop_assert!((a - b).abs() < 1e-6);
        }
    }

    #[test]
    fn honest_contributions_pass_the_validator(
        bits in 2u8..=32,
        delta in proptest::collection::vec(-1e9f32..1e9, 1..3000),
        examples in 1u64..300,
        staleness in 0u32..40,
        weight_scale in proptest::sample::select(vec![1, 1024]),
        seed: u64,
    ) {
        let codec = codec(FixedParams { weight_scale, ..params(delta.len(), bits) });
        let stale = ClientUpdate { staleness, ..update(&delta, examples) };
        let encoded = codec.encode(stale, &mut rng(seed)).expect("finite");
        let mut validator = Validator::new(codec.plan());
        prop_assert_eq!(validator.push(&encoded.packed), Ok(()));
        prop_assert_eq!(validator.finish(), Ok(()));
    }
}

/// Prints what a value costs: `cargo test --release -p aimass-compression -- --nocapture speed`.
#[test]
#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn speed_of_encode_validate_add_and_decode() {
    let n = 1_663_370;
    let codec = codec(FixedParams {
        members: 30,
        ..params(n, 24)
    });
    let delta: Vec<f32> = (0..n).map(|i| (i as f32 * 0.37).sin() * 1e-3).collect();
    let mut times = [f64::INFINITY; 4];
    let mut sum = Accumulator::new(codec.plan());
    for round in 0..5 {
        let mut took = |step: usize, start: Instant| times[step] = times[step].min(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let encoded = codec.encode(update(&delta, 100), &mut rng(round)).expect("finite");
        took(0, start);
        let start = Instant::now();
        let mut validator = Validator::new(codec.plan());
        encoded
            .packed
            .chunks(256 * 1024)
            .try_for_each(|chunk| validator.push(chunk))
            .expect("honest");
        validator.finish().expect("complete");
        took(1, start);
        let start = Instant::now();
        sum.add_stream(&mut encoded.packed.as_slice()).expect("honest");
        took(2, start);
        let start = Instant::now();
        let decoded = sum.decode(&codec).expect("not empty");
        took(3, start);
        assert_eq!(decoded.weight, 100 * (round + 1));
    }
    for (step, seconds) in ["encode", "validate", "add", "decode"].into_iter().zip(times) {
        println!("{step}: {:.2} ms, {:.2} ns a value", seconds * 1e3, seconds * 1e9 / n as f64);
    }
}
