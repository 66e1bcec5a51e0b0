//! Distillation between real processes: a teacher on the devices, a student at the end of a job, and groups that are fused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aimass_cli::cluster::ClusterSettings;
use aimass_crypto::hash::sha256;
use serde_json::Value;

use crate::support::{Deployment, agent_start, aimass, json, refused, said, wait};

const WITHIN: Duration = Duration::from_secs(180);

fn sha(bytes: &[u8]) -> String {
    hex::encode(sha256(bytes))
}

/// A model of these sizes at `data/NAME`.
fn new_model(dir: &Path, name: &str, sizes: &str) -> Vec<u8> {
    let output = format!("data/{name}");
    let made = aimass(
        dir,
        &["model", "new", "mlp", "--sizes", sizes, "--seed", "3", "-o", &output, "--force"],
    );
    assert!(made.status.success(), "{}", said(&made));
    std::fs::read(dir.join(output)).expect("written")
}

/// Adds to the job file; `from` and `to` are changes of what is there.
fn add(deployment: &Deployment, changes: &[(&str, &str)], sections: &str) -> String {
    let mut text = std::fs::read_to_string(&deployment.example.job).expect("the job file");
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in {text}");
        text = text.replacen(from, to, 1);
    }
    let text = format!("{text}\n{sections}\n");
    std::fs::write(&deployment.example.job, &text).expect("written");
    text
}

fn finished(deployment: &Deployment, id: &str) -> Value {
    wait("the end of the job", WITHIN, || {
        let view = deployment.job(id);
        assert_ne!(view["state"], "failed", "{view}");
        view["state"] == "finished"
    });
    deployment.job(id)
}

/// A folder in which these files are, named so that they are read in this order.
fn clients(dir: &Path, name: &str, files: &[PathBuf]) -> String {
    let folder = dir.join(name);
    std::fs::create_dir_all(&folder).expect("a folder");
    for (number, file) in files.iter().enumerate() {
        std::fs::copy(file, folder.join(format!("{number}.csv"))).expect("copied");
    }
    std::fs::write(dir.join("files.toml"), "[partition]\nkind = \"files\"\n").expect("writes");
    folder.to_str().expect("a path").to_owned()
}

/// What a simulation of the job makes with a client a file.
fn simulated(deployment: &Deployment, folder: &str, n: usize) -> Value {
    let (job, n) = (deployment.example.job.display().to_string(), n.to_string());
    let args = [
        "--json",
        "sim",
        &job,
        "--clients",
        &n,
        "--data",
        folder,
        "--population",
        "files.toml",
    ];
    json(&aimass(deployment.dir.path(), &args))
}

/// A model that knows digits, at `data/teacher.onnx`.
fn train_teacher(deployment: &Deployment) -> Vec<u8> {
    let dir = deployment.dir.path();
    new_model(dir, "untaught.onnx", "64,128,10");
    let job = std::fs::read_to_string(&deployment.example.job).expect("the job file");
    std::fs::write(dir.join("data/large.toml"), job.replace("model.onnx", "untaught.onnx")).expect("written");
    let files: Vec<String> = deployment.example.agents.iter().map(|file| file.display().to_string()).collect();
    let mut args = vec![
        "--json",
        "train",
        "data/large.toml",
        "--backend",
        "cpu",
        "--epochs",
        "12",
        "--out",
        "large",
    ];
    args.extend(files.iter().flat_map(|file| ["--data", file.as_str()]));
    json(&aimass(dir, &args));
    std::fs::copy(dir.join("large/model.onnx"), dir.join("data/teacher.onnx")).expect("copied");
    std::fs::read(dir.join("data/teacher.onnx")).expect("there")
}

