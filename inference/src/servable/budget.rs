//! Memory that models may take, all of a process together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes that may be taken, and how many are. Clones share them.
#[derive(Debug, Clone)]
pub struct MemoryBudget {
    cap: u64,
    used: Arc<AtomicU64>,
}

/// There is not so much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} more bytes do not fit: {used} of {cap} bytes are taken; raise the memory cap, or unload a model")]
pub struct OverBudget {
    /// Bytes asked for.
    pub wanted: u64,
    /// Bytes taken by then.
    pub used: u64,
    /// The cap.
    pub cap: u64,
}

impl MemoryBudget {
    /// A budget of `cap` bytes.
    pub fn new(cap: u64) -> Self {
        Self { cap, used: Arc::default() }
    }

    /// Without a limit.
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// The cap in bytes.
    pub fn cap(&self) -> u64 {
        self.cap
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes` until the reservation is dropped.
    ///
    /// # Errors
    /// [`OverBudget`]; nothing is taken then.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, OverBudget> {
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= self.cap);
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Reservation {
                budget: self.clone(),
                bytes,
            }),
            Err(used) => Err(OverBudget {
                wanted: bytes,
                used,
                cap: self.cap,
            }),
        }
    }
}

/// Bytes of a budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    bytes: u64,
}

impl Reservation {
    /// How many.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_take_no_more_than_the_cap_and_give_back() {
        let budget = MemoryBudget::new(100);
        let first = budget.reserve(60).expect("there is room");
        assert_eq!(
            budget.reserve(41).err(),
            Some(OverBudget {
                wanted: 41,
                used: 60,
                cap: 100
            })
        );
        let second = budget.clone().reserve(40).expect("just fits");
        assert_eq!((budget.used(), second.bytes()), (100, 40));
        drop(first);
        assert_eq!(budget.used(), 40);
        assert!(MemoryBudget::unlimited().reserve(u64::MAX).is_ok());
        assert!(budget.reserve(u64::MAX).is_err(), "no sum overflows");
    }
}
