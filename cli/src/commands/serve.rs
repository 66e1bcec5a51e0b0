//! `aimass serve`: the aggregator.

use std::future::Future;
use std::io::Read;

use aimass_edge_agent::exit::ExitKind;
use anyhow::{Context, Result};
use serde_json::json;

use crate::args::{ProgramArgs, ServeArgs};
use crate::config::{SERVER_PREFIX, resolve};
use crate::output::{Failure, Output};

pub(crate) fn run(args: &ServeArgs, out: &Output) -> Result<ExitKind> {
    crate::logging::start(&args.program.log, out.is_json())?;
    let flags = [
        ("data_dir", "--data-dir", args.data_dir.as_ref().map(|p| p.display().to_string())),
        ("listen", "--listen", args.listen.clone()),
        ("api_listen", "--api-listen", args.api_listen.clone()),
    ];
    let config = resolve::<aimass_server::aggregator::Config>(SERVER_PREFIX, args.program.config.as_deref(), &flags)?.value;
    let token = super::join_token(args.join_token_file.as_deref())?;
    if token.is_none() && !config.data_dir.join("identity").join("certificate.der").exists() {
        let text = format!(
            "{} has not joined a deployment yet: make a token with `aimass token create --role server -o server.token`, then start with --join-token-file server.token",
            config.data_dir.display()
        );
        return Err(Failure::new(ExitKind::Usage, text).into());
    }
    let out = *out;
    block_on(async move {
        let ready = move |ready: &aimass_server::aggregator::Ready| {
            let shown = json!({ "quic_address": ready.quic_address.to_string(), "api_address": ready.api_address.to_string() });
            out.result(&shown, || {
                format!(
                    "aggregator: agents connect to {} (UDP), this machine's commands to {}",
                    ready.quic_address, ready.api_address
                )
            });
        };
        aimass_server::aggregator::run(config, token, ready, shutdown(&args.program)).await
    })??;
    Ok(ExitKind::Ok)
}

/// Runs a service on two threads: the heavy work is done beside the reactor.
pub(crate) fn block_on<F: Future>(service: F) -> Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("can't start the runtime")?;
    let result = runtime.block_on(service);
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    Ok(result)
}

/// Resolves on ctrl-c, on SIGTERM, and with `--exit-with-parent` when standard input closes.
pub(crate) fn shutdown(program: &ProgramArgs) -> impl Future<Output = ()> + Send + 'static + use<> {
    let (sender, parent_gone) = tokio::sync::oneshot::channel::<()>();
    let with_parent = program.exit_with_parent;
    if with_parent {
        std::thread::spawn(move || {
            let mut byte = [0; 64];
            while matches!(std::io::stdin().read(&mut byte), Ok(n) if n > 0) {}
            // Nobody listens any more when the service ended by itself.
            let _ = sender.send(());
        });
    }
    async move {
        let terminate = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => {
                    signal.recv().await;
                }
                Err(_) => std::future::pending().await,
            }
        };
        let parent = async {
            if !with_parent || parent_gone.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = terminate => {}
            () = parent => {}
        }
    }
}
