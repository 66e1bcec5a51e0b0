//! Between the trainer's arrays and tensors.

use aimass_learning::{Array, Values};

use super::{Data, Datatype, Tensor};

impl Tensor {
    /// Of an array whose values are of `datatype`, or can be: whole numbers as integers, integers and truth values as numbers.
    ///
    /// # Errors
    /// What does not fit, for people.
    pub(crate) fn from_array(array: &Array, datatype: Datatype) -> Result<Self, String> {
        let shape = array.shape().to_vec();
        let data = match (array.values(), datatype) {
            (Values::Floats(values), Datatype::F32) => Data::F32(values.clone()),
            (Values::Ints(values), Datatype::F32) => Data::F32(values.iter().map(|&v| v as f32).collect()),
            (Values::Bools(values), Datatype::F32) => Data::F32(values.iter().map(|&v| f32::from(u8::from(v))).collect()),
            (Values::Ints(values), Datatype::I64) => Data::I64(values.clone()),
            (Values::Floats(values), Datatype::I64) => Data::I64(whole(values)?),
            (Values::Bools(values), Datatype::I64) => Data::I64(values.iter().map(|&v| v.into()).collect()),
            (Values::Ints(values), Datatype::I32) => Data::I32(narrow(values)?),
            (Values::Floats(values), Datatype::I32) => Data::I32(narrow(&whole(values)?)?),
            (Values::Bools(values), Datatype::I32) => Data::I32(values.iter().map(|&v| v.into()).collect()),
            (Values::Bools(values), Datatype::Bool) => Data::Bool(values.clone()),
            (_, wanted) => return Err(format!("the data's values are not {wanted}")),
        };
        Self::new(shape, data).map_err(|e| e.to_string())
    }

    /// As the trainer has it: floats of 32 bits, integers of 64, or truth values.
    pub(crate) fn to_array(&self) -> Option<Array> {
        let shape = self.shape().to_vec();
        let values = match self.data() {
            Data::F32(values) => Values::Floats(values.clone()),
            Data::F64(values) => Values::Floats(values.iter().map(|&v| v as f32).collect()),
            Data::Bool(values) => Values::Bools(values.clone()),
            Data::U8(values) => Values::Ints(values.iter().map(|&v| i64::from(v)).collect()),
            Data::I8(values) => Values::Ints(values.iter().map(|&v| i64::from(v)).collect()),
            Data::I32(values) => Values::Ints(values.iter().map(|&v| i64::from(v)).collect()),
            Data::I64(values) => Values::Ints(values.clone()),
        };
        Array::new(shape, values)
    }
}

/// Every float32 below this is as exact as an integer.
const MAX_WHOLE: f32 = 16_777_216.0;

fn whole(values: &[f32]) -> Result<Vec<i64>, String> {
    let whole = |&v: &f32| (v.fract() == 0.0 && v.abs() <= MAX_WHOLE).then_some(v as i64);
    let found: Option<Vec<i64>> = values.iter().map(whole).collect();
    found.ok_or_else(|| "the model takes integers, the data has fractions; use whole numbers".to_owned())
}

fn narrow(values: &[i64]) -> Result<Vec<i32>, String> {
    let narrowed: Result<Vec<i32>, _> = values.iter().map(|&v| i32::try_from(v)).collect();
    narrowed.map_err(|_| "a value is more than 32 bits hold".to_owned())
}
