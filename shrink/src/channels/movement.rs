//! Operators without weights: elementwise ones, and those that move values around.

use std::rc::Rc;

use aimass_onnx::proto::NodeProto;

use super::ChannelError;
use super::atoms::Atom;
use super::dims::{Channels, Element, Extent, regrouped};
use super::walk::{Edit, Place, Role, Value, Walk};

/// Elements of an operator's axis list or shape that are read at most.
const MAX_AXES: usize = 64;

/// The axis that a possibly negative number means.
fn axis_of(number: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let axis = if number < 0 { number.checked_add(rank)? } else { number };
    (0..rank).contains(&axis).then_some(axis as usize)
}

impl<'m> Walk<'m> {
    /// What a node gives, by what it does with channels.
    pub(super) fn visit(&mut self, at: usize, node: &'m NodeProto) -> Result<Vec<Value>, ChannelError> {
        self.keep_within(node);
        let op = node.standard_op().unwrap_or_default();
        Ok(match op {
            "Constant" => self.constant_node(at, node)?,
            "Conv" => self.conv(at, node)?,
            "ConvTranspose" => self.conv_transpose(at, node)?,
            "Gemm" => self.gemm(node)?,
            "MatMul" => self.matmul(node)?,
            "LSTM" | "GRU" | "RNN" => self.recurrent(node)?,
            "BatchNormalization" | "InstanceNormalization" => self.norm(node),
            "MaxPool" | "AveragePool" | "LpPool" => self.pool(node, false)?,
            "GlobalAveragePool" | "GlobalMaxPool" | "GlobalLpPool" => self.pool(node, true)?,
            _ if is_elementwise(op) => self.elementwise(node)?,
            "Softmax" | "LogSoftmax" | "LayerNormalization" => self.normalized(node, op)?,
            "Concat" => self.concat(node)?,
            "Split" => self.split(at, node)?,
            "Slice" => self.slice(node)?,
            "Gather" => self.gather(node)?,
            "Shape" => self.shape(node)?,
            "Flatten" => self.flatten(node)?,
            "Reshape" => self.reshape(at, node)?,
            "Transpose" => self.transpose(node)?,
            "Squeeze" | "Unsqueeze" => self.squeeze(node, op == "Squeeze")?,
            "Pad" => self.pad(node)?,
            "Resize" | "Upsample" => self.resize(node, op)?,
            _ if op.starts_with("Reduce") => self.reduce(node)?,
            "Range" | "CumSum" | "Trilu" | "Expand" | "ConstantOfShape" => self.keep_known_rank(node, op),
            _ => self.keep(node),
        })
    }

    /// Operators whose channels stay, and whose number of axes is known all the same.
    fn keep_known_rank(&mut self, node: &NodeProto, op: &str) -> Vec<Value> {
        let rank = |index: usize| self.input(node, index)?.dims.map(|dims| dims.len());
        // As many axes as there are numbers in a shape.
        let numbers = |index: usize| match self.input(node, index)?.dims?[..] {
            [Extent::Known(length)] if length <= MAX_AXES => Some(length),
            _ => None,
        };
        let rank = match op {
            "Range" => Some(1),
            "Expand" => rank(0).zip(numbers(1)).map(|(own, wanted)| own.max(wanted)),
            "ConstantOfShape" => numbers(0),
            _ => rank(0),
        };
        match rank {
            Some(rank) => self.keep_rank(node, rank),
            None => self.keep(node),
        }
    }

    fn constant_node(&mut self, at: usize, node: &'m NodeProto) -> Result<Vec<Value>, ChannelError> {
        if let (Some(tensor), Some(output)) = (node.attr_t("value")?, node.output.first()) {
            self.constant(output, Place::Node(at), tensor);
            return Ok(vec![self.value(output)]);
        }
        let integers = match node.attr_i("value_int") {
            Ok(Some(number)) => Some((vec![number], 0)),
            _ => node.attr_ints("value_ints")?.map(|list| (list.to_vec(), 1)),
        };
        let dims = match &integers {
            Some((list, 1)) => Some(vec![Extent::Known(list.len())]),
            Some(_) => Some(Vec::new()),
            None if matches!(node.attr_f("value_float"), Ok(Some(_))) => Some(Vec::new()),
            None => None,
        };
        let shape = integers.filter(|(list, _)| list.len() <= MAX_AXES);
        Ok(vec![Value {
            dims,
            shape: shape.map(|(list, _)| list.into_iter().map(Element::Literal).collect()),
            ..Value::default()
        }])
    }

