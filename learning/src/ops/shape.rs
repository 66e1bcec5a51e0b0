//! Ops that move or rename values, and the integer ops that make up shapes.

use super::Kernel;
use crate::program::{Ints, NodeView, Planned, Problem, Tensor, Value, refuse};

/// ONNX's numbers of element types.
const FLOAT: i64 = 1;
const INT32: i64 = 6;
const INT64: i64 = 7;
const BOOL: i64 = 9;

/// A reshape, or nothing where the shape stays.
fn reshaped(x: &Tensor, shape: Vec<usize>) -> Result<Planned, Problem> {
    if shape == x.shape {
        return Ok(Planned::Value(Value::Tensor(x.clone())));
    }
    Planned::run(Kernel::Reshape(shape.clone()), &[x], shape)
}

pub(super) fn identity(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    Ok(Planned::Value(node.required(0)?.clone()))
}

pub(super) fn cast(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["to", "saturate", "round_mode"])?;
    let to = node.int("to", 0);
    match (node.required(0)?, to) {
        (Value::Tensor(_), FLOAT) => Ok(Planned::Value(node.required(0)?.clone())),
        (Value::Ints(ints), FLOAT) => Ok(Planned::Constant {
            shape: ints.shape.clone(),
            values: ints.values.iter().map(|&v| v as f32).collect(),
        }),
        (Value::Ints(ints), INT32 | INT64) => Planned::ints(ints.clone()),
        (Value::Ints(ints), BOOL) => Planned::ints(Ints {
            shape: ints.shape.clone(),
            values: ints.values.iter().map(|&v| i64::from(v != 0)).collect(),
        }),
        (Value::Tensor(x), INT32 | INT64) if x.constant.is_some() => {
            let values = x.constant.iter().flat_map(|c| c.iter()).map(|&v| v as i64).collect();
            Planned::ints(
                Ints::new(x.shape.clone(), values).ok_or_else(|| refuse("it makes a large integer table", "keep tables as floats"))?,
            )
        }
        (Value::Tensor(_), INT32 | INT64 | BOOL) => Err(refuse(
            "it makes integers of values that are not constant",
            "this version computes in float32 alone",
        )),
        _ => Err(refuse(
            format!("it casts to the element type {to}"),
            "this version computes in float32 alone; export the model in float32",
        )),
    }
}

pub(super) fn shape(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["start", "end"])?;
    let dims = match node.required(0)? {
        Value::Tensor(tensor) => &tensor.shape,
        Value::Ints(ints) => &ints.shape,
    };
    let rank = dims.len() as i64;
    let clamp = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (clamp(node.int("start", 0)), clamp(node.int("end", rank)));
    Planned::ints(Ints::list(
        dims.get(start..end).unwrap_or_default().iter().map(|&d| d as i64).collect(),
    ))
}

pub(super) fn gather(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis"])?;
    match node.required(0)? {
        Value::Tensor(_) => Err(refuse(
            "it gathers from floats",
            "this version gathers from shapes alone; embeddings are not supported yet",
        )),
        Value::Ints(ints) => {
            node.axis(node.int("axis", 0), ints.shape.len())?;
            Planned::ints(ints.gather(node.ints(1)?)?)
        }
    }
}

pub(super) fn concat(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis"])?;
    if let Some(parts) = node.all_ints() {
        return Planned::ints(Ints::concat(&parts)?);
    }
    let parts = (0..node.inputs.len()).map(|i| node.tensor(i)).collect::<Result<Vec<_>, _>>()?;
    let first = node.tensor(0)?;
    let axis = node.axis(node.int("axis", 1), first.rank())?;
    let mut shape = first.shape.clone();
    for part in &parts[1..] {
        let fits = part.rank() == first.rank() && (0..first.rank()).all(|i| i == axis || part.shape[i] == first.shape[i]);
        if !fits {
            return Err(refuse(
                format!("the shapes {:?} and {:?} can't be joined along {axis}", first.shape, part.shape),
                "correct the shapes",
            ));
        }
        shape[axis] += part.shape[axis];
    }
    Planned::run(Kernel::Concat(axis), &parts, shape)
}

pub(super) fn flatten(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis"])?;
    let x = node.tensor(0)?;
    let axis = match node.int("axis", 1) {
        end if end == x.rank() as i64 => x.rank(),
        other => node.axis(other, x.rank())?,
    };
    reshaped(x, vec![x.shape[..axis].iter().product(), x.shape[axis..].iter().product()])
}

