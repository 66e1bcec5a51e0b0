//! Mean, standard deviation and quantiles from sums.

/// Of `count` levels: their mean and standard deviation (of all, not of a sample), in levels.
pub(crate) fn moments(count: u64, sum: u64, squares: u64) -> Option<(f64, f64)> {
    if count == 0 {
        return None;
    }
    let n = count as f64;
    // Exact: below 2^126.
    let spread = (u128::from(count) * u128::from(squares)).saturating_sub(u128::from(sum) * u128::from(sum));
    Some((sum as f64 / n, (spread as f64).sqrt() / n))
}

/// The value that `share` of all values are at most, interpolated within its bin; beyond the range its end. `None` without bins or values.
pub(crate) fn quantile(share: f64, (low, high): (f64, f64), below: u64, bins: &[u64], above: u64) -> Option<f64> {
    let count = below + bins.iter().sum::<u64>() + above;
    if bins.is_empty() || count == 0 {
        return None;
    }
    let wanted = share * count as f64;
    let mut before = below as f64;
    if below > 0 && wanted <= before {
        return Some(low);
    }
    for (at, &bin) in bins.iter().enumerate() {
        let bin = bin as f64;
        if bin > 0.0 && wanted <= before + bin {
            let part = (at as f64 + (wanted - before) / bin) / bins.len() as f64;
            return Some(low + (high - low) * part);
        }
        before += bin;
    }
    Some(high)
}
