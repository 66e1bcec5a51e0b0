//! Pooling over one and two spatial dimensions.

use burn_backend::ops::PadMode;
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorMetadata};

use super::window::Axis;
use super::{Kernel, reduce, window};
use crate::program::{NodeView, Planned, Problem, refuse};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Of {
    Max,
    /// Whether padding counts as zeros.
    Average {
        padding_counts: bool,
    },
}

/// One spatial dimension is run as two, the first of length 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pool {
    of: Of,
    axes: [Axis; 2],
    ceil: bool,
    shape: Vec<usize>,
}

pub(super) fn pool(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[
        "auto_pad",
        "ceil_mode",
        "count_include_pad",
        "dilations",
        "kernel_shape",
        "pads",
        "storage_order",
        "strides",
    ])?;
    let x = node.tensor(0)?;
    if !matches!(x.rank(), 3 | 4) {
        return Err(refuse(
            format!("its input has {} dimensions", x.rank()),
            "pools over 1 or 2 spatial dimensions are supported",
        ));
    }
    if node.int_list("kernel_shape").is_none() {
        return Err(refuse("its `kernel_shape` is missing", "export the model again"));
    }
    let input = &x.shape[2..];
    let ceil = node.flag("ceil_mode");
    let kernel = node.sizes("kernel_shape", input.len(), 1, 1)?;
    let axes = window::axes(node, input, &kernel, ceil)?;
    let of = if node.op() == "MaxPool" {
        Of::Max
    } else {
        Of::Average {
            padding_counts: node.flag("count_include_pad"),
        }
    };
    if ceil && axes.iter().any(|a| !a.is_symmetric()) {
        return Err(refuse(
            "it has `ceil_mode` and uneven pads",
            "use even pads or an explicit Pad before it",
        ));
    }
    if of == (Of::Average { padding_counts: false }) && axes.iter().any(|a| !a.is_symmetric()) {
        return Err(refuse(
            "it averages over uneven pads that do not count",
            "use even pads or count_include_pad = 1",
        ));
    }
    if of != Of::Max && axes.iter().any(|a| a.dilation > 1) {
        return Err(refuse("it averages over dilated windows", "use dilations of 1"));
    }
    if axes.iter().zip(input).any(|(axis, &len)| !every_window_sees_input(axis, len)) {
        return Err(refuse("a window lies wholly in the padding", "pad by less than the window"));
    }
    let shape: Vec<usize> = x.shape[..2].iter().copied().chain(axes.iter().map(|a| a.output)).collect();
    let axes = match axes[..] {
        [a, b] => [a, b],
        _ => [
            Axis {
                kernel: 1,
                stride: 1,
                dilation: 1,
                pads: (0, 0),
                output: 1,
            },
            axes[0],
        ],
    };
    Planned::run(
        Kernel::Pool(Pool {
            of,
            axes,
            ceil,
            shape: shape.clone(),
        }),
        &[x],
        shape,
    )
}

/// Else a maximum would be over nothing.
fn every_window_sees_input(axis: &Axis, len: usize) -> bool {
    (0..axis.output).all(|out| {
        let start = out * axis.stride;
        let first_inside = axis.pads.0.saturating_sub(start).div_ceil(axis.dilation);
        let at = start + first_inside * axis.dilation;
        first_inside < axis.kernel && at - axis.pads.0 < len
    })
}

impl Pool {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let [a, b] = self.axes;
        let shape = x.shape();
        let x = if shape.num_dims() == 3 {
            B::float_reshape(x, Shape::new([shape[0], shape[1], 1, shape[2]]))
        } else {
            x
        };
        let (x, pads) = if a.is_symmetric() && b.is_symmetric() {
            (x, [a.pads.0, b.pads.0])
        } else {
            let fill = if self.of == Of::Max { f32::NEG_INFINITY } else { 0.0 };
            (B::float_pad(x, &[(0, 0), (0, 0), a.pads, b.pads], PadMode::Constant(fill)), [0, 0])
        };
        let (kernel, strides, dilations) = ([a.kernel, b.kernel], [a.stride, b.stride], [a.dilation, b.dilation]);
        let y = match self.of {
            Of::Max => B::max_pool2d(x, kernel, strides, pads, dilations, self.ceil),
            Of::Average { padding_counts } => B::avg_pool2d(x, kernel, strides, pads, padding_counts, self.ceil),
        };
        if self.shape.len() == 3 {
            B::float_reshape(y, Shape::from(self.shape.clone()))
        } else {
            y
        }
    }
}

/// The mean over all spatial dimensions.
pub(super) fn global_average(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = node.tensor(0)?;
    if x.rank() < 3 {
        return Err(refuse(
            format!("its input has {} dimensions", x.rank()),
            "it needs at least one spatial dimension",
        ));
    }
    reduce::plan(x, (2..x.rank()).collect(), true, true)
}
