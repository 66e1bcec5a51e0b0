//! Matrix products.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorMetadata};

use super::{Kernel, dims};
use crate::program::{NodeView, Planned, Problem, Tensor, broadcast, refuse};

/// `alpha A' B' + beta C`
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Gemm {
    pub(crate) alpha: f32,
    pub(crate) beta: f32,
    pub(crate) trans_a: bool,
    pub(crate) trans_b: bool,
}

pub(super) fn gemm(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["alpha", "beta", "transA", "transB", "broadcast"])?;
    let (a, b, c) = (node.tensor(0)?, node.tensor(1)?, node.optional_tensor(2)?);
    let wrong = || {
        refuse(
            format!("the shapes {:?} and {:?} can't be multiplied", a.shape, b.shape),
            "Gemm takes matrices; correct the shapes",
        )
    };
    let (trans_a, trans_b) = (node.flag("transA"), node.flag("transB"));
    let [mut m, mut k] = a.shape[..] else { return Err(wrong()) };
    let [mut inner, mut n] = b.shape[..] else { return Err(wrong()) };
    if trans_a {
        (m, k) = (k, m);
    }
    if trans_b {
        (inner, n) = (n, inner);
    }
    if k != inner {
        return Err(wrong());
    }
    let mut operands = vec![a, b];
    if let Some(c) = c {
        if broadcast(&c.shape, &[m, n]).is_none_or(|s| s != [m, n]) {
            return Err(refuse(
                format!("C of shape {:?} does not broadcast to [{m}, {n}]", c.shape),
                "correct the shape of C",
            ));
        }
        operands.push(c);
    }
    let kernel = Gemm {
        alpha: node.float("alpha").unwrap_or(1.0),
        beta: node.float("beta").unwrap_or(1.0),
        trans_a,
        trans_b,
    };
    Planned::run(Kernel::Gemm(kernel), &operands, vec![m, n])
}

impl Gemm {
    pub(super) fn run<B: Backend>(self, a: FloatTensor<B>, b: FloatTensor<B>, c: Option<FloatTensor<B>>) -> FloatTensor<B> {
        let a = if self.trans_a { B::float_swap_dims(a, 0, 1) } else { a };
        let mut y = if self.trans_b {
            // (B A')' instead of A B': the gradient of B then comes out in B's own layout. Through a transposed view it would come out
            // transposed, and the update of a large weight from it takes ten times as long.
            B::float_swap_dims(B::float_matmul(b, B::float_swap_dims(a, 0, 1)), 0, 1)
        } else {
            B::float_matmul(a, b)
        };
        if self.alpha != 1.0 {
            y = B::float_mul_scalar(y, self.alpha.into());
        }
        let Some(c) = c else { return y };
        let c = if self.beta == 1.0 {
            c
        } else {
            B::float_mul_scalar(c, self.beta.into())
        };
        let shape = c.shape();
        let c = match shape.num_dims() {
            2 => c,
            1 => B::float_reshape(c, Shape::new([1, shape[0]])),
            _ => B::float_reshape(c, Shape::new([1, 1])),
        };
        B::float_add(y, c)
    }
}

/// numpy's matmul.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MatMul {
    /// Shapes of both sides with the same number of dimensions, at least 2.
    pub(crate) a: Vec<usize>,
    pub(crate) b: Vec<usize>,
    /// Whether the right side is one matrix for all.
    pub(crate) shared: bool,
    shape: Vec<usize>,
}

pub(super) fn matmul(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let (a, b) = (node.tensor(0)?, node.tensor(1)?);
    let (kernel, shape) = product(a, b)?;
    Planned::run(Kernel::MatMul(kernel), &[a, b], shape)
}

/// The product of two tensors, and the shape of what comes out.
pub(super) fn product(a: &Tensor, b: &Tensor) -> Result<(MatMul, Vec<usize>), Problem> {
    let wrong = || {
        refuse(
            format!("the shapes {:?} and {:?} can't be multiplied", a.shape, b.shape),
            "correct the shapes",
        )
    };
    if a.rank() == 0 || b.rank() == 0 {
        return Err(wrong());
    }
    let a_shape = if a.rank() == 1 { vec![1, a.shape[0]] } else { a.shape.clone() };
    let b_shape = if b.rank() == 1 { vec![b.shape[0], 1] } else { b.shape.clone() };
    let ([a_batch @ .., m, k], [b_batch @ .., inner, n]) = (&a_shape[..], &b_shape[..]) else {
        return Err(wrong());
    };
    let batch = broadcast(a_batch, b_batch).filter(|_| k == inner).ok_or_else(wrong)?;
    let mut shape = batch.clone();
    if a.rank() > 1 {
        shape.push(*m);
    }
    if b.rank() > 1 {
        shape.push(*n);
    }
    let raised = |s: &[usize]| {
        std::iter::repeat_n(1, batch.len() + 2 - s.len())
            .chain(s.iter().copied())
            .collect::<Vec<_>>()
    };
    let shared = b_shape.len() == 2;
    let kernel = MatMul {
        a: raised(&a_shape),
        b: if shared { b_shape.clone() } else { raised(&b_shape) },
        shared,
        shape: shape.clone(),
    };
    Ok((kernel, shape))
}

fn reshaped<B: Backend>(x: FloatTensor<B>, shape: &[usize]) -> FloatTensor<B> {
    if x.shape().as_slice() == shape {
        x
    } else {
        B::float_reshape(x, dims(shape))
    }
}

impl MatMul {
    /// Of what comes out.
    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The same with the two axes of a matrix, whatever sides are vectors.
    pub(super) fn raised(&self) -> Vec<usize> {
        let ([a @ .., m, _], [b @ .., n]) = (&self.a[..], &self.b[..]) else {
            return self.shape.clone();
        };
        let b = if self.shared { &[][..] } else { &b[..b.len() - 1] };
        let batch = broadcast(a, b).unwrap_or_else(|| a.to_vec());
        batch.into_iter().chain([*m, *n]).collect()
    }

    pub(super) fn run<B: Backend>(&self, a: FloatTensor<B>, b: FloatTensor<B>) -> FloatTensor<B> {
        let (a, b) = (reshaped::<B>(a, &self.a), reshaped::<B>(b, &self.b));
        let y = if self.shared && self.a.len() > 2 {
            B::linear(a, b, None)
        } else {
            B::float_matmul(a, b)
        };
        reshaped::<B>(y, &self.shape)
    }
}
