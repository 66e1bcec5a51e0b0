//! `aimass demo`: one federated job from nothing, by real processes over real QUIC on this machine.

mod report;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use aimass_edge_agent::exit::ExitKind;
use anyhow::{Context, Result, bail};

use crate::args::DemoArgs;
use crate::cluster::{AgentStart, Cluster};
use crate::commands::job;
use crate::demo::report::PeakMemory;
use crate::demo::view::View;
use crate::example::{self, ExampleOptions};
use crate::fleet::own_program;
use crate::output::{Failure, Output};
use crate::run_folder;

pub(crate) fn run(args: &DemoArgs, out: &Output) -> Result<ExitKind> {
    let folder = run_folder::fresh(args.out.as_deref(), "demo")?;
    let logs = folder.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("can't make the folder {}", logs.display()))?;
    let stop = Arc::new(AtomicBool::new(false));
    run_folder::listen_for_ctrl_c(stop.clone())?;
    match train(args, &folder, &stop, out) {
        Err(_) if stop.load(Ordering::Relaxed) => Err(Failure::new(
            ExitKind::Interrupted,
            format!("interrupted; all processes have ended, what was done is in {}", folder.display()),
        )
        .into()),
        Err(error) => Err(error.context(format!("the demo failed; logs are in {}", folder.join("logs").display()))),
        Ok(()) => Ok(ExitKind::Ok),
    }
}

fn train(args: &DemoArgs, folder: &Path, stop: &AtomicBool, out: &Output) -> Result<()> {
    let begin = Instant::now();
    let view = View::new(args, out);
    let example = example::write(
        &folder.join("data"),
        ExampleOptions {
            agents: args.agents,
            rounds: args.rounds,
            seed: args.seed,
            plain: args.plain,
        },
    )?;
    view.say(&format!(
        "{} agents hold {} rows each at most, {} at least; the aggregator keeps {} for testing",
        args.agents,
        example.agent_rows.iter().max().unwrap_or(&0),
        example.agent_rows.iter().min().unwrap_or(&0),
        example::TEST_ROWS
    ));
    let stopped = || stop.load(Ordering::Relaxed);
    let program = own_program().context("can't find this program's own file")?;
    let mut cluster = Cluster::start(&program, folder, &stopped)?;
    view.say("enrolment authority and aggregator are up; certificates were made for this run");
    let checked = job::read(&example.job)?;
    let id = job::upload(cluster.server(), &checked, cluster.owner(), Default::default())?;
    let start = |data: &PathBuf| AgentStart {
        contract: example::CONTRACT.to_owned(),
        data: data.clone(),
        allow_plain: args.plain,
        args: vec![],
    };
    cluster.start_agents(&example.agents.iter().map(start).collect::<Vec<_>>(), &stopped)?;
    view.say(if args.plain {
        "PLAIN aggregation: updates are protected by TLS alone, the aggregator can read each of them"
    } else {
        "secure aggregation: the aggregator sees sums of masked updates, and no single one"
    });

    let mut metrics = report::Metrics::create(folder)?;
    let server = cluster.server().clone();
    let end = job::follow(
        &server,
        &id,
        |round| {
            metrics.add(round)?;
            view.round(round);
            Ok(())
        },
        |_| {
            if stopped() {
                bail!("interrupted");
            }
            cluster.check()
        },
    )?;
    if end["state"].as_str() != Some("finished") {
        bail!(
            "the job ended as {}: {}",
            end["state"],
            end["reason"].as_str().unwrap_or("no reason given")
        );
    }
    let model = job::pull(cluster.server(), &id, None)?;
    let usage = PeakMemory::of(&cluster);
    cluster.stop();
    let summary = report::finish(report::Finished {
        folder,
        args,
        model: &model,
        test: &example.test,
        metrics,
        usage,
        seconds: begin.elapsed().as_secs_f64(),
    })?;
    view.finish(&summary, folder);
    Ok(())
}