#[test]
fn should_learn_from_a_teacher_alone_and_make_the_model_that_a_simulation_makes() {
    let mut deployment = Deployment::start(4, 3);
    let teacher = train_teacher(&deployment);
    let section = "[train.distil]\nteacher = \"teacher.onnx\" # of last year\nalpha = 1.0\ntemperature = 2.0";
    let text = add(&deployment, &[], section);
    let id = deployment.submit();
    deployment.wait_round(&id, 3);
    let view = finished(&deployment, &id);
    let last = view["history"].as_array().and_then(|rounds| rounds.last()).expect("rounds");
    assert!(last["accuracy"].as_f64() > Some(0.8), "without a label: {last}");
    assert_eq!(
        std::fs::read_to_string(&deployment.example.job).expect("there"),
        text,
        "the owner's file stays as it is"
    );
    for number in 1..=4 {
        let kept = deployment
            .cluster
            .agent_dir(number)
            .join(format!("work/models/{}.onnx", sha(&teacher)));
        assert_eq!(std::fs::read(kept).expect("kept over the rounds"), teacher);
    }
    let folder = clients(deployment.dir.path(), "clients", &deployment.example.agents);
    let summary = simulated(&deployment, &folder, 4);
    assert_eq!(summary["model"], view["model"], "the same bytes: {summary}");
    deployment.cluster.check().expect("all processes live");
    deployment.cluster.stop();
}

#[test]
fn should_fetch_a_teacher_to_its_end_after_the_agent_was_killed_while_it_did() {
    let mut deployment = Deployment::start(4, 1);
    let teacher = new_model(deployment.dir.path(), "teacher.onnx", "64,3500,3500,10");
    add(
        &deployment,
        &[("epochs = 5", "epochs = 1")],
        "[train.distil]\nteacher = \"teacher.onnx\"",
    );
    let models = deployment.cluster.agent_dir(1).join("work/models");
    let (part, whole) = (
        models.join(format!("{}.part", sha(&teacher))),
        models.join(format!("{}.onnx", sha(&teacher))),
    );
    let id = deployment.submit();
    let begin = std::time::Instant::now();
    while std::fs::metadata(&part).map_or(0, |meta| meta.len()) == 0 {
        assert!(begin.elapsed() < WITHIN && !whole.exists(), "the download is seen under way");
        std::thread::yield_now();
    }
    deployment.cluster.kill_agent(1).expect("dies");
    assert!(part.exists() && !whole.exists(), "it was under way");
    let start = agent_start(&deployment.example.agents[0]);
    deployment.cluster.restart_agent(1, &start).expect("starts again");
    let view = finished(&deployment, &id);
    assert_eq!(view["history"][0]["contributions"].as_u64(), Some(4), "{view}");
    assert_eq!(sha(&std::fs::read(whole).expect("whole")), sha(&teacher));
    let folder = clients(deployment.dir.path(), "clients", &deployment.example.agents);
    assert_eq!(simulated(&deployment, &folder, 4)["model"], view["model"]);
    deployment.cluster.stop();
}

#[test]
fn should_refuse_a_teacher_that_can_not_teach_before_anybody_is_asked() {
    let deployment = Deployment::start_on(3, 1, ClusterSettings::default(), |_| Vec::new());
    let dir = deployment.dir.path();
    let original = std::fs::read_to_string(&deployment.example.job).expect("a job");
    let check = |section: &str| {
        std::fs::write(&deployment.example.job, format!("{original}\n{section}\n")).expect("written");
        aimass(dir, &["job", "check", "data/job.toml"])
    };
    let teacher = "[train.distil]\nteacher = \"teacher.onnx\"\n";
    let good = new_model(dir, "teacher.onnx", "64,128,10");
    assert!(check(teacher).status.success());
    let pinned = |digest: &str| format!("{teacher}digest = \"{digest}\"\nsize_bytes = {}\n", good.len());
    assert!(check(&pinned(&sha(&good))).status.success());
    refused(&check(&pinned(&"0".repeat(64))), 5, &["train.distil.digest", "it is another file"]);
    refused(
        &check(&teacher.replace("teacher.onnx", "nowhere.onnx")),
        5,
        &["train.distil.teacher", "nowhere.onnx"],
    );
    new_model(dir, "teacher.onnx", "64,128,12");
    refused(&check(teacher), 5, &["train.distil.teacher", "the teacher's output", "10", "12"]);
    new_model(dir, "teacher.onnx", "32,128,10");
    refused(&check(teacher), 5, &["train.distil.teacher", "can't teach this model"]);
    std::fs::write(dir.join("data/teacher.onnx"), b"no model").expect("written");
    refused(&check(teacher), 5, &["train.distil.teacher"]);
    refused(
        &aimass(dir, &["train", "data/job.toml", "--data", "data/agent-1.csv", "--out", "run"]),
        5,
        &["train.distil", "aimass compress MODEL --teacher"],
    );

    // What the command would not let through, the server does not either.
    let model = std::fs::read(&deployment.example.model).expect("a model");
    let job = original.replace("[evaluate]\ndata = \"test.csv\"\n", "");
    let submit = |section: &str| {
        let error = deployment
            .cluster
            .submit(&format!("{job}\n{section}\n"), &model)
            .expect_err(section);
        format!("{error:#}")
    };
    let error = submit(teacher);
    assert!(error.contains("train.distil.digest: is missing"), "{error}");
    let error = submit(&pinned(&sha(&good)));
    assert!(error.contains("is not stored here"), "{error}");
    let other = new_model(dir, "teacher.onnx", "64,128,12");
    let _: Value = deployment.cluster.server().put_bytes("/v1/blobs", &other).expect("stored");
    let named = format!("{teacher}digest = \"{}\"\nsize_bytes = {}\n", sha(&other), other.len());
    let error = submit(&named);
    assert!(error.contains("train.distil.teacher") && error.contains("12"), "{error}");
    let error = submit(&named.replace("size_bytes = ", "size_bytes = 1"));
    assert!(
        error.contains("train.distil.size_bytes") && error.contains("were signed"),
        "{error}"
    );
    deployment.cluster.stop();
}

