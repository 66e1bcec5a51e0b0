use clap::Parser;

use super::*;
use crate::args::{Args, Command};

/// What `aimass secagg params ARGS...` finds, or what it says is wrong.
fn cohort(args: &[&str]) -> Result<Cohort, String> {
    let line = ["aimass", "secagg", "params"].iter().chain(args);
    match Args::try_parse_from(line).map_err(|error| error.to_string())?.command {
        Command::Secagg(SecaggArgs {
            command:
                SecaggCommand::Params {
                    clients,
                    adversarial,
                    dropout,
                    model,
                },
        }) => Cohort::new(clients, adversarial, dropout, model).map_err(|error| error.to_string()),
        other => panic!("another command: {other:?}"),
    }
}

fn arguments(row: &Value) -> Vec<String> {
    let names = [("--clients", "n"), ("--adversarial", "adversarial"), ("--dropout", "dropout")];
    let mut args: Vec<String> = names
        .iter()
        .flat_map(|(flag, key)| [(*flag).to_owned(), row[key].to_string()])
        .collect();
    args.extend(["--model".to_owned(), row["model"].as_str().expect("a text").to_owned()]);
    args
}

#[test]
fn golden_vectors() {
    let vectors: Value = serde_json::from_str(include_str!("../../../../crypto/testdata/secagg/graph_params.json")).expect("JSON");
    let mut seen = 0;
    for row in ["sigma40_eta20", "google_fcp_tests"]
        .iter()
        .flat_map(|set| vectors[set].as_array().expect("a list"))
    {
        let args = arguments(row);
        let found = cohort(&args.iter().map(String::as_str).collect::<Vec<_>>())
            .expect("parameters")
            .json();
        assert_eq!(
            (&found["degree"], &found["threshold"]),
            (&row["degree"], &row["threshold"]),
            "{row}"
        );
        assert_eq!(found["model"], row["model"]);
        seen += 1;
    }
    assert_eq!(seen, 38);
}

#[test]
fn a_person_reads_what_the_numbers_mean() {
    let text = cohort(&["--clients", "256"]).expect("parameters").text();
    let expected = "\
NAME       VALUE   MEANING
clients    256     agents of the cohort
graph      harary  each of its neighbours holds a share of an agent's secrets
degree     134     neighbours that an agent shares a mask with
threshold  74      shares that undo a mask; fewer say nothing
cheats     12      agents that may cheat together with an aggregator that lies about who dropped out
drop-outs  76      agents that may drop out, and the sum still comes out

With no more than these, privacy fails with a chance of at most 2^-40, and a round with one of at most 2^-20.";
    assert_eq!(text, expected);
}

#[test]
fn a_small_cohort_says_how_few_drop_outs_it_endures() {
    let small = cohort(&["--clients", "10", "--dropout", "0.4"]).expect("parameters");
    assert_eq!(small.json()["graph"], "complete");
    assert_eq!(small.json()["dropouts_endured"], 3);
    // With three cheats, 3 + 3 or 4 shares of either secret of an agent can be had: fewer than 7 of one of them.
    assert_eq!(small.json()["cheats_endured"], 3);
    assert!(small.text().contains("You expect up to 4 drop-outs"), "{}", small.text());
    let enough = cohort(&["--clients", "10", "--dropout", "0.3"]).expect("parameters");
    assert!(!enough.text().contains("You expect"), "{}", enough.text());
}

#[test]
fn bad_values_are_refused_with_the_fix() {
    for (args, expected) in [
        (vec!["--clients", "2"], "choose from 3 to 1000000 agents"),
        (vec!["--clients", "1000001"], "choose from 3 to 1000000 agents"),
        (
            vec!["--clients", "100", "--adversarial", "5"],
            "the adversarial share must be at least 0 and less than 1, and 5 is not: write 0.05",
        ),
        (
            vec!["--clients", "100", "--dropout", "nan"],
            "the dropout share must be at least 0 and less than 1, and NaN is not",
        ),
        (
            vec!["--clients", "100", "--dropout", "0.5"],
            "expect fewer cheats or fewer drop-outs",
        ),
        (
            vec!["--clients", "10", "--adversarial", "0.4", "--dropout", "0.1"],
            "use a larger cohort, or expect fewer cheats",
        ),
        (vec!["--clients", "100", "--model", "malicious"], "semi-malicious"),
        (vec!["--clients", "-3"], "--clients"),
        (vec![], "--clients <N>"),
    ] {
        let error = cohort(&args).err().expect("refused");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}
