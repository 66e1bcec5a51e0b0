//! What a packed tensor was, as an entry of the model's metadata.

use std::collections::BTreeMap;

use aimass_onnx::Model;
use aimass_onnx::proto::{DataType, TensorProto};

use super::{Format, SparseError, damaged, entries};

/// Most axes of a tensor.
const MAX_AXES: usize = 64;

/// Format, type and shape of a packed tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) format: Format,
    pub(super) element: DataType,
    pub(super) dims: Vec<i64>,
    /// Product of `dims`.
    pub(super) elements: usize,
    /// Bytes of an element.
    pub(super) width: usize,
}

/// Bytes that an element of a type takes, where they are whole ones and at most eight.
pub(super) fn width(element: DataType) -> Option<usize> {
    let bits = element.raw_bits().filter(|bits| bits % 8 == 0 && *bits <= 64)?;
    Some(bits / 8)
}

impl Record {
    /// Of a tensor that was checked and has a [`width`].
    pub(super) fn of(format: Format, tensor: &TensorProto) -> Self {
        let element = DataType::try_from(tensor.data_type).unwrap_or(DataType::Undefined);
        Self {
            format,
            element,
            dims: tensor.dims.clone(),
            elements: tensor.dims.iter().map(|&dim| dim as usize).product(),
            width: width(element).unwrap_or(1),
        }
    }

    /// Bytes of the tensor in full.
    pub(super) fn bytes(&self) -> usize {
        self.elements.saturating_mul(self.width)
    }

    pub(super) fn write(&self) -> String {
        let format = match self.format {
            Format::Standard => "standard",
            Format::Compact => "compact",
        };
        let dims: Vec<_> = self.dims.iter().map(i64::to_string).collect();
        format!("{format} type={} dims={}", self.element as i32, dims.join("x"))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let format = match parts.next()? {
            "standard" => Format::Standard,
            "compact" => Format::Compact,
            _ => return None,
        };
        let number: i32 = parts.next()?.strip_prefix("type=")?.parse().ok()?;
        let element = DataType::try_from(number).ok()?;
        let dims = parts.next()?.strip_prefix("dims=")?;
        let axes = dims.split('x').filter(|_| !dims.is_empty()).take(MAX_AXES + 1);
        let axis = |text: &str| text.parse::<u32>().ok().map(i64::from);
        let dims = axes.map(axis).collect::<Option<Vec<i64>>>()?;
        let elements = dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?))?;
        let sound = dims.len() <= MAX_AXES && parts.next().is_none();
        sound.then_some(Self {
            format,
            element,
            elements,
            width: width(element)?,
            dims,
        })
    }
}

/// The entries of a model by tensor.
pub(super) fn read(model: &Model) -> Result<BTreeMap<String, Record>, SparseError> {
    let mut records = BTreeMap::new();
    for (name, text) in entries(model.proto()) {
        let record = Record::parse(text).ok_or_else(|| damaged(name, "its entry in the metadata does not parse"))?;
        if records.insert(name.to_owned(), record).is_some() {
            return Err(damaged(name, "it is in the metadata twice"));
        }
    }
    Ok(records)
}
