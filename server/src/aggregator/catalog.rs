//! The registry of models in memory: which version of which model is served by whom, and what follows from a stage of a release. Nothing here touches the
//! disk: a change is made, stored by whoever asked for it, and then applied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{PoisonError, RwLock};

use aimass_analytics::release::{Decision, ReleaseReport};
use aimass_protocol::job::{ReleaseSection, VariantSection};
use aimass_protocol::message::agent::Serving;
use aimass_protocol::{AgentId, Digest, JobId, PublicKeyBytes};

use crate::store::{ModelRecord, RegistryChange, VariantRecord, VersionRecord, VersionState};

/// What is served.
pub(crate) const CHAMPION: &str = "champion";
/// What is measured.
pub(crate) const CANDIDATE: &str = "candidate";

/// An order that can't be followed. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CatalogError {
    /// No such model.
    #[error("the registry has no model {model:?}: `aimass registry list` shows those that it has")]
    Model {
        /// What was asked for.
        model: String,
    },
    /// No such version.
    #[error("the model {model} has no version {version}; the newest is {latest}")]
    Version {
        /// The model.
        model: String,
        /// What was asked for.
        version: u32,
        /// Its newest.
        latest: u32,
    },
    /// No such release.
    #[error("no release is job {job}: `aimass registry list` shows the models and their releases")]
    Release {
        /// What was asked for.
        job: JobId,
    },
    /// An alias that no one has.
    #[error("{alias:?} is no alias: use 1 to 64 of a-z, A-Z, 0-9, '-', '_' and '.'")]
    Alias {
        /// What was asked for.
        alias: String,
    },
    /// It was never promoted, or is no champion any more.
    #[error("version {version} of {model} is {state}, so there is nothing to roll back")]
    Settled {
        /// The model.
        model: String,
        /// The version.
        version: u32,
        /// How far it is.
        state: &'static str,
    },
    /// What a release compares itself with is not served any more.
    #[error(
        "release.champion is {named}, and the champion of {model} is version {version} with other files: the release was made for another champion; \
         sign it again with `aimass release submit`"
    )]
    OtherChampion {
        /// The model.
        model: String,
        /// By the release.
        named: Digest,
        /// That is served.
        version: u32,
    },
}

#[derive(Debug, Default)]
struct State {
    models: BTreeMap<String, ModelRecord>,
    versions: BTreeMap<(String, u32), VersionRecord>,
    by_release: BTreeMap<JobId, (String, u32)>,
    /// Who measured a release in the stages that held: they serve it while it is measured on.
    exposed: BTreeMap<JobId, BTreeSet<AgentId>>,
}

/// The registry.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    state: RwLock<State>,
}

/// A model with all its versions, the newest first.
pub(crate) type Shown = (ModelRecord, Vec<VersionRecord>);

impl Catalog {
    /// Of what is stored.
    pub(crate) fn of((models, versions): (Vec<ModelRecord>, Vec<VersionRecord>)) -> Self {
        let catalog = Self::default();
        for model in models {
            let versions = versions.iter().filter(|version| version.model == model.model).cloned().collect();
            catalog.apply(RegistryChange { model, versions });
        }
        catalog
    }

    /// Takes over what is stored by now.
    pub(crate) fn apply(&self, change: RegistryChange) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        for version in change.versions {
            let key = (version.model.clone(), version.version);
            if version.state != VersionState::Measuring {
                state.exposed.remove(&version.release);
            }
            state.by_release.insert(version.release, key.clone());
            state.versions.insert(key, version);
        }
        state.models.insert(change.model.model.clone(), change.model);
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes who measured a release in a stage that held.
    pub(crate) fn expose(&self, release: JobId, agents: impl IntoIterator<Item = AgentId>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let key = state.by_release.get(&release).cloned();
        let measuring = key
            .and_then(|key| state.versions.get(&key))
            .is_some_and(|v| v.state == VersionState::Measuring);
        if measuring {
            state.exposed.entry(release).or_default().extend(agents);
        }
    }

