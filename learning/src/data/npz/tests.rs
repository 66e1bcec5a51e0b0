use super::super::npy::tests::{array_of, bytes_of, limits, recorded};
use super::*;

fn read(bytes: &[u8]) -> Result<BTreeMap<String, Array>, DataError> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("some.npz");
    std::fs::write(&path, bytes).expect("writes");
    read_npz(&path, &limits())
}

#[test]
fn archives_of_numpy_and_of_others_are_read() {
    for case in recorded("archives") {
        let read = read(&bytes_of(&case)).expect("reads");
        let expected = case["arrays"].as_object().expect("arrays").iter();
        let expected: BTreeMap<String, Array> = expected.map(|(name, case)| (name.clone(), array_of(case))).collect();
        assert_eq!(read, expected, "{}", case["name"]);
    }
}

#[test]
fn what_is_broken_or_a_bomb_is_refused_and_says_why() {
    for case in recorded("refused_archives") {
        let said = case["said"].as_str().expect("a text");
        let error = read(&bytes_of(&case)).expect_err(said).to_string();
        assert!(error.contains(said), "expected `{said}`, got `{error}`");
    }
}

#[test]
fn no_prefix_and_no_changed_byte_panics() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("some.npz");
    let read = |bytes: &[u8]| {
        std::fs::write(&path, bytes).expect("writes");
        read_npz(&path, &limits())
    };
    for case in recorded("archives") {
        let bytes = bytes_of(&case);
        for len in (0..bytes.len()).step_by(5).chain([bytes.len() - 1]) {
            assert!(read(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
        }
        let mut changed = bytes.clone();
        for i in 0..bytes.len() {
            changed[i] = [0, 0xff, bytes[i] ^ 1][i % 3];
            // Some are still good; none may end the process.
            let _ = read(&changed);
            changed[i] = bytes[i];
        }
    }
}
