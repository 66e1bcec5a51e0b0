//! Ops that move or rename integers.

use super::{Inputs, strides, walk};
use crate::ops::shapes;
use crate::program::node::Attributes;
use crate::program::{Host, Problem, refuse};

fn renamed(x: &Host, shape: Vec<usize>) -> Result<Vec<Host>, Problem> {
    Ok(vec![Host::new(x.element, shape, x.values.as_ref().map(|v| v.to_vec()))?])
}

pub(super) fn identity(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&[])?;
    let x = inputs.get(0)?;
    renamed(x, x.shape.clone())
}

pub(super) fn shape(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["start", "end"])?;
    Ok(vec![Host::list(shapes::shape(node, &inputs.get(0)?.shape))])
}

pub(super) fn reshape(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["allowzero"])?;
    let x = inputs.get(0)?;
    renamed(x, shapes::reshape(node, &x.shape, inputs.known(1)?)?)
}

pub(super) fn flatten(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    let x = inputs.get(0)?;
    renamed(x, shapes::flatten(node, &x.shape)?)
}

pub(super) fn squeeze(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axes"])?;
    let x = inputs.get(0)?;
    renamed(x, shapes::squeeze(node, &x.shape, inputs.optional_known(1)?)?)
}

pub(super) fn unsqueeze(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axes"])?;
    let x = inputs.get(0)?;
    renamed(x, shapes::unsqueeze(node, &x.shape, inputs.optional_known(1)?)?)
}

pub(super) fn transpose(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["perm"])?;
    let x = inputs.get(0)?;
    let axes = shapes::permutation(node, x.rank())?;
    let shape: Vec<usize> = axes.iter().map(|&a| x.shape[a]).collect();
    let own = strides(&x.shape);
    let steps: Vec<usize> = axes.iter().map(|&a| own[a]).collect();
    let values = x.values.as_ref().map(|values| {
        let mut out = Vec::with_capacity(values.len());
        walk(&shape, &steps, |p| out.push(values[p]));
        out
    });
    Ok(vec![Host::new(x.element, shape, values)?])
}

pub(super) fn concat(node: &Attributes<'_>, inputs: &Inputs<'_>) -> Result<Vec<Host>, Problem> {
    node.knows(&["axis"])?;
    let parts = (0..inputs.len()).map(|i| inputs.get(i)).collect::<Result<Vec<_>, _>>()?;
    let dims: Vec<&[usize]> = parts.iter().map(|p| p.shape.as_slice()).collect();
    let (axis, shape) = shapes::concat(node, &dims)?;
    let element = parts[0].element;
    if parts.iter().any(|p| p.element != element) {
        return Err(refuse("integers and booleans can't be joined", "cast them to one type"));
    }
    let known: Option<Vec<&[i64]>> = parts.iter().map(|p| p.values.as_deref()).collect();
    let outer: usize = shape[..axis].iter().product();
    let values = known.map(|known| {
        let mut out = Vec::with_capacity(shape.iter().product());
        for row in 0..outer {
            for (part, values) in parts.iter().zip(&known) {
                let len: usize = part.shape[axis..].iter().product();
                out.extend_from_slice(&values[row * len..][..len]);
            }
        }
        out
    });
    Ok(vec![Host::new(element, shape, values)?])
}
