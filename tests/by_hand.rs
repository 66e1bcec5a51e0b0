//! The README's walk by hand: every command as an operator and a deployer use it.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Deployment, aimass, json, last_json, said, wait};

#[test]
fn a_job_is_submitted_watched_shown_listed_and_pulled() {
    let deployment = Deployment::start(3, 3);
    let dir = deployment.dir.path();
    let job_file = deployment.example.job.display().to_string();
    assert_eq!(
        json(&aimass(dir, &["--json", "job", "check", &job_file]))["weights"],
        64 * 64 + 64 + 64 * 10 + 10
    );

    let id = deployment.submit();
    let watched = aimass(dir, &["job", "watch", &id[..8], "--server-dir", "server"]);
    assert!(watched.status.success(), "{}", said(&watched));
    let text = said(&watched);
    for part in ["round    1", "round    3", "accuracy", "finished"] {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
    let view = json(&aimass(dir, &["--json", "job", "show", &id, "--server-dir", "server"]));
    assert_eq!((&view["state"], view["round"].as_u64()), (&Value::from("finished"), Some(3)));
    assert_eq!(view["history"].as_array().map(Vec::len), Some(3));
    assert_eq!(view["history"][0]["contributions"], 3);

    let list = json(&aimass(dir, &["--json", "job", "list", "--server-dir", "server"]));
    assert_eq!(list["jobs"][0]["job"].as_str(), Some(id.as_str()));
    let pulled = json(&aimass(
        dir,
        &["--json", "job", "pull", &id, "-o", "final.onnx", "--server-dir", "server"],
    ));
    assert_eq!(pulled["sha256"], view["model"]);
    let first = json(&aimass(
        dir,
        &[
            "--json",
            "job",
            "pull",
            &id,
            "--round",
            "1",
            "-o",
            "first.onnx",
            "--server-dir",
            "server",
        ],
    ));
    assert_eq!(first["sha256"], view["history"][0]["model"]);

    let agents = json(&aimass(dir, &["--json", "agents", "list", "--server-dir", "server"]));
    assert_eq!(agents["agents"].as_array().map(Vec::len), Some(3));
    assert!(
        agents["agents"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|a| a["state"] == "accepted" && a["online"] == true),
        "{agents}"
    );

    let doctor = aimass(dir, &["--json", "doctor", "--server-dir", "server", "--authority-dir", "authority"]);
    assert_eq!(json(&doctor)["good"], true);
    let agent_doctor = aimass(dir, &["agent", "--data-dir", "agent-1", "--json", "doctor"]);
    assert!(last_json(&agent_doctor).is_object(), "{}", said(&agent_doctor));
    deployment.cluster.stop();
}

#[test]
fn a_stopped_job_ends_and_keeps_its_rounds() {
    let mut deployment = Deployment::start(3, 10_000);
    let id = deployment.submit();
    deployment.wait_round(&id, 2);
    json(&aimass(
        deployment.dir.path(),
        &["--json", "job", "stop", &id, "--server-dir", "server"],
    ));
    let view = deployment.job(&id);
    assert_eq!(view["state"], "stopped");
    let round = view["round"].as_u64();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(deployment.job(&id)["round"].as_u64(), round, "no round after the stop");
    deployment.cluster.stop();
}

#[test]
fn a_revoked_agent_is_cut_off_within_seconds_and_comes_back_when_accepted() {
    let mut deployment = Deployment::start(2, 10_000);
    let id = deployment.submit();
    deployment.wait_round(&id, 1);
    let agents: Value = deployment.cluster.server().get("/v1/agents").expect("the aggregator answers");
    let agent = agents["agents"][0]["agent"].as_str().expect("an id").to_owned();
    let state = |deployment: &Deployment| -> (Value, Value) {
        let agents: Value = deployment.cluster.server().get("/v1/agents").expect("the aggregator answers");
        let row = agents["agents"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|a| a["agent"] == agent.as_str())
            .expect("still known")
            .clone();
        (row["state"].clone(), row["online"].clone())
    };

    json(&aimass(
        deployment.dir.path(),
        &["--json", "agents", "revoke", &agent[..8], "--server-dir", "server"],
    ));
    wait("the revoked agent is cut off", Duration::from_secs(5), || {
        state(&deployment) == (Value::from("revoked"), Value::from(false))
    });
    let round = deployment.job(&id)["round"].as_u64().expect("a number");
    std::thread::sleep(Duration::from_secs(1));
    assert!(
        deployment.job(&id)["round"].as_u64().expect("a number") <= round + 1,
        "a job of two agents stands still without one"
    );

    json(&aimass(
        deployment.dir.path(),
        &["--json", "agents", "accept", &agent[..8], "--server-dir", "server"],
    ));
    deployment.wait_round(&id, round + 2);
    deployment.cluster.stop();
}

#[test]
fn config_show_names_the_origin_of_each_value() {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("server.toml"), "listen = \"127.0.0.1:5001\"\n").expect("written");
    let shown = crate::support::aimass_env(
        dir.path(),
        &["config", "show", "--of", "serve", "--config", "server.toml"],
        &[("AIMASS_SERVER_TENANT", "ward-7")],
    );
    let text = said(&shown);
    assert!(shown.status.success(), "{text}");
    let line = |key: &str| {
        text.lines()
            .find(|l| l.starts_with(key))
            .unwrap_or_else(|| panic!("{key} is missing in:\n{text}"))
            .to_owned()
    };
    assert!(
        line("listen ").contains("server.toml") && line("listen ").contains("5001"),
        "{text}"
    );
    assert!(line("tenant").contains("AIMASS_SERVER_TENANT"), "{text}");
    assert!(line("data_dir").contains("default"), "{text}");
}

#[test]
fn services_and_commands_agree_on_the_default_folders() {
    let dir = tempfile::tempdir().expect("a folder");
    for (of, folder) in [("serve", "aimass-server"), ("authority", "aimass-authority")] {
        let shown = said(&aimass(dir.path(), &["config", "show", "--of", of]));
        let line = shown.lines().find(|l| l.starts_with("data_dir")).expect("a folder").to_owned();
        assert!(line.contains(&format!("\"{folder}\"")), "{line}");
        let asked = if of == "serve" { ["job", "list"] } else { ["token", "list"] };
        assert!(said(&aimass(dir.path(), &asked)).contains(folder), "{of}");
    }
}
