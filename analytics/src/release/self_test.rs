//! The self-test of a variant: known inputs, known outputs. A device that computes something else does not serve it.

/// Outputs that are not those that were signed.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SelfTestError {
    /// Another number of outputs.
    #[error("{found} outputs came out, and {expected} were signed: it is another model, or the runtime reads it in another way")]
    Outputs {
        /// That came out.
        found: usize,
        /// That were signed.
        expected: usize,
    },
    /// NaN or infinity.
    #[error("output {index} is not finite")]
    NonFinite {
        /// Counted from 0.
        index: usize,
    },
    /// Too far off.
    #[error("row {row} is off by {off} of its largest output, and the release lets it be off by {tolerance}")]
    Off {
        /// Counted from 0.
        row: usize,
        /// Share of the row's largest magnitude.
        off: f32,
        /// By the release.
        tolerance: f32,
    },
}

/// What a self-test feeds: `[rows, row_len]` row-major, uniform between -1 and 1, from the job's seed. The generator is SplitMix64 (Steele, Lea, Flood 2014),
/// whose top 24 bits make a value exactly, so that the numbers are the same on every machine.
pub fn inputs(seed: u64, rows: usize, row_len: usize) -> Vec<f32> {
    let mut state = seed ^ 0x7365_6c66_2d74_6573;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let values = rows.saturating_mul(row_len);
    (0..values).map(|_| (next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0).collect()
}

/// Compares what a variant computed with what was signed, both `[rows, n]` row-major; returns how far the worst row is off, as a share of its largest
/// magnitude.
///
/// # Errors
/// [`SelfTestError`].
pub fn compare(found: &[f32], expected: &[f32], rows: usize, tolerance: f32) -> Result<f32, SelfTestError> {
    let n = expected.len().checked_div(rows).unwrap_or(0);
    if n == 0 || found.len() != expected.len() || n * rows != expected.len() {
        return Err(SelfTestError::Outputs {
            found: found.len(),
            expected: expected.len(),
        });
    }
    if let Some(index) = found.iter().position(|value| !value.is_finite()) {
        return Err(SelfTestError::NonFinite { index });
    }
    let mut worst = 0.0_f32;
    for (row, (found, expected)) in found.chunks(n).zip(expected.chunks(n)).enumerate() {
        let largest = found.iter().chain(expected).map(|value| value.abs()).fold(0.0, f32::max);
        let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        let off = if largest > 0.0 { apart / largest } else { 0.0 };
        // Two huge values may lie infinitely far apart.
        if off.is_nan() || off > tolerance {
            return Err(SelfTestError::Off { row, off, tolerance });
        }
        worst = worst.max(off);
    }
    Ok(worst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_feed_the_same_numbers_for_the_same_seed() {
        let values = inputs(7, 3, 4);
        assert_eq!(values, inputs(7, 3, 4));
        assert_ne!(values, inputs(8, 3, 4));
        assert_eq!(values.len(), 12);
        assert!(inputs(1, 1, 4096).iter().all(|value| (-1.0..1.0).contains(value)));
        let mean = inputs(1, 1, 4096).iter().sum::<f32>() / 4096.0;
        assert!(mean.abs() < 0.05, "{mean}");
        assert_eq!(inputs(0, 0, 9), [0.0; 0]);
    }

    #[test]
    fn should_tell_what_is_off_from_what_is_near() {
        let expected = [1.0, -2.0, 0.0, 0.5];
        assert_eq!(compare(&expected, &expected, 2, 1e-3), Ok(0.0));
        let near = compare(&[1.0, -2.001, 0.0, 0.5], &expected, 2, 1e-3).expect("near");
        assert!((near - 0.0005).abs() < 1e-4, "{near}");
        let off = compare(&[1.0, -2.0, 0.0, 0.51], &expected, 2, 1e-3);
        assert!(matches!(off, Err(SelfTestError::Off { row: 1, .. })), "{off:?}");
        assert_eq!(compare(&[0.0; 4], &[0.0; 4], 2, 1e-3), Ok(0.0));
        assert!(matches!(
            compare(&[f32::MAX, 0.0], &[-f32::MAX, 0.0], 1, 1.0),
            Err(SelfTestError::Off { .. })
        ));
        assert_eq!(
            compare(&[1.0, f32::NAN, 0.0, 0.5], &expected, 2, 1.0),
            Err(SelfTestError::NonFinite { index: 1 })
        );
        for (found, rows) in [(3, 2), (5, 2), (4, 3), (4, 0)] {
            let found = vec![1.0; found];
            assert!(
                matches!(compare(&found, &expected, rows, 1.0), Err(SelfTestError::Outputs { .. })),
                "{rows}"
            );
        }
    }
}
