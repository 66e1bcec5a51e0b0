use aimass_kernels::Isa;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::rounding::levels;
use super::*;
use crate::{Accumulator, Validator};

mod speed;

fn params(n_weights: usize, bits: u8) -> FixedParams {
    FixedParams {
        n_weights,
        bits,
        clip: 2.0,
        weight_cap: 100,
        weight_scale: 1,
        members: 10,
        evaluation: false,
        rotation: None,
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
        evaluation: None,
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

fn evaluating() -> FixedCodec {
    codec(FixedParams {
        evaluation: true,
        ..params(3, 8)
    })
}

fn evaluated(loss: f32, correct: u64, examples: u64) -> ClientUpdate<'static> {
    ClientUpdate {
        evaluation: Some(Evaluation { loss, correct, examples }),
        ..update(&[0.0; 3], 1)
    }
}

#[test]
fn evaluations_are_pooled_by_examples() {
    let (asked, silent) = (evaluating(), codec(params(3, 8)));
    let names: Vec<_> = asked.plan().slots().iter().map(|slot| slot.name).collect();
    assert_eq!(
        names,
        [
            "delta",
            "train_loss",
            "weight",
            "clipped",
            "eval_loss",
            "eval_correct",
            "eval_examples"
        ]
    );
    let encode = |update| asked.encode(update, &mut rng(1)).expect("in bounds");
    let none = update(&[0.0; 3], 1);
    let sum = decode_all(
        &asked,
        &[encode(evaluated(0.5, 60, 80)), encode(evaluated(2.0, 1, 20)), encode(none)],
    );
    let pooled = sum.evaluation.expect("two clients evaluated");
    assert_eq!((pooled.correct, pooled.examples, pooled.accuracy()), (61, 100, 0.61));
    assert!((pooled.loss - 0.8).abs() < 1e-3, "{}", pooled.loss);
    assert_eq!(decode_all(&asked, &[encode(none)]).evaluation, None);
    // Nobody asked.
    let encoded = silent.encode(evaluated(0.5, 60, 80), &mut rng(1)).expect("in bounds");
    assert_eq!(encoded, silent.encode(none, &mut rng(1)).expect("in bounds"));
    assert_eq!(decode_all(&silent, &[encoded]).evaluation, None);
}

#[test]
fn impossible_evaluations_are_refused() {
    for (loss, correct, examples) in [(f32::NAN, 1, 2), (1024.1, 1, 2), (0.0, 3, 2)] {
        let error = evaluating().encode(evaluated(loss, correct, examples), &mut rng(1)).map(|_| ());
        assert_eq!(error, Err(EncodeError::Evaluation), "{loss} {correct} {examples}");
    }
}

/// 1000 examples of which 100 count: a third of them is 33 or 34, and a third on average.
#[test]
fn of_more_examples_than_count_the_same_part_is_correct() {
    let codec = codec(FixedParams {
        evaluation: true,
        members: 3000,
        ..params(3, 8)
    });
    let mut rng = rng(2);
    let contributions: Vec<_> = (0..3000)
        .map(|_| codec.encode(evaluated(1.0, 333, 999), &mut rng).expect("in bounds"))
        .collect();
    let pooled = decode_all(&codec, &contributions).evaluation.expect("all evaluated");
    assert_eq!(pooled.examples, 300_000);
    // One is off by 0.47 as its standard deviation; five of the sum's are 130.
    assert!(pooled.correct.abs_diff(100_000) < 130, "{}", pooled.correct);
    assert!((pooled.loss - 1.0).abs() < 1e-3);
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

fn rms(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    (values.map(|value| value * value).sum::<f64>() / n).sqrt()
}

/// Normal values of length 1.
fn normal(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = rng(seed);
    let mut uniform = || (f64::from(rng.next_u32()) + 0.5) / 2f64.powi(32);
    let values: Vec<f64> = (0..n)
        .map(|_| (-2.0 * uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * uniform()).cos())
        .collect();
    let length = rms(values.iter().copied()) * (n as f64).sqrt();
    values.iter().map(|value| (value / length) as f32).collect()
}

/// Root of the mean squared error of one client's update.
fn error_of(params: FixedParams, delta: &[f32]) -> f64 {
    let codec = codec(params);
    let encoded = codec.encode(update(delta, 100), &mut rng(9)).expect("finite");
    assert!(!encoded.clipped);
    let mean = decode_all(&codec, &[encoded]).mean_delta;
    rms(mean.iter().zip(delta).map(|(mean, exact)| f64::from(mean - exact)))
}

#[test]
fn the_rotation_saves_three_bits() {
    let n = 100_000;
    let mut spikes = vec![0.0; n];
    (0..n).step_by(1000).for_each(|i| spikes[i] = 0.099);
    for (name, delta) in [("normal", normal(n, 4)), ("a value in a thousand", spikes)] {
        let error = |bits, rotation| {
            let params = FixedParams {
                clip: 1.0001,
                rotation,
                ..params(n, bits)
            };
            error_of(params, &delta)
        };
        for bits in [6, 8, 12] {
            let (rotated, plain) = (
                error(bits, Some([3; 32])),
                [error(bits, None), error(bits + 3, None), error(bits + 4, None)],
            );
            println!(
                "{name}: {bits} bits rotated {rotated:.2e}, plain {:.2e}, {:.2e} with 3 bits more",
                plain[0], plain[1]
            );
            println!("{name}: {:.2} bits saved", (plain[0] / rotated).log2());
            // A zero is no level: a spiky update has the error of a dense one.
            assert!(
                rotated < plain[1] && rotated > plain[2],
                "{name}: {rotated} is not between those of 3 and 4 bits more: {plain:?}"
            );
        }
    }
}

#[test]
fn an_update_with_a_coordinate_beyond_the_bound_is_scaled_down_as_a_whole() {
    let n = 3 * 4096 + 100;
    let params = FixedParams {
        rotation: Some([3; 32]),
        clip: 1.0,
        ..params(n, 24)
    };
    let codec = codec(params);
    // Each block of the longest is looked at.
    for at in [5, 4096 + 7, 3 * 4096 - 1] {
        // What is rotated to a spike.
        let mut delta = vec![1e-4; n];
        delta[at] = 0.5;
        crate::rotation::rotate_back(Isa::best(), &mut delta, [3; 32]);
        let encoded = codec.encode(update(&delta, 100), &mut rng(1)).expect("finite");
        assert!(encoded.clipped, "{at}");
        let sum = decode_all(&codec, &[encoded]);
        assert_eq!(sum.clipped, 1);
        let factor = 6.0 / 64.0 / 0.5;
        for (mean, exact) in sum.mean_delta.iter().zip(&delta) {
            assert!((mean - factor * exact).abs() < 1e-6, "{at}: {mean} is not {factor} of {exact}");
        }
    }
}

#[test]
fn the_largest_finite_update_is_rotated_too() {
    let codec = codec(FixedParams {
        rotation: Some([3; 32]),
        clip: f32::MAX,
        ..params(4096, 24)
    });
    let delta = vec![f32::MAX; 4096];
    let encoded = codec.encode(update(&delta, 100), &mut rng(1)).expect("finite");
    assert!(encoded.clipped);
    let mean = decode_all(&codec, &[encoded]).mean_delta;
    for value in mean {
        assert!((value / (f32::MAX / 64.0) - 1.0).abs() < 1e-3, "{value}");
    }
}

#[test]
fn rounding_of_a_rotated_update_is_unbiased() {
    let delta = normal(64 + 3, 5);
    let codec = codec(FixedParams {
        weight_cap: 1,
        members: 20_000,
        clip: 1.01,
        rotation: Some([9; 32]),
        ..params(delta.len(), 2)
    });
    let mut rng = rng(3);
    let contributions: Vec<_> = (0..20_000)
        .map(|_| codec.encode(update(&delta, 1), &mut rng).expect("finite"))
        .collect();
    let sum = decode_all(&codec, &contributions);
    assert_eq!(sum.clipped, 0);
    // Standard deviation of one is at most half a level; five of the mean's.
    let tolerance = 5.0 * (2.02 / 3.0 / 2.0) / 20_000f32.sqrt();
    for (mean, exact) in sum.mean_delta.iter().zip(&delta) {
        assert!((mean - exact).abs() < tolerance, "{mean} is not {exact} within {tolerance}");
    }
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
            let encoded = codec.encode(ClientUpdate { delta, examples: *examples, staleness: 0, train_loss: *train_loss, evaluation: None }, &mut rng).expect("finite");
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

    /// In length, since a rotation mixes the errors of a block's coordinates.
    #[test]
    fn the_rotated_mean_is_within_the_documented_bound(
        bits in 2u8..=24,
        n in 1usize..9000,
        clients in proptest::collection::vec((any::<u64>(), 1u64..300, 0.0f32..4.0), 1..6),
        rotation: [u8; 32],
    ) {
        let codec = codec(FixedParams { rotation: Some(rotation), ..params(n, bits) });
        let mut contributions = Vec::new();
        let (mut exact, mut total) = (vec![0.0f64; n], 0.0);
        for &(seed, examples, length) in &clients {
            let delta: Vec<f32> = normal(n, seed).iter().map(|value| value * length).collect();
            let encoded = codec.encode(update(&delta, examples), &mut rng(seed)).expect("finite");
            let weight = examples.min(100) as f64;
            let norm = rms(delta.iter().map(|&x| f64::from(x))) * (n as f64).sqrt();
            prop_assert_eq!(encoded.clipped, norm > 2.0);
            exact.iter_mut().zip(&delta).for_each(|(sum, &x)| *sum += weight * f64::from(x) * (2.0 / norm).min(1.0));
            total += weight;
            contributions.push(encoded);
        }
        let mean = decode_all(&codec, &contributions).mean_delta;
        let distance = mean.iter().zip(&exact).map(|(&mean, exact)| (f64::from(mean) - exact / total).powi(2)).sum::<f64>().sqrt();
        let levels: f64 = crate::rotation::runs(n).map(|run| run.len as f64 * (2.0 * 2.0 * run.bound() / levels(bits) as f64).powi(2)).sum();
        let bound = clients.len() as f64 * levels.sqrt() * 100.0 / total + 1e-5;
        prop_assert!(distance <= bound, "{} is more than {}", distance, bound);
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
            let update = ClientUpdate { delta, examples: *examples, staleness: *staleness, train_loss: *train_loss, evaluation: None };
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

/// With and without rotation, of lengths with and without a tail, clipped and not.
#[test]
fn every_instruction_set_encodes_to_the_same_bytes() {
    for n in [1, 70, 4096, 3 * 4096 + 1024 + 64 + 5] {
        for (rotation, factor) in [(None, 1.0), (Some([5; 32]), 1.0), (Some([5; 32]), 100.0), (Some([5; 32]), 0.0)] {
            let codec = codec(FixedParams { rotation, ..params(n, 24) });
            let delta: Vec<f32> = normal(n, 6).iter().map(|value| value * factor).collect();
            let all: Vec<Encoded> = Isa::available()
                .into_iter()
                .map(|isa| {
                    let scratch = &mut Scratch::on(isa);
                    codec.encode_with(update(&delta, 7), &mut rng(8), scratch).expect("finite")
                })
                .collect();
            assert!(all.iter().all(|encoded| *encoded == all[0]), "{n} values, rotation {rotation:?}");
        }
    }
}

/// The path of zeros is not rotated: the bytes are those of numbers that are too small to matter.
#[test]
fn zeros_are_encoded_as_what_is_next_to_zero() {
    for n in [5, 64 + 3, 2 * 4096 + 2048 + 64 + 7] {
        let codec = codec(FixedParams {
            rotation: Some([2; 32]),
            ..params(n, 16)
        });
        let encode = |value: f32| codec.encode(update(&vec![value; n], 9), &mut rng(4)).expect("finite");
        assert_eq!(encode(0.0), encode(1e-30), "{n}");
        assert_eq!(encode(-0.0), encode(1e-30), "{n}");
    }
}
