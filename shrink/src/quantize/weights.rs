//! Which constants of a graph are weights that can be integers, and how.

use std::collections::BTreeMap;

use aimass_onnx::proto::NodeProto;
use aimass_onnx::{ElementType, Model, TensorRef};
use globset::{Glob, GlobMatcher};

use super::QuantizeError;
use crate::parts::{IntType, shown};

/// Smallest embedding table that is stored in integers; shorter ones are constants of other kinds.
const SMALLEST_TABLE: usize = 1024;

/// What a node does with its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A product: Conv, ConvTranspose, Gemm, MatMul.
    Layer,
    /// The input or recurrent weights of LSTM, GRU, RNN, which compute in float32.
    Recurrent,
    /// Rows of an embedding table.
    Table,
}

/// A constant float32 weight at an input of a node.
#[derive(Debug, Clone)]
pub(super) struct Weight<'m> {
    pub(super) node: usize,
    pub(super) input: usize,
    pub(super) tensor: TensorRef<'m>,
    /// The axis with a scale an entry: output channels. `None`: one scale.
    pub(super) axis: Option<usize>,
    pub(super) used: Use,
}

impl<'m> Weight<'m> {
    pub(super) fn name(&self) -> &'m str {
        &self.tensor.proto.name
    }
}

/// Nodes to leave alone: globs over names of nodes, of their first outputs and of their weights. `*` matches any characters.
pub(super) struct Exclude {
    globs: Vec<(String, GlobMatcher, bool)>,
}

impl Exclude {
    pub(super) fn new(globs: &[String]) -> Result<Self, QuantizeError> {
        let compile = |text: &String| match Glob::new(text) {
            Ok(glob) => Ok((text.clone(), glob.compile_matcher(), false)),
            Err(error) => Err(QuantizeError::Glob {
                glob: shown(text),
                reason: error.kind().to_string(),
            }),
        };
        Ok(Self {
            globs: globs.iter().map(compile).collect::<Result<_, _>>()?,
        })
    }

    fn matches(&mut self, model: &Model, node: &NodeProto) -> bool {
        let weights = node.input.iter().filter(|name| model.initializer(name).is_some());
        let names: Vec<&String> = node.output.first().into_iter().chain([&node.name]).chain(weights).collect();
        let mut found = false;
        for (_, glob, matched) in &mut self.globs {
            if names.iter().any(|name| glob.is_match(name)) {
                *matched = true;
                found = true;
            }
        }
        found
    }

    /// Whether each node of the graph is left alone.
    pub(super) fn nodes(mut self, model: &Model) -> Result<Vec<bool>, QuantizeError> {
        let excluded = model.graph().node.iter().map(|node| self.matches(model, node)).collect();
        match self.globs.into_iter().find(|(_, _, matched)| !matched) {
            Some((glob, ..)) => Err(QuantizeError::Unmatched { glob: shown(&glob) }),
            None => Ok(excluded),
        }
    }
}

/// All weights of the nodes that are not excluded, in the graph's order.
pub(super) fn weights<'m>(model: &'m Model, excluded: &[bool]) -> Result<Vec<Weight<'m>>, QuantizeError> {
    let mut found = Vec::new();
    for (at, node) in model.graph().node.iter().enumerate().filter(|(at, _)| !excluded[*at]) {
        if let Some("QuantizeLinear" | "DequantizeLinear" | "DynamicQuantizeLinear") = node.standard_op() {
            return Err(QuantizeError::Nothing {
                reason: format!("{} shows that it is quantized already: start from the float32 model", node.label()),
            });
        }
        for (input, used) in slots(node) {
            let tensor = node.input_name(input).and_then(|name| model.initializer(name));
            let Some(tensor) = tensor.filter(|tensor| tensor.element == ElementType::F32 && tensor.n_elements() > 0) else {
                continue;
            };
            if let Some(axis) = channels(node, &tensor, used)? {
                let weight = Weight {
                    node: at,
                    input,
                    tensor,
                    axis,
                    used,
                };
                found.push(weight);
            }
        }
    }
    Ok(found)
}

