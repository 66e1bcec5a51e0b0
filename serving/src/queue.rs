//! Waiting requests and the threads that compute them. Requests for the same model whose other axes agree are joined along the first one; a thread that
//! becomes free takes all that wait, so batches form under load by themselves, and [`QueueConfig::delay`] waits for more on purpose.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aimass_inference::{RunError, Tensor};
use tokio::sync::oneshot;

use crate::slot::Version;

/// What comes of a piece of work.
pub type Computed = Result<Vec<Tensor>, RunError>;

/// How requests wait.
#[derive(Debug, Clone, Copy)]
pub struct QueueConfig {
    /// Threads that compute, each one run at a time.
    pub threads: usize,
    /// Most rows that are joined.
    pub max_batch: usize,
    /// How long the oldest waits for others to join; zero: not at all.
    pub delay: Duration,
    /// Most requests that wait; further ones are refused.
    pub capacity: usize,
}

impl Default for QueueConfig {
    /// One thread, 16 rows, no delay, 256 requests.
    fn default() -> Self {
        Self {
            threads: 1,
            max_batch: 16,
            delay: Duration::ZERO,
            capacity: 256,
        }
    }
}

/// A piece of work that waits.
struct Pending {
    version: Arc<Version>,
    inputs: Vec<Tensor>,
    rows: usize,
    since: Instant,
    reply: oneshot::Sender<Computed>,
}

impl Pending {
    fn can_be_joined(&self) -> bool {
        self.version.servable.has_independent_rows()
    }

