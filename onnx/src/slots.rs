//! Which inputs of ONNX's operators are weights.

use std::collections::BTreeMap;

use crate::ParamKind;
use crate::proto::{GraphProto, NodeProto};

/// What each value that is used in a slot is to training, by name. Values that are not in it train only when a rule says so.
///
/// A value reached through operators that only rename or rearrange (Identity, Transpose, Reshape, Squeeze, Unsqueeze, Flatten), or that
/// quantize and dequantize, counts as the value itself, and one that is put together of parts (Slice, Split, Concat, Expand) of nothing but initializers counts as
/// all of them, as exporters reorder the gates of LSTM and GRU where they do not fold constants. One that is used as a running statistic anywhere is a buffer; else one weight slot makes a weight.
///
/// Besides the operators' slots: an Add's operand directly after a product is its bias, and where a normalization is made of its parts
/// (a division by a square root, or an InstanceNormalization), the initializers that it is multiplied with and that are then added are
/// its scale and bias, as exporters write LayerNormalization, RMSNormalization and GroupNormalization for older opsets.
pub(crate) fn kinds(graph: &GraphProto) -> BTreeMap<&str, ParamKind> {
    let mut walk = Walk {
        initializers: graph.initializer.iter().map(|t| (t.name.as_str(), t.dims.as_slice())).collect(),
        ..Walk::default()
    };
    graph.node.iter().for_each(|node| walk.visit(node));
    walk.finish()
}

/// What a value was computed by, as far as it matters for the operands that come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Given {
    /// A product with a weight: an Add's operand is its bias.
    Layer,
    /// A product of computed values: an Add's operand is a bias unless it is as large as a matrix, like an attention mask.
    Product,
    /// A square root.
    Root,
    /// A quotient by a square root, by whatever way. `usize`: which instance normalization, where it is one.
    Normalized(Option<usize>),
    /// The same, multiplied with a scale.
    Scaled,
}

/// An InstanceNormalization: its output, scale and bias.
struct InstanceNorm<'a> {
    operands: [Option<&'a str>; 2],
    /// It is a part of a group normalization, which has scale and bias of its own; these are ones and zeros.
    grouped: bool,
}

