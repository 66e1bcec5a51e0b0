//! Releases between real processes: measured on canaries, promoted in stages, rolled back when a rule does not hold.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aimass_analytics::release::{Decision, ReleaseReport};
use aimass_cli::cluster::{AgentStart, ClusterSettings};
use aimass_crypto::hash::sha256;
use serde_json::Value;

use crate::support::{Deployment, agent_start, aimass, json, refused, said, wait};

const AGENTS: u32 = 4;
const WITHIN: Duration = Duration::from_secs(180);

/// A release of one or two variants in this folder.
fn release(deployment: &Deployment, name: &str, variants: &[&str], stages: &str, gate: &str) -> PathBuf {
    let variants: String = variants
        .iter()
        .map(|path| {
            format!(
                "[[release.variants]]\nname = \"{}\"\npath = \"{path}\"\n",
                path.trim_end_matches(".onnx")
            )
        })
        .collect();
    let text = format!(
        "[job]\nname = \"{name}\"\nkind = \"release\"\npurpose = \"recognise handwritten digits\"\nseed = 11\n\
         [data]\ncontract = \"optical-digits\"\ntarget = \"label\"\n[evaluate]\non_devices = 0.3\n\
         [release]\nmodel = \"digits\"\nstages = {stages}\n{variants}\
         [gate]\n{gate}\nmin_canaries = 3\n[round]\nmin = 3\nmax_time = \"20s\"\n"
    );
    let path = deployment.dir.path().join(format!("{name}.toml"));
    std::fs::write(&path, contract_of(deployment, &text)).expect("written");
    path
}

/// The contract and the purpose of the example's own job.
fn contract_of(deployment: &Deployment, text: &str) -> String {
    let job = std::fs::read_to_string(&deployment.example.job).expect("a job");
    let of = |key: &str| {
        let line = job.lines().find(|line| line.starts_with(key)).expect(key);
        line.split('"').nth(1).expect("a text").to_owned()
    };
    text.replace("optical-digits", &of("contract"))
        .replace("recognise handwritten digits", &of("purpose"))
}

fn submit(deployment: &Deployment, path: &Path) -> String {
    let path = path.display().to_string();
    let args = [
        "--json",
        "release",
        "submit",
        &path,
        "--owner-key",
        "owner.key",
        "--server-dir",
        "server",
    ];
    let reply = json(&aimass(deployment.dir.path(), &args));
    reply["release"].as_str().expect("an id").to_owned()
}

fn status(deployment: &Deployment, id: &str) -> Value {
    json(&aimass(
        deployment.dir.path(),
        &["--json", "release", "status", id, "--server-dir", "server"],
    ))
}

fn wait_state(deployment: &Deployment, id: &str, state: &str) -> Value {
    wait(&format!("the release is {state}"), WITHIN, || {
        let view = status(deployment, id);
        assert!(
            view["state"] == state || view["running"] == true || view["state"] == "measuring",
            "{view:#}"
        );
        view["state"] == state
    });
    status(deployment, id)
}

/// SHA-256 of what each agent serves.
fn served(deployment: &Deployment) -> Vec<Option<String>> {
    let of = |number: usize| {
        let folder = deployment.cluster.agent_dir(number).join("models/digits");
        let current: Value = serde_json::from_slice(&std::fs::read(folder.join("current.json")).ok()?).ok()?;
        let bytes = std::fs::read(folder.join(current["file"].as_str()?)).expect("what is served is there");
        assert_eq!(hex::encode(sha256(&bytes)), current["digest"].as_str()?, "agent {number}");
        Some(hex::encode(sha256(&bytes)))
    };
    (1..=AGENTS as usize).map(of).collect()
}

fn champion(deployment: &Deployment) -> Option<u64> {
    let shown = json(&aimass(
        deployment.dir.path(),
        &["--json", "registry", "show", "digits", "--server-dir", "server"],
    ));
    shown["aliases"]["champion"].as_u64()
}

