//! `aimass model new`: a model to start from, without Python.

mod kind;

use std::io::Write;
use std::path::{Path, PathBuf};

use aimass_crypto::hash::sha256;
use aimass_edge_agent::exit::ExitKind;
use aimass_onnx::build::{Init, InitialWeights};
use aimass_onnx::{Dim, ElementType, Model, TrainableRules, ValueInfo};
use anyhow::{Context, Result};
use clap::Args as ClapArgs;
use serde_json::{Value, json};

use self::kind::{Kind, named};
use crate::output::{Failure, Output, bytes};

#[derive(Debug, ClapArgs)]
#[command(
    subcommand_value_name = "KIND",
    subcommand_help_heading = "Kinds",
    after_help = "Every kind has defaults for all of its sizes; `aimass model new KIND --help` lists them.\n\n\
    Examples:\n  \
    aimass model new mlp --sizes 64,32,10 -o model.onnx\n  \
    aimass model new cnn --input 3x32x32 --classes 10 --batch-norm -o cifar.onnx\n  \
    aimass model new resnet18 --width 32 --seed 7 -o small.onnx\n  \
    aimass model new lstm-lm --vocabulary 90 --hidden 256 --layers 2 -o text.onnx\n  \
    aimass model new transformer --vocabulary 8000 --classes 4 --init glorot-uniform -o topics.onnx"
)]
pub(crate) struct NewArgs {
    #[command(subcommand)]
    kind: Kind,
    /// The file to write.
    #[arg(long, short, global = true, value_name = "FILE", default_value = "model.onnx")]
    output: PathBuf,
    /// Seed of the first weights: the same one gives the same file, on every machine.
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// First values of weight matrices and kernels; `default` is what suits each layer.
    #[arg(long, global = true, default_value = Init::Default.name(), value_parser = named(&Init::ALL, Init::name))]
    init: Init,
    /// Overwrite the file when it is there already.
    #[arg(long, global = true)]
    force: bool,
}

pub(crate) fn run(args: &NewArgs, out: &Output) -> Result<ExitKind> {
    if !args.force && args.output.exists() {
        return Err(exists(&args.output).into());
    }
    let weights = InitialWeights {
        init: args.init,
        seed: args.seed,
    };
    let model = args
        .kind
        .build(weights)
        .map_err(|error| Failure::new(ExitKind::Usage, error.to_string()))?;
    write(args, model.as_bytes())?;
    let report = Report::new(args, &model)?;
    out.result(&report.json(), || report.text());
    Ok(ExitKind::Ok)
}

fn exists(path: &Path) -> Failure {
    let text = format!(
        "{} is there already; name another file, or overwrite it with --force",
        path.display()
    );
    Failure::new(ExitKind::Usage, text)
}

/// All of the file or none of it.
fn write(args: &NewArgs, bytes: &[u8]) -> Result<()> {
    let path = &args.output;
    let failed = || format!("can't write {}", path.display());
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut options = tempfile::Builder::new();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Like any new file, not like a secret; the umask takes its part away.
        options.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut new = options.tempfile_in(folder).with_context(failed)?;
    new.write_all(bytes).and_then(|()| new.as_file().sync_all()).with_context(failed)?;
    if args.force {
        new.persist(path).with_context(failed)?;
        return Ok(());
    }
    match new.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(path).into()),
        Err(error) => Err(error).with_context(failed),
    }
}

/// What was made.
struct Report<'a> {
    args: &'a NewArgs,
    model: &'a Model,
    /// The graph's name as the command line spells it.
    kind: String,
    parameters: usize,
    statistics: usize,
    digest: String,
}

impl<'a> Report<'a> {
    fn new(args: &'a NewArgs, model: &'a Model) -> Result<Self> {
        let layout = model.layout(&TrainableRules::default())?;
        Ok(Self {
            args,
            model,
            kind: model.graph().name.replace('_', "-"),
            parameters: layout.n_weights(),
            statistics: layout.n_buffers(),
            digest: hex::encode(sha256(model.as_bytes())),
        })
    }

    fn json(&self) -> Value {
        let values = |values: &[ValueInfo]| -> Vec<Value> { values.iter().map(value_json).collect() };
        json!({
            "file": self.args.output,
            "kind": self.kind,
            "parameters": self.parameters,
            "running_statistics": self.statistics,
            "inputs": values(self.model.inputs()),
            "outputs": values(self.model.outputs()),
            "bytes": self.model.as_bytes().len(),
            "sha256": self.digest,
            "seed": self.args.seed,
            "init": self.args.init.name(),
        })
    }

    fn text(&self) -> String {
        let mut lines = vec![format!("{} ({})", self.args.output.display(), self.kind)];
        let statistics = match self.statistics {
            0 => String::new(),
            n => format!(", {} running statistics", grouped(n)),
        };
        lines.push(format!("parameters  {}{statistics}", grouped(self.parameters)));
        for (what, values) in [("input ", self.model.inputs()), ("output", self.model.outputs())] {
            lines.extend(values.iter().map(|value| format!("{what}      {}", value_text(value))));
        }
        lines.push(format!("size        {}", bytes(self.model.as_bytes().len() as u64)));
        lines.push(format!("SHA-256     {}", self.digest));
        lines.join("\n")
    }
}

fn value_json(value: &ValueInfo) -> Value {
    let dims = |dims: &Vec<Dim>| -> Vec<Value> {
        let dim = |dim: &Dim| match dim {
            Dim::Fixed(length) => json!(length),
            Dim::Symbol(name) => json!(name),
            Dim::Unknown => Value::Null,
        };
        dims.iter().map(dim).collect()
    };
    json!({ "name": value.name, "type": element(value.element), "shape": value.dims.as_ref().map(dims) })
}

fn value_text(value: &ValueInfo) -> String {
    let dim = |dim: &Dim| match dim {
        Dim::Fixed(length) => length.to_string(),
        Dim::Symbol(name) => name.clone(),
        Dim::Unknown => "?".to_owned(),
    };
    let dims: Vec<String> = value.dims.iter().flatten().map(dim).collect();
    format!("{} {} [{}]", value.name, element(value.element), dims.join(", "))
}

fn element(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "float32",
        ElementType::I64 => "int64",
        ElementType::I32 => "int32",
        ElementType::Bool => "bool",
        ElementType::Other(_) => "other",
    }
}

/// A number with commas.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