    /// Elementwise operators with any number of inputs that are broadcast.
    fn elementwise(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
        let inputs: Vec<Value> = (0..node.input.len()).filter_map(|index| self.input(node, index)).collect();
        if let ([only], "Identity" | "Cast") = (&inputs[..], node.op_type.as_str())
            && (node.op_type == "Identity" || only.param.is_none() || only.shape.is_some())
        {
            // A weight of another type is no weight that is sliced; a shape of another type is a shape.
            let mut value = only.clone();
            if node.op_type == "Cast" {
                value.param.iter().for_each(|_| self.pin(only));
                value.param = None;
            }
            return Ok(vec![value]);
        }
        let Some(rank) = inputs
            .iter()
            .map(|value| value.dims.as_ref().map(Vec::len))
            .collect::<Option<Vec<_>>>()
        else {
            return Ok(self.keep(node));
        };
        let out_rank = rank.iter().copied().max().unwrap_or(0);
        let mut dims = vec![Extent::Known(1); out_rank];
        for value in &inputs {
            let own = value.dims.as_deref().unwrap_or_default();
            for (dim, &extent) in dims[out_rank - own.len()..].iter_mut().zip(own) {
                *dim = match (*dim, extent) {
                    (Extent::Known(1), other) | (other, Extent::Known(1)) => other,
                    (one, other) if one == other => one,
                    // One of them may be 1; a known length above 1 wins.
                    (Extent::Known(n), Extent::Symbol(_)) | (Extent::Symbol(_), Extent::Known(n)) => Extent::Known(n),
                    _ => self.symbol(),
                };
            }
        }
        let channels = self.common(&inputs, out_rank);
        for value in &inputs {
            // A shape that is computed with is none that can be followed.
            if value.shape.is_some() || (channels.is_none() && value.param.is_some()) {
                self.pin(value);
            }
        }
        let value = Value {
            dims: Some(dims),
            channels,
            ..Value::default()
        };
        Ok(vec![value; node.output.len()])
    }

    /// The channels of values that are broadcast against each other.
    fn common(&mut self, inputs: &[Value], rank: usize) -> Option<Channels> {
        let aligned = |value: &Value| Some(value.channels.as_ref()?.axis + rank - value.dims.as_ref()?.len());
        let first = inputs.iter().find(|value| value.channels.is_some())?;
        let (axis, atoms) = (aligned(first)?, Rc::clone(&first.channels.as_ref()?.atoms));
        let mut follows = true;
        for value in inputs {
            let own = value.dims.as_ref().map_or(0, Vec::len);
            let length = (axis + own).checked_sub(rank).and_then(|at| value.dims.as_ref()?.get(at).copied());
            follows &= match (&value.channels, &value.param, length) {
                (Some(channels), _, _) => aligned(value) == Some(axis) && channels.atoms.len() == atoms.len(),
                // One value for all channels, or a parameter with one for each.
                (None, _, None | Some(Extent::Known(1))) => true,
                (None, Some(_), Some(Extent::Known(length))) => length == atoms.len(),
                _ => false,
            };
        }
        if !follows || atoms.len() < 2 {
            inputs.iter().for_each(|value| self.pin(value));
            return None;
        }
        for value in inputs {
            if let Some(channels) = &value.channels {
                self.atoms.tie_all(&atoms, &channels.atoms);
            } else if value.param.is_some() {
                let own = value.dims.as_ref().map_or(0, Vec::len);
                let at = (axis + own).checked_sub(rank);
                let has = at.and_then(|at| value.dims.as_ref()?.get(at).copied()) == Some(Extent::Known(atoms.len()));
                match at.filter(|_| has) {
                    Some(at) => _ = self.bind(value, &[(at, &atoms, Role::Follows)]),
                    None => _ = self.bind(value, &[]),
                }
            }
        }
        Some(Channels { axis, atoms })
    }

    /// Operators that normalize over some axes, which must not be those of channels.
    fn normalized(&mut self, node: &NodeProto, op: &str) -> Result<Vec<Value>, ChannelError> {
        let Some((x, rank)) = self.input(node, 0).and_then(|x| Some((x.clone(), x.dims?.len()))) else {
            return Ok(self.keep(node));
        };
        let old = op != "LayerNormalization" && self.opset < 13;
        let axis = axis_of(node.attr_i("axis")?.unwrap_or(if old { 1 } else { -1 }), rank);
        // From `axis` on for a layer norm and old softmaxes, that one alone for newer ones.
        let within = |c: usize| axis.is_none_or(|axis| if old || op == "LayerNormalization" { c >= axis } else { c == axis });
        let more = node.output.iter().skip(1).any(|output| !output.is_empty());
        if x.param.is_some() || more || x.channels.as_ref().is_some_and(|channels| within(channels.axis)) {
            return Ok(self.keep_rank(node, rank));
        }
        for index in 1..node.input.len() {
            if let Some(value) = self.input(node, index) {
                self.pin(&value);
            }
        }
        Ok(vec![Value { shape: None, ..x }])
    }

