//! Serving on the device: requests a second, latency, memory, and swaps under load.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aimass_onnx::Model;
use aimass_onnx::build::{InitialWeights, McMahanCnn, mlp};
use aimass_serving::{Endpoints, Host, HostConfig};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::report::{Report, quantile, sorted};
use crate::{mib, program};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Clients that ask at once, each its next request when it has the answer to the last.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8])]
    clients: Vec<usize>,
    /// Seconds that each is measured for.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Swaps under load.
    #[arg(long, default_value_t = 100)]
    swaps: u64,
    #[command(flatten)]
    report: Report,
}

pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut rows = Vec::new();
    let mut results = Vec::new();
    let models = [
        ("784-200-200-10", mlp(&[784, 200, 200, 10], 1), json!([1, 784])),
        ("McMahan's CNN", McMahanCnn.build(InitialWeights::seeded(1))?, json!([1, 1, 28, 28])),
    ];
    for (name, model, shape) in &models {
        let path = dir.path().join("m.onnx");
        std::fs::write(&path, model.as_bytes())?;
        for binary in [false, true] {
            for &clients in &args.clients {
                // A process each: its memory is of this load alone.
                let service = Process::start(&path)?;
                let request = message(model, shape, binary)?;
                let load = Load::run(service.address, &request, clients, Duration::from_secs_f64(args.seconds))?;
                let (now, peak) = (service.memory("VmRSS:")?, service.memory("VmHWM:")?);
                let form = if binary { "binary" } else { "JSON" };
                let per_second = load.micros.len() as f64 / load.seconds;
                let (p50, p99) = (quantile(&load.micros, 0.5), quantile(&load.micros, 0.99));
                rows.push(vec![
                    format!("{name}, {form}"),
                    clients.to_string(),
                    format!("{per_second:.0}"),
                    format!("{p50:.0}"),
                    format!("{p99:.0}"),
                    format!("{:.0} / {:.0}", mib(now), mib(peak)),
                ]);
                results.push(json!({
                    "model": name, "form": form, "clients": clients, "requests_a_second": per_second,
                    "p50_us": p50, "p99_us": p99, "requests": load.micros.len(), "memory_bytes": now, "peak_bytes": peak,
                }));
            }
        }
    }
    let swaps = swaps(args.swaps)?;
    rows.push(vec![
        format!("{} swaps under load, {} dropped", swaps["swaps"], swaps["dropped"]),
        swaps["clients"].to_string(),
        String::new(),
        swaps["p50_us"].as_f64().map(|us| format!("{us:.0}")).unwrap_or_default(),
        swaps["p99_us"].as_f64().map(|us| format!("{us:.0}")).unwrap_or_default(),
        String::new(),
    ]);
    let result = json!({
        "what": "one computing thread, requests of one row over loopback TCP, connections kept",
        "load": results,
        "swaps": swaps,
    });
    let header = ["model", "clients", "requests/s", "p50 us", "p99 us", "MiB now / peak"];
    args.report.show(&header, &rows, &result)
}

/// A request of one row, as it goes over the wire.
fn message(model: &Model, shape: &Value, binary: bool) -> Result<Vec<u8>> {
    let input = &model.inputs().first().context("the model has an input")?.name;
    let dims: Vec<usize> = serde_json::from_value(shape.clone())?;
    let values: Vec<f32> = (0..dims.iter().product())
        .map(|i: usize| (i * 7919 % 2001) as f32 / 1000.0 - 1.0)
        .collect();
    let (json, tail) = if binary {
        let tail: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let input = json!({ "name": input, "shape": shape, "datatype": "FP32", "parameters": { "binary_data_size": tail.len() } });
        (json!({ "inputs": [input], "parameters": { "binary_data_output": true } }), tail)
    } else {
        (
            json!({ "inputs": [{ "name": input, "shape": shape, "datatype": "FP32", "data": values }] }),
            Vec::new(),
        )
    };
    let json = json.to_string();
    let length = if binary {
        format!("Inference-Header-Content-Length: {}\r\n", json.len())
    } else {
        String::new()
    };
    let total = json.len() + tail.len();
    let head = format!("POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\n{length}Content-Length: {total}\r\n\r\n");
    Ok([head.as_bytes(), json.as_bytes(), &tail].concat())
}

/// `aimass agent serve` as a process of its own.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start(model: &Path) -> Result<Self> {
        let mut child = Command::new(program()?)
            .args([
                "agent",
                "--json",
                "--quiet",
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--exit-with-parent",
                "--model",
            ])
            .arg(format!("m={}", model.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().context("a pipe")?).read_line(&mut line)?;
        let event: Value = serde_json::from_str(&line).with_context(|| format!("no event: {line:?}"))?;
        let address = event["address"].as_str().context("an address")?.parse()?;
        Ok(Self { child, address })
    }

    /// A line of its `/proc/PID/status`, in bytes.
    fn memory(&self, key: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .context("the kernel says so")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib << 10)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What clients saw.
