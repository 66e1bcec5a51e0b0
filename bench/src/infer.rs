//! Latency of inference on one thread: the compiled plan, tract, and onnxruntime, in turns.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aimass_inference::{LoadOptions, Servable, Tensor};
use aimass_learning::{Array, Engine};
use aimass_onnx::Model;
use aimass_onnx::build::{InitialWeights, McMahanCnn};
use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use crate::train::{Ran, Ready, Worker, say};
use crate::{median, publish};

/// Where the peer's program is, from the repository's root.
const PEER_SCRIPT: &str = "bench/peers/onnx_runs.py";
/// Pixels of an image.
const PIXELS: usize = 28 * 28;

#[derive(Debug, Args)]
pub(crate) struct InferArgs {
    /// How often each is measured.
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Seconds that each is measured for.
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Images at once.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 32])]
    batches: Vec<usize>,
    /// A Python with onnxruntime. Without it ours and tract are measured alone.
    #[arg(long, value_name = "PYTHON")]
    peer: Option<PathBuf>,
    /// Write the figures to this file too.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RunsArgs {
    /// What runs it: plan or tract.
    engine: String,
    /// The model.
    model: PathBuf,
    /// Images at once.
    batch: usize,
}

pub(crate) fn run(args: &InferArgs) -> Result<()> {
    if args.peer.is_some() && !Path::new(PEER_SCRIPT).exists() {
        bail!("{PEER_SCRIPT} is not here; run this from the repository's root");
    }
    let dir = tempfile::tempdir()?;
    let model = dir.path().join("cnn.onnx");
    std::fs::write(&model, McMahanCnn.build(InitialWeights::seeded(1))?.as_bytes())?;
    let me = std::env::current_exe()?;
    let mut results = Vec::new();
    for &batch in &args.batches {
        let ours = |engine: &str| -> Result<Worker> {
            let arguments: [OsString; 4] = ["infer-runs".into(), engine.into(), model.clone().into(), batch.to_string().into()];
            Worker::start(&me, &arguments, &[], engine.to_owned())
        };
        let mut sides = vec![("plan", ours("plan")?), ("tract", ours("tract")?)];
        if let Some(python) = &args.peer {
            let arguments: [OsString; 3] = [PEER_SCRIPT.into(), model.clone().into(), batch.to_string().into()];
            sides.push(("onnxruntime", Worker::start(python, &arguments, &[], "onnxruntime".to_owned())?));
        }
        let mut micros: Vec<Vec<f64>> = vec![Vec::new(); sides.len()];
        for _ in 0..args.runs.max(1) {
            for ((_, worker), micros) in sides.iter_mut().zip(&mut micros) {
                let ran = worker.run(args.seconds)?.ran;
                micros.push(1e6 * ran.seconds / ran.steps as f64);
            }
        }
        for ((name, worker), micros) in sides.iter().zip(micros) {
            let least = micros.iter().copied().fold(f64::INFINITY, f64::min);
            eprintln!(
                "batch {batch}, {name}: {:.0} microseconds ({least:.0} at the least)",
                median(&micros)
            );
            results.push(json!({
                "batch": batch,
                "engine": name,
                "microseconds": { "median": median(&micros), "min": least },
                "versions": worker.ready.versions,
            }));
        }
    }
    let result = json!({
        "what": "microseconds for a batch of McMahan's CNN, one thread, float32; the engines take turns",
        "runs": args.runs,
        "seconds_a_run": args.seconds,
        "results": results,
    });
    publish(&result, args.output.as_deref())
}

/// The process that is measured.
pub(crate) fn run_child(args: &RunsArgs) -> Result<()> {
    let bytes = std::fs::read(&args.model)?;
    let n = args.batch * PIXELS;
    let pixels: Vec<f32> = (0..n).map(|i| (i * 7919 % 2001) as f32 / 1000.0 - 1.0).collect();
    let mut infer: Box<dyn FnMut() -> Result<f32>> = match args.engine.as_str() {
        "plan" => {
            let model = Model::from_shared(bytes.into())?;
            let mut engine = Engine::new(&model)?;
            let input = engine.inputs().first().context("the model has no input")?.to_string();
            let images = Array::floats(vec![args.batch, 1, 28, 28], pixels).context("the images do not fill their shape")?;
            Box::new(move || {
                let outputs = engine.run([(input.clone(), images.clone())].into())?;
                let first = outputs.first().and_then(Array::as_floats).and_then(|values| values.first());
                first.copied().context("the model gave nothing")
            })
        }
        "tract" => {
            let model = Servable::load(
                &bytes,
                &LoadOptions {
                    engine: aimass_inference::Engine::Tract,
                    ..LoadOptions::default()
                },
            )?;
            let images = [Tensor::f32(vec![args.batch, 1, 28, 28], pixels)?];
            Box::new(move || {
                let outputs = model.run(&images)?;
                let first = outputs.first().and_then(Tensor::as_f32).and_then(|values| values.first());
                first.copied().context("the model gave nothing")
            })
        }
        other => bail!("there is no engine `{other}`; use plan or tract"),
    };
    for _ in 0..3 {
        infer()?;
    }
    say(&Ready {
        weights: 0,
        start_bytes: 0,
        versions: json!({ "aimass": env!("CARGO_PKG_VERSION") }),
        estimated_bytes: None,
    })?;
    for line in std::io::stdin().lines() {
        let window = Duration::from_secs_f64(line?.parse()?);
        let begin = Instant::now();
        let (mut steps, mut value) = (0, 0.0);
        while steps == 0 || begin.elapsed() < window {
            value = infer()?;
            steps += 1;
        }
        say(&Ran {
            steps,
            seconds: begin.elapsed().as_secs_f64(),
            loss: f64::from(value),
        })?;
    }
    Ok(())
}
