use crate::build::mlp;
use crate::proto::{AttributeProto, ModelProto};
use crate::testing::{node, proto, tensor, testdata};
use crate::{LayoutError, Model, ParamKind, ParamLayout, TrainableRules};

fn norm(x: &str, y: &str, inputs: [&str; 4]) -> crate::proto::NodeProto {
    let [scale, shift, mean, variance] = inputs;
    node("BatchNormalization", &[x, scale, shift, mean, variance], &[y])
}

/// A fresh batch normalization as TorchScript exports it.
fn merged() -> ModelProto {
    let nodes = vec![
        node("Identity", &["bn.weight"], &["bn.running_var"]),
        node("Identity", &["bn.bias"], &["bn.running_mean"]),
        norm("x", "y", ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]),
    ];
    let mut proto = proto(
        nodes,
        vec![tensor("bn.weight", &[2], &[1.0, 1.0]), tensor("bn.bias", &[2], &[0.0, 0.0])],
    );
    // Nothing of a file is lost.
    proto.metadata_props.push(crate::proto::StringStringEntryProto {
        key: "made by".to_owned(),
        value: "a test".to_owned(),
    });
    proto
}

fn untied(proto: ModelProto) -> Model {
    let model = Model::from_proto(proto).expect("a sound model");
    model.with_own_statistics().expect("it fits")
}

fn inputs(model: &Model, index: usize) -> Vec<&str> {
    model.graph().node[index].input.iter().map(String::as_str).collect()
}

fn kinds(model: &Model) -> Vec<(String, ParamKind)> {
    let layout: ParamLayout = model.layout(&TrainableRules::default()).expect("weights");
    layout.params().iter().map(|p| (p.name.clone(), p.kind)).collect()
}

#[test]
fn statistics_that_are_an_identity_of_scale_and_shift_become_buffers() {
    let before = Model::from_proto(merged()).expect("a sound model");
    // Scale and shift count as statistics, so they would not train.
    let tied = before.layout(&TrainableRules::default());
    assert!(matches!(tied, Err(LayoutError::NothingTrains)));
    let model = untied(merged());
    assert_eq!(
        inputs(&model, 2),
        ["x", "bn.weight", "bn.bias", "bn.running_mean.own", "bn.running_var.own"]
    );
    let expected = [
        ("bn.weight", ParamKind::Weight),
        ("bn.bias", ParamKind::Weight),
        ("bn.running_mean.own", ParamKind::Buffer),
        ("bn.running_var.own", ParamKind::Buffer),
    ];
    assert_eq!(kinds(&model), expected.map(|(name, kind)| (name.to_owned(), kind)));
    assert_eq!(
        model.initializer("bn.running_var.own").and_then(|t| t.to_f32()),
        Some(vec![1.0, 1.0])
    );
    assert_eq!(
        model.initializer("bn.running_mean.own").and_then(|t| t.to_f32()),
        Some(vec![0.0, 0.0])
    );
}

#[test]
fn nothing_else_changes() {
    let before = merged();
    let mut after = untied(merged()).proto().clone();
    let graph = after.graph.as_mut().expect("a graph");
    graph.initializer.truncate(2);
    graph.node[2].input = before.graph.as_ref().expect("a graph").node[2].input.clone();
    assert!(after == before);

    // A field that no ONNX has yet, at the end of the file and inside the node.
    let unknown = [0xfa, 0x3f, 2, 7, 7];
    let mut bytes = Model::from_proto(before).expect("a sound model").as_bytes().to_vec();
    bytes.extend_from_slice(&unknown);
    let model = Model::from_bytes(&bytes).expect("unknown fields are kept");
    let model = model.with_own_statistics().expect("it fits");
    assert!(model.as_bytes().ends_with(&unknown));
}

#[test]
fn a_model_without_shared_statistics_stays_as_it_is() {
    let once = untied(merged());
    let models = [
        once.clone(),
        mlp(&[3, 4, 2], 1),
        Model::from_bytes(&testdata("mixed.onnx")).expect("sound"),
    ];
    for model in models {
        let again = model.with_own_statistics().expect("nothing to do");
        assert!(again.as_bytes() == model.as_bytes());
    }
    // An Identity alone is no reason.
    let nodes = vec![node("Identity", &["v"], &["also v"]), norm("x", "y", ["s", "b", "m", "also v"])];
    let one = |name: &str| tensor(name, &[2], &[1.0, 1.0]);
    let model = Model::from_proto(proto(nodes, vec![one("s"), one("b"), one("m"), one("v")])).expect("a sound model");
    assert!(model.with_own_statistics().expect("nothing to do").as_bytes() == model.as_bytes());
}

