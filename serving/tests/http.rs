//! The endpoint over real sockets.

#[path = "http/client.rs"]
mod client;
#[path = "http/malformed.rs"]
mod malformed;
#[path = "http/swaps.rs"]
mod swaps;

use std::time::Duration;

use aimass_onnx::build::mlp;
use aimass_serving::{Host, HostConfig};
use client::{Service, request};
use serde_json::{Value, json};

fn service() -> Service {
    let host = Host::start(HostConfig::default()).expect("threads start");
    host.load("digits", "1", mlp(&[4, 8, 3], 1).as_bytes()).expect("loads");
    Service::start(host)
}

fn body(rows: usize) -> String {
    let data: Vec<f32> = (0..rows * 4).map(|i| i as f32 / 10.0).collect();
    json!({ "id": "a", "inputs": [{ "name": "x", "shape": [rows, 4], "datatype": "FP32", "data": data }] }).to_string()
}

#[test]
fn should_say_what_it_is_and_has() {
    let service = service();
    let about = service.get("/v2").ok_json();
    assert_eq!(about["name"], "aimass");
    assert!(
        about["extensions"]
            .as_array()
            .expect("a list")
            .contains(&"binary_tensor_data".into())
    );
    assert_eq!(service.get("/v2/health/live").ok_json(), json!({ "live": true }));
    assert_eq!(service.get("/v2/health/ready").ok_json(), json!({ "ready": true }));
    let model = service.get("/v2/models/digits").ok_json();
    assert_eq!(
        model,
        json!({
            "name": "digits", "versions": ["1"], "platform": model["platform"],
            "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 4] }],
            "outputs": [{ "name": model["outputs"][0]["name"], "datatype": "FP32", "shape": [-1, 3] }],
        })
    );
    assert!(["onnx_tract", "onnx_plan"].contains(&model["platform"].as_str().expect("a text")));
    assert_eq!(service.get("/v2/models/digits/versions/1/ready").ok_json()["ready"], true);
    assert_eq!(service.get("/v2/models/digits/ready").ok_json()["ready"], true);
}

#[test]
fn should_not_be_ready_without_a_model() {
    let service = Service::start(Host::start(HostConfig::default()).expect("threads start"));
    assert_eq!(service.get("/v2/health/ready").status, 503);
    assert_eq!(service.get("/v2/health/live").status, 200);
}

#[test]
fn should_infer_over_tcp_and_the_unix_socket_alike() {
    let service = service();
    let tcp = service.post("/v2/models/digits/infer", body(2).as_bytes()).ok_json();
    assert_eq!(
        (&tcp["id"], &tcp["model_name"], &tcp["model_version"]),
        (&"a".into(), &"digits".into(), &"1".into())
    );
    assert_eq!(
        (&tcp["outputs"][0]["shape"], &tcp["outputs"][0]["datatype"]),
        (&json!([2, 3]), &"FP32".into())
    );
    assert_eq!(tcp["outputs"][0]["data"].as_array().map(Vec::len), Some(6));
    let unix = service
        .post_unix("/v2/models/digits/versions/1/infer", body(2).as_bytes())
        .ok_json();
    assert_eq!(tcp, unix);
}

