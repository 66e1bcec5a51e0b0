//! Polynomials over the scalars, and Gao's decoder. A polynomial is its coefficients, lowest first, without zeros at the end.

use curve25519_dalek::Scalar;
use zeroize::Zeroizing;

use super::{Secret, ShamirError, Share};

type Polynomial = Zeroizing<Vec<Scalar>>;

/// Value at `x`, by Horner's rule.
pub(super) fn evaluate(coefficients: &[Scalar], x: Scalar) -> Scalar {
    coefficients.iter().rev().fold(Scalar::ZERO, |sum, c| sum * x + c)
}

/// The polynomial of at most `threshold` coefficients that all but at most (m - threshold) / 2 of the m shares lie on: its value at 0,
/// and the places of the others, ascending. The places differ, and there are at least `threshold`.
///
/// # Source
/// Gao 2003, algorithm 1: a partial Euclid on the product of all (X - x) and the polynomial through all shares.
pub(super) fn decode(shares: &[(u32, Share)], threshold: usize) -> Result<(Secret, Vec<u32>), ShamirError> {
    let m = shares.len();
    let correctable = (m - threshold) / 2;
    let contradiction = ShamirError::Contradiction { have: m, correctable };
    let (vanishing, through_all) = interpolate(shares);
    // Euclid's remainders r and the factors v of `through_all` in them, until the degree is under (m + threshold) / 2.
    let (mut r_before, mut r) = (vanishing, through_all);
    let (mut v_before, mut v): (Polynomial, Polynomial) = (Zeroizing::new(Vec::new()), Zeroizing::new(vec![Scalar::ONE]));
    while 2 * r.len() > m + threshold + 1 {
        let (quotient, rest) = divide(&r_before, &r);
        let next_v = subtract(&v_before, &multiply(&quotient, &v));
        r_before = std::mem::replace(&mut r, rest);
        v_before = std::mem::replace(&mut v, next_v);
    }
    let (message, rest) = divide(&r, &v);
    if !rest.is_empty() || message.len() > threshold {
        return Err(contradiction);
    }
    let mut wrong: Vec<u32> = shares
        .iter()
        .filter(|(x, share)| evaluate(&message, Scalar::from(*x)) != share.0)
        .map(|(x, _)| *x)
        .collect();
    if wrong.len() > correctable {
        return Err(contradiction);
    }
    wrong.sort_unstable();
    Ok((Secret(message.first().copied().unwrap_or(Scalar::ZERO)), wrong))
}

/// The product of all (X - x), and the polynomial through all shares, in Newton's form: one share after the other.
fn interpolate(shares: &[(u32, Share)]) -> (Polynomial, Polynomial) {
    let m = shares.len();
    let mut inverses: Vec<Scalar> = Vec::with_capacity(m);
    for (i, (x, _)) in shares.iter().enumerate() {
        let x = Scalar::from(*x);
        let before = shares[..i].iter();
        inverses.push(before.fold(Scalar::ONE, |product, (x_before, _)| product * (x - Scalar::from(*x_before))));
    }
    // The places differ, so no factor is 0.
    Scalar::invert_batch_alloc(&mut inverses);
    let mut vanishing: Polynomial = Zeroizing::new(Vec::with_capacity(m + 1));
    let mut through: Polynomial = Zeroizing::new(Vec::with_capacity(m));
    vanishing.push(Scalar::ONE);
    for ((x, share), inverse) in shares.iter().zip(&inverses) {
        let x = Scalar::from(*x);
        let step = Zeroizing::new((share.0 - evaluate(&through, x)) * inverse);
        through.resize(vanishing.len(), Scalar::ZERO);
        for (t, v) in through.iter_mut().zip(vanishing.iter()) {
            *t += v * *step;
        }
        // vanishing *= (X - x)
        vanishing.push(Scalar::ZERO);
        for k in (0..vanishing.len()).rev() {
            let below = if k == 0 { Scalar::ZERO } else { vanishing[k - 1] };
            vanishing[k] = below - vanishing[k] * x;
        }
    }
    trim(&mut through);
    (vanishing, through)
}

/// Quotient and rest; `divisor` is not 0.
fn divide(dividend: &[Scalar], divisor: &[Scalar]) -> (Polynomial, Polynomial) {
    let mut rest: Polynomial = Zeroizing::new(dividend.to_vec());
    let steps = (dividend.len() + 1).saturating_sub(divisor.len());
    let mut quotient: Polynomial = Zeroizing::new(vec![Scalar::ZERO; steps]);
    let lead = divisor.last().map_or(Scalar::ONE, Scalar::invert);
    for k in (0..steps).rev() {
        let factor = rest[k + divisor.len() - 1] * lead;
        for (r, d) in rest[k..].iter_mut().zip(divisor) {
            *r -= factor * d;
        }
        quotient[k] = factor;
    }
    trim(&mut quotient);
    trim(&mut rest);
    (quotient, rest)
}

fn multiply(a: &[Scalar], b: &[Scalar]) -> Polynomial {
    let mut out: Polynomial = Zeroizing::new(vec![Scalar::ZERO; (a.len() + b.len()).saturating_sub(1)]);
    for (i, x) in a.iter().enumerate() {
        for (o, y) in out[i..].iter_mut().zip(b) {
            *o += x * y;
        }
    }
    trim(&mut out);
    out
}

fn subtract(a: &[Scalar], b: &[Scalar]) -> Polynomial {
    let mut out: Polynomial = Zeroizing::new(vec![Scalar::ZERO; a.len().max(b.len())]);
    out[..a.len()].copy_from_slice(a);
    for (o, y) in out.iter_mut().zip(b) {
        *o -= y;
    }
    trim(&mut out);
    out
}

fn trim(polynomial: &mut Vec<Scalar>) {
    while polynomial.last() == Some(&Scalar::ZERO) {
        polynomial.pop();
    }
}
