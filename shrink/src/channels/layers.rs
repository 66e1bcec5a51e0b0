//! Operators with weights: they make channels, read them, or scale each by itself.

use std::rc::Rc;

use aimass_onnx::proto::NodeProto;

use super::ChannelError;
use super::atoms::Atom;
use super::dims::{Channels, Extent, Window, slid};
use super::walk::{Edit, Role, Value, Walk};

/// The axis of a convolution's channels.
const CHANNEL: usize = 1;

/// A value of known rank with channels.
fn carrying(dims: Vec<Extent>, axis: usize, atoms: Rc<[Atom]>) -> Value {
    Value {
        dims: Some(dims),
        channels: Some(Channels { axis, atoms }),
        ..Value::default()
    }
}

impl<'m> Walk<'m> {
    /// The channels of a value, where they lie along `axis`.
    fn along(&self, value: &Value, axis: usize) -> Option<Rc<[Atom]>> {
        let channels = value.channels.as_ref().filter(|channels| channels.axis == axis)?;
        Some(Rc::clone(&channels.atoms))
    }

    /// Shape of the parameter that a value is, as the node sees it.
    fn weight_shape(&self, value: &Value) -> Option<Vec<usize>> {
        let (param, axes) = value.param.as_ref()?;
        let shape = &self.params[*param].tensor.shape;
        Some(axes.iter().map(|&axis| shape[axis]).collect())
    }

    pub(super) fn conv(&mut self, at: usize, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let (Some(x), Some(w)) = (self.input(node, 0), self.input(node, 1)) else {
            return Ok(self.keep(node));
        };
        let groups = usize::try_from(node.attr_i("group")?.unwrap_or(1)).unwrap_or(0);
        let (Some(shape), Some(dims)) = (self.weight_shape(&w), x.dims.clone()) else {
            return Ok(self.keep(node));
        };
        let inputs = shape.get(1).and_then(|n| n.checked_mul(groups));
        let read = self.along(&x, CHANNEL);
        let fits = read.as_ref().is_none_or(|atoms| Some(atoms.len()) == inputs);
        let sound = shape.len() == dims.len() && shape.len() >= 2 && groups > 0 && shape[0].is_multiple_of(groups) && fits;
        if !sound || (x.channels.is_some() && read.is_none()) || x.param.is_some() {
            return Ok(self.keep(node));
        }
        let made = self.atoms.fresh(shape[0])?;
        let each = shape[0] / groups;
        let depthwise = groups > 1 && shape[1] == 1 && read.is_some();
        if let (true, Some(read)) = (depthwise, &read) {
            made.iter().enumerate().for_each(|(i, &atom)| self.atoms.tie(atom, read[i / each]));
            let atoms = Rc::clone(read);
            self.edits.push(Edit::Group { node: at, atoms });
            self.bind(&w, &[(0, &made, Role::Follows)]);
        } else {
            // The same place in every group goes at once, so that groups stay equally wide.
            (each..shape[0]).for_each(|i| self.atoms.tie(made[i], made[i % each]));
            let of_one = match &read {
                Some(read) => {
                    (shape[1]..read.len()).for_each(|i| self.atoms.tie(read[i], read[i % shape[1]]));
                    Some(self.atoms.vector(shape[1], read[..shape[1]].iter().copied())?)
                }
                None => None,
            };
            let mut axes = vec![(0, &made, Role::Makes)];
            axes.extend(of_one.as_ref().map(|atoms| (1, atoms, Role::Reads)));
            self.bind(&w, &axes);
        }
        self.follow(node, 2, &made);
        let mut out = vec![dims[0], Extent::Known(shape[0])];
        out.extend(self.windows(node, &dims[2..], Some(&shape[2..]))?);
        Ok(vec![carrying(out, CHANNEL, made)])
    }

