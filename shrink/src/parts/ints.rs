//! Tensors of integers of 2 to 32 bits.

use aimass_onnx::TensorRef;
use aimass_onnx::proto::DataType;

/// An integer type that quantized tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntType {
    U2,
    I2,
    U4,
    I4,
    U8,
    I8,
    U16,
    I16,
    I32,
}

impl IntType {
    /// By ONNX's number.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        Some(match DataType::try_from(number).ok()? {
            DataType::Uint2 => Self::U2,
            DataType::Int2 => Self::I2,
            DataType::Uint4 => Self::U4,
            DataType::Int4 => Self::I4,
            DataType::Uint8 => Self::U8,
            DataType::Int8 => Self::I8,
            DataType::Uint16 => Self::U16,
            DataType::Int16 => Self::I16,
            DataType::Int32 => Self::I32,
            _ => return None,
        })
    }

    fn data_type(self) -> DataType {
        match self {
            Self::U2 => DataType::Uint2,
            Self::I2 => DataType::Int2,
            Self::U4 => DataType::Uint4,
            Self::I4 => DataType::Int4,
            Self::U8 => DataType::Uint8,
            Self::I8 => DataType::Int8,
            Self::U16 => DataType::Uint16,
            Self::I16 => DataType::Int16,
            Self::I32 => DataType::Int32,
        }
    }

    /// ONNX's number.
    pub(crate) fn number(self) -> i32 {
        self.data_type() as i32
    }

    /// For messages: `uint8`.
    pub(crate) fn name(self) -> String {
        format!("{:?}", self.data_type()).to_lowercase()
    }

    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::U2 | Self::I2 => 2,
            Self::U4 | Self::I4 => 4,
            Self::U8 | Self::I8 => 8,
            Self::U16 | Self::I16 => 16,
            Self::I32 => 32,
        }
    }

    pub(crate) fn is_signed(self) -> bool {
        matches!(self, Self::I2 | Self::I4 | Self::I8 | Self::I16 | Self::I32)
    }

    /// Smallest and largest value.
    pub(crate) fn range(self) -> (i32, i32) {
        match (self.is_signed(), self.bits()) {
            (true, 32) => (i32::MIN, i32::MAX),
            (true, bits) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
            (false, bits) => (0, (1 << bits) - 1),
        }
    }
}

/// The values of a tensor of integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ints {
    pub(crate) kind: IntType,
    pub(crate) shape: Vec<usize>,
    /// Row-major.
    pub(crate) values: Vec<i32>,
}

impl Ints {
    /// `None` for another element type, and for values (stored in wider fields) that the type does not have.
    pub(crate) fn of(tensor: &TensorRef<'_>) -> Option<Self> {
        let kind = IntType::from_number(tensor.proto.data_type)?;
        let n = tensor.n_elements();
        let raw = &tensor.proto.raw_data;
        let values = if raw.is_empty() {
            of_field(kind, &tensor.proto.int32_data, n)?
        } else {
            of_raw(kind, raw, n)
        };
        (values.len() == n).then_some(Self {
            kind,
            shape: tensor.shape.clone(),
            values,
        })
    }
}

/// Values that fill less than a byte are packed into bytes from the lowest bits up.
fn of_raw(kind: IntType, raw: &[u8], n: usize) -> Vec<i32> {
    match kind {
        IntType::U8 => raw.iter().map(|&b| b.into()).collect(),
        IntType::I8 => raw.iter().map(|&b| (b as i8).into()).collect(),
        IntType::U16 => raw.as_chunks().0.iter().map(|&b| u16::from_le_bytes(b).into()).collect(),
        IntType::I16 => raw.as_chunks().0.iter().map(|&b| i16::from_le_bytes(b).into()).collect(),
        IntType::I32 => raw.as_chunks().0.iter().map(|&b| i32::from_le_bytes(b)).collect(),
        _ => {
            let bits = kind.bits();
            let per_byte = 8 / bits;
            let part = |byte: u8, at: u32| {
                let value = i32::from(byte >> (at * bits)) & ((1 << bits) - 1);
                let negative = kind.is_signed() && value >> (bits - 1) == 1;
                if negative { value - (1 << bits) } else { value }
            };
            raw.iter()
                .flat_map(|&byte| (0..per_byte).map(move |at| part(byte, at)))
                .take(n)
                .collect()
        }
    }
}

fn of_field(kind: IntType, field: &[i32], n: usize) -> Option<Vec<i32>> {
    if kind.bits() < 8 {
        let bytes: Option<Vec<u8>> = field.iter().map(|&v| u8::try_from(v).ok()).collect();
        return Some(of_raw(kind, &bytes?, n));
    }
    let (low, high) = kind.range();
    field.iter().all(|v| (low..=high).contains(v)).then(|| field.to_vec())
}

/// The raw data of `values`, which are in the type's range.
pub(crate) fn pack(kind: IntType, values: &[i32]) -> Vec<u8> {
    match kind {
        IntType::U8 | IntType::I8 => values.iter().map(|&v| v as u8).collect(),
        IntType::U16 | IntType::I16 => values.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect(),
        IntType::I32 => values.iter().flat_map(|&v| v.to_le_bytes()).collect(),
        _ => {
            let bits = kind.bits();
            let mask = (1u32 << bits) - 1;
            let byte = |part: &[i32]| part.iter().rev().fold(0u32, |byte, &v| byte << bits | (v as u32 & mask)) as u8;
            values.chunks(8 / bits as usize).map(byte).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::integers;

    #[test]
    fn should_read_what_was_packed() {
        use IntType::{I2, I4, I8, I16, I32, U2, U4, U8, U16};
        for kind in [U2, I2, U4, I4, U8, I8, U16, I16, I32] {
            let (low, high) = kind.range();
            for n in 1..6 {
                let values: Vec<i32> = [low, high, 0, 1, high].into_iter().take(n).collect();
                let tensor = integers("t", &[n], kind, &values);
                let tensor = TensorRef::new(&tensor).expect("as long as its shape asks for");
                assert_eq!(Ints::of(&tensor).expect("integers").values, values, "{kind:?} {n}");
            }
        }
    }

    #[test]
    fn should_take_the_first_of_a_byte_from_its_low_bits() {
        assert_eq!(pack(IntType::I4, &[-8, 7, 1]), [0x78, 0x01]);
        assert_eq!(pack(IntType::U2, &[1, 2, 3, 0, 2]), [0b00_11_10_01, 2]);
    }

    #[test]
    fn should_refuse_values_that_the_type_does_not_have() {
        let mut tensor = integers("t", &[1], IntType::U8, &[]);
        for (value, sound) in [(255, true), (256, false), (-1, false)] {
            tensor.int32_data = vec![value];
            let tensor = TensorRef::new(&tensor).expect("one value");
            assert_eq!(Ints::of(&tensor).is_some(), sound, "{value}");
        }
    }
}
