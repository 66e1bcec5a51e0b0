use std::fs::File;

use aimass_protocol::message::Refusal;
use tokio::time::{sleep, timeout};

use crate::blob::{manifest_of, receive_chunks, send_chunks, verified_prefix};
use crate::testing::{Deployment, SOON, message, random_bytes};

use super::*;

#[tokio::test]
async fn a_close_says_why() {
    let pair = Deployment::new(1).pair().await;
    let (mut writer, mut reader) = pair.near.open().await.expect("open");
    writer.control(&message("long poll")).await.expect("sent");
    let far = pair.far.clone();
    tokio::spawn(async move {
        let accepted = far.accept().await;
        sleep(Duration::from_millis(50)).await;
        far.close(ErrorCode::Revoked, "revoked by the operator");
        drop(accepted);
    });
    let read = timeout(SOON, reader.control_within::<Refusal>(SOON)).await.expect("at once");
    let Err(NetError::Refused(refusal)) = read else {
        panic!("{read:?}")
    };
    assert_eq!(
        (refusal.code, refusal.text.as_str()),
        (ErrorCode::Revoked, "revoked by the operator")
    );
    let NetError::Refused(refusal) = pair.near.closed().await else {
        panic!("the connection is refused, not broken")
    };
    assert_eq!(refusal.code, ErrorCode::Revoked);
    assert!(pair.near.is_closed());
    assert!(pair.far.accept().await.expect("closed by us").is_none());
    assert!(matches!(pair.near.open().await, Err(NetError::Refused(_))));
}

#[tokio::test]
async fn an_end_in_peace_is_none() {
    let pair = Deployment::new(1).pair().await;
    pair.near.finish();
    assert!(
        timeout(SOON, pair.far.accept())
            .await
            .expect("at once")
            .expect("in peace")
            .is_none()
    );
    assert!(matches!(pair.far.closed().await, NetError::Broken { .. }));
}

#[tokio::test]
async fn only_eight_streams_are_open_at_once() {
    let pair = Deployment::new(1).pair().await;
    let mut open = Vec::new();
    for _ in 0..8 {
        let (mut writer, reader) = timeout(SOON, pair.near.open()).await.expect("within the limit").expect("open");
        writer.control(&message("one of eight")).await.expect("sent");
        open.push((writer, reader));
    }
    assert!(
        timeout(Duration::from_millis(200), pair.near.open()).await.is_err(),
        "the ninth waits"
    );
    // quinn gives places back two at a time.
    for _ in 0..2 {
        let served = pair.far.accept().await.expect("open").expect("a stream");
        drop((open.remove(0), served));
    }
    timeout(SOON, pair.near.open()).await.expect("a place is free again").expect("open");
}

/// The agent gets a new address in the middle of an upload (a phone leaves the house).
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_survives_a_new_address() {
    let pair = Deployment::new(1).pair().await;
    let bytes = random_bytes(24 << 20, 1);
    let manifest = manifest_of(&mut bytes.as_slice()).expect("a manifest");
    let source = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut &source, &bytes).expect("written");
    let (mut writer, _reader) = pair.near.open().await.expect("open");
    let sending = tokio::spawn({
        let manifest = manifest.clone();
        async move { send_chunks(&mut writer, &source, &manifest, 0).await }
    });
    let (_far_writer, mut reader) = pair.far.accept().await.expect("open").expect("a stream");
    let before = pair.far.remote_address();
    let target: File = tempfile::tempfile().expect("a file");
    let receiving = tokio::spawn({
        let (manifest, target) = (manifest.clone(), target.try_clone().expect("a handle"));
        async move { receive_chunks(&mut reader, &manifest, 0, &target, &std::sync::Arc::new(()), || {}).await }
    });
    while pair.far.stats().received_bytes < 2 << 20 {
        sleep(Duration::from_millis(1)).await;
    }
    assert!(!receiving.is_finished(), "it is in the middle");
    pair.client.rebind().expect("a new socket");
    timeout(SOON, sending).await.expect("in time").expect("no panic").expect("sent");
    timeout(SOON, receiving)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("received");
    assert_ne!(pair.far.remote_address(), before);
    assert_eq!(
        verified_prefix(&target, &manifest).expect("readable") as usize,
        manifest.chunks().len()
    );
}