    pub(super) fn conv_transpose(&mut self, at: usize, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let (Some(x), Some(w)) = (self.input(node, 0), self.input(node, 1)) else {
            return Ok(self.keep(node));
        };
        let groups = usize::try_from(node.attr_i("group")?.unwrap_or(1)).unwrap_or(0);
        let (Some(shape), Some(dims)) = (self.weight_shape(&w), x.dims.clone()) else {
            return Ok(self.keep(node));
        };
        let read = self.along(&x, CHANNEL);
        let outputs = shape.get(1).and_then(|n| n.checked_mul(groups)).unwrap_or(0);
        let fits = read.as_ref().is_none_or(|atoms| Some(&atoms.len()) == shape.first());
        let sound = shape.len() == dims.len() && shape.len() >= 2 && outputs > 0 && fits && x.param.is_none();
        let depthwise = groups > 1 && groups == shape[0] && read.is_some();
        if !sound || (x.channels.is_some() && read.is_none()) || (groups > 1 && !depthwise) {
            return Ok(self.keep(node));
        }
        let made = self.atoms.fresh(outputs)?;
        match (&read, depthwise) {
            (Some(read), true) => {
                made.iter()
                    .enumerate()
                    .for_each(|(i, &atom)| self.atoms.tie(atom, read[i / shape[1]]));
                let atoms = Rc::clone(read);
                self.edits.push(Edit::Group { node: at, atoms });
                self.bind(&w, &[(0, read, Role::Follows)]);
            }
            (Some(read), false) => _ = self.bind(&w, &[(0, read, Role::Reads), (1, &made, Role::Makes)]),
            (None, _) => _ = self.bind(&w, &[(1, &made, Role::Makes)]),
        }
        self.follow(node, 2, &made);
        let mut out = vec![dims[0], Extent::Known(outputs)];
        out.extend((2..dims.len()).map(|_| self.symbol()));
        Ok(vec![carrying(out, CHANNEL, made)])
    }

    /// A bias or scale of one axis that goes with these channels. Where it is no parameter, they stay.
    fn follow(&mut self, node: &NodeProto, index: usize, atoms: &Rc<[Atom]>) {
        if let Some(value) = self.input(node, index) {
            self.bind(&value, &[(0, atoms, Role::Follows)]);
        }
    }

    pub(super) fn gemm(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let (Some(a), Some(b)) = (self.input(node, 0), self.input(node, 1)) else {
            return Ok(self.keep(node));
        };
        let flag = |name: &str| Ok::<_, ChannelError>(node.attr_i(name)?.unwrap_or(0) != 0);
        let (trans_a, trans_b) = (flag("transA")?, flag("transB")?);
        let (Some(shape), Some(dims)) = (self.weight_shape(&b), a.dims.clone()) else {
            return Ok(self.keep(node));
        };
        let read = self.along(&a, 1).filter(|_| !trans_a);
        if shape.len() != 2 || dims.len() != 2 || a.param.is_some() || (a.channels.is_some() && read.is_none()) {
            return Ok(self.keep(node));
        }
        let (of_inputs, of_outputs) = if trans_b { (1, 0) } else { (0, 1) };
        let made = self.atoms.fresh(shape[of_outputs])?;
        let mut axes = vec![(of_outputs, &made, Role::Makes)];
        axes.extend(read.as_ref().map(|atoms| (of_inputs, atoms, Role::Reads)));
        self.bind(&b, &axes);
        if let Some(c) = self.input(node, 2) {
            let bias = self.weight_shape(&c).filter(|shape| shape.len() <= 2);
            match bias {
                Some(bias) if bias.last().is_some_and(|&length| length == made.len()) => {
                    self.bind(&c, &[(bias.len() - 1, &made, Role::Follows)]);
                }
                Some(_) => self.pin(&c),
                None => {
                    self.pin(&c);
                    self.atoms.pin(&made);
                }
            }
        }
        let rows = dims[usize::from(trans_a)];
        Ok(vec![carrying(vec![rows, Extent::Known(made.len())], 1, made)])
    }

    pub(super) fn matmul(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let (Some(x), Some(w)) = (self.input(node, 0), self.input(node, 1)) else {
            return Ok(self.keep(node));
        };
        let (Some(shape), Some(mut dims)) = (self.weight_shape(&w), x.dims.clone()) else {
            // Attention: two computed values.
            let rank = |value: &Value| value.dims.as_ref().map(Vec::len).filter(|&rank| rank > 1);
            return Ok(match (rank(&x), rank(&w)) {
                (Some(a), Some(b)) => self.keep_rank(node, a.max(b)),
                _ => self.keep(node),
            });
        };
        if shape.len() != 2 || dims.len() < 2 || x.param.is_some() {
            return Ok(self.keep(node));
        }
        let last = dims.len() - 1;
        dims[last] = Extent::Known(shape[1]);
        if let Some(channels) = x.channels.clone().filter(|channels| channels.axis != last) {
            // The matrix works along another axis, within each channel.
            self.bind(&w, &[]);
            return Ok(vec![carrying(dims, channels.axis, channels.atoms)]);
        }
        let made = self.atoms.fresh(shape[1])?;
        let read = self.along(&x, last);
        let mut axes = vec![(1, &made, Role::Makes)];
        axes.extend(read.as_ref().map(|atoms| (0, atoms, Role::Reads)));
        self.bind(&w, &axes);
        Ok(vec![carrying(dims, last, made)])
    }

