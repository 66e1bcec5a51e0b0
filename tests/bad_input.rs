//! Bad input by a person: a clear error on their side that says the fix, the right exit code, and nothing changed.

use std::path::Path;

use aimass_cli::cluster::Cluster;
use aimass_cli::example::{self, ExampleOptions};
use serde_json::Value;

use crate::support::{Deployment, PROGRAM, aimass, aimass_env, json, refused};

#[test]
fn job_files_are_refused_with_the_line_and_the_fix() {
    let dir = tempfile::tempdir().expect("a folder");
    let example = example::write(
        &dir.path().join("data"),
        ExampleOptions {
            agents: 1,
            rounds: 1,
            seed: 1,
            plain: true,
        },
    )
    .expect("written");
    let good = std::fs::read_to_string(&example.job).expect("text");
    let check = |text: &str, parts: &[&str]| {
        let path = example.job.with_file_name("changed.toml");
        std::fs::write(&path, text).expect("written");
        refused(&aimass(dir.path(), &["job", "check", "data/changed.toml"]), 5, parts);
    };
    let line_of = |key: &str| good.lines().position(|l| l.starts_with(key)).expect("the key is there") + 1;
    // Found out by doing it to the model that the job starts from, and not after the last round.
    for section in ["quantize = \"static\"\nkeep = [\"*\"]", "channels = 0.5\nkeep = [\"*\"]"] {
        check(
            &format!("{good}\n[compress]\n{section}\n"),
            &["compress", "it can't be made smaller so"],
        );
    }
    check(
        &good.replace("lr = 0.1", "lr = -1.0"),
        &[&format!("line {}", line_of("lr")), "train.lr"],
    );
    check(
        &good.replace("epochs = 5", "epoch = 5"),
        &[&format!("line {}", line_of("epochs")), "epoch", "epochs"],
    );
    check(
        &good.replace("mode = \"plain\"", "mode = \"secure\""),
        &["aggregation.mode", "round.min of at least 3", "mode = \"plain\""],
    );
    // The aggregator would refuse it with the same words.
    let large = good.replace("mode = \"plain\"", "mode = \"secure\"\nfloor = 3");
    let large: Vec<&str> = large
        .lines()
        // Those of [round]; the target of [data] is a name.
        .filter(|l| l.contains('"') || !["min =", "max =", "target ="].iter().any(|key| l.starts_with(key)))
        .collect();
    let large = large.join("\n").replace("[round]", "[round]\nmin = 3\ntarget = 900\nmax = 917");
    check(
        &large,
        &[
            "round.max",
            "917 agents would need",
            "over the limit of 300",
            "profile = \"standard\"",
        ],
    );
    check(
        &good.replace("lr = 0.1", "lr = 0.1\nlora = { rank = 4, targets = [\"nothing\"] }"),
        &["train.lora", "the glob \"nothing\" matches no float32 matrix"],
    );
    check(
        &good.replace("lr = 0.1", "lr = 0.1\nclass_weights = [1.0, 2.0]"),
        &["train.loss", "`class_weights` has 2 numbers for 10 classes"],
    );
    check(
        &good.replace("model.onnx", "nothing.onnx"),
        &[&format!("line {}", line_of("path")), "nothing.onnx"],
    );
    check(
        &good.replace("target = \"label\"", "target = \"digit\""),
        &["evaluate.data", "digit"],
    );
    check(
        &good.replace("target = \"label\"", "target = \"label\"\ninputs = [\"p00\", \"p01\"]"),
        &["data.inputs", "64"],
    );
    check(&good.replace("[data]", "[data"), &["line"]);

    std::fs::write(dir.path().join("data/model.onnx"), b"\x08\x07not a model").expect("written");
    check(&good, &["model.path"]);
}

#[test]
fn jobs_must_be_signed_by_an_owner_that_the_authority_knows() {
    let deployment = Deployment::start(1, 1);
    let dir = deployment.dir.path();
    let job = deployment.example.job.display().to_string();
    let submit = |key: &str| aimass(dir, &["job", "submit", &job, "--owner-key", key, "--server-dir", "server"]);
    refused(&submit("missing.key"), 1, &["missing.key", "aimass owner create"]);

    let other = tempfile::tempdir().expect("a folder");
    let mut rng = <rand_chacha::ChaCha20Rng as rand_core::SeedableRng>::seed_from_u64(3);
    aimass_cli::owner::create_key(&other.path().join("foreign.key"), &mut rng).expect("a key");
    let foreign = other.path().join("foreign.key").display().to_string();
    let output = submit(&foreign);
    assert!(matches!(output.status.code(), Some(4 | 5)), "{}", crate::support::said(&output));
    refused(&output, output.status.code().unwrap_or_default(), &["owner"]);
    let jobs: Value = deployment.cluster.server().get("/v1/jobs").expect("the aggregator answers");
    assert_eq!(jobs["jobs"].as_array().map(Vec::len), Some(0), "nothing changed");
    deployment.cluster.stop();
}

