//! The handshakes that run: how many there are, and which gives way when there are too many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long a handshake is never asked to give way: a client that means it needs a round trip or two.
const UNDISTURBED: Duration = Duration::from_secs(1);

/// See the module. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Handshakes(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    /// The oldest first. Dropping the sender asks one to give way.
    running: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
    next: u64,
}

/// A place among the running; given back when it is dropped.
pub(super) struct Running {
    all: Handshakes,
    number: u64,
    gives_way: oneshot::Receiver<()>,
}

impl Handshakes {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many run.
    pub(super) fn len(&self) -> usize {
        self.lock().running.len()
    }

    /// Takes a place.
    pub(super) fn begin(&self) -> Running {
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        let (keeps_place, gives_way) = oneshot::channel();
        table.running.insert(number, (Instant::now(), keeps_place));
        Running {
            all: self.clone(),
            number,
            gives_way,
        }
    }

    /// Asks the oldest to give way, if it has had time enough by `now`; says whether it was asked.
    pub(super) fn displace_oldest(&self, now: Instant) -> bool {
        let mut table = self.lock();
        let Some((&oldest, (since, _))) = table.running.first_key_value() else {
            return false;
        };
        let had_time = now.saturating_duration_since(*since) >= UNDISTURBED;
        if had_time {
            table.running.remove(&oldest);
        }
        had_time
    }
}

impl Running {
    /// Resolves when another one needs the place more.
    pub(super) async fn displaced(&mut self) {
        // Nothing is ever sent: the sender is dropped.
        let _ = (&mut self.gives_way).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.all.lock().running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_gives_way_and_only_after_its_time() {
        let all = Handshakes::default();
        let (mut first, mut second) = (all.begin(), all.begin());
        let now = Instant::now();
        assert!(!all.displace_oldest(now), "both have only begun");
        assert!(all.displace_oldest(now + UNDISTURBED));
        first.displaced().await;
        assert_eq!(all.len(), 1);
        drop(first);
        assert_eq!(all.len(), 1, "its place was given back once");
        tokio::select! {
            biased;
            () = second.displaced() => panic!("it keeps its place"),
            () = std::future::ready(()) => {}
        }
        drop(second);
        assert_eq!(all.len(), 0);
        assert!(!all.displace_oldest(now + UNDISTURBED), "there is none");
    }
}
