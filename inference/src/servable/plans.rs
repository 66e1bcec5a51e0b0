//! Plans by shapes, kept for later runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ready::Ready;

/// Shapes of all inputs.
pub(super) type Shapes = Vec<Vec<usize>>;

type ByShapes = Vec<(Shapes, Arc<Ready>)>;

#[derive(Default)]
struct Kept {
    /// Made when the model was loaded: they stay.
    first: ByShapes,
    /// The most recently used first.
    later: ByShapes,
}

/// See the module.
#[derive(Default)]
pub(super) struct Plans(Mutex<Kept>);

impl Plans {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These stay, in place of those that stayed before.
    pub(super) fn keep(&self, plans: ByShapes) {
        self.lock().first = plans;
    }

    /// One stays, and no other.
    pub(super) fn replace_first(&self, shapes: &Shapes, plan: Arc<Ready>) {
        self.keep(vec![(shapes.clone(), plan)]);
        self.forget_later();
    }

    /// Forgets those that came later; whether there were any.
    pub(super) fn forget_later(&self) -> bool {
        !std::mem::take(&mut self.lock().later).is_empty()
    }

    /// Forgets the least recently used ones, so that one more makes `most` at most.
    pub(super) fn make_room(&self, most: usize) {
        self.lock().later.truncate(most.max(1) - 1);
    }

    pub(super) fn add(&self, shapes: &Shapes, plan: Arc<Ready>) {
        self.lock().later.insert(0, (shapes.clone(), plan));
    }

    pub(super) fn known(&self, shapes: &Shapes) -> Option<Arc<Ready>> {
        let mut plans = self.lock();
        if let Some((_, plan)) = plans.first.iter().find(|(known, _)| known == shapes) {
            return Some(Arc::clone(plan));
        }
        let at = plans.later.iter().position(|(known, _)| known == shapes)?;
        let found = plans.later.remove(at);
        let plan = Arc::clone(&found.1);
        plans.later.insert(0, found);
        Some(plan)
    }

    /// Rows of those that came later, the most recently used first.
    #[cfg(test)]
    pub(super) fn later_rows(&self) -> Vec<usize> {
        self.lock().later.iter().map(|(shapes, _)| shapes[0][0]).collect()
    }
}
