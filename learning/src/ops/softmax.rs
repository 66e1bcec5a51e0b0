//! Softmax, its logarithm, and the choice of the largest.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, FloatDType, Shape, TensorMetadata, get_or_init_device_settings};

use super::Kernel;
use crate::program::{NodeView, Planned, Problem};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Softmax,
    LogSoftmax,
    /// 1 at the first of the largest, else 0; without gradient.
    Hardmax,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Softmax {
    pub(crate) of: Of,
    /// Shape to compute in, where it differs from the tensor's (opsets before 13).
    pub(crate) flat: Option<[usize; 2]>,
    pub(crate) axis: usize,
}

/// Before opset 13 everything from `axis` (default 1) on is one axis; since then `axis` (default -1) is one dimension.
pub(super) fn softmax(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis"])?;
    let x = node.tensor(0)?;
    let old = node.opset < 13;
    let axis = node.axis(node.int("axis", if old { 1 } else { -1 }), x.rank())?;
    let flat = old.then(|| [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()]);
    let kernel = Softmax {
        of: match node.op() {
            "LogSoftmax" => Of::LogSoftmax,
            "Hardmax" => Of::Hardmax,
            _ => Of::Softmax,
        },
        axis: if flat.is_some() { 1 } else { axis },
        flat,
    };
    Planned::run(Kernel::Softmax(kernel), &[x], x.shape.clone())
}

impl Softmax {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let shape = x.shape();
        let x = match self.flat {
            Some(flat) => B::float_reshape(x, Shape::new(flat)),
            None => x,
        };
        let y = match self.of {
            Of::Softmax => B::softmax(x, self.axis),
            Of::LogSoftmax => B::log_softmax(x, self.axis),
            Of::Hardmax => hardmax::<B>(x, self.axis),
        };
        if self.flat.is_some() { B::float_reshape(y, shape) } else { y }
    }
}

fn hardmax<B: Backend>(x: FloatTensor<B>, axis: usize) -> FloatTensor<B> {
    let (shape, device) = (x.shape(), x.device());
    let settings = get_or_init_device_settings::<B>(&device);
    let largest = B::int_expand(B::float_argmax(x, axis, settings.int_dtype), shape.clone());
    let mut line = vec![1; shape.num_dims()];
    line[axis] = shape[axis];
    let places = B::int_arange(0..shape[axis] as i64, &device, settings.int_dtype);
    let places = B::int_expand(B::int_reshape(places, Shape::from(line)), shape);
    B::bool_into_float(B::int_equal(places, largest, settings.bool_dtype), FloatDType::F32)
}
