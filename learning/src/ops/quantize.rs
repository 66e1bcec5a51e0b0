//! From floats to integers of few bits and back (QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear), as ONNX defines them and
//! onnxruntime computes them.
//!
//! Scales and zero points are constants, so that each can be checked before anything runs. A quantized tensor lies on the device as floats that
//! are whole, so a chain of floats, QuantizeLinear and DequantizeLinear trains: see [`Quantize::run_tracked`].

mod parameters;

use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn_backend::tensor::{BoolTensor, FloatTensor};
use burn_backend::{Backend, Shape, TensorMetadata, get_or_init_device_settings};

use super::select::source;
use super::{DeviceTensor, Kernel, Operands};
use crate::program::{Element, Integers, NodeView, Output, Planned, Problem, Value, refuse};

use parameters::Parameters;
pub(super) use parameters::{Named, scales};

/// `saturate(round(x / scale) + zero)`, halves to the even neighbour. Operands: x, scale, zero.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quantize {
    /// What is saturated to.
    pub(crate) least: f32,
    pub(crate) most: f32,
}

/// What the attributes `output_dtype` and `precision` may be: nothing, or float32.
fn in_float32(node: &NodeView<'_>, attribute: &str) -> Result<(), Problem> {
    match node.int(attribute, 0) {
        0 | 1 => Ok(()),
        other => Err(refuse(
            format!("its `{attribute}` is the element type {other}"),
            "this version computes in float32 alone; leave the attribute out",
        )),
    }
}

/// The type that a node quantizes to: its zero point's, or what `output_dtype` says, or uint8.
fn target(node: &NodeView<'_>) -> Result<Integers, Problem> {
    let number = node.int("output_dtype", 0);
    let said = i32::try_from(number).ok().and_then(Integers::of_number);
    if number != 0 && said.is_none() {
        return Err(refuse(
            format!("its `output_dtype` is the element type {number}"),
            "use int8, uint8, int16, uint16, int4 or uint4",
        ));
    }
    match node.input(2).map(Value::element) {
        None => Ok(said.unwrap_or(Integers::U8)),
        Some(Element::Quantized(integers)) if said.is_none_or(|said| said == integers) => Ok(integers),
        Some(other) => Err(refuse(
            format!("its zero point is made of {other}"),
            "store it as int8, uint8, int16, uint16, int4 or uint4, as `output_dtype` says where it is there",
        )),
    }
}

pub(super) fn quantize(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["axis", "saturate", "block_size", "output_dtype", "precision"])?;
    in_float32(node, "precision")?;
    let x = node.tensor(0)?;
    let element = Element::Quantized(target(node)?);
    let parameters = Parameters::new(node, &x.shape, element)?;
    let [scale, zero] = parameters.sources();
    Ok(Planned::Run {
        kernel: Kernel::Quantize(Quantize::to(target(node)?)),
        inputs: vec![x.into(), scale, zero],
        outputs: vec![Output {
            element,
            shape: x.shape.clone(),
        }],
    })
}

/// What is dequantized, with its scales and zero points.
pub(crate) fn dequantized<'a>(node: &NodeView<'a>) -> Result<(&'a Value, Parameters), Problem> {
    node.knows(&["axis", "block_size", "output_dtype"])?;
    in_float32(node, "output_dtype")?;
    let x = node.required(0)?;
    if !matches!(x.element(), Element::Quantized(_) | Element::Int) || x.shape().contains(&0) {
        return Err(refuse(
            format!("its input 0 is made of {}, of the shape {:?}", x.element(), x.shape()),
            "it takes quantized integers",
        ));
    }
    Ok((x, Parameters::new(node, x.shape(), x.element())?))
}

pub(super) fn dequantize(node: &NodeView<'_>) -> Result<Planned, Problem> {
    let (x, parameters) = dequantized(node)?;
    let [scale, zero] = parameters.sources();
    Ok(Planned::Run {
        kernel: Kernel::Dequantize,
        inputs: vec![source(x), scale, zero],
        outputs: vec![Output::float(x.shape().to_vec())],
    })
}

/// `(x - zero) scale`
pub(super) fn run_dequantize<B: Backend>(operands: &mut Operands<B>) -> FloatTensor<B> {
    let (x, scale, zero) = (operands.next_as_float(), operands.next(), operands.next());
    B::float_mul(B::float_sub(x, zero), scale)
}

pub(super) fn dynamic_quantize(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&[])?;
    let x = node.tensor(0)?;
    let output = |element, shape| Output { element, shape };
    let bytes = Element::Quantized(Integers::U8);
    Ok(Planned::Run {
        kernel: Kernel::DynamicQuantize,
        inputs: vec![x.into()],
        outputs: vec![
            output(bytes, x.shape.clone()),
            output(Element::Float, Vec::new()),
            output(bytes, Vec::new()),
        ],
    })
}

