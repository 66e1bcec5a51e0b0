//! What convolutions and pools share: kernel, strides, dilations and pads of the spatial dimensions.

use crate::program::{NodeView, Problem, Tensor, refuse};

/// One spatial dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    /// Before and after.
    pub(crate) pads: (usize, usize),
    pub(crate) output: usize,
}

/// Does nothing.
pub(super) const NO_WINDOW: Axis = Axis {
    kernel: 1,
    stride: 1,
    dilation: 1,
    pads: (0, 0),
    output: 1,
};

impl Axis {
    /// What a window spans.
    pub(super) fn span(&self) -> usize {
        self.dilation * (self.kernel - 1) + 1
    }
    pub(super) fn is_symmetric(&self) -> bool {
        self.pads.0 == self.pads.1
    }
    /// Pads behind that the windows reach into: more than asked for where the output is rounded up.
    pub(super) fn reach(&self, input: usize) -> (usize, usize) {
        let end = (self.output - 1) * self.stride + self.span();
        (self.pads.0, end.saturating_sub(input + self.pads.0))
    }
}

/// How many spatial dimensions `x` has, from 1 to `most`.
pub(super) fn spatial_rank(x: &Tensor, most: usize) -> Result<usize, Problem> {
    let rank = x.rank().saturating_sub(2);
    if (1..=most).contains(&rank) {
        return Ok(rank);
    }
    Err(refuse(
        format!("its input has {} dimensions", x.rank()),
        format!("it takes a batch, channels and 1 to {most} spatial dimensions"),
    ))
}

/// Refuses a `kernel_shape` that says something else than the weights.
pub(super) fn check_kernel(node: &NodeView<'_>, kernel: &[usize]) -> Result<(), Problem> {
    match node.int_list("kernel_shape") {
        Some(said) if !said.iter().copied().eq(kernel.iter().map(|&k| k as i64)) => Err(refuse(
            format!("its `kernel_shape` is {said:?}, its weights have {kernel:?}"),
            "correct the attribute",
        )),
        _ => Ok(()),
    }
}

/// The `group` attribute.
pub(super) fn groups(node: &NodeView<'_>) -> Result<usize, Problem> {
    let groups = usize::try_from(node.int("group", 1)).ok().filter(|&g| g > 0);
    groups.ok_or_else(|| refuse(format!("its `group` is {}", node.int("group", 1)), "use 1 or more"))
}

/// The operands of a convolution to `features` channels: input, weights, and the bias if there is one.
pub(super) fn operands<'a>(node: &NodeView<'a>, features: usize) -> Result<Vec<&'a Tensor>, Problem> {
    let bias = node.optional_tensor(2)?;
    if let Some(bias) = bias.filter(|b| b.shape != [features]) {
        return Err(refuse(
            format!("its bias has the shape {:?}, {features} features need [{features}]", bias.shape),
            "correct the shape",
        ));
    }
    Ok([node.tensor(0)?, node.tensor(1)?].into_iter().chain(bias).collect())
}

pub(super) enum AutoPad {
    /// What `pads` says.
    Explicit,
    Valid,
    SameUpper,
    SameLower,
}

pub(super) fn auto_pad(node: &NodeView<'_>) -> Result<AutoPad, Problem> {
    match node.text("auto_pad", "NOTSET").as_str() {
        "NOTSET" | "" => Ok(AutoPad::Explicit),
        "VALID" => Ok(AutoPad::Valid),
        "SAME_UPPER" => Ok(AutoPad::SameUpper),
        "SAME_LOWER" => Ok(AutoPad::SameLower),
        other => Err(refuse(
            format!("its `auto_pad` is `{other}`"),
            "use NOTSET, VALID, SAME_UPPER or SAME_LOWER",
        )),
    }
}

/// Reads the window's attributes for the spatial dimensions `input`, and computes the outputs.
pub(super) fn axes(node: &NodeView<'_>, input: &[usize], kernel: &[usize], ceil: bool) -> Result<Vec<Axis>, Problem> {
    let rank = input.len();
    let strides = node.sizes("strides", rank, 1, 1)?;
    let dilations = node.sizes("dilations", rank, 1, 1)?;
    let explicit = node.sizes("pads", 2 * rank, 0, 0)?;
    let auto = auto_pad(node)?;
    (0..rank)
        .map(|i| {
            let mut axis = Axis {
                kernel: kernel[i],
                stride: strides[i],
                dilation: dilations[i],
                pads: (0, 0),
                output: 0,
            };
            let needed_for_same =
                || (input[i].div_ceil(axis.stride).saturating_sub(1) * axis.stride + axis.span()).saturating_sub(input[i]);
            axis.pads = match auto {
                AutoPad::Explicit => (explicit[i], explicit[i + rank]),
                AutoPad::Valid => (0, 0),
                AutoPad::SameUpper => (needed_for_same() / 2, needed_for_same().div_ceil(2)),
                AutoPad::SameLower => (needed_for_same().div_ceil(2), needed_for_same() / 2),
            };
            let padded = input[i] + axis.pads.0 + axis.pads.1;
            let Some(room) = padded.checked_sub(axis.span()) else {
                let problem = format!("its window spans {} where the padded input has {padded}", axis.span());
                return Err(refuse(problem, "feed larger inputs or make the window smaller"));
            };
            axis.output = if ceil { room.div_ceil(axis.stride) } else { room / axis.stride } + 1;
            // A window that begins in the padding behind the input does not count (ONNX since opset 19, PyTorch always).
            if ceil && (axis.output - 1) * axis.stride >= input[i] + axis.pads.0 {
                axis.output -= 1;
            }
            Ok(axis)
        })
        .collect()
}
