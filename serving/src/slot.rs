//! A named model: the version in service, and others beside it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use aimass_inference::Servable;

/// A loaded version. Whoever computes with it holds it: it is freed after the last request that began with it.
#[derive(Debug)]
pub struct Version {
    /// The model's name.
    pub model: String,
    /// The version's name.
    pub version: String,
    /// The model itself.
    pub servable: Servable,
}

#[derive(Debug)]
struct Versions {
    /// Answers requests that name no version.
    current: Arc<Version>,
    beside: BTreeMap<String, Arc<Version>>,
}

/// The versions of a model. The one in service is exchanged in one step: a request sees the old one or the new one, never none.
#[derive(Debug)]
pub struct ModelSlot {
    versions: RwLock<Versions>,
    /// Held while a version is loaded, so that swaps of one model follow each other.
    pub(crate) changing: Mutex<()>,
}

impl ModelSlot {
    /// A slot with its first version.
    pub fn new(first: Arc<Version>) -> Self {
        Self {
            versions: RwLock::new(Versions {
                current: first,
                beside: BTreeMap::new(),
            }),
            changing: Mutex::default(),
        }
    }

    /// The version in service.
    pub fn current(&self) -> Arc<Version> {
        Arc::clone(&self.read().current)
    }

    /// A version by name.
    pub fn version(&self, version: &str) -> Option<Arc<Version>> {
        let versions = self.read();
        if versions.current.version == version {
            return Some(Arc::clone(&versions.current));
        }
        versions.beside.get(version).cloned()
    }

    /// Names of all versions, the one in service first.
    pub fn names(&self) -> Vec<String> {
        let versions = self.read();
        let beside = versions.beside.keys().cloned();
        std::iter::once(versions.current.version.clone()).chain(beside).collect()
    }

    /// Puts `next` into service and returns the version that was: requests under way finish on it.
    pub fn swap(&self, next: Arc<Version>) -> Arc<Version> {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        versions.beside.remove(&next.version);
        std::mem::replace(&mut versions.current, next)
    }

    /// Adds a version beside the one in service.
    pub(crate) fn add(&self, version: Arc<Version>) {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        versions.beside.insert(version.version.clone(), version);
    }

    /// Takes a version that is not in service away.
    pub(crate) fn remove(&self, version: &str) -> Option<Arc<Version>> {
        let mut versions = self.versions.write().unwrap_or_else(PoisonError::into_inner);
        versions.beside.remove(version)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Versions> {
        self.versions.read().unwrap_or_else(PoisonError::into_inner)
    }
}
