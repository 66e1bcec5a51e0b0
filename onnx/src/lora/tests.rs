use proptest::prelude::*;

use super::*;
use crate::ParamKind;
use crate::build::{Cell, InitialWeights, Mlp, RecurrentLm, TransformerClassifier};
use crate::proto::{AttributeProto, ModelProto, NodeProto, StringStringEntryProto};
use crate::testing::{node, proto, tensor};
use crate::wire::put_varint;

fn adapters(targets: &[&str]) -> Adapters {
    Adapters {
        targets: targets.iter().map(|&t| t.to_owned()).collect(),
        rank: 2,
        alpha: 4.0,
        seed: 5,
    }
}

fn square(name: &str) -> crate::proto::TensorProto {
    tensor(name, &[2, 2], &[1.0, -0.0, 0.5, 2.0])
}

fn with(attribute: AttributeProto, mut node: NodeProto) -> NodeProto {
    node.attribute.push(attribute);
    node
}

/// Every use that an adapter can follow, one after the other.
fn every_use() -> ModelProto {
    let nodes = vec![
        node("MatMul", &["x", "w"], &["a"]),
        with(AttributeProto::int("transB", 1), node("Gemm", &["a", "w", "bias"], &["b"])),
        node("Transpose", &["w"], &["wt"]),
        node("MatMul", &["b", "wt"], &["c"]),
        node("Identity", &["table"], &["same"]),
        node("Gather", &["same", "indices"], &["rows"]),
        node("MatMul", &["v", "rows"], &["d"]),
        node("Add", &["c", "d"], &["y"]),
    ];
    let indices = crate::proto::TensorProto {
        name: "indices".to_owned(),
        dims: vec![1],
        data_type: crate::proto::DataType::Int64 as i32,
        int64_data: vec![1],
        ..Default::default()
    };
    proto(
        nodes,
        vec![
            square("w"),
            tensor("bias", &[2], &[1.0, 2.0]),
            square("table"),
            indices,
            tensor("v", &[2, 1], &[1.0, 2.0]),
        ],
    )
}

/// A field that this version knows nothing of, where a message ends.
fn unknown_field(bytes: &mut Vec<u8>) {
    put_varint(900 << 3 | 2, bytes);
    put_varint(3, bytes);
    bytes.extend_from_slice(b"new");
}

fn changed_b(model: &Model, more: &[String]) -> Model {
    let layout = layout(model, more).expect("the adapters train");
    let weights: Vec<f32> = (0..layout.n_weights()).map(|i| 0.01 * ((i * 7 % 23) as f32 - 11.0)).collect();
    model.with_weights(&layout, &weights).expect("the same layout")
}

#[test]
fn merging_fresh_adapters_gives_back_the_same_bytes() {
    let mut file = every_use();
    file.metadata_props = vec![StringStringEntryProto {
        key: "author".to_owned(),
        value: "someone".to_owned(),
    }];
    let mut bytes = prost::Message::encode_to_vec(&file);
    unknown_field(&mut bytes);
    let weights = InitialWeights::seeded(3);
    let mlp = Mlp::default().build(weights).expect("builds");
    let transformer = TransformerClassifier::default().build(weights).expect("builds");
    let recurrent = RecurrentLm::new(Cell::Lstm).build(weights).expect("builds");
    for (original, targets) in [
        (Model::from_bytes(&bytes).expect("sound"), &["w", "table"][..]),
        (mlp, &[]),
        (transformer, &["*"]),
        (recurrent, &[]),
    ] {
        let adapted = add(&original, &adapters(targets)).expect("can have adapters");
        assert!(adapted.as_bytes().len() > original.as_bytes().len());
        let merged = merge(&adapted).expect("merges");
        assert!(merged.as_bytes() == original.as_bytes(), "something changed");
    }
}

#[test]
fn the_adapters_train_and_nothing_else() {
    let original = Model::from_proto(every_use()).expect("sound");
    let adapted = add(&original, &adapters(&["w", "table"])).expect("can have adapters");
    let layout = layout(&adapted, &[]).expect("they train");
    let trains: Vec<(&str, &[usize])> = layout
        .params()
        .iter()
        .filter(|p| p.kind == ParamKind::Weight)
        .map(|p| (p.name.as_str(), &p.shape[..]))
        .collect();
    assert_eq!(
        trains,
        [
            ("w.lora_A", &[2, 2][..]),
            ("w.lora_B", &[2, 2]),
            ("table.lora_A", &[2, 2]),
            ("table.lora_B", &[2, 2])
        ]
    );
    let more = super::layout(&adapted, &["bias".to_owned()]).expect("and the bias");
    assert_eq!(more.n_weights(), layout.n_weights() + 2);
    assert!(super::layout(&original, &[]).is_err(), "there are no adapters to train");
    let b = adapted.initializer("w.lora_B").and_then(|t| t.to_f32());
    assert_eq!(b, Some(vec![0.0; 4]));
    let a = adapted.initializer("w.lora_A").and_then(|t| t.to_f32()).expect("floats");
    assert!(a.iter().all(|v| v.abs() <= 0.5f32.sqrt() && *v != 0.0), "{a:?}");
}

