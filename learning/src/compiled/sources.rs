//! Weights, statistics and constants of the graph, each as the kernel that reads it wants it.

use std::ops::Range;

use aimass_kernels::Buffer;
use aimass_kernels::dense::Dense;

use crate::program::{Graph, GraphSource};

/// How the values of a source lie in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Layout {
    /// As in the file.
    #[default]
    Plain,
    /// Of a fully connected layer.
    Dense {
        layer: Dense,
        /// Whether the file has a row an output.
        transposed: bool,
    },
}

impl Layout {
    /// Floats that `plain` values take.
    pub(super) fn len(&self, plain: usize) -> usize {
        match self {
            Self::Plain => plain,
            Self::Dense { layer, .. } => layer.weights_len(),
        }
    }

    /// Values that `len` floats hold.
    pub(super) fn plain_len(&self, len: usize) -> usize {
        match self {
            Self::Plain => len,
            Self::Dense { layer, .. } => layer.inputs * layer.outputs,
        }
    }

    pub(super) fn lay_out(&self, plain: &[f32], to: &mut [f32]) {
        match self {
            Self::Plain => to.copy_from_slice(plain),
            Self::Dense { layer, transposed } => layer.lay_out(plain, *transposed, to),
        }
    }

    pub(super) fn read_out(&self, from: &[f32], plain: &mut [f32]) {
        match self {
            Self::Plain => plain.copy_from_slice(from),
            Self::Dense { layer, transposed } => layer.read_out(from, *transposed, plain),
        }
    }
}

/// By source of the graph.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) values: Vec<Buffer>,
    layouts: Vec<Layout>,
}

impl Sources {
    pub(super) fn new(graph: &Graph) -> Self {
        Self {
            values: graph.sources.iter().map(|source| Buffer::from_slice(&source.values)).collect(),
            layouts: vec![Layout::Plain; graph.sources.len()],
        }
    }

    pub(super) fn layout(&self, source: usize) -> &Layout {
        &self.layouts[source]
    }

    /// Lays out anew what lies otherwise.
    pub(super) fn lay_out(&mut self, graph: &Graph, layouts: &[Layout]) {
        for (i, wanted) in layouts.iter().enumerate() {
            if self.layouts[i] != *wanted {
                let plain = self.plain(graph, i);
                let mut laid_out = Buffer::new(wanted.len(plain.len()));
                wanted.lay_out(&plain, &mut laid_out);
                self.values[i] = laid_out;
                self.layouts[i] = wanted.clone();
            }
        }
    }

    /// The values as the file has them.
    pub(super) fn plain(&self, graph: &Graph, source: usize) -> Vec<f32> {
        let mut plain = vec![0.0; graph.sources[source].shape.iter().product()];
        self.layouts[source].read_out(&self.values[source], &mut plain);
        plain
    }

    /// Copies sources to their places in a flat vector that is long enough for all.
    pub(super) fn read(&self, graph: &Graph, flat: &mut [f32], place: impl Fn(&GraphSource) -> Option<Range<usize>>) {
        for (i, source) in graph.sources.iter().enumerate() {
            if let Some(place) = place(source).and_then(|range| flat.get_mut(range)) {
                self.layouts[i].read_out(&self.values[i], place);
            }
        }
    }

    /// Replaces sources by those of a flat vector.
    pub(super) fn set(&mut self, graph: &Graph, flat: &[f32], place: impl Fn(&GraphSource) -> Option<Range<usize>>) {
        for (i, source) in graph.sources.iter().enumerate() {
            if let Some(values) = place(source).and_then(|range| flat.get(range)) {
                self.layouts[i].lay_out(values, &mut self.values[i]);
            }
        }
    }
}
