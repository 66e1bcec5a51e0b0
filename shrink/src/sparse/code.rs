//! The compact code of one tensor.
//!
//! ```text
//! u8         version: 1
//! u8         positions: 0 a bit mask, 1 gaps in Rice's code
//! u8         the code's parameter k; 0 for a mask
//! w bytes    the value that is left out (w: bytes of an element)
//! u64        number of values, little-endian
//! values     w bytes each, in order
//! positions  to the end
//! ```

use aimass_onnx::TensorRef;
use aimass_onnx::proto::{DataType, TensorProto};

use super::LEAST_SAVED_BYTES;
use super::positions::{best, from_mask, from_rice, mask, mask_bytes, rice};
use super::record::width;

/// A tensor expands to at most this many times its coded bytes.
pub const MAX_RATIO: usize = 64;

const VERSION: u8 = 1;
const MASK: u8 = 0;
const RICE: u8 = 1;
/// Bytes before the values, without the value that is left out.
const HEADER_BYTES: usize = 3 + 8;

/// A tensor taken apart.
pub(super) struct Dense {
    /// All its bytes.
    raw: Vec<u8>,
    width: usize,
    /// The value that is left out.
    pub(super) fill: Vec<u8>,
    /// Where another value is.
    pub(super) places: Vec<u32>,
}

impl Dense {
    /// `None` for a tensor that is never packed: small, of a type without whole bytes, or mostly values.
    pub(super) fn of(tensor: &TensorProto) -> Option<Self> {
        let element = DataType::try_from(tensor.data_type).ok()?;
        let width = width(element)?;
        let raw = match (tensor.raw_data.is_empty(), element) {
            (false, _) => tensor.raw_data.to_vec(),
            (true, DataType::Float) => TensorRef::new(tensor)
                .ok()?
                .to_f32()?
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect(),
            // Typed storage of other types is for short lists.
            _ => return None,
        };
        let n = raw.len() / width;
        if raw.len() < LEAST_SAVED_BYTES || u32::try_from(n).is_err() {
            return None;
        }
        let fill = if width == 1 { vec![most_frequent(&raw)] } else { vec![0; width] };
        let values = raw.chunks_exact(width).filter(|value| *value != fill).count();
        // A bit and a value each is the most that is written.
        if values * width + mask_bytes(n) + LEAST_SAVED_BYTES > raw.len() {
            return None;
        }
        let others = raw.chunks_exact(width).enumerate().filter(|(_, value)| *value != fill);
        let places = others.map(|(place, _)| place as u32).collect();
        Some(Self { raw, width, fill, places })
    }

    /// Bytes of the tensor in full.
    pub(super) fn bytes(&self) -> usize {
        self.raw.len()
    }

    /// Its elements.
    pub(super) fn elements(&self) -> usize {
        self.raw.len() / self.width
    }

    /// The values that are not left out, in order.
    pub(super) fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.places
            .iter()
            .map(|&place| &self.raw[place as usize * self.width..][..self.width])
    }

    /// Its code, where that is shorter.
    pub(super) fn coded(&self) -> Option<Vec<u8>> {
        let (n, values) = (self.elements(), self.places.len() * self.width);
        let (k, bits) = best(&self.places);
        let (mask_len, rice_len) = (mask_bytes(n), usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX));
        let head = HEADER_BYTES + self.width + values;
        let by_gaps = rice_len < mask_len && head.saturating_add(rice_len).saturating_mul(MAX_RATIO) >= self.raw.len();
        let (kind, k, positions) = match by_gaps {
            true => (RICE, k, rice(&self.places, k)),
            false => (MASK, 0, mask(&self.places, n)),
        };
        let mut out = Vec::with_capacity(head + positions.len());
        out.extend_from_slice(&[VERSION, kind, k]);
        out.extend_from_slice(&self.fill);
        out.extend_from_slice(&(self.places.len() as u64).to_le_bytes());
        self.values().for_each(|value| out.extend_from_slice(value));
        out.extend_from_slice(&positions);
        (out.len() + LEAST_SAVED_BYTES <= self.raw.len()).then_some(out)
    }
}

fn most_frequent(bytes: &[u8]) -> u8 {
    let mut counts = [0usize; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    // Of equal counts the smallest byte.
    (0..=255).rev().max_by_key(|&byte| counts[usize::from(byte)]).unwrap_or(0)
}

/// All bytes of a tensor of `n` elements of `width` bytes each.
pub(super) fn decoded(code: &[u8], n: usize, width: usize) -> Result<Vec<u8>, &'static str> {
    let short = "its code is cut off";
    let (&[version, kind, k], rest) = code.split_first_chunk().ok_or(short)?;
    if version != VERSION {
        return Err("its code is of another version of this program; update it");
    }
    let (fill, rest) = rest.split_at_checked(width).ok_or(short)?;
    let (count, rest) = rest.split_first_chunk().ok_or(short)?;
    let count = usize::try_from(u64::from_le_bytes(*count)).ok().filter(|&count| count <= n);
    let count = count.ok_or("it has more values than elements")?;
    let (values, positions) = count.checked_mul(width).and_then(|len| rest.split_at_checked(len)).ok_or(short)?;
    let values = values.chunks_exact(width);
    match kind {
        MASK if k == 0 => from_bits(positions, n, fill, values),
        RICE => {
            let mut values = values;
            let mut out = filled(fill, n, code.len())?;
            let put = |place: usize| {
                if let (Some(to), Some(value)) = (out.get_mut(place * width..(place + 1) * width), values.next()) {
                    to.copy_from_slice(value);
                }
            };
            from_rice(positions, k, count, n, put).ok_or("its positions are not those of its values")?;
            Ok(out)
        }
        _ => Err("its positions are in a code that is not known"),
    }
}

/// A tensor of `n` elements from a bit mask and as many values as it has bits.
pub(super) fn from_bits<'v>(
    mask: &[u8],
    n: usize,
    fill: &[u8],
    mut values: impl ExactSizeIterator<Item = &'v [u8]>,
) -> Result<Vec<u8>, &'static str> {
    let bits = mask.iter().map(|byte| byte.count_ones() as usize).sum::<usize>();
    let places = from_mask(mask, n).filter(|_| bits == values.len());
    let places = places.ok_or("its mask does not fit its shape and its values")?;
    let width = fill.len();
    let mut out = filled(fill, n, mask.len())?;
    for (place, value) in places.zip(&mut values) {
        out[place * width..(place + 1) * width].copy_from_slice(value);
    }
    Ok(out)
}

/// `n` times the value that is left out, where that is in proportion to the `coded` bytes that ask for it.
fn filled(fill: &[u8], n: usize, coded: usize) -> Result<Vec<u8>, &'static str> {
    let len = n.checked_mul(fill.len()).filter(|&len| len / MAX_RATIO <= coded);
    let len = len.ok_or("it would expand out of proportion to its code")?;
    let mut out = vec![0; len];
    if fill.iter().any(|&byte| byte != 0) {
        out.chunks_exact_mut(fill.len()).for_each(|to| to.copy_from_slice(fill));
    }
    Ok(out)
}
