//! Ids, jobs and generators for tests.

use std::sync::Arc;
use std::time::Duration;

use aimass_crypto::sign::SigningKey;
use aimass_protocol::descriptor::{CodecName, CodecParams, MaskSuite, Profile};
use aimass_protocol::job::{
    AggregationMode, AggregationSection, AttachedFile, DataSection, EvaluateSection, FusionSection, JobFile, JobKind, JobSection,
    ModelSection, RoundMode, RoundSection, StrategyName, StrategySection, TrainSection,
};
use aimass_protocol::message::agent::{Capabilities, CheckIn};
use aimass_protocol::{AgentId, CohortId, ContributionId, Digest, JobId, TenantId, Timestamp};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

use crate::agent::Identity;
use crate::coordinator::JobSpec;

/// An agent whose certificate nobody looks at.
pub(crate) fn identity() -> Identity {
    Identity {
        key: Arc::new(SigningKey::generate(&mut rng(1))),
        certificate: vec![1],
        roots: Vec::new(),
        tenant: TenantId::default(),
    }
}

pub(crate) fn agent(n: u8) -> AgentId {
    AgentId::from_bytes([n; 16])
}

pub(crate) fn job(n: u8) -> JobId {
    JobId::from_bytes([n; 16])
}

pub(crate) fn cohort(n: u8) -> CohortId {
    CohortId::from_bytes([n; 16])
}

pub(crate) fn contribution(n: u8) -> ContributionId {
    ContributionId::from_bytes([n; 16])
}

pub(crate) fn model(n: u8) -> Digest {
    Digest::from_bytes([n; 32])
}

pub(crate) fn at_s(seconds: u64) -> Timestamp {
    Timestamp::from_ms(seconds * 1000)
}

pub(crate) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// 3 rounds, of 2 to 4 contributions, at once with 3, after 60 s at the latest.
pub(crate) fn job_file(name: &str) -> JobFile {
    JobFile {
        job: JobSection {
            name: name.to_owned(),
            kind: JobKind::Train,
            seed: 1,
            purpose: "research".to_owned(),
            priority: 50,
            tags: Vec::new(),
            device_classes: Vec::new(),
            require: None,
            deadline: None,
        },
        model: ModelSection {
            path: "model.onnx".to_owned(),
            trainable: Vec::new(),
        },
        data: DataSection {
            contract: "digits".to_owned(),
            inputs: Vec::new(),
            target: "label".to_owned(),
        },
        train: TrainSection {
            batch: 10,
            ..TrainSection::sgd(0.1)
        },
        strategy: StrategySection {
            name: StrategyName::FedAvg,
            server_lr: 1.0,
            fusion: None,
        },
        round: RoundSection {
            mode: RoundMode::Sync,
            rounds: 3,
            min: 2,
            target: 3,
            max: 4,
            max_time: Duration::from_secs(60),
            max_staleness: 0,
        },
        aggregation: AggregationSection {
            mode: AggregationMode::Plain,
            floor: 2,
            profile: Profile::Standard,
            suite: MaskSuite::Aes256Ctr,
        },
        update: CodecParams {
            codec: CodecName::Fixed,
            bits: 16,
            clip: 1.0,
            weight_cap: 100,
        },
        evaluate: Some(EvaluateSection {
            data: Some("test.csv".to_owned()),
            on_devices: None,
            target_accuracy: Some(0.9),
        }),
        compress: None,
        analyze: None,
        release: None,
        calibration: None,
    }
}

/// The job's rounds are fused in pairs.
pub(crate) fn fusing(file: &mut JobFile) {
    file.round.rounds = 4;
    file.strategy.name = StrategyName::FedDf;
    file.strategy.fusion = Some(FusionSection {
        groups: 2,
        temperature: 1.0,
        lr: 0.001,
        epochs: 1,
        batch: None,
        data: AttachedFile {
            path: "public.csv".to_owned(),
            pinned: None,
        },
    });
}

/// Job `n`, new, with model 100.
pub(crate) fn job_spec(n: u8) -> JobSpec {
    JobSpec {
        id: job(n),
        file: job_file(&format!("job {n}")),
        next_round: 1,
        base: model(100),
        base_bytes: 1000,
        accuracy: None,
        earlier: Vec::new(),
        recent: Vec::new(),
        open: None,
        ended: None,
    }
}

pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        agent_version: "0.1.0".to_owned(),
        cores: 2,
        tags: vec!["eu".to_owned()],
        ..Capabilities::default()
    }
}

pub(crate) fn check_in() -> CheckIn {
    CheckIn {
        capabilities: capabilities(),
        contracts: vec!["digits".to_owned()],
        declined: Vec::new(),
        held: Vec::new(),
        spent: Vec::new(),
        log_size: 0,
    }
}