#[test]
fn should_promote_a_good_release_over_a_killed_server_and_take_a_worse_one_back() {
    let mut deployment = Deployment::start_on(AGENTS, 4, ClusterSettings::default(), |example| example.agents.clone());
    let dir = deployment.dir.path().to_owned();
    let id = deployment.submit();
    let watched = aimass(&dir, &["job", "watch", &id, "--server-dir", "server"]);
    assert!(watched.status.success(), "{}", said(&watched));
    for round in deployment.job(&id)["history"].as_array().expect("rounds") {
        let parity = &round["parity"];
        assert!(
            parity["max"].as_f64() <= parity["max_allowed"].as_f64() && parity["rows"].as_u64() > Some(0),
            "{round:#}"
        );
    }
    let shown = aimass(&dir, &["job", "show", &id, "--server-dir", "server"]);
    assert!(said(&shown).contains("parity trainer and tract differ by"), "{}", said(&shown));
    let pulled = aimass(&dir, &["job", "pull", &id, "-o", "good.onnx", "--server-dir", "server"]);
    assert!(pulled.status.success(), "{}", said(&pulled));
    std::fs::copy(&deployment.example.model, dir.join("untrained.onnx")).expect("copied");
    std::fs::create_dir(dir.join("drafted")).expect("created");
    let new = [
        "release",
        "new",
        &id,
        "--model",
        "digits",
        "-o",
        "drafted/release.toml",
        "--server-dir",
        "server",
    ];
    let drafted = aimass(&dir, &new);
    assert!(drafted.status.success(), "{}", said(&drafted));
    let model = std::fs::read(dir.join("drafted/digits.onnx")).expect("written beside it");
    assert_eq!(model, std::fs::read(dir.join("good.onnx")).expect("read"));
    let checked = aimass(&dir, &["release", "check", "drafted/release.toml"]);
    assert!(checked.status.success() && said(&checked).contains("full: "), "{}", said(&checked));
    refused(&aimass(&dir, &new), 5, &["give another --output"]);

    let first = release(&deployment, "first", &["good.onnx"], "[\"3\", \"all\"]", "min_accuracy = 0.3");
    let checked = aimass(&dir, &["release", "check", &first.display().to_string()]);
    assert!(said(&checked).contains("trainer and tract differ by"), "{}", said(&checked));
    let first = submit(&deployment, &first);
    wait("a stage is measured", WITHIN, || {
        status(&deployment, &first)["round"].as_u64() >= Some(1)
    });
    deployment.cluster.kill_and_restart_server().expect("starts again");
    let view = wait_state(&deployment, &first, "promoted");
    assert_eq!((view["round"].as_u64(), view["rounds"].as_u64()), (Some(2), Some(2)), "{view:#}");
    assert_eq!(champion(&deployment), Some(1));
    let variant = &view["variants"][0];
    assert_eq!(variant["measured"]["devices"].as_u64(), Some(AGENTS.into()), "{view:#}");
    assert!(
        variant["measured"]["accuracy"].as_f64() > Some(0.3) && variant["measured"]["latency_p95_ms"].is_f64(),
        "{view:#}"
    );
    assert!(variant["measured"]["memory_max_bytes"].is_u64(), "{view:#}");
    let good = variant["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(
        (variant["origin"]["job"].as_str(), variant["origin"]["round"].as_u64()),
        (Some(&*id), Some(4)),
        "{view:#}"
    );
    wait("all agents serve it", WITHIN, || {
        served(&deployment).iter().all(|digest| *digest == Some(good.clone()))
    });
    let output = aimass(&dir, &["job", "pull", &first, "--server-dir", "server"]);
    assert!(output.status.success(), "{}", said(&output));
    let report = ReleaseReport::parse(&std::fs::read(dir.join("report.json")).expect("written")).expect("a report");
    assert_eq!((report.decision, report.agents), (Decision::Promoted, AGENTS));

    // Compared with the champion, whose file the command looks up.
    let second = release(
        &deployment,
        "second",
        &["untrained.onnx"],
        "[\"3\", \"all\"]",
        "max_accuracy_drop = 0.05",
    );
    let second = submit(&deployment, &second);
    let view = wait_state(&deployment, &second, "rolled_back");
    assert_eq!(view["round"].as_u64(), Some(1), "its canaries were enough: {view:#}");
    assert!(
        view["reasons"][0]
            .as_str()
            .is_some_and(|reason| reason.contains("max_accuracy_drop")),
        "{view:#}"
    );
    wait("its job ends", WITHIN, || deployment.job(&second)["state"] == "failed");
    assert!(
        deployment.job(&second)["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("rolled back"))
    );
    deployment.cluster.kill_and_restart_server().expect("starts again");
    assert_eq!(
        (champion(&deployment), status(&deployment, &second)["state"].as_str()),
        (Some(1), Some("rolled_back"))
    );
    assert!(
        served(&deployment).iter().all(|digest| *digest == Some(good.clone())),
        "nothing has changed"
    );

    // The operator's word.
    let alias = ["registry", "alias", "digits", "champion", "2", "--server-dir", "server"];
    assert!(aimass(&dir, &alias).status.success());
    wait("all agents follow", WITHIN, || {
        served(&deployment)
            .iter()
            .all(|digest| digest.is_some() && *digest != Some(good.clone()))
    });
    assert!(
        aimass(&dir, &["release", "rollback", &second, "--server-dir", "server"])
            .status
            .success()
    );
    assert_eq!(champion(&deployment), None, "version 2 was never promoted over another one");
    let again = aimass(&dir, &["release", "rollback", &second, "--server-dir", "server"]);
    assert!(
        !again.status.success() && said(&again).contains("there is nothing to roll back"),
        "{}",
        said(&again)
    );
    let listed = aimass(&dir, &["registry", "list", "--server-dir", "server"]);
    assert!(said(&listed).contains("digits"), "{}", said(&listed));
    deployment.cluster.check().expect("all processes live");
    deployment.cluster.stop();
}

#[test]
fn should_serve_no_variant_of_other_bytes_than_were_signed() {
    let mut deployment = Deployment::start_on(AGENTS, 1, ClusterSettings::default(), |_| Vec::new());
    let dir = deployment.dir.path().to_owned();
    std::fs::copy(&deployment.example.model, dir.join("model.onnx")).expect("copied");
    let path = release(&deployment, "changed", &["model.onnx"], "[\"3\", \"all\"]", "min_accuracy = 0.0");
    let id = submit(&deployment, &path);
    let digest = status(&deployment, &id)["variants"][0]["digest"]
        .as_str()
        .expect("a digest")
        .to_owned();
    let blob = dir.join("server/blobs/sha256").join(&digest[..2]).join(&digest);
    let right = std::fs::read(&blob).expect("where blobs lie");
    let mut wrong = right.clone();
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    deployment.cluster.kill_server();
    std::fs::write(&blob, &wrong).expect("written");
    deployment.cluster.restart_server().expect("starts again");
    let starts: Vec<AgentStart> = deployment.example.agents.iter().map(|data| agent_start(data)).collect();
    deployment.cluster.start_agents(&starts, &|| false).expect("they start");
    let log = deployment.cluster.server_process().log().to_owned();
    wait("canaries have asked for it", WITHIN, || {
        std::fs::read_to_string(&log).is_ok_and(|log| log.matches("was changed on the disk").count() >= 3)
    });
    assert!(served(&deployment).iter().all(Option::is_none), "nobody serves other bytes");
    assert_eq!(status(&deployment, &id)["round"].as_u64(), Some(0), "nor measures them");

    // Restored from a backup, it goes on as if nothing had been.
    std::fs::write(&blob, &right).expect("written");
    wait_state(&deployment, &id, "promoted");
    wait("all agents serve it", WITHIN, || {
        served(&deployment).iter().all(|served| served.as_deref() == Some(digest.as_str()))
    });
    deployment.cluster.check().expect("all processes live");
    deployment.cluster.stop();
}

#[test]
fn should_refuse_what_must_not_go_out_before_anybody_sees_it() {
    let deployment = Deployment::start_on(1, 1, ClusterSettings::default(), |_| Vec::new());
    let dir = deployment.dir.path();
    std::fs::copy(&deployment.example.model, dir.join("model.onnx")).expect("copied");
    let path = release(&deployment, "wrong", &["model.onnx"], "[\"3\"]", "min_accuracy = 0.5");
    let text = std::fs::read_to_string(&path).expect("read");
    let check = |text: &str| {
        std::fs::write(&path, text).expect("written");
        aimass(dir, &["release", "check", "wrong.toml", "--output", "filled.toml"])
    };
    assert!(check(&text).status.success());
    let filled = std::fs::read_to_string(dir.join("filled.toml")).expect("filled in");
    assert!(filled.contains("digest = ") && filled.contains("outputs = "), "{filled}");
    assert!(check(&filled).status.success(), "what is filled in is right");
    let digest = hex::encode(sha256(&std::fs::read(dir.join("model.onnx")).expect("read")));
    for (wrong, part) in [
        (filled.replace(&digest, &"0".repeat(64)), "it is another file"),
        (filled.replace("size_bytes = ", "size_bytes = 1"), "release.variants[0].size_bytes"),
        (filled.replace("outputs = [", "outputs = [1000.0, "), "outputs came out"),
        (filled.replace("kind = \"release\"", "kind = \"train\""), "release: is of releases"),
    ] {
        refused(&check(&wrong), 5, &["wrong.toml", part]);
    }
    // The owner signs a file; a server that has another one by that name does not take it.
    std::fs::write(dir.join("model.onnx"), b"no model").expect("written");
    refused(&check(&text), 5, &["release.variants[0].path"]);
    refused(&aimass(dir, &["job", "check", "wrong.toml"]), 5, &["release"]);
    let unknown = aimass(dir, &["registry", "show", "digits", "--server-dir", "server"]);
    assert!(
        !unknown.status.success() && said(&unknown).contains("the registry has no model"),
        "{}",
        said(&unknown)
    );
    deployment.cluster.stop();
}