    /// A release that ended before its last stage is served by nobody any more.
    pub(crate) fn conceal(&self, release: JobId) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).exposed.remove(&release);
    }

    /// A new release becomes the next version of its model and its candidate; `None` where it is one already.
    pub(crate) fn registered(
        &self,
        job: JobId,
        owner: PublicKeyBytes,
        report: Digest,
        release: &ReleaseSection,
        now_ms: u64,
    ) -> Option<RegistryChange> {
        self.read(|state| {
            if state.by_release.contains_key(&job) {
                return None;
            }
            let mut model = state.models.get(&release.model).cloned().unwrap_or_else(|| ModelRecord {
                model: release.model.clone(),
                aliases: BTreeMap::new(),
                latest: 0,
            });
            model.latest += 1;
            model.aliases.insert(CANDIDATE.to_owned(), model.latest);
            let version = VersionRecord {
                model: release.model.clone(),
                version: model.latest,
                release: job,
                owner,
                state: VersionState::Measuring,
                round: 0,
                rounds: u32::try_from(release.stages.len()).unwrap_or(u32::MAX),
                report,
                reasons: Vec::new(),
                variants: release.variants.iter().map(variant).collect(),
                champion_before: None,
                submitted_at_ms: now_ms,
                decided_at_ms: None,
            };
            Some(RegistryChange {
                model,
                versions: vec![version],
            })
        })
    }

    /// Refuses a release that compares itself with what is not the champion.
    ///
    /// # Errors
    /// [`CatalogError::OtherChampion`].
    pub(crate) fn check_champion(&self, release: &ReleaseSection) -> Result<(), CatalogError> {
        let Some(named) = release.champion.as_ref().map(|champion| champion.digest) else {
            return Ok(());
        };
        self.read(|state| {
            let version = state.models.get(&release.model).and_then(|model| model.aliases.get(CHAMPION));
            let champion = version.and_then(|version| state.versions.get(&(release.model.clone(), *version)));
            match champion {
                Some(champion) if champion.variants.iter().all(|variant| variant.digest != named) => Err(CatalogError::OtherChampion {
                    model: release.model.clone(),
                    named,
                    version: champion.version,
                }),
                _ => Ok(()),
            }
        })
    }

    /// What follows from a stage: figures, state and aliases.
    pub(crate) fn measured(&self, job: JobId, report: &ReleaseReport, digest: Digest, now_ms: u64) -> Option<RegistryChange> {
        self.read(|state| {
            let key = state.by_release.get(&job)?;
            let (mut model, mut version) = (state.models.get(&key.0)?.clone(), state.versions.get(key)?.clone());
            if version.state != VersionState::Measuring {
                return None;
            }
            version.round = report.round;
            version.report = digest;
            for (variant, found) in version.variants.iter_mut().zip(&report.variants) {
                if found.devices > 0 {
                    variant.measured = Some(found.clone());
                }
            }
            match report.decision {
                Decision::Started | Decision::NextStage => {}
                Decision::Measured => version.state = VersionState::Measured,
                Decision::Promoted => {
                    version.state = VersionState::Promoted;
                    version.champion_before = model.aliases.insert(CHAMPION.to_owned(), version.version);
                    forget_alias(&mut model, CANDIDATE, version.version);
                }
                Decision::RolledBack => {
                    version.state = VersionState::RolledBack;
                    version.reasons = report.broken.iter().map(ToString::to_string).collect();
                    forget_alias(&mut model, CANDIDATE, version.version);
                }
            }
            version.decided_at_ms = (version.state != VersionState::Measuring).then_some(now_ms);
            Some(RegistryChange {
                model,
                versions: vec![version],
            })
        })
    }

    /// What follows from an operator's order to take a release back: a champion gives way to the one before it.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub(crate) fn rolled_back(&self, job: JobId, now_ms: u64) -> Result<RegistryChange, CatalogError> {
        self.read(|state| {
            let found = state
                .by_release
                .get(&job)
                .and_then(|key| Some((state.models.get(&key.0)?, state.versions.get(key)?)));
            let (model, version) = found.ok_or(CatalogError::Release { job })?;
            let (mut model, mut version) = (model.clone(), version.clone());
            let is_champion = model.aliases.get(CHAMPION) == Some(&version.version);
            if version.state != VersionState::Measuring && !is_champion {
                return Err(CatalogError::Settled {
                    model: version.model.clone(),
                    version: version.version,
                    state: state_name(version.state),
                });
            }
            if is_champion {
                match version.champion_before {
                    Some(before) => model.aliases.insert(CHAMPION.to_owned(), before),
                    None => model.aliases.remove(CHAMPION),
                };
            }
            forget_alias(&mut model, CANDIDATE, version.version);
            version.state = VersionState::RolledBack;
            version.reasons = vec!["the operator took it back".to_owned()];
            version.decided_at_ms = Some(now_ms);
            Ok(RegistryChange {
                model,
                versions: vec![version],
            })
        })
    }

    /// What follows from an operator's order to set an alias, or to remove it.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub(crate) fn aliased(&self, model: &str, alias: &str, version: Option<u32>) -> Result<RegistryChange, CatalogError> {
        if !aimass_protocol::is_label(alias) {
            return Err(CatalogError::Alias { alias: alias.to_owned() });
        }
        self.read(|state| {
            let unknown = || CatalogError::Model { model: model.to_owned() };
            let mut model = state.models.get(model).ok_or_else(unknown)?.clone();
            match version {
                None => {
                    model.aliases.remove(alias);
                }
                Some(version) if state.versions.contains_key(&(model.model.clone(), version)) => {
                    model.aliases.insert(alias.to_owned(), version);
                }
                Some(version) => {
                    return Err(CatalogError::Version {
                        latest: model.latest,
                        model: model.model,
                        version,
                    });
                }
            }
            Ok(RegistryChange {
                model,
                versions: Vec::new(),
            })
        })
    }

    /// The release that an agent is to serve and has not: of one model, the first of them.
    pub(crate) fn assigned(&self, agent: AgentId, have: &[Serving]) -> Option<JobId> {
        self.read(|state| {
            let of = |model: &ModelRecord| {
                let tried = model
                    .aliases
                    .get(CANDIDATE)
                    .and_then(|version| state.versions.get(&(model.model.clone(), *version)));
                let tried = tried.filter(|v| state.exposed.get(&v.release).is_some_and(|agents| agents.contains(&agent)));
                let served = || state.versions.get(&(model.model.clone(), *model.aliases.get(CHAMPION)?));
                Some((model.model.clone(), tried.or_else(served)?.release))
            };
            let wanted = state.models.values().filter_map(of);
            let has = |(model, release): &(String, JobId)| have.iter().any(|have| have.model == *model && have.release == *release);
            wanted.into_iter().find(|wanted| !has(wanted)).map(|(_, release)| release)
        })
    }

    /// The version that a release is.
    pub(crate) fn version_of(&self, release: JobId) -> Option<VersionRecord> {
        self.read(|state| state.versions.get(state.by_release.get(&release)?).cloned())
    }

    /// All models, by name.
    pub(crate) fn all(&self) -> Vec<Shown> {
        self.read(|state| state.models.values().map(|model| shown(state, model)).collect())
    }

    /// One of them.
    ///
    /// # Errors
    /// [`CatalogError::Model`].
    pub(crate) fn one(&self, model: &str) -> Result<Shown, CatalogError> {
        let unknown = || CatalogError::Model { model: model.to_owned() };
        self.read(|state| Ok(shown(state, state.models.get(model).ok_or_else(unknown)?)))
    }
}

