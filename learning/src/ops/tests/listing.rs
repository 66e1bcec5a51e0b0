//! `docs/ops.md`: made of the tables of this crate, of what ONNX's own tests found (`testdata/backend/run.py` writes `results.json`), and of
//! the reasons in `testdata/backend/reasons.json`. With `AIMASS_RECORD_OPS=1` it is written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;

use super::{Case, TABLE, all_good, cases, host};
use crate::program::folding;

#[derive(Deserialize)]
struct Results {
    onnx: String,
    tests: usize,
    of_ops_that_run: usize,
    totals: BTreeMap<String, usize>,
    ops: BTreeMap<String, About>,
}

/// What the `onnx` package says of an op, and what became of its tests.
#[derive(Deserialize)]
struct About {
    since: usize,
    deprecated: bool,
    tests: BTreeMap<String, usize>,
    why: Vec<String>,
}

#[derive(Deserialize)]
struct Reasons {
    left_out: BTreeMap<String, String>,
    no_gradient: BTreeMap<String, String>,
}

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/backend").join(name);
    serde_json::from_slice(&std::fs::read(path).expect("the file is there")).expect("it is whole")
}

/// Ops in cases whose gradients are held against finite differences.
fn differentiated() -> BTreeSet<String> {
    let cases = cases().into_iter().filter(Case::is_differentiable);
    let ops = cases.map(|case| case.model.graph().node.iter().map(|node| node.op_type.clone()).collect::<Vec<_>>());
    ops.flatten().collect()
}

fn on_device(op: &str) -> bool {
    TABLE.iter().any(|(name, _)| *name == op)
}

fn on_host(op: &str) -> bool {
    host::names().any(|name| name == op)
}

fn runs(op: &str) -> bool {
    op == "Constant" || on_device(op) || on_host(op)
}

#[test]
fn the_list_of_ops_has_a_reason_for_everything() {
    let (results, reasons): (Results, Reasons) = (read("results.json"), read("reasons.json"));
    let differentiated = differentiated();
    let mut wrong = Vec::new();
    for op in results.ops.keys() {
        if runs(op) == reasons.left_out.contains_key(op) {
            let is = if runs(op) {
                "runs, and has a reason why it does not"
            } else {
                "is left out without a reason"
            };
            wrong.push(format!("{op} {is}"));
        }
        let none = reasons.no_gradient.contains_key(op);
        if on_device(op) && !none && !differentiated.contains(op) {
            wrong.push(format!("{op} has a gradient that no case holds against finite differences"));
        }
        if none && !on_device(op) {
            wrong.push(format!(
                "{op} does not run on the device, and has a reason why it has no gradient there"
            ));
        }
    }
    let mut listed: Vec<&str> = TABLE.iter().map(|(name, _)| *name).chain(host::names()).collect();
    listed.extend(reasons.left_out.keys().chain(reasons.no_gradient.keys()).map(String::as_str));
    listed.retain(|op| !results.ops.contains_key(*op));
    wrong.extend(listed.iter().map(|op| format!("{op} is no op of ONNX")));
    all_good(&wrong);
}

fn forward_of(op: &str) -> &'static str {
    match (on_device(op), on_host(op)) {
        (true, true) => "device, host",
        (true, false) => "device",
        (false, true) => "host",
        (false, false) => "folded",
    }
}

fn page(results: &Results, reasons: &Reasons) -> String {
    let runs_here: Vec<_> = results.ops.iter().filter(|(op, _)| runs(op)).collect();
    let of = |key: &str| results.totals.get(key).copied().unwrap_or_default();
    let passed = of("passed") + of("passed with initializers");
    let mut text = format!(
        "# ONNX ops

<!-- Written by: AIMASS_RECORD_OPS=1 cargo test --release -p aimass-learning --lib the_list_of_ops -->

{} of the {} ops of ONNX's standard domain (onnx {}) run here, those of the opsets 7 to 21 as those opsets define them. The table is made of
the code's own; a test fails where it is not up to date.

- **Forward**: on the *device* over floats; on the *host* over integers and booleans that follow from shapes, constants and integer inputs,
  while a model is planned or for each batch; *folded*: known when the file is read. Device ops whose inputs are all constants are folded too.
- **Quantized**: integers of 4, 8 and 16 bits lie on the device as floats, which hold them exactly; ops that move values take them. Scales and zero
  points are constants of the file, and scales are finite and above 0. What is summed in 32 bits is exact, and refused where it might not be.
  Besides the ops of the table these of the domain `com.microsoft` run: {}. Packed weights are floats from when the
  file is read.
- **Gradient**: *yes* where a test holds it against finite differences; otherwise why there is none. What the host computes has none.
- **Node tests**: how many of ONNX's own backend tests pass and how many are refused, of those in float32 (float64 is run as float32), int64,
  int32 and bool, for quantized ops also in 8 and 16 bits. *Stored*: passed with inputs after the first as initializers, as exporters store
  shapes, axes, ratios and scales; training is planned ahead of the data and needs to know them. `_expanded` tests, ops written out by others, count for the op that they expand.

ONNX's tests, {} in all, {} of them of ops that run here: **{passed} pass** ({} as they are, {} stored), {} are refused, **{} fail**; {} are
out of scope (random, or statistics of a batch outside of training), {} of other types. By

    cargo build --release -p aimass-learning --example node_tests
    python learning/testdata/backend/run.py target/release/examples/node_tests

## Ops that run

| op | since opset | forward | gradient | pass | stored | refused | why |
|---|---|---|---|---|---|---|---|
",
        runs_here.len(),
        results.ops.len(),
        results.onnx,
        folding::OF_MICROSOFT.join(", "),
        results.tests,
        results.of_ops_that_run,
        of("passed"),
        of("passed with initializers"),
        of("refused"),
        of("failed"),
        of("out of scope"),
        of("other types"),
    );
    for (op, about) in &runs_here {
        let count = |key: &str| about.tests.get(key).map(ToString::to_string).unwrap_or_default();
        let gradient = match reasons.no_gradient.get(*op) {
            Some(reason) => reason.as_str(),
            None if on_device(op) => "yes",
            None => "none",
        };
        let cells = [
            (*op).clone(),
            about.since.to_string(),
            forward_of(op).to_owned(),
            gradient.to_owned(),
            count("passed"),
            count("passed with initializers"),
            count("refused"),
            about.why.join("; ").replace('|', "\\|"),
        ];
        writeln!(text, "| {} |", cells.join(" | ")).expect("a text takes any text");
    }
    text += "\n## Ops that are left out\n\nA model with one of them is refused, by the node's name and the op.\n\n";
    text += "| op | since opset | why |\n|---|---|---|\n";
    for (op, about) in results.ops.iter().filter(|(op, _)| !runs(op)) {
        let since = if about.deprecated {
            format!("{}, no longer in ONNX", about.since)
        } else {
            about.since.to_string()
        };
        let reason = reasons.left_out.get(op).map(String::as_str).unwrap_or_default();
        writeln!(text, "| {op} | {since} | {reason} |").expect("a text takes any text");
    }
    text
}

#[test]
fn the_list_of_ops_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/ops.md");
    let page = page(&read("results.json"), &read("reasons.json"));
    if std::env::var_os("AIMASS_RECORD_OPS").is_some_and(|v| v == "1") {
        std::fs::write(&path, &page).expect("docs can be written to");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == page, "docs/ops.md is not up to date; write it with AIMASS_RECORD_OPS=1");
}
