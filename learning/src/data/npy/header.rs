//! The header of an NPY file, and how its elements are stored.

use std::io::Read;

use super::super::DataError;
use crate::array::{Array, Values};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// numpy itself refuses headers past 10,000 bytes.
const MAX_HEADER_BYTES: usize = 10_000;
/// As in numpy 2.
const MAX_RANK: usize = 64;

/// How one element is stored, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F32,
    F64,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    Bool,
}

/// What a file says about its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) element: Element,
    /// The first axis runs fastest.
    pub(crate) fortran: bool,
    pub(crate) shape: Vec<usize>,
    /// Bytes of magic and header: where the values begin.
    pub(crate) header_bytes: u64,
}

impl Element {
    fn from_descr(descr: &str) -> Result<Self, String> {
        let fix = match descr {
            "<f4" => return Ok(Self::F32),
            "<f8" => return Ok(Self::F64),
            "|i1" | "<i1" => return Ok(Self::I8),
            "<i2" => return Ok(Self::I16),
            "<i4" => return Ok(Self::I32),
            "<i8" => return Ok(Self::I64),
            "|u1" | "<u1" => return Ok(Self::U8),
            "<u2" => return Ok(Self::U16),
            "<u4" => return Ok(Self::U32),
            "|b1" => return Ok(Self::Bool),
            "<u8" => "save it with .astype('int64')",
            big if big.starts_with('>') => "save it little-endian, with .astype('<f4') or .astype('<i8')",
            "|O" => "save numbers, with .astype('float32') or .astype('int64'); Python objects are not read",
            _ => "save it with .astype('float32') or .astype('int64')",
        };
        let shown: String = descr.chars().take(20).collect();
        Err(format!("holds elements of the type `{shown}`, which are not supported; {fix}"))
    }

    /// Bytes of one element in the file.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 | Self::Bool => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Bytes of one element in memory.
    fn decoded_bytes(self) -> usize {
        match self {
            Self::Bool => 1,
            Self::F32 | Self::F64 => 4,
            _ => 8,
        }
    }

    /// Whole elements as values.
    ///
    /// # Errors
    /// A float64 that is finite but not in float32's range.
    pub(crate) fn decode(self, bytes: &[u8]) -> Result<Values, String> {
        fn each<const N: usize, T>(bytes: &[u8], of: impl Fn([u8; N]) -> T) -> Vec<T> {
            bytes.as_chunks::<N>().0.iter().map(|chunk| of(*chunk)).collect()
        }
        Ok(match self {
            Self::F32 => Values::Floats(each(bytes, f32::from_le_bytes)),
            Self::F64 => Values::Floats(narrowed(bytes)?),
            Self::I8 => Values::Ints(each(bytes, |b| i64::from(i8::from_le_bytes(b)))),
            Self::I16 => Values::Ints(each(bytes, |b| i64::from(i16::from_le_bytes(b)))),
            Self::I32 => Values::Ints(each(bytes, |b| i64::from(i32::from_le_bytes(b)))),
            Self::I64 => Values::Ints(each(bytes, i64::from_le_bytes)),
            Self::U8 => Values::Ints(each(bytes, |[b]| i64::from(b))),
            Self::U16 => Values::Ints(each(bytes, |b| i64::from(u16::from_le_bytes(b)))),
            Self::U32 => Values::Ints(each(bytes, |b| i64::from(u32::from_le_bytes(b)))),
            Self::Bool => Values::Bools(each(bytes, |[b]| b != 0)),
        })
    }
}

fn narrowed(bytes: &[u8]) -> Result<Vec<f32>, String> {
    let narrow = |chunk: &[u8; 8]| {
        let wide = f64::from_le_bytes(*chunk);
        let value = wide as f32;
        if wide.is_finite() && !value.is_finite() {
            return Err(format!("holds {wide:e}, which float32 can't; scale the values"));
        }
        Ok(value)
    };
    bytes.as_chunks::<8>().0.iter().map(narrow).collect()
}

