//! The integers behind a constant that a DequantizeLinear makes, for kernels that compute with them.

use std::sync::{Arc, Mutex, PoisonError};

use aimass_kernels::Isa;
use aimass_kernels::quantized::{Runs, Weights};

use super::host::broadcast_values;

/// Integers less their zero points, and their scales.
#[derive(Debug)]
pub(crate) struct Dequantized {
    differences: Differences,
    shape: Vec<usize>,
    /// Of the tensor's rank, to be broadcast with it.
    scale_shape: Vec<usize>,
    scales: Arc<[f32]>,
    /// As kernels read them. Plans of several batches share them.
    packed: Mutex<Vec<(Key, Arc<Weights>)>>,
}

#[derive(Debug)]
enum Differences {
    Bytes(Vec<i8>),
    Words(Vec<i32>),
}

/// What tells packed weights apart: instruction set, runs and their bytes, and an order that the caller names.
type Key = (&'static str, usize, usize, Vec<usize>);

impl Dequantized {
    /// Of whole differences row-major; `None` where one is no whole number of 32 bits.
    pub(crate) fn new(differences: &[f32], shape: &[usize], scale_shape: &[usize], scales: &Arc<[f32]>) -> Option<Self> {
        // Beyond 2^24 a float holds no odd numbers: it may be another integer than the file's.
        let whole = |v: &f32| v.fract() == 0.0 && v.abs() <= (1 << 24) as f32;
        if !differences.iter().all(whole) {
            return None;
        }
        let bytes = differences.iter().all(|v| (-128.0..=127.0).contains(v));
        Some(Self {
            differences: if bytes {
                Differences::Bytes(differences.iter().map(|&v| v as i8).collect())
            } else {
                Differences::Words(differences.iter().map(|&v| v as i32).collect())
            },
            shape: shape.to_vec(),
            scale_shape: scale_shape.to_vec(),
            scales: Arc::clone(scales),
            packed: Mutex::default(),
        })
    }

    /// The floats that they stand for.
    pub(crate) fn floats(&self) -> Vec<f32> {
        let scales = broadcast_values(&self.scales, &self.scale_shape, &self.shape);
        let values: Box<dyn Iterator<Item = f32> + '_> = match &self.differences {
            Differences::Bytes(values) => Box::new(values.iter().map(|&v| f32::from(v))),
            Differences::Words(values) => Box::new(values.iter().map(|&v| v as f32)),
        };
        values.zip(scales).map(|(v, scale)| v * scale).collect()
    }

    /// Where they are bytes.
    pub(crate) fn bytes(&self) -> Option<&[i8]> {
        match &self.differences {
            Differences::Bytes(values) => Some(values),
            Differences::Words(_) => None,
        }
    }

    /// As words of 32 bits.
    pub(crate) fn words(&self) -> Vec<i32> {
        match &self.differences {
            Differences::Bytes(values) => values.iter().map(|&v| i32::from(v)).collect(),
            Differences::Words(values) => values.clone(),
        }
    }

    /// A scale for each place along `axis`; `None` where they differ along another.
    pub(crate) fn scales_along(&self, axis: usize) -> Option<Vec<f32>> {
        let n = *self.shape.get(axis)?;
        match self.scales.len() {
            1 => Some(vec![self.scales[0]; n]),
            len if len == n && self.scale_shape.get(axis) == Some(&n) => Some(self.scales.to_vec()),
            _ => None,
        }
    }

    /// How many axes it has, at least 1.
    pub(crate) fn axes(&self) -> usize {
        self.shape.len().max(1)
    }

    /// Bytes of memory that all of it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        let own = match &self.differences {
            Differences::Bytes(values) => values.len(),
            Differences::Words(values) => 4 * values.len(),
        };
        let packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        own + packed.iter().map(|(_, weights)| weights.bytes()).sum::<usize>()
    }

    /// The weights of `outputs` outputs as kernels read them; `at` says where the weight of an output for a byte lies, in an order that `order` names.
    pub(crate) fn packed(
        &self,
        isa: Isa,
        runs: &Runs,
        outputs: usize,
        order: Vec<usize>,
        at: impl Fn(usize, usize) -> usize,
    ) -> Option<Arc<Weights>> {
        let bytes = self.bytes()?;
        let key = (isa.name(), runs.count, runs.len, order);
        let mut packed = self.packed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = packed.iter().find(|(known, _)| *known == key) {
            return Some(Arc::clone(known));
        }
        let weights = Arc::new(Weights::new(isa, runs, outputs, |output, i| bytes[at(output, i)]));
        packed.push((key, Arc::clone(&weights)));
        Some(weights)
    }
}
