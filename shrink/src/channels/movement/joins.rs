//! Operators that put values together and take parts of them.

use std::rc::Rc;

use aimass_onnx::proto::NodeProto;

use super::{MAX_AXES, axis_of};
use crate::channels::ChannelError;
use crate::channels::atoms::Atom;
use crate::channels::dims::{Channels, Element, Extent};
use crate::channels::walk::{Edit, Value, Walk};

impl Walk<'_> {
    pub(super) fn concat(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let inputs: Vec<Value> = (0..node.input.len()).filter_map(|index| self.input(node, index)).collect();
        let shapes: Option<Vec<_>> = inputs.iter().map(|value| value.shape.clone()).collect();
        if let Some(shapes) = shapes.filter(|shapes| shapes.iter().map(Vec::len).sum::<usize>() <= MAX_AXES) {
            let shape: Vec<_> = shapes.into_iter().flatten().collect();
            return Ok(vec![Value {
                dims: Some(vec![Extent::Known(shape.len())]),
                shape: Some(shape),
                ..Value::default()
            }]);
        }
        let dims: Option<Vec<Vec<Extent>>> = inputs.iter().map(|value| value.dims.clone()).collect();
        let Some((dims, mut out)) = dims.and_then(|dims| Some((dims.clone(), dims.first()?.clone()))) else {
            return Ok(self.keep(node));
        };
        let Some(axis) = axis_of(node.attr_i("axis")?.unwrap_or(1), out.len()).filter(|_| dims.iter().all(|d| d.len() == out.len())) else {
            return Ok(self.keep(node));
        };
        let lengths: Option<Vec<usize>> = dims.iter().map(|dims| dims[axis].known()).collect();
        out[axis] = match lengths
            .as_ref()
            .and_then(|l| l.iter().try_fold(0usize, |sum, &length| sum.checked_add(length)))
        {
            Some(sum) => Extent::Known(sum),
            None => self.symbol(),
        };
        let carried = inputs.iter().any(|value| value.channels.is_some());
        if !carried || inputs.iter().any(|value| value.param.is_some()) {
            self.keep(node);
            return Ok(vec![Value {
                dims: Some(out),
                ..Value::default()
            }]);
        }
        let channels = match inputs.iter().all(|v| v.channels.as_ref().is_none_or(|c| c.axis == axis)) {
            true => self.joined(&inputs, axis, lengths.as_deref())?,
            false => self.common(&inputs, out.len()).filter(|channels| channels.axis != axis),
        };
        if channels.is_none() {
            self.keep(node);
        }
        Ok(vec![Value {
            dims: Some(out),
            channels,
            ..Value::default()
        }])
    }

    /// Channels behind each other; those of values that are not followed stay.
    pub(super) fn joined(&mut self, inputs: &[Value], axis: usize, lengths: Option<&[usize]>) -> Result<Option<Channels>, ChannelError> {
        let Some(lengths) = lengths else { return Ok(None) };
        let mut all: Vec<Atom> = Vec::new();
        for (value, &length) in inputs.iter().zip(lengths) {
            match &value.channels {
                Some(channels) => all.extend_from_slice(&channels.atoms),
                None => {
                    let still = self.atoms.fresh(length)?;
                    self.atoms.pin(&still);
                    all.extend_from_slice(&still);
                }
            }
        }
        let atoms = self.atoms.vector(all.len(), all.iter().copied())?;
        Ok(Some(Channels { axis, atoms }))
    }

    pub(super) fn split(&mut self, at: usize, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let Some((x, mut dims)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?))) else {
            return Ok(self.keep(node));
        };
        let axis = axis_of(node.attr_i("axis")?.unwrap_or(0), dims.len());
        let (Some(axis), None) = (axis, &x.param) else {
            return Ok(self.keep(node));
        };
        let Some(channels) = x.channels.filter(|channels| channels.axis == axis) else {
            let again = self.input(node, 0).and_then(|x| x.channels);
            let outputs = node.output.iter().map(|_| {
                dims[axis] = self.symbol();
                Value {
                    dims: Some(dims.clone()),
                    channels: again.clone(),
                    ..Value::default()
                }
            });
            return Ok(outputs.collect());
        };
        let by_input = node.input_name(1).is_some();
        let sizes = match by_input {
            true => self.literals(node, 1).filter(|_| self.constant_input(node, 1)),
            false => node.attr_ints("split")?.map(<[i64]>::to_vec),
        };
        let sizes: Option<Vec<usize>> = sizes.and_then(|sizes| sizes.into_iter().map(|n| usize::try_from(n).ok()).collect());
        let total = sizes
            .as_ref()
            .and_then(|sizes| sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n)));
        let Some(sizes) =
            sizes.filter(|sizes| total == Some(channels.atoms.len()) && sizes.len() == node.output.len() && !sizes.contains(&0))
        else {
            return Ok(self.keep_rank(node, dims.len()));
        };
        let (mut from, mut outputs, mut runs) = (0, Vec::new(), Vec::new());
        for &size in &sizes {
            let atoms = self.atoms.run(&channels.atoms[from..from + size])?;
            from += size;
            dims[axis] = Extent::Known(size);
            runs.push(Rc::clone(&atoms));
            outputs.push(Value {
                dims: Some(dims.clone()),
                channels: Some(Channels { axis, atoms }),
                ..Value::default()
            });
        }
        match by_input {
            true => self.edits.extend(runs.into_iter().enumerate().map(|(place, atoms)| Edit::Shape {
                node: at,
                input: 1,
                at: place,
                atoms,
            })),
            false => self.edits.push(Edit::List {
                node: at,
                attribute: "split",
                runs,
            }),
        }
        Ok(outputs)
    }

    pub(super) fn slice(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let Some((x, mut dims)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?))) else {
            return Ok(self.keep(node));
        };
        let list = |walk: &Self, name: &str, index: usize| match walk.opset < 10 {
            true => node.attr_ints(name).map(|list| list.map(<[i64]>::to_vec)),
            false => Ok(walk.literals(node, index)),
        };
        let (starts, ends) = (list(self, "starts", 1)?, list(self, "ends", 2)?);
        let said = self.opset < 10 && node.attr("axes").is_some() || node.input_name(3).is_some();
        let axes = match (said, &starts) {
            (true, _) => list(self, "axes", 3)?,
            (false, Some(starts)) => Some((0..starts.len() as i64).collect()),
            (false, None) => None,
        };
        let steps = node.input_name(4).map(|_| self.literals(node, 4));
        let by_one = steps.is_none_or(|steps| steps.is_some_and(|steps| steps.iter().all(|&step| step == 1)));
        // Parts of a shape.
        if let (Some(shape), Some([start]), Some([end]), true) = (&x.shape, starts.as_deref(), ends.as_deref(), by_one) {
            let length = shape.len() as i64;
            let place = |number: i64| if number < 0 { number.saturating_add(length) } else { number }.clamp(0, length) as usize;
            let part = shape.get(place(*start)..place(*end)).map(<[Element]>::to_vec).unwrap_or_default();
            return Ok(vec![Value {
                dims: Some(vec![Extent::Known(part.len())]),
                shape: Some(part),
                ..Value::default()
            }]);
        }
        let axes: Option<Vec<usize>> = axes.and_then(|axes| axes.into_iter().map(|axis| axis_of(axis, dims.len())).collect());
        let Some(axes) = axes.filter(|axes| x.param.is_none() && !x.channels.as_ref().is_some_and(|c| axes.contains(&c.axis))) else {
            return Ok(self.keep_rank(node, dims.len()));
        };
        for axis in axes {
            dims[axis] = self.symbol();
        }
        self.keep_from(node, 1);
        Ok(vec![Value {
            dims: Some(dims),
            channels: x.channels,
            ..Value::default()
        }])
    }

    /// Keeps the inputs from `first` on.
    pub(super) fn keep_from(&mut self, node: &NodeProto, first: usize) {
        for index in first..node.input.len() {
            if let Some(value) = self.input(node, index) {
                self.pin(&value);
            }
        }
    }

    pub(super) fn gather(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let (Some(x), Some(indices)) = (self.input(node, 0), self.input(node, 1)) else {
            return Ok(self.keep(node));
        };
        let picked = self.literals(node, 1);
        if let (Some(shape), Some(picked)) = (&x.shape, &picked) {
            let pick = |&index: &i64| shape.get(axis_of(index, shape.len())?).cloned();
            if let Some(part) = picked.iter().map(pick).collect::<Option<Vec<_>>>() {
                return Ok(vec![Value {
                    dims: indices.dims,
                    shape: Some(part),
                    ..Value::default()
                }]);
            }
        }
        let (Some(dims), Some(of_indices)) = (x.dims.clone(), indices.dims.clone()) else {
            return Ok(self.keep(node));
        };
        let axis = axis_of(node.attr_i("axis")?.unwrap_or(0), dims.len());
        let within = |channels: &Channels| axis == Some(channels.axis);
        let (Some(axis), false) = (
            axis,
            x.channels.as_ref().is_some_and(within) || x.param.is_some() || indices.channels.is_some(),
        ) else {
            self.keep(node);
            // A table's rows: their rank is known all the same.
            let rank = (dims.len() + of_indices.len()).saturating_sub(1);
            let dims = (0..rank).map(|_| self.symbol()).collect();
            return Ok(vec![Value {
                dims: Some(dims),
                ..Value::default()
            }]);
        };
        self.keep_from(node, 1);
        let more = of_indices.len();
        let out = dims[..axis].iter().chain(&of_indices).chain(&dims[axis + 1..]).copied().collect();
        let moved = |channels: Channels| Channels {
            axis: if channels.axis < axis {
                channels.axis
            } else {
                channels.axis + more - 1
            },
            ..channels
        };
        Ok(vec![Value {
            dims: Some(out),
            channels: x.channels.map(moved),
            ..Value::default()
        }])
    }
}
