//! Transfers take turns, so that the memory that they need does not grow with the number of agents.
//!
//! A transfer at full speed holds a chunk and what QUIC has in flight, about 0.6 MiB. One that has its turn for a while and is still not through has a
//! slow link, which fills no buffers: it goes on, and the turn is another's.

use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Transfers at full speed at once, each way.
const AT_ONCE: usize = 32;
/// How long a turn lasts.
const TURN: Duration = Duration::from_secs(2);

/// See the module.
pub(crate) struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(AT_ONCE))
    }
}

impl Turns {
    /// Does `work` when it is its turn. Whoever asked first is first.
    pub(crate) async fn take<T>(&self, work: impl Future<Output = T>) -> T {
        // It fails only when the semaphore is closed, which it never is.
        let turn = self.0.acquire().await;
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = sleep(TURN) => {}
        }
        drop(turn);
        work.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test]
    async fn only_so_many_work_at_once_and_a_slow_one_holds_nobody_up() {
        let turns: &'static Turns = Box::leak(Box::default());
        static RUNNING: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let mut all = JoinSet::new();
        for _ in 0..4 * AT_ONCE {
            all.spawn(turns.take(async {
                MOST.fetch_max(1 + RUNNING.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                sleep(Duration::from_millis(20)).await;
                RUNNING.fetch_sub(1, Ordering::SeqCst);
            }));
        }
        all.join_all().await;
        assert_eq!(MOST.load(Ordering::SeqCst), AT_ONCE);

        for _ in 0..AT_ONCE {
            tokio::spawn(turns.take(std::future::pending::<()>()));
        }
        tokio::task::yield_now().await;
        let begin = Instant::now();
        turns.take(async {}).await;
        assert!(begin.elapsed() >= TURN / 2 && begin.elapsed() < 3 * TURN, "{:?}", begin.elapsed());
    }
}
