use serde_json::Value;

use super::*;

/// Files as numpy writes them.
pub(crate) fn recorded(part: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(include_str!("../../../testdata/numpy.json")).expect("the file is JSON");
    all[part].as_array().expect("a list").clone()
}

pub(crate) fn bytes_of(case: &Value) -> Vec<u8> {
    hex::decode(case["hex"].as_str().expect("hex")).expect("hex")
}

/// A recorded array. JSON has no infinity: those of "special" are null and compared apart.
pub(crate) fn array_of(case: &Value) -> Array {
    let values = case["values"].as_array().expect("values");
    let values = match case["kind"].as_str().expect("a kind") {
        "f" => Values::Floats(values.iter().map(|v| v.as_f64().map_or(f32::INFINITY, |v| v as f32)).collect()),
        "b" => Values::Bools(values.iter().map(|v| v.as_bool().expect("a bool")).collect()),
        _ => Values::Ints(values.iter().map(|v| v.as_i64().expect("an integer")).collect()),
    };
    let shape = case["shape"].as_array().expect("a shape").iter();
    Array::new(shape.map(|d| d.as_u64().expect("a length") as usize).collect(), values).expect("the values fill the shape")
}

pub(crate) fn limits() -> Limits {
    Limits {
        max_bytes: 1 << 20,
        ..Limits::default()
    }
}

#[test]
fn what_numpy_writes_is_read_and_written_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("array.npy");
    for case in recorded("arrays") {
        let name = case["name"].as_str().expect("a name");
        let read = parse(name, &bytes_of(&case)[..], &limits()).expect(name);
        if name == "special" {
            let bits: Vec<u32> = read.as_floats().expect("floats").iter().map(|v| v.to_bits()).collect();
            assert_eq!(bits, [0x7f80_0000, 0xff80_0000, 0x8000_0000, 1]);
        } else {
            assert_eq!(read, array_of(&case), "{name}");
        }
        write_npy(&path, &read).expect("writes");
        assert_eq!(read_npy(&path, &limits()).expect("reads back"), read, "{name}");
        let same_type = ["<f4", "<i8", "|b1", "scalar", "one", "empty", "limits"].contains(&name);
        if same_type {
            assert_eq!(std::fs::read(&path).expect("there"), bytes_of(&case), "{name}: numpy's own bytes");
        }
    }
}

#[test]
fn what_is_broken_is_refused_and_says_why() {
    for case in recorded("refused") {
        let said = case["said"].as_str().expect("a text");
        let error = parse("x.npy", &bytes_of(&case)[..], &limits()).expect_err(said).to_string();
        assert!(error.contains(said), "expected `{said}`, got `{error}`");
    }
    let path = std::path::Path::new("no/such/file.npy");
    assert!(matches!(read_npy(path, &limits()), Err(DataError::Io { .. })));
}

#[test]
fn no_prefix_and_no_changed_byte_panics() {
    for case in recorded("arrays") {
        let bytes = bytes_of(&case);
        for len in 0..bytes.len() {
            assert!(
                parse("x.npy", &bytes[..len], &limits()).is_err(),
                "{} of {} bytes",
                len,
                bytes.len()
            );
        }
        let mut changed = bytes.clone();
        for i in 0..bytes.len() {
            for value in [0, b'(', b'9', 0xff, bytes[i] ^ 1] {
                changed[i] = value;
                // Some are still good; none may end the process.
                let _ = parse("x.npy", &changed[..], &limits());
            }
            changed[i] = bytes[i];
        }
    }
}
