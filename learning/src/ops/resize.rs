//! Resize and Upsample: along each axis every new element is a weighted sum of a few old ones, so that the gradient is too.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorData, TensorMetadata};

use super::picks::writable;
use super::{Kernel, Operands};
use crate::program::{Host, NodeView, Output, Planned, Problem, Source, Tensor, refuse};

/// One axis: how much each of some old elements counts for every new one. The first operands are the lists of old elements.
#[derive(Debug, Clone, PartialEq)]
struct Along {
    axis: usize,
    /// Empty where one old element counts alone.
    weights: Vec<Vec<f32>>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Resize(Vec<Along>);

/// How a place in the new axis becomes one in the old (ONNX's `coordinate_transformation_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coordinates {
    Asymmetric,
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Nearest(Rounding),
    Linear,
    Cubic { a: f64, exclude_outside: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
}

/// Old and new length of an axis, and the scale, which with given sizes is their ratio.
#[derive(Debug, Clone, Copy)]
struct Scaled {
    old: usize,
    new: usize,
    scale: f64,
}

impl Scaled {
    fn source(&self, at: usize, coordinates: Coordinates) -> f64 {
        let (at, old) = (at as f64, self.old as f64);
        let new = self.scale * old;
        match coordinates {
            Coordinates::Asymmetric => at / self.scale,
            Coordinates::HalfPixel => (at + 0.5) / self.scale - 0.5,
            Coordinates::PytorchHalfPixel if new <= 1.0 => 0.0,
            Coordinates::PytorchHalfPixel => (at + 0.5) / self.scale - 0.5,
            Coordinates::HalfPixelSymmetric => {
                let offset = old / 2.0 * (1.0 - self.new as f64 / new);
                offset + (at + 0.5) / self.scale - 0.5
            }
            Coordinates::AlignCorners if self.new == 1 => 0.0,
            Coordinates::AlignCorners => at * (old - 1.0) / (new - 1.0),
        }
    }

    /// For each neighbour: which old element, and how much it counts, of every new one.
    fn taps(&self, mode: Mode, coordinates: Coordinates) -> Vec<(Vec<i64>, Vec<f32>)> {
        let last = self.old as i64 - 1;
        let neighbours: std::ops::Range<i64> = match mode {
            Mode::Nearest(_) => 0..1,
            Mode::Linear => 0..2,
            Mode::Cubic { .. } => -1..3,
        };
        let mut taps: Vec<(Vec<i64>, Vec<f32>)> = neighbours.clone().map(|_| Default::default()).collect();
        for at in 0..self.new {
            let source = self.source(at, coordinates);
            let whole = match mode {
                Mode::Nearest(Rounding::PreferFloor) => (source - 0.5).ceil(),
                Mode::Nearest(Rounding::PreferCeil) => (source + 0.5).floor(),
                Mode::Nearest(Rounding::Ceil) => source.ceil(),
                _ => source.floor(),
            };
            let part = source - whole;
            let weight = |neighbour: i64| match mode {
                Mode::Nearest(_) => 1.0,
                Mode::Linear if neighbour == 0 => 1.0 - part,
                Mode::Linear => part,
                Mode::Cubic { a, .. } => keys(a, (part - neighbour as f64).abs()),
            };
            let place = |neighbour: i64| whole as i64 + neighbour;
            let outside =
                |neighbour: i64| matches!(mode, Mode::Cubic { exclude_outside: true, .. }) && !(0..=last).contains(&place(neighbour));
            let counts = |neighbour: i64| if outside(neighbour) { 0.0 } else { weight(neighbour) };
            let total: f64 = neighbours.clone().map(counts).sum();
            for (tap, neighbour) in taps.iter_mut().zip(neighbours.clone()) {
                tap.0.push(place(neighbour).clamp(0, last));
                tap.1.push((counts(neighbour) / total) as f32);
            }
        }
        taps
    }
}

/// The cubic convolution kernel.
///
/// # Source
/// Keys 1981, Cubic Convolution Interpolation for Digital Image Processing (IEEE ASSP), with its free parameter `a`.
fn keys(a: f64, x: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((x - 5.0) * x + 8.0) * x * a - 4.0 * a
    } else {
        0.0
    }
}

fn mode(node: &NodeView<'_>, old: bool) -> Result<Mode, Problem> {
    Ok(match node.text("mode", "nearest").as_str() {
        "linear" | "bilinear" => Mode::Linear,
        "cubic" => Mode::Cubic {
            a: f64::from(node.float("cubic_coeff_a").unwrap_or(-0.75)),
            exclude_outside: node.flag("exclude_outside"),
        },
        "nearest" if old => Mode::Nearest(Rounding::Floor),
        "nearest" => Mode::Nearest(match node.text("nearest_mode", "round_prefer_floor").as_str() {
            "round_prefer_floor" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return Err(refuse(format!("its `nearest_mode` is `{other}`"), "use another rounding")),
        }),
        other => return Err(refuse(format!("its mode is `{other}`"), "use nearest, linear or cubic")),
    })
}

fn coordinates(node: &NodeView<'_>, old: bool) -> Result<Coordinates, Problem> {
    let name = node.text("coordinate_transformation_mode", if old { "asymmetric" } else { "half_pixel" });
    Ok(match name.as_str() {
        "asymmetric" => Coordinates::Asymmetric,
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        other => {
            return Err(refuse(
                format!("its `coordinate_transformation_mode` is `{other}`"),
                "use asymmetric, half_pixel, pytorch_half_pixel or align_corners",
            ));
        }
    })
}