impl Header {
    /// Reads magic and header, and leaves `content` where the values begin.
    pub(crate) fn read(name: &str, content: &mut (impl Read + ?Sized)) -> Result<Self, DataError> {
        let wrong = |problem: &str| DataError::parse(name, 0, 0, problem);
        let mut take = |bytes: &mut [u8]| {
            content.read_exact(bytes).map_err(|e| match e.kind() {
                std::io::ErrorKind::UnexpectedEof => wrong("is cut off inside its header; copy or save it again"),
                _ => DataError::io(name, e),
            })
        };
        let mut start = [0u8; 8];
        take(&mut start)?;
        if start[..6] != MAGIC[..] {
            return Err(wrong("does not begin like an .npy file; save it with numpy.save"));
        }
        let (len, prefix) = match start[6] {
            1 => {
                let mut len = [0; 2];
                take(&mut len)?;
                (usize::from(u16::from_le_bytes(len)), 10)
            }
            2 | 3 => {
                let mut len = [0; 4];
                take(&mut len)?;
                (u32::from_le_bytes(len) as usize, 12)
            }
            _ => {
                return Err(wrong(
                    "is of a version of the .npy format past 3; save it with a current numpy.save",
                ));
            }
        };
        if len > MAX_HEADER_BYTES {
            return Err(wrong("has a header past 10000 bytes; save it again with numpy.save"));
        }
        let mut text = vec![0; len];
        take(&mut text)?;
        let dict = std::str::from_utf8(&text).ok().and_then(Dict::parse);
        let Dict { descr, fortran, shape } = dict.ok_or_else(|| {
            wrong("has a header that is not {'descr': ..., 'fortran_order': ..., 'shape': ...}; save a plain array with numpy.save")
        })?;
        let header = Self {
            element: Element::from_descr(&descr).map_err(|e| wrong(&e))?,
            fortran,
            shape,
            header_bytes: (prefix + len) as u64,
        };
        // Elements are at most 8 bytes, so no size below can overflow; nor can one of some axes beside an axis of length 0.
        let within = header.shape.iter().try_fold(8usize, |n, &length| n.checked_mul(length.max(1)));
        if header.shape.len() > MAX_RANK || within.is_none_or(|n| n > isize::MAX as usize) {
            return Err(wrong("has an impossible shape; save it again"));
        }
        Ok(header)
    }

    pub(crate) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the values in the file.
    pub(crate) fn data_bytes(&self) -> u64 {
        (self.n_elements() * self.element.bytes()) as u64
    }

    /// Bytes of the values in memory.
    pub(crate) fn decoded_bytes(&self) -> u64 {
        (self.n_elements() * self.element.decoded_bytes()) as u64
    }
}

/// Magic and header for an array, version 1, padded so that the values begin at a multiple of 64 as numpy wants it.
pub(super) fn to_bytes(array: &Array) -> Vec<u8> {
    let descr = match array.values() {
        Values::Floats(_) => "<f4",
        Values::Ints(_) => "<i8",
        Values::Bools(_) => "|b1",
    };
    let lengths: Vec<String> = array.shape().iter().map(usize::to_string).collect();
    let comma = if lengths.len() == 1 { "," } else { "" };
    let mut dict = format!(
        "{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}",
        lengths.join(", ")
    );
    while !(10 + dict.len() + 1).is_multiple_of(64) {
        dict.push(' ');
    }
    dict.push('\n');
    let len = u16::try_from(dict.len()).unwrap_or(u16::MAX);
    [&MAGIC[..], &[1, 0], &len.to_le_bytes(), dict.as_bytes()].concat()
}

/// The header's text: the literal of a Python dict.
struct Dict {
    descr: String,
    fortran: bool,
    shape: Vec<usize>,
}

impl Dict {
    fn parse(text: &str) -> Option<Self> {
        let mut rest = Text(text.trim());
        let (mut descr, mut fortran, mut shape) = (None, None, None);
        rest.eat("{")?;
        while rest.eat("}").is_none() {
            let key = rest.quoted()?;
            rest.eat(":")?;
            let repeated = match key {
                "descr" => descr.replace(rest.quoted()?.to_owned()).is_some(),
                "fortran_order" => fortran.replace(rest.truth()?).is_some(),
                "shape" => shape.replace(rest.lengths()?).is_some(),
                _ => return None,
            };
            // The last entry may or may not have a comma.
            if repeated || (rest.eat(",").is_none() && !rest.0.starts_with('}')) {
                return None;
            }
        }
        rest.0.is_empty().then_some(())?;
        Some(Self {
            descr: descr?,
            fortran: fortran?,
            shape: shape?,
        })
    }
}

/// What is left of a text.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// Takes a token and the blanks behind it.
    fn eat(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(token)?.trim_start();
        Some(())
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let quote = self.0.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, rest) = self.0[1..].split_once(quote)?;
        self.0 = rest.trim_start();
        Some(text)
    }

    fn truth(&mut self) -> Option<bool> {
        let truth = self.eat("True").is_some();
        (truth || self.eat("False").is_some()).then_some(truth)
    }

    fn lengths(&mut self) -> Option<Vec<usize>> {
        self.eat("(")?;
        let mut lengths = Vec::new();
        while self.eat(")").is_none() {
            let end = self.0.find(|c: char| !c.is_ascii_digit())?;
            lengths.push(self.0[..end].parse().ok()?);
            // Python 2 wrote `3L`.
            self.0 = self.0[end..].trim_start_matches('L').trim_start();
            if self.eat(",").is_none() && !self.0.starts_with(')') {
                return None;
            }
        }
        Some(lengths)
    }
}
