//! Element by element.

use std::sync::Arc;

use super::{Inputs, broadcast_values};
use crate::program::node::Attributes;
use crate::program::{Element, Host, Problem, broadcast, refuse};

fn overflow() -> Problem {
    refuse(
        "its integer arithmetic overflows or divides by zero",
        "correct the shape arithmetic of the model, or the data",
    )
}

/// Two inputs, broadcast to one shape, with the type that the result has.
fn pairs(a: &Host, b: &Host, element: Element, apply: impl Fn(i64, i64) -> Option<i64>) -> Result<Vec<Host>, Problem> {
    let shape = broadcast(&a.shape, &b.shape).ok_or_else(|| {
        refuse(
            format!("the shapes {:?} and {:?} do not broadcast", a.shape, b.shape),
            "correct the shapes",
        )
    })?;
    // Checks the size before anything of it is made.
    let mut out = Host::new(element, shape, None)?;
    if let (Some(x), Some(y)) = (&a.values, &b.values) {
        let (x, y) = (broadcast_values(x, &a.shape, &out.shape), broadcast_values(y, &b.shape, &out.shape));
        let values: Option<Vec<i64>> = x.into_iter().zip(y).map(|(x, y)| apply(x, y)).collect();
        out.values = Some(values.ok_or_else(overflow)?.into());
    }
    Ok(vec![out])
}

pub(super) fn binary(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    let (a, b) = (inputs.get(0)?, inputs.get(1)?);
    let op = node.op();
    if op == "Mod" {
        node.knows(&["fmod"])?;
    } else {
        node.knows(&[])?;
    }
    let fmod = node.flag("fmod");
    let truth = |v: bool| Some(i64::from(v));
    match op {
        "Add" => pairs(a, b, Element::Int, i64::checked_add),
        "Sub" => pairs(a, b, Element::Int, i64::checked_sub),
        "Mul" => pairs(a, b, Element::Int, i64::checked_mul),
        // ONNX truncates toward zero, as Rust does.
        "Div" => pairs(a, b, Element::Int, i64::checked_div),
        // The sign of the divisor, as numpy's mod; with `fmod` that of the dividend.
        "Mod" => pairs(a, b, Element::Int, |x, y| {
            let rest = x.checked_rem(y)?;
            Some(if !fmod && rest != 0 && (rest < 0) != (y < 0) {
                rest + y
            } else {
                rest
            })
        }),
        "Equal" => pairs(a, b, Element::Bool, |x, y| truth(x == y)),
        "Less" => pairs(a, b, Element::Bool, |x, y| truth(x < y)),
        "LessOrEqual" => pairs(a, b, Element::Bool, |x, y| truth(x <= y)),
        "Greater" => pairs(a, b, Element::Bool, |x, y| truth(x > y)),
        "GreaterOrEqual" => pairs(a, b, Element::Bool, |x, y| truth(x >= y)),
        "And" => pairs(a, b, Element::Bool, |x, y| truth(x != 0 && y != 0)),
        "Or" => pairs(a, b, Element::Bool, |x, y| truth(x != 0 || y != 0)),
        "Xor" => pairs(a, b, Element::Bool, |x, y| truth((x != 0) != (y != 0))),
        "Pow" => pairs(a, b, Element::Int, |x, y| x.checked_pow(u32::try_from(y).ok()?)),
        "BitwiseAnd" => pairs(a, b, Element::Int, |x, y| Some(x & y)),
        "BitwiseOr" => pairs(a, b, Element::Int, |x, y| Some(x | y)),
        "BitwiseXor" => pairs(a, b, Element::Int, |x, y| Some(x ^ y)),
        other => Err(refuse(format!("`{other}` is no op of two integers"), "report this as a defect")),
    }
}

