use std::io::Write;
use std::time::Instant;

use tokio::time::timeout;

use super::*;
use crate::testing::{Deployment, Pair, SOON, message, random_bytes};

fn file_of(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(file.metadata().expect("its length").len()).expect("fits")];
    read_exact_at(file, &mut bytes, 0).expect("readable");
    bytes
}

fn manifest(bytes: &[u8]) -> Manifest {
    manifest_of(&mut &bytes[..]).expect("a manifest")
}

/// Sends `source` from one end and receives it at the other, each from `from_chunk` on and each with its own manifest.
async fn transfer(
    pair: &Pair,
    (source, sent): (&File, &Manifest),
    (target, expected): (&File, &Manifest),
    from_chunk: u32,
) -> (Result<(), NetError>, Result<(), NetError>) {
    let (mut writer, _reader) = pair.near.open().await.expect("open");
    let sending = async {
        writer.control(&message("upload")).await?;
        send_chunks(&mut writer, source, sent, from_chunk).await?;
        writer.finish();
        Ok(())
    };
    let receiving = async {
        let (_writer, mut reader) = pair.far.accept().await?.expect("a stream");
        let _: aimass_protocol::message::Refusal = reader.control().await?;
        receive_chunks(&mut reader, expected, from_chunk, target, &std::sync::Arc::new(()), || {}).await?;
        reader.end().await
    };
    timeout(SOON, async { tokio::join!(sending, receiving) }).await.expect("in time")
}

#[test]
fn a_manifest_says_what_a_blob_is_made_of() {
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
        let bytes = random_bytes(len, 1);
        let manifest = manifest(&bytes);
        assert_eq!(manifest.size_bytes(), len as u64);
        assert_eq!(manifest.digest().as_bytes(), &sha256(&bytes));
        let expected: Vec<_> = bytes.chunks(CHUNK_BYTES).map(|chunk| Digest::from_bytes(sha256(chunk))).collect();
        assert_eq!(manifest.chunks(), expected);
    }
    let too_large = manifest_of(&mut io::repeat(0).take(MAX_BLOB_BYTES + 1)).expect_err("over the limit");
    assert_eq!(too_large.kind(), io::ErrorKind::FileTooLarge);
}

#[tokio::test]
async fn blobs_of_all_lengths_arrive_whole() {
    let pair = Deployment::new(1).pair().await;
    for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 9 * CHUNK_BYTES + 7] {
        let bytes = random_bytes(len, 2);
        let (source, target, manifest) = (file_of(&bytes), file_of(b"left over from before"), manifest(&bytes));
        let (sent, received) = transfer(&pair, (&source, &manifest), (&target, &manifest), 0).await;
        assert!(sent.is_ok() && received.is_ok(), "{len}: {sent:?} {received:?}");
        assert!(content(&target) == bytes, "{len}");
    }
}

#[tokio::test]
async fn a_transfer_goes_on_where_it_stopped() {
    let bytes = random_bytes(10 * CHUNK_BYTES + 5, 3);
    let (source, target, manifest) = (file_of(&bytes), file_of(b""), manifest(&bytes));
    let pair = Deployment::new(1).pair().await;
    let (mut writer, _reader) = pair.near.open().await.expect("open");
    writer.control(&message("upload")).await.expect("sent");
    let (_writer, mut reader) = pair.far.accept().await.expect("open").expect("a stream");
    let _: aimass_protocol::message::Refusal = reader.control().await.expect("a message");
    let breaking = async {
        // Four chunks and a half; then the connection is gone.
        for chunk in bytes.chunks(CHUNK_BYTES).take(4) {
            writer.chunk(Bytes::copy_from_slice(chunk)).await.expect("sent");
        }
        while reader_has(&target) < 4 * CHUNK_BYTES as u64 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        pair.near.finish();
    };
    let lock = std::sync::Arc::new(());
    let (received, ()) = tokio::join!(receive_chunks(&mut reader, &manifest, 0, &target, &lock, || {}), breaking);
    assert!(matches!(received, Err(NetError::Broken { .. })), "{received:?}");
    write_all_at(&target, b"half a chunk that a crash left", 4 * CHUNK_BYTES as u64).expect("written");
    let held = verified_prefix(&target, &manifest).expect("readable");
    assert_eq!((held, reader_has(&target)), (4, 4 * CHUNK_BYTES as u64));

    let pair = Deployment::new(1).pair().await;
    let before = pair.far.stats().received_bytes;
    let (sent, received) = transfer(&pair, (&source, &manifest), (&target, &manifest), held).await;
    assert!(sent.is_ok() && received.is_ok(), "{sent:?} {received:?}");
    assert!(content(&target) == bytes);
    let moved = pair.far.stats().received_bytes - before;
    assert!(moved < 8 * CHUNK_BYTES as u64, "{moved} bytes: only what was missing");
}

