//! `docs/secure-aggregation.md` and the code say the same.

use aimass_crypto::secagg::params::{Model, for_cohort};
use aimass_protocol::limits::MAX_NEIGHBOURS;

use crate::masks::{ADVERSARIAL, DROPOUT};

fn read(path: &str) -> String {
    let path = format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn document() -> String {
    read("docs/secure-aggregation.md")
}

/// The cells of a table's rows, from the row that begins so.
fn rows<'a>(document: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let rows = document.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// The first two numbers of a cell.
fn pair(cell: &str) -> (u32, u32) {
    let mut numbers = cell.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    let mut next = || numbers.next().and_then(|text| text.parse().ok()).expect("two numbers");
    (next(), next())
}

#[test]
fn should_have_the_degrees_and_thresholds_of_the_document() {
    let document = document();
    let rows = rows(&document, "| n | standard: degree, threshold |");
    assert!(rows.len() >= 9, "{} rows", rows.len());
    for row in rows {
        let n: u32 = row[0].parse().expect("a number of agents");
        for (cell, model) in [(row[1], Model::SemiHonest), (row[2], Model::SemiMalicious)] {
            let params = for_cohort(n, ADVERSARIAL, DROPOUT, model).expect("these assumptions are endured");
            assert_eq!(pair(cell), (params.degree, params.threshold), "{n} agents, {model:?}");
            assert_eq!(cell.contains("(complete)"), params.degree == n - 1, "{n} agents, {model:?}");
        }
    }
}

/// Above it the opening of a cohort might not fit a message.
#[test]
fn should_have_neighbours_that_fit_a_message_up_to_916_hardened_members() {
    let degree = |n| {
        let params = for_cohort(n, ADVERSARIAL, DROPOUT, Model::SemiMalicious).expect("a graph");
        params.degree as usize
    };
    assert!((3..=916).all(|n| degree(n) <= MAX_NEIGHBOURS));
    assert!(degree(917) > MAX_NEIGHBOURS);
    assert!(document().contains("`hardened` ones at most 916"));
}

#[test]
fn should_find_every_test_that_the_document_names() {
    let document = document();
    let sources: String = [
        "crypto/tests/secagg/cheats.rs",
        "federation/src/agent/tests/cheats.rs",
        "federation/src/agent/tests/secure.rs",
        "federation/src/coordinator/tests/secure.rs",
        "federation/src/coordinator/tests/secure/restart.rs",
        "federation/src/coordinator/tests/secure/spent.rs",
    ]
    .map(read)
    .concat();
    let mut named = 0;
    let rows = rows(&document, "| the server | the honest agent sees |")
        .into_iter()
        .map(|row| row[3]);
    let rest = document.lines().filter(|line| line.contains("`should_"));
    for text in rows.chain(rest) {
        for name in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| name.contains('_') && !name.contains('.'))
        {
            named += 1;
            assert!(sources.contains(&format!("fn {name}(")), "no test {name}");
        }
    }
    assert!(named >= 25, "{named} tests");
}
