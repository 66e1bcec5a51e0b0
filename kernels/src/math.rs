//! exp, tanh and their kin over a register: polynomials, no tables, no branches.
//!
//! Errors are relative and hold over the whole range, tanh and erf near zero included; results that would be smaller than the smallest
//! normal number are zero, so that nothing is slowed down by denormal ones. NaN stays NaN.
//!
//! # Source
//! Cephes (Moshier), single precision: reduction and polynomials of `expf`, `logf` and, below 1, of `erff`. What `erf` takes beyond 1
//! was fitted here (`ln(erfc(x))`, least largest error weighted by `erfc`, 1.1e-9).

use crate::vector::Vector;

/// `c[0] * x^(N - 1) + ... + c[N - 1]`
#[inline(always)]
unsafe fn polynomial<V: Vector, const N: usize>(x: V, c: [f32; N]) -> V {
    let mut sum = V::splat(c[0]);
    for i in 1..N {
        sum = sum.fma(x, V::splat(c[i]));
    }
    sum
}

/// `x` between both; NaN stays.
#[inline(always)]
pub(crate) unsafe fn clamp<V: Vector>(x: V, least: f32, most: f32) -> V {
    V::splat(most).min(V::splat(least).max(x))
}

/// `p` with `exp(x) = (1 + p) * 2^n`, where `n` is the integer nearest to `x / ln(2)`.
#[inline(always)]
unsafe fn fraction<V: Vector>(x: V, n: V) -> V {
    // ln(2) in two parts: the product with the first is exact.
    let r = n.fma(V::splat(-0.693_359_4), x);
    let r = n.fma(V::splat(2.121_944_4e-4), r);
    let tail = polynomial(
        r,
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5],
    );
    tail.fma(r.mul(r), r)
}

/// `(p, power)` with `exp(x) = (1 + p) * power`, for magnitudes up to 87.3. `power` is 1, and `p` as exact as `x`, within ln(2) / 2 of
/// zero.
#[inline(always)]
pub(crate) unsafe fn reduced<V: Vector>(x: V) -> (V, V) {
    let (n, power) = x.integer_and_power(V::splat(std::f32::consts::LOG2_E));
    (fraction(x, n), power)
}

/// Smallest argument of [`exp`] whose result is a normal number, and so not zero: ln(2^-126).
const EXP_LEAST: f32 = -87.336_54;

/// e^x. Error at most 2e-7; infinite above 88.7228, zero below -87.3365.
#[inline(always)]
pub(crate) unsafe fn exp<V: Vector>(x: V) -> V {
    let inside = clamp(x, EXP_LEAST, 89.0);
    let n = inside.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let p = fraction(inside, n);
    // 2^128 is no number yet: of that power one factor goes first.
    let power = V::splat(127.0).min(n);
    let p = p.add(V::splat(1.0));
    let p = p.fma(n.sub(power), p);
    V::splat(0.0).select(V::splat(EXP_LEAST).gt(x), p.mul(power.exp2_of_integer()))
}

/// 1 / (1 + e^-x). Error at most 2e-7; zero below -87.3365.
#[inline(always)]
pub(crate) unsafe fn sigmoid<V: Vector>(x: V) -> V {
    let (p, power) = reduced(clamp(V::splat(0.0).sub(x), EXP_LEAST, -EXP_LEAST));
    let one = V::splat(1.0);
    let y = one.div(p.fma(power, power).add(one));
    V::splat(0.0).select(V::splat(EXP_LEAST).gt(x), y)
}

/// The hyperbolic tangent. Error at most 2e-7.
#[inline(always)]
pub(crate) unsafe fn tanh<V: Vector>(x: V) -> V {
    // (e^2x - 1) / (e^2x + 1), with e^2x - 1 taken from the polynomial, which loses nothing near zero.
    let x = clamp(x, -10.0, 10.0);
    let (p, power) = reduced(x.add(x));
    let less_one = p.fma(power, power.sub(V::splat(1.0)));
    less_one.div(less_one.add(V::splat(2.0)))
}

/// The natural logarithm. Error at most 2e-7; `-inf` of zero, NaN of what is negative.
#[inline(always)]
pub(crate) unsafe fn ln<V: Vector>(x: V) -> V {
    let smallest = V::splat(f32::MIN_POSITIVE);
    // Denormal numbers are made normal first.
    let tiny = smallest.gt(x);
    let (m, e) = x.mul(V::splat(16_777_216.0)).select(tiny, x).mantissa_and_exponent();
    let e = e.sub(V::splat(24.0).keep(tiny));
    // Mantissas from sqrt(1/2) to sqrt(2).
    let high = m.gt(V::splat(std::f32::consts::SQRT_2));
    let m = m.mul(V::splat(0.5)).select(high, m);
    let e = e.add(V::splat(1.0).keep(high));
    let f = m.sub(V::splat(1.0));
    let square = f.mul(f);
    let tail = polynomial(
        f,
        [
            7.037_683_6e-2,
            -1.151_461e-1,
            1.167_699_9e-1,
            -1.242_014_1e-1,
            1.424_932_3e-1,
            -1.666_805_8e-1,
            2.000_071_5e-1,
            -2.499_999_4e-1,
            3.333_333e-1,
        ],
    );
    let low = tail.mul(f).fma(square, e.mul(V::splat(-2.121_944_4e-4)));
    let low = square.fma(V::splat(-0.5), low);
    let y = e.fma(V::splat(0.693_359_4), f.add(low));
    // NaN, negative numbers, zero and infinity.
    let zero = V::splat(0.0);
    let y = y.select(x.gt(zero), V::splat(f32::NAN));
    let y = V::splat(f32::NEG_INFINITY).select(x.eq(zero), y);
    let most = V::splat(f32::INFINITY);
    most.select(x.eq(most), y)
}

/// The error function. Error at most 2e-7.
#[inline(always)]
pub(crate) unsafe fn erf<V: Vector>(x: V) -> V {
    let t = V::splat(3.95).min(x.abs());
    let near = {
        let x = clamp(x, -1.0, 1.0);
        let p = polynomial(
            x.mul(x),
            [
                7.853_861e-5,
                -8.010_194e-4,
                5.188_327_6e-3,
                -2.685_381_2e-2,
                1.128_358_5e-1,
                -3.761_262_6e-1,
                std::f32::consts::FRAC_2_SQRT_PI,
            ],
        );
        p.mul(x)
    };
    let far = {
        let (p, power) = reduced(polynomial(
            t,
            [
                1.867_803_7e-4,
                -2.951_908_7e-3,
                2.185_643_4e-2,
                -1.031_482_2e-1,
                -6.380_933e-1,
                -1.127_122_6,
                -3.326_508e-4,
            ],
        ));
        V::splat(1.0).sub(p.fma(power, power))
    };
    let zero = V::splat(0.0);
    let far = zero.sub(far).select(zero.gt(x), far);
    far.select(t.gt(V::splat(1.0)), near)
}

#[cfg(test)]
mod tests;
