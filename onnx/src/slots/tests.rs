use super::*;
use crate::proto::{NodeProto, TensorProto};
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
fn should_find_weights_that_are_quantized_and_dequantized() {
    let found = kinds_of(vec![
        node("QuantizeLinear", &["x", "xs", "xz"], &["xq"]),
        node("DequantizeLinear", &["xq", "xs", "xz"], &["xd"]),
        node("QuantizeLinear", &["w", "ws"], &["wq"]),
        node("DequantizeLinear", &["wq", "ws"], &["wd"]),
        node("Conv", &["xd", "wd", "b"], &["c"]),
    ]);
    assert_eq!(found, [("b".to_owned(), Weight), ("w".to_owned(), Weight)]);
}

#[test]
fn operators_of_other_domains_have_no_slots() {
    let foreign = NodeProto {
        domain: "com.example".into(),
        ..node("Conv", &["x", "w"], &["y"])
    };
    assert_eq!(kinds_of(vec![foreign]), vec![]);
}

/// As [`kinds_of`], with initializers of these shapes, and only they.
fn initializers_of(nodes: Vec<NodeProto>, initializers: &[(&str, &[i64])]) -> Vec<(String, Option<ParamKind>)> {
    let tensor = |&(name, dims): &(&str, &[i64])| TensorProto {
        name: name.to_owned(),
        dims: dims.to_vec(),
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node: nodes,
        initializer: initializers.iter().map(tensor).collect(),
        ..GraphProto::default()
    };
    let found = kinds(&graph);
    initializers
        .iter()
        .map(|&(name, _)| (name.to_owned(), found.get(name).copied()))
        .collect()
}

#[test]
fn weights_of_recurrent_layers_norms_and_tables_are_found() {
    let nodes = vec![
        node("Gather", &["table", "tokens"], &["e"]),
        node("LSTM", &["e", "w", "r", "b", "lengths", "h0", "c0", "p"], &["l"]),
        node("GRU", &["l", "gw", "gr", "gb"], &["g"]),
        node("LayerNormalization", &["g", "ls", "lb"], &["n"]),
        node("GroupNormalization", &["n", "gs", "gn"], &["m"]),
        node("InstanceNormalization", &["m", "is", "ib"], &["i"]),
        node("RMSNormalization", &["i", "rs"], &["y"]),
    ];
    let found = kinds_of(nodes);
    let weights: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "b", "gb", "gn", "gr", "gs", "gw", "ib", "is", "lb", "ls", "p", "r", "rs", "table", "w",
    ];
    assert_eq!(weights, expected);
    assert!(found.iter().all(|(_, kind)| *kind == Weight));
}

/// As torch.onnx.export writes nn.LayerNorm up to opset 16.
#[test]
fn a_layer_norm_in_parts_has_a_scale_and_a_bias() {
    let nodes = vec![
        node("ReduceMean", &["x"], &["mean"]),
        node("Sub", &["x", "mean"], &["centered"]),
        node("Pow", &["centered", "two"], &["squares"]),
        node("ReduceMean", &["squares"], &["variance"]),
        node("Add", &["variance", "epsilon"], &["above_zero"]),
        node("Sqrt", &["above_zero"], &["deviation"]),
        node("Div", &["centered", "deviation"], &["normalized"]),
        node("Mul", &["normalized", "n.weight"], &["scaled"]),
        node("Add", &["scaled", "n.bias"], &["y"]),
        node("Add", &["y", "offset"], &["z"]),
    ];
    let shapes: [(&str, &[i64]); 5] = [
        ("two", &[]),
        ("epsilon", &[]),
        ("n.weight", &[8]),
        ("n.bias", &[8]),
        ("offset", &[8]),
    ];
    let found = initializers_of(nodes, &shapes);
    let kinds: Vec<_> = found.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [None, None, Some(Weight), Some(Weight), None]);
}