#[test]
fn two_layers_part_and_a_layer_used_twice_stays_one() {
    let one = |name: &str| tensor(name, &[2], &[1.0, 1.0]);
    // The second layer's statistics were merged with the first's.
    let nodes = vec![
        node("Identity", &["v1"], &["v2"]),
        norm("x", "h", ["s", "b", "m", "v1"]),
        norm("h", "y", ["s2", "b2", "m2", "v2"]),
    ];
    let all = ["s", "b", "m", "v1", "s2", "b2", "m2"].map(one).to_vec();
    let model = untied(proto(nodes, all));
    assert_eq!(inputs(&model, 1)[4], "v1.own");
    assert_eq!(inputs(&model, 2)[4], "v2.own");
    // The same tensors in the same places: one layer, called for two inputs.
    let nodes = vec![norm("x", "h", ["s", "b", "m", "v"]), norm("h", "y", ["s", "b", "m", "v"])];
    let model = untied(proto(nodes.clone(), ["s", "b", "m", "v"].map(one).to_vec()));
    assert_eq!(inputs(&model, 1)[3..], ["m", "v"]);
    // Merged and used twice, it gets one copy for both.
    let mut merged = vec![node("Identity", &["s"], &["v"])];
    merged.extend(nodes);
    let model = untied(proto(merged, ["s", "b", "m"].map(one).to_vec()));
    assert_eq!((inputs(&model, 1)[4], inputs(&model, 2)[4]), ("v.own", "v.own"));
    assert_eq!(model.initializers().count(), 4);
}

#[test]
fn names_in_use_are_not_given_again() {
    let mut proto = merged();
    let graph = proto.graph.as_mut().expect("a graph");
    graph.initializer.push(tensor("bn.running_var.own", &[1], &[3.0]));
    graph.node.push(node("Relu", &["y"], &["bn.running_mean.own"]));
    let model = untied(proto);
    assert_eq!(inputs(&model, 2)[3..], ["bn.running_mean.own2", "bn.running_var.own2"]);
}

#[test]
fn other_readers_count_wherever_they_are() {
    let one = |name: &str| tensor(name, &[2], &[1.0, 1.0]);
    let all = || ["s", "b", "m", "v"].map(one).to_vec();
    let layer = || norm("x", "y", ["s", "b", "m", "v"]);
    // An output of the graph.
    let mut read = proto(vec![layer()], all());
    let graph = read.graph.as_mut().expect("a graph");
    graph.output.push(crate::testing::value("v", &[Some(2)]));
    assert_eq!(inputs(&untied(read), 0)[4], "v.own");
    // A graph inside a node.
    let inner = crate::proto::GraphProto {
        node: vec![node("Relu", &["m"], &["r"])],
        output: vec![crate::testing::value("r", &[Some(2)])],
        ..Default::default()
    };
    let branch = AttributeProto {
        name: "then_branch".to_owned(),
        r#type: crate::proto::AttributeType::Graph as i32,
        g: Some(Box::new(inner)),
        ..AttributeProto::default()
    };
    let choice = crate::proto::NodeProto {
        attribute: vec![branch],
        ..node("If", &["v"], &["z"])
    };
    let model = untied(proto(vec![layer(), choice], all()));
    assert_eq!(inputs(&model, 0)[3..], ["m.own", "v.own"]);
}

#[test]
fn copies_are_inputs_where_the_ir_asks_for_it() {
    let mut proto = merged();
    proto.ir_version = 3;
    let graph = proto.graph.as_mut().expect("a graph");
    graph.input.push(crate::testing::value("bn.weight", &[Some(2)]));
    graph.input.push(crate::testing::value("bn.bias", &[Some(2)]));
    let model = untied(proto);
    let names: Vec<_> = model.graph().input.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["x", "bn.weight", "bn.bias", "bn.running_mean.own", "bn.running_var.own"]);
    assert_eq!(model.inputs().len(), 1, "what has values need not be fed");
}
