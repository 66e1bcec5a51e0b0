//! The integer side of a graph: ops over integers and booleans, evaluated while planning where everything is known, else for each batch.
//!
//! Each op computes its shape first; its values only where those of its inputs are known. So one function serves planning and running.

mod arithmetic;
pub(crate) mod cut;
pub(crate) mod fill;
pub(crate) mod index;
mod layout;
pub(crate) mod reduce;

use super::node::{Attributes, missing};
use super::{Host, Problem, refuse};

/// One op: attributes and inputs (`None` for those left out) to outputs.
type HostOp = fn(&Attributes<'_>, &Inputs<'_>) -> Result<Vec<Host>, Problem>;

/// Every op that runs here when all its inputs are integers or booleans.
const TABLE: &[(&str, HostOp)] = &[
    ("Abs", arithmetic::unary),
    ("Add", arithmetic::binary),
    ("And", arithmetic::binary),
    ("ArgMax", reduce::arg),
    ("ArgMin", reduce::arg),
    ("BitwiseAnd", arithmetic::binary),
    ("BitwiseNot", arithmetic::unary),
    ("BitwiseOr", arithmetic::binary),
    ("BitwiseXor", arithmetic::binary),
    ("Cast", arithmetic::cast),
    ("CastLike", arithmetic::cast_like),
    ("Clip", arithmetic::clip),
    ("Compress", index::compress),
    ("Concat", layout::concat),
    ("ConstantOfShape", fill::constant_of_shape),
    ("CumSum", reduce::cumulative_sum),
    ("Div", arithmetic::binary),
    ("Equal", arithmetic::binary),
    ("Expand", cut::expand),
    ("EyeLike", fill::eye_like),
    ("Flatten", layout::flatten),
    ("Gather", index::gather),
    ("GatherElements", index::gather_elements),
    ("GatherND", index::gather_nd),
    ("Greater", arithmetic::binary),
    ("GreaterOrEqual", arithmetic::binary),
    ("Identity", layout::identity),
    ("Less", arithmetic::binary),
    ("LessOrEqual", arithmetic::binary),
    ("Max", arithmetic::variadic),
    ("Min", arithmetic::variadic),
    ("Mod", arithmetic::binary),
    ("Mul", arithmetic::binary),
    ("Neg", arithmetic::unary),
    ("NonZero", index::non_zero),
    ("Not", arithmetic::unary),
    ("OneHot", fill::one_hot),
    ("Or", arithmetic::binary),
    ("Pad", cut::pad),
    ("Pow", arithmetic::binary),
    ("Range", fill::range),
    ("ReduceL1", reduce::reduce),
    ("ReduceMax", reduce::reduce),
    ("ReduceMean", reduce::reduce),
    ("ReduceMin", reduce::reduce),
    ("ReduceProd", reduce::reduce),
    ("ReduceSum", reduce::reduce),
    ("ReduceSumSquare", reduce::reduce),
    ("Reshape", layout::reshape),
    ("ScatterElements", index::scatter_elements),
    ("ScatterND", index::scatter_nd),
    ("Shape", layout::shape),
    ("Sign", arithmetic::unary),
    ("Size", fill::size),
    ("Slice", cut::slice),
    ("Split", cut::split),
    ("Squeeze", layout::squeeze),
    ("Sub", arithmetic::binary),
    ("Sum", arithmetic::variadic),
    ("Tile", cut::tile),
    ("TopK", reduce::top_k),
    ("Transpose", layout::transpose),
    ("Trilu", cut::trilu),
    ("Unsqueeze", layout::unsqueeze),
    ("Where", arithmetic::select),
    ("Xor", arithmetic::binary),
];

/// Names of the ops.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// Whether a node runs on the host when its inputs are there. What makes floats does not.
pub(crate) fn takes(node: &Attributes<'_>) -> bool {
    const FLOAT: i64 = 1;
    let makes_floats = match node.op() {
        "Cast" => node.int("to", 0) == FLOAT,
        "EyeLike" => node.int("dtype", 0) == FLOAT,
        "ConstantOfShape" => matches!(fill::fill_value(node), Ok(fill::Fill::Float(_))),
        _ => false,
    };
    !makes_floats && names().any(|name| name == node.op())
}

/// Evaluates one node. Outputs have values exactly where those of the inputs that matter are known.
pub(crate) fn apply(node: &Attributes<'_>, inputs: &[Option<Host>]) -> Result<Vec<Host>, Problem> {
    match TABLE.iter().find(|(name, _)| *name == node.op()) {
        Some((_, op)) => op(node, &Inputs(inputs)),
        None => Err(refuse("the op is not supported on integers", "report this as a defect")),
    }
}

/// A node's host inputs.
pub(super) struct Inputs<'a>(&'a [Option<Host>]);

impl<'a> Inputs<'a> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn optional(&self, i: usize) -> Option<&'a Host> {
        self.0.get(i).and_then(Option::as_ref)
    }
    fn get(&self, i: usize) -> Result<&'a Host, Problem> {
        self.optional(i).ok_or_else(|| missing(i))
    }
    /// The values of an input that shapes depend on.
    fn known(&self, i: usize) -> Result<&'a [i64], Problem> {
        self.get(i)?.values.as_deref().ok_or_else(|| {
            refuse(
                format!("its input {i} is computed from the values of a batch where known integers are needed"),
                "make it follow from shapes and constants",
            )
        })
    }
    fn optional_known(&self, i: usize) -> Result<Option<&'a [i64]>, Problem> {
        self.optional(i).map(|_| self.known(i)).transpose()
    }
}

/// Coordinates of a row-major position, last axis fastest.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// Walks the elements of `shape` in order, giving for each its position in a tensor with the strides `steps` (0 repeats).
fn walk(shape: &[usize], steps: &[usize], mut each: impl FnMut(usize)) {
    let n: usize = shape.iter().product();
    let mut at = vec![0usize; shape.len()];
    let mut position = 0usize;
    for _ in 0..n {
        each(position);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            position += steps[axis];
            if at[axis] < shape[axis] {
                break;
            }
            position -= steps[axis] * shape[axis];
            at[axis] = 0;
        }
    }
}

/// Strides that read a tensor of `from` as if it were broadcast to `to`.
fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let lead = to.len() - from.len();
    (0..to.len())
        .map(|i| match i.checked_sub(lead) {
            Some(j) if from[j] != 1 => own[j],
            _ => 0,
        })
        .collect()
}

/// `values` of shape `from`, read in the order of `to`.
pub(crate) fn broadcast_values<T: Copy>(values: &[T], from: &[usize], to: &[usize]) -> Vec<T> {
    let mut out = Vec::with_capacity(to.iter().product());
    walk(to, &broadcast_strides(from, to), |p| out.push(values[p]));
    out
}

#[cfg(test)]
mod tests;
