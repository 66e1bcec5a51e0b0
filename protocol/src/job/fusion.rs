//! `[strategy] name = "feddf"`: groups' averages are fused by what they answer together.

use super::attached::{self, AttachedFile};
use super::distil::check_losses;
use super::file::JobFileError;
use super::reader::Section;
use super::train::HeadSection;

/// Fewest groups: of one the average is all there is.
const MIN_GROUPS: u32 = 2;
/// Most groups, each of which is a round and a model in memory.
const MAX_GROUPS: u32 = 64;
/// `strategy.groups` where the job says nothing.
const DEFAULT_GROUPS: u32 = 2;
/// `strategy.temperature` where the job says nothing: the paper divides by nothing.
const DEFAULT_TEMPERATURE: f32 = 1.0;
/// `strategy.lr` where the job says nothing, as in the paper (Adam).
const DEFAULT_LR: f32 = 1e-3;
/// Most passes over the data.
const MAX_EPOCHS: u32 = 1000;

/// Ensemble distillation (Lin et al. 2020, "Ensemble Distillation for Robust Model Fusion in Federated Learning", algorithm 1) over the averages of groups.
#[derive(Debug, Clone, PartialEq)]
pub struct FusionSection {
    /// Rounds that train from one and the same model, each with agents of its own: their averages are what is fused.
    pub groups: u32,
    /// What logits are divided by, above 0.
    pub temperature: f32,
    /// Learning rate of the fusion (Adam, along half a cosine to 0).
    pub lr: f32,
    /// Passes over `data` in each fusion, at least 1.
    pub epochs: u32,
    /// Rows a step; `None`: as many as agents use.
    pub batch: Option<u32>,
    /// Public data, which need not have targets. It is the server's alone.
    pub data: AttachedFile,
}

/// Keys that are of this strategy alone.
pub(super) const KEYS: &[&str] = &["groups", "temperature", "lr", "epochs", "batch", "data", "digest", "size_bytes"];

/// Reads what belongs to the strategy; `rounds` are those of the job.
pub(super) fn read(section: &Section<'_, '_>, rounds: u32, heads: &[HeadSection]) -> Result<FusionSection, JobFileError> {
    check_losses(section, "name", heads)?;
    if section.has("server_lr") {
        let fix = "remove it: the fused model starts from the mean of the groups' averages";
        return Err(section.refuse("server_lr", "is of strategies that add a mean to a model", fix));
    }
    let groups = section.integer32("groups", MIN_GROUPS, MAX_GROUPS, Some(DEFAULT_GROUPS), "2")?;
    if !rounds.is_multiple_of(groups) {
        let fix = format!(
            "use a multiple of {groups} rounds, for instance {}",
            rounds.next_multiple_of(groups)
        );
        let problem = format!("{groups} groups do not divide round.rounds = {rounds}: the last of them would never be fused");
        return Err(section.refuse("groups", problem, fix));
    }
    Ok(FusionSection {
        groups,
        temperature: section.positive("temperature", Some(DEFAULT_TEMPERATURE), "1.0")?,
        lr: section.positive("lr", Some(DEFAULT_LR), "0.001")?,
        epochs: section.integer32("epochs", 1, MAX_EPOCHS, Some(1), "1")?,
        batch: section
            .has("batch")
            .then(|| section.integer32("batch", 1, 1 << 20, None, "64"))
            .transpose()?,
        data: attached::read(section, "data", "\"public.csv\"")?,
    })
}
