//! Files that must be refused, by the names that `refused/refused.json` gives.

use std::collections::BTreeMap;

use aimass_learning::{Engine, inspect};
use aimass_onnx::{Model, TrainableRules};
use serde::Deserialize;

use crate::checks::{Check, run};
use crate::files::folder;

#[derive(Debug, Deserialize)]
struct Refused {
    names: Vec<String>,
    why: String,
}

pub(crate) fn check_all() -> Vec<Check> {
    let text = std::fs::read(folder().join("refused/refused.json")).expect("the list is there");
    let files: BTreeMap<String, Refused> = serde_json::from_slice(&text).expect("the list is whole");
    files
        .iter()
        .map(|(name, refused)| run(format!("refused/{name}"), || check(name, refused)))
        .collect()
}

fn check(name: &str, refused: &Refused) -> Result<String, String> {
    let bytes = std::fs::read(folder().join(format!("refused/{name}.onnx"))).map_err(|e| e.to_string())?;
    // As words of their own.
    let has = |text: &str, name: &str| {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.'))
            .any(|word| word == name)
    };
    let named = |text: &str| match refused.names.iter().find(|name| !has(text, name)) {
        None => Ok(text.to_owned()),
        Some(name) => Err(format!("refused without `{name}`: {text}")),
    };
    let model = match Model::from_bytes(&bytes) {
        Ok(model) => model,
        Err(error) => return named(&error.to_string()),
    };
    let by_engine = Engine::new(&model)
        .err()
        .ok_or_else(|| format!("it runs, in spite of {}", refused.why))?;
    named(&by_engine.to_string())?;
    let question = inspect::Question {
        batch: 2,
        dims: BTreeMap::new(),
        moments: 0,
        gathered: false,
    };
    let layout = model.layout(&TrainableRules::default()).map_err(|e| e.to_string());
    let found = inspect::inspect(&model, layout.as_ref().map_err(Clone::clone), &question);
    let said: Vec<String> = found.obstacles.iter().map(|obstacle| format!("{obstacle:?}")).collect();
    named(&said.join("; ")).map_err(|e| format!("inspect: {e}"))
}
