//! `aimass model check`: whether a model trains here, and what it asks for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use aimass_edge_agent::exit::ExitKind;
use aimass_inference as infer;
use aimass_learning::inspect::{Cost, Inspection, Port, Question, doubts, inspect, parameters};
use aimass_onnx::{ParamKind, ParamLayout, TrainableRules};
use anyhow::Result;
use clap::Args as ClapArgs;
use serde_json::{Value, json};

use crate::model_file;
use crate::output::{Failure, Output, bytes, table};

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exits with 0 when the model trains, with the code for bad data when it does not.\n\n\
    Examples:\n  \
    aimass model check model.onnx\n  \
    aimass model check text.onnx --batch 10 --dim sequence=80 --moments 2\n  \
    aimass model check model.onnx --trainable 'head.*' --json"
)]
pub(crate) struct CheckArgs {
    /// The ONNX file.
    file: PathBuf,
    /// Rows a step, for shapes, operations and memory.
    #[arg(long, value_name = "N", default_value_t = 32)]
    batch: usize,
    /// Length of another open dimension, by the name that the file gives it (16 where none is given).
    #[arg(long = "dim", value_name = "NAME=N", value_parser = dim)]
    dims: Vec<(String, usize)>,
    /// Which weights train, as `[model] trainable` in a job: globs over names, with a leading `!` to freeze.
    #[arg(long, value_name = "GLOB")]
    trainable: Vec<String>,
    /// Vectors that the optimizer keeps a weight, for the memory: 0 for SGD, 1 with momentum, 2 for Adam.
    #[arg(long, value_name = "N", default_value_t = 0)]
    moments: usize,
    /// Whether the optimizer gathers gradients before it moves weights, for the memory: with weight decay or clipping.
    #[arg(long)]
    gathered: bool,
}

fn dim(text: &str) -> Result<(String, usize), String> {
    let (name, length) = text.split_once('=').ok_or("write it as NAME=N, for instance sequence=80")?;
    let length = length.parse().ok().filter(|&n| n > 0);
    Ok((name.to_owned(), length.ok_or("the length is a number from 1 on")?))
}

pub(crate) fn run(args: &CheckArgs, out: &Output) -> Result<ExitKind> {
    let file = args.file.display();
    let bad = |text: String| Failure::new(ExitKind::BadData, format!("{file}: {text}"));
    // As `train` and `job submit` read it.
    let model = model_file::read(&args.file).map_err(|e| bad(e.to_string()))?;
    let size = model.as_bytes().len() as u64;
    let rules = TrainableRules::new(&args.trainable).map_err(|e| Failure::new(ExitKind::Usage, e.to_string()))?;
    let layout = model.layout(&rules).map_err(|e| e.to_string());
    let question = Question {
        batch: args.batch.max(1),
        dims: args.dims.iter().cloned().collect::<BTreeMap<_, _>>(),
        moments: args.moments,
        gathered: args.gathered,
    };
    let found = inspect(&model, layout.as_ref().map_err(Clone::clone), &question);
    let layout = layout.ok();
    let mut notes = notes(&found);
    if let Some(layout) = layout.as_ref().filter(|_| args.trainable.is_empty()) {
        notes.extend(doubts(&model, layout));
    }
    let shapes = found
        .inputs
        .iter()
        .filter_map(|port| Some((port.name.clone(), port.shape.clone()?)));
    let tract = infer::check(model.as_bytes(), &shapes.collect());
    if let Err(error) = &tract {
        notes.push(format!("devices can't run it: {error}"));
    }
    out.result(&as_json(&found, layout.as_ref(), size, (&notes, tract.is_ok())), || {
        as_text(&found, layout.as_ref(), args.batch, &notes)
    });
    Ok(if found.trains() { ExitKind::Ok } else { ExitKind::BadData })
}

/// What stands in the way of data, though the graph trains.
fn notes(found: &Inspection) -> Vec<String> {
    let fixed = found.inputs.iter().filter_map(|input| {
        let length: usize = input.dims.as_ref()?.first()?.parse().ok()?;
        Some(format!(
            "the input `{}` has a fixed first dimension of {length}, and batches of data have any; export it with dynamic_axes or dynamic_shapes",
            input.name
        ))
    });
    fixed.collect()
}

