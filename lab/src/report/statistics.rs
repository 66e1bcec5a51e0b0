//! Means over seeds, and how far they may be off.

/// A mean of some runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    /// Half of the 95 % confidence interval of the mean by Student's t; `None` of a single value.
    pub(crate) half: Option<f64>,
}

/// The mean of finite values, and its interval; `None` of nothing.
pub(super) fn estimate(values: &[f64]) -> Option<Estimate> {
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    let mean = values.iter().sum::<f64>() / n;
    let half = (values.len() > 1).then(|| {
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
        t_quantile(values.len() - 1) * (variance / n).sqrt()
    });
    Some(Estimate { mean, half })
}

/// 0.975 quantiles of Student's t with 1 to 30 degrees of freedom.
const T: [f64; 30] = [
    12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004, 2.262157, 2.228139, 2.200985, 2.178813, 2.160369,
    2.144787, 2.131450, 2.119905, 2.109816, 2.100922, 2.093024, 2.085963, 2.079614, 2.073873, 2.068658, 2.063899, 2.059539, 2.055529,
    2.051831, 2.048407, 2.045230, 2.042272,
];

/// The 0.975 quantile of Student's t. Beyond 30 degrees of freedom by its expansion at the normal quantile (Abramowitz and Stegun 1964,
/// 26.7.5), which is off by less than 1e-6 there.
pub(super) fn t_quantile(freedom: usize) -> f64 {
    if let Some(quantile) = freedom.checked_sub(1).and_then(|i| T.get(i)) {
        return *quantile;
    }
    let (x, n) = (1.959_963_984_540_054_f64, freedom as f64);
    let g1 = (x.powi(3) + x) / 4.0;
    let g2 = (5.0 * x.powi(5) + 16.0 * x.powi(3) + 3.0 * x) / 96.0;
    let g3 = (3.0 * x.powi(7) + 19.0 * x.powi(5) + 17.0 * x.powi(3) - 15.0 * x) / 384.0;
    let g4 = (79.0 * x.powi(9) + 776.0 * x.powi(7) + 1482.0 * x.powi(5) - 1920.0 * x.powi(3) - 945.0 * x) / 92160.0;
    x + g1 / n + g2 / n.powi(2) + g3 / n.powi(3) + g4 / n.powi(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, wanted) in [
            (1, 12.706),
            (4, 2.776),
            (30, 2.042),
            (31, 2.0395),
            (40, 2.0211),
            (120, 1.9799),
            (10_000, 1.9602),
        ] {
            assert!((t_quantile(freedom) - wanted).abs() < 6e-4, "{freedom}: {}", t_quantile(freedom));
        }
        // The table and the expansion meet, and both fall.
        assert!((2..200).all(|freedom| t_quantile(freedom) < t_quantile(freedom - 1)));
    }

    #[test]
    fn an_interval_needs_two_values() {
        assert_eq!(estimate(&[]), None);
        assert_eq!(estimate(&[3.0]), Some(Estimate { mean: 3.0, half: None }));
        // Standard deviation 1, 3 values: 4.302653 / sqrt(3).
        let found = estimate(&[1.0, 2.0, 3.0]).expect("three values");
        assert_eq!(found.mean, 2.0);
        assert!((found.half.expect("three values") - 2.484_138).abs() < 1e-5);
    }
}