fn shown(state: &State, model: &ModelRecord) -> Shown {
    let versions = state.versions.range((model.model.clone(), 0)..=(model.model.clone(), u32::MAX));
    (model.clone(), versions.rev().map(|(_, version)| version.clone()).collect())
}

fn forget_alias(model: &mut ModelRecord, alias: &str, version: u32) {
    if model.aliases.get(alias) == Some(&version) {
        model.aliases.remove(alias);
    }
}

/// As in JSON.
fn state_name(state: VersionState) -> &'static str {
    match state {
        VersionState::Measuring => "measuring",
        VersionState::Promoted => "promoted",
        VersionState::Measured => "measured",
        VersionState::RolledBack => "rolled back",
    }
}

fn variant(variant: &VariantSection) -> VariantRecord {
    VariantRecord {
        name: variant.name.clone(),
        digest: variant.digest,
        size_bytes: variant.size_bytes,
        device_classes: variant.fits.device_classes.clone(),
        memory_mib: variant.fits.memory_mib,
        cores: variant.fits.cores,
        gpu: variant.fits.gpu,
        recipe: variant.recipe.clone(),
        parent: variant.parent,
        origin: None,
        claimed_accuracy: variant.measured.accuracy,
        claimed_latency_us: variant.measured.latency_us,
        claimed_memory_mib: variant.measured.memory_mib,
        measured: None,
    }
}

#[cfg(test)]
mod tests;
