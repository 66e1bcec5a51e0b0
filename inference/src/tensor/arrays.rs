//! Tensors and the trainer's arrays.

use aimass_learning::{Array, Values};

use super::{Data, Datatype, Tensor, TensorError};

impl Tensor {
    /// The trainer's array of these values; `None` for float64, which it would round.
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

    /// A tensor of this type with the values of a trainer's array.
    ///
    /// # Errors
    /// [`TensorError::Values`] where it can't hold them; those of [`Tensor::new`].
    pub fn of_array(array: Array, datatype: Datatype) -> Result<Self, TensorError> {
        fn narrow<T: TryFrom<i64>>(values: &[i64], datatype: Datatype) -> Result<Vec<T>, TensorError> {
            let each = values.iter().map(|&v| T::try_from(v));
            each.collect::<Result<_, _>>().map_err(|_| TensorError::Values { datatype })
        }
        let shape = array.shape().to_vec();
        let data = match (array.into_values(), datatype) {
            (Values::Floats(values), Datatype::F32) => Data::F32(values),
            (Values::Bools(values), Datatype::Bool) => Data::Bool(values),
            (Values::Ints(values), Datatype::I64) => Data::I64(values),
            (Values::Ints(values), Datatype::I32) => Data::I32(narrow(&values, datatype)?),
            (Values::Ints(values), Datatype::U8) => Data::U8(narrow(&values, datatype)?),
            (Values::Ints(values), Datatype::I8) => Data::I8(narrow(&values, datatype)?),
            (_, datatype) => return Err(TensorError::Values { datatype }),
        };
        Self::new(shape, data)
    }
}
