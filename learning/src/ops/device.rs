//! Tensors on the device, of the three kinds that burn keeps apart.

use burn_backend::backend::AutodiffBackend;
use burn_backend::tensor::{BoolTensor, Device, FloatTensor, IntTensor};
use burn_backend::{Backend, FloatDType, IntDType, Shape, TensorData, TensorMetadata, get_or_init_device_settings, read_sync};

use crate::TrainError;
use crate::array::{Array, Values};

/// A tensor of any kind.
#[derive(Debug, Clone)]
pub(crate) enum DeviceTensor<B: Backend> {
    Float(FloatTensor<B>),
    Int(IntTensor<B>),
    Bool(BoolTensor<B>),
}

/// A shape as the device has it: GPU backends have no tensors without axes, so there a scalar has one, of length 1.
pub(crate) fn dims(shape: &[usize]) -> Shape {
    match shape {
        [] => Shape::new([1]),
        shape => Shape::from(shape.to_vec()),
    }
}

fn failed(e: &dyn std::fmt::Display) -> TrainError {
    TrainError::Device { reason: e.to_string() }
}

impl<B: Backend> DeviceTensor<B> {
    /// Copies an array to the device. Integers become 32 bits wide, which is what every device has.
    ///
    /// # Errors
    /// [`TrainError::Data`] for an integer that does not fit.
    pub(crate) fn upload(array: Array, device: &Device<B>) -> Result<Self, TrainError> {
        let shape = dims(array.shape());
        Ok(match array.into_values() {
            Values::Floats(values) => Self::Float(B::float_from_data(TensorData::new(values, shape), device)),
            Values::Ints(values) => {
                let narrow = |v: i64| {
                    i32::try_from(v).map_err(|_| TrainError::Data {
                        reason: format!("the integer {v} does not fit 32 bits; use smaller ids"),
                    })
                };
                let values = values.into_iter().map(narrow).collect::<Result<Vec<_>, _>>()?;
                Self::Int(B::int_from_data(TensorData::new(values, shape), device))
            }
            Values::Bools(values) => {
                // Each device stores booleans as it likes.
                let dtype = get_or_init_device_settings::<B>(device).bool_dtype;
                let data = TensorData::new(values, shape).convert_dtype(dtype.into());
                Self::Bool(B::bool_from_data(data, device))
            }
        })
    }

    /// Copies it from the device.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub(crate) fn download(self) -> Result<Array, TrainError> {
        let data = match self {
            Self::Float(tensor) => read_sync(B::float_into_data(tensor)),
            Self::Int(tensor) => read_sync(B::int_into_data(tensor)),
            Self::Bool(tensor) => read_sync(B::bool_into_data(tensor)),
        };
        let data = data.map_err(|e| failed(&e))?;
        let shape = data.shape().to_vec();
        let values = if data.dtype().is_float() {
            Values::Floats(data.try_into_vec::<f32>().map_err(|e| failed(&e))?)
        } else if data.dtype().is_bool() {
            Values::Bools(data.iter::<bool>().collect())
        } else {
            Values::Ints(data.iter::<i64>().collect())
        };
        Array::new(shape, values).ok_or_else(|| failed(&"it gave a tensor of another size"))
    }
}

impl<B: AutodiffBackend> DeviceTensor<B> {
    /// A tensor that nothing is differentiated by.
    pub(crate) fn constant(inner: DeviceTensor<B::InnerBackend>) -> Self {
        match inner {
            DeviceTensor::Float(tensor) => Self::Float(B::from_inner(tensor)),
            DeviceTensor::Int(tensor) => Self::Int(B::int_from_inner(tensor)),
            DeviceTensor::Bool(tensor) => Self::Bool(B::bool_from_inner(tensor)),
        }
    }

    /// Its value alone.
    pub(crate) fn inner(self) -> DeviceTensor<B::InnerBackend> {
        match self {
            Self::Float(tensor) => DeviceTensor::Float(B::inner(tensor)),
            Self::Int(tensor) => DeviceTensor::Int(B::int_inner(tensor)),
            Self::Bool(tensor) => DeviceTensor::Bool(B::bool_inner(tensor)),
        }
    }
}

/// A kernel's operands, in the order its planner named them.
pub(crate) struct Operands<B: Backend>(std::vec::IntoIter<DeviceTensor<B>>);

pub(super) const KIND: &str = "the planner names every operand that its kernel takes, of the kind that it takes";

impl<B: Backend> Operands<B> {
    pub(crate) fn new(tensors: Vec<DeviceTensor<B>>) -> Self {
        Self(tensors.into_iter())
    }
    /// The next operand, for one that the planner has always given.
    pub(super) fn next(&mut self) -> FloatTensor<B> {
        self.optional().expect(KIND)
    }
    pub(super) fn optional(&mut self) -> Option<FloatTensor<B>> {
        match self.0.next()? {
            DeviceTensor::Float(tensor) => Some(tensor),
            _ => unreachable!("{KIND}"),
        }
    }
    /// The next operand, of whatever kind.
    pub(super) fn any(&mut self) -> DeviceTensor<B> {
        self.0.next().expect(KIND)
    }
    /// All that are left, of whatever kind.
    pub(super) fn all(&mut self) -> Vec<DeviceTensor<B>> {
        self.0.by_ref().collect()
    }
    /// All that are left.
    pub(super) fn rest(&mut self) -> Vec<FloatTensor<B>> {
        std::iter::from_fn(|| self.optional()).collect()
    }
    pub(super) fn next_int(&mut self) -> IntTensor<B> {
        match self.0.next() {
            Some(DeviceTensor::Int(tensor)) => tensor,
            _ => unreachable!("{KIND}"),
        }
    }
    pub(super) fn next_bool(&mut self) -> BoolTensor<B> {
        match self.0.next() {
            Some(DeviceTensor::Bool(tensor)) => tensor,
            _ => unreachable!("{KIND}"),
        }
    }
    pub(super) fn next_as_float(&mut self) -> FloatTensor<B> {
        match self.0.next() {
            Some(DeviceTensor::Int(tensor)) => B::int_into_float(tensor, FloatDType::F32),
            Some(DeviceTensor::Bool(tensor)) => B::bool_into_float(tensor, FloatDType::F32),
            Some(DeviceTensor::Float(tensor)) => tensor,
            None => unreachable!("{KIND}"),
        }
    }
}

/// Which elements are not zero.
pub(super) fn is_non_zero<B: Backend>(x: DeviceTensor<B>) -> BoolTensor<B> {
    match x {
        DeviceTensor::Float(x) => {
            let settings = get_or_init_device_settings::<B>(&x.device());
            B::float_not_equal_elem(x, 0.0f32.into(), settings.bool_dtype)
        }
        DeviceTensor::Int(x) => {
            let settings = get_or_init_device_settings::<B>(&x.device());
            B::int_not_equal_elem(x, 0i64.into(), settings.bool_dtype)
        }
        DeviceTensor::Bool(x) => x,
    }
}

/// Floats lose what is behind the point.
pub(super) fn to_int<B: Backend>(x: DeviceTensor<B>) -> IntTensor<B> {
    match x {
        DeviceTensor::Float(x) => B::float_into_int(x, IntDType::I32),
        DeviceTensor::Int(x) => x,
        DeviceTensor::Bool(x) => B::bool_into_int(x, IntDType::I32),
    }
}
