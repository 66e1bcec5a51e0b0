//! Scales and zero points, each checked before anything runs.

use std::sync::Arc;

use crate::program::host::broadcast_values;
use crate::program::{Dequantized, Element, NodeView, Problem, Source, Value, refuse};

/// Scales and zero points of a tensor: one, one a channel, or one a block.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Parameters {
    /// Of the tensor's rank, to be broadcast with it; a scalar's is `[1]`.
    pub(crate) shape: Vec<usize>,
    pub(crate) scales: Arc<[f32]>,
    pub(crate) zeros: Arc<[f32]>,
}

/// Which inputs hold scale and zero point, and what they are called.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Named {
    pub(in super::super) scale: usize,
    pub(in super::super) zero: usize,
    pub(in super::super) of: &'static str,
}

const OF_X: Named = Named { scale: 1, zero: 2, of: "" };

/// The scales of a node: constants that are finite and above 0.
pub(in super::super) fn scales<'a>(node: &NodeView<'a>, named: Named) -> Result<(&'a [usize], Arc<[f32]>), Problem> {
    let Named { scale: i, of, .. } = named;
    let Value::Tensor(tensor) = node.required(i)? else {
        return Err(refuse(
            format!("its {of}scale (input {i}) is made of integers"),
            "store it in float32",
        ));
    };
    if tensor.element != Element::Float {
        return Err(refuse(
            format!("its {of}scale (input {i}) is made of {}", tensor.element),
            "store it in float32",
        ));
    }
    let Some(values) = &tensor.constant else {
        return Err(refuse(
            format!("its {of}scale (input {i}) is not a constant, so that nothing vouches for it"),
            "store it in the model as an initializer that does not train",
        ));
    };
    if let Some(at) = values.iter().position(|scale| !scale.is_finite() || *scale <= 0.0) {
        return Err(refuse(
            format!("its {of}scale (input {i}) is {} at {at}", values[at]),
            "scales are finite and above 0; calibrate the model again",
        ));
    }
    Ok((&tensor.shape, values.clone()))
}

/// The zero points of a node, which have the type of what they go with and the shape of its scales; 0 where they are left out.
fn zeros(node: &NodeView<'_>, named: Named, element: Element, scale: &[usize], len: usize) -> Result<Arc<[f32]>, Problem> {
    let Named { zero: i, of, .. } = named;
    let Some(value) = node.input(i) else {
        return Ok(vec![0.0; len].into());
    };
    if value.element() != element {
        return Err(refuse(
            format!(
                "its {of}zero point (input {i}) is made of {}, it goes with {element}",
                value.element()
            ),
            "store both in one type",
        ));
    }
    let count: usize = value.shape().iter().product();
    if value.shape() != scale && (count, len) != (1, 1) {
        return Err(refuse(
            format!(
                "its {of}zero point (input {i}) has the shape {:?}, its scale {scale:?}",
                value.shape()
            ),
            "store a zero point for each scale",
        ));
    }
    match value {
        Value::Tensor(tensor) => tensor.constant.clone().ok_or_else(|| {
            refuse(
                format!("its {of}zero point (input {i}) is not a constant"),
                "store it in the model as an initializer",
            )
        }),
        Value::Host(host) => match host.values.as_deref() {
            Some(values) if values.iter().all(|&v| v == 0) => Ok(vec![0.0; len].into()),
            _ => Err(refuse(
                format!("its {of}zero point (input {i}) of int32 is not a constant 0"),
                "int32 is quantized without one",
            )),
        },
    }
}

impl Parameters {
    /// Of a node whose first input has this shape, and is quantized (or to be quantized) to `element`.
    pub(super) fn new(node: &NodeView<'_>, x: &[usize], element: Element) -> Result<Self, Problem> {
        let (scale, scales) = scales(node, OF_X)?;
        let zeros = zeros(node, OF_X, element, scale, scales.len())?;
        let block = node.int("block_size", 0);
        if block != 0 {
            return Self::blocked(node, x, scale, (scales, zeros), block);
        }
        let mut shape = vec![1; x.len().max(1)];
        match scale {
            [] | [1] => {}
            &[n] if node.opset >= 13 => {
                let axis = node.axis(node.int("axis", 1), x.len())?;
                if x[axis] != n {
                    return Err(refuse(
                        format!("it has {n} scales for the axis {axis} of {x:?}"),
                        "store one for each place along the axis",
                    ));
                }
                shape[axis] = n;
            }
            _ => {
                return Err(refuse(
                    format!("its scale has the shape {scale:?}"),
                    "store one for the tensor, or since opset 13 a list with one for each place along an axis",
                ));
            }
        }
        Ok(Self { shape, scales, zeros })
    }

    /// Each scale goes with `block` places along the axis; there may be fewer for the last.
    fn blocked(node: &NodeView<'_>, x: &[usize], scale: &[usize], values: (Arc<[f32]>, Arc<[f32]>), block: i64) -> Result<Self, Problem> {
        let axis = node.axis(node.int("axis", 1), x.len())?;
        let len = x[axis];
        let size = usize::try_from(block).ok().filter(|&block| block > 0);
        let fits = |size: usize| {
            let others = scale.len() == x.len() && (0..x.len()).all(|d| d == axis || scale[d] == x[d]);
            others && scale[axis] == len.div_ceil(size)
        };
        let Some(size) = size.filter(|&size| fits(size)) else {
            return Err(refuse(
                format!("its scale has the shape {scale:?} for blocks of {block} along the axis {axis} of {x:?}"),
                "store one for each block",
            ));
        };
        let inner: usize = x[axis + 1..].iter().product();
        let blocks = scale[axis];
        let spread = |values: &[f32]| -> Arc<[f32]> {
            let n = x.iter().product();
            let of = |at: usize| {
                let (outer, along, inside) = (at / (inner * len), at / inner % len, at % inner);
                values[(outer * blocks + along / size) * inner + inside]
            };
            (0..n).map(of).collect()
        };
        Ok(Self {
            shape: x.to_vec(),
            scales: spread(&values.0),
            zeros: spread(&values.1),
        })
    }

    pub(super) fn sources(&self) -> [Source; 2] {
        [&self.scales, &self.zeros].map(|values| Source::Floats {
            shape: self.shape.clone(),
            values: values.clone(),
        })
    }

    /// `x - zero` with the scales, for a tensor of the shape `x`.
    pub(crate) fn differences(&self, values: &[f32], x: &[usize]) -> Option<Dequantized> {
        let zeros = broadcast_values(&self.zeros, &self.shape, if x.is_empty() { &[1][..] } else { x });
        let each: Vec<f32> = values.iter().zip(zeros).map(|(x, zero)| x - zero).collect();
        Dequantized::new(&each, x, &self.shape, &self.scales)
    }

    /// `(x - zero) scale`, for a tensor of the shape `x`.
    pub(crate) fn dequantized(&self, values: &[f32], x: &[usize]) -> Vec<f32> {
        let shape = if x.is_empty() { &[1][..] } else { x };
        let read = |of: &[f32]| broadcast_values(of, &self.shape, shape);
        let both = read(&self.scales).into_iter().zip(read(&self.zeros));
        values.iter().zip(both).map(|(x, (scale, zero))| (x - zero) * scale).collect()
    }
}
