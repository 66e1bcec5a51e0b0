//! Rows for the tests of all formats, and the files that other programs read once.

use crate::record::RoundRow;

/// Rows with every field in use: the first has no accuracy, and there are no figures of devices after the second.
pub(super) fn rows(n: u32) -> Vec<RoundRow> {
    (1..=n)
        .map(|round| {
            let at = f64::from(round);
            RoundRow {
                round,
                test_accuracy: (round > 1).then(|| 1.0 - 0.75 / at),
                test_loss: Some(2.5 / at),
                train_loss: Some(2.25 / at),
                device_accuracy: (round <= 2).then_some(0.5),
                seconds: 0.125 * at,
                virtual_seconds: 90.5 * at,
                bytes_up: 6_653_480 * u64::from(round % 3 + 1),
                bytes_down: u64::from(u32::MAX) * u64::from(round),
                energy_j: 12.25,
                contributions: 10 - round % 2,
                members: 10,
                dropped: round % 2,
                clipped: round % 4,
                mean_staleness: 0.5 * f64::from(round % 3),
                model: hex::encode(aimass_crypto::hash::sha256(&round.to_le_bytes())),
            }
        })
        .collect()
}

/// Writes the golden files anew, for a person who then reads them with the programs that `lab/testdata/README.md` names.
#[test]
#[ignore = "writes the golden files"]
fn write_golden_files() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    std::fs::create_dir_all(&folder).expect("a folder");
    let rows = rows(5);
    std::fs::write(folder.join("rounds.parquet"), super::parquet(&rows)).expect("written");
    std::fs::write(folder.join(super::EVENTS_FILE), super::tensorboard(&rows)).expect("written");
    std::fs::write(folder.join("rounds.csv"), super::csv(&rows)).expect("written");
}
