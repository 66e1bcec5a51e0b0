//! Scales and zero points, checked.

use aimass_onnx::ElementType;
use aimass_onnx::proto::NodeProto;

use super::ServeError;
use super::constants::Constants;
use crate::parts::{IntType, Ints};

/// Scale and zero point of a value: one, or one an entry of an axis, or one a block.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Params {
    /// All positive and finite.
    pub(super) scales: Vec<f32>,
    pub(super) shape: Vec<usize>,
    /// As many as scales; zeros where the node has none.
    pub(super) zeros: Vec<i32>,
    /// The zero point's type.
    pub(super) kind: Option<IntType>,
}

impl Params {
    /// Scale and zero point that are inputs `scale` and `zero_point` of a node.
    pub(super) fn read(node: &NodeProto, scale: usize, zero_point: usize, constants: &Constants<'_>) -> Result<Self, ServeError> {
        let (shape, scales) = read_scales(node, scale, constants)?;
        if let Some(at) = scales.iter().position(|scale| !(scale.is_finite() && *scale > 0.0)) {
            let problem = format!("scale {at} is {}, not a positive number", scales[at]);
            return Err(ServeError::parameter(node, problem));
        }
        let mut params = Self {
            zeros: vec![0; scales.len()],
            scales,
            shape,
            kind: None,
        };
        if let Some(zeros) = read_zeros(node, zero_point, constants)? {
            if zeros.values.len() != params.scales.len() || zeros.shape.len().max(1) != params.shape.len().max(1) {
                let problem = format!("{} zero points for {} scales", zeros.values.len(), params.scales.len());
                return Err(ServeError::parameter(node, problem));
            }
            params.kind = Some(zeros.kind);
            params.zeros = zeros.values;
        }
        Ok(params)
    }

    /// One scale and zero point for the whole tensor.
    pub(super) fn of_tensor(
        node: &NodeProto,
        scale: usize,
        zero_point: usize,
        constants: &Constants<'_>,
    ) -> Result<(f32, i32, IntType), ServeError> {
        let params = Self::read(node, scale, zero_point, constants)?;
        match (&params.scales[..], &params.zeros[..]) {
            (&[scale], &[zero]) => Ok((scale, zero, params.kind.unwrap_or(IntType::U8))),
            _ => Err(ServeError::parameter(
                node,
                format!("{} scales where it takes one", params.scales.len()),
            )),
        }
    }

    /// Whether there is one for the whole tensor.
    pub(super) fn is_one(&self) -> bool {
        self.scales.len() == 1 && self.shape.len() <= 1
    }
}

fn read_scales(node: &NodeProto, input: usize, constants: &Constants<'_>) -> Result<(Vec<usize>, Vec<f32>), ServeError> {
    let name = node
        .input_name(input)
        .ok_or_else(|| ServeError::parameter(node, "its scale is missing"))?;
    let tensor = constants.tensor(name).ok_or_else(|| ServeError::computed(node, "scale", name))?;
    match tensor.to_f32() {
        Some(scales) if !scales.is_empty() => Ok((tensor.shape, scales)),
        Some(_) => Err(ServeError::parameter(node, "its scale is empty")),
        None if tensor.element == ElementType::Other(10) || tensor.element == ElementType::Other(16) => {
            let reason = format!("its scale is {}; export the model in float32", tensor.element);
            Err(ServeError::unsupported(node, reason))
        }
        None => Err(ServeError::parameter(node, format!("its scale is {}, not float32", tensor.element))),
    }
}

fn read_zeros(node: &NodeProto, input: usize, constants: &Constants<'_>) -> Result<Option<Ints>, ServeError> {
    let Some(name) = node.input_name(input) else { return Ok(None) };
    if let Some(ints) = constants.ints(name) {
        return Ok(Some(ints));
    }
    let tensor = constants
        .tensor(name)
        .ok_or_else(|| ServeError::computed(node, "zero point", name))?;
    if IntType::from_number(tensor.proto.data_type).is_some() {
        return Err(ServeError::parameter(node, "a zero point is not in the range of its type"));
    }
    let reason = format!("its zero point is {}; quantize to int8 or uint8", tensor.element);
    Err(ServeError::unsupported(node, reason))
}
