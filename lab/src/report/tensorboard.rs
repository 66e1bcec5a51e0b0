//! Rounds as a TensorBoard event file: scalars by round.
//!
//! ```text
//! record: length, u64 LE | masked CRC-32C of these 8 bytes, u32 LE | an Event (protobuf) | masked CRC-32C of it, u32 LE
//! ```
//!
//! # Source
//! TensorFlow: `core/util/event.proto`, `core/framework/summary.proto`, `core/lib/io/record_writer.cc`; masking: `core/lib/hash/crc32c.h`.

use crate::record::RoundRow;

/// The event file's name; TensorBoard wants the part before the number.
pub const EVENTS_FILE: &str = "events.out.tfevents.1577836800.aimass";
/// Virtual time 0 is the start of 2020 (UTC): a clock would make other bytes of the same rows.
const BASE_SECONDS: f64 = 1_577_836_800.0;

/// A tag, and a row's value under it.
type Scalar = (&'static str, fn(&RoundRow) -> Option<f64>);

/// What is drawn. Wall times are left out, so that the same seed gives the same bytes.
const SCALARS: &[Scalar] = &[
    ("accuracy/test", |row| row.test_accuracy),
    ("accuracy/devices", |row| row.device_accuracy),
    ("loss/test", |row| row.test_loss),
    ("loss/train", |row| row.train_loss),
    ("time/virtual_seconds", |row| Some(row.virtual_seconds)),
    ("traffic/bytes_up", |row| Some(row.bytes_up as f64)),
    ("traffic/bytes_down", |row| Some(row.bytes_down as f64)),
    ("energy/joules", |row| Some(row.energy_j)),
    ("clients/contributions", |row| Some(row.contributions.into())),
    ("clients/members", |row| Some(row.members.into())),
    ("clients/dropped", |row| Some(row.dropped.into())),
    ("clients/clipped", |row| Some(row.clipped.into())),
    ("clients/mean_staleness", |row| Some(row.mean_staleness)),
];

/// The bytes of an event file. An event a round: its step is the round, its wall time the start of 2020 and the virtual seconds. Scalars are
/// single precision, as the format has them.
pub fn tensorboard(rows: &[RoundRow]) -> Vec<u8> {
    let mut version = Vec::new();
    double(&mut version, 1, BASE_SECONDS);
    bytes(&mut version, 3, b"brain.Event:2");
    let mut file = record(&version);
    for row in rows {
        let mut summary = Vec::new();
        for (tag, value) in SCALARS {
            let Some(value) = value(row).filter(|value| value.is_finite()) else {
                continue;
            };
            let mut entry = Vec::new();
            bytes(&mut entry, 1, tag.as_bytes());
            float(&mut entry, 2, value as f32);
            bytes(&mut summary, 1, &entry);
        }
        let mut event = Vec::new();
        double(&mut event, 1, BASE_SECONDS + row.virtual_seconds);
        varint(&mut event, 2 << 3);
        varint(&mut event, row.round.into());
        bytes(&mut event, 5, &summary);
        file.extend_from_slice(&record(&event));
    }
    file
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut bytes = length.to_vec();
    bytes.extend_from_slice(&masked_crc(&length).to_le_bytes());
    bytes.extend_from_slice(event);
    bytes.extend_from_slice(&masked_crc(event).to_le_bytes());
    bytes
}

fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn double(out: &mut Vec<u8>, field: u64, value: f64) {
    varint(out, field << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

fn float(out: &mut Vec<u8>, field: u64, value: f32) {
    varint(out, field << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}

fn bytes(out: &mut Vec<u8>, field: u64, value: &[u8]) {
    varint(out, field << 3 | 2);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    /// Read back by TensorBoard when it was made: `lab/testdata/README.md`.
    const GOLDEN: &[u8] = include_bytes!("../../testdata/events.out.tfevents.1577836800.aimass");

    #[test]
    fn the_bytes_are_those_that_tensorboard_read() {
        assert_eq!(hex::encode(tensorboard(&rows(5))), hex::encode(GOLDEN));
    }

    #[test]
    fn the_first_record_is_the_version() {
        // Length 24; RFC 3720's polynomial, rotated and offset.
        let file = tensorboard(&[]);
        assert_eq!(file.len(), 8 + 4 + 24 + 4);
        assert_eq!(&file[..8], &24u64.to_le_bytes());
        assert_eq!(&file[21..36], b"\x1a\x0dbrain.Event:2");
        // The check value of CRC-32C is that of "123456789": 0xe3069283.
        assert_eq!(masked_crc(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn wall_times_change_nothing() {
        let mut other = rows(5);
        other.iter_mut().for_each(|row| row.seconds *= 3.0);
        assert_eq!(tensorboard(&other), tensorboard(&rows(5)));
        other[0].virtual_seconds += 1.0;
        assert_ne!(tensorboard(&other), tensorboard(&rows(5)));
    }
}
