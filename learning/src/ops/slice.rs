//! Ops that take parts of tensors, or lay them out again.

use burn_backend::Backend;
use burn_backend::ops::PadMode;

use super::picks::{self, Border, Cut, Pads};
use super::{DeviceTensor, Kernel, Operands};
use crate::program::{Element, Host, NodeView, Output, Planned, Problem, Source, Tensor, refuse};

/// A range of each axis, then of some axes the elements that lists of indices name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pick {
    /// Start and length.
    pub(crate) ranges: Vec<(usize, usize)>,
    /// Each with an operand.
    pub(crate) axes: Vec<usize>,
}

/// Parts of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Split {
    pub(crate) axis: usize,
    pub(crate) sizes: Vec<usize>,
}

/// A constant around a tensor.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pad {
    /// What is left of each axis before the padding: start and length.
    kept: Vec<(usize, usize)>,
    pads: Vec<(usize, usize)>,
    value: f32,
}

/// What a kernel makes of tensors of the kind of `x`.
fn like(x: &Tensor, shape: Vec<usize>) -> Output {
    Output { element: x.element, shape }
}

/// One kernel over `x` that keeps the kind of its elements.
pub(super) fn moved(kernel: Kernel, x: &Tensor, shape: Vec<usize>) -> Result<Planned, Problem> {
    Ok(Planned::Run {
        kernel,
        inputs: vec![x.into()],
        outputs: vec![like(x, shape)],
    })
}

/// Picks lists of indices along axes; nothing where `ranges` are whole and there are none.
fn pick(x: &Tensor, ranges: Vec<(usize, usize)>, lists: Vec<(usize, Vec<usize>)>) -> Result<Planned, Problem> {
    let mut shape: Vec<usize> = ranges.iter().map(|&(_, len)| len).collect();
    let mut inputs = vec![Source::from(x)];
    let mut axes = Vec::new();
    for (axis, list) in lists {
        shape[axis] = list.len();
        inputs.push(Source::Host(Host::list(list.into_iter().map(|i| i as i64).collect())));
        axes.push(axis);
    }
    if shape == x.shape && axes.is_empty() {
        return Planned::tensor(x);
    }
    Ok(Planned::Run {
        kernel: Kernel::Pick(Pick { ranges, axes }),
        inputs,
        outputs: vec![like(x, shape)],
    })
}

impl Pick {
    pub(super) fn run<B: Backend>(&self, operands: &mut Operands<B>) -> DeviceTensor<B> {
        let mut x = operands.any().slice(&self.ranges);
        for &axis in &self.axes {
            x = x.select(axis, operands.next_int());
        }
        x
    }
}

pub(super) fn slice(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let x = node.any(0)?;
    let cuts = if node.opset < 10 {
        node.knows(&["starts", "ends", "axes"])?;
        let list = |name| node.int_list(name).unwrap_or_default();
        picks::slices(&x.shape, list("starts"), list("ends"), node.int_list("axes"), None)?
    } else {
        node.knows(&[])?;
        let (axes, steps) = (node.optional_ints(3)?, node.optional_ints(4)?);
        picks::slices(&x.shape, node.ints(1)?, node.ints(2)?, axes, steps)?
    };
    cut(x, &cuts)
}

fn cut(x: &Tensor, cuts: &[Cut]) -> Result<Planned, Problem> {
    let mut ranges = Vec::new();
    let mut lists = Vec::new();
    for (axis, cut) in cuts.iter().enumerate() {
        if cut.step == 1 {
            ranges.push((cut.start, cut.len));
        } else {
            picks::writable(cut.len)?;
            ranges.push((0, x.shape[axis]));
            lists.push((axis, cut.picks()));
        }
    }
    pick(x, ranges, lists)
}

pub(super) fn split(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis", "split", "num_outputs"])?;
    let x = node.any(0)?;
    let axis = node.axis(node.int("axis", 0), x.rank())?;
    let sizes = picks::split(node, x.shape[axis], node.optional_ints(1)?)?;
    let part = |&size: &usize| {
        let mut shape = x.shape.clone();
        shape[axis] = size;
        like(x, shape)
    };
    Ok(Planned::Run {
        outputs: sizes.iter().map(part).collect(),
        kernel: Kernel::Split(Split { axis, sizes }),
        inputs: vec![x.into()],
    })
}

impl Split {
    pub(super) fn run<B: Backend>(&self, x: &DeviceTensor<B>) -> Vec<DeviceTensor<B>> {
        let mut ranges: Vec<(usize, usize)> = x.shape().into_iter().map(|d| (0, d)).collect();
        let mut start = 0;
        let part = |&size: &usize| {
            ranges[self.axis] = (start, size);
            start += size;
            x.clone().slice(&ranges)
        };
        self.sizes.iter().map(part).collect()
    }
}

pub(super) fn expand(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = node.any(0)?;
    let shape = picks::expand(&x.shape, node.ints(1)?)?;
    if shape == x.shape {
        return Planned::tensor(x);
    }
    moved(Kernel::Expand(shape.clone()), x, shape)
}

pub(super) fn tile(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = node.any(0)?;
    let shape = picks::tile(&x.shape, node.ints(1)?)?;
    let mut lists = Vec::new();
    for (axis, (&long, &len)) in shape.iter().zip(&x.shape).enumerate() {
        if long != len {
            lists.push((axis, (0..picks::writable(long)?).map(|i| i % len).collect()));
        }
    }
    pick(x, whole(x), lists)
}

fn whole(x: &Tensor) -> Vec<(usize, usize)> {
    x.shape.iter().map(|&d| (0, d)).collect()
}

pub(super) fn pad(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(if node.opset < 11 { &["mode", "pads", "value"] } else { &["mode"] })?;
    let x = node.any(0)?;
    let pads = Pads::new(node, &x.shape, node.optional_ints(1)?, node.optional_ints(3)?)?;
    if pads.border != Border::Constant {
        let mut lists = Vec::new();
        for axis in (0..x.rank()).filter(|&d| pads.before[d] != 0 || pads.after[d] != 0) {
            let list = pads.picks(axis, x.shape[axis])?.into_iter().flatten();
            lists.push((axis, list.collect()));
        }
        return pick(x, whole(x), lists);
    }
    if x.element != Element::Float {
        return Err(refuse(
            "it pads booleans or integers that are computed from floats",
            "cast them to float32 in the model",
        ));
    }
    let value = match node.optional_scalar(2)? {
        Some(value) => value,
        None => node.float("value").unwrap_or(0.0),
    };
    let side = |v: i64| (usize::try_from(v).unwrap_or(0), usize::try_from(v.saturating_neg()).unwrap_or(0));
    let (mut kept, mut around) = (Vec::new(), Vec::new());
    for (d, &len) in x.shape.iter().enumerate() {
        let ((before, skipped), (after, dropped)) = (side(pads.before[d]), side(pads.after[d]));
        let Some(left) = len.checked_sub(skipped.saturating_add(dropped)).filter(|&left| left > 0) else {
            return Err(refuse(format!("its pads leave nothing of an axis of {len}"), "correct the pads"));
        };
        kept.push((skipped, left));
        around.push((before, after));
    }
    let kernel = Pad { kept, pads: around, value };
    Planned::run(Kernel::Pad(kernel), &[x], pads.shape)
}

impl Pad {
    pub(super) fn run<B: Backend>(&self, x: DeviceTensor<B>) -> DeviceTensor<B> {
        match x.slice(&self.kept) {
            DeviceTensor::Float(x) => DeviceTensor::Float(B::float_pad(x, &self.pads, PadMode::Constant(self.value))),
            other => other,
        }
    }
}