/// The job's last step, once it is over.
fn last_step(deployment: &Deployment, id: &str) -> Value {
    wait("the last step", WITHIN, || {
        let state = deployment.job(id)["compressed"]["state"].clone();
        state == "done" || state == "failed"
    });
    deployment.job(id)["compressed"].clone()
}

#[test]
fn should_end_a_job_with_a_student_of_its_last_model_over_a_killed_server_too() {
    let run = |kill: bool| {
        let mut deployment = Deployment::start(4, 3);
        let student = new_model(deployment.dir.path(), "student.onnx", "64,16,10");
        add(
            &deployment,
            &[],
            "[compress]\nquantize = \"weights\"\nmax_drop = 8.0\n[compress.distil]\nstudent = \"student.onnx\"\nepochs = 120\nlr = 0.05",
        );
        let id = deployment.submit();
        deployment.wait_round(&id, 3);
        if kill {
            deployment.cluster.kill_and_restart_server().expect("it comes up again");
        }
        let step = last_step(&deployment, &id);
        assert_eq!(step["state"], "done", "{step}");
        let names: Vec<&str> = step["model"]["steps"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|s| s["name"].as_str())
            .collect();
        assert_eq!(names, ["distil", "quantize"], "{step}");
        let bytes = |when: &str| step["model"][when]["bytes"].as_u64().expect("a size");
        assert!(
            bytes("after") < student.len() as u64 && bytes("before") > student.len() as u64,
            "{step}"
        );
        assert!(
            step["model"]["before"]["accuracy"].as_f64() > Some(0.7),
            "of the job's model, not of a student that knows nothing: {step}"
        );
        assert!(
            step["recipe"].as_str().is_some_and(|recipe| recipe.contains("distil = {")),
            "{step}"
        );
        let digest = step["model"]["digest"].clone();
        deployment.cluster.stop();
        digest
    };
    assert_eq!(run(false), run(true), "same seed, same bytes, whatever happened on the way");
}

#[test]
fn should_refuse_a_student_whose_outputs_are_others() {
    let deployment = Deployment::start_on(3, 1, ClusterSettings::default(), |_| Vec::new());
    let dir = deployment.dir.path();
    new_model(dir, "student.onnx", "64,16,12");
    add(&deployment, &[], "[compress.distil]\nstudent = \"student.onnx\"");
    refused(
        &aimass(dir, &["job", "check", "data/job.toml"]),
        5,
        &["compress.distil.student", "can't learn from this model"],
    );
    deployment.cluster.stop();
}

