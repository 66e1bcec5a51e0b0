use super::*;
use crate::Team;
use crate::isa::Isa;
use crate::testing::{Random, assert_close, wide};

const LENGTHS: [usize; 10] = [1, 2, 7, 8, 10, 15, 16, 17, 33, 100];

/// By central differences of `value`, in f64.
fn differences(x: &[f32], value: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let n = x.len();
    let mut x = wide(x);
    let by = |i: usize| {
        let old = x[i];
        x[i] = old + 1e-6;
        let above = value(&x);
        x[i] = old - 1e-6;
        let below = value(&x);
        x[i] = old;
        (above - below) / 2e-6
    };
    (0..n).map(by).collect()
}

fn weighted(y: &[f64], dy: &[f32]) -> f64 {
    y.iter().zip(dy).map(|(y, &g)| y * f64::from(g)).sum()
}

fn softmax(x: &[f64], [_, len, inner]: [usize; 3], log: bool) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for start in (0..x.len()).filter(|i| i / inner % len == 0) {
        let places: Vec<usize> = (0..len).map(|i| start + i * inner).collect();
        let most = places.iter().fold(f64::NEG_INFINITY, |m, &i| m.max(x[i]));
        let total: f64 = places.iter().map(|&i| (x[i] - most).exp()).sum();
        for i in places {
            y[i] = if log {
                x[i] - most - total.ln()
            } else {
                (x[i] - most).exp() / total
            };
        }
    }
    y
}

#[test]
fn softmax_and_its_gradient() {
    for isa in Isa::available() {
        for seed in 0..80 {
            let mut random = Random::new(seed);
            let inner = if seed % 2 == 0 { 1 } else { [2, 8, 17, 33][random.below(4)] };
            let len = if inner == 1 {
                LENGTHS[random.below(10)]
            } else {
                1 + random.below(9)
            };
            let shape = [1 + random.below(3), len, inner];
            let log = seed % 4 < 2;
            let n = shape.iter().product();
            let x: Vec<f32> = random.values(n).iter().map(|v| v * 8.0 + 70.0).collect();
            let dy = random.values(n);
            let what = format!("{isa:?} seed {seed} {shape:?} log {log}");
            let softmax_of = |x: &[f64]| softmax(x, shape, log);
            let kernel = Softmax::new(isa, shape, log);
            let (mut y, mut dx) = (vec![f32::NAN; n], vec![f32::NAN; n]);
            kernel.forward(&x, &mut y);
            assert_close(&y, &softmax_of(&wide(&x)), 2e-6, &what);
            kernel.backward(&y, &dy, &mut dx);
            let expected = differences(&x, |x| weighted(&softmax_of(x), &dy));
            let largest = expected.iter().fold(0.1f64, |a, b| a.max(b.abs()));
            for (found, expected) in dx.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 1e-5 * largest, "{what}: gradient {found} for {expected}");
            }
        }
    }
}

#[test]
fn softmax_of_what_is_infinite() {
    for isa in Isa::available() {
        for inner in [1, 3] {
            let len = 20;
            let mut x = vec![0.0; len * inner];
            x[..len * inner / 2].fill(f32::NEG_INFINITY);
            let mut y = vec![f32::NAN; len * inner];
            Softmax::new(isa, [1, len, inner], false).forward(&x, &mut y);
            let expected: Vec<f64> = x.iter().map(|v| if *v == 0.0 { 0.1 } else { 0.0 }).collect();
            assert_close(&y, &expected, 1e-6, &format!("{isa:?} inner {inner}"));
            x[0] = f32::NAN;
            Softmax::new(isa, [1, len, inner], false).forward(&x, &mut y);
            let found: Vec<bool> = y.iter().map(|v| v.is_nan()).collect();
            let expected: Vec<bool> = (0..len * inner).map(|i| i % inner == 0).collect();
            assert_eq!(found, expected, "{isa:?} inner {inner}");
        }
    }
}

fn norm(x: &[f64], scale: Option<&[f64]>, bias: Option<&[f64]>, len: usize, epsilon: f64, centred: bool) -> Vec<f64> {
    let row = |x: &[f64]| -> Vec<f64> {
        let mean = if centred { x.iter().sum::<f64>() / len as f64 } else { 0.0 };
        let variance = x.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / len as f64;
        let value = |(i, v): (usize, &f64)| {
            let y = (v - mean) / (variance + epsilon).sqrt();
            y * scale.map_or(1.0, |s| s[i]) + bias.map_or(0.0, |b| b[i])
        };
        x.iter().enumerate().map(value).collect()
    };
    x.chunks(len).flat_map(row).collect()
}

