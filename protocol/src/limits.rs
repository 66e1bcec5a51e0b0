//! Every bound that a peer's bytes are held to before they are allocated, parsed or trusted.

/// Longest control message (CBOR) in bytes.
pub const MAX_CONTROL_BYTES: usize = 256 * 1024;
/// Size of every chunk of a blob but the last, in bytes.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Largest blob (a model or an update) in bytes: its manifest still fits a control message.
pub const MAX_BLOB_BYTES: u64 = 1 << 30;
/// Most chunks of a blob; also the largest chunk index to go on from, which then means "nothing is missing".
pub const MAX_CHUNKS: u32 = 4096;
/// Longest job file in bytes.
pub const MAX_JOB_FILE_BYTES: usize = 64 * 1024;
/// Most columns or globs that a job file lists.
pub const MAX_COLUMNS: usize = 4096;
/// Longest name of a column, path or glob in a job file, in bytes.
pub const MAX_COLUMN_BYTES: usize = 256;
/// Most features that an analytics job counts.
pub const MAX_ANALYZE_FEATURES: u32 = 4096;
/// Most bins or classes of a feature.
pub const MAX_ANALYZE_BINS: u32 = 4096;
/// Most numbers that an agent counts for an analytics job.
pub const MAX_ANALYZE_VALUES: u64 = 1 << 18;
/// Most tensors that a calibration job looks at.
pub const MAX_CALIBRATION_TENSORS: usize = 256;
/// Bins of a tensor's histogram in a calibration job.
pub const CALIBRATION_BINS: usize = 2048;
/// Smallest and largest exponent of 2 of a tensor's range in a calibration job: every float32 is within the largest.
pub const CALIBRATION_EXPONENTS: (i32, i32) = (-24, 128);
/// Longest report of an analytics or calibration job in bytes: one with that many features or tensors and numbers, and the longest names, is shorter.
pub const MAX_REPORT_BYTES: u64 = 16 << 20;
/// Most variants of a release.
pub const MAX_RELEASE_VARIANTS: usize = 16;
/// Most stages of a release.
pub const MAX_RELEASE_STAGES: usize = 16;
/// Most rows of a release's self-test.
pub const MAX_SELF_TEST_ROWS: u32 = 16;
/// Most outputs of a release's self-test, of one variant.
pub const MAX_SELF_TEST_VALUES: usize = 1024;
/// Most models that an agent serves.
pub const MAX_SERVED: usize = 64;
/// Longest requirement of a job file on devices, in bytes.
pub const MAX_REQUIREMENT_BYTES: usize = 512;
/// Deepest nesting of a requirement.
pub const MAX_REQUIREMENT_DEPTH: usize = 16;
/// Longest time that a round may take, in seconds: seven days.
pub const MAX_ROUND_SECONDS: u64 = 7 * 24 * 3600;
/// Longest encoding of a signed job in bytes: the job file and what stands around it.
pub const MAX_SIGNED_JOB_BYTES: usize = MAX_JOB_FILE_BYTES + 1024;
/// Longest encoding of a cohort descriptor in bytes.
pub const MAX_DESCRIPTOR_BYTES: usize = 4 * 1024;
/// Longest text of an error that travels, in bytes.
pub const MAX_ERROR_TEXT_BYTES: usize = 1024;
/// Most tags of an agent or a job.
pub const MAX_TAGS: usize = 32;
/// Longest tag, label, contract, name or version text in bytes.
pub const MAX_TAG_BYTES: usize = 64;
/// Most data contracts that an agent offers.
pub const MAX_DATA_OFFERS: usize = 32;
/// Most jobs that an agent declines at a check-in.
pub const MAX_DECLINED: usize = 1024;
/// Most contributions that an agent holds at a check-in.
pub const MAX_HELD: usize = 64;
/// Most models that an agent will not train from again, at a check-in.
pub const MAX_SPENT: usize = 256;
/// Longest time that an agent is sent away for, in milliseconds: seven days.
pub const MAX_COME_BACK_MS: u64 = 7 * 24 * 3600 * 1000;
/// Most base models that a cohort permits.
pub const MAX_BASES: usize = 32;
/// Most steps that a contribution's base may be behind the current model: with it a cohort permits [`MAX_BASES`].
pub const MAX_STALENESS: u32 = 31;
/// Longest time that a task leaves for training, in milliseconds: as long as a round may take.
pub const MAX_FINISH_WITHIN_MS: u64 = MAX_ROUND_SECONDS * 1000;
/// Longest time that agents are asked to spread their reconnects over, in milliseconds: an hour.
pub const MAX_SPREAD_MS: u64 = 3600 * 1000;
/// Most agents of a cohort.
pub const MAX_MEMBERS: u32 = 65_536;
/// Fewest agents of a cohort with masks: of two, each would learn the other's.
pub const MIN_SECURE_MEMBERS: usize = 3;
/// Most agents of a cohort with masks.
pub const MAX_SECURE_MEMBERS: usize = 1024;
/// Most neighbours of an agent in a cohort with masks: their adverts, certificates of ordinary length included, fit a control message.
pub const MAX_NEIGHBOURS: usize = 300;
/// Fewest bits of a rounded value.
pub const MIN_CODEC_BITS: u8 = 2;
/// Most bits of a rounded value: with [`MAX_MEMBERS`] of them a sum still fits 63 bits.
pub const MAX_CODEC_BITS: u8 = 32;
/// Most draws of a cohort's graph.
pub const MAX_DRAWS: u8 = 3;
/// Most entries of a log: a proof within it takes at most [`MAX_PROOF_HASHES`].
pub const MAX_LOG_SIZE: u64 = 1 << 62;
/// Longest encoding of a log entry in bytes.
pub const MAX_LOG_ENTRY_BYTES: usize = 1024;
/// Longest log checkpoint in bytes, with the signatures of witnesses.
pub const MAX_CHECKPOINT_BYTES: usize = 4 * 1024;
/// Most hashes of a proof of inclusion or consistency.
pub const MAX_PROOF_HASHES: usize = 64;
/// Most owner keys in a trust bundle.
pub const MAX_BUNDLE_ENTRIES: usize = 64;
/// Most roots in a trust bundle.
pub const MAX_BUNDLE_ROOTS: usize = 16;
/// Most signatures under a trust bundle: by its own roots and by those of the bundle before.
pub const MAX_BUNDLE_SIGNATURES: usize = 2 * MAX_BUNDLE_ROOTS;
/// Longest encoding of a signed trust bundle in bytes.
pub const MAX_BUNDLE_BYTES: usize = 128 * 1024;
/// Longest certificate or certificate signing request (DER) in bytes.
pub const MAX_CERTIFICATE_BYTES: usize = 4 * 1024;
/// Longest `host:port` in bytes: a DNS name, a colon and five digits.
pub const MAX_ADDRESS_BYTES: usize = 253 + 6;
/// Longest join token in characters.
pub const MAX_TOKEN_CHARS: usize = 2 * 1024;

const _: () = assert!(MAX_CHUNKS as u64 * CHUNK_BYTES as u64 == MAX_BLOB_BYTES);
// A manifest of the most chunks (34 bytes each in CBOR), and the largest bundle with a certificate, fit a control message.
const _: () = assert!(MAX_CHUNKS as usize * 34 + 1024 < MAX_CONTROL_BYTES);
const _: () = assert!(
    MAX_BUNDLE_ROOTS * (MAX_CERTIFICATE_BYTES + 3) + MAX_BUNDLE_ENTRIES * 256 + MAX_BUNDLE_SIGNATURES * 128 + 1024 < MAX_BUNDLE_BYTES
);
const _: () = assert!(MAX_BUNDLE_BYTES + MAX_CERTIFICATE_BYTES + 1024 < MAX_CONTROL_BYTES);
