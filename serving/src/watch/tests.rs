use aimass_onnx::build::mlp;

use super::*;
use crate::host::HostConfig;

fn host() -> Arc<Host> {
    Arc::new(Host::start(HostConfig::default()).expect("threads start"))
}

fn version(host: &Host) -> String {
    host.slot("m").expect("there").current().version.clone()
}

/// Writes a model, with a time of its own: files that change within a clock's tick look alike.
fn write(path: &Path, bytes: &[u8], second: u64) {
    std::fs::write(path, bytes).expect("writes");
    let file = std::fs::File::options().write(true).open(path).expect("opens");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second))
        .expect("a time");
}

fn watcher(host: &Arc<Host>, path: &Path) -> Watcher {
    let watched = Watched {
        model: "m".to_owned(),
        path: path.to_owned(),
    };
    Watcher::new(Arc::clone(host), vec![watched])
}

#[test]
fn should_swap_when_a_file_changes_and_stands_still() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("m.onnx");
    write(&path, mlp(&[4, 3], 1).as_bytes(), 1000);
    let host = host();
    let mut watcher = watcher(&host, &path);
    watcher.load_all().expect("loads");
    watcher.tick();
    watcher.tick();
    assert_eq!(version(&host), "1", "nothing changed");
    write(&path, mlp(&[4, 3], 2).as_bytes(), 1001);
    watcher.tick();
    assert_eq!(version(&host), "1", "it may still be written to");
    watcher.tick();
    assert_eq!(version(&host), "2");
    write(&path, b"half a mod", 1002);
    (0..4).for_each(|_| watcher.tick());
    assert_eq!(version(&host), "2", "the last good one stays");
    let once = "aimass_serve_failed_swaps_total{model=\"m\"} 1";
    assert!(host.metrics_text().contains(once), "the bad one is tried once");
    write(&path, mlp(&[4, 3], 3).as_bytes(), 1003);
    (0..2).for_each(|_| watcher.tick());
    assert_eq!(version(&host), "4");
}

#[test]
fn should_take_the_newest_of_a_folder() {
    let dir = tempfile::tempdir().expect("a folder");
    write(&dir.path().join("a.onnx"), mlp(&[4, 3], 1).as_bytes(), 2000);
    write(&dir.path().join("b.txt"), b"no model", 3000);
    let host = host();
    let mut watcher = watcher(&host, dir.path());
    watcher.load_all().expect("loads");
    write(&dir.path().join("old.onnx"), mlp(&[4, 3], 2).as_bytes(), 1000);
    (0..2).for_each(|_| watcher.tick());
    assert_eq!(version(&host), "1", "an older one is no news");
    write(&dir.path().join("new.onnx"), mlp(&[4, 3], 2).as_bytes(), 2001);
    (0..2).for_each(|_| watcher.tick());
    assert_eq!(version(&host), "2");
}

#[test]
fn should_wait_for_a_model_that_is_not_there_yet() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("m.onnx");
    let host = host();
    let mut early = watcher(&host, &path);
    assert!(early.load_all().is_err());
    early.load_what_can_be();
    assert!(host.slot("m").is_none());
    write(&path, mlp(&[4, 3], 1).as_bytes(), 1000);
    (0..2).for_each(|_| early.tick());
    assert!(host.slot("m").is_some());
}

#[test]
fn should_follow_what_a_folder_points_to_and_nothing_outside() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("digits");
    std::fs::create_dir(&path).expect("a folder");
    write(&path.join("a.onnx"), mlp(&[4, 3], 1).as_bytes(), 1000);
    write(&path.join("b.onnx"), mlp(&[4, 3], 2).as_bytes(), 2000);
    write(&dir.path().join("c.onnx"), mlp(&[4, 3], 3).as_bytes(), 3000);
    let point = |text: &str| std::fs::write(path.join(POINTER), text).expect("writes");
    let seen = || mark(&path).map(|mark| mark.path);
    assert_eq!(seen(), Some(path.join("b.onnx")), "the newest");
    point(r#"{"file": "a.onnx", "variant": "small"}"#);
    assert_eq!(seen(), Some(path.join("a.onnx")));
    for wrong in [
        r#"{"file": "../c.onnx"}"#,
        r#"{"file": "none.onnx"}"#,
        r#"{"file": 3}"#,
        "{",
        "",
        r#"{"file": "current.json"}"#,
    ] {
        point(wrong);
        assert_eq!(seen(), None, "{wrong}");
    }
    let host = host();
    let mut watcher = watcher(&host, &path);
    point(r#"{"file": "a.onnx"}"#);
    watcher.load_all().expect("loads");
    point(r#"{"file": "b.onnx"}"#);
    watcher.tick();
    watcher.tick();
    assert_eq!(version(&host), "2", "swapped");
}
