//! Requests that are wrong: each has its status, and a text with the field and the fix.

use serde_json::json;

use super::{Service, service};

const INFER: &str = "/v2/models/digits/infer";

fn refused(service: &Service, path: &str, headers: &str, body: &[u8], status: u16, parts: &[&str]) {
    let reply = service.send("POST", path, headers, body);
    let shown: String = String::from_utf8_lossy(body).chars().take(200).collect();
    assert_eq!(reply.status, status, "{path} {shown}: {}", reply.text());
    let error: serde_json::Value = serde_json::from_slice(&reply.body).expect("errors are JSON");
    let text = error["error"].as_str().expect("a text");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing for {shown}: {text}");
    }
}

#[test]
fn should_refuse_what_is_wrong_and_say_the_fix() {
    let service = service();
    let input = |datatype: &str, shape: &str, data: &str| {
        format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#)
    };
    let four = "[1,2,3,4]";
    let deep = "[".repeat(100) + &"]".repeat(100);
    let table: Vec<(String, &[&str])> = vec![
        (String::new(), &["EOF"]),
        ("[]".to_owned(), &["protocol"]),
        ("{".to_owned(), &["EOF"]),
        ("nonsense".to_owned(), &["protocol"]),
        ("{}".to_owned(), &["inputs"]),
        (r#"{"inputs":[]}"#.to_owned(), &["\"x\" is missing", "FP32"]),
        (r#"{"input":[]}"#.to_owned(), &["unknown field `input`", "inputs"]),
        (
            r#"{"inputs":[{"name":"z","datatype":"FP32","shape":[1,4],"data":[1,2,3,4]}]}"#.to_owned(),
            &["no input \"z\"", "it has x"],
        ),
        (
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4]}]}"#.to_owned(),
            &["`data` is missing"],
        ),
        (
            r#"{"inputs":[{"name":"x","shape":[1,4],"data":[1,2,3,4]}]}"#.to_owned(),
            &["datatype"],
        ),
        (
            r#"{"inputs":[{"name":"x","datatype":"FP32","data":[1,2,3,4]}]}"#.to_owned(),
            &["shape"],
        ),
        (input("INT64", "[1,4]", four), &["INT64", "the model takes FP32"]),
        (input("FP16", "[1,4]", four), &["FP16", "use BOOL"]),
        (input("fp32", "[1,4]", four), &["fp32"]),
        (input("FP32", "[1,5]", four), &["asks for 5 values, 4"]),
        (input("FP32", "[4]", four), &["has the shape", "not [4]"]),
        (input("FP32", "[1,3]", "[1,2,3]"), &["not [1, 3]"]),
        (input("FP32", "[0,4]", "[]"), &["length 0"]),
        (input("FP32", "[-1,4]", four), &["invalid value"]),
        (input("FP32", "[1.5,4]", four), &["1.5"]),
        (
            input("FP32", "[4294967296,4294967296,4294967296]", four),
            &["more values than any memory"],
        ),
        (input("FP32", "[1,1,1,1,1,1,1,1,4]", four), &["9 axes"]),
        (input("FP32", "[1,4]", "[1,2,3,NaN]"), &["JSON has no NaN"]),
        (input("FP32", "[1,4]", "[1,2,3,Infinity]"), &["JSON has no NaN or Infinity"]),
        (
            input("FP32", "[1,4]", r#"[1,2,3,"NaN"]"#),
            &["input \"x\"", "the text \"NaN\" (value 3)", "finite"],
        ),
        (input("FP32", "[1,4]", "[1,2,3,null]"), &["null (value 3)"]),
        (input("FP32", "[1,4]", "[1,2,3,{}]"), &["an object"]),
        (input("FP32", "[1,4]", "[1,2,3,1e39]"), &["1e39", "FP32 can't hold"]),
        (input("FP32", "[1,4]", "[1,2,3,1e999]"), &["out of range"]),
        (input("FP32", "[1,4]", "[1,2,3,true]"), &["mixes numbers with true"]),
        (input("FP32", "[1,4]", "[true,true,true,true]"), &["true and false where FP32"]),
        (input("FP32", "[1,4]", "7"), &["must be a list"]),
        (input("FP32", "[1,4]", "[[1,2],[3,4]]"), &["nested otherwise"]),
        (input("FP32", "[1,4]", "[[1,2,3],4]"), &["side by side"]),
        (input("FP32", "[1,4]", &deep), &["nested more than 8"]),
        (input("FP32", "[1,4]", "[1,2,3"), &["protocol"]),
        (
            format!(
                r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,4],"data":{four}}},{{"name":"x","datatype":"FP32","shape":[1,4],"data":{four}}}]}}"#
            ),
            &["given twice"],
        ),
        (
            format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,4],"data":{four}}}],"outputs":[{{"name":"y2"}}]}}"#),
            &["no output \"y2\"; it has"],
        ),
        (
            format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,4],"data":{four},"parameters":{{"x":1}}}}]}}"#),
            &["no parameter \"x\""],
        ),
        (
            format!(
                r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,4],"data":{four},"parameters":{{"binary_data_size":16}}}}]}}"#
            ),
            &["both"],
        ),
        (
            format!(
                r#"{{"id":"{}","inputs":[{{"name":"x","datatype":"FP32","shape":[1,4],"data":{four}}}]}}"#,
                "x".repeat(300)
            ),
            &["`id` is longer"],
        ),
    ];
    for (body, parts) in &table {
        refused(&service, INFER, "", body.as_bytes(), 400, parts);
    }
    // None of them hurt.
    assert_eq!(service.post(INFER, input("FP32", "[1,4]", "[[1,2,3,4]]").as_bytes()).status, 200);
}

