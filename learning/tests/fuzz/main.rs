//! What the fuzz targets of `fuzz/` run, without a fuzzer: over all committed seeds, and over changes of them.
//!
//! `AIMASS_FUZZ_CASES` (how many changed models) and `AIMASS_FUZZ_SEED` make it longer or other; `AIMASS_FUZZ_SAVE` names a folder in
//! which the models that break something are kept.

use std::panic::catch_unwind;
use std::path::Path;
use std::time::{Duration, Instant};

use aimass_onnx::fuzz::mutate;
use serde_json::Value;

/// Longest that one model may take, on a busy machine.
const LONGEST: Duration = Duration::from_secs(20);
/// Most memory that the process may have held.
const MOST_BYTES: u64 = 1 << 30;

type Seeds = Vec<(String, Vec<u8>)>;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The committed ones.
fn committed() -> Seeds {
    let files = std::fs::read_dir(folder("../fuzz/seeds/onnx")).expect("the seeds are there");
    let mut seeds: Seeds = files
        .map(|file| {
            let path = file.expect("a file").path();
            (path.display().to_string(), std::fs::read(&path).expect("a readable file"))
        })
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 20, "{} seeds", seeds.len());
    seeds
}

/// Every op by itself: the models of this crate's tests of its ops.
fn of_ops() -> Seeds {
    let files = ["ops", "ops_nn", "ops_shapes"];
    let read = |name: &str| {
        let text = std::fs::read(folder(&format!("testdata/{name}.json"))).expect("the cases are there");
        let cases: Vec<Value> = serde_json::from_slice(&text).expect("they are JSON");
        cases
    };
    let cases = files.into_iter().flat_map(read);
    let model = |case: Value| Some((case["name"].as_str()?.to_owned(), hex::decode(case["model"].as_str()?).ok()?));
    cases.filter_map(model).collect()
}

fn both(bytes: &[u8]) {
    aimass_onnx::fuzz::model(bytes);
    aimass_learning::fuzz::program(bytes);
}

/// Why a model breaks something.
fn broken(bytes: &[u8]) -> Option<String> {
    let begin = Instant::now();
    let panic = catch_unwind(|| both(bytes)).err();
    let said = panic.map(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("a panic")
            .to_owned()
    });
    said.or_else(|| (begin.elapsed() > LONGEST).then(|| format!("it takes {:?}", begin.elapsed())))
}

fn save(name: &str, bytes: &[u8]) {
    if let Some(folder) = std::env::var_os("AIMASS_FUZZ_SAVE") {
        std::fs::write(Path::new(&folder).join(name), bytes).expect("the folder can be written to");
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Most memory that this process has held, where the system says so.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[test]
fn nothing_breaks_the_reader_and_the_planner() {
    let committed = committed();
    let mut wrong: Vec<String> = committed
        .iter()
        .filter_map(|(name, bytes)| Some(format!("{name}: {}", broken(bytes)?)))
        .collect();
    let seeds: Seeds = committed.into_iter().chain(of_ops()).collect();
    let (cases, first) = (number("AIMASS_FUZZ_CASES", 4000), number("AIMASS_FUZZ_SEED", 1));
    println!("{cases} changed models of {} from AIMASS_FUZZ_SEED={first} on", seeds.len());
    for seed in first..first + cases {
        let at = |n: u64| &seeds[(n % seeds.len() as u64) as usize];
        let (name, bytes) = at(seed);
        let (_, other) = at(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20);
        let changed = mutate(bytes, other, seed);
        // Kept before it runs: a process that dies can't say which it was.
        save("running.onnx", &changed);
        if let Some(why) = broken(&changed) {
            save(&format!("{seed}.onnx"), &changed);
            wrong.push(format!("AIMASS_FUZZ_SEED={seed}, from {name}: {why}"));
        }
    }
    let peak = peak_bytes();
    println!("peak memory: {:?} MiB", peak.map(|bytes| bytes >> 20));
    assert!(wrong.is_empty(), "{} models break something:\n{}", wrong.len(), wrong.join("\n"));
    assert!(peak.is_none_or(|bytes| bytes <= MOST_BYTES), "{peak:?} bytes were held");
}
