//! What one agent saw, as the values of a round's slots.

use aimass_protocol::limits::{CALIBRATION_BINS, CALIBRATION_EXPONENTS};

use super::shape::{CalibrationShape, EXPONENTS, Stage};

/// What was seen is not of the job's round. Says nothing of the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// Another round, or another number of tensors or bins.
    #[error("what was seen is not what round {round} of the calibration asks for; report it with the job and the model", round = if *.stage == Stage::Exponents { 1 } else { 2 })]
    Other {
        /// What was asked for.
        stage: Stage,
    },
    /// No float has it.
    #[error("the exponent {exponent} is not between {} and {}", CALIBRATION_EXPONENTS.0, CALIBRATION_EXPONENTS.1)]
    Exponent {
        /// Which.
        exponent: i32,
    },
}

/// The values of the first round: `rows` rows were looked at, and `found` is the exponent that each tensor's values need, in the order of the job.
///
/// # Errors
/// [`CountError`].
pub fn exponents(shape: CalibrationShape, rows: u64, found: &[i32]) -> Result<Vec<u64>, CountError> {
    if shape.stage != Stage::Exponents || found.len() != shape.tensors {
        return Err(CountError::Other { stage: shape.stage });
    }
    let mut values = vec![0; 1 + shape.tensors * EXPONENTS];
    values[0] = rows.min(shape.max_rows.into());
    for (tensor, &exponent) in found.iter().enumerate() {
        let (least, most) = CALIBRATION_EXPONENTS;
        let at = (least..=most).position(|known| known == exponent);
        let at = at.ok_or(CountError::Exponent { exponent })?;
        values[1 + tensor * EXPONENTS + at] = 1;
    }
    Ok(values)
}

/// The values of the second round: `found` are each tensor's counts, `[CALIBRATION_BINS]`, in the order of the job. Where the largest of a tensor does not
/// fit, all of the tensor's are divided by the smallest power of two that makes it fit, and rounded up: what is there at all stays.
///
/// # Errors
/// [`CountError::Other`].
pub fn counts<'a>(shape: CalibrationShape, rows: u64, found: impl IntoIterator<Item = &'a [u64]>) -> Result<Vec<u64>, CountError> {
    let other = CountError::Other { stage: shape.stage };
    if shape.stage != Stage::Bins {
        return Err(other);
    }
    let top = shape.top_count();
    let (mut divided, mut bins) = (Vec::new(), Vec::new());
    for counts in found {
        if counts.len() != CALIBRATION_BINS {
            return Err(other);
        }
        let largest = counts.iter().copied().max().unwrap_or(0);
        let shift = (0..64_u32).find(|shift| largest.div_ceil(1 << shift) <= top).unwrap_or(63);
        divided.push(u64::from(shift > 0));
        bins.extend(counts.iter().map(|count| count.div_ceil(1 << shift)));
    }
    if divided.len() != shape.tensors {
        return Err(other);
    }
    Ok([vec![rows.min(shape.max_rows.into())], divided, bins].concat())
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::example;
    use super::*;

    #[test]
    fn should_say_which_exponent_each_tensor_needs() {
        let shape = CalibrationShape::of(&example(), 1);
        let values = exponents(shape, 40, &[-24, 128]).expect("two tensors");
        assert_eq!(
            (values.len(), values[0], values.iter().skip(1).sum::<u64>()),
            (shape.n_values(), 40, 2)
        );
        assert_eq!((values[1], values[1 + 2 * 153 - 1]), (1, 1));
        assert_eq!(exponents(shape, 40, &[0, 129]), Err(CountError::Exponent { exponent: 129 }));
        assert_eq!(exponents(shape, 40, &[0]), Err(CountError::Other { stage: Stage::Exponents }));
        assert!(exponents(CalibrationShape::of(&example(), 2), 40, &[0, 0]).is_err());
        assert_eq!(exponents(shape, u64::MAX, &[0, 0]).expect("bounded")[0], 512);
    }

    #[test]
    fn should_divide_counts_that_do_not_fit_and_lose_no_bin() {
        let shape = CalibrationShape {
            bits: 4,
            ..CalibrationShape::of(&example(), 2)
        };
        let mut large = vec![0; CALIBRATION_BINS];
        (large[0], large[7], large[2047]) = (1, 60, 61);
        let mut small = vec![0; CALIBRATION_BINS];
        small[9] = 15;
        let values = counts(shape, 3, [&large[..], &small[..]]).expect("two tensors");
        assert_eq!(values.len(), shape.n_values());
        assert_eq!(values[..3], [3, 1, 0], "rows, and the first tensor's were divided");
        let bins = &values[3..];
        assert_eq!(
            (bins[0], bins[7], bins[2047], bins[2048 + 9]),
            (1, 8, 8, 15),
            "61 / 4 is 16 and too much, 61 / 8 is 8"
        );
        assert!(values.iter().skip(3).all(|count| *count <= shape.top_count()));
        assert_eq!(counts(shape, 3, [&large[..]]), Err(CountError::Other { stage: Stage::Bins }));
        assert!(counts(shape, 3, [&large[1..], &small[..]]).is_err());
        let huge = vec![u64::MAX; CALIBRATION_BINS];
        assert!(
            counts(shape, 3, [&huge[..], &huge[..]])
                .expect("any counts")
                .iter()
                .all(|count| *count <= 15)
        );
    }
}
