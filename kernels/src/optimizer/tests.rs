use super::*;
use crate::testing::Random;

const RULES: [Rule; 7] = [
    Rule::Sgd {
        momentum: 0.0,
        nesterov: false,
    },
    Rule::Sgd {
        momentum: 0.9,
        nesterov: false,
    },
    Rule::Sgd {
        momentum: 0.8,
        nesterov: true,
    },
    Rule::Adam {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        decoupled: false,
    },
    Rule::Adam {
        beta1: 0.7,
        beta2: 0.95,
        epsilon: 1e-6,
        decoupled: true,
    },
    Rule::RmsProp {
        alpha: 0.99,
        epsilon: 1e-8,
        momentum: 0.0,
    },
    Rule::RmsProp {
        alpha: 0.9,
        epsilon: 1e-5,
        momentum: 0.5,
    },
];

/// The formulas as the interpreter has them, one weight at a time; moments that are not there yet are `None`.
fn plain(step: &Step, weight: f32, gradient: f32, moments: &mut Vec<f32>, [anchor, correction]: [f32; 2], proximal: f32) -> f32 {
    let mut weight = weight;
    let mut gradient = (gradient + (weight - anchor) * proximal) * step.gradient_scale + correction;
    let decoupled = matches!(step.rule, Rule::Adam { decoupled: true, .. });
    if decoupled {
        weight *= 1.0 - step.lr * step.weight_decay;
    } else {
        gradient += weight * step.weight_decay;
    }
    let running = |old: Option<&f32>, share: f32, new: f32| old.map_or(new, |old| old * share + new);
    match step.rule {
        Rule::Sgd { momentum: 0.0, .. } => weight - gradient * step.lr,
        Rule::Sgd { momentum, nesterov } => {
            let velocity = running(moments.first(), momentum, gradient);
            *moments = vec![velocity];
            weight - if nesterov { gradient + velocity * momentum } else { velocity } * step.lr
        }
        Rule::Adam { beta1, beta2, epsilon, .. } => {
            let second = running(moments.get(1), beta2, gradient * gradient * (1.0 - beta2));
            let first = running(moments.first(), beta1, gradient * (1.0 - beta1));
            *moments = vec![first, second];
            let correction = |beta: f32| 1.0 - f64::from(beta).powi(step.number as i32);
            let root = second.sqrt() * (1.0 / correction(beta2).sqrt()) as f32;
            weight - first / (root + epsilon) * (f64::from(step.lr) / correction(beta1)) as f32
        }
        Rule::RmsProp { alpha, epsilon, momentum } => {
            let mean = running(moments.first(), alpha, gradient * gradient * (1.0 - alpha));
            let mut direction = gradient / (mean.sqrt() + epsilon);
            if momentum == 0.0 {
                *moments = vec![mean];
            } else {
                direction = running(moments.get(1), momentum, direction);
                *moments = vec![mean, direction];
            }
            weight - direction * step.lr
        }
    }
}

#[test]
fn three_steps_are_the_plain_formulas_bit_for_bit() {
    for isa in Isa::available() {
        for (seed, rule) in RULES.into_iter().enumerate() {
            for len in [0, 1, 7, 8, 15, 16, 17, 31, 33, 97] {
                let mut random = Random::new(seed as u64);
                let mut weights = random.values(len);
                let mut expected = weights.clone();
                let mut kept = vec![Vec::new(); len];
                let mut moments = vec![vec![0.0; len]; rule.moments()];
                let (anchor, correction) = (random.values(len), random.values(len));
                for number in 1..=3 {
                    let gradient = random.values(len);
                    let step = Step {
                        rule,
                        lr: 0.05 + 0.01 * number as f32,
                        weight_decay: if number == 2 { 0.0 } else { 0.01 },
                        gradient_scale: if number == 3 { 0.3 } else { 1.0 },
                        number,
                    };
                    let mut borrowed: Vec<&mut [f32]> = moments.iter_mut().map(Vec::as_mut_slice).collect();
                    let terms = Terms {
                        proximal: if number == 1 { 0.0 } else { 0.25 },
                        anchor: &anchor,
                        correction: if number == 2 { &[] } else { &correction },
                    };
                    step.apply(isa, &mut weights, &gradient, &mut borrowed, terms);
                    for i in 0..len {
                        let own = [anchor[i], if number == 2 { 0.0 } else { correction[i] }];
                        expected[i] = plain(&step, expected[i], gradient[i], &mut kept[i], own, terms.proximal);
                    }
                    assert_eq!(weights, expected, "{isa:?} {rule:?} length {len} step {number}");
                }
                for (i, kept) in kept.iter().enumerate() {
                    let found: Vec<f32> = moments.iter().map(|m| m[i]).collect();
                    assert_eq!(&found, kept, "{isa:?} {rule:?} moments of weight {i}");
                }
            }
        }
    }
}

#[test]
fn squares_are_summed_in_f64() {
    for isa in Isa::available() {
        for len in [0, 1, 5, 16, 17, 32, 47, 1000] {
            let x = Random::new(len as u64).values(len);
            let expected: f64 = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let found = sum_of_squares(isa, &x);
            assert!(
                (found - expected).abs() <= 1e-12 * expected,
                "{isa:?} length {len}: {found} for {expected}"
            );
        }
        let huge = [1e30f32; 20];
        assert!((sum_of_squares(isa, &huge) / 20e60 - 1.0).abs() < 1e-6, "{isa:?}");
        assert!(sum_of_squares(isa, &[1.0, f32::NAN]).is_nan());
    }
}

#[test]
#[should_panic(expected = "another length")]
fn a_gradient_of_another_length_is_refused() {
    let step = Step {
        rule: RULES[0],
        lr: 0.1,
        weight_decay: 0.0,
        gradient_scale: 1.0,
        number: 1,
    };
    step.apply(Isa::best(), &mut [0.0; 20], &[0.0; 19], &mut [], Terms::default());
}
