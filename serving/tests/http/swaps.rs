//! New versions under load: no request is dropped, and none sees half a model.

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aimass_onnx::build::mlp;
use aimass_serving::{Host, HostConfig, HostError};
use serde_json::json;

use super::client::{Service, read_reply};

const SWAPS: u64 = 100;
const CLIENTS: usize = 4;

#[test]
fn should_drop_nothing_over_100_swaps_under_load() {
    let host = Host::start(HostConfig::default()).expect("threads start");
    let models: Vec<_> = (0..4).map(|seed| mlp(&[4, 8, 3], seed)).collect();
    host.load("m", "v0", models[0].as_bytes()).expect("loads");
    let service = Service::start(host);
    let row = [0.1f32, -0.2, 0.3, 0.4];
    let body = json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": row }] }).to_string();
    // What each version answers, so that an answer can be held against the version that it names.
    let expected: Vec<f32> = models
        .iter()
        .map(|model| {
            let servable = aimass_inference::Servable::load(model.as_bytes(), &aimass_inference::LoadOptions::default()).expect("loads");
            let input = aimass_inference::Tensor::f32(vec![1, 4], row.to_vec()).expect("fills");
            servable.run(&[input]).expect("runs")[0].as_f32().expect("floats")[0]
        })
        .collect();
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(service.address).expect("connects");
                let request = format!(
                    "POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                while !done.load(Ordering::Relaxed) {
                    stream.write_all(request.as_bytes()).expect("sent");
                    let reply = read_reply(&mut stream).ok_json();
                    let version: usize = reply["model_version"]
                        .as_str()
                        .and_then(|v| v[1..].parse().ok())
                        .expect("a version");
                    let found = reply["outputs"][0]["data"][0].as_f64().expect("a number");
                    assert!(
                        (found - f64::from(expected[version % 4])).abs() < 1e-4,
                        "version {version}: {found}"
                    );
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let begin = answered.load(Ordering::Relaxed);
        for i in 1..=SWAPS {
            service
                .host
                .swap("m", &format!("v{i}"), models[i as usize % 4].as_bytes())
                .expect("swaps");
            // Damaged ones in between change nothing.
            assert!(service.host.swap("m", "bad", b"not a model").is_err());
            // Each version answers some before the next comes.
            let seen = answered.load(Ordering::Relaxed);
            let begin = Instant::now();
            while answered.load(Ordering::Relaxed) < seen + 2 && begin.elapsed() < Duration::from_secs(20) {
                std::thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
        assert!(answered.load(Ordering::Relaxed) > begin + SWAPS);
    });
    let current = service.host.slot("m").expect("there").current();
    assert_eq!(current.version, "v100");
    let text = service.get("/metrics").text();
    assert!(text.contains("aimass_serve_swaps_total{model=\"m\"} 100"), "{text}");
    assert!(!text.contains("status=\"5") && !text.contains("status=\"4"), "{text}");
}

#[test]
fn should_keep_the_old_version_when_the_new_one_is_bad() {
    let host = Host::start(HostConfig::default()).expect("threads start");
    host.load("m", "1", mlp(&[4, 3], 1).as_bytes()).expect("loads");
    // Other inputs would break its clients.
    assert!(matches!(
        host.swap("m", "2", mlp(&[5, 3], 1).as_bytes()),
        Err(HostError::Interface { .. })
    ));
    host.swap("m", "2", mlp(&[4, 6, 3], 2).as_bytes())
        .expect("what is inside may change");
    let mut proto = mlp(&[4, 3], 1).proto().clone();
    let graph = proto.graph.as_mut().expect("a graph");
    let old = graph.input[0].name.clone();
    graph.input[0].name = "renamed".to_owned();
    for node in &mut graph.node {
        node.input
            .iter_mut()
            .filter(|name| **name == old)
            .for_each(|name| *name = "renamed".to_owned());
    }
    let renamed = aimass_onnx::Model::from_proto(proto).expect("sound");
    assert!(matches!(host.swap("m", "3", renamed.as_bytes()), Err(HostError::Interface { .. })));
    // Weights that are NaN fail the self-test.
    let model = mlp(&[4, 3], 1);
    let layout = model.layout(&aimass_onnx::TrainableRules::default()).expect("a layout");
    let weights = vec![f32::NAN; model.weights(&layout).expect("weights").len()];
    let damaged = model.with_weights(&layout, &weights).expect("the same graph");
    match host.swap("m", "3", damaged.as_bytes()) {
        Err(HostError::SelfTest { reason, .. }) => assert!(reason.contains("NaN"), "{reason}"),
        other => panic!("expected the self-test, got {other:?}"),
    }
    assert!(matches!(host.swap("m", "2", model.as_bytes()), Err(HostError::Exists { .. })));
    assert!(matches!(host.swap("none", "2", model.as_bytes()), Err(HostError::Unknown { .. })));
    assert_eq!(host.slot("m").expect("there").current().version, "2");
}
