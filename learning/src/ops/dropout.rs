//! Dropout.

use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, TensorData, TensorMetadata};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng;

use super::{DeviceTensor, Kernel};
use crate::program::{Element, Host, Mode, NodeView, Output, Planned, Problem, Value, refuse};

/// Inverted dropout: what stays is divided by the share that stays.
///
/// # Source
/// Srivastava et al. 2014, Dropout (JMLR 15), scaled while training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Dropout {
    /// Share that is dropped, 0 to less than 1.
    ratio: f32,
    /// What the second output, the mask of what stays, is made of.
    mask: Option<Element>,
}

/// Applies while training where the file says so: `training_mode` true (opset 12 and later), always in older opsets.
pub(super) fn dropout(node: &NodeView<'_>) -> Result<Planned, Problem> {
    node.knows(&["ratio", "seed", "is_test", "consumed_inputs"])?;
    let x = node.tensor(0)?;
    let on_in_file = if node.opset >= 12 {
        node.optional_int(2)?.unwrap_or(0) != 0
    } else {
        !node.flag("is_test")
    };
    let ratio = match node.optional_tensor(1)? {
        None => node.float("ratio").unwrap_or(0.5),
        Some(tensor) => tensor
            .scalar()
            .ok_or_else(|| refuse("its ratio is not a constant", "make it one number"))?,
    };
    if !(0.0..1.0).contains(&ratio) {
        return Err(refuse(format!("its ratio is {ratio}"), "use a ratio from 0 to less than 1"));
    }
    // Before opset 10 the mask is of the input's type.
    let of_mask = if node.opset < 10 { Element::Float } else { Element::Bool };
    let mask = node.names_output(1).then_some(of_mask);
    if node.mode != Mode::Inference && on_in_file && ratio > 0.0 {
        let mut outputs = vec![Output::float(x.shape.clone())];
        outputs.extend(mask.map(|element| Output {
            element,
            shape: x.shape.clone(),
        }));
        return Ok(Planned::Run {
            kernel: Kernel::Dropout(Dropout { ratio, mask }),
            inputs: vec![x.into()],
            outputs,
        });
    }
    // A mask that is not made is missed by who reads it, by name.
    let all = mask.filter(|element| *element == Element::Bool).and_then(|element| {
        Host::new(element, x.shape.clone(), None).ok()?;
        Host::new(element, x.shape.clone(), Some(vec![1; x.n_elements()])).ok()
    });
    let values = std::iter::once(Value::Tensor(x.clone())).chain(all.map(Value::Host));
    Ok(Planned::Values(values.collect()))
}

impl Dropout {
    pub(super) fn run<B: Backend>(self, x: FloatTensor<B>, noise: &mut ChaCha20Rng) -> Vec<DeviceTensor<B>> {
        let (shape, device) = (x.shape(), x.device());
        let dropped_below = (f64::from(self.ratio) * f64::from(u32::MAX)) as u32;
        let scale = 1.0 / (1.0 - self.ratio);
        let stays: Vec<bool> = (0..shape.num_elements()).map(|_| noise.next_u32() >= dropped_below).collect();
        let of_stay = |value: f32| {
            let values: Vec<f32> = stays.iter().map(|&stays| if stays { value } else { 0.0 }).collect();
            B::float_from_data(TensorData::new(values, shape.clone()), &device)
        };
        let mut outputs = vec![DeviceTensor::Float(B::float_mul(x, of_stay(scale)))];
        match self.mask {
            None => {}
            Some(Element::Float) => outputs.push(DeviceTensor::Float(of_stay(1.0))),
            Some(_) => outputs.push(DeviceTensor::Bool(B::bool_from_data(
                TensorData::new(stays, shape.clone()),
                &device,
            ))),
        }
        outputs
    }
}

#[cfg(test)]
mod tests;
