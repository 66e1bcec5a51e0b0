//! Tensors and the trainer's arrays.

use aimass_learning::{Array, Values};

use super::{Data, Datatype, Tensor, TensorError};

/// Every whole float32 up to this is exact.
const MAX_WHOLE: f32 = 16_777_216.0;

impl Tensor {
    /// The trainer's array of these values: floats of 32 bits, integers of 64, or truth values; `None` for float64, which it would round.
    pub fn to_array(&self) -> Option<Array> {
        fn ints<T: Copy + Into<i64>>(values: &[T]) -> Values {
            Values::Ints(values.iter().map(|&v| v.into()).collect())
        }
        let values = match &self.data {
            Data::F32(values) => Values::Floats(values.clone()),
            Data::Bool(values) => Values::Bools(values.clone()),
            Data::U8(values) => ints(values),
            Data::I8(values) => ints(values),
            Data::I32(values) => ints(values),
            Data::I64(values) => Values::Ints(values.clone()),
            Data::F64(_) => return None,
        };
        Array::new(self.shape.clone(), values)
    }

    /// A tensor of this type with the values of a trainer's array: numbers as they are, whole ones as integers, truth values as 0 and 1.
    ///
    /// # Errors
    /// [`TensorError::Values`] where it can't hold them; those of [`Tensor::new`].
    pub fn of_array(array: Array, datatype: Datatype) -> Result<Self, TensorError> {
        let wrong = TensorError::Values { datatype };
        let shape = array.shape().to_vec();
        let data = match (array.into_values(), datatype) {
            (Values::Floats(values), Datatype::F32) => Data::F32(values),
            (Values::Bools(values), Datatype::Bool) => Data::Bool(values),
            (values, Datatype::F32) => Data::F32(whole(values).ok_or(wrong)?.into_iter().map(|v| v as f32).collect()),
            (values, Datatype::I64) => Data::I64(whole(values).ok_or(wrong)?),
            (values, Datatype::I32) => Data::I32(narrow(whole(values), wrong)?),
            (values, Datatype::U8) => Data::U8(narrow(whole(values), wrong)?),
            (values, Datatype::I8) => Data::I8(narrow(whole(values), wrong)?),
            _ => return Err(wrong),
        };
        Self::new(shape, data)
    }
}

/// The integers that the values are; `None` for fractions.
fn whole(values: Values) -> Option<Vec<i64>> {
    match values {
        Values::Ints(values) => Some(values),
        Values::Bools(values) => Some(values.into_iter().map(i64::from).collect()),
        Values::Floats(values) => {
            let whole = |v: f32| (v.fract() == 0.0 && v.abs() <= MAX_WHOLE).then_some(v as i64);
            values.into_iter().map(whole).collect()
        }
    }
}

fn narrow<T: TryFrom<i64>>(values: Option<Vec<i64>>, wrong: TensorError) -> Result<Vec<T>, TensorError> {
    let narrowed: Option<Vec<T>> = values.and_then(|values| values.into_iter().map(|v| T::try_from(v).ok()).collect());
    narrowed.ok_or(wrong)
}
