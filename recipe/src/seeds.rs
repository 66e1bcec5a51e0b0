//! What a job draws by chance without a secret: seeds that follow from the job, the model and the data, never from an identity or the order of arrival.
//! So the same agents with the same data make the same model, on devices as in a simulator.

use aimass_crypto::hash::{Sha256, sha256};
use aimass_learning::DataError;
use aimass_learning::data::{Source, split};
use aimass_protocol::Digest;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

/// SHA-256 of the data.
///
/// # Errors
/// [`DataError`] where it has to be read from a file and can't be.
pub fn fingerprint(data: &dyn Source) -> Result<[u8; 32], DataError> {
    let mut hash = Sha256::new();
    data.fingerprint(&mut |bytes| hash.update(bytes))?;
    Ok(hash.finish())
}

/// Of the order of the rows and of dropout, where data with this fingerprint is trained on from `base`.
pub fn of_training(job_seed: u64, base: Digest, fingerprint: &[u8; 32]) -> [u8; 32] {
    derive("aimass/train", job_seed, base, fingerprint)
}

/// Of the stochastic rounding of what that training gave.
pub fn of_rounding(job_seed: u64, base: Digest, fingerprint: &[u8; 32]) -> [u8; 32] {
    derive("aimass/round", job_seed, base, fingerprint)
}

fn derive(purpose: &str, job_seed: u64, base: Digest, fingerprint: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(purpose.as_bytes());
    hash.update(&job_seed.to_le_bytes());
    hash.update(base.as_bytes());
    hash.update(fingerprint);
    hash.finish()
}

/// Of the rotation that the updates of a cohort go through whose step is taken from `base`. It is no secret: a plain and a secure run of one job make the
/// same models.
pub fn of_rotation(job_seed: u64, base: Digest) -> [u8; 32] {
    sha256(&[&b"aimass rotation v1"[..], &job_seed.to_le_bytes(), base.as_bytes()].concat())
}

/// The rows that an agent holds back and those that it trains on, as ascending indices into its data: `(held back, trained on)`. `share` of the `rows`
/// (above 0, up to 0.5), rounded, and one at least, are held back; of fewer than 2 rows none.
///
/// Which ones follows from the job's seed and the data's fingerprint, not from a model: they are the same in every round.
pub fn held_back_rows(rows: usize, share: f32, job_seed: u64, fingerprint: &[u8; 32]) -> (Vec<usize>, Vec<usize>) {
    if rows < 2 {
        return (Vec::new(), (0..rows).collect());
    }
    let mut seed = Sha256::new();
    seed.update(b"aimass/held-back");
    seed.update(&job_seed.to_le_bytes());
    seed.update(fingerprint);
    let one_row = 1.0 / rows as f64;
    let mut rng = ChaCha20Rng::from_seed(seed.finish());
    let (mut held_back, mut rest) = split(rows, f64::from(share).max(one_row), &mut rng);
    // Data that is read from a file is read in its order.
    held_back.sort_unstable();
    rest.sort_unstable();
    (held_back, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: [u8; 32] = [3; 32];

    #[test]
    fn each_row_is_held_back_or_trained_on() {
        for (rows, share, expected) in [
            (0, 0.5, 0),
            (1, 0.5, 0),
            (2, 0.01, 1),
            (2, 0.5, 1),
            (3, 0.5, 2),
            (10, 0.2, 2),
            (101, 0.25, 25),
            (1000, 0.0001, 1),
        ] {
            let (held_back, rest) = held_back_rows(rows, share, 7, &DATA);
            assert_eq!(held_back.len(), expected, "{share} of {rows}");
            assert!(held_back.is_sorted() && rest.is_sorted());
            let mut all = [held_back, rest].concat();
            all.sort_unstable();
            assert_eq!(all, (0..rows).collect::<Vec<_>>(), "{share} of {rows}");
        }
    }

    #[test]
    fn the_rows_are_the_same_for_the_same_job_and_data_and_others_for_others() {
        let rows = |seed, data: u8| held_back_rows(200, 0.2, seed, &[data; 32]).0;
        assert_eq!(rows(7, 3), rows(7, 3));
        assert_ne!(rows(7, 3), rows(8, 3));
        assert_ne!(rows(7, 3), rows(7, 4));
        // Computed apart from this code. A change would train on rows that were held back before.
        assert_eq!(held_back_rows(12, 0.25, 7, &DATA).0, [2, 5, 8]);
    }

    #[test]
    fn each_purpose_base_and_data_has_a_seed_of_its_own() {
        let base = |n: u8| Digest::from_bytes([n; 32]);
        let seeds = [
            of_training(1, base(1), &DATA),
            of_rounding(1, base(1), &DATA),
            of_rotation(1, base(1)),
            of_training(2, base(1), &DATA),
            of_training(1, base(2), &DATA),
            of_training(1, base(1), &[4; 32]),
        ];
        for (i, seed) in seeds.iter().enumerate() {
            assert!(!seeds[i + 1..].contains(seed), "{i}");
        }
    }
}
