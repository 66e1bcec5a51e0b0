//! Numbers, texts and arrays in bytes: little-endian, without gaps, lengths first.

use crate::array::{Array, Values, n_elements};

/// Most axes of an array.
const MAX_AXES: usize = 32;

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Malformed {
    #[error("it ends in the middle of {what}")]
    Short { what: &'static str },
    #[error("{bytes} bytes follow its end")]
    Trailing { bytes: usize },
    #[error("{what} can't be {value}")]
    Unknown { what: &'static str, value: u64 },
    #[error("{what} is not UTF-8")]
    Text { what: &'static str },
}

/// Writes.
#[derive(Debug, Default)]
pub(super) struct Out(pub(super) Vec<u8>);

impl Out {
    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn f32(&mut self, value: f32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn f64(&mut self, value: f64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(super) fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
    pub(super) fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }
    pub(super) fn floats(&mut self, values: &[f32]) {
        self.u64(values.len() as u64);
        self.0.reserve(4 * values.len());
        self.0.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
    pub(super) fn array(&mut self, array: &Array) {
        match array.values() {
            Values::Floats(_) => self.u8(0),
            Values::Ints(_) => self.u8(1),
            Values::Bools(_) => self.u8(2),
        }
        self.u8(u8::try_from(array.shape().len()).unwrap_or(u8::MAX));
        array.shape().iter().for_each(|&length| self.u64(length as u64));
        match array.values() {
            Values::Floats(values) => self.0.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Values::Ints(values) => self.0.extend(values.iter().flat_map(|v| v.to_le_bytes())),
            Values::Bools(values) => self.0.extend(values.iter().map(|&v| u8::from(v))),
        }
    }
}

/// Reads. Nothing is allocated that the bytes do not fill.
#[derive(Debug)]
pub(super) struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Refuses bytes that are left.
    pub(super) fn end(self) -> Result<(), Malformed> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(Malformed::Trailing { bytes }),
        }
    }

    fn take(&mut self, n: usize, what: &'static str) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Malformed::Short { what })?;
        self.0 = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Short { what })?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.fixed(what)?))
    }
    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.fixed(what)?))
    }
    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.fixed(what)?))
    }
    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.fixed(what)?))
    }
    pub(super) fn f32(&mut self, what: &'static str) -> Result<f32, Malformed> {
        Ok(f32::from_le_bytes(self.fixed(what)?))
    }
    pub(super) fn f64(&mut self, what: &'static str) -> Result<f64, Malformed> {
        Ok(f64::from_le_bytes(self.fixed(what)?))
    }
    pub(super) fn bytes_32(&mut self, what: &'static str) -> Result<[u8; 32], Malformed> {
        self.fixed(what)
    }
    pub(super) fn bool(&mut self, what: &'static str) -> Result<bool, Malformed> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(Malformed::Unknown { what, value: value.into() }),
        }
    }
    /// A length in elements of `each` bytes, all of which are there.
    fn len(&mut self, each: usize, what: &'static str) -> Result<usize, Malformed> {
        let n = self.u64(what)?;
        let n = usize::try_from(n)
            .ok()
            .filter(|n| n.checked_mul(each).is_some_and(|bytes| bytes <= self.0.len()));
        n.ok_or(Malformed::Short { what })
    }
    pub(super) fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], Malformed> {
        let n = self.len(1, what)?;
        self.take(n, what)
    }
    pub(super) fn text(&mut self, what: &'static str) -> Result<String, Malformed> {
        let bytes = self.bytes(what)?.to_vec();
        String::from_utf8(bytes).map_err(|_| Malformed::Text { what })
    }
    pub(super) fn option<T>(
        &mut self,
        what: &'static str,
        get: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        Ok(if self.bool(what)? { Some(get(self)?) } else { None })
    }
    /// A list of at most 255.
    pub(super) fn list<T>(
        &mut self,
        what: &'static str,
        mut get: impl FnMut(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        (0..self.u8(what)?).map(|_| get(self)).collect()
    }
    pub(super) fn floats(&mut self, what: &'static str) -> Result<Vec<f32>, Malformed> {
        let n = self.len(4, what)?;
        self.n_floats(n, what)
    }
    fn n_floats(&mut self, n: usize, what: &'static str) -> Result<Vec<f32>, Malformed> {
        let (chunks, _) = self.take(n.saturating_mul(4), what)?.as_chunks();
        Ok(chunks.iter().map(|&c| f32::from_le_bytes(c)).collect())
    }
    pub(super) fn array(&mut self, what: &'static str) -> Result<Array, Malformed> {
        let kind = self.u8(what)?;
        let axes = usize::from(self.u8(what)?);
        if axes > MAX_AXES {
            return Err(Malformed::Unknown {
                what: "the number of axes",
                value: axes as u64,
            });
        }
        let lengths = (0..axes).map(|_| self.u64(what)).collect::<Result<Vec<_>, _>>()?;
        let shape: Option<Vec<usize>> = lengths.into_iter().map(|length| usize::try_from(length).ok()).collect();
        let shape = shape.ok_or(Malformed::Short { what })?;
        let n = n_elements(&shape).ok_or(Malformed::Short { what })?;
        let values = match kind {
            0 => Values::Floats(self.n_floats(n, what)?),
            1 => {
                let (chunks, _) = self.take(n.saturating_mul(8), what)?.as_chunks();
                Values::Ints(chunks.iter().map(|&c| i64::from_le_bytes(c)).collect())
            }
            2 => {
                let bytes = self.take(n, what)?;
                if let Some(&other) = bytes.iter().find(|&&b| b > 1) {
                    return Err(Malformed::Unknown {
                        what: "a boolean",
                        value: other.into(),
                    });
                }
                Values::Bools(bytes.iter().map(|&b| b == 1).collect())
            }
            kind => {
                return Err(Malformed::Unknown {
                    what: "the kind of an array",
                    value: kind.into(),
                });
            }
        };
        Array::new(shape, values).ok_or(Malformed::Short { what })
    }
}
