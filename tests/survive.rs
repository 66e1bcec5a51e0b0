//! kill -9 of any process: what was acknowledged stays, and the job goes on.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Deployment, agent_start, wait};

#[test]
fn a_killed_aggregator_knows_its_agents_jobs_rounds_and_models_and_goes_on() {
    let mut deployment = Deployment::start(2, 12);
    let id = deployment.submit();
    deployment.wait_round(&id, 2);
    for kill in 0..3 {
        let before = deployment.job(&id);
        deployment.cluster.kill_and_restart_server().expect("it comes up again");
        let after = deployment.job(&id);
        let done = before["history"].as_array().expect("rounds").len();
        assert_eq!(
            before["history"].as_array().expect("rounds"),
            &after["history"].as_array().expect("rounds")[..done],
            "every finished round is known after kill {kill}"
        );
        for round in after["history"].as_array().into_iter().flatten() {
            let path = format!("/v1/jobs/{id}/model?round={}", round["round"]);
            let model = deployment.cluster.server().get_bytes(&path, 1 << 20).expect("its model is there");
            assert_eq!(hex(&model), round["model"].as_str().expect("a digest"));
        }
        let next = after["round"].as_u64().expect("a number") + 1;
        deployment.wait_round(&id, next);
    }
    deployment.wait_round(&id, 12);
    let agents: Value = deployment.cluster.server().get("/v1/agents").expect("the aggregator answers");
    assert_eq!(agents["agents"].as_array().map(Vec::len), Some(2));
    let view = deployment.job(&id);
    assert!(
        view["history"].as_array().into_iter().flatten().all(|r| r["contributions"] == 2),
        "nobody twice, nobody lost: {view}"
    );
    deployment.cluster.stop();
}

#[test]
fn killed_agents_go_on_and_count_once_a_round() {
    // Of five agents four unmask a sum, so one may be killed at any time.
    let mut deployment = Deployment::start(5, 10);
    let id = deployment.submit();
    for round in 1..=6u64 {
        deployment.wait_round(&id, round);
        let number = (round % 5) as usize + 1;
        let start = agent_start(&deployment.example.agents[number - 1]);
        deployment.cluster.kill_and_restart_agent(number, &start).expect("it starts again");
    }
    deployment.wait_round(&id, 10);
    let view = deployment.job(&id);
    assert!(
        view["history"].as_array().into_iter().flatten().all(|r| r["contributions"] == 5),
        "{view}"
    );
    let weights: Vec<&Value> = view["history"].as_array().into_iter().flatten().map(|r| &r["weight"]).collect();
    let rows: usize = deployment.example.agent_rows.iter().sum();
    assert!(
        weights.iter().all(|w| w.as_u64() == Some(rows as u64)),
        "every row counts once a round: {weights:?}"
    );
    deployment.cluster.stop();
}

#[test]
fn kills_do_not_change_the_model() {
    let run = |kills: bool| {
        let mut deployment = Deployment::start(2, 6);
        let id = deployment.submit();
        if kills {
            deployment.wait_round(&id, 2);
            deployment.cluster.kill_and_restart_server().expect("it comes up again");
            deployment.wait_round(&id, 3);
            let start = agent_start(&deployment.example.agents[0]);
            deployment.cluster.kill_and_restart_agent(1, &start).expect("it starts again");
        }
        deployment.wait_round(&id, 6);
        let model = deployment.job(&id)["model"].as_str().expect("a digest").to_owned();
        deployment.cluster.stop();
        model
    };
    assert_eq!(run(false), run(true), "same seed, same bytes, whatever happened on the way");
}

/// Longer than the ten seconds after which training is kept: `.ci/full` runs it.
#[test]
#[ignore = "takes a minute and a half"]
fn an_agent_killed_in_the_middle_of_an_epoch_goes_on_from_there_to_the_same_model() {
    let run = |kill: bool| {
        let mut deployment = Deployment::start(1, 1);
        let text = std::fs::read_to_string(&deployment.example.job).expect("the job file");
        let longer = text.replace("epochs = 5", "epochs = 4500").replace("lr = 0.1", "lr = 0.001");
        let longer = longer.replace("max_time = \"60s\"", "max_time = \"10m\"");
        assert_ne!(text, longer, "the example says how long it trains");
        std::fs::write(&deployment.example.job, longer).expect("writes");
        let id = deployment.submit();
        if kill {
            let checkpoint = deployment.cluster.agent_dir(1).join("work/task/checkpoint.bin");
            wait("a checkpoint", Duration::from_secs(120), || checkpoint.exists());
            let start = agent_start(&deployment.example.agents[0]);
            deployment.cluster.kill_and_restart_agent(1, &start).expect("it starts again");
        }
        wait("the end of the job", Duration::from_secs(300), || {
            deployment.job(&id)["state"] == "finished"
        });
        if kill {
            let log = std::fs::read_to_string(deployment.dir.path().join("logs/agent-1.log")).expect("its log");
            assert!(log.contains("training goes on after step"), "{log}");
        }
        let model = deployment.job(&id)["model"].as_str().expect("a digest").to_owned();
        deployment.cluster.stop();
        model
    };
    assert_eq!(run(true), run(false));
}

fn hex(bytes: &[u8]) -> String {
    aimass_crypto::hash::sha256(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
