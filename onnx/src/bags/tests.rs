use std::collections::BTreeSet;

use crate::Model;
use crate::proto::ModelProto;
use crate::testing::testdata;

/// Files of which the learning crate's tests compare outputs and gradients with PyTorch's.
const BAGS: [(&str, &[u8]); 3] = [
    ("max_bags_ts14", include_bytes!("../../../fuzz/seeds/onnx/max_bags_ts14.onnx")),
    (
        "weighted_bags_dyn20",
        include_bytes!("../../../fuzz/seeds/onnx/weighted_bags_dyn20.onnx"),
    ),
    (
        "grid_padded_bags_dyn18",
        include_bytes!("../../../fuzz/seeds/onnx/grid_padded_bags_dyn18.onnx"),
    ),
];

fn bag((_, bytes): (&str, &[u8])) -> ModelProto {
    Model::from_bytes(bytes).expect("it reads").proto().clone()
}

fn plain(proto: ModelProto) -> Model {
    Model::from_proto(proto).expect("a sound model").with_plain_bags().expect("it fits")
}

fn has(model: &Model, op: &str) -> bool {
    model.graph().node.iter().any(|node| node.op_type == op)
}

#[test]
fn only_the_loop_goes_and_what_it_alone_had_read() {
    for (name, bytes) in BAGS {
        let before = bag((name, bytes));
        let model = plain(before.clone());
        for op in ["Loop", "If", "SequenceEmpty", "ConcatFromSequence"] {
            assert!(!has(&model, op), "{name} still has {op}");
        }
        let (old, new) = (before.graph.as_ref().expect("a graph"), model.graph());
        assert!(
            old.initializer == new.initializer && old.input == new.input && old.output == new.output,
            "{name}"
        );
        assert_eq!(before.metadata_props, model.proto().metadata_props, "{name}");
        let kept: Vec<_> = new.node.iter().filter(|node| !node.name.contains(".bag/")).collect();
        assert!(kept.iter().all(|node| old.node.contains(node)), "{name}");
        let last = kept.last().expect("nodes");
        assert_eq!(last.op_type, "Gemm", "{name}");
    }
}

#[test]
fn what_has_no_bags_and_what_has_none_any_more_stays_byte_for_byte() {
    let other = Model::from_bytes(&testdata("mixed.onnx")).expect("it reads");
    assert!(other.with_plain_bags().expect("nothing to do").as_bytes() == other.as_bytes());
    let once = plain(bag(BAGS[0]));
    assert!(once.with_plain_bags().expect("nothing to do").as_bytes() == once.as_bytes());
}

#[test]
fn names_that_are_taken_are_not_given_again() {
    let mut proto = bag(BAGS[0]);
    let graph = proto.graph.as_mut().expect("a graph");
    let made = graph.node.iter().find(|node| node.op_type == "Loop").expect("a loop").output[0].clone();
    graph
        .initializer
        .push(crate::testing::tensor(&format!("{made}.bag/rows"), &[1], &[0.0]));
    let model = plain(proto);
    assert!(!has(&model, "Loop"));
    let outputs: Vec<&str> = model
        .graph()
        .node
        .iter()
        .flat_map(|node| node.output.iter().map(String::as_str))
        .collect();
    assert!(outputs.contains(&format!("{made}.bag2/rows").as_str()), "{outputs:?}");
    assert_eq!(outputs.iter().collect::<BTreeSet<_>>().len(), outputs.len());
}

#[test]
fn a_loop_beside_the_bag_keeps_all_of_it_as_it_is() {
    let mut proto = bag(BAGS[0]);
    let graph = proto.graph.as_mut().expect("a graph");
    let mut other = graph.node.iter().find(|node| node.op_type == "Loop").expect("a loop").clone();
    other.output = vec!["unread".to_owned()];
    graph.node.push(other);
    assert!(has(&plain(proto), "Loop"));
}

#[test]
fn before_the_axes_of_unsqueeze_were_an_input_nothing_is_done() {
    let mut proto = bag(BAGS[0]);
    proto.opset_import.iter_mut().for_each(|import| import.version = 12);
    assert!(has(&plain(proto), "Loop"));
}
