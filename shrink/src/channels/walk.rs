//! One walk over a graph in order: which axes of values and parameters carry which channels.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use aimass_onnx::proto::{GraphProto, NodeProto, TensorProto};
use aimass_onnx::{Dim, ElementType, Model, TensorRef};

use super::ChannelError;
use super::atoms::{Atom, Atoms};
use super::dims::{Channels, Element, Extent};

/// Longest list of integers that may be a shape.
const MAX_SHAPE: usize = 64;
/// In this version of the format and older ones, every initializer is an input.
const INITIALIZERS_ARE_INPUTS: i64 = 3;

/// A constant tensor of the file: an initializer, or what a Constant node holds.
pub(super) struct Param<'m> {
    pub(super) name: &'m str,
    pub(super) place: Place,
    pub(super) tensor: TensorRef<'m>,
    /// The axes that carry channels.
    pub(super) axes: BTreeMap<usize, Rc<[Atom]>>,
    /// Axes along which something reads these channels and adds them up.
    pub(super) outgoing: BTreeSet<usize>,
    /// Axes along which it makes channels.
    pub(super) makes: BTreeSet<usize>,
    /// It is a running statistic, which has no say in how much a channel matters.
    pub(super) statistic: bool,
    /// Axes that must stay as they are.
    fixed: BTreeSet<usize>,
}

/// Where a constant is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Initializer(usize),
    Node(usize),
}

/// What a parameter's axis is to a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It makes the channel.
    Makes,
    /// It goes with it, as a bias.
    Follows,
    /// It reads it.
    Reads,
    /// A running statistic that goes with it.
    Statistic,
}

/// What is known of a value.
#[derive(Clone, Default)]
pub(super) struct Value {
    /// `None` where not even the rank is known.
    pub(super) dims: Option<Vec<Extent>>,
    pub(super) channels: Option<Channels>,
    /// The numbers in it, where it is a shape.
    pub(super) shape: Option<Vec<Element>>,
    /// It is a parameter with its axes in this order.
    pub(super) param: Option<(usize, Vec<usize>)>,
}

/// A number of the graph that depends on how many channels are kept.
pub(super) enum Edit {
    /// Entry `at` of the constant integers at `input` of a node: as many as are kept of these.
    Shape {
        node: usize,
        input: usize,
        at: usize,
        atoms: Rc<[Atom]>,
    },
    /// An attribute that is a list, one number for each run.
    List {
        node: usize,
        attribute: &'static str,
        runs: Vec<Rc<[Atom]>>,
    },
    /// The attribute `group` of a depthwise convolution.
    Group { node: usize, atoms: Rc<[Atom]> },
}

/// A graph with its channels.
pub(super) struct Walk<'m> {
    pub(super) atoms: Atoms,
    pub(super) params: Vec<Param<'m>>,
    pub(super) edits: Vec<Edit>,
    pub(super) opset: i64,
    values: BTreeMap<&'m str, Value>,
    symbols: u32,
}

impl<'m> Walk<'m> {
    pub(super) fn over(model: &'m Model) -> Result<Self, ChannelError> {
        let graph = model.graph();
        let mut walk = Self {
            atoms: Atoms::default(),
            params: Vec::new(),
            edits: Vec::new(),
            opset: model.opset(),
            values: BTreeMap::new(),
            symbols: 0,
        };
        walk.inputs(model);
        for (index, tensor) in graph.initializer.iter().enumerate() {
            walk.constant(&tensor.name, Place::Initializer(index), tensor);
        }
        for (index, node) in graph.node.iter().enumerate() {
            let values = walk.visit(index, node)?;
            for (output, value) in node.output.iter().zip(values) {
                walk.values.insert(output, value);
            }
        }
        for output in &graph.output {
            walk.pin(&walk.value(&output.name));
        }
        // An initializer that may be fed another value has to keep its shape.
        if model.proto().ir_version > INITIALIZERS_ARE_INPUTS {
            graph.input.iter().for_each(|input| walk.pin_param(&input.name));
        }
        walk.settle();
        Ok(walk)
    }

