//! Training whose result is known: unit vectors.

use aimass_compression::{ClientUpdate, ContributionError, EncodeError, FixedCodec, FixedParams, PlanError};
use aimass_crypto::hash::sha256;
use aimass_edge_agent::work::lay;
use aimass_federation::agent::Masks;
use aimass_onnx::{Model, ParamLayout};
use aimass_protocol::descriptor::{CodecName, Descriptor};
use aimass_protocol::job::JobFile;
use aimass_protocol::{ContributionId, Digest};
use aimass_recipe::Recipe;
use anyhow::{Result, ensure};
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng as _;

/// How far a count may be from a whole number before the sum is called spoiled.
const BLUR: f64 = 0.2;

/// What it knows of a job.
#[derive(Debug, Clone)]
pub struct Oracle {
    layout: ParamLayout,
    layout_digest: Digest,
}

/// An update that can't be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OracleError {
    /// The cohort's codec.
    #[error("the cohort's codec: {0}")]
    Plan(#[from] PlanError),
    /// The values.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The masks.
    #[error("the cohort's masks: {0}")]
    Mask(#[from] ContributionError),
    /// The cohort is secure and there are no masks, or the other way round.
    #[error("the cohort's mode does not go with the masks that there are")]
    Mode,
    /// The cohort is of another kind of job.
    #[error("the cohort sums what agents count, and there are no updates in that")]
    NoUpdates,
}

impl Oracle {
    /// For a job on this model, with `agents` agents.
    ///
    /// # Errors
    /// When the model does not fit the job file, or has fewer weights than there are agents.
    pub fn new(model: &Model, job_file: &JobFile, agents: usize) -> Result<Self> {
        let layout = Recipe::of(model, job_file)?.layout;
        ensure!(
            layout.n_weights() >= agents,
            "{} weights are too few for {agents} agents",
            layout.n_weights()
        );
        Ok(Self {
            layout_digest: Digest::from_bytes(sha256(&layout.canonical_bytes())),
            layout,
        })
    }

    /// What descriptors must say of the layout.
    pub fn layout_digest(&self) -> Digest {
        self.layout_digest
    }

    /// The update of agent `index` for a cohort, packed: the `index`-th unit vector, under `masks` where the cohort is secure. The same bytes each
    /// time.
    ///
    /// # Errors
    /// [`OracleError`].
    pub fn update(
        &self,
        index: usize,
        contribution: ContributionId,
        descriptor: &Descriptor,
        masks: Option<&Masks>,
    ) -> Result<Bytes, OracleError> {
        if masks.is_some() != descriptor.secagg.is_some() {
            return Err(OracleError::Mode);
        }
        if descriptor.codec.codec != CodecName::Fixed {
            return Err(OracleError::NoUpdates);
        }
        let codec = FixedCodec::new(FixedParams {
            n_weights: self.layout.n_weights(),
            bits: descriptor.codec.bits,
            clip: descriptor.codec.clip,
            weight_cap: descriptor.codec.weight_cap,
            weight_scale: 1,
            members: descriptor.members,
            evaluation: false,
            rotation: descriptor.rotation.map(|seed| *seed.as_bytes()),
        })?;
        let mut delta = vec![0.0; self.layout.n_weights()];
        if let Some(own) = delta.get_mut(index) {
            *own = 1.0;
        }
        let update = ClientUpdate {
            delta: &delta,
            examples: descriptor.codec.weight_cap.into(),
            staleness: 0,
            train_loss: 0.5,
            evaluation: None,
        };
        let mut seed = [0; 32];
        seed[..ContributionId::LEN].copy_from_slice(contribution.as_bytes());
        let mut encoded = codec.encode(update, &mut ChaCha8Rng::from_seed(seed))?;
        if let Some(masks) = masks {
            lay(codec.plan(), &mut encoded.packed, masks)?;
        }
        Ok(encoded.packed.into())
    }

    /// How often each of the first `agents` agents was counted in the step from `base` to `next`, the mean of `contributions` updates.
    ///
    /// # Errors
    /// When these are not models of the job, or a count is no whole number.
    pub fn counts(&self, base: &[u8], next: &[u8], contributions: u32, agents: usize) -> Result<Vec<u32>> {
        let weights = |bytes: &[u8]| -> Result<Vec<f32>> { Ok(Model::from_bytes(bytes)?.weights(&self.layout)?) };
        let (base, next) = (weights(base)?, weights(next)?);
        let mut counts = Vec::with_capacity(agents);
        for (index, (b, n)) in base.iter().zip(&next).enumerate() {
            let count = (f64::from(*n) - f64::from(*b)) * f64::from(contributions);
            let whole = count.round();
            ensure!(
                (count - whole).abs() < BLUR && whole >= 0.0 && (index < agents || whole == 0.0),
                "weight {index} moved by {count} contributions"
            );
            if index < agents {
                counts.push(whole as u32);
            }
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use aimass_compression::Accumulator;
    use aimass_protocol::descriptor::CodecParams;
    use aimass_protocol::job::AggregationMode;
    use aimass_protocol::{CohortId, JobId, TenantId, Timestamp};

    use super::*;
    use crate::rig::{JobTerms, small_model};

    const AGENTS: usize = 5;

    fn oracle(model: &Model) -> Oracle {
        let file = JobFile::parse(&JobTerms::default().job_file()).expect("a job file");
        Oracle::new(model, &file, AGENTS).expect("fits")
    }

    fn descriptor(oracle: &Oracle) -> Descriptor {
        Descriptor {
            version: Descriptor::VERSION,
            tenant: TenantId::default(),
            job: JobId::from_bytes([1; 16]),
            round: 1,
            cohort: CohortId::from_bytes([1; 16]),
            bases: vec![Digest::from_bytes([1; 32])],
            layout_digest: oracle.layout_digest(),
            codec: CodecParams {
                codec: CodecName::Fixed,
                bits: 24,
                clip: 1.0,
                weight_cap: 1,
            },
            mode: AggregationMode::Plain,
            members: 8,
            floor: 1,
            deadline: Timestamp::from_ms(u64::MAX),
            rotation: None,
            log: None,
            secagg: None,
        }
    }

    /// The model that the sum of these agents' updates makes.
    fn published(model: &Model, oracle: &Oracle, agents: &[usize]) -> Vec<u8> {
        let descriptor = descriptor(oracle);
        let codec = FixedCodec::new(FixedParams {
            n_weights: oracle.layout.n_weights(),
            bits: 24,
            clip: 1.0,
            weight_cap: 1,
            weight_scale: 1,
            members: descriptor.members,
            evaluation: false,
            rotation: None,
        })
        .expect("a plan");
        let mut sum = Accumulator::new(codec.plan());
        for (n, &index) in agents.iter().enumerate() {
            let id = ContributionId::from_bytes([n as u8; 16]);
            sum.add(&oracle.update(index, id, &descriptor, None).expect("encodes"))
                .expect("a good update");
        }
        let mean = sum.decode(&codec).expect("decodes").mean_delta;
        let weights: Vec<f32> = model.weights(&oracle.layout).expect("weights");
        let stepped: Vec<f32> = weights.iter().zip(&mean).map(|(w, d)| w + d).collect();
        model.with_weights(&oracle.layout, &stepped).expect("a model").as_bytes().to_vec()
    }

    #[test]
    fn a_model_shows_who_was_counted_and_how_often() {
        let model = small_model(20);
        let oracle = oracle(&model);
        let counts = |agents: &[usize]| {
            let next = published(&model, &oracle, agents);
            oracle
                .counts(model.as_bytes(), &next, agents.len() as u32, AGENTS)
                .expect("whole numbers")
        };
        assert_eq!(counts(&[0, 1, 2, 3, 4]), [1, 1, 1, 1, 1]);
        assert_eq!(counts(&[0, 2, 4]), [1, 0, 1, 0, 1]);
        assert_eq!(counts(&[0, 2, 2]), [1, 0, 2, 0, 0], "counted twice");
    }

    #[test]
    fn a_spoiled_sum_and_a_wrong_number_of_contributions_show() {
        let model = small_model(20);
        let oracle = oracle(&model);
        let next = published(&model, &oracle, &[0, 1, 2]);
        oracle
            .counts(model.as_bytes(), &next, 4, AGENTS)
            .expect_err("thirds are no quarters");
        oracle
            .counts(model.as_bytes(), &next, 3, 2)
            .expect_err("the third is nobody of these two");
    }

    #[test]
    fn an_update_is_the_same_each_time() {
        let model = small_model(20);
        let oracle = oracle(&model);
        let id = ContributionId::from_bytes([7; 16]);
        let make = || oracle.update(3, id, &descriptor(&oracle), None).expect("encodes");
        assert_eq!(make(), make());
    }
}
