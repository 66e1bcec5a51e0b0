//! A QuantizeLinear with the DequantizeLinear behind it is one operation, where nothing else reads the integers.

use aimass_kernels::elementwise::Function;

use super::super::ops::quantize::FakeQuantize;
use super::{Fuser, Proto};
use crate::ops::Kernel;
use crate::program::{Slot, Step};

/// Most functions of one operation: places along an axis.
const MOST_PLACES: usize = 1 << 16;

impl Fuser<'_> {
    /// The operation, and the last step that it stands for.
    pub(super) fn fake_quantize(&mut self, i: usize) -> Option<(usize, Proto)> {
        let step = &self.program.steps[i];
        let Kernel::Quantize(quantize) = step.kernel else { return None };
        let (back, reader) = self.next(i)?;
        let x = step.inputs.first()?.slot;
        // A view between both may have moved the axis.
        let direct = reader.inputs.first()?.slot == (*step.outputs.first()?)?;
        let (scale, zero) = (self.floats_of(step, 1)?, self.floats_of(step, 2)?);
        let same = self.floats_of(reader, 1)? == scale && self.floats_of(reader, 2)? == zero;
        if !matches!(reader.kernel, Kernel::Dequantize) || !direct || !same || scale.1.len() > MOST_PLACES {
            return None;
        }
        let axis = scale.0.iter().position(|&d| d != 1);
        // Blocks have scales along several axes.
        if axis.is_some_and(|axis| scale.0[axis + 1..].iter().any(|&d| d != 1)) {
            return None;
        }
        let inner = axis.map_or(1, |axis| self.shape(x)[axis + 1..].iter().product());
        let each = scale.1.iter().zip(zero.1);
        let functions = each.map(|(&scale, &zero)| Function::FakeQuantize {
            scale,
            zero,
            least: quantize.least,
            most: quantize.most,
        });
        let op = FakeQuantize {
            functions: functions.collect(),
            inner,
        };
        self.take(back);
        Some((back, self.proto(back, [x], op)))
    }

    /// The shape and the values of an operand that is a constant of the program.
    pub(super) fn floats_of(&self, step: &Step, operand: usize) -> Option<(&[usize], &[f32])> {
        let slot: Slot = step.inputs.get(operand)?.slot;
        let constant = self.program.constants.iter().find(|constant| constant.slot == slot)?;
        Some((constant.array.shape(), constant.array.as_floats()?))
    }
}