    fn inputs(&mut self, model: &'m Model) {
        let mut named = BTreeMap::new();
        for (input, info) in model.graph().input.iter().filter_map(|input| {
            let info = model.inputs().iter().find(|info| info.name == input.name)?;
            Some((input, info))
        }) {
            let mut extent = |dim: &'m Dim| match dim {
                Dim::Fixed(length) => Extent::Known(*length),
                Dim::Symbol(name) => *named.entry(name.as_str()).or_insert_with(|| self.symbol()),
                Dim::Unknown => self.symbol(),
            };
            let dims = info.dims.as_ref().map(|dims| dims.iter().map(&mut extent).collect());
            self.values.insert(&input.name, Value { dims, ..Value::default() });
        }
    }

    /// Notes a constant tensor under its name.
    pub(super) fn constant(&mut self, name: &'m str, place: Place, tensor: &'m TensorProto) {
        let Ok(tensor) = TensorRef::new(tensor) else { return };
        let is_shape = tensor.shape.len() <= 1 && tensor.n_elements() <= MAX_SHAPE;
        let literals = |values: Vec<i64>| values.into_iter().map(Element::Literal).collect();
        let value = Value {
            dims: Some(tensor.shape.iter().map(|&length| Extent::Known(length)).collect()),
            shape: if is_shape { tensor.to_i64().map(literals) } else { None },
            param: Some((self.params.len(), (0..tensor.shape.len()).collect())),
            channels: None,
        };
        self.params.push(Param {
            name,
            place,
            tensor,
            axes: BTreeMap::new(),
            outgoing: BTreeSet::new(),
            makes: BTreeSet::new(),
            statistic: false,
            fixed: BTreeSet::new(),
        });
        self.values.insert(name, value);
    }

    /// An extent that equals no other.
    pub(super) fn symbol(&mut self) -> Extent {
        self.symbols += 1;
        Extent::Symbol(self.symbols)
    }

    pub(super) fn value(&self, name: &str) -> Value {
        self.values.get(name).cloned().unwrap_or_default()
    }

    /// Input `index` of a node; `None` where it is left out.
    pub(super) fn input(&self, node: &NodeProto, index: usize) -> Option<Value> {
        node.input_name(index).map(|name| self.value(name))
    }

    /// Integers at input `index` of a node that are all known.
    pub(super) fn literals(&self, node: &NodeProto, index: usize) -> Option<Vec<i64>> {
        let literal = |element: &Element| match element {
            Element::Literal(number) => Some(*number),
            Element::Dim(extent) => extent.known().and_then(|length| i64::try_from(length).ok()),
            Element::Channels(_) => None,
        };
        self.input(node, index)?.shape?.iter().map(literal).collect()
    }

    /// What a value carries has to stay as it is.
    pub(super) fn pin(&mut self, value: &Value) {
        if let Some(channels) = &value.channels {
            self.atoms.pin(&channels.atoms);
        }
        for element in value.shape.iter().flatten() {
            if let Element::Channels(atoms) = element {
                self.atoms.pin(atoms);
            }
        }
        if let Some((param, axes)) = &value.param {
            self.params[*param].fixed.extend(axes);
        }
    }

    fn pin_param(&mut self, name: &str) {
        let value = self.value(name);
        if value.param.is_some() {
            self.pin(&value);
        }
    }

    /// Whatever this node does with its inputs, they stay, and nothing is known of its outputs.
    pub(super) fn keep(&mut self, node: &NodeProto) -> Vec<Value> {
        for input in &node.input {
            self.pin(&self.value(input));
        }
        vec![Value::default(); node.output.len()]
    }

    /// As [`Self::keep`], where the number of axes of the outputs is known.
    pub(super) fn keep_rank(&mut self, node: &NodeProto, rank: usize) -> Vec<Value> {
        self.keep(node);
        let value = |walk: &mut Self| Value {
            dims: Some((0..rank).map(|_| walk.symbol()).collect()),
            ..Value::default()
        };
        node.output.iter().map(|_| value(self)).collect()
    }

    /// Graphs within a node see the values around it.
    pub(super) fn keep_within(&mut self, node: &NodeProto) {
        for attribute in &node.attribute {
            for graph in attribute.g.iter().map(|g| &**g).chain(&attribute.graphs) {
                self.keep_graph(graph);
            }
        }
    }

    fn keep_graph(&mut self, graph: &GraphProto) {
        for node in &graph.node {
            self.keep(node);
            // Not deeper than the limit on nesting that the reader holds.
            self.keep_within(node);
        }
        for output in &graph.output {
            self.pin(&self.value(&output.name));
        }
    }

    /// One use of a parameter: which of its axes (of this view) carry which channels; its other axes stay as they are. False where it is
    /// no float32 parameter of these lengths: then it stays, and the channels do.
    pub(super) fn bind(&mut self, value: &Value, axes: &[(usize, &Rc<[Atom]>, Role)]) -> bool {
        let sound = value.param.as_ref().filter(|(param, view)| {
            let tensor = &self.params[*param].tensor;
            let fits =
                |&(axis, atoms, _): &(usize, &Rc<[Atom]>, Role)| view.get(axis).is_some_and(|&axis| tensor.shape[axis] == atoms.len());
            tensor.element == ElementType::F32 && axes.iter().all(fits)
        });
        let Some((param, view)) = sound else {
            self.pin(value);
            axes.iter().for_each(|(_, atoms, _)| self.atoms.pin(atoms));
            return false;
        };
        let param = &mut self.params[*param];
        for (position, &axis) in view.iter().enumerate() {
            let Some((_, atoms, role)) = axes.iter().find(|(bound, _, _)| *bound == position) else {
                param.fixed.insert(axis);
                continue;
            };
            match role {
                Role::Makes => _ = param.makes.insert(axis),
                Role::Reads => _ = param.outgoing.insert(axis),
                Role::Statistic => param.statistic = true,
                Role::Follows => {}
            }
            match param.axes.get(&axis) {
                Some(before) => {
                    let before = Rc::clone(before);
                    self.atoms.tie_all(&before, atoms);
                }
                None => _ = param.axes.insert(axis, Rc::clone(atoms)),
            }
        }
        true
    }

    /// Pins what parameters have to keep.
    fn settle(&mut self) {
        for param in &self.params {
            for axis in &param.fixed {
                if let Some(atoms) = param.axes.get(axis) {
                    self.atoms.pin(atoms);
                }
            }
        }
    }
}
