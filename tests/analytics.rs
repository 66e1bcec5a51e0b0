//! Analytics between real processes: what agents count, summed under masks.

use std::path::PathBuf;

use aimass_analytics::Report;
use aimass_cli::cluster::ClusterSettings;
use aimass_learning::Dataset;
use serde_json::Value;

use crate::support::{Deployment, aimass, json, refused, said};

const AGENTS: u32 = 3;
/// The example of `examples/optical-digits`.
const JOB: &str = include_str!("../examples/optical-digits/analytics.toml");

/// Submits a job and follows it to its end.
fn finished(deployment: &Deployment, name: &str, text: &str) -> (String, Value) {
    let path = deployment.dir.path().join(name);
    std::fs::write(&path, text).expect("writes");
    let id = deployment.submit_file(&path);
    let watched = aimass(deployment.dir.path(), &["job", "watch", &id, "--server-dir", "server"]);
    assert!(watched.status.success(), "{}", said(&watched));
    let view = deployment.job(&id);
    assert_eq!(view["state"].as_str(), Some("finished"), "{view}");
    (id, view)
}

/// The report of a round, as `job pull` writes it.
fn pulled(deployment: &Deployment, id: &str, round: &str) -> (Vec<u8>, Report) {
    let dir = deployment.dir.path();
    let said = json(&aimass(
        dir,
        &["--json", "job", "pull", id, "--round", round, "--server-dir", "server"],
    ));
    // What is pulled are the bytes that the log tells of.
    let logged = deployment.job(id)["history"].as_array().and_then(|rounds| {
        rounds
            .iter()
            .find(|r| r["round"].as_u64() == round.parse().ok())
            .map(|r| r["model"].clone())
    });
    if let Some(logged) = logged {
        assert_eq!(said["sha256"], logged, "round {round}");
    } else {
        assert_eq!(round, "0");
    }
    let bytes = std::fs::read(dir.join("report.json")).expect("the report is written");
    let report = Report::parse(&bytes).expect("a report");
    (bytes, report)
}

/// Compares a report with all the rows together.
fn check(report: &Report, files: &[PathBuf]) {
    let all: Vec<Dataset> = files
        .iter()
        .map(|path| Dataset::read_csv(path, &[], "label").expect("reads"))
        .collect();
    let rows: usize = all.iter().map(Dataset::len).sum();
    assert_eq!((report.agents, report.rows, report.capped_agents), (AGENTS, rows as u64, 0));
    assert_eq!(report.features.len(), 65);
    for (pixel, feature) in report.features[..64].iter().enumerate() {
        let values = || {
            let of = |data: &Dataset| data.features().iter().skip(pixel).step_by(64).copied().collect::<Vec<_>>();
            all.iter().flat_map(of).map(f64::from)
        };
        let range = feature.range.as_ref().expect("numbers");
        let mean = values().sum::<f64>() / rows as f64;
        let sd = (values().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64).sqrt();
        let off = (range.mean.expect("values") - mean)
            .abs()
            .max((range.sd.expect("values") - sd).abs());
        assert!(off <= range.error, "{} is off by {off}: {feature:?}", feature.title());
        assert_eq!((range.below, range.above, feature.missing), (0, 0, 0));
        for (at, &bin) in range.bins.iter().enumerate() {
            let counted = values().filter(|v| ((v * 16.0) as usize).min(15) == at).count();
            assert_eq!(bin, counted as u64, "bin {at} of {}", feature.title());
        }
    }
    let labels = report.features[64].classes.as_ref().expect("classes");
    for (digit, &count) in labels.counts.iter().enumerate() {
        let counted = all
            .iter()
            .flat_map(aimass_learning::Dataset::targets)
            .filter(|label| **label == digit as f32)
            .count();
        assert_eq!(count, counted as u64, "digit {digit}");
    }
}

