//! Whether devices compute with a model what was trained: compared after every round, and before a release goes out.

use std::panic::{AssertUnwindSafe, catch_unwind};

use aimass_inference::{Parity, ParityError, parity};
use aimass_learning::data::Source;
use aimass_onnx::Model;

use crate::store::ParityRecord;

/// Rows of held-out data that a round's model is compared on: what differs, differs on any row.
const ROWS: usize = 16;
/// Most characters of a reason that are kept.
const MAX_REASON: usize = 400;

/// What is on record of a round's model.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Compared {
    /// How far trainer and tract lie apart.
    pub(crate) parity: Option<ParityRecord>,
    /// Why that is not known: tract does not run the model, or one of the two computes what is no number.
    pub(crate) reason: Option<String>,
}

impl From<Parity> for ParityRecord {
    fn from(found: Parity) -> Self {
        Self {
            max: found.max,
            max_allowed: found.tolerance.max,
            mean: found.mean,
            mean_allowed: found.tolerance.mean,
            rows: found.rows as u64,
        }
    }
}

/// Compares the trainer with tract on rows of `data`, or on made-up ones. It may take as long as a few rows take, and never fails a round: what is found
/// is for who wants to serve the model.
pub(crate) fn of_round(model: &Model, data: Option<&dyn Source>) -> Compared {
    // The round is more important than what is said of it.
    let found = catch_unwind(AssertUnwindSafe(|| parity(model, data, ROWS)));
    match found {
        // JSON has no infinity: such a record could not be read again.
        Ok(Ok(found)) if !(found.max.is_finite() && found.mean.is_finite()) => unknown("trainer and tract lie infinitely far apart"),
        Ok(Ok(found)) => Compared {
            parity: Some(found.into()),
            reason: None,
        },
        Ok(Err(error)) => unknown(&error.to_string()),
        Err(_) => unknown("the comparison met a fault of the program: report it with the model"),
    }
}

fn unknown(reason: &str) -> Compared {
    Compared {
        parity: None,
        reason: Some(reason.chars().take(MAX_REASON).collect()),
    }
}

/// Why a variant must not go out, for people; `Ok` where trainer and tract agree, or the trainer does not take the model (as with some quantized graphs).
pub(crate) fn of_variant(model: &Model) -> Result<(), String> {
    match catch_unwind(AssertUnwindSafe(|| parity(model, None, ROWS))) {
        Ok(Ok(found)) => match found.excess() {
            None => Ok(()),
            Some((found, allowed)) => Err(format!(
                "trainer and tract differ by {found:.1e} of a row's largest output, and {allowed:.0e} are allowed"
            )),
        },
        Ok(Err(ParityError::Train(_))) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the comparison of trainer and tract met a fault of the program: report it with the model".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use aimass_onnx::build::mlp;

    use super::*;

    #[test]
    fn should_record_how_far_the_two_lie_apart() {
        let found = of_round(&mlp(&[6, 5, 3], 1), None);
        let parity = found.parity.expect("both run it");
        assert!(found.reason.is_none() && parity.holds() && parity.rows > 0, "{parity:?}");
        assert_eq!(of_variant(&mlp(&[6, 5, 3], 1)), Ok(()));
    }

    #[test]
    fn should_say_why_there_is_nothing_to_record() {
        let model = broken(&mlp(&[6, 5, 3], 1));
        let found = of_round(&model, None);
        assert!(
            found.parity.is_none() && found.reason.as_deref().is_some_and(|r| r.contains("not finite")),
            "{found:?}"
        );
        assert!(of_variant(&model).is_err_and(|reason| reason.contains("not finite")));
    }

    /// Weights that make no numbers.
    fn broken(model: &Model) -> Model {
        let layout = model.layout(&aimass_onnx::TrainableRules::default()).expect("weights");
        let weights = vec![f32::MAX; layout.n_weights()];
        model.with_weights(&layout, &weights).expect("as many")
    }
}
