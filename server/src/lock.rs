//! Waiting for the lock of a data folder that another process is about to release.

use std::time::{Duration, Instant};

/// How long a held lock is waited for. A server that is told to stop ends within about two seconds, and a child that this process has just
/// started shares its open files, locks included, until it runs its own program.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Calls `open` until it gives something else than an error that is `held`, or the patience is over; then the last error is the answer.
/// Blocks for up to 3 s: not for the reactor's threads.
pub(crate) fn wait_for<T, E>(held: impl Fn(&E) -> bool, mut open: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let until = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(e) if held(&e) && Instant::now() < until => std::thread::sleep(PAUSE),
            opened => return opened,
        }
    }
}
