//! Values of the graph's sources, each as the kernel that reads it wants it: weights, and what goes along with them.

use std::ops::Range;

use aimass_kernels::Buffer;
use aimass_kernels::conv::{self, Conv};
use aimass_kernels::dense::Dense;
use aimass_kernels::recurrent::Recurrent;

use crate::program::{Graph, GraphSource};

/// How the values of a source lie in memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) enum Layout {
    /// As in the file.
    #[default]
    Plain,
    /// Not there: a constant that is read as integers, or not at all.
    Nowhere,
    /// Weights of a fully connected layer.
    Dense {
        layer: Dense,
        /// Whether the file has a row an output.
        transposed: bool,
    },
    /// Weights of a convolution.
    Conv(Box<ConvWeights>),
    /// One of the weights of a recurrent layer, which lie together at the place of the first.
    Recurrent(RecurrentWeights),
}

/// A convolution whose weights lie as those of every other with the same channels and window.
#[derive(Debug, Clone)]
pub(super) struct ConvWeights {
    pub(super) conv: Conv,
    pub(super) shape: conv::Shape,
}

impl PartialEq for ConvWeights {
    fn eq(&self, other: &Self) -> bool {
        let of = |s: &conv::Shape| (s.channels_in, s.channels_out, s.kernel, s.groups);
        of(&self.shape) == of(&other.shape)
    }
}

/// See [`Layout::Recurrent`].
#[derive(Debug, Clone, Copy)]
pub(super) struct RecurrentWeights {
    pub(super) layer: Recurrent,
    /// W, R and B by source.
    pub(super) sources: [Option<usize>; 3],
    /// Which of them it is.
    pub(super) part: usize,
}

impl PartialEq for RecurrentWeights {
    fn eq(&self, other: &Self) -> bool {
        let of = |w: &Self| {
            let shape = w.layer.shape();
            (w.sources, w.part, shape.cell, shape.direction, shape.input, shape.hidden)
        };
        of(self) == of(other)
    }
}

impl RecurrentWeights {
    /// W, R and B as the file has them, from where they lie together.
    fn plain(&self, together: &[f32]) -> [Vec<f32>; 3] {
        let shape = self.layer.shape();
        let (gates, d) = (self.layer.gates(), self.layer.directions());
        let rows = d * gates * shape.hidden;
        let bias = if shape.bias { 2 * rows } else { 0 };
        let [mut w, mut r, mut b] = [rows * shape.input, rows * shape.hidden, bias].map(|n| vec![0.0; n]);
        self.layer.read_out(together, &mut w, &mut r, shape.bias.then_some(&mut b[..]));
        [w, r, b]
    }
}

impl Layout {
    /// The source at whose place the values of source `own` lie.
    fn home(&self, own: usize) -> usize {
        match self {
            Self::Recurrent(weights) => weights.sources[0].unwrap_or(own),
            _ => own,
        }
    }

    /// Floats at the place of a source of `plain` values.
    pub(super) fn len(&self, plain: usize) -> usize {
        match self {
            Self::Plain => plain,
            Self::Nowhere => 0,
            Self::Dense { layer, .. } => layer.weights_len(),
            Self::Conv(weights) => weights.conv.weights_len(),
            Self::Recurrent(weights) if weights.part == 0 => weights.layer.weights_len(),
            Self::Recurrent(_) => 0,
        }
    }

    fn lay_out(&self, plain: &[f32], home: &mut [f32]) {
        match self {
            Self::Nowhere => {}
            Self::Plain => home.copy_from_slice(plain),
            Self::Dense { layer, transposed } => layer.lay_out(plain, *transposed, home),
            Self::Conv(weights) => weights.conv.lay_out(plain, home),
            Self::Recurrent(weights) => {
                let mut all = weights.plain(home);
                all[weights.part].copy_from_slice(plain);
                let [w, r, b] = &all;
                weights.layer.lay_out(w, r, weights.layer.shape().bias.then_some(&b[..]), home);
            }
        }
    }

    fn read_out(&self, home: &[f32], plain: &mut [f32]) {
        match self {
            Self::Nowhere => {}
            Self::Plain => plain.copy_from_slice(home),
            Self::Dense { layer, transposed } => layer.read_out(home, *transposed, plain),
            Self::Conv(weights) => weights.conv.read_out(home, plain),
            Self::Recurrent(weights) => plain.copy_from_slice(&weights.plain(home)[weights.part]),
        }
    }
}

