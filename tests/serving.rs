//! Serving and predicting by the real executable.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{PROGRAM, aimass, json as last, refused, wait};

/// `aimass agent serve` on a free port.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(dir: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["agent", "--json", "serve", "--listen", "127.0.0.1:0", "--exit-with-parent"])
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the executable starts");
        let mut line = String::new();
        let stdout = child.stdout.as_mut().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("a line");
        let event: Value = serde_json::from_str(&line).expect("an event");
        assert_eq!(event["event"], "serving", "{event}");
        let address = event["address"].as_str().expect("an address").to_owned();
        Self { child, address }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).expect("connects");
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("a reply");
        let (head, body) = text.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// Ends it as its parent's end would.
    fn stop(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn new_model(dir: &Path, name: &str, seed: &str) {
    let made = aimass(
        dir,
        &[
            "model", "new", "mlp", "--sizes", "4,8,3", "--seed", seed, "--output", name, "--force",
        ],
    );
    assert!(made.status.success(), "{}", crate::support::said(&made));
}

#[test]
fn an_agent_serves_a_file_and_swaps_in_its_next_version() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    new_model(dir.path(), "m.onnx", "1");
    let serving = Serving::start(dir.path(), &["--model", "m=m.onnx", "--unix", "serve.sock"]);
    let (status, about) = serving.ask("GET", "/v2/models/m", "");
    assert_eq!((status, &about["versions"]), (200, &json!(["1"])));
    let name = about["inputs"][0]["name"].clone();
    let body = json!({ "inputs": [{ "name": name, "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4] }] }).to_string();
    let (status, first) = serving.ask("POST", "/v2/models/m/infer", &body);
    assert_eq!(status, 200, "{first}");
    assert!(dir.path().join("serve.sock").exists());
    new_model(dir.path(), "m.onnx", "2");
    let version = || serving.ask("GET", "/v2/models/m", "").1["versions"][0].clone();
    wait("the new version", Duration::from_secs(30), || version() == "2");
    let (_, second) = serving.ask("POST", "/v2/models/m/infer", &body);
    assert_ne!(first["outputs"], second["outputs"]);
    std::fs::write(dir.path().join("m.onnx"), "damaged").expect("writes");
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(version(), "2", "the last good one stays");
    assert_eq!(serving.stop(), Some(0));
    assert!(!dir.path().join("serve.sock").exists());
}

#[test]
fn an_agent_predicts_what_it_would_serve() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    new_model(dir.path(), "m.onnx", "1");
    std::fs::write(dir.path().join("rows.csv"), "a,b,c,d\n1,2,3,4\n4,3,2,1\n").expect("writes");
    let said = aimass(
        dir.path(),
        &[
            "agent", "--json", "predict", "--model", "m.onnx", "--input", "rows.csv", "-o", "out.csv",
        ],
    );
    let predicted = last(&said);
    assert_eq!(predicted["outputs"][0]["shape"], json!([2, 3]));
    assert!(dir.path().join("out.csv").exists());
    let serving = Serving::start(dir.path(), &["--model", "m=m.onnx"]);
    let body = json!({ "inputs": [{ "name": "x", "shape": [2, 4], "datatype": "FP32", "data": [1, 2, 3, 4, 4, 3, 2, 1] }] }).to_string();
    let (status, served) = serving.ask("POST", "/v2/models/m/infer", &body);
    assert_eq!((status, &served["outputs"]), (200, &predicted["outputs"]));
}

#[test]
fn what_can_not_be_served_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let run = |args: &[&str]| aimass(dir.path(), &[&["agent", "serve"], args].concat());
    refused(&run(&[]), 2, &["nothing to serve", "--model NAME=FILE"]);
    refused(&run(&["--model", "m=none.onnx"]), 5, &["none.onnx"]);
    std::fs::write(dir.path().join("bad.onnx"), "no model").expect("writes");
    refused(&run(&["--model", "m=bad.onnx"]), 5, &["\"m\""]);
    new_model(dir.path(), "m.onnx", "1");
    refused(
        &run(&["--model", "m=m.onnx", "--listen", "0.0.0.0:0"]),
        2,
        &["--insecure-listen", "other machines"],
    );
}
