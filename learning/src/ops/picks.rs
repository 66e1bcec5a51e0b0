//! Which elements of an axis an op takes, and in which order: rules that the device side and the host side of an op share.

use crate::array::n_elements;
use crate::program::{Attributes, Problem, axis, broadcast, refuse};

/// Most elements along an axis that is picked one by one.
const MAX_PICKS: usize = 1 << 24;

/// Some elements of an axis: `len` from `start` on, each `step` further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) start: usize,
    pub(crate) step: i64,
    pub(crate) len: usize,
}

impl Cut {
    fn whole(len: usize) -> Self {
        Self { start: 0, step: 1, len }
    }

    /// Its elements, each within the axis.
    pub(crate) fn picks(&self) -> Vec<usize> {
        let at = |i: usize| self.start as i64 + self.step.saturating_mul(i as i64);
        (0..self.len).map(|i| at(i).max(0) as usize).collect()
    }
}

/// `Slice`: what it takes of each axis of `dims`.
pub(crate) fn slices(
    dims: &[usize],
    starts: &[i64],
    ends: &[i64],
    axes: Option<&[i64]>,
    steps: Option<&[i64]>,
) -> Result<Vec<Cut>, Problem> {
    let n = starts.len();
    if ends.len() != n || axes.is_some_and(|a| a.len() != n) || steps.is_some_and(|s| s.len() != n) {
        return Err(refuse("its starts, ends, axes and steps differ in length", "correct the node"));
    }
    let mut cuts: Vec<Cut> = dims.iter().copied().map(Cut::whole).collect();
    for i in 0..n {
        let along = axis(axes.map_or(i as i64, |axes| axes[i]), dims.len())?;
        let (len, step) = (dims[along] as i64, steps.map_or(1, |steps| steps[i]));
        let from_end = |v: i64| if v < 0 { v.saturating_add(len) } else { v };
        let (start, end) = (from_end(starts[i]), from_end(ends[i]));
        let (start, distance) = match step {
            0 => return Err(refuse("its step is 0", "use another step")),
            1.. => {
                let start = start.clamp(0, len);
                (start, end.clamp(0, len) - start)
            }
            _ => {
                let start = start.clamp(0, (len - 1).max(0));
                (start, if len == 0 { 0 } else { start - end.clamp(-1, len - 1) })
            }
        };
        let len = (distance.max(0) as u64).div_ceil(step.unsigned_abs()) as usize;
        cuts[along] = Cut {
            start: start as usize,
            step,
            len,
        };
    }
    Ok(cuts)
}

/// `Split`: how long each part of an axis of `len` is. `sizes` from an input (since opset 13) or the attribute.
pub(crate) fn split(node: &Attributes<'_>, len: usize, sizes: Option<&[i64]>) -> Result<Vec<usize>, Problem> {
    let outputs = node.proto.output.len();
    if let Some(sizes) = sizes.or_else(|| node.int_list("split")) {
        let sizes: Option<Vec<usize>> = sizes.iter().map(|&v| usize::try_from(v).ok()).collect();
        return sizes
            .filter(|s| s.len() == outputs && s.iter().try_fold(0usize, |n, &d| n.checked_add(d)) == Some(len))
            .ok_or_else(|| {
                refuse(
                    format!("its sizes do not make {outputs} parts of an axis of {len}"),
                    "correct the sizes",
                )
            });
    }
    // The last part is smaller where they can't all be equal (since opset 18).
    let each = len.div_ceil(outputs.max(1));
    let sizes: Vec<usize> = (0..outputs).map(|i| each.min(len.saturating_sub(i * each))).collect();
    let wanted = node.int("num_outputs", outputs as i64);
    if wanted != outputs as i64 || (node.opset < 18 && !len.is_multiple_of(outputs.max(1))) {
        return Err(refuse(
            format!("an axis of {len} can't be split into {wanted} equal parts for {outputs} outputs"),
            "give the sizes of the parts",
        ));
    }
    Ok(sizes)
}