/// Values by source of the graph: the weights themselves, or moments of them.
#[derive(Debug, Clone, Default)]
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

    /// Zeros for what trains; nothing for the rest.
    pub(super) fn zeros(graph: &Graph) -> Self {
        let zeros = |source: &GraphSource| source.weight().map_or(0, |range| range.len());
        Self {
            values: graph.sources.iter().map(|source| Buffer::new(zeros(source))).collect(),
            layouts: vec![Layout::Plain; graph.sources.len()],
        }
    }

    /// Values of what trains, from a flat vector; nothing for the rest.
    pub(super) fn of_weights(graph: &Graph, flat: &[f32]) -> Self {
        let mut sources = Self::zeros(graph);
        sources.set(graph, flat, GraphSource::weight);
        sources
    }

    /// Whether all lie as `layouts` says.
    pub(super) fn lie_as(&self, layouts: &[Layout]) -> bool {
        self.layouts == layouts
    }

    /// Floats of all.
    pub(super) fn floats(&self) -> usize {
        self.values.iter().map(|values| values.len()).sum()
    }

    /// Lays out anew what lies otherwise.
    pub(super) fn lay_out(&mut self, graph: &Graph, layouts: &[Layout]) {
        if self.layouts == layouts {
            return;
        }
        // What lies together is laid out when all its places are there.
        let mut together = Vec::new();
        for (i, layout) in layouts.iter().enumerate() {
            if self.layouts[i] == *layout {
                continue;
            }
            let alone = !matches!(layout, Layout::Recurrent(_)) && !matches!(self.layouts[i], Layout::Recurrent(_));
            if alone && self.layouts[i] == Layout::Plain {
                // Without a copy: the largest weights may be most of the memory that there is.
                let plain = std::mem::take(&mut self.values[i]);
                self.renew(i, layout, &plain);
                self.put(i, &plain);
                continue;
            }
            let plain = self.plain(graph, i);
            if alone {
                self.renew(i, layout, &plain);
                self.put(i, &plain);
            } else {
                together.push((i, plain));
            }
        }
        for (i, plain) in &together {
            self.renew(*i, &layouts[*i], plain);
        }
        for (i, plain) in together {
            self.put(i, &plain);
        }
    }

    fn renew(&mut self, source: usize, layout: &Layout, plain: &[f32]) {
        let len = if plain.is_empty() { 0 } else { layout.len(plain.len()) };
        self.values[source] = Buffer::new(len);
        self.layouts[source] = layout.clone();
    }

    fn put(&mut self, source: usize, plain: &[f32]) {
        let layout = &self.layouts[source];
        let home = &mut self.values[layout.home(source)];
        if !plain.is_empty() && !home.is_empty() {
            layout.lay_out(plain, home);
        }
    }

    /// The values as the file has them; none where nothing is kept of it.
    pub(super) fn plain(&self, graph: &Graph, source: usize) -> Vec<f32> {
        let layout = &self.layouts[source];
        if *layout == Layout::Nowhere {
            return graph.sources[source].floats();
        }
        let home = &self.values[layout.home(source)];
        if home.is_empty() {
            return Vec::new();
        }
        let mut plain = vec![0.0; graph.sources[source].shape.iter().product()];
        layout.read_out(home, &mut plain);
        plain
    }

    /// Copies sources to their places in a flat vector that is long enough for all.
    pub(super) fn read(&self, graph: &Graph, flat: &mut [f32], place: impl Fn(&GraphSource) -> Option<Range<usize>>) {
        for (i, source) in graph.sources.iter().enumerate() {
            if let Some(place) = place(source).and_then(|range| flat.get_mut(range)) {
                let plain = self.plain(graph, i);
                if plain.len() == place.len() {
                    place.copy_from_slice(&plain);
                }
            }
        }
    }

    /// Replaces sources by those of a flat vector.
    pub(super) fn set(&mut self, graph: &Graph, flat: &[f32], place: impl Fn(&GraphSource) -> Option<Range<usize>>) {
        for (i, source) in graph.sources.iter().enumerate() {
            if let Some(values) = place(source).and_then(|range| flat.get(range)) {
                self.put(i, values);
            }
        }
    }
}
