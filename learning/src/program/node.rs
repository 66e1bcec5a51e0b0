//! A node as an op's planner sees it: typed access to attributes and inputs, each miss a message.

use std::sync::Arc;

use aimass_onnx::proto::{AttributeProto, AttributeType, NodeProto};

use super::{Ints, Mode, Slot};

/// What is wrong with a node, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) problem: String,
    pub(crate) fix: String,
}

/// A [`Problem`].
pub(crate) fn refuse(problem: impl Into<String>, fix: impl Into<String>) -> Problem {
    Problem {
        problem: problem.into(),
        fix: fix.into(),
    }
}

/// A float tensor that exists while the program runs.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) slot: Slot,
    pub(crate) shape: Vec<usize>,
    /// Its values, where it never changes (not for weights).
    pub(crate) constant: Option<Arc<[f32]>>,
}

impl Tensor {
    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }
    /// The only element, where it is a constant of one element.
    pub(crate) fn scalar(&self) -> Option<f32> {
        match self.constant.as_deref() {
            Some([value]) => Some(*value),
            _ => None,
        }
    }
}

/// What a name stands for while planning.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// Floats, known when the program runs.
    Tensor(Tensor),
    /// Integers or booleans, known now.
    Ints(Ints),
}

/// A node with its inputs resolved.
pub(crate) struct NodeView<'a> {
    pub(crate) proto: &'a NodeProto,
    /// One for each name; `None` for one left out.
    pub(crate) inputs: Vec<Option<&'a Value>>,
    pub(crate) opset: i64,
    pub(crate) mode: Mode,
}

impl<'a> NodeView<'a> {
    pub(crate) fn op(&self) -> &'a str {
        &self.proto.op_type
    }

    /// Input `i`, if given.
    pub(crate) fn input(&self, i: usize) -> Option<&'a Value> {
        self.inputs.get(i).copied().flatten()
    }

    pub(crate) fn required(&self, i: usize) -> Result<&'a Value, Problem> {
        self.input(i)
            .ok_or_else(|| refuse(format!("its input {i} is missing"), "export the model again"))
    }

    /// Float input `i`.
    pub(crate) fn tensor(&self, i: usize) -> Result<&'a Tensor, Problem> {
        match self.required(i)? {
            Value::Tensor(tensor) => Ok(tensor),
            Value::Ints(_) => Err(refuse(
                format!("its input {i} is made of integers where floats are needed"),
                "cast it to float32 in the model",
            )),
        }
    }

    pub(crate) fn optional_tensor(&self, i: usize) -> Result<Option<&'a Tensor>, Problem> {
        self.input(i).map(|_| self.tensor(i)).transpose()
    }

    /// Integer input `i`.
    pub(crate) fn ints(&self, i: usize) -> Result<&'a Ints, Problem> {
        match self.required(i)? {
            Value::Ints(ints) => Ok(ints),
            Value::Tensor(_) => Err(refuse(
                format!("its input {i} is computed from floats where known integers are needed"),
                "make it a constant",
            )),
        }
    }

    pub(crate) fn optional_ints(&self, i: usize) -> Result<Option<&'a Ints>, Problem> {
        self.input(i).map(|_| self.ints(i)).transpose()
    }

    /// All inputs, when every one is integer.
    pub(crate) fn all_ints(&self) -> Option<Vec<&'a Ints>> {
        self.inputs
            .iter()
            .map(|v| if let Some(Value::Ints(ints)) = v { Some(ints) } else { None })
            .collect()
    }

    fn attribute(&self, name: &str) -> Option<&'a AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    /// Refuses attributes that this op's planner does not know: ignoring one would compute something else.
    pub(crate) fn knows(&self, names: &[&str]) -> Result<(), Problem> {
        for attribute in &self.proto.attribute {
            let (name, kind) = (attribute.name.as_str(), attribute.kind());
            if !names.contains(&name) {
                return Err(refuse(
                    format!("its attribute `{name}` is not supported"),
                    "export the model for opset 13 to 21 without it",
                ));
            }
            // An empty list has no kind in files that don't say it.
            if kind != kind_of(name) && kind != AttributeType::Undefined {
                return Err(refuse(
                    format!("its attribute `{name}` is of the type {kind:?}, it must be {:?}", kind_of(name)),
                    "correct the attribute",
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|a| a.i).unwrap_or(default)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        self.int(name, 0) != 0
    }

    pub(crate) fn float(&self, name: &str) -> Option<f32> {
        self.attribute(name).and_then(|a| a.f)
    }

    pub(crate) fn text(&self, name: &str, default: &'static str) -> String {
        self.attribute(name)
            .and_then(|a| a.s.as_deref())
            .map_or_else(|| default.to_owned(), |s| String::from_utf8_lossy(s).into_owned())
    }

    pub(crate) fn int_list(&self, name: &str) -> Option<&'a [i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    /// `len` positive-or-zero numbers, each at least `least`.
    pub(crate) fn sizes(&self, name: &str, len: usize, least: usize, default: usize) -> Result<Vec<usize>, Problem> {
        let Some(list) = self.int_list(name) else {
            return Ok(vec![default; len]);
        };
        let sizes: Option<Vec<usize>> = list
            .iter()
            .map(|&v| usize::try_from(v).ok().filter(|&v| v >= least && v <= MAX_SIZE))
            .collect();
        match sizes {
            Some(sizes) if sizes.len() == len => Ok(sizes),
            _ => Err(refuse(
                format!("its `{name}` is {list:?}, which is not {len} numbers from {least} to {MAX_SIZE}"),
                "correct the attribute",
            )),
        }
    }

    /// An axis attribute, made non-negative.
    pub(crate) fn axis(&self, value: i64, rank: usize) -> Result<usize, Problem> {
        axis(value, rank)
    }
}

/// The type of an attribute; over all supported ops, one name has one type.
fn kind_of(name: &str) -> AttributeType {
    match name {
        "alpha" | "beta" | "epsilon" | "max" | "min" | "momentum" | "ratio" => AttributeType::Float,
        "approximate" | "auto_pad" | "round_mode" => AttributeType::String,
        "axes" | "consumed_inputs" | "dilations" | "kernel_shape" | "pads" | "perm" | "strides" => AttributeType::Ints,
        _ => AttributeType::Int,
    }
}

/// Largest kernel, stride, pad or dilation.
const MAX_SIZE: usize = 1 << 20;

/// `value` in `-rank..rank` as `0..rank`.
pub(crate) fn axis(value: i64, rank: usize) -> Result<usize, Problem> {
    let from_end = if value < 0 { value.saturating_add(rank as i64) } else { value };
    usize::try_from(from_end)
        .ok()
        .filter(|&a| a < rank)
        .ok_or_else(|| refuse(format!("axis {value} is outside a tensor of {rank} dimensions"), "correct the axis"))
}
