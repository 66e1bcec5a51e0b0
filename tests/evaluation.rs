//! Evaluation on devices: rows that agents hold back, summed under masks.

use std::path::Path;

use aimass_cli::cluster::ClusterSettings;
use aimass_crypto::hash::Sha256;
use aimass_learning::data::{self, Limits, Subset};
use aimass_learning::training::evaluate_on;
use aimass_onnx::Model;
use aimass_protocol::job::JobFile;
use aimass_recipe::Recipe;
use aimass_recipe::seeds::held_back_rows;

use crate::support::{Deployment, aimass, said};

const AGENTS: u32 = 3;
const TARGET: f64 = 0.8;

/// What one agent's file says of a model.
struct Found {
    loss: f64,
    correct: f64,
    held_back: usize,
    trained_on: usize,
}

fn directly(model: &Model, file: &JobFile, rows: &Path) -> Found {
    let Recipe { wanted, heads, .. } = Recipe::of(model, file).expect("a recipe");
    let all = data::open(rows, &wanted, &Limits::default()).expect("opens");
    let mut hash = Sha256::new();
    all.fingerprint(&mut |bytes| hash.update(bytes)).expect("hashes");
    let (held_back, rest) = held_back_rows(all.len(), 0.25, file.job.seed, &hash.finish());
    let part = Subset::new(all.into(), held_back).expect("rows");
    let found = evaluate_on(model, &part, &heads, &[]).expect("evaluates");
    Found {
        loss: found.loss * part.rows().len() as f64,
        correct: found.accuracy.expect("classes") * part.rows().len() as f64,
        held_back: part.rows().len(),
        trained_on: rest.len(),
    }
}

#[test]
fn a_secure_job_without_data_on_the_server_ends_at_the_accuracy_that_its_devices_found() {
    let mut deployment = Deployment::start_on(AGENTS, 60, ClusterSettings::default(), |example| {
        let text = std::fs::read_to_string(&example.job).expect("reads");
        assert!(text.contains("mode = \"secure\""), "{text}");
        let evaluate = format!("on_devices = 0.25\ntarget_accuracy = {TARGET}");
        let text = text.replace("data = \"test.csv\"", &evaluate).replace("epochs = 5", "epochs = 1");
        std::fs::write(&example.job, text).expect("writes");
        example.agents.clone()
    });
    let file = JobFile::parse(&std::fs::read_to_string(&deployment.example.job).expect("reads")).expect("a good job file");
    let id = deployment.submit();
    let watched = aimass(deployment.dir.path(), &["job", "watch", &id, "--server-dir", "server"]);
    assert!(watched.status.success(), "{}", said(&watched));

    let view = deployment.job(&id);
    assert_eq!(
        (view["state"].as_str(), view["reason"].as_str()),
        (Some("finished"), Some("the target accuracy was reached"))
    );
    let history = view["history"].as_array().expect("rounds");
    assert!((2..60).contains(&history.len()), "{view}");
    for (before, round) in history.iter().enumerate() {
        let path = format!("/v1/jobs/{id}/model?round={before}");
        let base = deployment.cluster.server().get_bytes(&path, 1 << 20).expect("the base");
        let base = Model::from_bytes(&base).expect("a model");
        let found: Vec<Found> = deployment.example.agents.iter().map(|rows| directly(&base, &file, rows)).collect();
        let held_back: usize = found.iter().map(|agent| agent.held_back).sum();
        let trained_on: usize = found.iter().map(|agent| agent.trained_on).sum();
        let correct: f64 = found.iter().map(|agent| agent.correct).sum();
        let loss = found.iter().map(|agent| agent.loss).sum::<f64>() / held_back as f64;
        assert_eq!(round["device_examples"].as_u64(), Some(held_back as u64), "{round}");
        assert_eq!(
            round["weight"].as_u64(),
            Some(trained_on as u64),
            "rows that are held back are not trained on: {round}"
        );
        assert_eq!(held_back + trained_on, deployment.example.agent_rows.iter().sum::<usize>());

        let accuracy = round["device_accuracy"].as_f64().expect("classes");
        assert!(
            (accuracy * held_back as f64 - correct).abs() < 1e-6,
            "{correct} of {held_back} directly, {round}"
        );
        // Less than a level an agent, of 2^24 - 1 over -1024 to 1024, at the weight cap.
        let bound = f64::from(AGENTS) * 2048.0 / f64::from((1 << 24) - 1) * f64::from(file.update.weight_cap) / held_back as f64;
        let summed = round["device_loss"].as_f64().expect("a loss");
        assert!((summed - loss).abs() < bound, "{loss} directly, within {bound}: {round}");

        assert!(
            round["accuracy"].is_null() && round["loss"].is_null(),
            "the aggregator has no data: {round}"
        );
        assert_eq!(
            accuracy >= TARGET,
            before + 1 == history.len(),
            "round {} of {}: {round}",
            before + 1,
            history.len()
        );
        let shown = format!("its base on {held_back} rows of devices: accuracy {:5.1} %", accuracy * 100.0);
        assert!(said(&watched).contains(&shown), "{shown:?} is missing in:\n{}", said(&watched));
    }
    deployment.cluster.check().expect("all processes live");
    deployment.cluster.stop();
}
