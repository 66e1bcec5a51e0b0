//! What fleets train beside tables and single losses: arrays, several heads, adapters.

use std::path::{Path, PathBuf};

use aimass_cli::cluster::ClusterSettings;
use aimass_cli::example::Example;
use aimass_learning::Dataset;
use aimass_onnx::proto::{DataType, NodeProto, TensorProto, ValueInfoProto};
use aimass_onnx::{Model, lora};

use crate::support::{Deployment, aimass, json, npz};

/// Rows of a CSV as images with two targets: the digit, and how much ink there is.
fn as_arrays(csv: &Path) -> PathBuf {
    let rows = Dataset::read_csv(csv, &[], "label").expect("reads");
    let n = rows.len();
    let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let ink: Vec<f32> = rows.features().chunks(64).map(|image| image.iter().sum::<f32>() / 64.0).collect();
    let arrays = npz(&[
        ("x", "<f4", &format!("{n}, 1, 8, 8"), bytes(rows.features())),
        ("label", "|u1", &format!("{n},"), rows.targets().iter().map(|&t| t as u8).collect()),
        ("ink", "<f4", &format!("{n}, 1"), bytes(&ink)),
    ]);
    let path = csv.with_extension("npz");
    std::fs::write(&path, arrays).expect("written");
    path
}

/// The example's network with a second output, `ink`, that its hidden layer feeds.
fn with_second_head(path: &Path) {
    let model = Model::from_bytes(&std::fs::read(path).expect("reads")).expect("a model");
    let mut proto = model.proto().clone();
    let graph = proto.graph.as_mut().expect("a graph");
    let hidden = graph
        .node
        .iter()
        .find(|node| node.op_type == "Relu")
        .expect("a hidden layer")
        .output[0]
        .clone();
    let weights = (0..64u16).map(|i| f32::from(i % 7) * 0.01 - 0.03);
    graph.initializer.push(TensorProto {
        name: "ink.weight".to_owned(),
        dims: vec![64, 1],
        data_type: DataType::Float as i32,
        raw_data: weights.flat_map(f32::to_le_bytes).collect(),
        ..TensorProto::default()
    });
    graph.node.push(NodeProto {
        op_type: "MatMul".to_owned(),
        name: "ink".to_owned(),
        input: vec![hidden, "ink.weight".to_owned()],
        output: vec!["ink".to_owned()],
        ..NodeProto::default()
    });
    graph.output.push(ValueInfoProto {
        name: "ink".to_owned(),
        ..graph.output[0].clone()
    });
    let shape = graph.output[1].r#type.as_mut().and_then(|t| t.value.as_mut());
    if let Some(aimass_onnx::proto::type_proto::Value::TensorType(tensor)) = shape {
        tensor.shape = None;
    }
    let model = Model::from_proto(proto).expect("sound");
    std::fs::write(path, model.as_bytes()).expect("written");
}

/// Changes the example's job; returns the path of the new one.
fn job(example: &Example, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = std::fs::read_to_string(&example.job).expect("reads");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replace(from, to);
    }
    let path = example.job.with_file_name("changed.toml");
    std::fs::write(&path, text).expect("written");
    path
}

fn initializers(model: &Model) -> Vec<(String, Option<Vec<f32>>)> {
    model.initializers().map(|t| (t.proto.name.clone(), t.to_f32())).collect()
}

#[test]
fn a_fleet_trains_adapters_of_a_model_with_two_heads_on_arrays() {
    let mut deployment = Deployment::start_on(2, 6, ClusterSettings::default(), |example| {
        as_arrays(&example.test);
        with_second_head(&example.model);
        example.agents.iter().map(|csv| as_arrays(csv)).collect()
    });
    let heads =
        "[[train.heads]]\nloss = \"cross_entropy\"\n[[train.heads]]\noutput = \"ink\"\ntarget = \"ink\"\nloss = \"mse\"\nweight = 0.5\n";
    let changed = job(
        &deployment.example,
        &[
            ("loss = \"cross_entropy\"\n", ""),
            ("optimizer = \"sgd\"\n", "optimizer = \"adam\"\nlora = { rank = 8 }\n"),
            ("lr = 0.1", "lr = 0.01"),
            ("[strategy]", &format!("{heads}\n[strategy]")),
            ("test.csv", "test.npz"),
        ],
    );
    let id = deployment.submit_file(&changed);
    deployment.wait_round(&id, 6);
    let view = deployment.job(&id);
    let history = view["history"].as_array().expect("rounds");
    assert!(history.iter().all(|round| round["contributions"] == 2), "{view}");
    let accuracy = |round: usize| history[round]["accuracy"].as_f64().expect("measured");
    assert!(accuracy(5) > 0.6 && accuracy(5) > accuracy(0), "{view}");
    let bytes_up = history[5]["bytes_up"].as_u64().expect("counted");

    // Rounds hold the adapters and send nothing else; what is pulled has them merged.
    let raw = deployment.cluster.server().get_bytes(&format!("/v1/jobs/{id}/model"), 1 << 20);
    assert!(lora::is_adapted(&Model::from_bytes(&raw.expect("served")).expect("a model")));
    let pulled = json(&aimass(
        deployment.dir.path(),
        &["--json", "job", "pull", &id, "-o", "final.onnx", "--server-dir", "server"],
    ));
    assert!(pulled["sha256"].is_string());
    let read = |path: &Path| Model::from_bytes(&std::fs::read(path).expect("reads")).expect("a model");
    let (before, after) = (
        initializers(&read(&deployment.example.model)),
        initializers(&read(&deployment.dir.path().join("final.onnx"))),
    );
    let names = |all: &[(String, Option<Vec<f32>>)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    for ((name, before), (_, after)) in before.iter().zip(&after) {
        let is_matrix = name.ends_with("weight");
        assert_eq!(before != after, is_matrix, "{name}: adapters change matrices and nothing else");
    }
    let all: usize = after.iter().map(|(_, values)| values.as_ref().map_or(0, Vec::len)).sum();
    assert!(bytes_up < 2 * 3 * all as u64, "{bytes_up} bytes for {all} weights that mostly stay");
    deployment.cluster.stop();
}
