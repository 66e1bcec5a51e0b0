//! Ops that go along an axis in order: largest elements, running sums.

use burn_backend::tensor::{FloatTensor, IntTensor};
use burn_backend::{Backend, FloatDType, IntDType, TensorMetadata, get_or_init_device_settings};

use super::{DeviceTensor, Kernel, dims, picks};
use crate::program::host::reduce::top;
use crate::program::{Element, NodeView, Output, Planned, Problem, refuse};

/// Longest axis that is sorted with equal elements in order: a group and a place in one 32-bit integer.
const MAX_SORTED: usize = 46_340;

/// Where the largest (or smallest) element along an axis is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arg {
    axis: usize,
    largest: bool,
    /// Of equal ones the last, and how long the axis is.
    last: Option<usize>,
    shape: Vec<usize>,
}

/// The `k` largest (or smallest) elements along an axis, and where they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopK {
    axis: usize,
    k: usize,
    largest: bool,
}

/// Running sums along an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CumSum {
    axis: usize,
    exclusive: bool,
    reverse: bool,
}

pub(super) fn arg(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis", "keepdims", "select_last_index"])?;
    let x = node.tensor(0)?;
    let axis = node.axis(node.int("axis", 0), x.rank())?;
    let shape = picks::reduced_shape(&x.shape, &[axis], node.int("keepdims", 1) != 0);
    let kernel = Arg {
        axis,
        largest: node.op() == "ArgMax",
        last: node.flag("select_last_index").then_some(x.shape[axis]),
        shape: shape.clone(),
    };
    Ok(Planned::Run {
        kernel: Kernel::Arg(kernel),
        inputs: vec![x.into()],
        outputs: vec![ints(shape)],
    })
}

fn ints(shape: Vec<usize>) -> Output {
    Output {
        element: Element::Int,
        shape,
    }
}

impl Arg {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>) -> IntTensor<B> {
        let x = if self.last.is_some() { B::float_flip(x, &[self.axis]) } else { x };
        let mut at = if self.largest {
            B::float_argmax(x, self.axis, IntDType::I32)
        } else {
            B::float_argmin(x, self.axis, IntDType::I32)
        };
        if let Some(len) = self.last {
            at = B::int_add_scalar(B::int_neg(at), (len as i64 - 1).into());
        }
        B::int_reshape(at, dims(&self.shape))
    }
}

pub(super) fn top_k(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis", "largest", "sorted", "k"])?;
    let x = node.tensor(0)?;
    let (axis, k) = top(node, &x.shape, node.optional_ints(1)?)?;
    if x.shape[axis] > MAX_SORTED {
        return Err(refuse(
            format!("it orders an axis of {}, past the limit of {MAX_SORTED}", x.shape[axis]),
            "make the axis shorter",
        ));
    }
    let mut shape = x.shape.clone();
    shape[axis] = k;
    Ok(Planned::Run {
        kernel: Kernel::TopK(TopK {
            axis,
            k,
            largest: node.int("largest", 1) != 0,
        }),
        inputs: vec![x.into()],
        outputs: vec![Output::float(shape.clone()), ints(shape)],
    })
}

impl TopK {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>) -> Vec<DeviceTensor<B>> {
        let shape = x.shape();
        let len = shape[self.axis];
        let (sorted, places) = B::float_sort_with_indices(B::float_detach(x.clone()), self.axis, self.largest, IntDType::I32);
        // Backends leave open in which order equal elements come; ONNX wants the first first. Elements are put into groups of equal ones,
        // counted along the axis, and (group, place) is sorted as one integer.
        let bools = get_or_init_device_settings::<B>(&sorted.device()).bool_dtype;
        let part = |x: FloatTensor<B>, from: usize, len: usize| {
            let mut ranges: Vec<(usize, usize)> = shape.iter().map(|&d| (0, d)).collect();
            ranges[self.axis] = (from, len);
            DeviceTensor::<B>::Float(x).slice(&ranges).into_float()
        };
        let places = if len > 1 {
            let (before, after) = (part(sorted.clone(), 0, len - 1), part(sorted.clone(), 1, len - 1));
            let starts = B::bool_into_float(B::float_not_equal(before, after, bools), FloatDType::F32);
            let first = part(sorted, 0, 1);
            let first = B::float_zeros(first.shape(), &first.device(), FloatDType::F32);
            let groups = B::float_cumsum(B::float_cat(vec![first, starts], self.axis), self.axis);
            let groups = B::int_mul_scalar(B::float_into_int(groups, IntDType::I32), (len as i64).into());
            let keys = B::int_sort(B::int_add(groups, places), self.axis, false);
            B::int_remainder_scalar(keys, (len as i64).into())
        } else {
            places
        };
        let mut ranges: Vec<(usize, usize)> = shape.iter().map(|&d| (0, d)).collect();
        ranges[self.axis] = (0, self.k);
        let places = match DeviceTensor::<B>::Int(places).slice(&ranges) {
            DeviceTensor::Int(places) => places,
            _ => unreachable!("integers stay integers"),
        };
        vec![
            DeviceTensor::Float(B::float_gather(self.axis, x, places.clone())),
            DeviceTensor::Int(places),
        ]
    }
}

pub(super) fn cumulative_sum(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["exclusive", "reverse"])?;
    let x = node.tensor(0)?;
    let axis = node
        .optional_int(1)?
        .ok_or_else(|| refuse("its axis is missing", "export the model again"))?;
    let kernel = CumSum {
        axis: node.axis(axis, x.rank())?,
        exclusive: node.flag("exclusive"),
        reverse: node.flag("reverse"),
    };
    Planned::run(Kernel::CumSum(kernel), &[x], x.shape.clone())
}

impl CumSum {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>) -> FloatTensor<B> {
        let turned = |x: FloatTensor<B>| if self.reverse { B::float_flip(x, &[self.axis]) } else { x };
        let sums = turned(B::float_cumsum(turned(x.clone()), self.axis));
        if self.exclusive { B::float_sub(sums, x) } else { sums }
    }
}
