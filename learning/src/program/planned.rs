//! What an op's planner says of a node: the kernel that runs, its inputs and outputs, or values that are known.

use std::sync::Arc;

use super::{Element, Host, Indexing, Problem, Slot, Tensor, Value};
use crate::ops::Kernel;

/// What a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Mode {
    /// Dropout is off, batch norm uses the stored statistics.
    Inference,
    /// Dropout is on where the file says so, and batch norm uses the statistics of the batch and moves the stored ones where asked to.
    Training {
        /// Whether batch norm uses the statistics of the batch.
        batch_statistics: bool,
    },
}

/// An input of a kernel.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// On the device already.
    Slot(Slot),
    /// Floats that are known now.
    Floats { shape: Vec<usize>, values: Arc<[f32]> },
    /// Uploaded before the device starts.
    Host(Host),
    /// The same for indices: each is checked, and turned into what the kernel reads.
    Index(Host, Indexing),
}

impl std::convert::From<&Tensor> for Source {
    fn from(tensor: &Tensor) -> Self {
        Self::Slot(tensor.slot)
    }
}

/// An output of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
}

impl Output {
    pub(crate) fn float(shape: Vec<usize>) -> Self {
        Self {
            element: Element::Float,
            shape,
        }
    }
}

/// What an op's planner makes of a node.
#[derive(Debug)]
pub(crate) enum Planned {
    /// A kernel that runs every time.
    Run {
        kernel: Kernel,
        inputs: Vec<Source>,
        outputs: Vec<Output>,
    },
    /// A training kernel whose outputs after the node's own are the new values of buffers.
    Update {
        kernel: Kernel,
        inputs: Vec<Source>,
        outputs: Vec<Output>,
        /// The slots of the buffers, one for each of the last outputs.
        buffers: Vec<Slot>,
    },
    /// Nothing to run: other names for values.
    Values(Vec<Value>),
    /// Floats known now.
    Constant { shape: Vec<usize>, values: Vec<f32> },
}

impl Planned {
    /// A kernel over float tensors that makes one.
    pub(crate) fn run(kernel: Kernel, inputs: &[&Tensor], shape: Vec<usize>) -> Result<Self, Problem> {
        Ok(Self::Run {
            kernel,
            inputs: inputs.iter().map(|t| Source::from(*t)).collect(),
            outputs: vec![Output::float(shape)],
        })
    }
    /// The value of another name.
    pub(crate) fn same(value: &Value) -> Result<Self, Problem> {
        Ok(Self::Values(vec![value.clone()]))
    }
    /// A tensor of another name.
    pub(crate) fn tensor(tensor: &Tensor) -> Result<Self, Problem> {
        Ok(Self::Values(vec![Value::Tensor(tensor.clone())]))
    }
    /// Known integers.
    pub(crate) fn host(host: Host) -> Result<Self, Problem> {
        Ok(Self::Values(vec![Value::Host(host)]))
    }
}

/// The numpy-style broadcast of two shapes.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}
