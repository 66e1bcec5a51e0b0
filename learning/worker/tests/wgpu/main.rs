//! Trains on whatever adapter this machine has, a software rasterizer will do, and compares with the CPU.
//!
//! `AIMASS_REQUIRE_WGPU=1` makes a machine without an adapter a failure; otherwise these tests say that they were skipped.

mod agree;
mod cases;
mod lost;
mod models;
mod ops;

use aimass_learning::remote::WorkerCommand;
use aimass_learning::{AnyTrainer, BackendChoice, BackendConfig, TrainConfig, TrainError};
use aimass_onnx::{Model, ParamLayout};

fn backend() -> BackendConfig {
    BackendConfig {
        backend: BackendChoice::Wgpu,
        worker: Some(WorkerCommand::new(env!("CARGO_BIN_EXE_aimass-gpu-worker"))),
        allow_software: true,
        ..BackendConfig::default()
    }
}

/// A trainer in the worker. `None`, said aloud, on a machine without an adapter where that is no failure.
fn open(model: &Model, layout: &ParamLayout, config: &TrainConfig, notes: impl FnMut(&str) + Send + 'static) -> Option<AnyTrainer> {
    open_on(&backend(), model, layout, config, notes)
}

fn open_on(
    backend: &BackendConfig,
    model: &Model,
    layout: &ParamLayout,
    config: &TrainConfig,
    notes: impl FnMut(&str) + Send + 'static,
) -> Option<AnyTrainer> {
    match AnyTrainer::open(backend, model, layout, config, notes) {
        Ok(trainer) => Some(trainer),
        Err(TrainError::Backend { reason }) if reason.contains("no adapter") && std::env::var_os("AIMASS_REQUIRE_WGPU").is_none() => {
            eprintln!("SKIPPED, nothing was tested: {reason}");
            None
        }
        Err(error) => panic!("no training on wgpu: {error}"),
    }
}
