//! What convolutions and pools share: kernel, strides, dilations and pads of the spatial dimensions.

use crate::program::{NodeView, Problem, refuse};

/// One spatial dimension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    /// Before and after.
    pub(super) pads: (usize, usize),
    pub(super) output: usize,
}

impl Axis {
    /// What a window spans.
    pub(super) fn span(&self) -> usize {
        self.dilation * (self.kernel - 1) + 1
    }
    pub(super) fn is_symmetric(&self) -> bool {
        self.pads.0 == self.pads.1
    }
}

/// Reads the window's attributes for the spatial dimensions `input`, and computes the outputs.
pub(super) fn axes(node: &NodeView<'_>, input: &[usize], kernel: &[usize], ceil: bool) -> Result<Vec<Axis>, Problem> {
    let rank = input.len();
    let strides = node.sizes("strides", rank, 1, 1)?;
    let dilations = node.sizes("dilations", rank, 1, 1)?;
    let explicit = node.sizes("pads", 2 * rank, 0, 0)?;
    let auto = node.text("auto_pad", "NOTSET");
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
            axis.pads = match auto.as_str() {
                "NOTSET" | "" => (explicit[i], explicit[i + rank]),
                "VALID" => (0, 0),
                "SAME_UPPER" => (needed_for_same() / 2, needed_for_same().div_ceil(2)),
                "SAME_LOWER" => (needed_for_same().div_ceil(2), needed_for_same() / 2),
                other => {
                    return Err(refuse(
                        format!("its `auto_pad` is `{other}`"),
                        "use NOTSET, VALID, SAME_UPPER or SAME_LOWER",
                    ));
                }
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
