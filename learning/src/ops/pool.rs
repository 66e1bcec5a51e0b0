//! Pooling over one to three spatial dimensions, and over all.

use burn_backend::ops::{ConvOptions, PadMode};
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorData, TensorMetadata, get_or_init_device_settings};

use super::elementwise::powf;
use super::window::{Axis, NO_WINDOW};
use super::{Kernel, reduce, scratch, window};
use crate::program::{NodeView, Planned, Problem, Tensor, refuse};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Max,
    /// Whether padding counts as zeros.
    Average {
        padding_counts: bool,
    },
    /// The sum of the `p`th powers, and the root of that.
    Lp {
        p: i64,
    },
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pool {
    pub(crate) of: Of,
    pub(crate) passes: Vec<Pass>,
    /// Elements of the whole window.
    window: f32,
    shape: Vec<usize>,
}

/// A pool over the last two dimensions of a view. Windows part into passes: maxima, sums and counts do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pass {
    pub(crate) view: [usize; 4],
    pub(crate) axes: [Axis; 2],
    /// Whether the backend's own even padding does.
    plain: bool,
    /// Explicit pads otherwise.
    pads: [(usize, usize); 2],
    /// What turns a mean over the whole window into one over what counts; shape `[1, 1, a, b]`.
    factors: Option<([usize; 2], Vec<f32>)>,
}

/// MaxPool, AveragePool and LpPool.
pub(super) fn pool(node: &NodeView<'_>) -> Result<Planned, Problem> {
    const KNOWN: &[&str] = &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"];
    let of = match node.op() {
        "MaxPool" => {
            node.knows(&[KNOWN, &["storage_order"]].concat())?;
            Of::Max
        }
        "LpPool" => {
            node.knows(&[KNOWN, &["p"]].concat())?;
            power(node)?
        }
        _ => {
            node.knows(&[KNOWN, &["count_include_pad"]].concat())?;
            let padding_counts = node.flag("count_include_pad");
            Of::Average { padding_counts }
        }
    };
    let x = node.tensor(0)?;
    let rank = window::spatial_rank(x, 3)?;
    if node.int_list("kernel_shape").is_none() {
        return Err(refuse("its `kernel_shape` is missing", "export the model again"));
    }
    let input = &x.shape[2..];
    let kernel = node.sizes("kernel_shape", rank, 1, 1)?;
    let ceil = node.flag("ceil_mode");
    let axes = window::axes(node, input, &kernel, ceil)?;
    if axes.iter().zip(input).any(|(axis, &len)| !every_window_sees_input(axis, len)) {
        return Err(refuse("a window lies wholly in the padding", "pad by less than the window"));
    }
    let shape: Vec<usize> = x.shape[..2].iter().copied().chain(axes.iter().map(|a| a.output)).collect();
    plan(of, x, input, &axes, ceil, shape)
}

/// GlobalMaxPool and GlobalLpPool.
pub(super) fn global(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let of = if node.op() == "GlobalLpPool" {
        node.knows(&["p"])?;
        power(node)?
    } else {
        node.knows(&[])?;
        Of::Max
    };
    let x = spatial(node)?;
    let positions = x.shape[2..].iter().product();
    let axis = Axis {
        kernel: positions,
        ..NO_WINDOW
    };
    let ones = std::iter::repeat_n(1, x.rank() - 2);
    let shape = x.shape[..2].iter().copied().chain(ones).collect();
    plan(of, x, &[positions], &[axis], false, shape)
}

/// The mean over all spatial dimensions.
pub(super) fn global_average(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = spatial(node)?;
    reduce::plan(x, (2..x.rank()).collect(), true, true)
}

fn spatial<'a>(node: &NodeView<'a>) -> Result<&'a Tensor, Problem> {
    let x = node.tensor(0)?;
    if x.rank() < 3 {
        return Err(refuse(
            format!("its input has {} dimensions", x.rank()),
            "it needs at least one spatial dimension",
        ));
    }
    Ok(x)
}

