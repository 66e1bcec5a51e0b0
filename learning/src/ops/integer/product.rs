//! MatMulInteger and QLinearMatMul.

use burn_backend::{Backend, Shape};

use super::super::linear::{self, MatMul};
use super::super::{DeviceTensor, Kernel, Operands, dims};
use super::{
    EXACT, Requantize, SUMMED, added, both, bytes, centred, check_sums, list_of, named, part, planned, requantized, stretches, zero,
};
use crate::program::{Element, NodeView, Planned, Problem, Source, refuse};

/// `A B` in integers. Operands: a, b, the zero points that are there, and those of [`Requantize`].
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct IntegerProduct {
    matmul: MatMul,
    /// Shapes to see zero points in, of the operands' ranks.
    zeros: [Option<Vec<usize>>; 2],
    requantize: Option<Requantize>,
}

/// The product over the tensors at two inputs, with their zero points at two others; and the shape of the result.
fn product(node: &NodeView<'_>, [a, b]: [usize; 2], zeros: [usize; 2]) -> Result<(IntegerProduct, Vec<Source>, Vec<usize>), Problem> {
    let (a, b) = (bytes(node, a)?, bytes(node, b)?);
    let (matmul, shape) = linear::product(a, b)?;
    let ([.., k], [.., _, _]) = (&matmul.a[..], &matmul.b[..]) else {
        return Err(refuse("its operands are no matrices", "correct the shapes"));
    };
    check_sums(*k, 0)?;
    let (rows, columns) = (matmul.a.len() - 2, matmul.b.len() - 1);
    let found = [
        zero(node, zeros[0], a, &matmul.a, rows)?,
        zero(node, zeros[1], b, &matmul.b, columns)?,
    ];
    let mut inputs = vec![a.into(), b.into()];
    let zeros = both(found, &mut inputs);
    let kernel = IntegerProduct {
        matmul,
        zeros,
        requantize: None,
    };
    Ok((kernel, inputs, shape))
}

pub(in super::super) fn matmul_integer(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let (kernel, inputs, shape) = product(node, [0, 1], [2, 3])?;
    planned(Kernel::IntegerProduct(Box::new(kernel)), inputs, Element::Int, shape)
}

pub(in super::super) fn qlinear_matmul(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    [2, 5].into_iter().try_for_each(|i| node.required(i).map(|_| ()))?;
    let (mut kernel, mut inputs, shape) = product(node, [0, 3], [2, 5])?;
    let ([.., m, _], [.., n]) = (&kernel.matmul.a[..], &kernel.matmul.b[..]) else {
        return Err(refuse("its operands are no matrices", "correct the shapes"));
    };
    let (a, b) = (list_of(node, named(1, "first "), *m)?, list_of(node, named(4, "second "), *n)?);
    let mut multipliers = vec![1; kernel.matmul.a.len()];
    let rank = multipliers.len();
    multipliers[rank - 2..].copy_from_slice(&[a.len(), b.len()]);
    let (requantize, to) = requantized(node, (&a, &b), named(6, "output's "), multipliers, &mut inputs)?;
    kernel.requantize = Some(requantize);
    planned(Kernel::IntegerProduct(Box::new(kernel)), inputs, Element::Quantized(to), shape)
}

impl IntegerProduct {
    pub(in super::super) fn run<B: Backend>(&self, operands: &mut Operands<B>) -> DeviceTensor<B> {
        let MatMul { a, b, shared, .. } = &self.matmul;
        let (x, y) = (operands.next(), operands.next());
        let x = centred::<B>(x, a, self.zeros[0].as_ref(), operands);
        let y = centred::<B>(y, b, self.zeros[1].as_ref(), operands);
        let k = a.last().copied().unwrap_or(1);
        // One matrix on the right: all rows on the left are one matrix too.
        let rows: usize = a[..a.len() - 1].iter().product();
        let (x, a_shape) = if *shared {
            (B::float_reshape(x, Shape::new([rows, k])), vec![rows, k])
        } else {
            (x, a.clone())
        };
        let mut sum = None;
        for range in stretches(k, EXACT) {
            let left = part::<B>(&x, &a_shape, a_shape.len() - 1, &range);
            let right = part::<B>(&y, b, b.len() - 2, &range);
            sum = added::<B>(sum, B::float_matmul(left, right));
        }
        let sum = sum.expect(SUMMED);
        let shape = self.matmul.shape();
        let Some(requantize) = self.requantize else {
            return DeviceTensor::Int(B::int_reshape(sum, dims(shape)));
        };
        let sum = B::int_reshape(sum, dims(&self.matmul.raised()));
        DeviceTensor::Float(B::float_reshape(requantize.run::<B>(sum, operands), dims(shape)))
    }
}
