use super::super::tests::rows;
use super::*;

/// Read back by pyarrow when it was made: `lab/testdata/README.md`.
const GOLDEN: &[u8] = include_bytes!("../../../testdata/rounds.parquet");

#[test]
fn the_bytes_are_those_that_pyarrow_read() {
    let bytes = parquet(&rows(5));
    assert_eq!(hex::encode(&bytes), hex::encode(GOLDEN));
}

/// The values that are there, of one page that starts at `offset` and has no missing ones.
fn plain_values(file: &[u8], offset: usize, rows: usize, width: usize) -> &[u8] {
    // The header ends with the two zero bytes that end its two structs.
    let end = file[offset..]
        .windows(2)
        .position(|pair| pair == [0, 0])
        .expect("a header has an end")
        + offset
        + 2;
    &file[end..end + rows * width]
}

#[test]
fn long_tables_have_several_pages_and_every_row() {
    let many: Vec<RoundRow> = (1..=PAGE_ROWS as u32 + 3)
        .map(|round| RoundRow {
            round,
            ..RoundRow::default()
        })
        .collect();
    let bytes = parquet(&many);
    let second = parquet(&many[..PAGE_ROWS]);
    // Rounds are the first column, so its first page lies at the same place in both.
    assert_eq!(plain_values(&bytes, 4, PAGE_ROWS, 4), plain_values(&second, 4, PAGE_ROWS, 4));
    let first: Vec<u32> = plain_values(&bytes, 4, PAGE_ROWS, 4)
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect();
    assert_eq!(first, (1..=PAGE_ROWS as u32).collect::<Vec<_>>());
}

#[test]
fn a_table_without_rows_is_a_file_too() {
    let bytes = parquet(&[]);
    let footer = u32::from_le_bytes(bytes[bytes.len() - 8..bytes.len() - 4].try_into().expect("four bytes"));
    assert_eq!(bytes.len(), 4 + footer as usize + 8);
    assert!(bytes.starts_with(MAGIC) && bytes.ends_with(MAGIC));
}

#[test]
fn missing_values_are_runs_of_levels() {
    let mut levels = Vec::new();
    end_run(&mut levels, Some((true, 3)));
    end_run(&mut levels, Some((false, 100)));
    assert_eq!(levels, [6, 1, 0xc8, 0x01, 0]);
    // No finite number is missing too, as it is in JSON.
    let row = |accuracy| RoundRow {
        test_accuracy: accuracy,
        ..RoundRow::default()
    };
    assert_eq!(parquet(&[row(Some(f64::NAN))]), parquet(&[row(None)]));
}