/// Any number of inputs, broadcast to one shape.
pub(super) fn variadic(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let mut made = inputs.get(0)?.clone();
    made.slot = None;
    for i in 1..inputs.len() {
        let next = inputs.get(i)?;
        let both = match node.op() {
            "Max" => pairs(&made, next, Element::Int, |x, y| Some(x.max(y)))?,
            "Min" => pairs(&made, next, Element::Int, |x, y| Some(x.min(y)))?,
            _ => pairs(&made, next, Element::Int, i64::checked_add)?,
        };
        made = both.into_iter().next().ok_or_else(overflow)?;
    }
    Ok(vec![made])
}

/// Bounds are scalars.
pub(super) fn clip(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let mut made = inputs.get(0)?.clone();
    made.slot = None;
    for i in [1, 2] {
        let Some(by) = inputs.optional(i) else { continue };
        if by.n_elements() != 1 {
            return Err(refuse(format!("its input {i} is not one number"), "make it a scalar"));
        }
        // A bound of more dimensions must not raise those of the result.
        let by = Host::new(by.element, Vec::new(), by.values.as_ref().map(|v| v.to_vec()))?;
        let bound = |x: i64, y: i64| Some(if i == 1 { x.max(y) } else { x.min(y) });
        made = pairs(&made, &by, Element::Int, bound)?.into_iter().next().ok_or_else(overflow)?;
    }
    Ok(vec![made])
}

pub(super) fn unary(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let x = inputs.get(0)?;
    let apply = |v: i64| match node.op() {
        "Neg" => v.checked_neg(),
        "Abs" => v.checked_abs(),
        "Sign" => Some(v.signum()),
        "BitwiseNot" => Some(!v),
        _ => Some(i64::from(v == 0)),
    };
    let values = x
        .values
        .as_ref()
        .map(|values| values.iter().map(|&v| apply(v).ok_or_else(overflow)).collect());
    Ok(vec![Host::new(x.element, x.shape.clone(), values.transpose()?)?])
}

/// To integers or booleans; casts to floats are not the host's.
pub(super) fn cast(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["to", "saturate", "round_mode"])?;
    let element = match node.int("to", 0) {
        6 | 7 => Element::Int,
        9 => Element::Bool,
        to => {
            return Err(refuse(
                format!("it casts to the element type {to}"),
                "this version computes in float32 alone; export the model in float32",
            ));
        }
    };
    Ok(vec![converted(inputs.get(0)?, element)])
}

/// To the type of another.
pub(super) fn cast_like(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["saturate", "round_mode"])?;
    let (x, like) = (inputs.get(0)?, inputs.get(1)?);
    Ok(vec![converted(x, like.element)])
}

fn converted(x: &Host, element: Element) -> Host {
    let truth = |values: Arc<[i64]>| values.iter().map(|&v| i64::from(v != 0)).collect();
    Host {
        element,
        shape: x.shape.clone(),
        values: x
            .values
            .clone()
            .map(|values| if element == Element::Bool { truth(values) } else { values }),
        slot: None,
    }
}

pub(super) fn select(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let (condition, a, b) = (inputs.get(0)?, inputs.get(1)?, inputs.get(2)?);
    let shape = broadcast(&a.shape, &b.shape).and_then(|s| broadcast(&s, &condition.shape));
    let shape = shape.ok_or_else(|| {
        refuse(
            format!("the shapes {:?}, {:?} and {:?} do not broadcast", condition.shape, a.shape, b.shape),
            "correct the shapes",
        )
    })?;
    let mut out = Host::new(a.element, shape, None)?;
    if let (Some(c), Some(x), Some(y)) = (&condition.values, &a.values, &b.values) {
        let c = broadcast_values(c, &condition.shape, &out.shape);
        let x = broadcast_values(x, &a.shape, &out.shape);
        let y = broadcast_values(y, &b.shape, &out.shape);
        let pick = |((c, x), y): ((i64, i64), i64)| if c != 0 { x } else { y };
        out.values = Some(c.into_iter().zip(x).zip(y).map(pick).collect());
    }
    Ok(vec![out])
}