    /// Whether both are one model's, and of shapes that differ in the first axis alone.
    fn goes_with(&self, other: &Self) -> bool {
        let rest = |tensor: &Tensor| tensor.shape().get(1..).map(<[usize]>::to_vec);
        Arc::ptr_eq(&self.version, &other.version) && self.inputs.iter().zip(&other.inputs).all(|(a, b)| rest(a) == rest(b))
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    running: usize,
    closed: bool,
}

/// See the module.
pub struct Queue {
    config: QueueConfig,
    state: Mutex<State>,
    changed: Condvar,
}

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{capacity} requests wait already, the limit")]
pub struct Full {
    /// The limit.
    pub capacity: usize,
}

/// The threads of a queue; they end, once nothing waits, when this is dropped.
pub(crate) struct Workers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Queue {
    pub(crate) fn start(config: QueueConfig) -> std::io::Result<(Arc<Self>, Workers)> {
        let queue = Arc::new(Self {
            config,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let mut workers = Workers {
            queue: Arc::clone(&queue),
            threads: Vec::new(),
        };
        for i in 0..config.threads.max(1) {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new().name(format!("infer-{i}")).spawn(move || queue.work())?;
            workers.threads.push(thread);
        }
        Ok((queue, workers))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that wait, and runs that are under way.
    pub fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.waiting.len(), state.running)
    }

    /// Rows that go into one run at most.
    pub fn max_batch(&self) -> usize {
        self.config.max_batch.max(1)
    }

    /// Pieces of `rows` rows of one request that wait at once: enough to keep every thread busy, and few enough that others' requests come between.
    pub fn pieces_at_once(&self, rows: usize) -> usize {
        2 * self.config.threads.max(1) * (self.max_batch() / rows.max(1)).max(1)
    }

    /// Queues work; what comes of it is sent. A request whose receiver is dropped is not computed any more.
    ///
    /// # Errors
    /// [`Full`], unless `admitted`: then it is a further piece of a request that was let in before.
    pub fn push(&self, version: &Arc<Version>, inputs: Vec<Tensor>, admitted: bool) -> Result<oneshot::Receiver<Computed>, Full> {
        let (reply, receiver) = oneshot::channel();
        let mut state = self.lock();
        if !admitted && state.waiting.len() >= self.config.capacity {
            return Err(Full {
                capacity: self.config.capacity,
            });
        }
        state.waiting.push_back(Pending {
            version: Arc::clone(version),
            rows: inputs.first().map_or(1, Tensor::rows),
            inputs,
            since: Instant::now(),
            reply,
        });
        drop(state);
        self.changed.notify_one();
        Ok(receiver)
    }

    fn work(&self) {
        while let Some(group) = self.next() {
            compute(group, self.max_batch());
            self.lock().running -= 1;
        }
    }

    /// Waits for work; `None` once the queue is closed and empty.
    fn next(&self) -> Option<Vec<Pending>> {
        let mut state = self.lock();
        loop {
            state.waiting.retain(|pending| !pending.reply.is_closed());
            let (group, due) = self.choose(&state, Instant::now());
            if !group.is_empty() {
                state.running += 1;
                return Some(take(&mut state.waiting, &group));
            }
            if state.closed && state.waiting.is_empty() {
                return None;
            }
            state = match due {
                Some(wait) => self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Indices of what is to be computed now, or how long until something is.
    fn choose(&self, state: &State, now: Instant) -> (Vec<usize>, Option<Duration>) {
        let mut seen: Vec<&Pending> = Vec::new();
        let mut due: Option<Duration> = None;
        for (i, first) in state.waiting.iter().enumerate() {
            if !first.can_be_joined() {
                return (vec![i], None);
            }
            if seen.iter().any(|pending| pending.goes_with(first)) {
                continue;
            }
            let (group, full) = self.joined(state, i);
            let left = self.config.delay.saturating_sub(now.saturating_duration_since(first.since));
            if full || left.is_zero() || state.closed {
                return (group, None);
            }
            due = Some(due.map_or(left, |due| due.min(left)));
            seen.push(first);
        }
        (Vec::new(), due)
    }

    /// What goes into one run with the one at `first`, and whether nothing more fits: no more rows than the batch in which they cost least.
    fn joined(&self, state: &State, first: usize) -> (Vec<usize>, bool) {
        let (mut group, mut rows) = (vec![first], state.waiting[first].rows);
        let most = self.max_batch().min(state.waiting[first].version.servable.best_batch());
        for (i, other) in state.waiting.iter().enumerate().skip(first + 1) {
            if rows >= most {
                return (group, true);
            }
            if !state.waiting[first].goes_with(other) {
                continue;
            }
            if rows + other.rows > most {
                return (group, true);
            }
            rows += other.rows;
            group.push(i);
        }
        (group, rows >= most)
    }
}

/// Takes the elements with these ascending indices.
fn take(waiting: &mut VecDeque<Pending>, indices: &[usize]) -> Vec<Pending> {
    let mut taken: Vec<Pending> = indices.iter().rev().filter_map(|&i| waiting.remove(i)).collect();
    taken.reverse();
    taken
}

fn compute(mut group: Vec<Pending>, max_batch: usize) {
    if group.len() > 1 {
        match run_joined(&group, max_batch) {
            Ok(all) => {
                for (pending, outputs) in group.into_iter().zip(all) {
                    let _ = pending.reply.send(Ok(outputs));
                }
                return;
            }
            // One of them is to blame: each is computed alone, so that the others are not.
            Err(error) => tracing::debug!("a batch of {} requests failed, each is run alone: {error}", group.len()),
        }
    }
    for pending in group.drain(..) {
        let computed = run_rows(&pending.version, &pending.inputs, pending.rows, max_batch);
        let _ = pending.reply.send(computed);
    }
}

/// The outputs of each of several requests, from joint runs.
fn run_joined(group: &[Pending], max_batch: usize) -> Result<Vec<Vec<Tensor>>, RunError> {
    let first = &group[0];
    let inputs = (0..first.inputs.len()).map(|i| {
        let parts: Vec<&Tensor> = group.iter().map(|pending| &pending.inputs[i]).collect();
        Tensor::concat(&parts, 0).map_err(|e| fault(&e))
    });
    let rows = group.iter().map(|pending| pending.rows).sum();
    let outputs = run_rows(&first.version, &inputs.collect::<Result<Vec<_>, _>>()?, rows, max_batch)?;
    let mut begin = 0;
    let parts = group.iter().map(|pending| {
        let end = begin + pending.rows;
        let own = outputs.iter().map(|output| output.slice(0, begin, end).map_err(|e| fault(&e)));
        let own = own.collect::<Result<Vec<_>, _>>();
        begin = end;
        own
    });
    parts.collect()
}

/// Runs rows in batches that are ready; rows that depend on each other go in one run.
fn run_rows(version: &Version, inputs: &[Tensor], rows: usize, max_batch: usize) -> Computed {
    let model = &version.servable;
    if !model.has_independent_rows() || model.batches().contains(&rows) {
        return model.run(inputs);
    }
    model.check(inputs)?;
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    let mut begin = 0;
    while begin < rows {
        let ready = model.batches().iter().rev().find(|&&n| n <= max_batch && n <= rows - begin);
        let end = begin + ready.copied().unwrap_or(1);
        let part: Result<Vec<Tensor>, _> = inputs.iter().map(|input| input.slice(0, begin, end)).collect();
        let outputs = model.run(&part.map_err(|e| fault(&e))?)?;
        if outputs.iter().any(|output| output.rows() != end - begin) {
            return Err(fault(&"an output has another number of rows than the inputs"));
        }
        parts.push(outputs);
        begin = end;
    }
    let n_outputs = parts.first().map_or(0, Vec::len);
    let joined = (0..n_outputs).map(|i| Tensor::concat(&parts.iter().map(|part| &part[i]).collect::<Vec<_>>(), 0));
    joined.collect::<Result<_, _>>().map_err(|e| fault(&e))
}

fn fault(error: &dyn std::fmt::Display) -> RunError {
    RunError::Fault { reason: error.to_string() }
}
