//! Rounds as a Parquet file: one row group, plain values, no compression.
//!
//! Written by hand because the format's simplest form is small, and its crate turns on random hashing in crates that others share.
//!
//! ```text
//! PAR1 | a column's pages, column after column | FileMetaData (Thrift, compact) | its length, u32 LE | PAR1
//! page: PageHeader (Thrift, compact) | where values may be missing: length, u32 LE, and runs of definition levels | the values that are there
//! ```
//!
//! # Source
//! Apache Parquet format 2.11, `parquet.thrift` and `Encodings.md`; Thrift compact protocol.

mod thrift;

use super::columns::{COLUMNS, Cell, Column};
use crate::record::RoundRow;
use thrift::{Kind, Struct};

const MAGIC: &[u8] = b"PAR1";
/// Rows of a page: its length is an i32.
const PAGE_ROWS: usize = 65_536;

// Numbers of parquet.thrift.
const TYPE_INT32: i32 = 1;
const TYPE_INT64: i32 = 2;
const TYPE_DOUBLE: i32 = 5;
const TYPE_BYTE_ARRAY: i32 = 6;
const CONVERTED_UTF8: i32 = 0;
const CONVERTED_UINT_32: i32 = 13;
const CONVERTED_UINT_64: i32 = 14;
const ENCODING_PLAIN: i32 = 0;
const ENCODING_RLE: i32 = 3;

/// A column that is written.
struct Chunk {
    name: &'static str,
    kind: i32,
    offset: usize,
    len: usize,
}

/// The bytes of a Parquet file with a column for each of [`RoundRow`]'s fields. Unsigned integers are marked as such, text is UTF-8, what
/// was not measured is null.
pub fn parquet(rows: &[RoundRow]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    // What kind a column has is the same in every row, so a row that isn't there tells as well.
    let sample = RoundRow::default();
    let chunks: Vec<Chunk> = COLUMNS
        .iter()
        .map(|column| {
            let offset = file.len();
            for rows in rows.chunks(PAGE_ROWS) {
                page(&mut file, column, rows);
            }
            Chunk {
                name: column.name,
                kind: kind(&(column.cell)(&sample)).0,
                offset,
                len: file.len() - offset,
            }
        })
        .collect();
    let metadata = metadata(&chunks, rows.len());
    file.extend_from_slice(&metadata);
    file.extend_from_slice(&(metadata.len() as u32).to_le_bytes());
    file.extend_from_slice(MAGIC);
    file
}

/// Physical type, converted type, and whether values may be missing.
fn kind(cell: &Cell<'_>) -> (i32, Option<i32>, bool) {
    match cell {
        Cell::U32(_) => (TYPE_INT32, Some(CONVERTED_UINT_32), false),
        Cell::U64(_) => (TYPE_INT64, Some(CONVERTED_UINT_64), false),
        Cell::F64(_) => (TYPE_DOUBLE, None, false),
        Cell::Optional(_) => (TYPE_DOUBLE, None, true),
        Cell::Text(_) => (TYPE_BYTE_ARRAY, Some(CONVERTED_UTF8), false),
    }
}

fn page(file: &mut Vec<u8>, column: &Column, rows: &[RoundRow]) {
    let (mut levels, mut values) = (Vec::new(), Vec::new());
    let mut run: Option<(bool, u64)> = None;
    for row in rows {
        match (column.cell)(row) {
            Cell::U32(value) => values.extend_from_slice(&value.to_le_bytes()),
            Cell::U64(value) => values.extend_from_slice(&value.to_le_bytes()),
            Cell::F64(value) => values.extend_from_slice(&value.to_le_bytes()),
            Cell::Text(text) => {
                values.extend_from_slice(&(text.len() as u32).to_le_bytes());
                values.extend_from_slice(text.as_bytes());
            }
            Cell::Optional(value) => {
                let value = value.filter(|value| value.is_finite());
                if let Some(value) = value {
                    values.extend_from_slice(&value.to_le_bytes());
                }
                match &mut run {
                    Some((there, count)) if *there == value.is_some() => *count += 1,
                    _ => {
                        end_run(&mut levels, run);
                        run = Some((value.is_some(), 1));
                    }
                }
            }
        }
    }
    let optional = run.is_some();
    end_run(&mut levels, run);
    let len = values.len() + if optional { 4 + levels.len() } else { 0 };
    let mut header = Struct::new();
    header.i32(1, 0); // a data page
    header.i32(2, len as i32);
    header.i32(3, len as i32);
    let mut data = Struct::new();
    data.i32(1, rows.len() as i32);
    data.i32(2, ENCODING_PLAIN);
    data.i32(3, ENCODING_RLE);
    data.i32(4, ENCODING_RLE);
    header.structure(5, data);
    file.extend_from_slice(&header.end());
    if optional {
        file.extend_from_slice(&(levels.len() as u32).to_le_bytes());
        file.extend_from_slice(&levels);
    }
    file.extend_from_slice(&values);
}

/// A run of the RLE and bit-packing hybrid, width 1.
fn end_run(levels: &mut Vec<u8>, run: Option<(bool, u64)>) {
    if let Some((there, count)) = run {
        thrift::varint(levels, count << 1);
        levels.push(u8::from(there));
    }
}

fn metadata(chunks: &[Chunk], rows: usize) -> Vec<u8> {
    let sample = RoundRow::default();
    let mut root = Struct::new();
    root.text(4, "rounds");
    root.i32(5, chunks.len() as i32);
    let mut schema = vec![root.end()];
    for column in COLUMNS {
        let (physical, converted, optional) = kind(&(column.cell)(&sample));
        let mut element = Struct::new();
        element.i32(1, physical);
        element.i32(3, i32::from(optional));
        element.text(4, column.name);
        if let Some(converted) = converted {
            element.i32(6, converted);
        }
        schema.push(element.end());
    }
    let columns: Vec<Vec<u8>> = chunks
        .iter()
        .map(|chunk| {
            let mut data = Struct::new();
            data.i32(1, chunk.kind);
            data.list(
                2,
                Kind::I32,
                &[thrift::zigzag(ENCODING_PLAIN.into()), thrift::zigzag(ENCODING_RLE.into())],
            );
            data.list(3, Kind::Binary, &[thrift::binary(chunk.name)]);
            data.i32(4, 0); // no compression
            data.i64(5, rows as i64);
            data.i64(6, chunk.len as i64);
            data.i64(7, chunk.len as i64);
            data.i64(9, chunk.offset as i64);
            let mut column = Struct::new();
            column.i64(2, chunk.offset as i64);
            column.structure(3, data);
            column.end()
        })
        .collect();
    let mut group = Struct::new();
    group.list(1, Kind::Struct, &columns);
    group.i64(2, chunks.iter().map(|chunk| chunk.len as i64).sum());
    group.i64(3, rows as i64);
    let groups = if rows == 0 { Vec::new() } else { vec![group.end()] };
    let mut file = Struct::new();
    file.i32(1, 1);
    file.list(2, Kind::Struct, &schema);
    file.i64(3, rows as i64);
    file.list(4, Kind::Struct, &groups);
    file.text(6, "aimass");
    file.end()
}

#[cfg(test)]
mod tests;
