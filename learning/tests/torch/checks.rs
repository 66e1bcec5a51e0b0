//! Runs checks over all files, prints what they found, and holds the failing ones against the known gaps.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use aimass_learning::{Array, Values};

use crate::files::{ModelFile, names};
use crate::gaps::GAPS;

/// One check: its key (`inference/NAME`, `curve/NAME/CURVE`, `refused/NAME`), and a few figures or why it failed.
pub(crate) struct Check {
    pub(crate) key: String,
    pub(crate) found: Result<String, String>,
}

fn chosen(name: &str) -> bool {
    std::env::var("AIMASS_ONLY").is_ok_and(|part| name.contains(&part)) || std::env::var_os("AIMASS_ONLY").is_none()
}

/// Checks every model, a few at once. A panic is a failure of that model.
pub(crate) fn each_model(check: impl Fn(&ModelFile) -> Vec<Check> + Sync) -> Vec<Check> {
    let names: Vec<String> = names().into_iter().filter(|name| chosen(name)).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let file = ModelFile::read(name).expect("the recorded files are whole");
                    let checks = check(&file);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), checks);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_values().flatten().collect()
}

/// Runs one check; what panics has failed.
pub(crate) fn run(key: String, check: impl FnOnce() -> Result<String, String>) -> Check {
    let found = catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("PANIC: {}", text.unwrap_or("without words")))
    });
    Check { key, found }
}

/// Prints the table, and fails unless exactly the known gaps of this kind failed.
pub(crate) fn judge(kind: &str, checks: Vec<Check>) {
    let mut wrong = Vec::new();
    let mut passed = 0;
    for Check { key, found } in &checks {
        let gap = GAPS.iter().find(|(gap, _)| gap == key);
        let (mark, text) = match (found, gap) {
            (Ok(text), None) => {
                passed += 1;
                ("ok", text.clone())
            }
            (Err(why), Some((_, reason))) => ("gap", format!("{reason} ({why})")),
            (Ok(text), Some(_)) => {
                wrong.push(format!("{key} passes now; take it off the list of gaps"));
                ("ok!", text.clone())
            }
            (Err(why), None) => {
                wrong.push(format!("{key}: {why}"));
                ("FAIL", why.clone())
            }
        };
        println!("{mark:4} {key:44} {text}");
    }
    println!("{kind}: {passed} of {} pass", checks.len());
    let unknown = GAPS.iter().filter(|(gap, _)| {
        let mut parts = gap.split('/');
        parts.next() == Some(kind) && parts.next().is_some_and(chosen) && !checks.iter().any(|c| c.key == *gap)
    });
    wrong.extend(unknown.map(|(gap, _)| format!("{gap} is a gap of nothing; take it off the list")));
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// How far `a` is from `b`: max |a - b| / max |b| for floats; anything else must be equal.
pub(crate) fn distance(a: &Array, b: &Array) -> Result<f64, String> {
    if a.shape() != b.shape() {
        return Err(format!("the shape is {:?}, PyTorch's {:?}", a.shape(), b.shape()));
    }
    match (a.values(), b.values()) {
        (Values::Floats(a), Values::Floats(b)) => Ok(float_distance(a, b)),
        (a, b) if a == b => Ok(0.0),
        _ => Err("integers or booleans differ".to_owned()),
    }
}

/// max |a - b| / max |b|; infinite where one is no number.
pub(crate) fn float_distance(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return f64::INFINITY;
    }
    let largest = b.iter().fold(0.0, |m: f64, &v| m.max(f64::from(v).abs()));
    let mut apart = 0.0f64;
    for (&a, &b) in a.iter().zip(b) {
        let d = (f64::from(a) - f64::from(b)).abs();
        apart = if d.is_nan() { f64::INFINITY } else { apart.max(d) };
    }
    if apart == 0.0 {
        0.0
    } else {
        apart / largest.max(f64::from(f32::MIN_POSITIVE))
    }
}
