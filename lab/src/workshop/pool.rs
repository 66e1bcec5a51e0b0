//! Threads that work off orders.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use aimass_compression::OpenSum;
use aimass_learning::Evaluation;
use aimass_onnx::Model;
use aimass_protocol::CohortId;
use aimass_sim::fleet::Work;

use super::worker::{Lane, Sums, Worker};
use super::{Base, Lanes, Tools};

/// Rows of the held-out data that one order evaluates: the same parts for any number of threads, so that the loss's last bit is the same.
const ROWS_AN_ORDER: usize = 2560;
/// Most contributions of clients that train nothing which one worker adds at once.
const IDLE_AT_ONCE: usize = 8;

pub(super) enum Order {
    Contribute {
        work: Box<Work>,
        base: Arc<Base>,
    },
    Evaluate {
        model: Box<Model>,
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
    /// Sums that are not needed any more: their memory is.
    spare: Mutex<Vec<OpenSum>>,
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
            spare: Mutex::default(),
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
        // Only this thread gives orders and waits for results, so that a worker hears it.
        self.shared.changed.notify_one();
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

    /// The memory of sums that were collected, for those to come.
    pub(super) fn give_back(&self, lanes: Lanes) {
        if let Lanes::Open(mut sums) = lanes {
            let mut spare = lock(&self.shared.spare);
            sums.truncate(self.shared.lanes.len().saturating_sub(spare.len()));
            spare.append(&mut sums);
        }
    }

    /// Begins to find out how good a model is on the held-out data, if there is any.
    pub(super) fn evaluate(&self, model: &Model) {
        let rows = self.shared.tools.evaluation.as_ref().map_or(0, |data| data.len());
        for place in 0..rows.div_ceil(ROWS_AN_ORDER) {
            let from = place * ROWS_AN_ORDER;
            self.order(Order::Evaluate {
                model: Box::new(model.clone()),
                from,
                to: rows.min(from + ROWS_AN_ORDER),
                place,
            });
        }
    }

    /// What was found; `None` where nothing was looked for.
    pub(super) fn evaluated(&self) -> Result<Option<Evaluation>, String> {
        let found = std::mem::take(&mut self.wait().evaluations);
        if found.is_empty() {
            return Ok(None);
        }
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
        let more = more_of(&order, &mut state, shared);
        drop(state);
        // A panic is a result too: else the fleet would wait for it for ever.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match &order {
            Order::Contribute { work, base } => {
                let mut lanes = lock(&shared.lanes[place]);
                let mut sums = Sums {
                    lanes: &mut lanes,
                    spare: &shared.spare,
                };
                let done = if is_idle(work, shared) {
                    worker.contribute_nothing(work, &more, &mut sums)
                } else {
                    worker.contribute(work, base, &mut sums)
                };
                done.map(|()| None)
            }
            Order::Evaluate { model, from, to, .. } => worker.evaluate(model, *from, *to).map(Some),
        }));
        let result = result.unwrap_or_else(|_| Err("the computation panicked; please report this".to_owned()));
        let mut state = lock(&shared.state);
        match (order, result) {
            (Order::Contribute { work, .. }, Err(reason)) => {
                let clients = std::iter::once(&work).chain(&more).map(|work| (work.client, reason.clone()));
                state.failures.entry(work.cohort).or_default().extend(clients);
            }
            (Order::Contribute { .. }, Ok(_)) => {}
            (Order::Evaluate { place, .. }, result) => {
                let found = result.and_then(|found| found.ok_or_else(|| "nothing was found".to_owned()));
                state.evaluations.insert(place, found);
            }
        }
        state.pending -= 1 + more.len();
        let is_done = state.pending == 0;
        drop(state);
        if is_done {
            shared.changed.notify_all();
        }
    }
}

/// Whether a client's contribution is zeros without masks: such are added together.
fn is_idle(work: &Work, shared: &Shared) -> bool {
    shared.tools.no_train && work.masks.is_none()
}

/// The orders that are done together with this one, which leave the queue: as many that other workers find some too.
#[expect(clippy::vec_box, reason = "they were boxed when they came")]
fn more_of(order: &Order, state: &mut State, shared: &Shared) -> Vec<Box<Work>> {
    let mut more = Vec::new();
    let Order::Contribute { work: first, .. } = order else {
        return more;
    };
    if !is_idle(first, shared) {
        return more;
    }
    let most = (state.orders.len() / (2 * shared.lanes.len())).min(IDLE_AT_ONCE - 1);
    let is_alike = |order: &Order| matches!(order, Order::Contribute { work, .. } if work.cohort == first.cohort && is_idle(work, shared));
    while more.len() < most && state.orders.front().is_some_and(is_alike) {
        if let Some(Order::Contribute { work, .. }) = state.orders.pop_front() {
            more.push(work);
        }
    }
    more
}
