//! What the layers of networks refuse, and that attributes of a hostile file don't make them allocate.

use aimass_onnx::proto::{AttributeProto, NodeProto, TensorProto};
use aimass_onnx::{Model, TrainableRules};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::refusal;
use crate::OptimizerConfig;
use crate::array::Array;
use crate::executor::{Cpu, Executor};
use crate::optimizer::Optimizer;
use crate::program::Graph;
use crate::testing::{behind, floats, ints, model, node};

/// `x` as `[batch, 1, 3]`, then `op` on it with `weights`, then back to rows of 3.
fn layer(op: &str, weights: &[TensorProto], attributes: Vec<AttributeProto>) -> Model {
    layer_of(17, &[0, 1, 3], op, weights, attributes)
}

fn layer_of(opset: i64, shape: &[i64], op: &str, weights: &[TensorProto], attributes: Vec<AttributeProto>) -> Model {
    let names: Vec<&str> = std::iter::once("rows").chain(weights.iter().map(|w| w.name.as_str())).collect();
    let nodes = vec![
        node("Reshape", &["x", "to"], "rows", vec![]),
        node(op, &names, "z", attributes),
        node("Reshape", &["z", "back"], "h", vec![]),
    ];
    let more = [ints("to", shape), ints("back", &[0, 3])]
        .into_iter()
        .chain(weights.iter().cloned());
    behind(opset, nodes, more.collect())
}

fn said(model: &Model, text: &str) {
    let said = refusal(model);
    assert!(said.contains(text), "expected `{text}`, got `{said}`");
    assert!(said.contains("node `"), "no node named: {said}");
}

fn zeros(name: &str, shape: &[usize]) -> TensorProto {
    floats(name, shape, &vec![0.0; shape.iter().product()])
}

fn list(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto::int_list(name, values)
}

#[test]
fn layers_refuse_what_does_not_fit() {
    let int = AttributeProto::int;
    let text = AttributeProto::text;
    let kernel = [zeros("k", &[1, 1, 2])];
    said(
        &layer("Conv", &[zeros("k", &[1, 1, 0])], vec![]),
        "its input 1 of the shape [1, 1, 0] is empty",
    );
    said(
        &layer("Conv", &kernel, vec![list("kernel_shape", &[3])]),
        "its `kernel_shape` is [3]",
    );
    said(&layer("Conv", &kernel, vec![int("group", 0)]), "its `group` is 0");
    said(&layer("Conv", &kernel, vec![text("auto_pad", "SAME")]), "its `auto_pad` is `SAME`");
    said(
        &layer("Conv", &[kernel[0].clone(), zeros("offset", &[2])], vec![]),
        "its bias has the shape [2]",
    );
    said(
        &layer("ConvTranspose", &[zeros("k", &[2, 1, 2])], vec![]),
        "do not fit an input of shape",
    );
    said(
        &layer("ConvTranspose", &kernel, vec![list("pads", &[2, 2])]),
        "leave nothing of an output of 4",
    );
    said(&layer("LpPool", &[], vec![list("kernel_shape", &[2]), int("p", 0)]), "its `p` is 0");
    said(&layer("LpNormalization", &[], vec![int("p", 3)]), "its `p` is 3");
    said(&layer("LRN", &[], vec![]), "its `size` is 0");
    said(&layer("Celu", &[], vec![AttributeProto::float("alpha", 0.0)]), "its `alpha` is 0");
    said(&layer("PRelu", &[zeros("slope", &[2])], vec![]), "does not broadcast to [3, 1, 3]");
    said(&layer("PRelu", &[zeros("slope", &[1, 1, 1, 3])], vec![]), "does not broadcast to");
    said(
        &layer("LayerNormalization", &[zeros("s", &[2])], vec![]),
        "its scale has the shape [2]",
    );
    said(
        &layer("LayerNormalization", &[zeros("s", &[3])], vec![int("stash_type", 10)]),
        "the element type 10",
    );
    let affine = |n: usize| [zeros("s", &[n]), zeros("offset", &[n])];
    said(&layer("InstanceNormalization", &affine(3), vec![]), "it must have the shape [1]");
    said(
        &layer_of(21, &[0, 3, 1], "GroupNormalization", &affine(3), vec![int("num_groups", 2)]),
        "2 groups do not part",
    );
    said(
        &layer_of(21, &[0, 3, 1], "GroupNormalization", &affine(1), vec![int("num_groups", 1)]),
        "it must have the shape [3]",
    );
    said(
        &layer_of(21, &[0, 3, 1], "GroupNormalization", &affine(3), vec![]),
        "0 groups do not part",
    );
}

