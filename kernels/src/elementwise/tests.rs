use super::*;
use crate::testing::{Random, assert_close, wide};

const FUNCTIONS: [Function; 40] = [
    Function::Abs,
    Function::Affine(-2.5, 0.5),
    Function::Celu(0.7),
    Function::Celu(2.0),
    Function::Clip(-0.5, 1.5),
    Function::DivInto(1.5),
    Function::Elu { alpha: 1.0, gamma: 1.0 },
    Function::Elu { alpha: 0.3, gamma: 1.0 },
    Function::Elu {
        alpha: 1.673_263_2,
        gamma: 1.050_701,
    },
    Function::Erf,
    Function::Exp,
    Function::Gelu,
    Function::GeluTanh,
    Function::HardSigmoid(0.2, 0.5),
    Function::HardSigmoid(1.0 / 6.0, 0.5),
    Function::HardSwish,
    Function::LeakyRelu(0.01),
    Function::LeakyRelu(0.3),
    Function::Log,
    Function::Mish,
    Function::Pow(-2.0),
    Function::Pow(-1.0),
    Function::Pow(-0.5),
    Function::Pow(0.5),
    Function::Pow(1.0),
    Function::Pow(2.0),
    Function::Pow(3.0),
    Function::Pow(4.0),
    Function::Pow(1.7),
    Function::Relu,
    Function::ScaledTanh(1.7, 0.6),
    Function::Shrink {
        threshold: 0.5,
        bias: 0.25,
    },
    Function::Sigmoid,
    Function::Softplus,
    Function::Softsign,
    Function::Sqrt,
    Function::Swish(1.0),
    Function::Swish(1.7),
    Function::Tanh,
    Function::ThresholdedRelu(0.8),
];

/// The error function, by its series (Abramowitz and Stegun, 7.1.6).
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

fn oracle(function: Function, x: f64) -> f64 {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let wide = |x: f32| f64::from(x);
    match function {
        Function::Abs => x.abs(),
        Function::Affine(alpha, beta) => wide(alpha) * x + wide(beta),
        Function::Celu(alpha) => x.max(0.0) + (wide(alpha) * (x / wide(alpha)).exp_m1()).min(0.0),
        Function::Clip(least, most) => x.max(wide(least)).min(wide(most)),
        Function::DivInto(c) => wide(c) / x,
        Function::Elu { alpha, gamma } => wide(gamma) * if x > 0.0 { x } else { wide(alpha) * x.exp_m1() },
        Function::Erf => erf(x),
        Function::Exp => x.exp(),
        Function::Gelu => 0.5 * x * (1.0 + erf(x / 2f64.sqrt())),
        Function::FakeQuantize { scale, zero, least, most } => {
            let quantized = (x / wide(scale)).round_ties_even() + wide(zero);
            (quantized.clamp(wide(least), wide(most)) - wide(zero)) * wide(scale)
        }
        Function::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh()),
        Function::HardSigmoid(alpha, beta) => (wide(alpha) * x + wide(beta)).clamp(0.0, 1.0),
        Function::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Function::LeakyRelu(alpha) => x * if x < 0.0 { wide(alpha) } else { 1.0 },
        Function::Log => x.ln(),
        Function::Mish => x * softplus(x).tanh(),
        Function::Pow(c) => x.powf(wide(c)),
        Function::Relu => x.max(0.0),
        Function::ScaledTanh(alpha, beta) => wide(alpha) * (wide(beta) * x).tanh(),
        Function::Shrink { threshold, bias } => {
            if x.abs() <= wide(threshold) {
                0.0
            } else {
                x - wide(bias) * x.signum()
            }
        }
        Function::Sigmoid => sigmoid(x),
        Function::Softplus => softplus(x),
        Function::Softsign => x / (1.0 + x.abs()),
        Function::Sqrt => x.sqrt(),
        Function::Swish(alpha) => x * sigmoid(wide(alpha) * x),
        Function::Tanh => x.tanh(),
        Function::ThresholdedRelu(threshold) => {
            if x > wide(threshold) {
                x
            } else {
                0.0
            }
        }
    }
}

/// Where it has a value and a slope.
fn domain(function: Function) -> (f32, f32) {
    match function {
        Function::Log | Function::Sqrt | Function::Pow(_) | Function::DivInto(_) => (0.3, 6.0),
        _ => (-6.0, 6.0),
    }
}

/// That each value by itself is right to a few units in its last digits, or to those of numbers near 1.
fn near(found: &[f32], expected: &[f64], what: &str) {
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= 1e-6 + 2e-6 * expected.abs(), "{what}: value {i} is {found} for {expected}");
    }
}