/// As torch.onnx.export(dynamo=True) writes nn.RMSNorm.
#[test]
fn an_rms_norm_in_parts_has_a_scale() {
    let nodes = vec![
        node("Pow", &["x", "two"], &["squares"]),
        node("ReduceMean", &["squares", "axes"], &["mean"]),
        node("Add", &["mean", "epsilon"], &["above_zero"]),
        node("Sqrt", &["above_zero"], &["root"]),
        node("Reciprocal", &["root"], &["inverse"]),
        node("Mul", &["x", "inverse"], &["normalized"]),
        node("Mul", &["normalized", "n.weight"], &["y"]),
    ];
    let found = initializers_of(nodes, &[("two", &[]), ("epsilon", &[]), ("n.weight", &[8])]);
    let kinds: Vec<_> = found.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [None, None, Some(Weight)]);
}

/// As torch.onnx.export(dynamo=True) writes nn.GroupNorm at opset 18: the instance norm's own scale and bias are constants.
#[test]
fn a_group_norm_by_an_instance_norm_trains_only_its_own_scale_and_bias() {
    let nodes = vec![
        node("Reshape", &["x", "groups"], &["grouped"]),
        node("InstanceNormalization", &["grouped", "ones", "zeros"], &["normalized"]),
        node("Reshape", &["normalized", "shape"], &["restored"]),
        node("Mul", &["restored", "n.weight"], &["scaled"]),
        node("Add", &["scaled", "n.bias"], &["y"]),
    ];
    let shapes: [(&str, &[i64]); 4] = [("ones", &[2]), ("zeros", &[2]), ("n.weight", &[8, 1, 1]), ("n.bias", &[8, 1, 1])];
    let found = initializers_of(nodes, &shapes);
    let kinds: Vec<_> = found.into_iter().map(|(_, kind)| kind).collect();
    assert_eq!(kinds, [None, None, Some(Weight), Some(Weight)]);
}

#[test]
fn a_mask_after_attention_scores_is_no_bias() {
    let nodes = |operand: &'static str| {
        vec![
            node("MatMul", &["x", "wq"], &["q"]),
            node("MatMul", &["x", "wk"], &["k"]),
            node("MatMul", &["q", "k"], &["scores"]),
            node("Add", &["scores", operand], &["y"]),
        ]
    };
    let weights: [(&str, &[i64]); 2] = [("wq", &[8, 8]), ("wk", &[8, 8])];
    for (name, dims, kind) in [
        ("mask", &[1, 1, 16, 16][..], None),
        // A graph convolution, A (x W) + b.
        ("bias", &[16], Some(Weight)),
        ("bias", &[1, 1, 16], Some(Weight)),
    ] {
        let found = initializers_of(nodes(name), &[weights[0], weights[1], (name, dims)]);
        assert_eq!(found[2].1, kind, "{name} {dims:?}");
    }
    // After a product with a weight any operand is a bias.
    let layer = vec![node("MatMul", &["x", "wq"], &["q"]), node("Add", &["q", "positions"], &["y"])];
    let found = initializers_of(layer, &[weights[0], ("positions", &[16, 8])]);
    assert_eq!(found[1].1, Some(Weight));
}

#[test]
fn weights_whose_gates_are_reordered_in_the_graph_are_found() {
    let found = initializers_of(
        vec![
            node("Slice", &["w_ih", "a", "b"], &["i"]),
            node("Slice", &["w_ih", "b", "c"], &["o"]),
            node("Concat", &["o", "i"], &["reordered"]),
            node("Unsqueeze", &["reordered", "axes"], &["w"]),
            node("Concat", &["b_ih", "b_hh"], &["b"]),
            node("Unsqueeze", &["b", "axes"], &["bias"]),
            node("LSTM", &["x", "w", "r", "bias"], &["y"]),
            node("Split", &["in_proj"], &["q", "k"]),
            node("MatMul", &["y", "q"], &["yq"]),
            node("Concat", &["y", "table"], &["mixed"]),
            node("MatMul", &["yq", "mixed"], &["z"]),
        ],
        &[
            ("w_ih", &[8, 3]),
            ("b_ih", &[8]),
            ("b_hh", &[8]),
            ("r", &[1, 8, 2]),
            ("in_proj", &[2, 4]),
            ("table", &[2, 2]),
        ],
    );
    let kind = |name: &str| found.iter().find(|(n, _)| n == name).and_then(|(_, kind)| *kind);
    for name in ["w_ih", "b_ih", "b_hh", "r", "in_proj"] {
        assert_eq!(kind(name), Some(Weight), "{name}");
    }
    assert_eq!(kind("table"), None, "what is joined with computed values is no weight");
}
