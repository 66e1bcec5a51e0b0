//! Every function against f64, over numbers of all magnitudes.

use super::{erf, exp, ln, sigmoid, tanh};
use crate::isa::{Isa, Kernel, dispatch};
use crate::vector::Vector;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Function {
    Exp,
    Tanh,
    Sigmoid,
    Ln,
    Erf,
}

const ALL: [Function; 5] = [Function::Exp, Function::Tanh, Function::Sigmoid, Function::Ln, Function::Erf];

/// `values` and what comes of them, in place; a multiple of 16 of them.
struct Map<'a>(Function, &'a mut [f32]);

impl Kernel for Map<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        #[inline(always)]
        unsafe fn each<V: Vector>(values: &mut [f32], f: impl Fn(V) -> V) {
            for at in (0..values.len()).step_by(V::LANES) {
                let place = values.as_mut_ptr().add(at);
                f(V::load(place)).store(place);
            }
        }
        match self.0 {
            Function::Exp => each(self.1, |x: V| exp(x)),
            Function::Tanh => each(self.1, |x: V| tanh(x)),
            Function::Sigmoid => each(self.1, |x: V| sigmoid(x)),
            Function::Ln => each(self.1, |x: V| ln(x)),
            Function::Erf => each(self.1, |x: V| erf(x)),
        }
    }
}

fn map(isa: Isa, function: Function, values: &[f32]) -> Vec<f32> {
    let mut found = values.to_vec();
    found.resize(values.len().next_multiple_of(16), 0.5);
    // SAFETY: a multiple of 16 values is what it reads and writes.
    unsafe { dispatch(isa, Map(function, &mut found)) };
    found.truncate(values.len());
    found
}

/// A series whose terms are all positive: nothing is lost.
fn exact_erf(x: f64) -> f64 {
    if x.abs() > 6.0 || x.is_nan() {
        return if x.is_nan() { x } else { x.signum() };
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp() * sum
}

fn expected(function: Function, x: f32) -> f64 {
    let x = f64::from(x);
    match function {
        Function::Exp => x.exp(),
        Function::Tanh => x.tanh(),
        Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Function::Ln => x.ln(),
        Function::Erf => exact_erf(x),
    }
}

/// Numbers of all magnitudes and signs, infinities among them, and closely those where most happens.
fn samples() -> Vec<f32> {
    let mut all: Vec<f32> = (0..u32::MAX / 4099).map(|i| f32::from_bits(i * 4099)).collect();
    all.extend((-1_000_000..1_000_000).map(|i| i as f32 * 1e-4));
    all.extend((0..100_000).map(|i| 0.5 + i as f32 * 1e-5));
    all.extend([
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN,
        88.722_83,
        88.722_84,
    ]);
    all
}

#[test]
fn errors_stay_below_two_in_ten_million() {
    let samples = samples();
    for isa in Isa::available() {
        for function in ALL {
            let (mut worst, mut at) = (0.0, 0.0);
            for (&x, y) in samples.iter().zip(map(isa, function, &samples)) {
                let exact = expected(function, x);
                if exact.is_nan() {
                    assert!(y.is_nan(), "{isa:?} {function:?}({x}) = {y}");
                } else if exact.abs() > f64::from(f32::MAX) {
                    assert_eq!(f64::from(y), exact.signum() * f64::INFINITY, "{isa:?} {function:?}({x})");
                } else if exact.abs() < 1.000_001 * f64::from(f32::MIN_POSITIVE) {
                    let small = f64::from(y).abs() <= exact.abs() * 1.000_001 + 2e-45;
                    assert!(small && f64::from(y) * exact >= 0.0, "{isa:?} {function:?}({x}) = {y}");
                } else {
                    let error = (f64::from(y) / exact - 1.0).abs();
                    if error.is_nan() || error > worst {
                        (worst, at) = (error, x);
                    }
                }
            }
            println!("{isa:?} {function:?}: {worst:.2e} at {at}");
            assert!(worst <= 2.1e-7, "{isa:?} {function:?}({at}): {worst:e}");
        }
    }
}

#[test]
fn limits_are_exact_and_nan_stays() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    for isa in Isa::available() {
        for (function, expected) in [
            (Function::Exp, [0.0, inf, 1.0]),
            (Function::Tanh, [-1.0, 1.0, 0.0]),
            (Function::Sigmoid, [0.0, 1.0, 0.5]),
            (Function::Ln, [nan, inf, -inf]),
            (Function::Erf, [-1.0, 1.0, 0.0]),
        ] {
            let found = map(isa, function, &[-inf, inf, 0.0, nan]);
            let same = |(a, b): (&f32, &f32)| a == b || (a.is_nan() && b.is_nan());
            assert!(found[..3].iter().zip(&expected).all(same), "{isa:?} {function:?}: {found:?}");
            assert!(found[3].is_nan(), "{isa:?} {function:?} of NaN: {}", found[3]);
        }
        assert_eq!(map(isa, Function::Ln, &[1.0, -1.0, 1e-45])[0], 0.0);
    }
}

/// `cargo test --release -p aimass-kernels speed -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let values: Vec<f32> = (0..4096).map(|i| (i as f32 - 2048.5) / 512.0).collect();
    for isa in Isa::available() {
        for function in ALL {
            let mut best = f64::INFINITY;
            let mut buffer = values.clone();
            for _ in 0..2000 {
                buffer.copy_from_slice(&values);
                let start = std::time::Instant::now();
                // SAFETY: a multiple of 16 values is what it reads and writes.
                unsafe { dispatch(isa, Map(function, &mut buffer)) };
                best = best.min(start.elapsed().as_secs_f64());
            }
            println!("{isa:?} {function:?}: {:.3} ns a value", best * 1e9 / values.len() as f64);
        }
    }
}
