//! Threads that work off orders.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use aimass_learning::Evaluation;
use aimass_protocol::CohortId;
use aimass_sim::fleet::Work;

use super::worker::{Lane, Worker};
use super::{Base, Lanes, Tools};

/// Rows of the held-out data that one order evaluates: the same parts for any number of threads, so that the loss's last bit is the same.
const ROWS_AN_ORDER: usize = 2560;

pub(super) enum Order {
    Contribute {
        work: Box<Work>,
        base: Arc<Base>,
    },
    Evaluate {
        base: Arc<Base>,
        from: usize,
        to: usize,
        place: usize,
    },
}

#[derive(Default)]
struct State {
    orders: VecDeque<Order>,
    /// Orders that are in the queue or at work.
    pending: usize,
    failures: BTreeMap<CohortId, Vec<(u32, String)>>,
    evaluations: BTreeMap<usize, Result<Evaluation, String>>,
    ends: bool,
}

struct Shared {
    tools: Arc<Tools>,
    state: Mutex<State>,
    changed: Condvar,
    /// Each worker's own sums.
    lanes: Vec<Mutex<BTreeMap<CohortId, Lane>>>,
}

pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(tools: &Arc<Tools>) -> Self {
        let threads = tools.threads.max(1);
        let shared = Arc::new(Shared {
            tools: Arc::clone(tools),
            state: Mutex::default(),
            changed: Condvar::new(),
            lanes: (0..threads).map(|_| Mutex::default()).collect(),
        });
        let workers = (0..threads).map(|place| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || work_off(&shared, place))
        });
        Self {
            workers: workers.collect(),
            shared,
        }
    }

    pub(super) fn contribute(&self, work: Work, base: Arc<Base>) {
        let work = Box::new(work);
        self.order(Order::Contribute { work, base });
    }

    fn order(&self, order: Order) {
        let mut state = lock(&self.shared.state);
        state.orders.push_back(order);
        state.pending += 1;
        drop(state);
        self.shared.changed.notify_all();
    }

    fn wait(&self) -> MutexGuard<'_, State> {
        let state = lock(&self.shared.state);
        let done = self.shared.changed.wait_while(state, |state| state.pending > 0);
        done.unwrap_or_else(PoisonError::into_inner)
    }

    /// The parts of a cohort's sum once all of it is added, and whose contribution came to nothing, in the order of clients.
    pub(super) fn collect(&self, cohort: CohortId) -> (Lanes, Vec<(u32, String)>) {
        let mut failures = self.wait().failures.remove(&cohort).unwrap_or_default();
        failures.sort();
        let (mut open, mut masked) = (Vec::new(), Vec::new());
        for lane in &self.shared.lanes {
            match lock(lane).remove(&cohort) {
                Some(Lane::Open(sum)) => open.push(sum),
                Some(Lane::Masked(sum)) => masked.push(sum),
                None => {}
            }
        }
        let lanes = if masked.is_empty() {
            Lanes::Open(open)
        } else {
            Lanes::Masked(masked)
        };
        (lanes, failures)
    }

    /// How good a model is on the held-out data; `None` where there is none.
    pub(super) fn evaluate(&self, base: &Arc<Base>) -> Result<Option<Evaluation>, String> {
        let Some(rows) = self.shared.tools.evaluation.as_ref().map(|data| data.len()) else {
            return Ok(None);
        };
        let parts = rows.div_ceil(ROWS_AN_ORDER);
        for place in 0..parts {
            let from = place * ROWS_AN_ORDER;
            self.order(Order::Evaluate {
                base: Arc::clone(base),
                from,
                to: rows.min(from + ROWS_AN_ORDER),
                place,
            });
        }
        let found = std::mem::take(&mut self.wait().evaluations);
        let (mut examples, mut loss, mut correct, mut has_accuracy) = (0u64, 0.0, 0.0, false);
        for found in found.into_values() {
            let found = found?;
            let n = found.examples as f64;
            examples += found.examples;
            loss += found.loss * n;
            if let Some(accuracy) = found.accuracy {
                has_accuracy = true;
                correct += (accuracy * n).round();
            }
        }
        let n = examples as f64;
        Ok(Some(Evaluation {
            loss: loss / n,
            accuracy: has_accuracy.then_some(correct / n),
            examples,
            heads: Vec::new(),
        }))
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.ends = true;
        state.pending -= state.orders.len();
        state.orders.clear();
        drop(state);
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so.
            let _ = worker.join();
        }
    }
}

fn work_off(shared: &Shared, place: usize) {
    let mut worker = Worker::new(&shared.tools);
    loop {
        let mut state = lock(&shared.state);
        let order = loop {
            if state.ends {
                return;
            }
            match state.orders.pop_front() {
                Some(order) => break order,
                None => state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(state);
        // A panic is a result too: else the fleet would wait for it for ever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match &order {
            Order::Contribute { work, base } => {
                let mut lanes = lock(&shared.lanes[place]);
                worker.contribute(work, base, &mut lanes).map(|()| None)
            }
            Order::Evaluate { base, from, to, .. } => worker.evaluate(base, *from, *to).map(Some),
        }));
        let result = result.unwrap_or_else(|_| Err("the computation panicked; please report this".to_owned()));
        let mut state = lock(&shared.state);
        match (order, result) {
            (Order::Contribute { work, .. }, Err(reason)) => state.failures.entry(work.cohort).or_default().push((work.client, reason)),
            (Order::Contribute { .. }, Ok(_)) => {}
            (Order::Evaluate { place, .. }, result) => {
                let found = result.and_then(|found| found.ok_or_else(|| "nothing was found".to_owned()));
                state.evaluations.insert(place, found);
            }
        }
        state.pending -= 1;
        let is_done = state.pending == 0;
        drop(state);
        if is_done {
            shared.changed.notify_all();
        }
    }
}