#[test]
fn rows_are_normalised() {
    for isa in Isa::available() {
        for seed in 0..80 {
            let mut random = Random::new(seed);
            let (rows, len) = (1 + random.below(20), [2, 3, 7, 8, 16, 17, 33, 47][random.below(8)]);
            let centred = seed % 2 == 0;
            let x: Vec<f32> = random.values(rows * len).iter().map(|v| v + 2.0).collect();
            let (scale, bias) = (random.values(len), random.values(len));
            let (scale, bias) = ((seed % 3 > 0).then_some(&scale[..]), (seed % 3 > 1).then_some(&bias[..]));
            let dy = random.values(rows * len);
            let what = format!("{isa:?} seed {seed} {rows} x {len} centred {centred}");
            let epsilon = 1e-2f32;
            let (wide_scale, wide_bias) = (scale.map(wide), bias.map(wide));
            let of = |x: &[f64], s: Option<&[f64]>, b: Option<&[f64]>| norm(x, s, b, len, f64::from(epsilon), centred);
            let kernel = RowNorm::new(isa, [rows, len], epsilon, centred);
            let (mut y, mut kept, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; kernel.kept_len()], vec![f32::NAN; x.len()]);
            let team = &Team::new(1 + rows % 3).cutting_from(0);
            kernel.forward(team, &x, scale, bias, &mut y, &mut kept);
            let (s, b) = (wide_scale.as_deref(), wide_bias.as_deref());
            assert_close(&y, &of(&wide(&x), s, b), 5e-6, &what);
            kernel.backward_input(team, &x, &dy, scale, &kept, &mut dx);
            let expected = differences(&x, |x| weighted(&of(x, s, b), &dy));
            let largest = expected.iter().fold(0.1f64, |a, b| a.max(b.abs()));
            for (found, expected) in dx.iter().zip(&expected) {
                let error = (f64::from(*found) - expected).abs();
                assert!(error <= 2e-5 * largest, "{what}: gradient {found} for {expected}");
            }
            let (mut by_scale, mut by_bias) = (vec![1.0; len], vec![2.0; len]);
            let bias_target = bias.is_some().then_some(&mut by_bias[..]);
            kernel.backward_learned(&x, &dy, &kept, -0.5, Some(&mut by_scale), bias_target);
            let ones = vec![1.0f32; len];
            let given = scale.unwrap_or(&ones);
            let expected = differences(given, |s| weighted(&of(&wide(&x), Some(s), b), &dy));
            let expected: Vec<f64> = expected.iter().map(|g| 1.0 - 0.5 * g).collect();
            assert_close(&by_scale, &expected, 1e-5, &format!("{what}: by scale"));
            let columns = |i: usize| -> f64 { dy.iter().skip(i).step_by(len).map(|&g| f64::from(g)).sum() };
            let expected: Vec<f64> = (0..len)
                .map(|i| 2.0 - if bias.is_some() { 0.5 * columns(i) } else { 0.0 })
                .collect();
            assert_close(&by_bias, &expected, 1e-5, &format!("{what}: by bias"));
        }
    }
}

/// The loss as it is defined, and its gradient, in f64.
fn loss(options: &CrossEntropy<'_>, logits: &[f32], targets: &[i64], scale: f64) -> (Loss, Vec<f64>) {
    let mut found = Loss { sum: 0.0, weight: 0.0 };
    let mut gradient = vec![0.0; logits.len()];
    let weight_of = |class: usize| options.class_weights.map_or(1.0, |w| f64::from(w[class]));
    for (at, &target) in targets.iter().enumerate() {
        if Some(target) == options.ignore {
            continue;
        }
        let weight = options.sample_weights.map_or(1.0, |w| f64::from(w[at / options.per_sample]));
        let start = at / options.stride * options.classes * options.stride + at % options.stride;
        let z: Vec<f64> = (0..options.classes)
            .map(|c| f64::from(logits[start + c * options.stride]))
            .collect();
        let most = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = z.iter().map(|z| (z - most).exp()).sum();
        let smooth = f64::from(options.label_smoothing);
        let wanted: Vec<f64> = (0..options.classes)
            .map(|c| (smooth / options.classes as f64 + if c as i64 == target { 1.0 - smooth } else { 0.0 }) * weight_of(c))
            .collect();
        for (c, z) in z.iter().enumerate() {
            if wanted[c] != 0.0 {
                found.sum += weight * wanted[c] * (most + total.ln() - z);
            }
            gradient[start + c * options.stride] = weight * ((z - most).exp() / total * wanted.iter().sum::<f64>() - wanted[c]);
        }
        found.weight += weight * weight_of(target as usize);
    }
    for g in &mut gradient {
        *g *= scale / found.weight;
    }
    (found, gradient)
}

