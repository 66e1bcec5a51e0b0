//! Groups' averages, where the strategy fuses them: each is kept with its round, and the last of a block makes the next model of all of them.
//!
//! Nothing else is kept of a fusion: a server that was killed meanwhile finds the sealed sum, makes the same average again, and fuses to the same bytes.

use std::num::NonZeroUsize;

use aimass_onnx::Model;
use aimass_recipe::fusion::{Group, fuse};
use axum::body::Bytes;

use super::publish::{Made, PublishError};
use crate::aggregator::job::{Job, Training};
use crate::aggregator::parity;
use crate::aggregator::service::Shared;

/// The average of an earlier round of the block.
pub(super) struct Average {
    model: Bytes,
    weight: u64,
}

/// The averages of the rounds before `round` that are fused with its own; none where it is not the last of its block.
///
/// # Errors
/// [`PublishError`].
pub(super) async fn earlier(shared: &Shared, job: &Job, round: u32) -> Result<Vec<Average>, PublishError> {
    let groups = job.file.rounds_a_model();
    if groups < 2 || job.file.keeps_its_base(round) {
        return Ok(Vec::new());
    }
    let (store, id) = (shared.store.clone(), job.id);
    let records = tokio::task::spawn_blocking(move || store.rounds(id)).await??;
    let mut averages = Vec::new();
    for wanted in round.saturating_sub(groups - 1)..round {
        let record = records.iter().find(|record| record.round == wanted);
        let found = record.and_then(|record| Some((record.group?, record.weight)));
        let (digest, weight) = found.ok_or(PublishError::Group { round: wanted })?;
        let model = shared.blobs.read(digest).await?;
        averages.push(Average { model, weight });
    }
    Ok(averages)
}

/// What the round publishes: its agents' average; or where averages are fused, the base again, or what they become together.
///
/// # Errors
/// [`PublishError`].
pub(super) fn fused(
    made: Made,
    average: Model,
    base: Bytes,
    (job, round): (&Job, u32),
    training: &Training,
    earlier: &[Average],
) -> Result<Made, PublishError> {
    let Some(rows) = training.public.as_deref() else {
        return measured(made, &average, training);
    };
    let group = Some(average.bytes());
    if job.file.keeps_its_base(round) {
        return Ok(Made {
            model: base,
            group,
            ..made
        });
    }
    let layout = &training.layout;
    let others: Vec<(Vec<f32>, u64)> = earlier
        .iter()
        .map(|other| Ok((Model::from_shared(other.model.clone())?.weights(layout)?, other.weight)))
        .collect::<Result<_, PublishError>>()?;
    let own = average.weights(layout)?;
    let groups: Vec<Group<'_>> = others
        .iter()
        .map(|(weights, examples)| (weights, *examples))
        .chain([(&own, made.weight)])
        .map(|(weights, examples)| Group { weights, examples })
        .collect();
    let began = std::time::Instant::now();
    let digest = aimass_protocol::Digest::from_bytes(aimass_crypto::hash::sha256(&base));
    let base = Model::from_shared(base)?;
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let weights = fuse((&base, digest), layout, &groups, rows, &job.file, threads)?;
    tracing::info!(job = %job.id, round, groups = groups.len(), seconds = began.elapsed().as_secs_f64(), "groups are fused");
    let made = Made { group, ..made };
    measured(made, &base.with_weights(layout, &weights)?, training)
}

fn measured(made: Made, model: &Model, training: &Training) -> Result<Made, PublishError> {
    let (found, compared) = std::thread::scope(|scope| {
        let compared = scope.spawn(|| parity::of_round(model, training.held_out()));
        (training.measure(model), compared.join().unwrap_or_default())
    });
    let found = found?;
    Ok(Made {
        model: model.bytes(),
        compared,
        accuracy: found.as_ref().and_then(|found| found.accuracy),
        loss: found.map(|found| found.loss),
        ..made
    })
}
