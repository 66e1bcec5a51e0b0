//! A node as an op's planner sees it: typed access to attributes and inputs, each miss a message.

use aimass_onnx::proto::{AttributeProto, AttributeType, NodeProto, TensorProto};

use super::{Element, Host, Mode, Tensor, Value};

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

/// A node's attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) proto: &'a NodeProto,
    pub(crate) opset: i64,
}

/// A node with its inputs resolved.
pub(crate) struct NodeView<'a> {
    pub(crate) attributes: Attributes<'a>,
    /// One for each name; `None` for one left out.
    pub(crate) inputs: Vec<Option<&'a Value>>,
    pub(crate) mode: Mode,
}

impl<'a> std::ops::Deref for NodeView<'a> {
    type Target = Attributes<'a>;

    fn deref(&self) -> &Self::Target {
        &self.attributes
    }
}

impl<'a> NodeView<'a> {
    /// Input `i`, if given.
    pub(crate) fn input(&self, i: usize) -> Option<&'a Value> {
        self.inputs.get(i).copied().flatten()
    }

    pub(crate) fn required(&self, i: usize) -> Result<&'a Value, Problem> {
        self.input(i).ok_or_else(|| missing(i))
    }

    /// Float input `i`, which is not empty.
    pub(crate) fn tensor(&self, i: usize) -> Result<&'a Tensor, Problem> {
        match self.required(i)? {
            Value::Tensor(tensor) if tensor.element == Element::Float => self.not_empty(tensor, i),
            _ => Err(refuse(
                format!("its input {i} is made of integers where floats are needed"),
                "cast it to float32 in the model",
            )),
        }
    }

    /// Kernels take no empty tensors.
    fn not_empty(&self, tensor: &'a Tensor, i: usize) -> Result<&'a Tensor, Problem> {
        if tensor.shape.contains(&0) {
            return Err(refuse(
                format!("its input {i} of the shape {:?} is empty", tensor.shape),
                "correct the shapes",
            ));
        }
        Ok(tensor)
    }

    /// Input `i` on the device, whatever its elements; not empty.
    pub(crate) fn any(&self, i: usize) -> Result<&'a Tensor, Problem> {
        match self.required(i)? {
            Value::Tensor(tensor) => self.not_empty(tensor, i),
            Value::Host(_) => Err(refuse(
                format!("its input {i} is made of integers where others are computed from floats"),
                "compute all of them from integers, or cast it to float32 in the model",
            )),
        }
    }

    pub(crate) fn optional_tensor(&self, i: usize) -> Result<Option<&'a Tensor>, Problem> {
        self.input(i).map(|_| self.tensor(i)).transpose()
    }

    /// Integer input `i`, whose values are known while planning.
    pub(crate) fn ints(&self, i: usize) -> Result<&'a [i64], Problem> {
        self.known(i).map(|(_, values)| values)
    }

    /// The same with its shape.
    pub(crate) fn known(&self, i: usize) -> Result<(&'a [usize], &'a [i64]), Problem> {
        match self.required(i)? {
            Value::Host(host) => match host.values.as_deref() {
                Some(values) => Ok((&host.shape, values)),
                None => Err(refuse(
                    format!("its input {i} is computed from the values of a batch where known integers are needed"),
                    "make it follow from shapes and constants",
                )),
            },
            Value::Tensor(_) => Err(refuse(
                format!("its input {i} is computed from floats where known integers are needed"),
                "make it a constant",
            )),
        }
    }

    pub(crate) fn optional_ints(&self, i: usize) -> Result<Option<&'a [i64]>, Problem> {
        self.input(i).map(|_| self.ints(i)).transpose()
    }

    /// The only element of integer input `i`, if that is given.
    pub(crate) fn optional_int(&self, i: usize) -> Result<Option<i64>, Problem> {
        match self.optional_ints(i)? {
            None => Ok(None),
            Some([value]) => Ok(Some(*value)),
            Some(values) => Err(refuse(
                format!("its input {i} has {} elements where one is needed", values.len()),
                "make it a scalar",
            )),
        }
    }

    /// The only element of float input `i`, a constant, if that is given.
    pub(crate) fn optional_scalar(&self, i: usize) -> Result<Option<f32>, Problem> {
        match self.optional_tensor(i)? {
            None => Ok(None),
            Some(tensor) => match tensor.scalar() {
                Some(value) => Ok(Some(value)),
                None => Err(refuse(format!("its input {i} is not a constant number"), "make it one")),
            },
        }
    }

    /// All inputs (at least one), when every one is on the host.
    pub(crate) fn all_host(&self) -> Option<Vec<Option<&'a Host>>> {
        let host = |value: &Option<&'a Value>| match value {
            None => Some(None),
            Some(Value::Host(host)) => Some(Some(host)),
            Some(Value::Tensor(_)) => None,
        };
        let hosts: Option<Vec<_>> = self.inputs.iter().map(host).collect();
        hosts.filter(|hosts| hosts.iter().any(Option::is_some))
    }
}

pub(crate) fn missing(i: usize) -> Problem {
    refuse(format!("its input {i} is missing"), "export the model again")
}

impl<'a> Attributes<'a> {
    pub(crate) fn op(&self) -> &'a str {
        &self.proto.op_type
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
            let wanted = kind_of(self.op(), name);
            if kind != wanted && kind != AttributeType::Undefined {
                return Err(refuse(
                    format!("its attribute `{name}` is of the type {kind:?}, it must be {wanted:?}"),
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

    /// A tensor attribute.
    pub(crate) fn tensor_value(&self, name: &str) -> Option<&'a TensorProto> {
        self.attribute(name).and_then(|a| a.t.as_deref())
    }

    pub(crate) fn float_list(&self, name: &str) -> &'a [f32] {
        self.attribute(name).map_or(&[], |a| a.floats.as_slice())
    }

    pub(crate) fn text_list(&self, name: &str) -> Vec<String> {
        let texts = self.attribute(name).map_or(&[][..], |a| a.strings.as_slice());
        texts.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()
    }

    /// Whether anything may read output `i`.
    pub(crate) fn names_output(&self, i: usize) -> bool {
        self.proto.output.get(i).is_some_and(|name| !name.is_empty())
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

/// The type of an attribute; over all supported ops, one name has one type but for `value`.
fn kind_of(op: &str, name: &str) -> AttributeType {
    match name {
        "value" if op != "Pad" => AttributeType::Tensor,
        "cubic_coeff_a" | "extrapolation_value" | "value" => AttributeType::Float,
        "coordinate_transformation_mode" | "equation" | "keep_aspect_ratio_policy" | "mode" | "nearest_mode" | "reduction" => {
            AttributeType::String
        }
        "ends" | "repeats" | "split" | "starts" => AttributeType::Ints,
        "scales" => AttributeType::Floats,
        "alpha" | "beta" | "bias" | "clip" | "epsilon" | "gamma" | "lambd" | "max" | "min" | "momentum" | "ratio" => AttributeType::Float,
        "activation_alpha" | "activation_beta" => AttributeType::Floats,
        "approximate" | "auto_pad" | "direction" | "round_mode" => AttributeType::String,
        "activations" => AttributeType::Strings,
        "axes" | "consumed_inputs" | "dilations" | "kernel_shape" | "output_padding" | "output_shape" | "pads" | "perm" | "strides" => {
            AttributeType::Ints
        }
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
