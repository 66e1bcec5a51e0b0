//! Which inputs of ONNX's operators are weights.

use std::collections::BTreeMap;

use crate::ParamKind;
use crate::proto::GraphProto;

/// What each value that is used in a slot is to training, by name. Values that are not in it train only when a rule says so.
///
/// A value reached through operators that only rename or rearrange (Identity, Transpose, Reshape, Squeeze, Unsqueeze, Flatten)
/// counts as the value itself. One that is used as a running statistic anywhere is a buffer; else one weight slot makes a weight.
pub(crate) fn kinds(graph: &GraphProto) -> BTreeMap<&str, ParamKind> {
    // Nodes are in order, so each value's source is known when its user comes.
    let mut source: BTreeMap<&str, &str> = BTreeMap::new();
    let mut giver: BTreeMap<&str, &str> = BTreeMap::new();
    let mut kinds = BTreeMap::new();
    for node in &graph.node {
        let Some(op) = node.standard_op() else { continue };
        let origin = |index: usize| node.input_name(index).map(|name| source.get(name).copied().unwrap_or(name));
        for &(index, kind) in slots(op) {
            let Some(name) = origin(index) else { continue };
            let known = kinds.entry(name).or_insert(kind);
            if kind == ParamKind::Buffer {
                *known = kind;
            }
        }
        if op == "Add" {
            for (bias, other) in [(0, 1), (1, 0)] {
                let after_product = origin(other).and_then(|name| giver.get(name)).is_some_and(|op| takes_bias(op));
                if let Some(name) = origin(bias).filter(|_| after_product) {
                    kinds.entry(name).or_insert(ParamKind::Weight);
                }
            }
        }
        let Some(output) = node.output.first() else { continue };
        match origin(0).filter(|_| rearranges(op)) {
            Some(name) => _ = source.insert(output, name),
            None => _ = giver.insert(output, op),
        }
    }
    kinds
}

/// Weight and buffer slots of an operator. Source: the operators' definitions in ONNX's `docs/Operators.md`.
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
        "InstanceNormalization" | "LayerNormalization" | "GroupNormalization" => &[(1, Weight), (2, Weight)],
        "RMSNormalization" | "PRelu" => &[(1, Weight)],
        _ => &[],
    }
}

/// Whether an Add directly after this operator is its bias.
fn takes_bias(op: &str) -> bool {
    matches!(op, "MatMul" | "Gemm" | "Conv" | "ConvTranspose" | "Einsum")
}

/// Whether output 0 has the values of input 0, each once.
fn rearranges(op: &str) -> bool {
    matches!(op, "Identity" | "Transpose" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::NodeProto;
    use ParamKind::{Buffer, Weight};

    fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: op.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: outputs.iter().map(|&name| name.to_owned()).collect(),
            ..NodeProto::default()
        }
    }

    fn kinds_of(nodes: Vec<NodeProto>) -> Vec<(String, ParamKind)> {
        let graph = GraphProto {
            node: nodes,
            ..GraphProto::default()
        };
        kinds(&graph).into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect()
    }

    #[test]
    fn slots_make_weights_and_buffers() {
        let found = kinds_of(vec![
            node("Conv", &["x", "cw", "cb"], &["c"]),
            node("BatchNormalization", &["c", "scale", "bias", "mean", "var"], &["b"]),
            node("PRelu", &["b", "slope"], &["p"]),
        ]);
        let find = |name: &str| found.iter().find(|(n, _)| n == name).map(|&(_, kind)| kind);
        for name in ["cw", "cb", "scale", "bias", "slope"] {
            assert_eq!(find(name), Some(Weight), "{name}");
        }
        assert_eq!((find("mean"), find("var"), find("x")), (Some(Buffer), Some(Buffer), None));
    }

    #[test]
    fn an_add_is_a_bias_only_directly_after_a_product() {
        let found = kinds_of(vec![
            node("MatMul", &["x", "w"], &["xw"]),
            node("Reshape", &["xw", "shape"], &["r"]),
            node("Add", &["bias", "r"], &["y"]),
            node("Add", &["y", "offset"], &["z"]),
        ]);
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"bias") && names.contains(&"w"), "{names:?}");
        assert!(!names.contains(&"offset") && !names.contains(&"shape"), "{names:?}");
    }

    #[test]
    fn weights_are_found_through_identity_and_transpose() {
        let found = kinds_of(vec![
            node("Identity", &["w"], &["i"]),
            node("Transpose", &["i"], &["t"]),
            node("Gather", &["table", "x"], &["e"]),
            node("MatMul", &["e", "t"], &["y"]),
        ]);
        assert!(found.contains(&("w".to_owned(), Weight)) && found.contains(&("table".to_owned(), Weight)));
    }

    #[test]
    fn a_running_statistic_stays_a_buffer_when_it_is_used_as_a_weight_too() {
        for nodes in [["PRelu", "BatchNormalization"], ["BatchNormalization", "PRelu"]] {
            let nodes = nodes.map(|op| match op {
                "PRelu" => node("PRelu", &["x", "m"], &["p"]),
                _ => node("BatchNormalization", &["x", "s", "b", "m", "v"], &["n"]),
            });
            assert!(kinds_of(nodes.to_vec()).contains(&("m".to_owned(), Buffer)));
        }
    }

    #[test]
    fn operators_of_other_domains_have_no_slots() {
        let foreign = NodeProto {
            domain: "com.example".into(),
            ..node("Conv", &["x", "w"], &["y"])
        };
        assert_eq!(kinds_of(vec![foreign]), vec![]);
    }
}