fn reader_has(file: &File) -> u64 {
    file.metadata().expect("its length").len()
}

#[test]
fn the_prefix_ends_at_the_first_bad_chunk() {
    let bytes = random_bytes(5 * CHUNK_BYTES + 9, 4);
    let manifest = manifest(&bytes);
    let chunks = |n: usize| (n * CHUNK_BYTES) as u64;
    assert_eq!(verified_prefix(&file_of(b""), &manifest).expect("readable"), 0);
    assert_eq!(verified_prefix(&file_of(&bytes), &manifest).expect("readable"), 6);
    let longer = file_of(&[&bytes[..], b"more"].concat());
    assert_eq!(
        (verified_prefix(&longer, &manifest).expect("readable"), reader_has(&longer)),
        (6, bytes.len() as u64)
    );
    let cut = file_of(&bytes[..bytes.len() - 1]);
    assert_eq!(
        (verified_prefix(&cut, &manifest).expect("readable"), reader_has(&cut)),
        (5, chunks(5))
    );
    let mut flipped = bytes.clone();
    flipped[2 * CHUNK_BYTES + 17] ^= 1;
    let flipped = file_of(&flipped);
    assert_eq!(
        (verified_prefix(&flipped, &manifest).expect("readable"), reader_has(&flipped)),
        (2, chunks(2))
    );
}

#[tokio::test]
async fn a_bad_chunk_is_not_written() {
    let pair = Deployment::new(1).pair().await;
    let good = random_bytes(4 * CHUNK_BYTES, 5);
    let mut bad = good.clone();
    bad[2 * CHUNK_BYTES] ^= 1;
    let (source, target, manifest) = (file_of(&bad), file_of(b""), manifest(&good));
    let (_, received) = transfer(&pair, (&source, &manifest), (&target, &manifest), 0).await;
    let Err(error @ NetError::Digest { .. }) = received else {
        panic!("{received:?}")
    };
    assert!(error.to_string().contains("chunk 2"), "{error}");
    assert!(content(&target) == good[..2 * CHUNK_BYTES]);
}

#[test]
fn an_update_is_named_by_its_chunks_and_a_model_by_its_bytes() {
    let bytes = random_bytes(2 * CHUNK_BYTES + 9, 6);
    let update = update_manifest(&bytes).expect("a manifest");
    assert_eq!(
        (update.size_bytes(), update.chunks()),
        (bytes.len() as u64, manifest(&bytes).chunks())
    );
    assert!(names_its_chunks(&update));
    assert!(!names_its_chunks(&manifest(&bytes)));
    let mut chunks = update.chunks().to_vec();
    chunks.swap(0, 1);
    let swapped = Manifest::new(update.digest(), update.size_bytes(), chunks).expect("of one size");
    assert!(!names_its_chunks(&swapped));
    assert!(names_its_chunks(&update_manifest(&[]).expect("an empty one")));
}

#[tokio::test]
async fn a_start_past_the_end_and_a_file_that_is_too_short_are_errors() {
    let pair = Deployment::new(1).pair().await;
    let bytes = random_bytes(2 * CHUNK_BYTES, 7);
    let manifest = manifest(&bytes);
    let (mut writer, mut reader) = pair.near.open().await.expect("open");
    let file = file_of(&bytes[..CHUNK_BYTES + 1]);
    assert!(matches!(
        send_chunks(&mut writer, &file, &manifest, 3).await,
        Err(NetError::Protocol { .. })
    ));
    assert!(matches!(
        receive_chunks(&mut reader, &manifest, 3, &file, &std::sync::Arc::new(()), || {}).await,
        Err(NetError::Protocol { .. })
    ));
    assert!(matches!(
        send_chunks(&mut writer, &file, &manifest, 0).await,
        Err(NetError::Io { .. })
    ));
}

/// `cargo test --release -p aimass-net -- --ignored --nocapture speed`: one direction, both ends in one process.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    let pair = Deployment::new(1).pair().await;
    for megabytes in [6.65, 200.0] {
        let bytes = random_bytes((megabytes * 1e6) as usize, 8);
        let (source, target, manifest) = (file_of(&bytes), file_of(b""), manifest(&bytes));
        let began = Instant::now();
        let (sent, received) = transfer(&pair, (&source, &manifest), (&target, &manifest), 0).await;
        let seconds = began.elapsed().as_secs_f64();
        assert!(sent.is_ok() && received.is_ok() && content(&target) == bytes);
        println!("{megabytes} MB in {:.1} ms: {:.0} MB/s", seconds * 1e3, megabytes / seconds);
    }
}
