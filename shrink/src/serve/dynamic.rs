//! DynamicQuantizeLinear.

use aimass_onnx::proto::{AttributeProto, DataType, NodeProto};

use super::ServeError;
use super::writer::{Twin, Writer, Zero};
use crate::parts::{IntType, node as plain, with};

impl Writer<'_> {
    /// `scale = (max(x, 0) - min(x, 0)) / 255`, 1 where that is 0; `zero point = round(-min / scale)`; `y` as QuantizeLinear has it.
    ///
    /// # Source
    /// onnxruntime's `GetQuantizationParameter` (`core/util/qmath.h`), which the operator's definition agrees with but for a tensor of
    /// zeros, of which the definition says nothing.
    pub(super) fn dynamic_quantize(&mut self, node: &NodeProto) -> Result<(), ServeError> {
        let [y, scale, zero] = &node.output[..] else {
            return Err(ServeError::parameter(node, "it has not three outputs"));
        };
        let x = node.input_name(0).ok_or_else(|| ServeError::parameter(node, "it has no input"))?;
        let hint = |part: &str| format!("{y}/{part}");
        let none = self.float(&hint("none"), &[], &[0.0]);
        let extreme = |writer: &mut Self, reduce: &str, op: &str| {
            let name = writer.names.fresh(&hint(reduce));
            writer
                .nodes
                .push(with(plain(reduce, &[x], &name), vec![AttributeProto::int("keepdims", 0)]));
            writer.emit(op, &[&name, &none], &hint(op))
        };
        let (low, high) = (extreme(self, "ReduceMin", "Min"), extreme(self, "ReduceMax", "Max"));
        let range = self.emit("Sub", &[&high, &low], &hint("range"));
        let levels = self.double(&hint("levels"), &[], &[255.0]);
        let wide = self.cast(&range, DataType::Double, &hint("range_wide"));
        let step = self.emit("Div", &[&wide, &levels], &hint("step"));
        let step = self.cast(&step, DataType::Float, &hint("step_narrow"));
        let flat = self.emit("Equal", &[&range, &none], &hint("flat"));
        let one = self.float(&hint("one"), &[], &[1.0]);
        let scale_name = if scale.is_empty() {
            self.names.fresh(&hint("scale"))
        } else {
            scale.clone()
        };
        self.give("Where", &[&flat, &one, &step], &scale_name);
        let scale64 = self.cast(&scale_name, DataType::Double, &hint("scale_wide"));

        let low64 = self.cast(&low, DataType::Double, &hint("low_wide"));
        let first = self.emit("Div", &[&low64, &scale64], &hint("first"));
        let first = self.cast(&first, DataType::Float, &hint("first_narrow"));
        let first = self.emit("Neg", &[&first], &hint("first_negated"));
        let first = self.clip(&first, 0.0, 255.0, &hint("first"));
        let zero_float = self.emit("Round", &[&first], &hint("zero_float"));

        let steps = self.steps(x, &scale64, y);
        let moved = self.emit("Add", &[&steps, &zero_float], &hint("moved"));
        let whole = self.clip(&moved, 0.0, 255.0, y);
        if !zero.is_empty() {
            self.computed.insert(zero.clone(), zero_float.clone());
            self.integer(zero, zero_float, 0, IntType::U8);
        }
        if !y.is_empty() {
            self.integer(y, whole.clone(), 0, IntType::U8);
            let twin = Twin {
                centred: whole,
                zero: Zero::Known(0),
                kind: Some(IntType::U8),
            };
            self.twins.insert(y.clone(), twin);
        }
        Ok(())
    }
}