#[test]
fn recurrent_layers_refuse_what_does_not_fit() {
    let weights = || vec![zeros("wi", &[1, 4, 3]), zeros("r", &[1, 4, 1])];
    let lstm = |more: Vec<TensorProto>, attributes: Vec<AttributeProto>| layer("LSTM", &[weights(), more].concat(), attributes);
    let text = AttributeProto::text;
    let bias = || zeros("bias", &[1, 8]);
    said(&lstm(vec![], vec![text("direction", "both")]), "its `direction` is `both`");
    said(
        &lstm(vec![], vec![text("direction", "bidirectional")]),
        "its W has the shape [1, 4, 3] where [2, 4, 3]",
    );
    said(
        &lstm(vec![], vec![AttributeProto::int("hidden_size", 2)]),
        "its `hidden_size` is 2, its weights have 1",
    );
    said(
        &lstm(vec![zeros("bias", &[1, 4])], vec![]),
        "its B has the shape [1, 4] where [1, 8]",
    );
    said(&lstm(vec![bias(), zeros("lens", &[3])], vec![]), "are not integers");
    said(
        &lstm(vec![bias(), ints("lens", &[1, 1])], vec![]),
        "have the shape [2] for a batch of",
    );
    said(&lstm(vec![bias(), ints("lens", &[4])], vec![]), "the index 4 is outside");
    said(
        &lstm(vec![], vec![AttributeProto::int("linear_before_reset", 1)]),
        "`linear_before_reset` is not supported",
    );
    said(&layer("GRU", &weights(), vec![]), "its W has the shape [1, 4, 3] where [1, 3, 3]");
    let named = AttributeProto {
        name: "activations".to_owned(),
        strings: vec![b"Cubic".to_vec()],
        ..AttributeProto::default()
    };
    said(
        &layer("RNN", &[zeros("wi", &[1, 1, 3]), zeros("r", &[1, 1, 1])], vec![named.clone()]),
        "`Cubic` is not known",
    );
    said(&lstm(vec![], vec![named]), "it names 1 activations");
}

#[test]
fn attributes_of_a_hostile_file_are_refused_before_anything_is_allocated() {
    let far = 1 << 20;
    let wide = |op: &str, shape: &[i64], weights: &[TensorProto], attributes| layer_of(17, shape, op, weights, attributes);
    let pads = |n: usize| list("pads", &vec![far; 2 * n]);
    let strides = |n: usize| list("strides", &vec![far; n]);
    let kernel = zeros("k", &[1, 1, 1, 1, 1]);
    said(
        &wide("Conv", &[0, 1, 3, 1, 1], &[kernel], vec![pads(3), strides(3)]),
        "past the memory limit",
    );
    let kernel = list("kernel_shape", &[far, far]);
    said(
        &wide(
            "MaxPool",
            &[0, 1, 3, 1],
            &[],
            vec![kernel, list("pads", &[far - 1, far - 1, far - 2, far - 2])],
        ),
        "past the memory limit",
    );
    let kernel = zeros("k", &[1, 1, 2, 2]);
    said(
        &wide(
            "ConvTranspose",
            &[0, 1, 3, 1],
            &[kernel],
            vec![strides(2), list("dilations", &[far, far]), list("pads", &[far, far, far, 0])],
        ),
        "past the memory limit",
    );
    let steps = zeros("many", &[1, (1 << 14) + 1, 1]);
    let nodes: Vec<NodeProto> = vec![
        node("RNN", &["many", "wi", "r"], "z", vec![AttributeProto::int("layout", 1)]),
        node("Reshape", &["z", "back"], "flat", vec![]),
        node("Add", &["x", "flat"], "h", vec![]),
    ];
    let more = vec![steps, zeros("wi", &[1, 1, 1]), zeros("r", &[1, 1, 1]), ints("back", &[-1, 3])];
    said(&behind(17, nodes, more), "the limit is 16384");
}