/// `scales` of the axes of `x`; input `i` or the attribute.
fn scales(node: &NodeView<'_>, i: usize) -> Result<Option<Vec<f32>>, Problem> {
    if let Some(crate::program::Value::Tensor(tensor)) = node.input(i) {
        let values = tensor.constant.as_deref().filter(|_| tensor.shape.len() == 1);
        let values = values.ok_or_else(|| refuse("its scales are not constants", "export the model with fixed scales or sizes"))?;
        return Ok((!values.is_empty()).then(|| values.to_vec()));
    }
    Ok(Some(node.float_list("scales").to_vec()).filter(|s| !s.is_empty()))
}

pub(super) fn resize(node: &NodeView<'_>) -> Result<Planned, Problem> {
    // Upsample, and Resize of opset 10, know two modes and one way to count.
    let old = node.op() == "Upsample" || node.opset < 11;
    node.knows(if old {
        &["mode", "scales"]
    } else {
        &[
            "antialias",
            "axes",
            "coordinate_transformation_mode",
            "cubic_coeff_a",
            "exclude_outside",
            "extrapolation_value",
            "keep_aspect_ratio_policy",
            "mode",
            "nearest_mode",
        ]
    })?;
    if node.flag("antialias") || node.text("keep_aspect_ratio_policy", "stretch") != "stretch" {
        return Err(refuse(
            "it smooths, or keeps the aspect ratio",
            "export the model without antialiasing, with sizes of all axes",
        ));
    }
    let x = node.tensor(0)?;
    let (mode, coordinates) = (mode(node, old)?, coordinates(node, old)?);
    let axes: Vec<usize> = match node.int_list("axes") {
        Some(axes) => axes.iter().map(|&a| node.axis(a, x.rank())).collect::<Result<_, _>>()?,
        None => (0..x.rank()).collect(),
    };
    let sizes = if old {
        None
    } else {
        node.optional_ints(3)?.filter(|s| !s.is_empty())
    };
    let factors = match sizes {
        Some(_) => Vec::new(),
        None => scales(node, if old { 1 } else { 2 })?.unwrap_or_default(),
    };
    if sizes.map_or(factors.len(), <[i64]>::len) != axes.len() {
        return Err(refuse(
            format!("its sizes or scales are not one for each of {} axes", axes.len()),
            "give one for each axis",
        ));
    }
    let mut scaled = Vec::new();
    for (i, &axis) in axes.iter().enumerate() {
        let old = x.shape[axis];
        let one = match sizes {
            Some(sizes) => usize::try_from(sizes[i]).ok().map(|new| Scaled {
                old,
                new,
                scale: new as f64 / old as f64,
            }),
            None => {
                let scale = f64::from(factors[i]);
                let new = (old as f64 * scale).floor();
                (scale > 0.0 && new < 1e9).then_some(Scaled {
                    old,
                    new: new as usize,
                    scale,
                })
            }
        };
        let one = one.ok_or_else(|| refuse("one of its sizes or scales is not a positive number", "correct it"))?;
        if one.new != old || one.scale != 1.0 {
            writable(one.new)?;
            scaled.push((axis, one));
        }
    }
    planned(x, &scaled, mode, coordinates)
}

fn planned(x: &Tensor, scaled: &[(usize, Scaled)], mode: Mode, coordinates: Coordinates) -> Result<Planned, Problem> {
    if scaled.is_empty() {
        return Planned::tensor(x);
    }
    let mut shape = x.shape.clone();
    for (axis, one) in scaled {
        shape[*axis] = one.new;
    }
    let mut inputs = vec![Source::from(x)];
    let mut kernel = Resize(Vec::new());
    for (axis, one) in scaled {
        let (lists, weights): (Vec<_>, Vec<_>) = one.taps(mode, coordinates).into_iter().unzip();
        inputs.extend(lists.into_iter().map(|list| Source::Host(Host::list(list))));
        kernel.0.push(Along {
            axis: *axis,
            weights: if matches!(mode, Mode::Nearest(_)) { Vec::new() } else { weights },
        });
    }
    Ok(Planned::Run {
        kernel: Kernel::Resize(kernel),
        inputs,
        outputs: vec![Output::float(shape)],
    })
}

impl Resize {
    pub(super) fn run<B: Backend>(&self, operands: &mut Operands<B>) -> FloatTensor<B> {
        let mut x = operands.next();
        for along in &self.0 {
            x = along.run::<B>(x, operands);
        }
        x
    }
}

impl Along {
    fn run<B: Backend>(&self, x: FloatTensor<B>, operands: &mut Operands<B>) -> FloatTensor<B> {
        if self.weights.is_empty() {
            return B::float_select(x, self.axis, operands.next_int());
        }
        let mut sum: Option<FloatTensor<B>> = None;
        for weights in &self.weights {
            let picked = B::float_select(x.clone(), self.axis, operands.next_int());
            let mut shape = vec![1; picked.shape().num_dims()];
            shape[self.axis] = weights.len();
            let weights = B::float_from_data(TensorData::new(weights.clone(), Shape::from(shape)), &picked.device());
            let term = B::float_mul(picked, weights);
            sum = Some(match sum {
                None => term,
                Some(sum) => B::float_add(sum, term),
            });
        }
        sum.expect("an axis that is not nearest has neighbours")
    }
}