#[test]
fn functions_and_their_gradients() {
    for isa in Isa::available() {
        for (seed, function) in FUNCTIONS.into_iter().enumerate() {
            for len in [0, 1, 7, 8, 15, 16, 17, 33, 500] {
                let mut random = Random::new(seed as u64);
                let (least, most) = domain(function);
                let x: Vec<f32> = random
                    .values(len)
                    .iter()
                    .map(|v| least + (v + 1.0) / 2.0 * (most - least))
                    .collect();
                let dy = random.values(len);
                let what = format!("{isa:?} {function:?} length {len}");
                let mut y = vec![f32::NAN; len];
                function.forward(isa, &x, &mut y);
                let expected: Vec<f64> = wide(&x).iter().map(|&x| oracle(function, x)).collect();
                near(&y, &expected, &what);
                let kept = match function.reads() {
                    Reads::Nothing => &[],
                    Reads::Input => &x[..],
                    Reads::Output => &y[..],
                };
                let mut dx = vec![f32::NAN; len];
                function.backward(isa, kept, &dy, &mut dx);
                let slope = |x: f64| (oracle(function, x + 1e-6) - oracle(function, x - 1e-6)) / 2e-6;
                let expected: Vec<f64> = wide(&x).iter().zip(&dy).map(|(&x, &g)| slope(x) * f64::from(g)).collect();
                near(&dx, &expected, &format!("{what} gradient"));
            }
        }
    }
}

#[test]
fn gradients_at_kinks_and_far_out() {
    let cases = [
        (Function::Relu, 0.0, 0.0),
        (Function::LeakyRelu(0.5), 0.0, 1.0),
        (Function::Elu { alpha: 2.0, gamma: 3.0 }, 0.0, 6.0),
        (Function::Celu(2.0), 0.0, 1.0),
        (Function::Abs, 0.0, 0.0),
        (Function::Abs, -2.0, -1.0),
        (Function::Clip(0.0, 1.0), 0.0, 1.0),
        (Function::Clip(0.0, 1.0), 1.0, 1.0),
        (Function::HardSigmoid(0.25, 0.5), 2.0, 0.25),
        (Function::Shrink { threshold: 1.0, bias: 0.0 }, 1.0, 0.0),
        (Function::ThresholdedRelu(1.0), 1.0, 0.0),
        (Function::Elu { alpha: 1.0, gamma: 1.0 }, 200.0, 1.0),
        (Function::Softplus, 200.0, 1.0),
        (Function::Softplus, -200.0, 0.0),
        (Function::Mish, 200.0, 1.0),
        (Function::Mish, -200.0, 0.0),
        (Function::Gelu, 200.0, 1.0),
        (Function::Gelu, -200.0, 0.0),
        (Function::GeluTanh, -200.0, 0.0),
        (Function::Swish(1.0), -200.0, 0.0),
    ];
    for isa in Isa::available() {
        for (function, x, slope) in cases {
            let (mut y, mut dx) = ([0.0; 19], [0.0; 19]);
            function.forward(isa, &[x; 19], &mut y);
            assert!(y[18].is_finite(), "{isa:?} {function:?} of {x} is {}", y[18]);
            let kept = if function.reads() == Reads::Output { y } else { [x; 19] };
            function.backward(isa, &kept, &[1.0; 19], &mut dx);
            assert_eq!((dx[0], dx[18]), (slope, slope), "{isa:?} {function:?} at {x}");
        }
    }
}

#[test]
fn not_a_number_stays() {
    for isa in Isa::available() {
        for function in FUNCTIONS {
            // Comparisons with it are false.
            if matches!(function, Function::Pow(_)) {
                continue;
            }
            let mut x = [1.0; 20];
            x[3] = f32::NAN;
            x[19] = f32::NAN;
            let given = x;
            function.forward(isa, &given, &mut x);
            let lost = x.iter().enumerate().any(|(i, v)| v.is_nan() != (i == 3 || i == 19));
            assert!(!lost, "{isa:?} {function:?}: {x:?}");
        }
    }
}

fn indices(shape: &[usize]) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for &length in shape {
        let longer = |index: &Vec<usize>| -> Vec<Vec<usize>> { (0..length).map(|i| [&index[..], &[i]].concat()).collect() };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// Where an index of `large` lies in a tensor of shape `small` that is broadcast to it.
fn place(index: &[usize], small: &[usize]) -> usize {
    let seen = &index[index.len() - small.len()..];
    seen.iter().zip(small).fold(0, |at, (&i, &n)| at * n + i.min(n - 1))
}

fn part(random: &mut Random, shape: &[usize]) -> Vec<usize> {
    let missing = if random.below(3) == 0 { random.below(shape.len() + 1) } else { 0 };
    let ones = random.below(3);
    shape[missing..]
        .iter()
        .map(|&n| if random.below(3) < ones { 1 } else { n })
        .collect()
}

const BINARY: [Binary; 7] = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Max,
    Binary::Min,
    Binary::PRelu,
];

