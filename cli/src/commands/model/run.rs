//! `aimass model run`: what a model computes, by the trainer or by tract, so that anybody can compare them with another runtime.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aimass_edge_agent::exit::ExitKind;
use aimass_edge_agent::infer;
use aimass_learning::data::{Limits, read_npy, write_npy};
use aimass_learning::{Array, Engine, Values};
use aimass_onnx::Model;
use anyhow::{Context, Result};
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Value, json};

use crate::output::{Failure, Output};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Dropout is off and batch normalisation uses the stored statistics. Every output NAME becomes DIR/NAME.npy\n\
    (what is not a letter, a digit, `.`, `-` or `_` in a name becomes `_`).\n\n\
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
    let content = std::fs::read(&args.file).with_context(|| format!("can't read {}", args.file.display()))?;
    let mut inputs = BTreeMap::new();
    for (name, path) in &args.inputs {
        let array = read_npy(path, &Limits::default()).map_err(|e| bad(e.to_string()))?;
        if inputs.insert(name.clone(), array).is_some() {
            return Err(Failure::new(ExitKind::Usage, format!("the input `{name}` is given twice")).into());
        }
    }
    let model = Model::from_shared(content.into()).and_then(|model| model.prepared());
    let model = model.map_err(|e| bad(e.to_string()))?;
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
    for (name, array) in &outputs {
        let path = folder.join(file_name(name));
        write_npy(&path, array).map_err(|e| bad(e.to_string()))?;
        written.push(json!({ "name": name, "file": path, "element": element(array), "shape": array.shape() }));
    }
    out.result(&json!({ "outputs": written }), || as_text(folder, &outputs));
    Ok(ExitKind::Ok)
}

fn file_name(output: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
            c
        } else {
            '_'
        }
    };
    format!("{}.npy", output.chars().map(safe).collect::<String>())
}

fn element(array: &Array) -> &'static str {
    match array.values() {
        Values::Floats(_) => "float32",
        Values::Ints(_) => "int64",
        Values::Bools(_) => "bool",
    }
}

fn as_text(folder: &Path, outputs: &[(String, Array)]) -> String {
    let line = |(name, array): &(String, Array)| {
        let range = array.as_floats().map_or_else(String::new, |values| {
            let (low, high) = values
                .iter()
                .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &v| (low.min(v), high.max(v)));
            format!(", from {low} to {high}")
        });
        let path = folder.join(file_name(name));
        format!("{name}  {} {:?}{range}  {}", element(array), array.shape(), path.display())
    };
    outputs.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_outputs_stay_inside_the_folder() {
        assert_eq!(file_name("logits"), "logits.npy");
        assert_eq!(file_name("../a/b:0"), ".._a_b_0.npy");
    }

    #[test]
    fn an_input_is_a_name_and_a_file() {
        assert_eq!(input("x=rows.npy"), Ok(("x".to_owned(), PathBuf::from("rows.npy"))));
        assert_eq!(input("a=b=c.npy"), Ok(("a=b".to_owned(), PathBuf::from("c.npy"))));
        assert!(input("rows.npy").is_err());
    }
}
