//! As much of Thrift's compact protocol as a Parquet file needs to be written.

/// Types of fields and of elements.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Kind {
    I32 = 5,
    I64 = 6,
    Binary = 8,
    List = 9,
    Struct = 12,
}

/// A struct that is being written; fields in the order of their ids.
pub(super) struct Struct {
    bytes: Vec<u8>,
    last: u8,
}

impl Struct {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            last: 0,
        }
    }

    /// Ids are less than 15 apart, which is all that Parquet's need.
    fn field(&mut self, id: u8, kind: Kind) {
        self.bytes.push((id - self.last) << 4 | kind as u8);
        self.last = id;
    }

    pub(super) fn i32(&mut self, id: u8, value: i32) {
        self.field(id, Kind::I32);
        self.bytes.extend_from_slice(&zigzag(value.into()));
    }

    pub(super) fn i64(&mut self, id: u8, value: i64) {
        self.field(id, Kind::I64);
        self.bytes.extend_from_slice(&zigzag(value));
    }

    pub(super) fn text(&mut self, id: u8, text: &str) {
        self.field(id, Kind::Binary);
        self.bytes.extend_from_slice(&binary(text));
    }

    pub(super) fn structure(&mut self, id: u8, inner: Struct) {
        self.field(id, Kind::Struct);
        self.bytes.extend_from_slice(&inner.end());
    }

    /// Elements as they are written.
    pub(super) fn list(&mut self, id: u8, of: Kind, elements: &[Vec<u8>]) {
        self.field(id, Kind::List);
        if elements.len() < 15 {
            self.bytes.push((elements.len() as u8) << 4 | of as u8);
        } else {
            self.bytes.push(0xf0 | of as u8);
            varint(&mut self.bytes, elements.len() as u64);
        }
        self.bytes.extend(elements.iter().flatten());
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

pub(super) fn varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

pub(super) fn zigzag(value: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(&mut bytes, ((value << 1) ^ (value >> 63)) as u64);
    bytes
}

pub(super) fn binary(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(&mut bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}
