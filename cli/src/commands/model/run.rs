//! `aimass model run`: what a model computes, by the trainer or by tract, so that anybody can compare them with another runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use aimass_edge_agent::exit::ExitKind;
use aimass_inference as infer;
use aimass_learning::data::{Limits, read_npy, write_npy};
use aimass_learning::{Array, Engine, Values};
use anyhow::{Context, Result};
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Value, json};

use crate::model_file;
use crate::output::{Failure, Output};

/// Characters of an output's name in the name of its file.
const MAX_STEM: usize = 200;

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Dropout is off and batch normalisation uses the stored statistics. Every output NAME becomes DIR/NAME.npy\n\
    (what is not a letter, a digit, `.`, `-` or `_` in a name becomes `_`; names that would be the same get a number).\n\n\
    Examples:\n  \
    aimass model run model.onnx --input x=rows.npy --output-dir out\n  \
    aimass model run model.onnx --input x=rows.npy --output-dir tract --engine tract"
)]
pub(crate) struct RunArgs {
    /// The ONNX file.
    file: PathBuf,
    /// An input with the `.npy` file that feeds it; once for each input.
    #[arg(long = "input", value_name = "NAME=FILE", value_parser = input)]
    inputs: Vec<(String, PathBuf)>,
    /// The folder for the outputs, made if it is not there.
    #[arg(long, value_name = "DIR")]
    output_dir: PathBuf,
    /// Who computes.
    #[arg(long, value_enum, default_value_t = Which::Trainer)]
    engine: Which,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    /// What trains the model, in inference mode.
    Trainer,
    /// What devices run the model with.
    Tract,
}

fn input(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.rsplit_once('=').ok_or("write it as NAME=FILE, for instance x=rows.npy")?;
    Ok((name.to_owned(), PathBuf::from(path)))
}

pub(crate) fn run(args: &RunArgs, out: &Output) -> Result<ExitKind> {
    let bad = |text: String| Failure::new(ExitKind::BadData, text);
    let model = model_file::read(&args.file).map_err(|e| bad(format!("{}: {e}", args.file.display())))?;
    let mut inputs = BTreeMap::new();
    for (name, path) in &args.inputs {
        let array = read_npy(path, &Limits::default()).map_err(|e| bad(e.to_string()))?;
        if inputs.insert(name.clone(), array).is_some() {
            return Err(Failure::new(ExitKind::Usage, format!("the input `{name}` is given twice")).into());
        }
    }
    let outputs = match args.engine {
        Which::Trainer => {
            let mut engine = Engine::new(&model).map_err(|e| bad(e.to_string()))?;
            let arrays = engine.run(inputs).map_err(|e| bad(e.to_string()))?;
            engine.outputs().into_iter().map(str::to_owned).zip(arrays).collect()
        }
        Which::Tract => infer::run(model.as_bytes(), inputs).map_err(|e| bad(e.to_string()))?,
    };
    let folder = &args.output_dir;
    std::fs::create_dir_all(folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    let mut written: Vec<Value> = Vec::new();
    let files = file_names(outputs.iter().map(|(name, _)| name.as_str()));
    for ((name, array), file) in outputs.iter().zip(&files) {
        let path = folder.join(file);
        write_npy(&path, array).map_err(|e| bad(e.to_string()))?;
        written.push(json!({ "name": name, "file": path, "element": element(array), "shape": array.shape() }));
    }
    out.result(&json!({ "outputs": written }), || as_text(folder, &outputs, &files));
    Ok(ExitKind::Ok)
}

/// A file for each output. Names that would be the same get a number.
fn file_names<'a>(outputs: impl Iterator<Item = &'a str>) -> Vec<String> {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
            c
        } else {
            '_'
        }
    };
    let mut taken = BTreeSet::new();
    let name = |output: &str| {
        let stem: String = output.chars().take(MAX_STEM).map(safe).collect();
        let numbered = (2..).map(|i| format!("{stem}-{i}.npy"));
        let free = std::iter::once(format!("{stem}.npy"))
            .chain(numbered)
            .find(|name| taken.insert(name.clone()));
        free.unwrap_or_default()
    };
    outputs.map(name).collect()
}

fn element(array: &Array) -> &'static str {
    match array.values() {
        Values::Floats(_) => "float32",
        Values::Ints(_) => "int64",
        Values::Bools(_) => "bool",
    }
}

fn as_text(folder: &Path, outputs: &[(String, Array)], files: &[String]) -> String {
    let line = |((name, array), file): (&(String, Array), &String)| {
        let range = array.as_floats().map_or_else(String::new, |values| {
            let (low, high) = values
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
            format!(", from {low} to {high}")
        });
        let path = folder.join(file);
        format!("{name}  {} {:?}{range}  {}", element(array), array.shape(), path.display())
    };
    outputs.iter().zip(files).map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_outputs_stay_inside_the_folder() {
        let names = |outputs: &[&str]| file_names(outputs.iter().copied());
        assert_eq!(names(&["logits", "../a/b:0"]), ["logits.npy", ".._a_b_0.npy"]);
        assert_eq!(names(&["a/b", "a_b", "a:b"]), ["a_b.npy", "a_b-2.npy", "a_b-3.npy"]);
        assert_eq!(names(&["x".repeat(5000).as_str()]), [format!("{}.npy", "x".repeat(MAX_STEM))]);
    }

    #[test]
    fn an_input_is_a_name_and_a_file() {
        assert_eq!(input("x=rows.npy"), Ok(("x".to_owned(), PathBuf::from("rows.npy"))));
        assert_eq!(input("a=b=c.npy"), Ok(("a=b".to_owned(), PathBuf::from("c.npy"))));
        assert!(input("rows.npy").is_err());
    }
}