struct Load {
    /// Sorted latencies of all answers.
    micros: Vec<f64>,
    seconds: f64,
}

impl Load {
    fn run(address: SocketAddr, request: &[u8], clients: usize, span: Duration) -> Result<Self> {
        let done = AtomicBool::new(false);
        let begin = Instant::now();
        let answers = AtomicU64::new(0);
        let micros = std::thread::scope(|scope| -> Result<Vec<f64>> {
            let threads: Vec<_> = (0..clients)
                .map(|_| scope.spawn(|| ask(address, request, &done, &answers)))
                .collect();
            std::thread::sleep(span);
            done.store(true, Ordering::Relaxed);
            let mut all = Vec::new();
            for thread in threads {
                all.extend(thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??);
            }
            Ok(all)
        })?;
        Ok(Self {
            micros: sorted(micros),
            seconds: begin.elapsed().as_secs_f64(),
        })
    }
}

/// Asks again and again until `done`; anything but 200 is an error.
fn ask(address: SocketAddr, request: &[u8], done: &AtomicBool, answers: &AtomicU64) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let mut micros = Vec::new();
    while !done.load(Ordering::Relaxed) {
        let begin = Instant::now();
        stream.write_all(request)?;
        answer(&mut stream)?;
        micros.push(begin.elapsed().as_secs_f64() * 1e6);
        answers.fetch_add(1, Ordering::Relaxed);
    }
    Ok(micros)
}

fn answer(stream: &mut TcpStream) -> Result<()> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let n = stream.read(&mut buffer)?;
        ensure!(n > 0, "the connection ended without an answer");
        text.extend_from_slice(&buffer[..n]);
        let Some(head) = text.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let lines = String::from_utf8_lossy(&text[..head]).to_ascii_lowercase();
        if !lines.starts_with("http/1.1 200") {
            bail!("{}", String::from_utf8_lossy(&text));
        }
        let length = lines
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .context("a length")?;
        if text.len() >= head + 4 + length.trim().parse::<usize>()? {
            return Ok(());
        }
    }
}

/// Swaps while clients ask; a request that is not answered is an error.
fn swaps(swaps: u64) -> Result<Value> {
    const CLIENTS: usize = 4;
    let models = [mlp(&[784, 200, 200, 10], 1), mlp(&[784, 200, 200, 10], 2)];
    let host = Arc::new(Host::start(HostConfig::default())?);
    host.load("m", "v0", models[0].as_bytes())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let endpoints = runtime.block_on(Endpoints::default().tcp(SocketAddr::from(([127, 0, 0, 1], 0)), false))?;
    let address = endpoints.address().context("TCP")?;
    runtime.spawn(aimass_serving::serve(Arc::clone(&host), endpoints, std::future::pending()));
    let request = message(&models[0], &json!([1, 784]), true)?;
    let (done, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    let begin = Instant::now();
    let (asked, took, dropped) = std::thread::scope(|scope| -> Result<(Vec<f64>, Vec<f64>, u64)> {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| ask(address, &request, &done, &answers)))
            .collect();
        let swapped: Result<Vec<f64>> = (1..=swaps)
            .map(|i| {
                let begin = Instant::now();
                host.swap("m", &format!("v{i}"), models[(i % 2) as usize].as_bytes())?;
                let took = begin.elapsed().as_secs_f64();
                // Each version answers before the next one comes.
                let seen = answers.load(Ordering::Relaxed);
                while answers.load(Ordering::Relaxed) == seen && begin.elapsed() < Duration::from_secs(20) {
                    std::thread::sleep(Duration::from_micros(200));
                }
                Ok(took)
            })
            .collect();
        done.store(true, Ordering::Relaxed);
        let (mut micros, mut dropped) = (Vec::new(), 0);
        for client in clients {
            match client.join().map_err(|_| anyhow::anyhow!("a client panicked"))? {
                Ok(own) => micros.extend(own),
                // A client ends with the first request that has no answer of 200.
                Err(e) => {
                    eprintln!("dropped: {e}");
                    dropped += 1;
                }
            }
        }
        Ok((micros, swapped?, dropped))
    })?;
    let asked = sorted(asked);
    Ok(json!({
        "swaps": swaps, "dropped": dropped, "clients": CLIENTS, "answers": asked.len(), "seconds": begin.elapsed().as_secs_f64(),
        "swap_median_ms": 1e3 * quantile(&sorted(took), 0.5),
        "p50_us": quantile(&asked, 0.5), "p99_us": quantile(&asked, 0.99), "worst_us": asked.last(),
    }))
}