/// 0 keeps a dimension (unless `allowzero`), one -1 takes what is left.
pub(super) fn reshape(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["allowzero"])?;
    let wanted = &node.ints(1)?.values;
    let old = match node.required(0)? {
        Value::Tensor(tensor) => &tensor.shape,
        Value::Ints(ints) => &ints.shape,
    };
    let wrong = || refuse(format!("a tensor of shape {old:?} can't become {wanted:?}"), "correct the shape");
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &dim) in wanted.iter().enumerate() {
        match dim {
            -1 if open.is_none() => {
                open = Some(i);
                shape.push(1);
            }
            0 if !node.flag("allowzero") => shape.push(*old.get(i).ok_or_else(wrong)?),
            _ => shape.push(usize::try_from(dim).map_err(|_| wrong())?),
        }
    }
    let len: usize = old.iter().product();
    let known = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(wrong)?;
    if let Some(open) = open {
        shape[open] = len.checked_div(known).ok_or_else(wrong)?;
    }
    if shape.iter().product::<usize>() != len {
        return Err(wrong());
    }
    match node.required(0)? {
        Value::Tensor(x) => reshaped(x, shape),
        Value::Ints(ints) => Planned::ints(ints.reshaped(shape)?),
    }
}

pub(super) fn transpose(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["perm"])?;
    let x = node.tensor(0)?;
    let axes = match node.int_list("perm") {
        None => (0..x.rank()).rev().collect(),
        Some(perm) => perm.iter().map(|&a| node.axis(a, x.rank())).collect::<Result<Vec<_>, _>>()?,
    };
    let mut sorted = axes.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..x.rank()) {
        return Err(refuse(
            format!("its `perm` is {axes:?} for {} dimensions", x.rank()),
            "name each dimension once",
        ));
    }
    let shape = axes.iter().map(|&a| x.shape[a]).collect();
    Planned::run(Kernel::Permute(axes), &[x], shape)
}

/// Axes from the second input (since opset 13) or the attribute.
fn given_axes(node: &NodeView<'_>, rank: usize) -> Result<Option<Vec<usize>>, Problem> {
    let given = match node.optional_ints(1)? {
        Some(ints) => Some(ints.values.as_slice()),
        None => node.int_list("axes"),
    };
    given.map(|axes| axes.iter().map(|&a| node.axis(a, rank)).collect()).transpose()
}

fn renamed(node: &NodeView<'_>, shape: Vec<usize>) -> Result<Planned, Problem> {
    match node.required(0)? {
        Value::Tensor(x) => reshaped(x, shape),
        Value::Ints(ints) => Planned::ints(ints.reshaped(shape)?),
    }
}

fn dims_of<'a>(node: &NodeView<'a>) -> Result<&'a [usize], Problem> {
    Ok(match node.required(0)? {
        Value::Tensor(tensor) => &tensor.shape,
        Value::Ints(ints) => &ints.shape,
    })
}

pub(super) fn squeeze(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axes"])?;
    let dims = dims_of(node)?;
    let axes = given_axes(node, dims.len())?.unwrap_or_else(|| (0..dims.len()).filter(|&i| dims[i] == 1).collect());
    if let Some(&wide) = axes.iter().find(|&&a| dims[a] != 1) {
        return Err(refuse(format!("dimension {wide} of {dims:?} is not 1"), "correct the axes"));
    }
    renamed(
        node,
        dims.iter()
            .enumerate()
            .filter(|(i, _)| !axes.contains(i))
            .map(|(_, &d)| d)
            .collect(),
    )
}

pub(super) fn unsqueeze(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axes"])?;
    let dims = dims_of(node)?;
    let count = match node.optional_ints(1)? {
        Some(ints) => ints.values.len(),
        None => node.int_list("axes").map_or(0, <[i64]>::len),
    };
    let rank = dims.len() + count;
    let mut axes = given_axes(node, rank)?.unwrap_or_default();
    axes.sort_unstable();
    axes.dedup();
    if axes.len() != count || count == 0 {
        return Err(refuse("its axes are missing or repeat", "name each new dimension once"));
    }
    let mut old = dims.iter();
    let shape: Vec<usize> = (0..rank)
        .filter_map(|i| if axes.contains(&i) { Some(1) } else { old.next().copied() })
        .collect();
    renamed(node, shape)
}
