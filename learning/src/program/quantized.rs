//! Integers of few bits, as quantized models hold them.

use std::fmt;

use aimass_onnx::proto::DataType;
use aimass_onnx::{ElementType, TensorRef};

use super::Element;
use crate::array::{Array, Values};

/// Types of quantized values. A float holds each of them exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Integers {
    U8,
    I8,
    U16,
    I16,
    U4,
    I4,
}

impl fmt::Display for Integers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U4 => "uint4",
            Self::I4 => "int4",
        })
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float => f.write_str("float"),
            Self::Int => f.write_str("int"),
            Self::Bool => f.write_str("bool"),
            Self::Quantized(integers) => integers.fmt(f),
        }
    }
}

impl Integers {
    /// By ONNX's number of an element type.
    pub(crate) fn of_number(number: i32) -> Option<Self> {
        Some(match DataType::try_from(number).ok()? {
            DataType::Uint8 => Self::U8,
            DataType::Int8 => Self::I8,
            DataType::Uint16 => Self::U16,
            DataType::Int16 => Self::I16,
            DataType::Uint4 => Self::U4,
            DataType::Int4 => Self::I4,
            _ => return None,
        })
    }

    pub(crate) fn of(element: ElementType) -> Option<Self> {
        match element {
            ElementType::Other(number) => Self::of_number(number),
            _ => None,
        }
    }

    /// The least and the most that it holds.
    pub(crate) fn range(self) -> (f32, f32) {
        match self {
            Self::U8 => (0.0, 255.0),
            Self::I8 => (-128.0, 127.0),
            Self::U16 => (0.0, 65_535.0),
            Self::I16 => (-32_768.0, 32_767.0),
            Self::U4 => (0.0, 15.0),
            Self::I4 => (-8.0, 7.0),
        }
    }

    /// Bits of one value.
    pub(crate) fn bits(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 8,
            Self::U16 | Self::I16 => 16,
            Self::U4 | Self::I4 => 4,
        }
    }

    /// The value that the low bits of a word are.
    fn read(self, word: u32) -> f32 {
        let signed = matches!(self, Self::I8 | Self::I16 | Self::I4);
        let unused = 32 - self.bits() as u32;
        let word = word << unused;
        if signed {
            (word.cast_signed() >> unused) as f32
        } else {
            (word >> unused) as f32
        }
    }

    /// The values of a tensor of this type, row-major; `None` where it holds fewer than its shape asks for.
    pub(crate) fn values(self, tensor: &TensorRef<'_>) -> Option<Vec<f32>> {
        let len = tensor.n_elements();
        let raw = &tensor.proto.raw_data;
        // Half bytes: the first value is the low one.
        let halves = |byte: u32| [byte, byte >> 4];
        let words = tensor.proto.int32_data.iter().map(|v| v.cast_unsigned());
        let mut values: Vec<f32> = match (self.bits(), raw.is_empty()) {
            (4, true) => words.flat_map(halves).map(|word| self.read(word)).collect(),
            (4, false) => raw.iter().flat_map(|&b| halves(b.into())).map(|word| self.read(word)).collect(),
            (_, true) => words.map(|word| self.read(word)).collect(),
            (8, false) => raw.iter().map(|&b| self.read(b.into())).collect(),
            (_, false) => raw.as_chunks().0.iter().map(|&b| self.read(u16::from_le_bytes(b).into())).collect(),
        };
        values.truncate(len);
        (values.len() == len).then_some(values)
    }

    /// Integers from outside as the device holds them; `None` for those of another type, or that this one does not hold.
    pub(crate) fn floats_of(self, array: &Array) -> Option<Array> {
        let (least, most) = self.range();
        let values = array.as_ints()?;
        let fits = |v: i64| (least as i64..=most as i64).contains(&v).then_some(v as f32);
        let values = values.iter().map(|&v| fits(v)).collect::<Option<Vec<f32>>>()?;
        Array::floats(array.shape().to_vec(), values)
    }
}

impl Element {
    /// What the device gave as what it stands for.
    pub(crate) fn array_of(self, array: Array) -> Array {
        let Self::Quantized(_) = self else { return array };
        let shape = array.shape().to_vec();
        let ints = array.as_floats().map(|values| values.iter().map(|&v| v as i64).collect());
        match ints.map(|ints| Array::new(shape, Values::Ints(ints))) {
            Some(Some(ints)) => ints,
            _ => array,
        }
    }
}
