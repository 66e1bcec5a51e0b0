//! Ops that put elements where integers say: messages of graph networks, writes into tensors.

use burn_backend::tensor::{FloatTensor, IndexingUpdateOp, IntTensor};
use burn_backend::{Backend, FloatDType, Shape, TensorMetadata, get_or_init_device_settings};

use super::Kernel;
use super::gather::indices;
use super::places::{self, Reduction};
use crate::program::host::index::differ;
use crate::program::{Host, Indexing, NodeView, Output, Planned, Problem, Source, Tensor, refuse};

/// Puts rows into a matrix.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scatter {
    rows: usize,
    /// Length of one.
    row: usize,
    /// Rows that are put.
    updates: usize,
    reduction: Reduction,
    shape: Vec<usize>,
}

fn planned(data: &Tensor, indices: &Host, updates: &Tensor, indexing: Indexing, kernel: Scatter) -> Result<Planned, Problem> {
    if kernel.reduction == Reduction::Mul {
        let mut named = indexing.resolve(indices).map(|n| n.values.map_or_else(Vec::new, |v| v.to_vec()));
        let unique = named.as_mut().is_ok_and(|named| {
            let n = named.len();
            named.sort_unstable();
            named.dedup();
            named.len() == n
        });
        if !unique {
            return Err(refuse(
                "it multiplies where the indices are not known, or name an element twice",
                "use another reduction, or constant indices that differ",
            ));
        }
    }
    let shape = data.shape.clone();
    Ok(Planned::Run {
        kernel: Kernel::Scatter(kernel),
        inputs: vec![data.into(), Source::Index(indices.clone(), indexing), updates.into()],
        outputs: vec![Output::float(shape)],
    })
}

pub(super) fn scatter_elements(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis", "reduction"])?;
    let (data, indices, updates) = (node.tensor(0)?, indices(node, 1)?, node.tensor(2)?);
    let indexing = places::elements(node, &data.shape, &indices.shape)?;
    if updates.shape != indices.shape {
        return Err(differ(&updates.shape, &indices.shape));
    }
    let kernel = Scatter {
        rows: data.n_elements(),
        row: 1,
        updates: updates.n_elements(),
        reduction: places::reduction(node)?,
        shape: data.shape.clone(),
    };
    planned(data, &indices, updates, indexing, kernel)
}

pub(super) fn scatter_nd(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["reduction"])?;
    let (data, indices, updates) = (node.tensor(0)?, indices(node, 1)?, node.tensor(2)?);
    let rows = places::rows(0, &data.shape, &indices.shape)?;
    if updates.shape != rows.shape {
        return Err(differ(&updates.shape, &rows.shape));
    }
    let row = rows.row.iter().product::<usize>();
    let kernel = Scatter {
        rows: rows.rows,
        row,
        updates: updates.n_elements() / row.max(1),
        reduction: places::reduction(node)?,
        shape: data.shape.clone(),
    };
    planned(data, &indices, updates, rows.indexing, kernel)
}

impl Scatter {
    pub(super) fn run<B: Backend>(&self, data: FloatTensor<B>, indices: IntTensor<B>, updates: FloatTensor<B>) -> FloatTensor<B> {
        let flat = |x, rows| {
            let shape = if self.row == 1 {
                Shape::new([rows])
            } else {
                Shape::from(vec![rows, self.row])
            };
            B::float_reshape(x, shape)
        };
        let (data, updates) = (flat(data, self.rows), flat(updates, self.updates));
        let put = |update| B::float_select_assign(data.clone(), 0, indices.clone(), updates.clone(), update);
        let y = match self.reduction {
            Reduction::Replace => put(IndexingUpdateOp::Assign),
            Reduction::Add => put(IndexingUpdateOp::Add),
            Reduction::Mul => put(IndexingUpdateOp::Mul),
            Reduction::Min => extremes::<B>(data, indices, updates, IndexingUpdateOp::Min),
            Reduction::Max => extremes::<B>(data, indices, updates, IndexingUpdateOp::Max),
        };
        B::float_reshape(y, Shape::from(self.shape.clone()))
    }
}

/// The largest (or smallest) of what meets in each place. The gradient goes to those that are it, in equal shares; the backend's own
/// gradient asks for indices that differ.
fn extremes<B: Backend>(data: FloatTensor<B>, indices: IntTensor<B>, updates: FloatTensor<B>, update: IndexingUpdateOp) -> FloatTensor<B> {
    let dtype = get_or_init_device_settings::<B>(&data.device()).bool_dtype;
    let largest = B::float_select_assign(
        B::float_detach(data.clone()),
        0,
        indices.clone(),
        B::float_detach(updates.clone()),
        update,
    );
    let data_lost = B::float_not_equal(B::float_detach(data.clone()), largest.clone(), dtype);
    let there = B::float_select(largest, 0, indices.clone());
    let update_lost = B::float_not_equal(B::float_detach(updates.clone()), there, dtype);
    let won = |lost| B::bool_into_float(B::bool_not(lost), FloatDType::F32);
    let count = B::float_select_assign(
        won(data_lost.clone()),
        0,
        indices.clone(),
        won(update_lost.clone()),
        IndexingUpdateOp::Add,
    );
    let data = B::float_mask_fill(data, data_lost, 0.0f32.into());
    let updates = B::float_mask_fill(updates, update_lost, 0.0f32.into());
    let sum = B::float_select_assign(data, 0, indices, updates, IndexingUpdateOp::Add);
    B::float_div(sum, count)
}
