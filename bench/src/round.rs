//! A deployed round without training, beside `bench/peers/d_flower_deploy.py`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aimass_cli::cluster::{AgentStart, Cluster};
use aimass_cli::fleet::Process;
use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{median, mib, program, publish};

const CONTRACT: &str = "bench";
const PIXELS: usize = 28 * 28;

#[derive(Debug, Args)]
pub(crate) struct RoundArgs {
    /// Numbers of agents to measure.
    #[arg(long, value_delimiter = ',', default_values_t = [2, 10, 30])]
    agents: Vec<u32>,
    /// Rounds for each; the first is reported apart.
    #[arg(long, default_value_t = 8)]
    rounds: u32,
    /// Bits of a rounded value: 24 keeps a sum's residues in 25 to 29 bits here.
    #[arg(long, default_value_t = 24)]
    bits: u32,
    /// Write the figures to this file too.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &RoundArgs) -> Result<()> {
    let program = program()?;
    let mut results = Vec::new();
    for &agents in &args.agents {
        eprintln!("{agents} agents ...");
        results.push(measure(&program, agents, args)?);
    }
    let result = json!({
        "what": "deployed round on loopback without training, plain mode, mutual TLS, processes of their own",
        "weights": aimass_onnx::build::MCMAHAN_CNN_WEIGHTS,
        "results": results,
    });
    publish(&result, args.output.as_deref())
}

fn measure(program: &Path, agents: u32, args: &RoundArgs) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("rows.csv");
    write_rows(&data)?;
    let begin = Instant::now();
    let mut cluster = Cluster::start(program, dir.path(), &|| false)?;
    let start = AgentStart {
        contract: CONTRACT.to_owned(),
        data,
        allow_plain: true,
        args: vec![],
    };
    cluster.start_agents(&vec![start; agents as usize], &|| false)?;
    wait_online(&cluster, agents)?;
    let all_up_s = begin.elapsed().as_secs_f64();
    // Let everybody come to rest before idle memory is read.
    std::thread::sleep(Duration::from_secs(2));
    let idle: Vec<f64> = cluster
        .agent_processes()
        .iter()
        .filter_map(Process::usage)
        .map(|u| mib(u.rss_bytes))
        .collect();
    let server_idle = cluster.server_process().usage().unwrap_or_default();
    let cpu_before = agent_cpu_s(&cluster);

    let id = submit(&cluster, agents, args)?;
    let mut history: Vec<Value> = Vec::new();
    loop {
        let after = history.len();
        let view: Value = cluster.server().get(&format!("/v1/jobs/{id}/watch?after={after}&wait_ms=1000"))?;
        history.extend(view["history"].as_array().into_iter().flatten().cloned());
        cluster.check()?;
        match view["state"].as_str() {
            Some("running") => {}
            Some("finished") => break,
            _ => bail!("the job ended as {view}"),
        }
    }
    let column = |key: &str| -> Vec<f64> { history.iter().filter_map(|r| r[key].as_f64()).collect() };
    let seconds = column("seconds");
    let clients_rounds = f64::from(agents) * f64::from(args.rounds);
    let server = cluster.server_process().usage().unwrap_or_default();
    let peaks: Vec<f64> = cluster
        .agent_processes()
        .iter()
        .filter_map(Process::usage)
        .map(|u| mib(u.peak_rss_bytes))
        .collect();
    let result = json!({
        "agents": agents,
        "rounds": args.rounds,
        "round_s_first": seconds.first(),
        "round_s_median": median(seconds.get(1..).unwrap_or_default()),
        "round_s_all": seconds,
        "contributions_a_round": column("contributions"),
        "client_cpu_s_a_round": (agent_cpu_s(&cluster) - cpu_before) / clients_rounds,
        "server_cpu_s_a_round": (server.cpu_s - server_idle.cpu_s) / f64::from(args.rounds),
        "bytes_up_a_client_round": column("bytes_up").iter().sum::<f64>() / clients_rounds,
        "bytes_down_a_client_round": column("bytes_down").iter().sum::<f64>() / clients_rounds,
        "agent_idle_rss_mib_median": median(&idle),
        "agent_peak_rss_mib_median": median(&peaks),
        "server_idle_rss_mib": mib(server_idle.rss_bytes),
        "server_peak_rss_mib": mib(server.peak_rss_bytes),
        "start_to_all_online_s": all_up_s,
    });
    cluster.stop();
    Ok(result)
}

fn wait_online(cluster: &Cluster, agents: u32) -> Result<()> {
    for _ in 0..600 {
        let status: Value = cluster.server().get("/v1/status")?;
        if status["agents"]["online"].as_u64() >= Some(u64::from(agents)) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    bail!("the agents were not online after 60 s")
}

fn submit(cluster: &Cluster, agents: u32, args: &RoundArgs) -> Result<String> {
    let model = aimass_onnx::build::cnn_mcmahan(1);
    let (rounds, bits) = (args.rounds, args.bits);
    let job_file = format!(
        "[job]\nname = \"round without training\"\nkind = \"train\"\npurpose = \"benchmark\"\n[model]\npath = \"model.onnx\"\n\
         [data]\ncontract = \"{CONTRACT}\"\ntarget = \"label\"\n[train]\nlr = 0.1\nepochs = 0\n\
         [round]\nmode = \"sync\"\nrounds = {rounds}\nmin = {agents}\ntarget = {agents}\nmax = {agents}\n\
         [aggregation]\nmode = \"plain\"\n[update]\ncodec = \"fixed\"\nbits = {bits}\nclip = 10.0\n"
    );
    cluster.submit(&job_file, model.as_bytes())
}

/// Two rows: nobody trains on them, but an agent takes part only with data.
fn write_rows(path: &Path) -> Result<()> {
    let columns: Vec<String> = (0..PIXELS).map(|i| format!("x{i}")).collect();
    let row = vec!["0"; PIXELS].join(",");
    std::fs::write(path, format!("{},label\n{row},0\n{row},1\n", columns.join(",")))?;
    Ok(())
}

fn agent_cpu_s(cluster: &Cluster) -> f64 {
    cluster.agent_processes().iter().filter_map(Process::usage).map(|u| u.cpu_s).sum()
}
