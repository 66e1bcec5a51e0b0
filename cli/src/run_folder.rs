//! What runs share: a folder of their own, and how they are stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aimass_edge_agent::exit::ExitKind;
use anyhow::{Context, Result};

use crate::output::Failure;

/// A run's folder: the one asked for, which must be new or empty, or a fresh one named by kind and time, `runs/<kind>-<time>`.
pub(crate) fn fresh(asked: Option<&Path>, kind: &str) -> Result<PathBuf> {
    let folder = match asked {
        Some(folder) => folder.to_owned(),
        None => {
            let base = format!("runs/{kind}-{}", crate::commands::now().as_ms() / 1000);
            let taken = |n: &u32| Path::new(&format!("{base}{}", suffix(*n))).exists();
            let n = (1..).find(|n| !taken(n)).unwrap_or(1);
            PathBuf::from(format!("{base}{}", suffix(n)))
        }
    };
    if folder.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(Failure::new(
            ExitKind::Usage,
            format!("{} is not empty: name a new folder with --out", folder.display()),
        )
        .into());
    }
    std::fs::create_dir_all(&folder).with_context(|| format!("can't make the folder {}", folder.display()))?;
    Ok(folder)
}

fn suffix(n: u32) -> String {
    if n == 1 { String::new() } else { format!("-{n}") }
}

/// Sets `stop` on ctrl-c or SIGTERM; a second one ends the program at once (children end with their input).
pub(crate) fn listen_for_ctrl_c(stop: Arc<AtomicBool>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("can't listen for ctrl-c")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
                return;
            };
            for _ in 0..2 {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(ExitKind::Interrupted.code()));
                }
            }
        });
    });
    Ok(())
}