#[test]
fn cross_entropy_and_its_gradient() {
    for isa in Isa::available() {
        for seed in 0..160 {
            let mut random = Random::new(seed);
            let classes = if seed % 2 == 0 {
                1 + LENGTHS[random.below(10)]
            } else {
                2 + random.below(6)
            };
            let per_sample = [1, 3, 17, 40][random.below(4)];
            let samples = 2 + random.below(3);
            let n = samples * per_sample;
            let (sample_weights, class_weights) = (random.values(samples), random.values(classes));
            let [sample_weights, class_weights] = [sample_weights, class_weights].map(|w| w.iter().map(|v| v + 1.1).collect::<Vec<f32>>());
            let options = CrossEntropy {
                classes,
                stride: if seed % 2 == 0 { 1 } else { per_sample },
                per_sample,
                ignore: (seed % 3 == 0).then_some(-100),
                sample_weights: (seed % 5 == 0).then_some(&sample_weights[..]),
                class_weights: (seed % 7 == 0).then_some(&class_weights[..]),
                label_smoothing: if seed % 4 < 2 { 0.0 } else { 0.1 },
            };
            let logits: Vec<f32> = random.values(n * classes).iter().map(|v| 6.0 * v - 20.0).collect();
            let target = |i: usize| {
                if options.ignore.is_some() && i % 3 == 2 {
                    -100
                } else {
                    random.below(classes) as i64
                }
            };
            let targets: Vec<i64> = (0..n).map(target).collect();
            let what = format!("{isa:?} seed {seed}: {n} x {classes}, {options:?}");
            let (expected, by_logits) = loss(&options, &logits, &targets, 0.7);
            let mut gradient = vec![f32::NAN; logits.len()];
            let found = options
                .run(isa, &logits, &targets, 0.7, Some(&mut gradient))
                .expect("its targets are classes");
            let alone = options.run(isa, &logits, &targets, 0.7, None).expect("its targets are classes");
            assert_eq!(found, alone, "{what}");
            assert!(
                (found.sum - expected.sum).abs() <= 3e-7 * expected.sum.abs().max(1.0),
                "{what}: {found:?} for {expected:?}"
            );
            assert!(
                (found.weight - expected.weight).abs() <= 1e-12 * expected.weight,
                "{what}: {found:?} for {expected:?}"
            );
            assert_close(&gradient, &by_logits, 1e-6, &what);
        }
    }
}

#[test]
fn what_is_left_of_a_certain_prediction_keeps_its_digits() {
    for isa in Isa::available() {
        let mut logits = [0.0; 10];
        logits[3] = 15.0;
        let mut gradient = [0.0; 10];
        let found = CrossEntropy::plain(10)
            .run(isa, &logits, &[3], 1.0, Some(&mut gradient))
            .expect("3 is a class");
        let left = 9.0 * (-15f64).exp() / (1.0 + 9.0 * (-15f64).exp());
        assert!(
            (f64::from(gradient[3]) / -left - 1.0).abs() < 1e-6,
            "{isa:?}: {} for {}",
            gradient[3],
            -left
        );
        assert!((found.sum / left - 1.0).abs() < 1e-3, "{isa:?}: {found:?} for {left}");
    }
}

#[test]
fn wrong_targets_and_infinite_logits() {
    for isa in Isa::available() {
        let plain = CrossEntropy::plain(3);
        let mut gradient = [7.0; 6];
        for target in [-1, 3, i64::MIN] {
            let found = plain.run(isa, &[0.0; 6], &[0, target], 1.0, Some(&mut gradient));
            assert_eq!(found, Err(WrongTarget { at: 1 }));
        }
        assert_eq!(gradient, [7.0; 6]);
        let infinite = [0.0, f32::INFINITY, 0.0, 0.0, 0.0, 0.0];
        let found = plain.run(isa, &infinite, &[0, 0], 1.0, None).expect("0 is a class");
        assert!(found.sum.is_nan(), "{found:?}");
        // Without a chance, but not wanted either.
        let impossible = [f32::NEG_INFINITY, 0.0, 0.0];
        let found = plain
            .run(isa, &impossible, &[1], 1.0, Some(&mut gradient[..3]))
            .expect("1 is a class");
        assert!((found.sum - 2f64.ln()).abs() < 1e-6, "{found:?}");
        assert_eq!(gradient[0], 0.0);
        // Nothing counts.
        let ignoring = CrossEntropy { ignore: Some(2), ..plain };
        let found = ignoring
            .run(isa, &[1.0; 3], &[2], 1.0, Some(&mut gradient[..3]))
            .expect("2 is ignored");
        assert_eq!(found, Loss { sum: 0.0, weight: 0.0 });
        assert_eq!(gradient[..3], [0.0; 3]);
    }
}