/// The value and both slopes.
fn two(f: Binary, a: f64, b: f64) -> (f64, f64, f64) {
    let pick = |first: bool| {
        if first { (a, 1.0, 0.0) } else { (b, 0.0, 1.0) }
    };
    match f {
        Binary::Add => (a + b, 1.0, 1.0),
        Binary::Sub => (a - b, 1.0, -1.0),
        Binary::Mul => (a * b, b, a),
        Binary::Div => (a / b, 1.0 / b, -a / b / b),
        Binary::Max => pick(a > b),
        Binary::Min => pick(a < b),
        Binary::PRelu => {
            if a < 0.0 {
                (a * b, b, a)
            } else {
                (a, 1.0, 0.0)
            }
        }
    }
}

#[test]
fn two_tensors_broadcast_and_gradients_are_summed() {
    for isa in Isa::available() {
        for seed in 0..420 {
            let mut random = Random::new(seed);
            let f = BINARY[seed as usize % BINARY.len()];
            let rank = 1 + random.below(4);
            let shape: Vec<usize> = (0..rank)
                .map(|_| [1, 2, 3, 8, 16, 17, 35][random.below(if rank > 2 { 5 } else { 7 })])
                .collect();
            let (mut a_shape, b_shape) = (part(&mut random, &shape), part(&mut random, &shape));
            if indices(&shape).len() > a_shape.iter().product::<usize>().max(b_shape.iter().product()) {
                a_shape = shape.clone();
            }
            let a = random.values(a_shape.iter().product());
            let b: Vec<f32> = random
                .values(b_shape.iter().product())
                .iter()
                .map(|v| v + v.signum() * 0.5)
                .collect();
            let dy = random.values(shape.iter().product());
            let mut y = vec![f32::NAN; dy.len()];
            binary(isa, f, [&a, &b], [&a_shape, &b_shape], &mut y, &shape);
            let (mut values, mut by_a, mut by_b) = (Vec::new(), vec![0.0; a.len()], vec![0.0; b.len()]);
            for (at, index) in indices(&shape).iter().enumerate() {
                let (i, j) = (place(index, &a_shape), place(index, &b_shape));
                let (value, slope_a, slope_b) = two(f, f64::from(a[i]), f64::from(b[j]));
                values.push(value);
                by_a[i] += slope_a * f64::from(dy[at]);
                by_b[j] += slope_b * f64::from(dy[at]);
            }
            let what = format!("{isa:?} seed {seed} {f:?}: {a_shape:?} and {b_shape:?} to {shape:?}");
            assert_close(&y, &values, 1e-6, &what);
            let operands: [&[f32]; 2] = if f.is_linear() { [&[], &[]] } else { [&a, &b] };
            for (of, expected) in [(Operand::First, by_a), (Operand::Second, by_b)] {
                for adds in [false, true] {
                    let mut target = vec![if adds { 1.0 } else { f32::NAN }; expected.len()];
                    binary_gradient(isa, f, of, &dy, operands, [&a_shape, &b_shape], &shape, &mut target, adds);
                    let expected: Vec<f64> = expected.iter().map(|g| if adds { g + 1.0 } else { *g }).collect();
                    let count = (dy.len() / target.len().max(1)) as f64;
                    assert_close(&target, &expected, 2e-6 * count.sqrt(), &format!("{what}: by {of:?} {adds}"));
                }
            }
        }
    }
}

#[test]
fn fake_quantization_rounds_to_even_saturates_and_passes_gradients_inside() {
    let function = Function::FakeQuantize {
        scale: 0.5,
        zero: 3.0,
        least: 0.0,
        most: 15.0,
    };
    // In steps of a half: -3 to 12 are representable. Halves of a step go to the even neighbour.
    let x = [
        0.0,
        0.25,
        0.75,
        -0.25,
        -0.3,
        -1.5,
        -1.75,
        -1.76,
        6.0,
        6.24,
        6.25,
        6.26,
        1e9,
        -1e9,
        f32::INFINITY,
        f32::NAN,
        f32::MAX,
    ];
    let expected = [
        0.0, 0.0, 1.0, 0.0, -0.5, -1.5, -1.5, -1.5, 6.0, 6.0, 6.0, 6.0, 6.0, -1.5, 6.0, -1.5, 6.0,
    ];
    let passes = [1, 1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0];
    for isa in Isa::available() {
        for repeats in [1, 5] {
            let x = x.repeat(repeats);
            let (mut y, mut dx) = (vec![9.0; x.len()], vec![9.0; x.len()]);
            let dy: Vec<f32> = (0..x.len()).map(|i| i as f32 - 7.5).collect();
            function.forward(isa, &x, &mut y);
            function.backward(isa, &x, &dy, &mut dx);
            assert_eq!(y, expected.repeat(repeats), "{isa:?}");
            // No zero is negative, so that the integer 0 is one value.
            assert!(y.iter().all(|v| *v != 0.0 || v.is_sign_positive()), "{isa:?}");
            let gradients: Vec<f32> = dy.iter().zip(passes.repeat(repeats)).map(|(dy, p)| dy * p as f32).collect();
            assert_eq!(dx, gradients, "{isa:?}");
        }
    }
}
