//! Rounds as comma-separated values, a line a round (RFC 4180, lines end with a line feed).

use super::columns::{COLUMNS, Cell};
use crate::record::RoundRow;

/// A header line with the names of [`RoundRow`]'s fields, then a line a round. What was not measured is an empty field.
pub fn csv(rows: &[RoundRow]) -> Vec<u8> {
    let mut text = String::new();
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    line(&mut text, &names);
    for row in rows {
        let cells: Vec<String> = COLUMNS.iter().map(|column| shown(&(column.cell)(row))).collect();
        line(&mut text, &cells);
    }
    text.into_bytes()
}

/// A field as it is written; floats in the fewest digits that give the same float back.
fn shown(cell: &Cell<'_>) -> String {
    match cell {
        Cell::U32(value) => value.to_string(),
        Cell::U64(value) => value.to_string(),
        Cell::F64(value) => number(Some(*value)),
        Cell::Optional(value) => number(*value),
        Cell::Text(text) => (*text).to_owned(),
    }
}

/// A number in the fewest digits that give the same float back; empty where there is none or it isn't finite.
pub(crate) fn number(value: Option<f64>) -> String {
    value
        .filter(|value| value.is_finite())
        .map(|value| value.to_string())
        .unwrap_or_default()
}

/// Adds a line; fields with a comma, a quote or a line's end in them are quoted.
pub(crate) fn line(text: &mut String, fields: &[impl AsRef<str>]) {
    for (i, field) in fields.iter().enumerate() {
        let field = field.as_ref();
        if i > 0 {
            text.push(',');
        }
        if field.contains([',', '"', '\n', '\r']) {
            text.push('"');
            text.push_str(&field.replace('"', "\"\""));
            text.push('"');
        } else {
            text.push_str(field);
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::super::tests::rows;
    use super::*;

    #[test]
    fn the_table_reads_back() {
        let rows = rows(3);
        let bytes = csv(&rows);
        let mut reader = ::csv::Reader::from_reader(&bytes[..]);
        let read: Vec<RoundRow> = reader.deserialize().collect::<Result<_, _>>().expect("it reads back");
        assert_eq!(read, rows);
        assert!(bytes.starts_with(b"round,test_accuracy,test_loss,train_loss,device_accuracy,seconds,virtual_seconds,"));
    }

    #[test]
    fn fields_that_would_break_a_line_are_quoted() {
        let mut text = String::new();
        line(&mut text, &["a,b", "say \"x\"", "plain", "two\nlines", ""]);
        assert_eq!(text, "\"a,b\",\"say \"\"x\"\"\",plain,\"two\nlines\",\n");
        assert_eq!(
            (number(Some(0.1)), number(Some(f64::NAN)), number(None)),
            ("0.1".to_owned(), String::new(), String::new())
        );
    }
}
