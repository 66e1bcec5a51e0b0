//! Normalisations: softmax and batch normalisation.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorMetadata};

use super::Kernel;
use crate::program::{NodeView, Planned, Problem, refuse};

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Softmax {
    /// Shape to compute in, where it differs from the tensor's (opsets before 13).
    flat: Option<[usize; 2]>,
    axis: usize,
    log: bool,
}

/// Before opset 13 everything from `axis` (default 1) on is one axis; since then `axis` (default -1) is one dimension.
pub(super) fn softmax(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis"])?;
    let x = node.tensor(0)?;
    let old = node.opset < 13;
    let axis = node.axis(node.int("axis", if old { 1 } else { -1 }), x.rank())?;
    let flat = old.then(|| [x.shape[..axis].iter().product(), x.shape[axis..].iter().product()]);
    let kernel = Softmax {
        axis: if flat.is_some() { 1 } else { axis },
        flat,
        log: node.op() == "LogSoftmax",
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
        let y = if self.log {
            B::log_softmax(x, self.axis)
        } else {
            B::softmax(x, self.axis)
        };
        if self.flat.is_some() { B::float_reshape(y, shape) } else { y }
    }
}

/// With the stored statistics, which stay as they are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct BatchNorm {
    epsilon: f32,
}

pub(super) fn batch_norm(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["epsilon", "momentum", "training_mode", "spatial", "is_test"])?;
    if node.flag("training_mode") {
        let fix = "export the model in inference mode (model.eval()); this version trains scale and bias with the stored statistics";
        return Err(refuse("it is in training mode, which would update its running statistics", fix));
    }
    if node.int("spatial", 1) == 0 {
        return Err(refuse(
            "it normalises every position apart (spatial = 0)",
            "export the model for opset 13 or later",
        ));
    }
    let x = node.tensor(0)?;
    let mut operands = vec![x];
    for i in 1..5 {
        let per_channel = node.tensor(i)?;
        if x.rank() < 2 || per_channel.shape != [x.shape[1]] {
            let problem = format!(
                "its input {i} has the shape {:?} beside an input of {:?}",
                per_channel.shape, x.shape
            );
            return Err(refuse(problem, "it takes one value a channel"));
        }
        operands.push(per_channel);
    }
    let kernel = BatchNorm {
        epsilon: node.float("epsilon").unwrap_or(1e-5),
    };
    Planned::run(Kernel::BatchNorm(kernel), &operands, x.shape.clone())
}

impl BatchNorm {
    /// Folded into one factor and one term a channel, so that the large tensor is passed over twice instead of four times.
    pub(super) fn run<B: Backend>(self, [x, scale, bias, mean, variance]: [FloatTensor<B>; 5]) -> FloatTensor<B> {
        let x_shape = x.shape();
        let mut dims = vec![1; x_shape.num_dims()];
        dims[1] = x_shape[1];
        let deviation = B::float_sqrt(B::float_add_scalar(variance, self.epsilon.into()));
        let factor = B::float_div(scale, deviation);
        let term = B::float_sub(bias, B::float_mul(mean, factor.clone()));
        let y = B::float_mul(x, B::float_reshape(factor, Shape::from(dims.clone())));
        B::float_add(y, B::float_reshape(term, Shape::from(dims)))
    }
}
