//! The hypergeometric distribution's lower tail.

/// Rescale where a term is greater, so that no sum overflows.
const GREAT: f64 = 1e200;

/// The smallest x with P[X <= x] >= p, for X the number of marked ones when `drawn` of `n` are drawn without replacement and `marked` of
/// the n are marked. `ln_p` is the logarithm of p, at most ln(1/2). `marked` and `drawn` are at most n.
pub(super) fn quantile(n: u32, marked: u32, drawn: u32, ln_p: f64) -> u32 {
    let plain = n - marked;
    let fewest = drawn.saturating_sub(plain);
    let most = drawn.min(marked);
    // Terms and their sum, relative to the first term; the target is ln p less the first term's logarithm.
    let ln_first = ln_choose(marked, fewest) + ln_choose(plain, drawn - fewest) - ln_choose(n, drawn);
    let (mut term, mut sum, mut ln_target) = (1.0_f64, 1.0_f64, ln_p - ln_first);
    for x in fewest..most {
        if sum.ln() >= ln_target {
            return x;
        }
        // P[X = x + 1] / P[X = x]; `plain + x >= drawn` holds from `fewest` on.
        term *= f64::from(marked - x) / f64::from(x + 1) * (f64::from(drawn - x) / f64::from(plain + x + 1 - drawn));
        sum += term;
        if term > GREAT {
            term /= GREAT;
            sum /= GREAT;
            ln_target -= GREAT.ln();
        }
    }
    most
}

/// ln of the number of ways to choose k of n; k is at most n.
fn ln_choose(n: u32, k: u32) -> f64 {
    let k = k.min(n - k);
    (0..k).map(|i| (f64::from(n - i) / f64::from(i + 1)).ln()).sum()
}
