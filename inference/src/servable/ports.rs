//! What goes into a model and comes out of it: names, types, shapes.

use std::collections::BTreeMap;
use std::fmt;

use aimass_onnx::{Dim, Model, ValueInfo};

use super::{LoadError, RunError};
use crate::tensor::{Datatype, MAX_RANK, Tensor};

/// The length of an axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    /// Known.
    Fixed(usize),
    /// Whatever a request says; axes of one name are equally long.
    Free(Option<String>),
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(n) => write!(f, "{n}"),
            Self::Free(Some(name)) => f.write_str(name),
            Self::Free(None) => f.write_str("?"),
        }
    }
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub datatype: Datatype,
    /// Its axes.
    pub axes: Vec<Axis>,
}

impl Port {
    /// The shape for people, `[batch, 3, 224, 224]`.
    pub fn shape_text(&self) -> String {
        let axes: Vec<String> = self.axes.iter().map(ToString::to_string).collect();
        format!("[{}]", axes.join(", "))
    }

    /// Whether a tensor of this shape fits, names aside.
    pub fn fits(&self, shape: &[usize]) -> bool {
        shape.len() == self.axes.len()
            && self.axes.iter().zip(shape).all(|(axis, &n)| match axis {
                Axis::Fixed(fixed) => *fixed == n,
                Axis::Free(_) => n > 0,
            })
    }
}

/// The model's inputs, each of a type that is served and of known rank.
pub(super) fn inputs(model: &Model) -> Result<Vec<Port>, LoadError> {
    model.inputs().iter().map(input).collect()
}

fn input(info: &ValueInfo) -> Result<Port, LoadError> {
    let refuse = |reason: String| LoadError::Port {
        name: info.name.clone(),
        reason,
    };
    let datatype = Datatype::of(info.element).ok_or_else(|| {
        refuse(format!(
            "its type {} is not served; export the model with float32, float64, int32, int64, uint8, int8 or bool",
            info.element
        ))
    })?;
    let dims = info
        .dims
        .as_deref()
        .ok_or_else(|| refuse("the file does not say its shape; export the model with one".to_owned()))?;
    if dims.len() > MAX_RANK {
        return Err(refuse(format!("it has {} axes, the limit is {MAX_RANK}", dims.len())));
    }
    if dims.contains(&Dim::Fixed(0)) {
        return Err(refuse("an axis is 0 long: there is nothing to feed".to_owned()));
    }
    Ok(Port {
        name: info.name.clone(),
        datatype,
        axes: axes(dims),
    })
}

fn axes(dims: &[Dim]) -> Vec<Axis> {
    let axis = |dim: &Dim| match dim {
        Dim::Fixed(n) => Axis::Fixed(*n),
        Dim::Symbol(name) => Axis::Free(Some(name.clone())),
        Dim::Unknown => Axis::Free(None),
    };
    dims.iter().map(axis).collect()
}

/// An output: its type as the first run showed it, its axes as the file says them where that is no contradiction to the run.
pub(super) fn output(info: &ValueInfo, run: &Tensor) -> Port {
    let declared = info.dims.as_deref().map(axes).filter(|axes| {
        axes.len() == run.shape().len()
            && axes.iter().zip(run.shape()).all(|(axis, &n)| match axis {
                Axis::Fixed(fixed) => *fixed == n,
                Axis::Free(_) => true,
            })
    });
    Port {
        name: info.name.clone(),
        datatype: run.datatype(),
        axes: declared.unwrap_or_else(|| vec![Axis::Free(None); run.shape().len()]),
    }
}

/// Whether every input's first axis is the batch: free, and of one name where there are several inputs.
pub(super) fn share_a_batch(inputs: &[Port]) -> bool {
    let first = |port: &Port| match port.axes.first() {
        Some(Axis::Free(name)) => Some(name.clone()),
        _ => None,
    };
    let names: Vec<_> = inputs.iter().map(first).collect();
    match names.as_slice() {
        [] => false,
        [only] => only.is_some(),
        [one, others @ ..] => one.as_ref().is_some_and(Option::is_some) && others.iter().all(|other| other == one),
    }
}

/// Checks the tensors of a run against the inputs.
pub(super) fn check(ports: &[Port], tensors: &[Tensor]) -> Result<(), RunError> {
    if ports.len() != tensors.len() {
        return Err(RunError::Inputs {
            wanted: ports.len(),
            found: tensors.len(),
        });
    }
    let mut named: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (port, tensor) in ports.iter().zip(tensors) {
        if tensor.datatype() != port.datatype {
            return Err(RunError::Datatype {
                input: port.name.clone(),
                wanted: port.datatype,
                found: tensor.datatype(),
            });
        }
        if !port.fits(tensor.shape()) {
            return Err(RunError::Shape {
                input: port.name.clone(),
                wanted: port.shape_text(),
                found: tensor.shape().to_vec(),
            });
        }
        for (axis, &n) in port.axes.iter().zip(tensor.shape()) {
            let Axis::Free(Some(name)) = axis else { continue };
            let (first, of) = *named.entry(name).or_insert((n, &port.name));
            if first != n {
                return Err(RunError::Symbol {
                    symbol: name.clone(),
                    one: of.to_owned(),
                    one_len: first,
                    other: port.name.clone(),
                    other_len: n,
                });
            }
        }
    }
    Ok(())
}
