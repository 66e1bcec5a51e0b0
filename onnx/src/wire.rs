//! Protobuf's wire format, as far as finding the fields of a message goes.
//!
//! # Source
//! <https://protobuf.dev/programming-guides/encoding/>

use std::ops::Range;

/// Deepest nesting of groups (a form of message that ONNX does not use, but that an unknown field may have).
const MAX_GROUP_DEPTH: usize = 16;

/// Bytes that are not protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireError {
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

/// How a field's value is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    Group,
    Fixed32,
}

/// Where one field lies in the file.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) wire_type: WireType,
    /// The tag.
    pub(crate) tag: Range<usize>,
    /// The value, without the length in front of [`WireType::Bytes`]; it ends where the field ends.
    pub(crate) value: Range<usize>,
}

impl Field {
    pub(crate) fn is_bytes(&self, number: u64) -> bool {
        self.number == number && self.wire_type == WireType::Bytes
    }

    /// Tag, length and value.
    pub(crate) fn whole(&self) -> Range<usize> {
        self.tag.start..self.value.end
    }
}

/// Walks the fields of the message at `range` of `bytes`. Ends after the first error.
pub(crate) struct Fields<'a> {
    bytes: &'a [u8],
    position: usize,
    end: usize,
}

impl<'a> Fields<'a> {
    /// # Panics
    /// When `range` reaches beyond `bytes`.
    pub(crate) fn new(bytes: &'a [u8], range: Range<usize>) -> Self {
        Self {
            bytes: &bytes[..range.end],
            position: range.start,
            end: range.end,
        }
    }

    fn field(&mut self) -> Result<Field, WireError> {
        let start = self.position;
        let (number, wire_type) = self.tag()?;
        let tag = start..self.position;
        let value = match wire_type {
            0 => (WireType::Varint, self.varint_range()?),
            1 => (WireType::Fixed64, self.take(8)?),
            2 => (WireType::Bytes, self.delimited()?),
            3 => (WireType::Group, self.group(number)?),
            5 => (WireType::Fixed32, self.take(4)?),
            4 => {
                return Err(WireError {
                    offset: start,
                    what: "the end of a group that did not begin",
                });
            }
            _ => {
                return Err(WireError {
                    offset: start,
                    what: "a field of an unknown wire type",
                });
            }
        };
        Ok(Field {
            number,
            wire_type: value.0,
            tag,
            value: value.1,
        })
    }

    fn tag(&mut self) -> Result<(u64, u64), WireError> {
        let offset = self.position;
        let tag = self.varint()?;
        if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
            return Err(WireError {
                offset,
                what: "a field number out of range",
            });
        }
        Ok((tag >> 3, tag & 7))
    }

    fn varint(&mut self) -> Result<u64, WireError> {
        let offset = self.position;
        let (value, len) = varint(&self.bytes[offset..]).ok_or(WireError {
            offset,
            what: "a number that does not end",
        })?;
        self.position += len;
        Ok(value)
    }

    fn varint_range(&mut self) -> Result<Range<usize>, WireError> {
        let start = self.position;
        self.varint()?;
        Ok(start..self.position)
    }

    fn take(&mut self, len: usize) -> Result<Range<usize>, WireError> {
        let start = self.position;
        if len > self.end - start {
            return Err(WireError {
                offset: start,
                what: "a field that reaches beyond its message",
            });
        }
        self.position += len;
        Ok(start..self.position)
    }

    fn delimited(&mut self) -> Result<Range<usize>, WireError> {
        let len = self.varint()?;
        // A length that does not fit usize is too long for any message.
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn group(&mut self, number: u64) -> Result<Range<usize>, WireError> {
        let start = self.position;
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let offset = self.position;
            let (number, wire_type) = self.tag()?;
            match wire_type {
                0 => _ = self.varint()?,
                1 => _ = self.take(8)?,
                2 => _ = self.delimited()?,
                3 if open.len() < MAX_GROUP_DEPTH => open.push(number),
                3 => {
                    return Err(WireError {
                        offset,
                        what: "groups nested too deeply",
                    });
                }
                4 if number == innermost => _ = open.pop(),
                4 => {
                    return Err(WireError {
                        offset,
                        what: "the end of another group",
                    });
                }
                5 => _ = self.take(4)?,
                _ => {
                    return Err(WireError {
                        offset,
                        what: "a field of an unknown wire type",
                    });
                }
            }
        }
        Ok(start..self.position)
    }
}

impl Iterator for Fields<'_> {
    type Item = Result<Field, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position == self.end {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.position = self.end;
        }
        Some(field)
    }
}

/// The number at the front of `bytes` and its length, `None` when it does not end within 10 bytes or exceeds 64 bits.
pub(crate) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            return Some((value, i + 1));
        }
    }
    None
}

/// Writes `value` as short as it can be.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u64, Range<usize>)>, WireError> {
        Fields::new(bytes, 0..bytes.len())
            .map(|field| field.map(|f| (f.number, f.value)))
            .collect()
    }

    #[test]
    fn every_wire_type_is_walked() {
        // 1: varint 300, 2: fixed64, 3: bytes "ab", 4: group with a nested group, 5: fixed32.
        let bytes = [
            0x08, 0xac, 0x02, 0x11, 1, 2, 3, 4, 5, 6, 7, 8, 0x1a, 2, b'a', b'b', 0x23, 0x0b, 0x08, 1, 0x0c, 0x24, 0x2d, 1, 2, 3, 4,
        ];
        let found = fields(&bytes).expect("well formed");
        assert_eq!(found, vec![(1, 1..3), (2, 4..12), (3, 14..16), (4, 17..22), (5, 23..27)]);
    }

    #[test]
    fn broken_fields_are_refused_where_they_are() {
        for (bytes, what) in [
            (&[0x08, 0x80][..], "a number that does not end"),
            (
                &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
                "a number that does not end",
            ),
            (&[0x1a, 3, 0, 0], "a field that reaches beyond its message"),
            (
                &[0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                "a field that reaches beyond its message",
            ),
            (&[0x11, 0], "a field that reaches beyond its message"),
            (&[0x00, 0], "a field number out of range"),
            (&[0x0c], "the end of a group that did not begin"),
            (&[0x0b, 0x14], "the end of another group"),
            (&[0x0b], "a number that does not end"),
            (&[0x0e], "a field of an unknown wire type"),
            (&[0x0b; 40], "groups nested too deeply"),
        ] {
            assert_eq!(fields(bytes).map_err(|e| e.what), Err(what), "{bytes:?}");
        }
    }

    #[test]
    fn varints_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            assert_eq!(varint(&out), Some((value, out.len())));
        }
    }
}
