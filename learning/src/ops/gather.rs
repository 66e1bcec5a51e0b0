//! Ops that pick from tensors by integers: embeddings, selections.

use burn_backend::tensor::IntTensor;
use burn_backend::{Backend, Shape};

use super::{DeviceTensor, Kernel, picks, places};
use crate::program::host::index::compressed;
use crate::program::{Element, Host, Indexing, NodeView, Output, Planned, Problem, Source, Tensor, Value, refuse};

/// Slices along one axis, by any number of indices: an embedding where that is the first.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Gather {
    /// The shape to see the data in.
    pub(crate) data: Vec<usize>,
    pub(crate) axis: usize,
    /// How many indices there are.
    pub(crate) picks: usize,
    shape: Vec<usize>,
}

/// The indices of a node, which the host has, or whole numbers that never change.
pub(super) fn indices(node: &NodeView<'_>, i: usize) -> Result<Host, Problem> {
    match node.required(i)? {
        Value::Host(indices) if indices.element == Element::Bool => {
            Err(refuse("its indices are booleans", "cast them to int64 in the model"))
        }
        Value::Host(indices) => Ok(indices.clone()),
        Value::Tensor(Tensor {
            shape,
            constant: Some(values),
            ..
        }) => Host::ints(shape.clone(), values.iter().map(|&v| v as i64).collect()),
        Value::Tensor(_) => Err(refuse(
            "its indices are computed from floats",
            "this version picks by integers that follow from the model's inputs and constants",
        )),
    }
}

fn planned(x: &Tensor, indices: &Host, indexing: Indexing, kernel: Gather) -> Result<Planned, Problem> {
    Ok(Planned::Run {
        inputs: vec![x.into(), Source::Index(indices.clone(), indexing)],
        outputs: vec![Output {
            element: x.element,
            shape: kernel.shape.clone(),
        }],
        kernel: Kernel::Gather(kernel),
    })
}

pub(super) fn gather(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis"])?;
    let data = node.any(0)?;
    let axis = node.axis(node.int("axis", 0), data.rank())?;
    let indices = indices(node, 1)?;
    let (before, after) = (&data.shape[..axis], &data.shape[axis + 1..]);
    let kernel = Gather {
        data: data.shape.clone(),
        axis,
        picks: indices.n_elements(),
        shape: before.iter().chain(&indices.shape).chain(after).copied().collect(),
    };
    planned(data, &indices, Indexing::Axis(data.shape[axis]), kernel)
}

pub(super) fn gather_elements(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis"])?;
    let (data, indices) = (node.any(0)?, indices(node, 1)?);
    let indexing = places::elements(node, &data.shape, &indices.shape)?;
    let kernel = Gather {
        data: vec![data.n_elements()],
        axis: 0,
        picks: indices.n_elements(),
        shape: indices.shape.clone(),
    };
    planned(data, &indices, indexing, kernel)
}

pub(super) fn gather_nd(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["batch_dims"])?;
    let (data, indices) = (node.any(0)?, indices(node, 1)?);
    let rows = places::rows(node.int("batch_dims", 0), &data.shape, &indices.shape)?;
    let kernel = Gather {
        data: vec![rows.rows, rows.row.iter().product()],
        axis: 0,
        picks: rows.indexing.shape(&indices.shape).iter().product(),
        shape: rows.shape,
    };
    planned(data, &indices, rows.indexing, kernel)
}

/// By a condition that is known, so that the number of what it picks is.
pub(super) fn compress(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let x = node.any(0)?;
    let (along, list) = compressed(node, &x.shape, node.ints(1)?)?;
    picks::writable(list.len())?;
    let data = along.map_or_else(|| vec![x.n_elements()], |_| x.shape.clone());
    let axis = along.unwrap_or(0);
    let mut shape = data.clone();
    shape[axis] = list.len();
    let indexing = Indexing::Axis(data[axis]);
    let kernel = Gather {
        data,
        axis,
        picks: list.len(),
        shape,
    };
    planned(x, &Host::list(list.into_iter().map(|i| i as i64).collect()), indexing, kernel)
}

impl Gather {
    pub(super) fn run<B: Backend>(&self, data: DeviceTensor<B>, indices: IntTensor<B>) -> DeviceTensor<B> {
        let indices = B::int_reshape(indices, Shape::new([self.picks]));
        data.reshape(&self.data).select(self.axis, indices).reshape(&self.shape)
    }
}
