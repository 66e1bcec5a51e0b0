//! Operators that lay values out anew.

use std::rc::Rc;

use aimass_onnx::proto::NodeProto;

use super::{axis_of, resolve};
use crate::channels::ChannelError;
use crate::channels::dims::{Channels, Element, Extent, regrouped};
use crate::channels::walk::{Edit, Value, Walk};

impl Walk<'_> {
    pub(super) fn shape(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let Some(x) = self.input(node, 0) else { return Ok(self.keep(node)) };
        let (Some(dims), None, None, None) = (&x.dims, &x.param, node.attr("start"), node.attr("end")) else {
            return Ok(self.keep(node));
        };
        let element = |(axis, &extent): (usize, &Extent)| match &x.channels {
            Some(channels) if channels.axis == axis => Element::Channels(Rc::clone(&channels.atoms)),
            _ => Element::Dim(extent),
        };
        Ok(vec![Value {
            dims: Some(vec![Extent::Known(dims.len())]),
            shape: Some(dims.iter().enumerate().map(element).collect()),
            ..Value::default()
        }])
    }

    pub(super) fn flatten(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let Some((x, dims)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?))) else {
            return Ok(self.keep(node));
        };
        let first = node.attr_i("axis")?.unwrap_or(1) == 1 && !dims.is_empty();
        let rest: Option<Vec<usize>> = dims.iter().skip(1).map(|extent| extent.known()).collect();
        let size = rest
            .as_ref()
            .and_then(|rest| rest.iter().try_fold(1usize, |p, &n| p.checked_mul(n)));
        let (true, Some(rest), Some(size), None) = (first, rest, size, &x.param) else {
            self.keep(node);
            let dims = Some(vec![self.symbol(), self.symbol()]);
            return Ok(vec![Value { dims, ..Value::default() }]);
        };
        let channels = match &x.channels {
            Some(channels) => self.moved(channels, &rest, &[size])?,
            None => None,
        };
        if channels.is_none() {
            self.pin(&x);
        }
        Ok(vec![Value {
            dims: Some(vec![dims[0], Extent::Known(size)]),
            channels,
            ..Value::default()
        }])
    }

    /// Channels of a value `[first, from...]` after it became `[first, to...]`.
    pub(super) fn moved(&mut self, channels: &Channels, from: &[usize], to: &[usize]) -> Result<Option<Channels>, ChannelError> {
        let Some(c) = channels.axis.checked_sub(1) else { return Ok(None) };
        let Some((axis, outer, inner)) = regrouped(from, c, to).filter(|_| channels.atoms.len() > 1) else {
            return Ok(None);
        };
        if (outer, inner) == (1, 1) {
            let atoms = Rc::clone(&channels.atoms);
            return Ok(Some(Channels { axis: axis + 1, atoms }));
        }
        let Some(len) = outer.checked_mul(inner).and_then(|n| n.checked_mul(channels.atoms.len())) else {
            return Ok(None);
        };
        let once = || channels.atoms.iter().flat_map(|&atom| std::iter::repeat_n(atom, inner));
        let atoms = self.atoms.vector(len, (0..outer).flat_map(|_| once()))?;
        Ok(Some(Channels { axis: axis + 1, atoms }))
    }

    pub(super) fn reshape(&mut self, at: usize, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let (Some(x), Some(to)) = (self.input(node, 0), self.input(node, 1)) else {
            return Ok(self.keep(node));
        };
        let Some(wanted) = to.shape.clone() else {
            return Ok(self.keep(node));
        };
        if let (Some(shape), [Element::Literal(-1)] | []) = (&x.shape, &wanted[..]) {
            let dims = Some(wanted.iter().map(|_| Extent::Known(shape.len())).collect());
            return Ok(vec![Value {
                dims,
                shape: x.shape,
                ..Value::default()
            }]);
        }
        let zero_copies = node.attr_i("allowzero")?.unwrap_or(0) == 0;
        let from = x.dims.clone().filter(|dims| zero_copies && !dims.is_empty() && x.param.is_none());
        let resolved = from.as_deref().and_then(|from| resolve(from, &wanted));
        let Some((from, out)) = from.zip(resolved) else {
            self.keep(node);
            let dims = Some(wanted.iter().map(|_| self.symbol()).collect());
            return Ok(vec![Value { dims, ..Value::default() }]);
        };
        let known = |extents: &[Extent]| extents.iter().map(|extent| extent.known()).collect::<Option<Vec<_>>>();
        let channels = match (&x.channels, known(&from[1..]), known(&out[1..])) {
            (Some(channels), Some(from), Some(to)) => self.moved(channels, &from, &to)?,
            _ => None,
        };
        let constant = self.constant_input(node, 1);
        let channels = channels.filter(|channels| self.reshape_follows(at, &x, channels, &wanted, constant));
        if channels.is_none() {
            self.keep(node);
        }
        Ok(vec![Value {
            dims: Some(out),
            channels,
            ..Value::default()
        }])
    }

    /// That the shape says, or can be made to say, how many channels are left.
    pub(super) fn reshape_follows(&mut self, node: usize, x: &Value, channels: &Channels, wanted: &[Element], constant: bool) -> bool {
        // Elsewhere the number of channels would be a length of something else.
        let before = x.channels.as_ref().map(|before| before.axis);
        let counts = |at: usize, element: &Element| match element {
            Element::Channels(_) => true,
            Element::Literal(0) => before == Some(at),
            _ => false,
        };
        let elsewhere = |(at, element): (usize, &Element)| at != channels.axis && counts(at, element);
        if wanted.iter().enumerate().any(elsewhere) {
            return false;
        }
        let copies = x
            .channels
            .as_ref()
            .is_some_and(|before| before.axis == channels.axis && before.atoms.len() == channels.atoms.len());
        match &wanted[channels.axis] {
            Element::Literal(-1) => true,
            Element::Literal(0) if copies => true,
            Element::Literal(_) if constant => {
                self.edits.push(Edit::Shape {
                    node,
                    input: 1,
                    at: channels.axis,
                    atoms: Rc::clone(&channels.atoms),
                });
                true
            }
            Element::Channels(atoms) if atoms.len() == channels.atoms.len() => {
                self.atoms.tie_all(atoms, &channels.atoms);
                true
            }
            _ => false,
        }
    }

    pub(super) fn transpose(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let Some((x, dims)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?))) else {
            return Ok(self.keep(node));
        };
        let rank = dims.len();
        let perm: Option<Vec<usize>> = match node.attr_ints("perm")? {
            Some(perm) => perm.iter().map(|&axis| axis_of(axis, rank)).collect(),
            None => Some((0..rank).rev().collect()),
        };
        let is_order = |perm: &Vec<usize>| perm.len() == rank && (0..rank).all(|axis| perm.contains(&axis));
        let Some(perm) = perm.filter(is_order) else {
            return Ok(self.keep(node));
        };
        let moved = |channels: Channels| {
            let axis = perm.iter().position(|&axis| axis == channels.axis).unwrap_or(channels.axis);
            Channels { axis, ..channels }
        };
        Ok(vec![Value {
            dims: Some(perm.iter().map(|&axis| dims[axis]).collect()),
            channels: x.channels.map(moved),
            param: x.param.map(|(param, axes)| (param, perm.iter().map(|&axis| axes[axis]).collect())),
            shape: x.shape.filter(|_| rank <= 1),
        }])
    }

    pub(super) fn squeeze(&mut self, node: &NodeProto, takes_out: bool) -> Result<Vec<Value>, ChannelError> {
        let Some((x, dims)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?))) else {
            return Ok(self.keep(node));
        };
        if x.shape.is_some() && dims.len() <= 1 {
            let dims = if takes_out { Vec::new() } else { vec![Extent::Known(1)] };
            return Ok(vec![Value {
                dims: Some(dims),
                param: None,
                ..x
            }]);
        }
        let axes = match self.opset < 13 {
            true => node.attr_ints("axes")?.map(<[i64]>::to_vec),
            false => self.literals(node, 1),
        };
        let rank = |axes: &Vec<i64>| if takes_out { dims.len() } else { dims.len() + axes.len() };
        let axes: Option<Vec<usize>> = axes.and_then(|axes| axes.iter().map(|&axis| axis_of(axis, rank(&axes))).collect());
        let Some(mut axes) = axes.filter(|_| x.param.is_none()) else {
            return Ok(self.keep(node));
        };
        axes.sort_unstable();
        axes.dedup();
        // For each axis of the output the one of the input, or a new one.
        let places: Vec<Option<usize>> = match takes_out {
            true => (0..dims.len()).filter(|axis| !axes.contains(axis)).map(Some).collect(),
            false => {
                let mut left = 0..dims.len();
                let place = |axis: usize| if axes.contains(&axis) { None } else { left.next() };
                (0..dims.len() + axes.len()).map(place).collect()
            }
        };
        let channels = x.channels.clone().and_then(|channels| {
            let axis = places.iter().position(|&place| place == Some(channels.axis))?;
            Some(Channels { axis, ..channels })
        });
        if channels.is_none() {
            self.pin(&x);
        }
        let extent = |place: &Option<usize>| place.map_or(Extent::Known(1), |axis| dims[axis]);
        Ok(vec![Value {
            dims: Some(places.iter().map(extent).collect()),
            channels,
            ..Value::default()
        }])
    }

    pub(super) fn pad(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let Some((x, mut dims)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?))) else {
            return Ok(self.keep(node));
        };
        let pads = match self.opset < 11 {
            true => node.attr_ints("pads")?.map(<[i64]>::to_vec),
            false => self.literals(node, 1),
        };
        let axes = match node.input_name(3) {
            Some(_) => self.literals(node, 3),
            None => Some((0..dims.len() as i64).collect()),
        };
        let axes: Option<Vec<usize>> = axes.and_then(|axes| axes.iter().map(|&axis| axis_of(axis, dims.len())).collect());
        let (Some(pads), Some(axes), None) = (pads, axes, &x.param) else {
            return Ok(self.keep(node));
        };
        let both = |place: usize| Some((*pads.get(place)?, *pads.get(place + axes.len())?));
        let grows = |(place, &axis): (usize, &usize)| (both(place) != Some((0, 0))).then_some(axis);
        let grown: Vec<usize> = axes.iter().enumerate().filter_map(grows).collect();
        if x.channels.as_ref().is_some_and(|channels| grown.contains(&channels.axis)) {
            return Ok(self.keep(node));
        }
        for (place, &axis) in axes.iter().enumerate().filter(|(_, axis)| grown.contains(axis)) {
            let added = both(place).and_then(|(before, after)| before.checked_add(after));
            let length = dims[axis].known().and_then(|length| i64::try_from(length).ok());
            let length = length
                .zip(added)
                .and_then(|(length, added)| usize::try_from(length.checked_add(added)?).ok());
            dims[axis] = length.map_or_else(|| self.symbol(), Extent::Known);
        }
        self.keep_from(node, 1);
        Ok(vec![Value {
            dims: Some(dims),
            channels: x.channels,
            ..Value::default()
        }])
    }

    pub(super) fn resize(&mut self, node: &NodeProto, op: &str) -> Result<Vec<Value>, ChannelError> {
        let Some((x, dims)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?))) else {
            return Ok(self.keep(node));
        };
        let crops = node.attr_s("coordinate_transformation_mode")? == Some("tf_crop_and_resize");
        let axes = node
            .attr_ints("axes")?
            .map_or_else(|| (0..dims.len() as i64).collect(), <[i64]>::to_vec);
        let axes: Option<Vec<usize>> = axes.iter().map(|&axis| axis_of(axis, dims.len())).collect();
        let scales = if op == "Upsample" || self.opset < 11 { 1 } else { 2 };
        let place = |c: usize| axes.as_ref().and_then(|axes| axes.iter().position(|&axis| axis == c));
        let still = match x.channels.as_ref().map(|channels| place(channels.axis)) {
            None => true,
            Some(None) => axes.is_some(),
            Some(Some(at)) => self.keeps_length(node, scales, at),
        };
        if crops || !still || x.param.is_some() {
            return Ok(self.keep(node));
        }
        self.keep_from(node, 1);
        let c = x.channels.as_ref().map(|channels| channels.axis);
        let dims = (0..dims.len()).map(|axis| {
            if Some(axis) == c || axis == 0 && c.is_some() {
                dims[axis]
            } else {
                self.symbol()
            }
        });
        let mut dims: Vec<_> = dims.collect();
        // The first axis is the batch's only where it is not resized either.
        if c.is_some() && place(0).is_some_and(|at| !self.keeps_length(node, scales, at)) {
            dims[0] = self.symbol();
        }
        Ok(vec![Value {
            dims: Some(dims),
            channels: x.channels,
            ..Value::default()
        }])
    }

    /// Whether a Resize has the constant scale 1 at a place of its list.
    pub(super) fn keeps_length(&self, node: &NodeProto, scales: usize, at: usize) -> bool {
        let param = self.input(node, scales).and_then(|value| value.param);
        let values = param.and_then(|(param, _)| self.params[param].tensor.to_f32());
        values.is_some_and(|values| values.get(at) == Some(&1.0))
    }

    pub(super) fn reduce(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let Some((x, dims)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?))) else {
            return Ok(self.keep(node));
        };
        let axes = match node.attr_ints("axes")? {
            Some(axes) => Some(axes.to_vec()),
            None => self.literals(node, 1),
        };
        let axes: Option<Vec<usize>> = axes.and_then(|axes| axes.iter().map(|&axis| axis_of(axis, dims.len())).collect());
        let keeps = node.attr_i("keepdims")?.unwrap_or(1) != 0;
        let over = |axes: &Vec<usize>| axes.is_empty() || x.channels.as_ref().is_some_and(|channels| axes.contains(&channels.axis));
        let Some(axes) = axes.filter(|axes| !over(axes) && x.param.is_none()) else {
            return Ok(self.keep(node));
        };
        let left = |axis: &usize| keeps || !axes.contains(axis);
        let extent = |axis: usize| if axes.contains(&axis) { Extent::Known(1) } else { dims[axis] };
        let moved = |channels: Channels| Channels {
            axis: (0..channels.axis).filter(left).count(),
            ..channels
        };
        Ok(vec![Value {
            dims: Some((0..dims.len()).filter(left).map(extent).collect()),
            channels: x.channels.map(moved),
            ..Value::default()
        }])
    }
}