    fn concat(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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
    fn joined(&mut self, inputs: &[Value], axis: usize, lengths: Option<&[usize]>) -> Result<Option<Channels>, ChannelError> {
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

    fn split(&mut self, at: usize, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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

    /// Whether an input is a constant of the file itself, so that another one can take its place.
    fn constant_input(&self, node: &NodeProto, index: usize) -> bool {
        self.input(node, index).is_some_and(|value| value.param.is_some())
    }

    fn slice(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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
    fn keep_from(&mut self, node: &NodeProto, first: usize) {
        for index in first..node.input.len() {
            if let Some(value) = self.input(node, index) {
                self.pin(&value);
            }
        }
    }

    fn gather(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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

    fn shape(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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

    fn flatten(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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
    fn moved(&mut self, channels: &Channels, from: &[usize], to: &[usize]) -> Result<Option<Channels>, ChannelError> {
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

    fn reshape(&mut self, at: usize, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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
    fn reshape_follows(&mut self, node: usize, x: &Value, channels: &Channels, wanted: &[Element], constant: bool) -> bool {
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

    fn transpose(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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

    fn squeeze(&mut self, node: &NodeProto, takes_out: bool) -> Result<Vec<Value>, ChannelError> {
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

    fn pad(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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

    fn resize(&mut self, node: &NodeProto, op: &str) -> Result<Vec<Value>, ChannelError> {
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
    fn keeps_length(&self, node: &NodeProto, scales: usize, at: usize) -> bool {
        let param = self.input(node, scales).and_then(|value| value.param);
        let values = param.and_then(|(param, _)| self.params[param].tensor.to_f32());
        values.is_some_and(|values| values.get(at) == Some(&1.0))
    }

    fn reduce(&mut self, node: &NodeProto) -> Result<Vec<Value>, ChannelError> {
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

/// The lengths that a Reshape gives, where its first axis stays as it is.
fn resolve(from: &[Extent], wanted: &[Element]) -> Option<Vec<Extent>> {
    let length = |at: usize, element: &Element| match element {
        Element::Literal(0) => from.get(at).copied().map(Some),
        Element::Literal(-1) => Some(None),
        Element::Literal(n) => usize::try_from(*n).ok().map(|n| Some(Extent::Known(n))),
        Element::Dim(extent) => Some(Some(*extent)),
        Element::Channels(atoms) => Some(Some(Extent::Known(atoms.len()))),
    };
    let mut out: Vec<Option<Extent>> = wanted.iter().enumerate().map(|(at, e)| length(at, e)).collect::<Option<_>>()?;
    let total = product(from[1..].iter())?;
    let open: Vec<usize> = (0..out.len()).filter(|&at| out[at].is_none()).collect();
    let rest = product(out.iter().skip(1).flatten())?;
    match open[..] {
        [] => {}
        [0] if rest == total => out[0] = Some(from[0]),
        [at] if at > 0 && rest > 0 && total.is_multiple_of(rest) => out[at] = Some(Extent::Known(total / rest)),
        _ => return None,
    }
    let out: Vec<Extent> = out.into_iter().collect::<Option<_>>()?;
    let same = product(out.iter().skip(1))? == total;
    (same && out.first() == from.first()).then_some(out)
}

/// The product of lengths that are all known.
fn product<'e>(mut extents: impl Iterator<Item = &'e Extent>) -> Option<usize> {
    extents.try_fold(1usize, |product, extent| product.checked_mul(extent.known()?))
}

/// Operators that compute each element of their outputs from the same place of their inputs, which are broadcast.
fn is_elementwise(op: &str) -> bool {
    matches!(
        op,
        "Identity"
            | "Cast"
            | "Dropout"
            | "Clip"
            | "Relu"
            | "LeakyRelu"
            | "PRelu"
            | "Elu"
            | "Selu"
            | "Celu"
            | "ThresholdedRelu"
            | "Gelu"
            | "Mish"
            | "Swish"
            | "Sigmoid"
            | "HardSigmoid"
            | "HardSwish"
            | "Tanh"
            | "Softplus"
            | "Softsign"
            | "Shrink"
            | "Erf"
            | "Exp"
            | "Log"
            | "Sqrt"
            | "Reciprocal"
            | "Neg"
            | "Abs"
            | "Sign"
            | "Floor"
            | "Ceil"
            | "Round"
            | "Sin"
            | "Cos"
            | "Tan"
            | "Asin"
            | "Acos"
            | "Atan"
            | "Sinh"
            | "Cosh"
            | "Asinh"
            | "Acosh"
            | "Atanh"
            | "Not"
            | "IsNaN"
            | "IsInf"
            | "Add"
            | "Sub"
            | "Mul"
            | "Div"
            | "Pow"
            | "Mod"
            | "Min"
            | "Max"
            | "Sum"
            | "Mean"
            | "Where"
            | "And"
            | "Or"
            | "Xor"
            | "Equal"
            | "Greater"
            | "GreaterOrEqual"
            | "Less"
            | "LessOrEqual"
    )
}