#[test]
fn should_refuse_binary_tensors_that_are_wrong() {
    let service = service();
    let send = |size: serde_json::Value, tail: &[u8], json_bytes: Option<&str>, status: u16, parts: &[&str]| {
        let head = json!({ "inputs": [{ "name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": { "binary_data_size": size } }] });
        let head = head.to_string();
        let n = json_bytes.map_or(head.len().to_string(), str::to_owned);
        let header = format!("Inference-Header-Content-Length: {n}\r\n");
        refused(&service, INFER, &header, &[head.as_bytes(), tail].concat(), status, parts);
    };
    send(json!(15), &[0; 15], None, 400, &["takes 16 bytes"]);
    send(json!(16), &[0; 15], None, 400, &["15 bytes follow"]);
    send(json!(16), &[0; 17], None, 400, &["1 bytes follow the JSON"]);
    send(json!(-1), &[0; 16], None, 400, &["no number of bytes"]);
    send(json!(u64::MAX), &[0; 16], None, 400, &["takes 16 bytes"]);
    send(json!(16), &[0; 16], Some("99999"), 400, &["the body has"]);
    send(json!(16), &[0; 16], Some("many"), 400, &["no number of bytes"]);
    send(json!(16), &[0; 16], Some("10"), 400, &["protocol"]);
}

#[test]
fn should_refuse_unknown_models_versions_paths_and_methods() {
    let service = service();
    refused(
        &service,
        "/v2/models/other/infer",
        "",
        b"{}",
        404,
        &["no model \"other\"", "digits"],
    );
    refused(
        &service,
        "/v2/models/digits/versions/9/infer",
        "",
        b"{}",
        404,
        &["no version \"9\"", "there are 1"],
    );
    refused(&service, "/v1/models", "", b"{}", 404, &["no such path"]);
    assert_eq!(service.get("/v2/models/other").status, 404);
    assert_eq!(service.get("/v2/models/other/ready").status, 404);
    let reply = service.get("/v2/models/digits/infer");
    assert!(reply.status == 405 && reply.text().contains("POST"), "{}", reply.text());
}
