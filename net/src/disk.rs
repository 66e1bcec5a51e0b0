//! Fault points: calls to the disk that ask here first, so that tests can make the n-th of them fail, for every n. Those are the calls that what
//! is kept over a restart depends on, not all there are.
//!
//! Nothing fails unless a test's process has asked for it with [`fail_call`].

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

/// The call that fails, counted from 1; 0: none.
static FAILING: AtomicU64 = AtomicU64::new(0);
static CALLS: AtomicU64 = AtomicU64::new(0);

/// A call to the disk is about to be made. `what` names it, for people.
///
/// # Errors
/// "No space left" where a test asked for it.
pub fn call(what: &str) -> io::Result<()> {
    let failing = FAILING.load(Ordering::Relaxed);
    if failing != 0 && CALLS.fetch_add(1, Ordering::Relaxed) + 1 == failing {
        let text = format!("{what}: no space left on device (call {failing} was to fail)");
        eprintln!("{text}");
        return Err(io::Error::new(io::ErrorKind::StorageFull, text));
    }
    Ok(())
}

/// For tests, in a process of their own: from now on calls are counted, and call `n` fails.
pub fn fail_call(n: u64) {
    CALLS.store(0, Ordering::Relaxed);
    FAILING.store(n, Ordering::Relaxed);
}
