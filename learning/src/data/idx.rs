//! IDX files of unsigned bytes: MNIST and its kin.

use std::io::Read;
use std::path::Path;

use super::csv::{open, unpacked};
use super::{DataError, Dataset, Limits};

/// "Unsigned byte" in the header's third byte.
const UBYTE: u8 = 0x08;
/// Most dimensions that an images file may have: rows, height, width, channels.
const MAX_RANK: usize = 4;

/// Sizes and values of one file.
struct Idx {
    sizes: Vec<usize>,
    values: Vec<u8>,
}

pub(super) fn read(images: &Path, labels: &Path, limits: &Limits) -> Result<Dataset, DataError> {
    let images_name = images.display().to_string();
    let labels_name = labels.display().to_string();
    let images = load(images, &images_name, limits)?;
    let labels = load(labels, &labels_name, limits)?;
    let wrong = |name: &str, problem: String| DataError::parse(name, 0, 0, problem);
    if labels.sizes.len() != 1 {
        return Err(wrong(
            &labels_name,
            format!("{} dimensions where labels have 1; are the two files swapped?", labels.sizes.len()),
        ));
    }
    if images.sizes.len() < 2 {
        return Err(wrong(
            &images_name,
            format!(
                "{} dimension where images have at least 2; are the two files swapped?",
                images.sizes.len()
            ),
        ));
    }
    let rows = images.sizes[0];
    let pixels = images.sizes[1..]
        .iter()
        .try_fold(1usize, |n, &size| n.checked_mul(size))
        .unwrap_or(usize::MAX);
    if labels.sizes[0] != rows {
        return Err(wrong(
            &labels_name,
            format!("{} labels for {rows} images in {images_name}", labels.sizes[0]),
        ));
    }
    if rows == 0 || pixels == 0 {
        return Err(wrong(&images_name, "no images".to_owned()));
    }
    if pixels > limits.max_columns {
        return Err(wrong(
            &images_name,
            format!("{pixels} pixels an image, the limit is {}", limits.max_columns),
        ));
    }
    let features = images.values.iter().map(|&v| f32::from(v) / 255.0).collect();
    let targets = labels.values.iter().map(|&v| f32::from(v)).collect();
    Dataset::new(features, targets, pixels).ok_or_else(|| wrong(&images_name, "sizes and values differ".to_owned()))
}

fn load(path: &Path, name: &str, limits: &Limits) -> Result<Idx, DataError> {
    let (file, _) = open(path, limits)?;
    let mut content = unpacked(name, file, limits)?;
    let wrong = |problem: String| DataError::parse(name, 0, 0, problem);
    let mut take = |bytes: &mut [u8]| {
        content.read_exact(bytes).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => wrong("ends inside its header; the file is cut off".to_owned()),
            _ => DataError::io(name, e),
        })
    };
    let mut magic = [0u8; 4];
    take(&mut magic)?;
    let rank = usize::from(magic[3]);
    if magic[0] != 0 || magic[1] != 0 || rank == 0 || rank > MAX_RANK {
        return Err(wrong(format!(
            "begins with {magic:02x?}, which is not an IDX header of 1 to {MAX_RANK} dimensions"
        )));
    }
    if magic[2] != UBYTE {
        return Err(wrong(format!(
            "holds values of type 0x{:02x}; only unsigned bytes (0x08) are supported",
            magic[2]
        )));
    }
    let mut sizes = Vec::with_capacity(rank);
    for _ in 0..rank {
        let mut size = [0u8; 4];
        take(&mut size)?;
        sizes.push(u32::from_be_bytes(size) as usize);
    }
    if sizes[0] > limits.max_rows {
        return Err(wrong(format!("{} rows, the limit is {}", sizes[0], limits.max_rows)));
    }
    let expected = sizes
        .iter()
        .try_fold(1u64, |n, &s| n.checked_mul(s as u64))
        .filter(|&n| n <= limits.max_bytes);
    let expected = expected.ok_or_else(|| wrong(format!("its header asks for {sizes:?} bytes, the limit is {}", limits.max_bytes)))?;
    // Grows with what is really there, so that a header alone allocates nothing.
    let mut values = Vec::new();
    content
        .take(expected + 1)
        .read_to_end(&mut values)
        .map_err(|e| DataError::io(name, e))?;
    if values.len() as u64 != expected {
        let there = if values.len() as u64 > expected {
            format!("more than {expected}")
        } else {
            values.len().to_string()
        };
        return Err(wrong(format!("its header asks for {expected} values, there are {there}")));
    }
    Ok(Idx { sizes, values })
}