#[test]
fn a_merged_weight_has_the_product_of_its_factors() {
    // [in, out] = [3, 2]: W + scale A B.
    let wide = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
    let mut file = proto(vec![node("MatMul", &["x", "w"], &["y"])], vec![tensor("w", &[3, 2], &wide)]);
    if let Some(graph) = &mut file.graph {
        graph.input = vec![crate::testing::value("x", &[None, Some(3)])];
    }
    let original = Model::from_proto(file).expect("sound");
    let adapted = add(
        &original,
        &Adapters {
            rank: 1,
            alpha: 0.5,
            ..adapters(&[])
        },
    )
    .expect("one matrix");
    let layout = layout(&adapted, &[]).expect("trains");
    let trained = adapted.with_weights(&layout, &[1.0, 2.0, 3.0, 10.0, 20.0]).expect("A, then B");
    let merged = merge(&trained).expect("merges");
    let expected = [6.0, 12.0, 13.0, 24.0, 20.0, 36.0];
    assert_eq!(merged.initializer("w").and_then(|t| t.to_f32()).expect("floats"), expected);
    let direct = original
        .with_weights(&original.layout(&TrainableRules::default()).expect("trains"), &expected)
        .expect("the same layout");
    assert!(merged.as_bytes() == direct.as_bytes(), "only the weight's bytes differ");
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let original = Model::from_proto(every_use()).expect("sound");
    let bytes = |seed| {
        let adapted = add(&original, &Adapters { seed, ..adapters(&[]) });
        adapted.expect("can have adapters").as_bytes().to_vec()
    };
    assert!(bytes(1) == bytes(1) && bytes(1) != bytes(2));
}

fn refusal(nodes: Vec<NodeProto>, targets: &[&str]) -> String {
    let model = Model::from_proto(proto(nodes, vec![square("w"), square("u"), tensor("bias", &[2], &[1.0, 2.0])])).expect("sound");
    add(&model, &adapters(targets)).expect_err("refused").to_string()
}

#[test]
fn what_an_adapter_can_not_follow_is_refused_by_name() {
    let named = |name: &str, node: NodeProto| NodeProto {
        name: name.to_owned(),
        ..node
    };
    let product = || node("MatMul", &["x", "w"], &["h"]);
    for (nodes, targets, said) in [
        (
            vec![product(), named("masked", node("Mul", &["h", "w"], &["y"]))],
            &["w"][..],
            "the weight \"w\" can't have an adapter: Mul \"masked\" uses it in a way that an adapter can't follow; leave",
        ),
        (
            vec![node("MatMul", &["w", "u"], &["c"]), product(), node("MatMul", &["h", "c"], &["y"])],
            &["w"],
            "MatMul (giving \"c\") uses it in a way",
        ),
        (
            vec![
                product(),
                with(AttributeProto::int("axis", 1), node("Gather", &["w", "i"], &["g"])),
                node("Add", &["h", "g"], &["y"]),
            ],
            &["w"],
            "Gather (giving \"g\") uses it in a way",
        ),
        (
            vec![product(), node("Gemm", &["h", "u", "w"], &["y"])],
            &["w"],
            "Gemm (giving \"y\") uses it",
        ),
        (
            vec![product(), node("Add", &["h", "bias"], &["y"])],
            &["bias"],
            "the glob \"bias\" matches no float32 matrix",
        ),
        (
            vec![product(), node("Add", &["h", "bias"], &["y"])],
            &["["],
            "the glob \"[\" does not parse",
        ),
        (
            vec![node("Add", &["x", "bias"], &["y"])],
            &[],
            "no MatMul or Gemm of the model multiplies",
        ),
    ] {
        let mut nodes = nodes;
        if nodes.iter().any(|n| n.input.iter().any(|i| i == "i")) {
            nodes.insert(0, node("Shape", &["x"], &["i"]));
        }
        let found = refusal(nodes, targets);
        assert!(found.contains(said), "{found:?} does not say {said:?}");
    }
    // Without globs such a weight is left as it is.
    let nodes = vec![product(), node("Mul", &["h", "w"], &["k"]), node("MatMul", &["k", "u"], &["y"])];
    let model = Model::from_proto(proto(nodes, vec![square("w"), square("u")])).expect("sound");
    let adapted = add(&model, &adapters(&[])).expect("u can");
    assert!(adapted.initializer("u.lora_A").is_some() && adapted.initializer("w.lora_A").is_none());
}

