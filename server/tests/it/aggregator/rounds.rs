//! Rounds that go well.

use aimass_compression::Accumulator;
use aimass_crypto::hash::sha256;
use aimass_federation::strategy;
use aimass_onnx::{Model, TrainableRules};
use aimass_protocol::message::agent::OutcomeReply;
use aimass_protocol::{Digest, JobId};
use serde_json::{Value, json};

use super::deployment::{Deployment, job_file, small_model};
use super::device::{Device, codec_of, refused};

/// Deltas of three devices; their mean is (2, 1, 0, ...).
fn deltas() -> [Vec<f32>; 3] {
    let with = |first: f32, second: f32| {
        let mut delta = vec![0.0; 15];
        (delta[0], delta[1]) = (first, second);
        delta
    };
    [with(1.0, 3.0), with(2.0, 0.0), with(3.0, 0.0)]
}

/// The model that integer sums make of the packed updates, computed here.
fn expected(base: &Model, codec: &aimass_compression::FixedCodec, packed: &[Vec<u8>]) -> Vec<u8> {
    let mut sum = Accumulator::new(codec.plan());
    for update in packed {
        sum.add(update).expect("a good update");
    }
    let mean = sum.decode(codec).expect("decodes").mean_delta;
    for (found, expected) in mean.iter().zip([2.0, 1.0, 0.0]) {
        assert!((found - expected).abs() < 1e-4, "{mean:?}");
    }
    let layout = base.layout(&TrainableRules::default()).expect("a layout");
    let weights = strategy::apply(&base.weights(&layout).expect("weights"), &mean, 1.0).expect("a step");
    base.with_weights(&layout, &weights).expect("a model").as_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_devices_give_exactly_the_mean_of_their_updates() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let base = small_model();
    let evaluation = server.put(b"a,b,c,d,label\n1,0,0,0,0\n0,1,0,0,1\n0,0,1,0,2\n").await;
    let model = server.put(base.as_bytes()).await;
    let file = format!("{}\n[evaluate]\ndata = \"test.csv\"\n", job_file("rounds = 2\nmin = 3"));
    let (bytes, body) = deployment.signed(&file, model, Some(evaluation), 1);
    let job = server.api.ok("POST", "/v1/jobs", body).await["job"]
        .as_str()
        .expect("an id")
        .to_owned();
    assert_eq!(job, JobId::from_bytes(sha256(&bytes)[..16].try_into().expect("16")).to_hex());

    let (mut devices, mut working) = (Vec::new(), Vec::new());
    for seed in 1..=3 {
        devices.push(Device::join(&deployment, server.ready.quic_address, seed).await);
    }
    assert_eq!(
        refused(devices[0].fetch(evaluation).await),
        aimass_protocol::ErrorCode::BlobUnknown,
        "held-out data stays here"
    );
    for (device, delta) in devices.iter().zip(deltas()) {
        working.push(async move { (device, device.round(&delta).await, delta) });
    }
    let [a, b, c] = working.try_into().unwrap_or_else(|_| panic!("three"));
    let (a, b, c) = tokio::join!(a, b, c);

    let (descriptor, _) = &a.1;
    let codec = codec_of(descriptor, 15);
    let packed: Vec<_> = [&a, &b, &c]
        .map(|(device, (descriptor, _), delta)| device.encode(descriptor, delta))
        .into();
    let expected = expected(&base, &codec, &packed);
    let digest = Digest::from_bytes(sha256(&expected));
    for (_, (other, outcome), _) in [&a, &b, &c] {
        assert_eq!(other, descriptor, "everybody is shown the same cohort");
        assert_eq!(*outcome, OutcomeReply::Included { round: 1, model: digest });
    }

    let view = server.finished(&job, 1).await;
    assert_eq!(
        (&view["state"], &view["model"], &view["round"]),
        (&json!("running"), &json!(digest.to_hex()), &json!(1))
    );
    let round = &view["history"][0];
    assert_eq!(
        (&round["contributions"], &round["weight"], &round["clipped"]),
        (&json!(3), &json!(12), &json!(0))
    );
    assert!((round["train_loss"].as_f64().expect("a loss") - 0.5).abs() < 1e-3, "{round}");
    assert!(round["accuracy"].is_number() && round["loss"].is_number(), "{round}");
    let packed_bytes = packed[0].len() as u64;
    assert!(
        round["bytes_up"].as_u64() > Some(3 * packed_bytes) && round["bytes_down"].as_u64() > Some(3 * expected.len() as u64),
        "{round}"
    );
    assert_eq!(
        server.raw("GET", &format!("/v1/jobs/{}/model", &job[..6]), b"").await,
        (200, expected.clone())
    );
    assert_eq!(
        server.raw("GET", &format!("/v1/jobs/{job}/model?round=0"), b"").await,
        (200, base.as_bytes().to_vec())
    );
    assert_eq!(server.raw("GET", &format!("/v1/jobs/{job}/model?round=9"), b"").await.0, 404);

    // The second round stands on the first one's model, and the job ends with it.
    let zeros = vec![0.0; 15];
    for device in &mut devices {
        device.contribution = aimass_protocol::ContributionId::from_bytes([100 + device.contribution.as_bytes()[0]; 16]);
    }
    let (a, b, c) = tokio::join!(devices[0].round(&zeros), devices[1].round(&zeros), devices[2].round(&zeros));
    assert_eq!((a.0.round, a.0.bases.as_slice()), (2, [digest].as_slice()));
    assert!(matches!(
        (a.1, b.1, c.1),
        (
            OutcomeReply::Included { round: 2, .. },
            OutcomeReply::Included { .. },
            OutcomeReply::Included { .. }
        )
    ));
    server.until(&job, "state", "finished").await;
    let view = server.job(&job).await;
    assert_eq!(view["history"].as_array().map(Vec::len), Some(2));
    assert!(view["ended_at_ms"].is_number());

    let status = server.api.ok("GET", "/v1/status", Value::Null).await;
    assert_eq!(
        (&status["agents"]["known"], &status["jobs"]),
        (&json!(3), &json!({ "running": 0, "ended": 1 }))
    );
    assert_eq!(status["counters"]["contributions_added"], 6);
    let (_, metrics) = server.raw("GET", "/metrics", b"").await;
    let metrics = String::from_utf8(metrics).expect("text");
    assert!(
        metrics.contains("\naimass_rounds_finished_total 2\n") && metrics.contains("\naimass_agents_online 3\n"),
        "{metrics}"
    );
    server.journal_is_empty().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_can_be_stopped_and_stays_so() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment.submit(&server, &small_model(), "rounds = 2\nmin = 3").await;
    let device = Device::join(&deployment, server.ready.quic_address, 1).await;
    let task = device.task().await;
    let waiting = device.ready(&task);
    let stopping = async {
        server.until(&job, "ready", 1).await;
        server.api.ok("POST", &format!("/v1/jobs/{job}/stop"), Value::Null).await
    };
    let (answer, view) = tokio::join!(waiting, stopping);
    assert_eq!(answer.expect("an answer"), aimass_protocol::message::agent::ReadyReply::Superseded);
    assert_eq!(view["state"], "stopped");
    assert_eq!(
        server.api.ok("POST", &format!("/v1/jobs/{job}/stop"), Value::Null).await["state"],
        "stopped"
    );
    server.stop().await;
    let server = deployment.server().await;
    assert_eq!(server.job(&job).await["state"], "stopped");
    server.stop().await;
}
