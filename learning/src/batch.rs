//! What one step sees.

use crate::TrainError;
use crate::array::{Array, Values};
use crate::program::{Element, Graph};

/// Arrays of one batch: an array an input of the model, in the order of the file, and an array of targets a head.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// One for each input that the chosen outputs need. The first axis is the batch, where they agree in it: see [`Self::len`].
    pub inputs: Vec<Array>,
    /// One for each head.
    pub targets: Vec<Array>,
    /// How much each row counts in every loss; 1 where absent.
    pub weights: Option<Vec<f32>>,
    /// Whether inputs are rows of features `[rows, n_features]`, or arrays as data files hold them, that are to take the shape and the
    /// type that the model asks for.
    pub flat: bool,
}

impl Batch {
    /// Rows of features, row-major, with one target each, for a model with one input and one head. `None` unless the features are whole
    /// rows of at least one.
    pub fn rows(features: Vec<f32>, targets: Vec<f32>) -> Option<Self> {
        let n_features = features.len().checked_div(targets.len()).filter(|&n| n > 0)?;
        let shape = vec![targets.len(), n_features];
        Some(Self {
            inputs: vec![Array::floats(shape, features)?],
            targets: vec![Array::float_list(targets)],
            weights: None,
            flat: true,
        })
    }

    /// Rows: the first axis of the inputs. Where that is not the same for all, as with the tokens of all bags in one list and the offset
    /// of each bag in another, the first axis of the first target.
    pub fn len(&self) -> usize {
        fn rows(array: &Array) -> Option<usize> {
            array.shape().first().copied()
        }
        let mut inputs = self.inputs.iter().map(rows);
        let first = inputs.next().flatten();
        let ragged = !self.flat && inputs.any(|rows| rows != first);
        let targets = self.targets.first().and_then(rows).filter(|_| ragged);
        targets.or(first).unwrap_or(0)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Graph {
    /// Rows in the shapes and types that the model takes.
    pub(crate) fn conform(&self, inputs: Vec<Array>) -> Result<Vec<Array>, TrainError> {
        let wrong = |reason: String| TrainError::Data { reason };
        if inputs.len() != self.inputs.len() {
            let names: Vec<&str> = self.inputs.iter().map(|i| i.name.as_str()).collect();
            return Err(wrong(format!(
                "the model has the inputs {}, the data {} of them; use data with an array for each",
                names.join(", "),
                inputs.len()
            )));
        }
        let mut conformed = Vec::with_capacity(inputs.len());
        for (i, array) in inputs.into_iter().enumerate() {
            let rows = array.shape().first().copied().unwrap_or(0);
            // Arrays of the model's rank keep their shape, which planning checks; a table's rows are told their features first.
            let rank = array.shape().len();
            let keeps = rank > 2 && self.inputs[i].dims.as_ref().is_none_or(|dims| dims.len() == rank);
            let shape = if keeps {
                array.shape().to_vec()
            } else {
                self.row_shape(i, rows, array.row_len())?
            };
            let name = &self.inputs[i].name;
            let values = match (array.into_values(), self.inputs[i].element) {
                (Values::Floats(values), Element::Int | Element::Quantized(_)) => Values::Ints(whole(&values).ok_or_else(|| {
                    wrong(format!(
                        "the model's input `{name}` takes integers, the data has fractions; use whole numbers"
                    ))
                })?),
                (Values::Ints(values), Element::Float) => Values::Floats(values.into_iter().map(|v| v as f32).collect()),
                (Values::Bools(values), Element::Float) => Values::Floats(values.into_iter().map(|v| f32::from(u8::from(v))).collect()),
                (Values::Bools(values), Element::Int | Element::Quantized(_)) => Values::Ints(values.into_iter().map(i64::from).collect()),
                (values, _) => values,
            };
            let array = Array::new(shape, values);
            conformed.push(array.ok_or_else(|| wrong(format!("the rows do not fill the model's input `{name}`")))?);
        }
        Ok(conformed)
    }
}

/// Floats as the integers that they are; `None` when one is none.
fn whole(values: &[f32]) -> Option<Vec<i64>> {
    values
        .iter()
        .map(|&v| (v.fract() == 0.0 && v.abs() <= 16_777_216.0).then_some(v as i64))
        .collect()
}