/// Nodes are in order, so each value's source is known when its user comes.
#[derive(Default)]
struct Walk<'a> {
    /// Shapes by name.
    initializers: BTreeMap<&'a str, &'a [i64]>,
    /// What a rearranged value is a rearrangement of.
    source: BTreeMap<&'a str, &'a str>,
    /// The initializers that a value is put together of.
    parts: BTreeMap<&'a str, Vec<&'a str>>,
    given: BTreeMap<&'a str, Given>,
    instance_norms: Vec<InstanceNorm<'a>>,
    kinds: BTreeMap<&'a str, ParamKind>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, node: &'a NodeProto) {
        let Some(op) = node.standard_op() else { return };
        for &(index, kind) in slots(op) {
            for name in self.parts_of(node, index) {
                self.mark(name, kind);
            }
        }
        self.put_together(node, op);
        let (first, second) = (self.origin(node, 0), self.origin(node, 1));
        let Some(output) = node.output.first() else { return };
        if let Some(name) = first.filter(|_| rearranges(op)) {
            self.source.insert(output, name);
            return;
        }
        let given = |name: Option<&str>| name.and_then(|name| self.given.get(name).copied());
        let is_weight = |name: Option<&str>| name.is_some_and(|name| self.initializers.contains_key(name));
        let found = match op {
            "Conv" | "ConvTranspose" | "Gemm" => Some(Given::Layer),
            "MatMul" | "Einsum" if is_weight(first) || is_weight(second) => Some(Given::Layer),
            "MatMul" | "Einsum" => Some(Given::Product),
            "Sqrt" => Some(Given::Root),
            "Reciprocal" if given(first) == Some(Given::Root) => Some(Given::Normalized(None)),
            "Div" if given(second) == Some(Given::Root) => Some(Given::Normalized(None)),
            "InstanceNormalization" => {
                self.instance_norms.push(InstanceNorm {
                    operands: [second, self.origin(node, 2)],
                    grouped: false,
                });
                Some(Given::Normalized(Some(self.instance_norms.len() - 1)))
            }
            "Mul" => self.scale(node, [first, second]),
            "Add" => {
                self.bias([first, second]);
                None
            }
            _ => None,
        };
        if let Some(found) = found {
            self.given.insert(output, found);
        }
    }

    /// A product with something normalized: by its scale, or what normalizes it.
    fn scale(&mut self, node: &NodeProto, operands: [Option<&'a str>; 2]) -> Option<Given> {
        for (index, other) in [(0, 1), (1, 0)] {
            let (Some(value), Some(factor)) = (operands[index], operands[other]) else {
                continue;
            };
            let Some(&Given::Normalized(instance)) = self.given.get(value) else {
                continue;
            };
            let Some(dims) = self.initializers.get(factor) else {
                return Some(Given::Normalized(None));
            };
            if long_axes(dims) == 0 {
                continue;
            }
            self.mark(factor, ParamKind::Weight);
            // Groups were made by a Reshape, and unmade by another one after it.
            let rearranged = node.input_name(index) != Some(value);
            if let Some(norm) = instance.filter(|_| rearranged).and_then(|at| self.instance_norms.get_mut(at)) {
                norm.grouped = true;
            }
            return Some(Given::Scaled);
        }
        None
    }

    fn bias(&mut self, operands: [Option<&'a str>; 2]) {
        for (index, other) in [(0, 1), (1, 0)] {
            let (Some(bias), Some(value)) = (operands[index], operands[other]) else {
                continue;
            };
            let dims = self.initializers.get(bias);
            let is_bias = match self.given.get(value) {
                Some(Given::Layer) => true,
                Some(Given::Product) => dims.is_none_or(|dims| long_axes(dims) <= 1),
                Some(Given::Scaled) => dims.is_some_and(|dims| long_axes(dims) > 0),
                Some(Given::Normalized(_) | Given::Root) | None => false,
            };
            if is_bias {
                self.mark(bias, ParamKind::Weight);
            }
        }
    }

    fn finish(mut self) -> BTreeMap<&'a str, ParamKind> {
        for norm in std::mem::take(&mut self.instance_norms).into_iter().filter(|norm| !norm.grouped) {
            for name in norm.operands.into_iter().flatten() {
                self.mark(name, ParamKind::Weight);
            }
        }
        self.kinds
    }

    /// What input `index` of a node was before it was rearranged, sliced and joined.
    fn parts_of(&self, node: &'a NodeProto, index: usize) -> Vec<&'a str> {
        let Some(name) = self.origin(node, index) else { return Vec::new() };
        self.parts.get(name).cloned().unwrap_or_else(|| vec![name])
    }

    /// Notes what the outputs of a node that takes apart or joins are made of.
    fn put_together(&mut self, node: &'a NodeProto, op: &str) {
        let inputs = match op {
            "Slice" | "Split" | "Expand" => 0..1,
            "Concat" => 0..node.input.len(),
            _ => return,
        };
        let mut parts: Vec<&str> = inputs.flat_map(|index| self.parts_of(node, index)).collect();
        parts.sort_unstable();
        parts.dedup();
        if !parts.is_empty() && parts.iter().all(|name| self.initializers.contains_key(name)) {
            for output in &node.output {
                self.parts.insert(output, parts.clone());
            }
        }
    }

    /// Input `index` of a node before it was rearranged.
    fn origin(&self, node: &'a NodeProto, index: usize) -> Option<&'a str> {
        let name = node.input_name(index)?;
        Some(self.source.get(name).copied().unwrap_or(name))
    }

    fn mark(&mut self, name: &'a str, kind: ParamKind) {
        let known = self.kinds.entry(name).or_insert(kind);
        if kind == ParamKind::Buffer {
            *known = kind;
        }
    }
}

/// Weight and buffer slots of an operator, but those of InstanceNormalization, which may be a part of another one. Source: the
/// operators' definitions in ONNX's `docs/Operators.md`.
fn slots(op: &str) -> &'static [(usize, ParamKind)] {
    use ParamKind::{Buffer, Weight};
    match op {
        "Conv" | "ConvTranspose" => &[(1, Weight), (2, Weight)],
        "Gemm" => &[(0, Weight), (1, Weight), (2, Weight)],
        "MatMul" => &[(0, Weight), (1, Weight)],
        // X, W, R, B, sequence_lens, initial_h, initial_c, P
        "LSTM" => &[(1, Weight), (2, Weight), (3, Weight), (7, Weight)],
        "GRU" | "RNN" => &[(1, Weight), (2, Weight), (3, Weight)],
        "Gather" => &[(0, Weight)],
        "BatchNormalization" => &[(1, Weight), (2, Weight), (3, Buffer), (4, Buffer)],
        "LayerNormalization" | "GroupNormalization" => &[(1, Weight), (2, Weight)],
        "RMSNormalization" | "PRelu" => &[(1, Weight)],
        _ => &[],
    }
}

/// Axes longer than 1.
fn long_axes(dims: &[i64]) -> usize {
    dims.iter().filter(|&&length| length > 1).count()
}

/// Whether output 0 has the values of input 0, each once.
fn rearranges(op: &str) -> bool {
    // A weight that is quantized and dequantized again, as quantization-aware training has it, is still the weight.
    let quantizes = matches!(op, "QuantizeLinear" | "DequantizeLinear");
    quantizes || matches!(op, "Identity" | "Transpose" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten")
}

#[cfg(test)]
mod tests;
