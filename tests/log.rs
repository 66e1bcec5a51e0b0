//! The log of models as an operator exports it and an auditor verifies it.

use std::path::Path;
use std::process::Output;

use aimass_crypto::log::Checkpoint;
use aimass_crypto::sign::SigningKey;
use serde_json::Value;

use crate::support::{Deployment, aimass, json, refused, said};

/// Runs `aimass log` with these arguments.
fn log(dir: &Path, args: &[&str]) -> Output {
    aimass(dir, &[&["--json", "log"], args].concat())
}

/// Rewrites line `line` (from 0) of the exported log into a new file.
fn changed(dir: &Path, to: &str, change: impl FnOnce(&mut Vec<String>)) {
    let text = std::fs::read_to_string(dir.join("log.jsonl")).expect("exported");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    change(&mut lines);
    std::fs::write(dir.join(to), lines.join("\n") + "\n").expect("written");
}

#[test]
fn a_log_is_exported_verified_and_proved() {
    let deployment = Deployment::start(3, 3);
    let dir = deployment.dir.path();
    let id = deployment.submit();
    let early = json(&log(dir, &["verify", "--server-dir", "server", "--save", "early.checkpoint"]));
    assert_eq!(
        (&early["origin"], early["size"].as_u64() >= Some(1)),
        (&Value::from("aimass/default"), true)
    );
    let watched = aimass(dir, &["job", "watch", &id, "--server-dir", "server"]);
    assert!(watched.status.success(), "{}", said(&watched));
    json(&aimass(
        dir,
        &["--json", "job", "pull", &id, "-o", "final.onnx", "--server-dir", "server"],
    ));

    let exported = json(&log(dir, &["export", "--server-dir", "server"]));
    assert_eq!(exported["entries"], 4);
    let key = exported["verifier_key"].as_str().expect("a key").to_owned();
    let certificate = "server/identity/certificate.der";
    let verified = json(&log(
        dir,
        &[
            "verify",
            "log.jsonl",
            "--certificate",
            certificate,
            "--old",
            "early.checkpoint",
            "--list",
            "--save",
            "late.checkpoint",
        ],
    ));
    assert_eq!(
        (&verified["rounds"], &verified["jobs"], &verified["size"]),
        (&Value::from(3), &Value::from(1), &Value::from(4))
    );
    assert_eq!(verified["entries"].as_array().map(Vec::len), Some(4));
    assert_eq!(verified["older"][0]["size"], early["size"]);
    let running = json(&log(
        dir,
        &["verify", "--server-dir", "server", "--key", &key, "--old", "log.jsonl"],
    ));
    assert_eq!((&running["root"], &running["entries"]), (&verified["root"], &Value::Null));
    let text = said(&aimass(dir, &["log", "verify", "log.jsonl", "--key", &key, "--list"]));
    for part in ["0 job", "base model", "round 3", "holds: 4 entries, 1 jobs, 3 rounds"] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }

    let proved = json(&log(dir, &["proof", "create", "--model", "final.onnx", "--server-dir", "server"]));
    assert_eq!(proved["index"], 3);
    let check = ["proof", "check", "model.proof", "--certificate", certificate];
    let checked = json(&log(dir, &[&check[..], &["--model", "final.onnx"]].concat()));
    assert_eq!((&checked["index"], &checked["size"]), (&Value::from(3), &Value::from(4)));
    let first = json(&log(
        dir,
        &["proof", "create", "--index", "0", "-o", "first.proof", "--server-dir", "server"],
    ));
    assert_eq!(first["index"], 0);
    let other = log(
        dir,
        &[
            "proof",
            "check",
            "first.proof",
            "--certificate",
            certificate,
            "--model",
            "final.onnx",
        ],
    );
    refused(&other, 5, &["it is a proof of the model", "ask for a proof of that one"]);
    let unknown = log(dir, &["proof", "create", "--model", &"9".repeat(64), "--server-dir", "server"]);
    refused(&unknown, 1, &["no entry of the log vouches for the model"]);
    deployment.cluster.stop();

    // All that follows is offline.
    let verify = |file: &str, more: &[&str]| log(dir, &[&["verify", file, "--key", &key], more].concat());
    assert!(
        verify("log.jsonl", &["--old", "late.checkpoint", "--old", "model.proof"])
            .status
            .success()
    );
    let without_key = log(dir, &["verify", "log.jsonl"]);
    refused(&without_key, 2, &["a log can't vouch for itself", "--certificate"]);
    let stranger = log(dir, &["verify", "log.jsonl", "--key", &"7".repeat(64)]);
    refused(&stranger, 5, &["not signed by this key"]);
    let another_tenant = log(dir, &["verify", "log.jsonl", "--key", &key, "--tenant", "other"]);
    refused(&another_tenant, 2, &["leave --tenant out"]);

    changed(dir, "changed.jsonl", |lines| {
        // The time of round 2, or another byte near the end.
        let at = lines[3].len() - 5;
        let digit = if lines[3].as_bytes()[at] == b'0' { "1" } else { "0" };
        lines[3].replace_range(at..=at, digit);
    });
    let rewritten = verify("changed.jsonl", &[]);
    assert_eq!(rewritten.status.code(), Some(5), "{}", said(&rewritten));
    changed(dir, "without_base.jsonl", |lines| {
        lines.remove(1);
    });
    refused(&verify("without_base.jsonl", &[]), 5, &["starts from the model", "outside the log"]);
    changed(dir, "cut.jsonl", |lines| {
        lines.pop();
    });
    refused(&verify("cut.jsonl", &[]), 5, &["there are 3 entries, the checkpoint is over 4"]);
    changed(dir, "note.jsonl", |lines| lines[0] = lines[0].replace("\\n4\\n", "\\n5\\n"));
    refused(&verify("note.jsonl", &[]), 5, &["changed after it was signed"]);
    std::fs::write(dir.join("no.jsonl"), "no log\n").expect("written");
    refused(&verify("no.jsonl", &[]), 5, &["line 1", "export it again"]);

    // The server signed another past: its signatures convict it.
    let pem = std::fs::read_to_string(dir.join("server/identity/key.pem")).expect("the server's key");
    let server = SigningKey::from_pem(&pem).expect("a key");
    for (size, says) in [
        (6, "it was cut short"),
        (4, "two different logs of 4 entries"),
        (2, "does not begin with the 2 entries"),
    ] {
        let other = Checkpoint {
            origin: "aimass/default".to_owned(),
            size,
            root: [7; 32],
        };
        std::fs::write(dir.join("other.checkpoint"), other.sign(&server).expect("a good origin")).expect("written");
        let caught = verify("log.jsonl", &["--old", "early.checkpoint", "--old", "other.checkpoint"]);
        refused(&caught, 5, &[says, "Keep both"]);
    }
}
