//! IDX files of unsigned bytes: MNIST and its kin.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::csv::{open, unpacked};
use super::{DataError, Dataset, Limits, Source};
use crate::Batch;
use crate::array::Array;

/// "Unsigned byte" in the header's third byte.
const UBYTE: u8 = 0x08;
/// Most dimensions that an images file may have: rows, height, width, channels.
const MAX_RANK: usize = 4;

/// Sizes and values of one file.
struct Idx {
    sizes: Vec<usize>,
    values: Vec<u8>,
}

/// A pixel as a feature.
fn feature(pixel: u8) -> f32 {
    f32::from(pixel) / 255.0
}

pub(super) fn read(images: &Path, labels: &Path, limits: &Limits) -> Result<Dataset, DataError> {
    let IdxRows { pixels, labels, n_pixels } = IdxRows::open(images, labels, limits)?;
    let features = pixels.into_iter().map(feature).collect();
    Dataset::new(features, labels, n_pixels).ok_or_else(|| {
        let name = images.display().to_string();
        DataError::parse(&name, 0, 0, "sizes and values differ")
    })
}

/// The labels of a file of images by MNIST's names: `train-labels-idx1-ubyte.gz` beside `train-images-idx3-ubyte.gz`.
pub(super) fn labels_beside(images: &Path) -> Result<PathBuf, DataError> {
    let name = images.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let labels = images.with_file_name(name.replace("images", "labels").replace("idx3", "idx1"));
    if labels != images && labels.is_file() {
        return Ok(labels);
    }
    let problem = "holds images; name the file of their labels with --labels";
    Err(DataError::parse(&images.display().to_string(), 0, 0, problem))
}

/// Images and their labels in memory, a byte a pixel.
#[derive(Debug)]
pub(super) struct IdxRows {
    pixels: Vec<u8>,
    labels: Vec<f32>,
    n_pixels: usize,
}

impl IdxRows {
    pub(super) fn open(images: &Path, labels: &Path, limits: &Limits) -> Result<Self, DataError> {
        pair(images, labels, limits)
    }

    /// Pixels an image.
    pub(super) fn n_pixels(&self) -> usize {
        self.n_pixels
    }
}

impl Source for IdxRows {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn batch(&self, rows: &[usize]) -> Result<Batch, DataError> {
        let mut features = Vec::with_capacity(rows.len() * self.n_pixels);
        for &row in rows {
            features.extend(self.pixels[row * self.n_pixels..][..self.n_pixels].iter().map(|&p| feature(p)));
        }
        let labels = rows.iter().map(|&row| self.labels[row]).collect();
        Batch::rows(features, labels).ok_or_else(|| DataError::Columns {
            problem: "the rows have no features; nothing can be trained".to_owned(),
        })
    }

    fn targets(&self) -> Option<Vec<Array>> {
        Some(vec![Array::float_list(self.labels.clone())])
    }

    fn fingerprint(&self, feed: &mut dyn FnMut(&[u8])) -> Result<(), DataError> {
        feed(b"aimass/images/1");
        feed(&(self.n_pixels as u64).to_le_bytes());
        feed(&self.pixels);
        self.labels.iter().for_each(|label| feed(&label.to_le_bytes()));
        Ok(())
    }
}

fn pair(images: &Path, labels: &Path, limits: &Limits) -> Result<IdxRows, DataError> {
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
    Ok(IdxRows {
        pixels: images.values,
        labels: labels.values.into_iter().map(f32::from).collect(),
        n_pixels: pixels,
    })
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
