//! The columns of a table of rounds: the fields of [`RoundRow`] in their order.

use crate::record::RoundRow;

/// One field of a row.
pub(crate) enum Cell<'a> {
    U32(u32),
    U64(u64),
    F64(f64),
    /// May be missing.
    Optional(Option<f64>),
    Text(&'a str),
}

pub(crate) struct Column {
    pub(crate) name: &'static str,
    pub(crate) cell: fn(&RoundRow) -> Cell<'_>,
}

macro_rules! columns {
    ($($name:ident: $kind:ident),* $(,)?) => {
        &[$(Column { name: stringify!($name), cell: |row| Cell::$kind(columns!(@ row.$name, $kind)) }),*]
    };
    (@ $value:expr, Text) => { &$value };
    (@ $value:expr, $kind:ident) => { $value };
}

pub(crate) const COLUMNS: &[Column] = columns![
    round: U32,
    test_accuracy: Optional,
    test_loss: Optional,
    train_loss: Optional,
    device_accuracy: Optional,
    seconds: F64,
    virtual_seconds: F64,
    bytes_up: U64,
    bytes_down: U64,
    energy_j: F64,
    contributions: U32,
    members: U32,
    dropped: U32,
    clipped: U32,
    mean_staleness: F64,
    model: Text,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_a_column_in_its_order() {
        let row = serde_json::to_string(&RoundRow::default()).expect("a row is JSON");
        let mut from = 0;
        for column in COLUMNS {
            let at = row[from..]
                .find(&format!("\"{}\":", column.name))
                .expect("the columns are in the order of the fields");
            from += at + 1;
        }
        assert_eq!(COLUMNS.len(), row.matches("\":").count());
    }
}