#[test]
fn a_secure_and_a_plain_job_count_what_all_agents_rows_hold_together() {
    let mut deployment = Deployment::start_on(AGENTS, 1, ClusterSettings::default(), |example| example.agents.clone());
    let (id, view) = finished(&deployment, "secure.toml", JOB);
    assert_eq!((view["kind"].as_str(), view["rounds"].as_u64()), (Some("analytics"), Some(1)));
    let round = &view["history"][0];
    let (bytes, report) = pulled(&deployment, &id, "1");
    assert_eq!(round["weight"].as_u64(), Some(report.rows), "{round}");
    assert!(round["train_loss"].is_null() && round["accuracy"].is_null(), "{round}");
    check(&report, &deployment.example.agents);
    assert_eq!(pulled(&deployment, &id, "0").1.agents, 0, "a job starts from the report of nobody");

    // Two rounds, plain: the same numbers in each.
    let plain = format!("{JOB}rounds = 2\n[aggregation]\nmode = \"plain\"\n");
    let (plain_id, _) = finished(&deployment, "plain.toml", &plain);
    let text = String::from_utf8(bytes).expect("JSON");
    for round in ["1", "2"] {
        let (bytes, _) = pulled(&deployment, &plain_id, round);
        let expected = text
            .replace("\"secure\"", "\"plain\"")
            .replacen("\"round\": 1", &format!("\"round\": {round}"), 1);
        assert_eq!(String::from_utf8(bytes).expect("JSON"), expected);
    }

    let dir = deployment.dir.path();
    let shown = aimass(dir, &["job", "show", &id, "--server-dir", "server"]);
    let shown = said(&shown);
    let head = format!("report of round 1: {} rows of 3 agents, a sum under masks", report.rows);
    for part in [&head[..], "p77", "HISTOGRAM", "label  0: ", &format!("rows {:>9}", report.rows)] {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    let shown = json(&aimass(dir, &["--json", "job", "show", &id, "--server-dir", "server"]));
    assert_eq!(serde_json::from_value::<Report>(shown["report"].clone()).expect("a report"), report);
    let log = std::fs::read_to_string(dir.join("logs/agent-1.log")).expect("a log");
    assert!(log.contains("numbers counted over"), "{log}");
    deployment.cluster.check().expect("all processes live");
    deployment.cluster.stop();
}

#[test]
fn a_column_that_the_data_lacks_is_refused_by_the_agents_with_what_they_have() {
    let deployment = Deployment::start_on(AGENTS, 1, ClusterSettings::default(), |example| example.agents.clone());
    let path = deployment.dir.path().join("job.toml");
    std::fs::write(&path, JOB.replace("\"label\"", "\"digit\"")).expect("writes");
    deployment.submit_file(&path);
    let log = deployment.dir.path().join("logs/agent-1.log");
    crate::support::wait("the agent declines", std::time::Duration::from_secs(30), || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.contains("there is no column `digit`; the file has p00")
    });
    deployment.cluster.stop();
}

#[test]
fn an_analytics_job_is_checked_and_can_not_be_trained() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |text: &str| std::fs::write(dir.path().join("job.toml"), text).expect("writes");
    let run = |args: &[&str]| aimass(dir.path(), args);
    write(JOB);
    let good = json(&run(&["--json", "job", "check", "job.toml"]));
    assert_eq!(
        (good["features"].as_u64(), good["mode"].as_str()),
        (Some(65), Some("secure")),
        "{good}"
    );
    // rows, capped, missing of 65; below, above, sum, squares and 16 bins of 64; others and ten classes.
    assert_eq!(good["numbers"].as_u64(), Some(2 + 65 + 64 * 20 + 11), "{good}");
    assert!(said(&run(&["job", "check", "job.toml"])).contains("65 features are counted"));
    refused(
        &run(&["train", "job.toml", "--data", "rows.csv"]),
        5,
        &["job.kind", "nothing of it is trained"],
    );
    for (from, to, part) in [
        ("high = 1", "high = 0", "analyze.columns[0].high"),
        ("classes = 10", "classes = 0", "analyze.columns[1].classes"),
        ("[round]", "[train]\nlr = 0.1\n[round]", "nothing is trained"),
        ("bins = 16", "bins = 100000", "analyze.columns[0].bins"),
    ] {
        write(&JOB.replace(from, to));
        refused(&run(&["job", "check", "job.toml"]), 5, &["job.toml: line", part]);
    }
}
