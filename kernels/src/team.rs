//! Threads that work on one operation together.
//!
//! Who owns a [`Team`] hands it to kernels, which cut their work into parts that write to different places. Every value is computed by one
//! thread, in the order of operations that one thread alone would take: so results don't depend on the number of threads, nor on which
//! of them does what. A team of one has no threads besides the one that calls.

use std::cell::{Cell, UnsafeCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Fewest operations of a part, as a product counts them (two for a product and a sum). The example `team_rates` measures what handing over
/// takes: 0.2 microseconds where the others look for work (two threads, a quiet machine), in which a core does some 30,000 operations of a
/// product. A part is nine times that, because the caches of the other core have to be filled too.
pub const FEWEST_OPERATIONS: usize = 1 << 18;

/// Operations that pass in the time in which a value is read from a cache, changed, and written: for work that is no product.
pub const OPERATIONS_OF_A_VALUE: usize = 32;

/// How often a thread looks for work before it sleeps: a fraction of a millisecond together. Waking it takes some 100 microseconds.
const SPINS: usize = 4000;

/// See the module.
pub struct Team {
    /// None where there are no others.
    shared: Option<Arc<Shared>>,
    others: Vec<JoinHandle<()>>,
    /// Fewest operations of a part.
    fewest: usize,
    /// Whether it is at work: what a part starts runs alone. It also keeps teams from being shared between threads.
    busy: Cell<bool>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads()).finish_non_exhaustive()
    }
}

impl Default for Team {
    fn default() -> Self {
        Self::alone()
    }
}

impl Team {
    /// Of the thread that calls alone.
    pub fn alone() -> Self {
        Self {
            shared: None,
            others: Vec::new(),
            fewest: FEWEST_OPERATIONS,
            busy: Cell::new(false),
        }
    }

    /// Of `threads` threads, that which calls among them; of fewer where the system gives no more.
    pub fn new(threads: usize) -> Self {
        if threads < 2 {
            return Self::alone();
        }
        let shared = Arc::new(Shared::default());
        let spawn = |i: usize| {
            let shared = shared.clone();
            let builder = std::thread::Builder::new().name(format!("team-{i}"));
            builder.spawn(move || shared.serve()).ok()
        };
        let others: Vec<_> = (1..threads.min(MOST)).map_while(spawn).collect();
        Self {
            shared: Some(shared).filter(|_| !others.is_empty()),
            others,
            fewest: FEWEST_OPERATIONS,
            busy: Cell::new(false),
        }
    }

    /// With parts of so many operations and more, in place of [`FEWEST_OPERATIONS`]: to test and to measure.
    pub fn cutting_from(mut self, operations: usize) -> Self {
        self.fewest = operations;
        self
    }

    /// Threads, that which calls among them.
    pub fn threads(&self) -> usize {
        self.others.len() + 1
    }

    /// Into how many parts to cut work of so many operations: one a thread, but no more than `most`, and none of fewer operations than
    /// [`FEWEST_OPERATIONS`].
    pub fn parts(&self, operations: usize, most: usize) -> usize {
        let worth = operations.checked_div(self.fewest).unwrap_or(usize::MAX);
        worth.min(self.threads()).min(most).max(1)
    }

    /// The same for work on so many values that is no product.
    pub fn parts_of_values(&self, values: usize, most: usize) -> usize {
        self.parts(values.saturating_mul(OPERATIONS_OF_A_VALUE), most)
    }

    /// Calls `work` with every number below `parts`, each once, on any thread, and returns when all calls have.
    ///
    /// # Panics
    /// Where a call does, when all have returned.
    pub fn run(&self, parts: usize, work: impl Fn(usize) + Sync) {
        let shared = match &self.shared {
            Some(shared) if parts > 1 && !self.busy.get() => shared,
            _ => return (0..parts).for_each(work),
        };
        for first in (0..parts).step_by(MOST - 1) {
            self.together(shared, (parts - first).min(MOST - 1), |i| work(first + i));
        }
    }

    fn together(&self, shared: &Shared, parts: usize, work: impl Fn(usize) + Sync) {
        self.busy.set(true);
        let job: &(dyn Fn(usize) + Sync) = &work;
        // SAFETY: only the lifetime changes. Who has claimed a part reads the job, nobody can claim one once all are, and this function
        // returns only when all that were claimed have ended.
        let job: &'static (dyn Fn(usize) + Sync) = unsafe { std::mem::transmute(job) };
        shared.open(parts, job);
        let mine = catch_unwind(AssertUnwindSafe(|| while shared.work() {}));
        shared.close(parts);
        self.busy.set(false);
        let panicked = shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = mine {
            resume_unwind(panic);
        }
        assert!(!panicked, "a part of an operation panicked");
    }

    /// Calls `work` with every item, each once, on any thread, and returns when all calls have.
    pub fn each<T: Send>(&self, items: impl IntoIterator<Item = T>, work: impl Fn(T) + Sync) {
        if self.shared.is_none() || self.busy.get() {
            return items.into_iter().for_each(work);
        }
        let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        self.run(items.len(), |i| {
            let item = items[i].lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(item) = item {
                work(item);
            }
        });
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        let Some(shared) = &self.shared else { return };
        shared.stop.store(true, Ordering::SeqCst);
        shared.wake();
        for other in self.others.drain(..) {
            // Parts' panics are caught: there is nothing to learn here.
            drop(other.join());
        }
    }
}