fn slots(node: &NodeProto) -> Vec<(usize, Use)> {
    match node.standard_op() {
        Some("Conv" | "ConvTranspose" | "Gemm" | "MatMul") => vec![(1, Use::Layer)],
        Some("LSTM" | "GRU" | "RNN") => vec![(1, Use::Recurrent), (2, Use::Recurrent)],
        Some("Gather") => vec![(0, Use::Table)],
        _ => Vec::new(),
    }
}

/// The axis of output channels (`Some(None)` where there is one scale for all); `None` for a constant that is no such weight.
fn channels(node: &NodeProto, tensor: &TensorRef<'_>, used: Use) -> Result<Option<Option<usize>>, QuantizeError> {
    let rank = tensor.shape.len();
    let transposed = |name| node.attr_i(name).map(|flag| flag.is_some_and(|flag| flag != 0));
    Ok(match (used, node.op_type.as_str()) {
        (Use::Recurrent, _) => (rank == 3).then_some(Some(1)),
        (Use::Table, _) => {
            let by_rows = node.attr_i("axis")?.unwrap_or(0) == 0;
            (by_rows && rank == 2 && tensor.n_elements() >= SMALLEST_TABLE).then_some(None)
        }
        (_, "Conv") => (rank >= 3).then_some(Some(0)),
        (_, "ConvTranspose") => {
            let grouped = node.attr_i("group")?.is_some_and(|group| group != 1);
            (rank >= 3).then_some(if grouped { None } else { Some(1) })
        }
        (_, "Gemm") => (rank == 2).then_some(Some(usize::from(!transposed("transB")?))),
        _ => (rank >= 2).then_some(Some(rank - 1)),
    })
}

/// Scales of a weight, one an entry of its axis: the largest magnitude becomes the largest integer (127; 63 with a reduced range).
///
/// # Errors
/// [`QuantizeError::Weight`].
pub(super) fn scales(weight: &Weight<'_>, axis: Option<usize>, largest: f32) -> Result<Vec<f32>, QuantizeError> {
    let values = weight.tensor.to_f32().unwrap_or_default();
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        return Err(QuantizeError::Weight {
            tensor: shown(weight.name()),
            index,
        });
    }
    let (n, inner) = strides(&weight.tensor.shape, axis);
    let mut magnitudes = vec![0f32; n];
    for (at, value) in values.iter().enumerate() {
        let magnitude = &mut magnitudes[at / inner % n];
        *magnitude = magnitude.max(value.abs());
    }
    let scale = |magnitude: f32| {
        if magnitude == 0.0 {
            1.0
        } else {
            (magnitude / largest).max(f32::MIN_POSITIVE)
        }
    };
    Ok(magnitudes.into_iter().map(scale).collect())
}

/// Entries of an axis, and elements between two of them. Without an axis: one entry.
pub(super) fn strides(shape: &[usize], axis: Option<usize>) -> (usize, usize) {
    match axis.and_then(|axis| Some((*shape.get(axis)?, &shape[axis + 1..]))) {
        Some((n, inner)) => (n.max(1), inner.iter().product::<usize>().max(1)),
        None => (1, shape.iter().product::<usize>().max(1)),
    }
}

/// `saturate(round_half_to_even(x / scale) + zero_point)`, as QuantizeLinear has it, with scales (and zero points) along an axis.
pub(super) fn quantized(
    values: &[f32],
    shape: &[usize],
    axis: Option<usize>,
    scales: &[f32],
    zero_points: &[i32],
    kind: IntType,
) -> Vec<i32> {
    let (n, inner) = strides(shape, axis);
    let (low, high) = kind.range();
    let one = |(at, value): (usize, &f32)| {
        let channel = at / inner % n;
        let zero_point = zero_points.get(channel).copied().unwrap_or(0);
        // Clamped as a double, so that a sum with the zero point can't overflow.
        let level = f64::from((value / scales[channel]).round_ties_even()) + f64::from(zero_point);
        level.clamp(f64::from(low), f64::from(high)) as i32
    };
    values.iter().enumerate().map(one).collect()
}

/// Readers of each value: nodes, and inputs of them.
pub(super) fn readers(model: &Model) -> BTreeMap<&str, Vec<(usize, usize)>> {
    let mut readers: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    for (at, node) in model.graph().node.iter().enumerate() {
        for (input, name) in node.input.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            readers.entry(name).or_default().push((at, input));
        }
    }
    readers
}