/// `Expand`: the broadcast of `dims` and a known shape.
pub(crate) fn expand(dims: &[usize], to: &[i64]) -> Result<Vec<usize>, Problem> {
    let wrong = || refuse(format!("the shape {dims:?} can't be expanded to {to:?}"), "correct the shape");
    let to: Vec<usize> = to
        .iter()
        .map(|&d| usize::try_from(d).map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    broadcast(dims, &to).ok_or_else(wrong)
}

/// `Tile`: the shape that comes out.
pub(crate) fn tile(dims: &[usize], repeats: &[i64]) -> Result<Vec<usize>, Problem> {
    let wrong = || {
        refuse(
            format!("the shape {dims:?} can't be repeated {repeats:?} times"),
            "correct the repeats",
        )
    };
    if repeats.len() != dims.len() {
        return Err(wrong());
    }
    let times = |(&d, &r): (&usize, &i64)| usize::try_from(r).ok()?.checked_mul(d);
    let shape: Option<Vec<usize>> = dims.iter().zip(repeats).map(times).collect();
    shape.filter(|s| n_elements(s).is_some()).ok_or_else(wrong)
}

/// What `Pad` puts around a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Border {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

/// `Pad`, all axes.
#[derive(Debug)]
pub(crate) struct Pads {
    pub(crate) border: Border,
    /// Negative ones crop.
    pub(crate) before: Vec<i64>,
    pub(crate) after: Vec<i64>,
    pub(crate) shape: Vec<usize>,
}

impl Pads {
    /// `pads` and `axes` from inputs, or `pads` from the attribute (before opset 11).
    pub(crate) fn new(node: &Attributes<'_>, dims: &[usize], pads: Option<&[i64]>, axes: Option<&[i64]>) -> Result<Self, Problem> {
        let border = match node.text("mode", "constant").as_str() {
            "constant" => Border::Constant,
            "reflect" => Border::Reflect,
            "edge" => Border::Edge,
            "wrap" => Border::Wrap,
            other => return Err(refuse(format!("its mode is `{other}`"), "use constant, reflect, edge or wrap")),
        };
        let pads = pads.or_else(|| node.int_list("pads")).unwrap_or_default();
        let axes: Vec<usize> = match axes {
            Some(axes) => axes.iter().map(|&a| axis(a, dims.len())).collect::<Result<_, _>>()?,
            None => (0..dims.len()).collect(),
        };
        let wrong = || {
            refuse(
                format!("its pads {pads:?} do not fit {} axes of the shape {dims:?}", axes.len()),
                "correct the pads",
            )
        };
        if pads.len() != 2 * axes.len() {
            return Err(wrong());
        }
        let (mut before, mut after, mut shape) = (vec![0; dims.len()], vec![0; dims.len()], dims.to_vec());
        for (i, &along) in axes.iter().enumerate() {
            (before[along], after[along]) = (pads[i], pads[i + axes.len()]);
            let padded = (dims[along] as i64).checked_add(pads[i]).and_then(|n| n.checked_add(after[along]));
            shape[along] = padded.and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?;
            if border != Border::Constant && dims[along] == 0 && shape[along] > 0 {
                return Err(wrong());
            }
        }
        Ok(Self {
            border,
            before,
            after,
            shape,
        })
    }

    /// Where each element of an axis comes from; `None` is the constant. `len`: of the axis before.
    ///
    /// # Errors
    /// For an axis too long to be written down.
    pub(crate) fn picks(&self, along: usize, len: usize) -> Result<Vec<Option<usize>>, Problem> {
        let len = len as i64;
        let source = |i: usize| {
            let at = i as i64 - self.before[along];
            let at = match self.border {
                Border::Constant => Some(at).filter(|at| (0..len).contains(at))?,
                Border::Edge => at.clamp(0, len - 1),
                Border::Wrap => at.rem_euclid(len),
                Border::Reflect if len == 1 => 0,
                Border::Reflect => {
                    let at = at.rem_euclid(2 * (len - 1));
                    at.min(2 * (len - 1) - at)
                }
            };
            usize::try_from(at).ok()
        };
        Ok((0..writable(self.shape[along])?).map(source).collect())
    }
}

/// A number of indices that may be written down one by one.
pub(crate) fn writable(len: usize) -> Result<usize, Problem> {
    if len <= MAX_PICKS {
        return Ok(len);
    }
    Err(refuse(
        format!("it picks {len} elements along one axis, past the limit of {MAX_PICKS}"),
        "make the model or the batch smaller",
    ))
}

/// The axes of a reduction, ascending, without repeats. `given` from an input, else the attribute; all where there are none, unless
/// `noop_with_empty_axes`.
pub(crate) fn reduced(node: &Attributes<'_>, given: Option<&[i64]>, rank: usize) -> Result<Vec<usize>, Problem> {
    let given = given.or_else(|| node.int_list("axes")).unwrap_or_default();
    let mut axes = given.iter().map(|&a| axis(a, rank)).collect::<Result<Vec<_>, _>>()?;
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() && !node.flag("noop_with_empty_axes") {
        axes = (0..rank).collect();
    }
    Ok(axes)
}

/// The shape after a reduction over `axes`.
pub(crate) fn reduced_shape(dims: &[usize], axes: &[usize], keep: bool) -> Vec<usize> {
    let dims = dims.iter().enumerate();
    dims.filter_map(|(i, &d)| if !axes.contains(&i) { Some(d) } else { keep.then_some(1) })
        .collect()
}

/// `count` numbers of a `Range`, at most as many as may be written down.
pub(crate) fn range_len(count: f64) -> Result<usize, Problem> {
    if count.is_nan() || count > MAX_PICKS as f64 {
        return Err(refuse(
            format!("its range has {count} numbers, past the limit of {MAX_PICKS}"),
            "correct the range, or make the model or the batch smaller",
        ));
    }
    Ok(count.max(0.0) as usize)
}

/// The shape that a list of integers means, with no dimension below 0.
pub(crate) fn shape_of(values: &[i64]) -> Result<Vec<usize>, Problem> {
    let dims: Option<Vec<usize>> = values.iter().map(|&d| usize::try_from(d).ok()).collect();
    dims.ok_or_else(|| refuse(format!("{values:?} is no shape"), "correct the shape arithmetic of the model"))
}