/// More parts than a ticket counts.
const MOST: usize = 1 << 16;

type Job = &'static (dyn Fn(usize) + Sync);

/// What the threads of a team have in common.
#[derive(Default)]
struct Shared {
    /// Number of the job (32 bits), its next part that nobody has claimed, and its parts (16 bits each).
    ticket: AtomicU64,
    /// Parts that have ended.
    ended: AtomicUsize,
    job: UnsafeCell<Option<Job>>,
    panicked: AtomicBool,
    stop: AtomicBool,
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    bell: Condvar,
}

// SAFETY: `job` is written where no part is claimed, by the one thread that owns the team, and read by those alone that have claimed a part
// behind that; all else is made to be shared. The job itself is `Sync`.
unsafe impl Sync for Shared {}

fn left(ticket: u64) -> bool {
    (ticket >> 16) & 0xffff < ticket & 0xffff
}

impl Shared {
    /// All parts of the job before have ended.
    fn open(&self, parts: usize, job: Job) {
        // SAFETY: nobody has a claim: all parts of the job before were claimed, and have ended.
        unsafe { *self.job.get() = Some(job) };
        self.ended.store(0, Ordering::Relaxed);
        let number = (self.ticket.load(Ordering::Relaxed) >> 32).wrapping_add(1);
        self.ticket.store(number << 32 | parts as u64, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        // Who is about to sleep holds the lock from its last look on.
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }

    /// Waits until `parts` parts have ended; claims those that nobody has, as when the one that claims has panicked.
    fn close(&self, parts: usize) {
        loop {
            let ticket = self.ticket.load(Ordering::Acquire);
            if !left(ticket) {
                break;
            }
            let all = (ticket & !0xffff_0000) | (ticket & 0xffff) << 16;
            if self
                .ticket
                .compare_exchange(ticket, all, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                self.ended.fetch_add(parts - (ticket >> 16 & 0xffff) as usize, Ordering::AcqRel);
            }
        }
        let mut spins = 0;
        while self.ended.load(Ordering::Acquire) < parts {
            spins += 1;
            if spins < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// Claims a part and does it; false where there is none.
    fn work(&self) -> bool {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        while left(ticket) {
            match self
                .ticket
                .compare_exchange_weak(ticket, ticket + (1 << 16), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    let part = (ticket >> 16 & 0xffff) as usize;
                    let mut end = End { shared: self, well: false };
                    // SAFETY: a part is claimed, so the job is there, and nobody writes until this part has ended.
                    if let Some(job) = unsafe { *self.job.get() } {
                        job(part);
                    }
                    end.well = true;
                    return true;
                }
                Err(now) => ticket = now,
            }
        }
        false
    }

    /// What a thread of the team does until there is no team.
    fn serve(&self) {
        while !self.stop.load(Ordering::Acquire) {
            let mut spins = 0;
            while spins < SPINS && !left(self.ticket.load(Ordering::Relaxed)) && !self.stop.load(Ordering::Relaxed) {
                std::hint::spin_loop();
                spins += 1;
            }
            if spins == SPINS {
                self.sleep();
            }
            // That a part panicked is on record.
            drop(catch_unwind(AssertUnwindSafe(|| self.work())));
        }
    }

    fn sleep(&self) {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        while !left(self.ticket.load(Ordering::SeqCst)) && !self.stop.load(Ordering::SeqCst) {
            guard = self.bell.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The end of a part: counted in any case, or who waits would wait for ever; behind what else is to be known of it.
struct End<'a> {
    shared: &'a Shared,
    well: bool,
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if !self.well {
            self.shared.panicked.store(true, Ordering::Relaxed);
        }
        self.shared.ended.fetch_add(1, Ordering::AcqRel);
    }
}

/// `n` things in at most `parts` parts as even as can be, which begin at multiples of `unit`; none is empty.
pub fn ranges(n: usize, parts: usize, unit: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let units = n.div_ceil(unit.max(1));
    let at = move |i: usize| (units * i / parts.max(1) * unit).min(n);
    (0..parts.max(1)).map(move |i| at(i)..at(i + 1)).filter(|range| !range.is_empty())
}

/// Takes the first `n` of a slice that is cut up.
pub fn cut<'a, T>(from: &mut &'a mut [T], n: usize) -> &'a mut [T] {
    let (first, rest) = std::mem::take(from).split_at_mut(n);
    *from = rest;
    first
}

/// What parts of one operation write to, each at places of its own.
pub(crate) struct Apart<T>(T);

// SAFETY: who makes one says that parts write to different places, and to none that another reads.
unsafe impl<T> Sync for Apart<T> {}

impl<T: Copy> Apart<T> {
    /// # Safety
    /// Parts write to different places, and to none that another reads.
    pub(crate) unsafe fn new(value: T) -> Self {
        Self(value)
    }

    pub(crate) fn get(&self) -> T {
        self.0
    }
}

#[cfg(test)]
mod tests;
