//! What several tests need.

use aimass_crypto::sign::{Context, SigningKey};
use aimass_protocol::bundle::TrustedOwner;
use aimass_protocol::codec::encode;
use aimass_protocol::job::{JobFile, SignedJob};
use aimass_protocol::message::agent::Task;
use aimass_protocol::{Digest, Nonce, PublicKeyBytes, SignatureBytes, TenantId, Timestamp};
use rand_core::SeedableRng as _;
use serde_bytes::ByteBuf;

use crate::verify::job_id;

/// A job file that every check passes.
pub(crate) const JOB_FILE: &str = r#"
[job]
name = "digits"
kind = "train"
seed = 7
purpose = "recognise digits"

[model]
path = "model.onnx"

[data]
contract = "default"
target = "label"

[train]
loss = "cross_entropy"
optimizer = "sgd"
lr = 0.1
epochs = 1
batch = 10

[strategy]
name = "fedavg"

[round]
rounds = 3
min = 2
target = 2
max = 5
max_time = "60s"

[aggregation]
mode = "plain"
floor = 2

[update]
codec = "fixed"
bits = 16
clip = 10.0
weight_cap = 1000
"#;

/// [`JOB_FILE`], parsed.
pub(crate) fn job_file() -> JobFile {
    JobFile::parse(JOB_FILE).expect("a good job file")
}

/// A key that is the same every time.
pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::generate(&mut rand_chacha::ChaCha20Rng::from_seed([seed; 32]))
}

/// The bytes of a job of the default tenant.
pub(crate) fn signed_job(job_file: &str) -> Vec<u8> {
    let job = SignedJob {
        tenant: TenantId::default(),
        job_file: ByteBuf::from(job_file.as_bytes()),
        model: Digest::from_bytes([1; 32]),
        evaluation: None,
        signed_at: Timestamp::from_ms(1),
        nonce: Nonce::from_bytes([0; Nonce::LEN]),
    };
    encode(&job).expect("encodes")
}

/// A task for a job that `owner` signs.
pub(crate) fn task_of(owner: &SigningKey, signed_job: Vec<u8>) -> Task {
    let signature = owner.sign(Context::Job, &signed_job);
    Task {
        job: job_id(&signed_job),
        signed_job: ByteBuf::from(signed_job),
        owner: PublicKeyBytes::from_bytes(*owner.public().as_bytes()),
        signature: SignatureBytes::from_bytes(signature),
        round: 1,
        base: Digest::from_bytes([1; 32]),
        base_bytes: 10,
        finish_within_ms: None,
        log: None,
    }
}

/// `owner` as a trust bundle names it.
pub(crate) fn owner_entry(owner: &SigningKey) -> TrustedOwner {
    TrustedOwner {
        tenant: TenantId::default(),
        name: "lab".to_owned(),
        public_key: PublicKeyBytes::from_bytes(*owner.public().as_bytes()),
    }
}