/// Draws small numbers, now and then one that no layer can take.
struct Draw(ChaCha20Rng);

impl Draw {
    fn below(&mut self, n: u32) -> usize {
        (self.0.next_u32() % n) as usize
    }
    fn attribute(&mut self) -> i64 {
        match self.below(24) {
            0 => -1,
            1 => i64::MAX,
            2 => i64::MIN,
            3 => 1 << 20,
            n => n as i64 % 4,
        }
    }
    fn shape(&mut self, most: u32) -> Vec<usize> {
        let rank = self.below(most + 1);
        (0..rank).map(|_| if self.below(30) == 0 { 0 } else { 1 + self.below(3) }).collect()
    }
    fn tensor(&mut self, name: &str, shape: &[usize]) -> TensorProto {
        let n = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|_| self.below(9) as f32 / 4.0 - 1.0).collect();
        floats(name, shape, &values)
    }
}

/// Attributes that some layer has, by kind: a number, or a number an axis.
const NUMBERS: &[&str] = &[
    "axis",
    "ceil_mode",
    "count_include_pad",
    "group",
    "hidden_size",
    "input_forget",
    "layout",
    "linear_before_reset",
    "num_groups",
    "p",
    "size",
    "transA",
    "transB",
];
const LISTS: &[&str] = &["dilations", "kernel_shape", "output_padding", "output_shape", "pads", "strides"];
const LAYERS: &[(&str, &[&str])] = &[
    (
        "AveragePool",
        &["kernel_shape", "pads", "strides", "dilations", "ceil_mode", "count_include_pad"],
    ),
    ("BatchNormalization", &[]),
    ("Conv", &["pads", "strides", "dilations", "group"]),
    (
        "ConvTranspose",
        &["pads", "strides", "dilations", "group", "output_padding", "output_shape"],
    ),
    ("Gemm", &["transA", "transB"]),
    ("GlobalLpPool", &["p"]),
    ("GlobalMaxPool", &[]),
    ("GRU", &["hidden_size", "layout", "linear_before_reset"]),
    ("GroupNormalization", &["num_groups"]),
    ("Hardmax", &["axis"]),
    ("InstanceNormalization", &[]),
    ("LayerNormalization", &["axis"]),
    ("LpNormalization", &["axis", "p"]),
    ("LpPool", &["kernel_shape", "pads", "strides", "dilations", "ceil_mode", "p"]),
    ("LRN", &["size"]),
    ("LSTM", &["hidden_size", "layout", "input_forget"]),
    ("MatMul", &[]),
    ("MaxPool", &["kernel_shape", "pads", "strides", "dilations", "ceil_mode"]),
    ("PRelu", &[]),
    ("RMSNormalization", &["axis"]),
    ("RNN", &["hidden_size", "layout"]),
    ("Softmax", &["axis"]),
];

