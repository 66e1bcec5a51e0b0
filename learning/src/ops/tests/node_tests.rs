//! ONNX's own backend node tests, which `testdata/make_node_tests.py` writes to a file: how many of those of each op pass.

use std::collections::BTreeMap;

use aimass_onnx::proto::NodeProto;

use super::cases::{self, Case};
use super::forward;

/// What became of the tests of one op.
#[derive(Default)]
struct Tally {
    /// With every input fed.
    fed: usize,
    /// With initializers in place of some or all inputs.
    known: usize,
    /// Tests, by why they were refused.
    refused: BTreeMap<String, Vec<String>>,
}

/// Whether every input was fed. Integers of these tests are inputs even where real models have constants; so they are tried as inputs,
/// then as initializers, then with everything as initializers.
fn outcome(case: &Case) -> Result<bool, String> {
    let fed = forward(case);
    if fed.is_ok() || is_wrong(&fed) {
        return fed.map(|()| true);
    }
    let known = forward(&case.known());
    if known.is_ok() || is_wrong(&known) {
        return known.map(|()| false);
    }
    forward(&case.constant()).or(known).map(|()| false)
}

/// Whether something was computed that is not what ONNX says; everything else is a refusal.
fn is_wrong<T>(outcome: &Result<T, String>) -> bool {
    outcome.as_ref().is_err_and(|e| e.contains("ONNX ") || e.contains("was planned"))
}

/// Outside a training step the statistics of the batch are not asked for.
fn normalises_by_batch(case: &Case) -> bool {
    let node = |n: &NodeProto| n.attribute.iter().any(|a| a.name == "training_mode" && a.i == Some(1));
    case.model.graph().node.iter().any(node)
}

#[test]
#[ignore = "AIMASS_OP_CASES must name the file that testdata/make_node_tests.py writes"]
fn onnx_node_tests() {
    let file = std::env::var("AIMASS_OP_CASES").expect("AIMASS_OP_CASES names a file");
    let file = std::fs::read_to_string(file).expect("a readable file");
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in cases::readable(&file) {
        // Tests with several nodes are an op written out in others: they count for the last.
        let op = case.model.graph().node.last().map(|n| n.op_type.clone()).unwrap_or_default();
        let tally = tallies.entry(op).or_default();
        match outcome(&case) {
            Ok(true) => tally.fed += 1,
            Ok(false) => tally.known += 1,
            outcome if is_wrong(&outcome) && normalises_by_batch(&case) => {
                let why = "it asks for the statistics of the batch outside training".to_owned();
                tally.refused.entry(why).or_default().push(case.name);
            }
            Err(e) if is_wrong(&Err::<(), _>(e.clone())) => wrong.push(format!("{}: {e}", case.name)),
            Err(e) => tally.refused.entry(e).or_default().push(case.name),
        }
    }
    let mut all = [0; 3];
    for (op, tally) in &tallies {
        let refused: usize = tally.refused.values().map(Vec::len).sum();
        println!(
            "{op}: {} pass, {} pass with known inputs, {refused} are refused",
            tally.fed, tally.known
        );
        for (why, tests) in &tally.refused {
            let why: String = why.chars().take(160).collect();
            println!("    {}: {why}", tests.join(" "));
        }
        all = [all[0] + tally.fed, all[1] + tally.known, all[2] + refused];
    }
    let [fed, known, refused] = all;
    println!(
        "{fed} pass, {known} pass with known inputs, {refused} are refused, {} are wrong",
        wrong.len()
    );
    super::all_good(&wrong);
}