fn kind(kind: ParamKind) -> &'static str {
    match kind {
        ParamKind::Weight => "trains",
        ParamKind::Buffer => "running statistic",
        ParamKind::Frozen => "frozen",
    }
}

fn as_json(found: &Inspection, layout: Option<&ParamLayout>, size: u64, (notes, runs): (&[String], bool)) -> Value {
    let port = |p: &Port| json!({ "name": p.name, "element": p.element, "dims": p.dims, "shape": p.shape });
    let obstacles = found.obstacles.iter();
    let obstacles: Vec<Value> = obstacles
        .map(|o| json!({ "node": o.node, "op": o.op, "problem": o.problem, "fix": o.fix }))
        .collect();
    let params = layout.iter().flat_map(|layout| layout.params());
    let params: Vec<Value> = params
        .map(|p| json!({ "name": p.name, "shape": p.shape, "kind": kind(p.kind) }))
        .collect();
    json!({
        "trainable": found.trains(),
        "obstacles": obstacles,
        "notes": notes,
        "runs_in_tract": runs,
        "inputs": found.inputs.iter().map(port).collect::<Vec<_>>(),
        "outputs": found.outputs.iter().map(port).collect::<Vec<_>>(),
        "opset": found.opset,
        "ops": found.ops,
        "size_bytes": size,
        "parameters": layout.map(parameters),
        "initializers": params,
        "cost": found.cost.map(|c| json!({
            "forward_flops": c.forward_flops,
            "step_flops": c.step_flops,
            "peak_bytes": c.peak_bytes,
        })),
        "interpreted": found.interpreted,
    })
}

fn shape(port: &Port) -> String {
    let dims = port.dims.as_ref().map_or_else(|| "?".to_owned(), |dims| dims.join(", "));
    match &port.shape {
        Some(shape) => format!("[{dims}] = {shape:?}"),
        None => format!("[{dims}]"),
    }
}

fn as_text(found: &Inspection, layout: Option<&ParamLayout>, batch: usize, notes: &[String]) -> String {
    let mut text = if found.trains() {
        "trains here\n".to_owned()
    } else {
        "does not train here\n".to_owned()
    };
    for o in &found.obstacles {
        text.push_str(&format!("  {o}\n"));
    }
    for note in notes {
        text.push_str(&format!("  note: {note}\n"));
    }
    let ports = |name: &str, ports: &[Port]| -> String {
        let lines = ports.iter().map(|p| format!("{name:<8} {}  {} {}\n", p.name, p.element, shape(p)));
        lines.collect()
    };
    text.push_str(&ports("input", &found.inputs));
    text.push_str(&ports("output", &found.outputs));
    let ops: Vec<String> = found.ops.iter().map(|(op, n)| format!("{op} {n}")).collect();
    text.push_str(&format!("opset    {}, ops: {}\n", found.opset, ops.join(", ")));
    if let Some(layout) = layout {
        let counts = parameters(layout);
        text.push_str(&format!(
            "floats   {} train, {} are running statistics, {} are frozen\n",
            counts["weights"], counts["buffers"], counts["frozen"]
        ));
    }
    if let Some(Cost {
        forward_flops,
        step_flops,
        peak_bytes,
    }) = found.cost
    {
        text.push_str(&format!(
            "a step   {} operations forward, {} with the gradient, about {} at the peak, for a batch of {batch}\n",
            flops(forward_flops),
            flops(step_flops),
            bytes(peak_bytes)
        ));
        if !found.interpreted.is_empty() {
            let ops: Vec<String> = found.interpreted.iter().map(|(op, n)| format!("{op} {n}")).collect();
            text.push_str(&format!(
                "slower   {} have no kernels of their own on the CPU: the interpreter runs them\n",
                ops.join(", ")
            ));
        }
    }
    if let Some(layout) = layout {
        let rows: Vec<Vec<String>> = layout
            .params()
            .iter()
            .map(|p| vec![p.name.clone(), format!("{:?}", p.shape), kind(p.kind).to_owned()])
            .collect();
        text.push('\n');
        text.push_str(&table(&["INITIALIZER", "SHAPE", "TRAINS"], &rows));
    }
    text.trim_end().to_owned()
}

/// Operations for people: powers of 1,000.
fn flops(n: u64) -> String {
    const UNITS: [&str; 5] = ["", " thousand", " million", " billion", " trillion"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        n.to_string()
    } else {
        format!("{value:.1}{}", UNITS[unit])
    }
}