#[test]
fn settings_and_files_that_can_not_work_are_refused() {
    let model = Model::from_proto(every_use()).expect("sound");
    let refused = |adapters: Adapters| add(&model, &adapters).expect_err("refused");
    assert_eq!(refused(Adapters { rank: 0, ..adapters(&[]) }), LoraError::Rank { rank: 0 });
    let huge = usize::MAX / 4;
    assert_eq!(
        refused(Adapters {
            rank: huge,
            ..adapters(&[])
        }),
        LoraError::Rank { rank: huge }
    );
    assert!(matches!(
        refused(Adapters {
            alpha: f32::NAN,
            ..adapters(&[])
        }),
        LoraError::Alpha { .. }
    ));
    let old = Model::from_proto(ModelProto {
        ir_version: 3,
        ..every_use()
    });
    assert!(matches!(
        add(&old.expect("read"), &adapters(&[])),
        Err(LoraError::IrVersion { found: 3, .. })
    ));
    let adapted = add(&model, &adapters(&[])).expect("can");
    assert_eq!(add(&adapted, &adapters(&[])).map(|_| ()), Err(LoraError::Already));
    assert_eq!(merge(&model).map(|_| ()), Err(LoraError::NoAdapters));
}

#[test]
fn a_damaged_adapter_is_refused_by_weight() {
    let adapted = add(&Model::from_proto(every_use()).expect("sound"), &adapters(&["w"])).expect("can");
    let damaged = |change: &dyn Fn(&mut ModelProto)| {
        let mut file = adapted.proto().clone();
        change(&mut file);
        let model = Model::from_proto(file).expect("still a model");
        merge(&model).expect_err("damaged").to_string()
    };
    let said = damaged(&|file| file.metadata_props[0].value = "rank=3 alpha=4 order=AB".to_owned());
    assert!(
        said.contains("the adapter of \"w\" is incomplete: its factors are [2, 2] and [2, 2]"),
        "{said}"
    );
    let said = damaged(&|file| file.metadata_props[0].value = "rank=0".to_owned());
    assert!(said.contains("its entry in the metadata is \"rank=0\""), "{said}");
    let said = damaged(&|file| file.metadata_props[0].key = "aimass.lora:z".to_owned());
    assert!(said.contains("\"z\" is no float32 matrix"), "{said}");
    let said = damaged(&|file| file.metadata_props.push(file.metadata_props[0].clone()));
    assert!(said.contains("twice"), "{said}");
    // A node of the user's on a value of the adapter's.
    let said = damaged(&|file| {
        if let Some(graph) = &mut file.graph {
            graph.node.push(node("Relu", &["aimass.lora/0/down"], &["z"]));
        }
    });
    assert!(said.contains("the changed model can't be read"), "{said}");
}

proptest! {
    #[test]
    fn training_and_merging_change_the_chosen_weights_alone(seed in any::<u64>(), rank in 1usize..5, table in any::<bool>()) {
        let original = Model::from_proto(every_use()).expect("sound");
        let targets: &[&str] = if table { &["w", "table"] } else { &["w"] };
        let adapted = add(&original, &Adapters { seed, rank, ..adapters(targets) }).expect("can");
        let merged = merge(&changed_b(&adapted, &[])).expect("merges");
        prop_assert_eq!(&merged.graph().node, &original.graph().node);
        for tensor in original.initializers() {
            let name = &tensor.proto.name;
            let same = merged.initializer(name).expect("is there").proto == tensor.proto;
            prop_assert_eq!(same, name != "w" && !(table && name == "table"), "{}", name);
        }
    }

    #[test]
    fn records_survive_writing(rank in 1usize..10_000, alpha in 1e-30f32..1e30, input_is_left in any::<bool>(), junk in "\\PC{0,20}") {
        let text = format!("rank={rank} alpha={alpha} order={}", if input_is_left { "AB" } else { "BA" });
        prop_assert_eq!(edit::Record::read(&text), Some(edit::Record { rank, alpha, input_is_left }));
        let _ = edit::Record::read(&junk);
    }
}