    /// LSTM, GRU and RNN read channels; their own units stay.
    pub(super) fn recurrent(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let (Some(x), Some(w)) = (self.input(node, 0), self.input(node, 1)) else {
            return Ok(self.keep(node));
        };
        let read = self.along(&x, 2).filter(|_| x.dims.as_ref().is_some_and(|dims| dims.len() == 3));
        if let (Some(read), None) = (&read, &x.param) {
            self.bind(&w, &[(2, read, Role::Reads)]);
        } else {
            self.pin(&x);
            self.pin(&w);
        }
        for index in 2..node.input.len() {
            if let Some(value) = self.input(node, index) {
                self.pin(&value);
            }
        }
        // Y has four axes, the last states three.
        let ranks = [4, 3, 3];
        let outputs = ranks.iter().take(node.output.len());
        Ok(outputs
            .map(|&rank| Value {
                dims: Some((0..rank).map(|_| self.symbol()).collect()),
                ..Value::default()
            })
            .collect())
    }

    /// Batch and instance normalization: scale, bias and statistics of each channel.
    pub(super) fn norm(&mut self, node: &NodeProto) -> Vec<Value> {
        let Some(x) = self.input(node, 0) else { return self.keep(node) };
        let more = node.output.iter().skip(1).any(|output| !output.is_empty());
        let atoms = self.along(&x, CHANNEL);
        if x.param.is_some() || more || (x.channels.is_some() && atoms.is_none()) {
            return self.keep(node);
        }
        for index in 1..node.input.len() {
            let Some(value) = self.input(node, index) else { continue };
            let role = if index >= 3 { Role::Statistic } else { Role::Follows };
            let axes: Vec<_> = atoms.iter().map(|atoms| (0, atoms, role)).collect();
            self.bind(&value, &axes);
        }
        vec![x]
    }

    /// Pooling over the axes behind the channels.
    pub(super) fn pool(&mut self, node: &NodeProto, global: bool) -> Result<Vec<Value>, ChannelError> {
        let Some(x) = self.input(node, 0) else { return Ok(self.keep(node)) };
        // Indices count over all channels.
        let more = node.output.iter().skip(1).any(|output| !output.is_empty());
        let (Some(dims), false) = (x.dims.clone().filter(|dims| dims.len() >= 2), more || x.param.is_some()) else {
            return Ok(self.keep(node));
        };
        if x.channels.as_ref().is_some_and(|channels| channels.axis != CHANNEL) {
            return Ok(self.keep(node));
        }
        let mut out = dims[..2].to_vec();
        match global {
            true => out.extend(dims[2..].iter().map(|_| Extent::Known(1))),
            false => out.extend(self.windows(node, &dims[2..], None)?),
        }
        Ok(vec![Value {
            dims: Some(out),
            channels: x.channels,
            ..Value::default()
        }])
    }

    /// Lengths that windows along the last axes give.
    fn windows(&mut self, node: &NodeProto, lengths: &[Extent], kernel: Option<&[usize]>) -> Result<Vec<Extent>, ChannelError> {
        let list = |name: &str| Ok::<_, ChannelError>(node.attr_ints(name)?.map(<[i64]>::to_vec));
        let (said, strides, dilations, pads) = (list("kernel_shape")?, list("strides")?, list("dilations")?, list("pads")?);
        let ceil = node.attr_i("ceil_mode")?.unwrap_or(0) != 0;
        let auto = node.attr_s("auto_pad")?.unwrap_or("NOTSET");
        let n = lengths.len();
        let entry = |list: &Option<Vec<i64>>, at: usize, missing: i64| {
            let number = list.as_ref().map_or(Some(missing), |list| list.get(at).copied())?;
            usize::try_from(number).ok()
        };
        let window = |axis: usize| {
            let kernel = match kernel {
                Some(kernel) => kernel.get(axis).copied()?,
                None => entry(&said, axis, -1)?,
            };
            Some(Window {
                kernel,
                stride: entry(&strides, axis, 1)?,
                dilation: entry(&dilations, axis, 1)?,
                pads: entry(&pads, axis, 0)?.checked_add(entry(&pads, n + axis, 0)?)?,
            })
        };
        let length = |axis: usize| {
            let (length, window) = (lengths[axis].known()?, window(axis)?);
            match auto {
                "NOTSET" | "" => slid(length, window, ceil),
                "VALID" => slid(length, Window { pads: 0, ..window }, ceil),
                "SAME_UPPER" | "SAME_LOWER" if window.stride > 0 => Some(length.div_ceil(window.stride)),
                _ => None,
            }
        };
        let known: Vec<_> = (0..n).map(length).collect();
        Ok(known
            .into_iter()
            .map(|length| length.map_or_else(|| self.symbol(), Extent::Known))
            .collect())
    }
}