/// Operands that fit about as often as not.
fn operands(draw: &mut Draw, op: &str, x: &[usize]) -> Vec<TensorProto> {
    let (a, b) = (1 + draw.below(2), 1 + draw.below(2));
    let at = |i: usize| x.get(i).copied().unwrap_or(1);
    let gates = match op {
        "LSTM" => 4,
        "GRU" => 3,
        _ => 1,
    };
    let window = |first: usize, second: usize| [vec![first, second], vec![a; x.len().saturating_sub(2)]].concat();
    let fitting: Vec<Vec<usize>> = match op {
        "Conv" => vec![window(b, at(1)), vec![b]],
        "ConvTranspose" => vec![window(at(1), b), vec![b]],
        "LSTM" | "GRU" | "RNN" => vec![vec![1, gates * a, at(2)], vec![1, gates * a, a], vec![1, 2 * gates * a]],
        "BatchNormalization" => vec![vec![at(1)]; 4],
        "InstanceNormalization" | "GroupNormalization" => vec![vec![at(1)]; 2],
        "LayerNormalization" => vec![vec![at(x.len().saturating_sub(1))]; 2],
        "RMSNormalization" => vec![vec![at(x.len().saturating_sub(1))]],
        "MatMul" | "Gemm" => vec![vec![at(x.len().saturating_sub(1)), b]],
        "PRelu" => vec![vec![at(x.len().saturating_sub(1))]],
        _ => vec![],
    };
    let mut made = Vec::new();
    for (i, shape) in fitting.into_iter().enumerate() {
        let shape = if draw.below(8) == 0 { draw.shape(4) } else { shape };
        made.push(draw.tensor(&format!("operand{i}"), &shape));
    }
    made
}

#[test]
fn layers_with_any_attributes_run_or_are_refused() {
    let mut draw = Draw(ChaCha20Rng::from_seed([5; 32]));
    let mut ran = std::collections::BTreeMap::new();
    for round in 0..4000 {
        let (op, known) = LAYERS[round % LAYERS.len()];
        let shape: Vec<usize> = [vec![1 + draw.below(2)], draw.shape(4)].concat();
        let spatial = shape.len().saturating_sub(2);
        let mut attributes = Vec::new();
        for name in known
            .iter()
            .filter(|name| **name == "kernel_shape" || NUMBERS.contains(name) || LISTS.contains(name))
        {
            let always = matches!(*name, "kernel_shape" | "num_groups" | "size");
            if !always && draw.below(2) == 0 {
                continue;
            }
            attributes.push(if LISTS.contains(name) {
                let len = if *name == "pads" { 2 * spatial } else { spatial };
                list(name, &(0..len).map(|_| draw.attribute()).collect::<Vec<_>>())
            } else {
                AttributeProto::int(name, draw.attribute())
            });
        }
        let weights = operands(&mut draw, op, &shape);
        let names: Vec<&str> = std::iter::once("h").chain(weights.iter().map(|w| w.name.as_str())).collect();
        let shift = draw.tensor("shift", &shape);
        let nodes = vec![node("Add", &["x", "shift"], "h", vec![]), node(op, &names, "y", attributes)];
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        let model = model([9, 13, 17, 18, 21][draw.below(5)], &dims, nodes, [weights, vec![shift]].concat());
        let rules = TrainableRules::new(&["*".to_owned()]).expect("a glob");
        let Ok(layout) = model.layout(&rules) else { continue };
        let Ok(graph) = Graph::new(&model, Some(&layout)) else { continue };
        let mut executor = Executor::<Cpu>::new(graph);
        let n = shape.iter().product();
        let Some(x) = Array::floats(shape.clone(), vec![0.5; n]) else {
            continue;
        };
        if executor.forward(vec![x.clone()]).is_err() {
            continue;
        }
        let mut noise = ChaCha20Rng::from_seed([0; 32]);
        let mut optimizer = Optimizer::new(OptimizerConfig::sgd(0.1));
        let by_output = |outputs: &[Array]| Ok(vec![Some(vec![1.0; outputs[0].as_floats().map_or(0, <[f32]>::len)])]);
        let stepped = executor.step(vec![x], true, &mut optimizer, &mut noise, by_output);
        if let Err(e) = stepped {
            assert!(e.to_string().contains("variance"), "{op}: runs but does not train: {e}");
        }
        *ran.entry(op).or_insert(0) += 1;
    }
    for (op, _) in LAYERS {
        assert!(ran.get(op).is_some_and(|&n| n >= 5), "{op} hardly ever ran: {ran:?}");
    }
}