fn power(node: &NodeView<'_>) -> Result<Of, Problem> {
    let p = node.int("p", 2);
    if p < 1 {
        return Err(refuse(format!("its `p` is {p}"), "use 1 or more"));
    }
    Ok(Of::Lp { p })
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

fn plan(of: Of, x: &Tensor, input: &[usize], axes: &[Axis], ceil: bool, shape: Vec<usize>) -> Result<Planned, Problem> {
    let planes: usize = x.shape[..2].iter().product();
    let passes = match (input, axes) {
        (&[a], &[over_a]) => vec![pass(of, [planes, 1, 1, a], [NO_WINDOW, over_a], ceil)?],
        (&[a, b], &[over_a, over_b]) => vec![pass(of, [x.shape[0], x.shape[1], a, b], [over_a, over_b], ceil)?],
        (&[a, b, c], &[over_a, over_b, over_c]) => vec![
            pass(of, [planes, a, b, c], [over_b, over_c], ceil)?,
            pass(of, [planes, 1, a, over_b.output * over_c.output], [over_a, NO_WINDOW], ceil)?,
        ],
        _ => return Err(refuse("it has another number of spatial dimensions", "use 1 to 3")),
    };
    let kernel = Pool {
        of,
        passes,
        window: axes.iter().map(|a| a.kernel as f32).product(),
        shape: shape.clone(),
    };
    Planned::run(Kernel::Pool(kernel), &[x], shape)
}

fn pass(of: Of, view: [usize; 4], mut axes: [Axis; 2], ceil: bool) -> Result<Pass, Problem> {
    for (axis, &len) in axes.iter_mut().zip(&view[2..]) {
        if *axis == NO_WINDOW {
            axis.output = len;
        }
    }
    let dilated = axes.iter().any(|a| a.dilation > 1);
    let plain = !ceil && axes.iter().all(Axis::is_symmetric) && (of == Of::Max || !dilated);
    let pads = [axes[0].reach(view[2]), axes[1].reach(view[3])];
    let padded = [view[2] + pads[0].0 + pads[0].1, view[3] + pads[1].0 + pads[1].1];
    scratch::check(&[view[0], view[1], padded[0], padded[1]])?;
    let factors = match of {
        Of::Average { padding_counts } if !plain => {
            let [a, b] = [0, 1].map(|i| factors(&axes[i], view[2 + i], padding_counts));
            let all = a.iter().flat_map(|a| b.iter().map(move |b| a * b)).collect();
            Some(([a.len(), b.len()], all))
        }
        _ => None,
    };
    Ok(Pass {
        view,
        axes,
        plain,
        pads,
        factors,
    })
}

/// For each window its length over the number of its elements that count.
fn factors(axis: &Axis, len: usize, padding_counts: bool) -> Vec<f32> {
    if axis.kernel == 1 {
        return vec![1.0];
    }
    let (first, end) = if padding_counts {
        (0, axis.pads.0 + len + axis.pads.1)
    } else {
        (axis.pads.0, axis.pads.0 + len)
    };
    let factor = |out: usize| {
        let start = out * axis.stride;
        let before = first.saturating_sub(start).div_ceil(axis.dilation).min(axis.kernel);
        let inside = end.saturating_sub(start).div_ceil(axis.dilation).min(axis.kernel);
        axis.kernel as f32 / (inside - before) as f32
    };
    (0..axis.output).map(factor).collect()
}

impl Pool {
    pub(super) fn run<B: Backend>(&self, x: FloatTensor<B>) -> FloatTensor<B> {
        let mut y = match self.of {
            Of::Lp { p: 1 } => B::float_abs(x),
            Of::Lp { p: 2 } => B::float_mul(x.clone(), x),
            Of::Lp { p } => powf::<B>(B::float_abs(x), p as f32),
            _ => x,
        };
        for pass in &self.passes {
            y = pass.run::<B>(self.of, B::float_reshape(y, Shape::new(pass.view)));
        }
        let y = B::float_reshape(y, Shape::from(self.shape.clone()));
        match self.of {
            Of::Lp { p } => root::<B>(B::float_mul_scalar(y, self.window.into()), p),
            _ => y,
        }
    }
}

/// The root of what is not negative; its gradient at 0 is 0.
fn root<B: Backend>(x: FloatTensor<B>, p: i64) -> FloatTensor<B> {
    if p == 1 {
        return x;
    }
    let bool_dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    let zero = B::float_lower_equal_elem(x.clone(), 0.0f32.into(), bool_dtype);
    let x = B::float_mask_fill(x, zero.clone(), 1.0f32.into());
    let y = if p == 2 { B::float_sqrt(x) } else { powf::<B>(x, 1.0 / p as f32) };
    B::float_mask_fill(y, zero, 0.0f32.into())
}

impl Pass {
    fn run<B: Backend>(&self, of: Of, x: FloatTensor<B>) -> FloatTensor<B> {
        let [a, b] = self.axes;
        let (kernel, strides, dilations) = ([a.kernel, b.kernel], [a.stride, b.stride], [a.dilation, b.dilation]);
        let (x, pads) = if self.plain {
            (x, [a.pads.0, b.pads.0])
        } else {
            let fill = if of == Of::Max { f32::NEG_INFINITY } else { 0.0 };
            let pads = [(0, 0), (0, 0), self.pads[0], self.pads[1]];
            (B::float_pad(x, &pads, PadMode::Constant(fill)), [0, 0])
        };
        match of {
            Of::Max => return B::max_pool2d(x, kernel, strides, pads, dilations, false),
            Of::Average { padding_counts } if self.plain => return B::avg_pool2d(x, kernel, strides, pads, padding_counts, false),
            _ => {}
        }
        let y = if dilations == [1, 1] {
            B::avg_pool2d(x, kernel, strides, pads, true, false)
        } else {
            // A mean over a dilated window is a convolution.
            let (shape, device) = (x.shape(), x.device());
            let n = a.kernel * b.kernel;
            let weights = TensorData::new(vec![1.0 / n as f32; n], [1, 1, a.kernel, b.kernel]);
            let weights = B::float_from_data(weights, &device);
            let planes = B::float_reshape(x, Shape::new([shape[0] * shape[1], 1, shape[2], shape[3]]));
            let y = B::conv2d(planes, weights, None, ConvOptions::new(strides, pads, dilations, 1));
            B::float_reshape(y, Shape::new([shape[0], shape[1], a.output, b.output]))
        };
        match &self.factors {
            None => y,
            Some(([rows, columns], values)) => {
                let factors = TensorData::new(values.clone(), [1, 1, *rows, *columns]);
                let device = y.device();
                B::float_mul(y, B::float_from_data(factors, &device))
            }
        }
    }
}