#[test]
fn should_take_and_give_binary_tensors() {
    let service = service();
    let expected = service.post("/v2/models/digits/infer", body(2).as_bytes()).ok_json();
    let head = json!({
        "inputs": [{ "name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": { "binary_data_size": 32 } }],
        "parameters": { "binary_data_output": true },
    })
    .to_string();
    let mut bytes = head.clone().into_bytes();
    (0..8).for_each(|i| bytes.extend_from_slice(&(i as f32 / 10.0).to_le_bytes()));
    let header = format!("Inference-Header-Content-Length: {}\r\n", head.len());
    let reply = service.send("POST", "/v2/models/digits/infer", &header, &bytes);
    assert_eq!(reply.status, 200);
    let n: usize = reply
        .header("inference-header-content-length")
        .expect("tensors follow")
        .parse()
        .expect("a number");
    let json: Value = serde_json::from_slice(&reply.body[..n]).expect("JSON");
    assert_eq!(json["outputs"][0]["parameters"]["binary_data_size"], 24);
    let values: Vec<f32> = reply.body[n..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let wanted: Vec<f32> = serde_json::from_value(expected["outputs"][0]["data"].clone()).expect("numbers");
    assert_eq!(values, wanted);
}

#[test]
fn should_cut_a_long_input_into_windows() {
    let host = Host::start(HostConfig::default()).expect("threads start");
    host.load("m", "1", mlp(&[4, 3], 1).as_bytes()).expect("loads");
    let service = Service::start(host);
    let long: Vec<f32> = (0..10).map(|i| i as f32).collect();
    let ask = |parameters: Value| {
        let request = json!({ "parameters": parameters, "inputs": [{ "name": "x", "shape": [1, 10], "datatype": "FP32", "data": long }] });
        service.post("/v2/models/m/infer", request.to_string().as_bytes())
    };
    let single = |begin: usize| -> Vec<f64> {
        let request = json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "data": &long[begin..begin + 4] }] });
        let reply = service.post("/v2/models/m/infer", request.to_string().as_bytes()).ok_json();
        serde_json::from_value(reply["outputs"][0]["data"].clone()).expect("numbers")
    };
    let all = ask(json!({ "window": 4, "stride": 3 })).ok_json();
    assert_eq!(all["outputs"][0]["shape"], json!([3, 3]));
    let data: Vec<f64> = serde_json::from_value(all["outputs"][0]["data"].clone()).expect("numbers");
    let windows = [single(0), single(3), single(6)].concat();
    assert!(data.iter().zip(&windows).all(|(a, b)| (a - b).abs() < 1e-5), "{data:?} {windows:?}");
    let mean = ask(json!({ "window": 4, "stride": 3, "merge": "mean" })).ok_json();
    assert_eq!(mean["outputs"][0]["shape"], json!([1, 3]));
    let found = mean["outputs"][0]["data"][0].as_f64().expect("a number");
    assert!((found - (windows[0] + windows[3] + windows[6]) / 3.0).abs() < 1e-5);
    for (parameters, part) in [
        (json!({ "window": 11 }), "only 10 long"),
        (json!({ "window": 4, "stride": 5 }), "left out"),
        (json!({ "window": 0 }), "at least 1"),
        (json!({ "window": 4, "axis": 2 }), "axis is 2"),
        (json!({ "window": 4, "merge": "max" }), "concat, mean or vote"),
        (json!({ "stride": 4 }), "needs the parameter window"),
        (json!({ "window": 3 }), "[1, 3]"),
        (json!({ "window": 4, "per_step": true }), "leave per_step out"),
        (json!({ "window": 4, "strid": 2 }), "strid"),
    ] {
        let reply = ask(parameters.clone());
        assert!(
            reply.status == 400 && reply.text().contains(part),
            "{parameters}: {} {}",
            reply.status,
            reply.text()
        );
    }
}

#[test]
fn should_count_what_it_does() {
    let service = service();
    for _ in 0..3 {
        service.post("/v2/models/digits/infer", body(1).as_bytes()).ok_json();
    }
    service.post("/v2/models/digits/infer", b"{");
    service.post("/v2/models/other/infer", b"{}");
    let text = service.get("/metrics").text();
    for line in [
        "aimass_serve_requests_total{model=\"digits\",status=\"200\"} 3",
        "aimass_serve_errors_total{model=\"digits\"} 1",
        "aimass_serve_requests_total{model=\"\",status=\"404\"} 1",
        "aimass_serve_latency_seconds_count{model=\"digits\"} 3",
        "aimass_serve_model_info{model=\"digits\",version=\"1\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

/// A chunked body, which says no length, is under the same limit.
#[test]
fn should_bound_bodies_with_and_without_a_length() {
    let config = HostConfig {
        max_request_bytes: 1000,
        ..HostConfig::default()
    };
    let host = Host::start(config).expect("threads start");
    host.load("digits", "1", mlp(&[4, 8, 3], 1).as_bytes()).expect("loads");
    let service = Service::start(host);
    let path = "/v2/models/digits/infer";
    let announced = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n");
    assert_eq!(
        request(&service.address, announced.as_bytes()).status,
        413,
        "before anything is read"
    );
    let piece = format!("{:x}\r\n{}\r\n", 600, " ".repeat(600));
    let chunked = format!("POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{piece}{piece}0\r\n\r\n");
    assert_eq!(request(&service.address, chunked.as_bytes()).status, 413);
    assert_eq!(service.post(path, body(1).as_bytes()).status, 200, "it goes on");
}

#[test]
fn should_refuse_when_the_queue_is_full_and_say_when_to_come_back() {
    let mut config = HostConfig::default();
    config.queue.capacity = 0;
    let host = Host::start(config).expect("threads start");
    host.load("digits", "1", mlp(&[4, 8, 3], 1).as_bytes()).expect("loads");
    let service = Service::start(host);
    let reply = service.post("/v2/models/digits/infer", body(1).as_bytes());
    assert_eq!((reply.status, reply.header("retry-after").as_deref()), (503, Some("1")));
}

#[test]
fn should_answer_a_request_that_waits_for_others_after_the_delay() {
    let mut config = HostConfig::default();
    config.queue.delay = Duration::from_millis(100);
    let host = Host::start(config).expect("threads start");
    host.load("digits", "1", mlp(&[4, 8, 3], 1).as_bytes()).expect("loads");
    let service = Service::start(host);
    let begin = std::time::Instant::now();
    service.post("/v2/models/digits/infer", body(1).as_bytes()).ok_json();
    assert!(begin.elapsed() >= Duration::from_millis(100));
}