#[test]
fn tokens_work_once_for_their_own_authority_and_in_time() {
    let a = tempfile::tempdir().expect("a folder");
    let b = tempfile::tempdir().expect("a folder");
    let first = Cluster::start(Path::new(PROGRAM), a.path(), &|| false).expect("the services start");
    let second = Cluster::start(Path::new(PROGRAM), b.path(), &|| false).expect("the services start");
    let token = |dir: &Path, expires: &str| {
        let args = [
            "--json",
            "token",
            "create",
            "--server",
            first.server_address(),
            "--expires",
            expires,
            "--authority-dir",
            "authority",
        ];
        json(&aimass(dir, &args))["token"].as_str().expect("a token").to_owned()
    };
    let join = |name: &str, token: &str| aimass_env(a.path(), &["agent", "--data-dir", name, "join"], &[("AIMASS_JOIN_TOKEN", token)]);

    refused(&join("x", "aimass1.nonsense"), 2, &["join token"]);
    let good = token(a.path(), "1h");
    assert!(join("one", &good).status.success(), "the first use works");
    refused(&join("two", &good), 4, &["used"]);
    let short = token(a.path(), "1s");
    std::thread::sleep(std::time::Duration::from_millis(1200));
    refused(&join("three", &short), 4, &["expired"]);
    // The device's clock is behind, or somebody changed the text: the authority knows better.
    let parsed: aimass_protocol::token::JoinToken = short.parse().expect("a token");
    let expires_at = parsed.expires_at.after(std::time::Duration::from_secs(3600));
    let prolonged = aimass_protocol::token::JoinToken { expires_at, ..parsed };
    refused(&join("three", &prolonged.to_text().expect("it fits a line")), 4, &["expired"]);

    // A token whose address leads to another authority: its root is not the token's.
    let parsed: aimass_protocol::token::JoinToken = token(a.path(), "1h").parse().expect("a token");
    let status: Value = second.authority().get("/v1/status").expect("the authority answers");
    let swapped = aimass_protocol::token::JoinToken {
        authority: status["quic_address"].as_str().expect("an address").to_owned(),
        ..parsed
    };
    refused(
        &join("four", &swapped.to_text().expect("it fits a line")),
        4,
        &["is not the authority that made this token"],
    );

    let counted: Value = first.authority().get("/v1/status").expect("the authority answers");
    let count = |word: &str| -> u64 {
        counted["counters"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(k, _)| k.contains(word))
            .filter_map(|(_, v)| v.as_u64())
            .sum()
    };
    assert!(count("token_used") >= 1 && count("token_expired") >= 1, "{counted}");
    first.stop();
    second.stop();
}

#[test]
fn a_broken_data_file_is_named_with_line_and_column() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start(Path::new(PROGRAM), dir.path(), &|| false).expect("the services start");
    let reply = json(&aimass(
        dir.path(),
        &[
            "--json",
            "token",
            "create",
            "--server",
            cluster.server_address(),
            "--authority-dir",
            "authority",
        ],
    ));
    let token = reply["token"].as_str().expect("a token");
    assert!(
        aimass_env(dir.path(), &["agent", "--data-dir", "a", "join"], &[("AIMASS_JOIN_TOKEN", token)])
            .status
            .success()
    );
    std::fs::write(dir.path().join("bad.csv"), "x,label\n0.5,1\nhalf,0\n").expect("written");
    let output = aimass(
        dir.path(),
        &["agent", "--data-dir", "a", "run", "--data", "bad.csv", "--allow-plain"],
    );
    refused(&output, 5, &["bad.csv", "3"]);
    refused(
        &aimass(dir.path(), &["agent", "--data-dir", "a", "run", "--data", "none.csv"]),
        5,
        &["none.csv"],
    );
    cluster.stop();
}

#[test]
fn a_port_in_use_and_a_folder_in_use_say_the_fix() {
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start(Path::new(PROGRAM), dir.path(), &|| false).expect("the services start");
    let taken = cluster.server_address().to_owned();
    let reply = json(&aimass(
        dir.path(),
        &["--json", "token", "create", "--role", "server", "--authority-dir", "authority"],
    ));
    let token = reply["token"].as_str().expect("a token");
    let other = aimass_env(
        dir.path(),
        &["serve", "--data-dir", "other", "--listen", &taken],
        &[("AIMASS_JOIN_TOKEN", token)],
    );
    refused(&other, 1, &[&taken, "in use"]);
    let same = aimass(dir.path(), &["serve", "--data-dir", "server", "--listen", "127.0.0.1:0"]);
    refused(&same, 1, &["server"]);
    cluster.stop();
}

#[test]
fn commands_without_a_service_say_how_to_start_it() {
    let dir = tempfile::tempdir().expect("a folder");
    refused(&aimass(dir.path(), &["job", "list"]), 3, &["aimass serve", "--server-dir"]);
    refused(&aimass(dir.path(), &["token", "create"]), 3, &["aimass authority"]);
    refused(
        &aimass(dir.path(), &["serve", "--data-dir", "new", "--listen", "127.0.0.1:0"]),
        2,
        &["token"],
    );
    refused(&aimass(dir.path(), &["demo", "--agents", "0"]), 2, &["--agents"]);
    refused(&aimass(dir.path(), &["nonsense"]), 2, &["nonsense"]);
}
