use std::io;

use aimass_crypto::hash::sha256;

use super::*;

fn some_bytes(n: usize) -> Bytes {
    (0..n).map(|i| u8::try_from(i % 251).expect("below 251")).collect::<Vec<_>>().into()
}

fn files(root: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.to_string_lossy().into_owned());
            }
        }
    }
    found
}

#[tokio::test]
async fn what_is_put_is_got_whole_and_in_chunks() {
    let dir = tempfile::tempdir().expect("a folder");
    let blobs = BlobStore::open(dir.path()).expect("opens");
    for len in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 7] {
        let bytes = some_bytes(len);
        let mut writer = blobs.begin().await.expect("begins");
        for piece in bytes.chunks(100_003) {
            writer.write(Bytes::copy_from_slice(piece)).await.expect("written");
        }
        let manifest = writer.finish().await.expect("finished");
        assert_eq!(manifest.digest(), Digest::from_bytes(sha256(&bytes)));
        assert_eq!(
            blobs.put(bytes.clone()).await.expect("again"),
            manifest,
            "the same blob twice is one blob"
        );
        assert_eq!(blobs.read(manifest.digest()).await.expect("read"), bytes);
        assert_eq!(blobs.size(manifest.digest()).await.expect("size"), len as u64);

        // A new process has to read it to know its chunks.
        let reopened = BlobStore::open(dir.path()).expect("opens");
        assert_eq!(reopened.manifest(manifest.digest()).await.expect("manifest"), manifest);
        let mut whole = Vec::new();
        for index in 0..manifest.chunks().len() {
            whole.extend_from_slice(&reopened.read_chunk(&manifest, index).await.expect("chunk"));
        }
        assert_eq!(whole, bytes);
    }
}

#[tokio::test]
async fn an_unfinished_blob_leaves_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let blobs = BlobStore::open(dir.path()).expect("opens");
    let mut writer = blobs.begin().await.expect("begins");
    writer.write(some_bytes(CHUNK_BYTES + 5)).await.expect("written");
    // As a killed process leaves it: neither finished nor aborted.
    std::mem::forget(writer);
    assert_eq!(files(dir.path()).len(), 1);
    let blobs = BlobStore::open(dir.path()).expect("opens again");
    assert_eq!(files(dir.path()), Vec::<String>::new());
    let missing = blobs.read(Digest::from_bytes([0; 32])).await.expect_err("nothing there");
    assert!(matches!(missing, BlobError::NotFound { .. }), "{missing}");
    assert_eq!(missing.code(), ErrorCode::BlobUnknown);
}

#[tokio::test]
async fn a_blob_that_was_changed_on_the_disk_is_not_served() {
    let dir = tempfile::tempdir().expect("a folder");
    let blobs = BlobStore::open(dir.path()).expect("opens");
    let digest = blobs.put(some_bytes(1000)).await.expect("put").digest();
    let file = files(dir.path()).pop().expect("one file");
    std::fs::write(file, b"something else").expect("written");
    let error = BlobStore::open(dir.path())
        .expect("opens")
        .manifest(digest)
        .await
        .expect_err("changed");
    assert!(matches!(error, BlobError::Io { .. }), "{error}");
}

#[test]
fn a_full_disk_is_found_however_deep_it_is_wrapped() {
    let full = || io::Error::from(io::ErrorKind::StorageFull);
    let wrapped = object_store::Error::Generic {
        store: "test",
        source: Box::new(io::Error::other(full())),
    };
    let error = BlobError::from(wrapped);
    assert!(matches!(error, BlobError::DiskFull), "{error}");
    assert_eq!(error.code(), ErrorCode::Unavailable);
    let other = object_store::Error::Generic {
        store: "test",
        source: Box::new(io::Error::from(io::ErrorKind::PermissionDenied)),
    };
    assert!(matches!(BlobError::from(other), BlobError::Io { .. }));
}

/// Not a test by itself: runs under a limit on file sizes, see [`a_write_that_fails_in_the_middle_changes_nothing`].
#[tokio::test]
async fn writer_without_room() {
    let Some(dir) = std::env::var_os("AIMASS_TEST_BLOBS_WITHOUT_ROOM") else {
        return;
    };
    let blobs = BlobStore::open(Path::new(&dir)).expect("opens");
    let small = blobs.put(some_bytes(1000)).await.expect("fits");
    let error = blobs.put(some_bytes(2 * CHUNK_BYTES)).await.expect_err("does not fit");
    assert_eq!(error.code(), ErrorCode::Unavailable, "{error}");
    assert_eq!(blobs.read(small.digest()).await.expect("still there"), some_bytes(1000));
    println!("failed cleanly");
}

#[cfg(unix)]
#[test]
fn a_write_that_fails_in_the_middle_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    // A limit on file sizes fails writes of one process, as a full disk fails those of all.
    let script = "trap '' XFSZ; ulimit -f 200; exec \"$0\" blobs::tests::writer_without_room --exact --nocapture";
    let output = std::process::Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().expect("this binary"))
        .env("AIMASS_TEST_BLOBS_WITHOUT_ROOM", dir.path())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("failed cleanly"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let left = files(dir.path());
    assert_eq!(left.len(), 1, "the small blob alone: {left:?}");
}