/// A deployment of six agents whose job fuses two groups of three. The first three begin; the others come once the first group is in.
fn fused(kill: bool) -> (Deployment, Value, String) {
    let mut deployment = Deployment::start_on(6, 2, ClusterSettings::default(), |example| example.agents[..3].to_vec());
    let test = std::fs::read_to_string(&deployment.example.test).expect("rows");
    let unlabelled: String = test
        .lines()
        .map(|line| format!("{}\n", line.rsplit_once(',').expect("a label").0))
        .collect();
    std::fs::write(deployment.dir.path().join("data/public.csv"), unlabelled).expect("written");
    let three = ["min", "target", "max"].map(|key| (format!("{key} = 6"), format!("{key} = 3")));
    let mut changes: Vec<(&str, &str)> = three.iter().map(|(from, to)| (from.as_str(), to.as_str())).collect();
    changes.push((
        "name = \"fedavg\"",
        "name = \"feddf\"\ngroups = 2\ndata = \"public.csv\"\nepochs = 60\ntemperature = 2.0",
    ));
    add(&deployment, &changes, "");
    let id = deployment.submit();
    deployment.wait_round(&id, 1);
    let others: Vec<_> = deployment.example.agents[3..].iter().map(|file| agent_start(file)).collect();
    deployment.cluster.start_agents(&others, &|| false).expect("they start");
    if kill {
        let begin = std::time::Instant::now();
        while deployment.job(&id)["phase"] != "publishing" {
            assert!(
                begin.elapsed() < WITHIN && deployment.job(&id)["round"] == 1,
                "the fusion is seen under way"
            );
            std::thread::yield_now();
        }
        deployment.cluster.kill_and_restart_server().expect("it comes up again");
        assert_eq!(deployment.job(&id)["round"], 1, "it was cut short");
    }
    let view = finished(&deployment, &id);
    (deployment, view, id)
}

#[test]
fn should_fuse_groups_to_the_same_model_as_a_simulation_and_over_a_server_that_was_killed_at_it() {
    let (deployment, view, id) = fused(false);
    let history = view["history"].as_array().expect("rounds");
    let initial = sha(&std::fs::read(&deployment.example.model).expect("a model"));
    assert_eq!(history[0]["model"], initial, "within a block the base stays: {view}");
    assert!(
        history[0]["accuracy"].is_null() && history[1]["accuracy"].as_f64() > Some(0.5),
        "{view}"
    );
    let averages = [&history[0]["group"], &history[1]["group"]];
    assert!(
        averages.iter().all(|digest| digest.is_string()) && averages[0] != averages[1],
        "{view}"
    );
    assert!(!averages.contains(&&view["model"]), "{view}");
    let weight: u64 = history.iter().filter_map(|round| round["weight"].as_u64()).sum();
    assert_eq!(
        weight,
        deployment.example.agent_rows.iter().sum::<usize>() as u64,
        "each agent is in one group: {view}"
    );
    let shown = said(&aimass(deployment.dir.path(), &["job", "show", &id, "--server-dir", "server"]));
    assert!(shown.contains("one group's average"), "{shown}");

    // The simulator draws who is in the first group: one of the ways to deal out the files is how it was here.
    let files = &deployment.example.agents;
    let models: Vec<Value> = (0..64_u32)
        .filter(|first: &u32| first.count_ones() == 3)
        .map(|first| {
            let (mut ours, mut theirs) = (files[..3].iter(), files[3..].iter());
            let dealt = (0..6).filter_map(|at| if first & (1 << at) > 0 { ours.next() } else { theirs.next() }.cloned());
            let folder = clients(deployment.dir.path(), &format!("clients-{first}"), &dealt.collect::<Vec<_>>());
            simulated(&deployment, &folder, 6)["model"].clone()
        })
        .collect();
    assert_eq!(models.len(), 20);
    assert!(models.contains(&view["model"]), "{} is none of {models:?}", view["model"]);
    let others = models.iter().filter(|model| **model != view["model"]).count();
    assert!(others >= 10, "who is in which group counts");
    deployment.cluster.stop();

    let (deployment, again, _) = fused(true);
    assert_eq!(again["model"], view["model"], "same seed, same bytes, whatever happened on the way");
    deployment.cluster.stop();
}

#[test]
fn should_refuse_public_rows_that_do_not_feed_the_model() {
    let deployment = Deployment::start_on(3, 2, ClusterSettings::default(), |_| Vec::new());
    let dir = deployment.dir.path();
    std::fs::write(dir.join("data/narrow.csv"), "a,b\n1,2\n").expect("written");
    let changes = [("name = \"fedavg\"", "name = \"feddf\"\ndata = \"narrow.csv\"")];
    add(&deployment, &changes, "");
    refused(&aimass(dir, &["job", "check", "data/job.toml"]), 5, &["strategy.data", "64"]);
    std::fs::remove_file(dir.join("data/narrow.csv")).expect("removed");
    refused(
        &aimass(dir, &["job", "check", "data/job.toml"]),
        5,
        &["strategy.data", "narrow.csv"],
    );
    deployment.cluster.stop();
}
