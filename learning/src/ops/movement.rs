//! Moving elements, whatever they are.

use burn_backend::tensor::{BoolTensor, FloatTensor, IntTensor};
use burn_backend::{Backend, IntDType, Slice, TensorMetadata, get_or_init_device_settings};

use super::DeviceTensor;
use super::device::{KIND, dims};

/// Applies one function of the backend to a tensor of any kind.
macro_rules! each_kind {
    ($tensor:expr, [$float:path, $int:path, $bool:path] $(, $argument:expr)*) => {
        match $tensor {
            DeviceTensor::Float(x) => DeviceTensor::Float($float(x $(, $argument)*)),
            DeviceTensor::Int(x) => DeviceTensor::Int($int(x $(, $argument)*)),
            DeviceTensor::Bool(x) => DeviceTensor::Bool($bool(x $(, $argument)*)),
        }
    };
}

impl<B: Backend> DeviceTensor<B> {
    /// For kernels whose planner saw to it.
    pub(super) fn into_float(self) -> FloatTensor<B> {
        match self {
            Self::Float(x) => x,
            _ => unreachable!("{KIND}"),
        }
    }

    /// The same.
    pub(super) fn into_bool(self) -> BoolTensor<B> {
        match self {
            Self::Bool(x) => x,
            _ => unreachable!("{KIND}"),
        }
    }

    pub(super) fn shape(&self) -> Vec<usize> {
        match self {
            Self::Float(x) => x.shape().to_vec(),
            Self::Int(x) => x.shape().to_vec(),
            Self::Bool(x) => x.shape().to_vec(),
        }
    }

    pub(super) fn reshape(self, to: &[usize]) -> Self {
        if self.shape() == to {
            return self;
        }
        each_kind!(self, [B::float_reshape, B::int_reshape, B::bool_reshape], dims(to))
    }

    pub(super) fn permute(self, axes: &[usize]) -> Self {
        if axes.is_empty() {
            return self;
        }
        each_kind!(self, [B::float_permute, B::int_permute, B::bool_permute], axes)
    }

    /// Numpy's broadcast to a shape that it fits.
    pub(super) fn expand(self, to: &[usize]) -> Self {
        let own = self.shape();
        if own == to {
            return self;
        }
        let raised: Vec<usize> = std::iter::repeat_n(1, to.len().saturating_sub(own.len())).chain(own).collect();
        each_kind!(self.reshape(&raised), [B::float_expand, B::int_expand, B::bool_expand], dims(to))
    }

    /// From each axis `len` elements from `start` on.
    pub(super) fn slice(self, ranges: &[(usize, usize)]) -> Self {
        if self.shape().iter().zip(ranges).all(|(d, (start, len))| *start == 0 && d == len) {
            return self;
        }
        let slices: Vec<Slice> = ranges.iter().map(|&(start, len)| Slice::from(start..start + len)).collect();
        each_kind!(self, [B::float_slice, B::int_slice, B::bool_slice], &slices)
    }

    /// The elements along `axis` that a list of indices names.
    pub(super) fn select(self, axis: usize, indices: IntTensor<B>) -> Self {
        match self {
            Self::Float(x) => Self::Float(B::float_select(x, axis, indices)),
            Self::Int(x) => Self::Int(B::int_select(x, axis, indices)),
            // burn-flex's `bool_select` gives integers.
            Self::Bool(x) => {
                let dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
                let picked = B::int_select(B::bool_into_int(x, IntDType::I32), axis, indices);
                Self::Bool(B::int_not_equal_elem(picked, 0i64.into(), dtype))
            }
        }
    }

    /// Joins tensors of one kind.
    pub(super) fn cat(parts: Vec<Self>, axis: usize) -> Self {
        let (mut floats, mut ints, mut bools) = (Vec::new(), Vec::new(), Vec::new());
        for part in parts {
            match part {
                Self::Float(x) => floats.push(x),
                Self::Int(x) => ints.push(x),
                Self::Bool(x) => bools.push(x),
            }
        }
        if !floats.is_empty() {
            Self::Float(B::float_cat(floats, axis))
        } else if !ints.is_empty() {
            Self::Int(B::int_cat(ints, axis))
        } else {
            Self::Bool(B::bool_cat(bools, axis))
        }
    }
}