/// To uint8 by the range of the values themselves, widened to hold 0. Quantized values, their scale, their zero point. A tensor of zeros has the
/// scale 1, as onnxruntime has it.
pub(super) fn run_dynamic<B: Backend>(x: FloatTensor<B>) -> Vec<DeviceTensor<B>> {
    let bytes = Quantize::to(Integers::U8);
    let x = B::float_detach(x);
    let dtype = get_or_init_device_settings::<B>(&x.device()).bool_dtype;
    let one = |value: FloatTensor<B>| B::float_reshape(value, Shape::new([1]));
    let most = B::float_clamp_min(one(B::float_max(x.clone())), 0.0f32.into());
    let least = B::float_clamp_max(one(B::float_min(x.clone())), 0.0f32.into());
    let scale = B::float_div_scalar(B::float_sub(most, least.clone()), bytes.most.into());
    let nothing = B::float_equal_elem(scale.clone(), 0.0f32.into(), dtype);
    let scale = B::float_mask_fill(scale, nothing, 1.0f32.into());
    let zero = B::float_neg(B::float_div(least, scale.clone()));
    let zero = B::float_round(B::float_clamp(zero, bytes.least.into(), bytes.most.into()));
    let raised = |value: &FloatTensor<B>| B::float_reshape(value.clone(), Shape::from(vec![1; x.shape().num_dims()]));
    let y = bytes.run::<B>(x.clone(), raised(&scale), raised(&zero));
    [y, scale, zero].into_iter().map(DeviceTensor::Float).collect()
}

impl Quantize {
    pub(super) fn to(integers: Integers) -> Self {
        let (least, most) = integers.range();
        Self { least, most }
    }

    /// Before and after saturation.
    fn both<B: Backend>(self, x: FloatTensor<B>, scale: FloatTensor<B>, zero: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
        self.rounded::<B>(B::float_div(x, scale), zero)
    }

    /// `saturate(round(x) + zero)`, before and after saturation. What is no number becomes the least.
    pub(super) fn rounded<B: Backend>(self, x: FloatTensor<B>, zero: FloatTensor<B>) -> (FloatTensor<B>, FloatTensor<B>) {
        // A zero that is added makes -0 a 0.
        let wide = B::float_add(B::float_round(x), zero);
        let dtype = get_or_init_device_settings::<B>(&wide.device()).bool_dtype;
        let none = B::float_is_nan(wide.clone(), dtype);
        let narrow = B::float_clamp(wide.clone(), self.least.into(), self.most.into());
        (wide, B::float_mask_fill(narrow, none, self.least.into()))
    }

    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>, scale: FloatTensor<B>, zero: FloatTensor<B>) -> FloatTensor<B> {
        self.both::<B>(x, scale, zero).1
    }

    /// The same to be differentiated, with the straight-through estimator: as if nothing were rounded, and nothing passes where the value is
    /// saturated. With the scale that DequantizeLinear multiplies by, the gradient passes a chain of both as it is or not at all.
    ///
    /// # Source
    /// Jacob et al. 2018 (CVPR), section 3; Bengio et al. 2013, section 4 (the estimator); `torch.fake_quantize_per_tensor_affine`.
    pub(super) fn run_tracked<B: Backend>(self, operands: &mut Operands<Autodiff<B>>) -> FloatTensor<Autodiff<B>> {
        let (x, scale, zero) = (operands.next(), operands.next(), operands.next());
        let node = x.node();
        let (x, scale) = (x.into_primitive(), scale.into_primitive());
        let (wide, narrow) = self.both::<B>(x, scale.clone(), zero.into_primitive());
        let dtype = get_or_init_device_settings::<B>(&wide.device()).bool_dtype;
        match Backward::<B, 1>::prepare::<NoCheckpointing>(StraightThrough, [node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let outside = B::float_not_equal(wide, narrow.clone(), dtype);
                prep.finish((outside, scale), narrow)
            }
            OpsKind::UnTracked(prep) => prep.finish(narrow),
        }
    }
}

#[derive(Debug)]
struct StraightThrough;

impl<B: Backend> Backward<B, 1> for StraightThrough {
    /// Where the value was saturated, and the scale.
    type State = (BoolTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let (outside, scale) = ops.state;
        unary::<B, _>(ops.parents, ops.node, gradients, |gradient| {
            B::float_mask_fill(B::float_div(gradient, scale), outside, 0.0f32.into())
        });
    }
}
