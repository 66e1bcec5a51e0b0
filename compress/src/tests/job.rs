//! A job's `[compress]`: what it asks for, on which rows, and what is refused before the first round.

use aimass_learning::data::Subset;
use aimass_protocol::job::JobFile;

use super::*;
use crate::{compress_job, rehearse};

fn job(section: &str) -> JobFile {
    let text = format!(
        "[job]\nname = \"j\"\nkind = \"train\"\npurpose = \"p\"\nseed = 3\n[model]\npath = \"m.onnx\"\n[data]\ncontract = \"c\"\ntarget = \"label\"\n\
         [train]\nloss = \"cross_entropy\"\nlr = 0.2\n[round]\nrounds = 1\nmin = 3\n[evaluate]\ndata = \"t.csv\"\n[compress]\n{section}\n"
    );
    JobFile::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn made(section: &str, rows: Option<Arc<dyn Source>>) -> Result<Compressed, CompressError> {
    compress_job(&mlp(&[FEATURES, 48, 3], 1), &job(section), None, |_| Ok(rows), &mut |_| {})
}

#[test]
fn should_do_what_the_section_asks_for_and_the_same_again() {
    let section = "channels = 0.25\nprune = 0.5\nquantize = \"static\"\nactivations = \"i8\"\nepochs = 2";
    let first = made(section, Some(rows(200))).expect("all of it");
    let names: Vec<&str> = first.steps.iter().map(|step| step.name).collect();
    assert_eq!(names, ["channels", "prune", "quantize", "store"]);
    assert_eq!(
        first.after.score.map(|score| score.examples),
        Some(100),
        "the half that was not looked at"
    );
    let again = made(section, Some(rows(200))).expect("all of it");
    assert_eq!(again.model.as_bytes(), first.model.as_bytes());
    let untouched = made("prune = 0.5\nepochs = 0", Some(rows(200))).expect("all of it");
    assert_ne!(untouched.model.as_bytes(), first.model.as_bytes());
}

#[test]
fn should_refuse_too_few_rows_and_too_large_a_loss() {
    let one = Subset::new(rows(4), vec![0]).expect("a row");
    let few = made("quantize = \"static\"", Some(Arc::new(one)));
    assert!(matches!(few, Err(CompressError::FewRows { found: 1 })), "{few:?}");
    let trained = trained();
    let spoilt = compress_job(
        &trained,
        &job("prune = 0.99\nepochs = 0\nmax_drop = 1.0"),
        None,
        |_| Ok(Some(rows(200))),
        &mut |_| {},
    );
    assert!(matches!(spoilt, Err(CompressError::Drop { lost, .. }) if lost > 1.0), "{spoilt:?}");
}

#[test]
fn should_find_out_before_the_first_round() {
    let model = mlp(&[FEATURES, 48, 3], 1);
    let tried = |section: &str| rehearse(&model, &job(section), None, Some(rows(200)));
    tried("quantize = \"aware\"\nprune = 0.5\nepochs = 3").expect("it can be done");
    assert!(matches!(tried("channels = 0.5\nkeep = [\"*\"]"), Err(CompressError::Channels(_))));
    assert!(matches!(
        tried("quantize = \"static\"\nkeep = [\"*\"]"),
        Err(CompressError::Quantize(_))
    ));
    let mut without = job("quantize = \"static\"");
    without.compress = None;
    rehearse(&model, &without, None, None).expect("nothing is asked for");
}
