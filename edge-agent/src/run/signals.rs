//! What tells the agent to stop.

use std::io::{self, Read as _};

use tokio::sync::oneshot;

use crate::exit::ExitKind;

/// Why it stops, for people, and how the program ends then.
pub(crate) type Stop = (&'static str, ExitKind);

/// Ctrl-c, SIGTERM, and the end of standard input where that is asked for.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    parent: Option<oneshot::Receiver<()>>,
}

impl Signals {
    /// Begins to listen. Must be called within a runtime.
    pub(crate) fn listen(with_parent: bool) -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
            #[cfg(unix)]
            interrupt: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?,
            parent: if with_parent { Some(watch_standard_input()?) } else { None },
        })
    }

    /// Waits for the first of them.
    pub(crate) async fn stop(&mut self) -> Stop {
        let parent = async {
            match &mut self.parent {
                Some(end) => {
                    let _ = end.await;
                }
                None => std::future::pending().await,
            }
        };
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", ExitKind::Ok),
            _ = self.interrupt.recv() => ("ctrl-c", ExitKind::Interrupted),
            () = parent => ("standard input ended", ExitKind::Ok),
        }
        #[cfg(not(unix))]
        tokio::select! {
            _ = tokio::signal::ctrl_c() => ("ctrl-c", ExitKind::Interrupted),
            () = parent => ("standard input ended", ExitKind::Ok),
        }
    }
}

/// Reads standard input to its end on a thread of its own: a runtime would wait for such a read when it ends.
fn watch_standard_input() -> io::Result<oneshot::Receiver<()>> {
    let (sender, receiver) = oneshot::channel();
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .stack_size(64 * 1024)
        .spawn(move || {
            let mut buffer = [0; 256];
            loop {
                match io::stdin().read(&mut buffer) {
                    Ok(0) => break,
                    Err(e) if e.kind() != io::ErrorKind::Interrupted => break,
                    _ => {}
                }
            }
            let _ = sender.send(());
        })?;
    Ok(receiver)
}
