//! Uploads that are wrong, late, sent twice or cut in the middle.

use aimass_onnx::build;
use aimass_protocol::ErrorCode;
use aimass_protocol::limits::CHUNK_BYTES;
use aimass_protocol::manifest::Manifest;
use aimass_protocol::message::agent::{AgentRequest, BundleReply, OutcomeReply};
use aimass_protocol::{CohortId, ContributionId, Digest};

use super::deployment::{Deployment, small_model};
use super::device::{Device, manifest_of, refused, send, send_pieces};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_updates_are_refused_and_counted_and_the_round_goes_on_without_them() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment.submit(&server, &small_model(), "rounds = 2\nmin = 2\ntarget = 4").await;
    let mut devices = Vec::new();
    for seed in 1..=4 {
        devices.push(Device::join(&deployment, server.ready.quic_address, seed).await);
    }
    let [good, other, long, garbage] = devices.try_into().unwrap_or_else(|_| panic!("four"));
    let task = good.task().await;
    for device in [&other, &long, &garbage] {
        device.task().await;
    }
    let (descriptor, ..) = tokio::join!(good.cohort(&task), other.cohort(&task), long.cohort(&task), garbage.cohort(&task));
    let cohort = descriptor.cohort;
    let packed = good.encode(&descriptor, &[0.5; 15]);

    // A digest that the chunks do not have.
    let lying = Manifest::new(
        Digest::from_bytes([7; 32]),
        packed.len() as u64,
        manifest_of(&packed).chunks().to_vec(),
    )
    .expect("of one size");
    assert_eq!(refused(good.begin_with(cohort, lying).await.map(|_| ())), ErrorCode::Malformed);

    // One byte too many is refused before anything is sent.
    let mut longer = packed.clone();
    longer.push(0);
    assert_eq!(refused(long.upload(cohort, &longer).await), ErrorCode::UpdateLength);
    assert_eq!(
        refused(long.upload(cohort, &packed).await),
        ErrorCode::UpdateLength,
        "it is out of this round"
    );

    // Residues that no value rounds to.
    assert_eq!(
        refused(garbage.upload(cohort, &vec![0xff; packed.len()]).await),
        ErrorCode::UpdateValue
    );

    // A chunk that is not the announced one may be sent again, rightly.
    let (next_chunk, writer, reader) = good.begin(cohort, &packed).await.expect("allowed");
    let mut flipped = packed.clone();
    flipped[3] ^= 1;
    assert_eq!(refused(send(writer, reader, &flipped, next_chunk).await), ErrorCode::DigestMismatch);

    // Nothing may follow the last chunk.
    let (next_chunk, writer, reader) = good.begin(cohort, &packed).await.expect("allowed");
    let more = [&packed[..], &vec![0; CHUNK_BYTES]].concat();
    assert_eq!(packed.len().div_ceil(CHUNK_BYTES), 1);
    assert_eq!(
        refused(send_pieces(writer, reader, &[&more[..packed.len()], &more[packed.len()..]], next_chunk).await),
        ErrorCode::Malformed
    );
    good.upload(cohort, &packed).await.expect("accepted");

    // The same again is the same; other work under the same cohort is not.
    good.upload(cohort, &packed).await.expect("accepted already");
    let mut twice = good;
    let contribution = std::mem::replace(&mut twice.contribution, ContributionId::from_bytes([77; 16]));
    assert_eq!(refused(twice.upload(cohort, &packed).await), ErrorCode::CohortUnknown);
    twice.contribution = contribution;
    assert_eq!(
        refused(other.upload(CohortId::from_bytes([9; 16]), &packed).await),
        ErrorCode::CohortUnknown
    );

    other
        .upload(cohort, &other.encode(&descriptor, &[1.5; 15]))
        .await
        .expect("accepted");
    let outcome = twice.outcome(&descriptor).await.expect("an outcome");
    assert!(matches!(outcome, OutcomeReply::Included { round: 1, .. }), "{outcome:?}");
    assert_eq!(long.outcome(&descriptor).await.expect("an outcome"), OutcomeReply::NotIncluded);
    let view = server.finished(&job, 1).await;
    assert_eq!(view["history"][0]["contributions"], 2);

    // Too late.
    assert_eq!(refused(garbage.upload(cohort, &packed).await), ErrorCode::CohortUnknown);

    for (name, n) in [
        ("refused_update_length", 2),
        ("refused_update_value", 1),
        ("refused_digest_mismatch", 1),
        ("refused_malformed", 2),
        ("refused_cohort_unknown", 3),
        ("contributions_added", 2),
    ] {
        assert_eq!(server.counter(name).await, n, "{name}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_after_the_deadline_is_late_and_the_round_goes_on_at_the_deadline() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let job = deployment
        .submit(&server, &small_model(), "rounds = 1\nmin = 1\ntarget = 2\nmax_time = \"2s\"")
        .await;
    let quick = Device::join(&deployment, server.ready.quic_address, 1).await;
    let slow = Device::join(&deployment, server.ready.quic_address, 2).await;
    let task = quick.task().await;
    slow.task().await;
    let (descriptor, _) = tokio::join!(quick.cohort(&task), slow.cohort(&task));
    let packed = slow.encode(&descriptor, &[1.0; 15]);
    quick
        .upload(descriptor.cohort, &quick.encode(&descriptor, &[1.0; 15]))
        .await
        .expect("accepted");
    // Begun in time and never sent.
    let (_, _writer, mut reader) = slow.begin(descriptor.cohort, &packed).await.expect("allowed");
    let told = reader
        .control_within::<aimass_protocol::message::Reply<BundleReply>>(std::time::Duration::from_secs(10))
        .await;
    assert!(matches!(told, Ok(aimass_protocol::message::Reply::Refused(refusal)) if refusal.code == ErrorCode::Late));
    let view = server.finished(&job, 1).await;
    assert_eq!(view["history"][0]["contributions"], 1);
    server.counts("refused_late", 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_goes_on_where_its_connection_was_cut() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let model = build::mlp(&[784, 300, 10], 7);
    let weights = 784 * 300 + 300 + 300 * 10 + 10;
    let job = deployment.submit(&server, &model, "rounds = 1\nmin = 1").await;
    let mut device = Device::join(&deployment, server.ready.quic_address, 1).await;
    let task = device.task().await;
    let descriptor = device.cohort(&task).await;
    let packed = device.encode(&descriptor, &vec![0.001; weights]);
    assert!(packed.len() > 2 * CHUNK_BYTES, "{}", packed.len());

    let (next_chunk, mut writer, _reader) = device.begin(descriptor.cohort, &packed).await.expect("allowed");
    assert_eq!(next_chunk, 0);
    writer.chunk(packed[..CHUNK_BYTES].to_vec().into()).await.expect("sent");
    let file = server
        .dir
        .join("journal")
        .join(descriptor.cohort.to_hex())
        .join(device.id().to_hex());
    for _ in 0..500 {
        if std::fs::metadata(&file).is_ok_and(|meta| meta.len() == CHUNK_BYTES as u64) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // The old connection is left standing: the server has to find out that it is over.
    let old = device.connection.clone();
    device.reconnect(None).await;
    let (next_chunk, writer, reader) = device.begin(descriptor.cohort, &packed).await.expect("allowed again");
    assert_eq!(next_chunk, 1, "the first chunk is held");
    send(writer, reader, &packed, next_chunk).await.expect("accepted");
    old.finish();
    server.finished(&job, 1).await;
    assert_eq!(server.counter("uploads_resumed").await, 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_request_are_answered_and_counted() {
    let deployment = Deployment::start().await;
    let server = deployment.server().await;
    let device = Device::join(&deployment, server.ready.quic_address, 1).await;
    // A well-formed message of another kind.
    let (mut writer, mut reader) = device.connection.open().await.expect("a stream");
    writer.control(&BundleReply { bundle: None }).await.expect("sent");
    writer.finish();
    let told = reader
        .control::<aimass_protocol::message::Reply<BundleReply>>()
        .await
        .expect("an answer");
    assert!(matches!(told, aimass_protocol::message::Reply::Refused(refusal) if refusal.code == ErrorCode::Malformed));
    // A request with something after it.
    let (mut writer, mut reader) = device.connection.open().await.expect("a stream");
    let ask = AgentRequest::Bundle(aimass_protocol::message::agent::BundleQuery { have_version: 0 });
    writer.control(&ask).await.expect("sent");
    writer.control(&ask).await.expect("sent");
    writer.finish();
    let told = reader
        .control::<aimass_protocol::message::Reply<BundleReply>>()
        .await
        .expect("an answer");
    assert!(matches!(told, aimass_protocol::message::Reply::Refused(refusal) if refusal.code == ErrorCode::Malformed));
    assert_eq!(server.counter("refused_malformed").await, 2);
    // The connection goes on.
    device.check_in().await.expect("an answer");
    server.stop().await;
}
