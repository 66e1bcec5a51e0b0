//! Binds a graph to the shapes of a batch: shapes, integers, kernels.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aimass_onnx::proto::NodeProto;

use super::graph::{model_error, node_error};
use super::node::Attributes;
use super::{
    Constant, Element, From, Graph, GraphError, Host, HostSlot, HostStep, Indexing, Mode, NodeView, Operand, Output, Planned, Problem,
    Program, ProgramOutput, Role, Slot, Source, Step, Tensor, Upload, Value, host,
};
use crate::array::{Array, n_elements};
use crate::ops::{self, Kernel};

/// Most elements of one tensor: 1 GiB of float32.
const MAX_ELEMENTS: usize = 1 << 28;
/// Most elements of all tensors of one step together: 8 GiB of float32.
const MAX_TOTAL_ELEMENTS: usize = 1 << 31;
/// Most elements of all host tensors of one plan together.
const MAX_HOST_TOTAL: usize = 1 << 26;
/// Largest result of constant folding.
const MAX_FOLDED: usize = 1 << 16;

/// Elements of a shape, when within the limit for one tensor.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    n_elements(shape).filter(|&n| n <= MAX_ELEMENTS)
}

impl Graph {
    /// Binds the graph to the shapes of its inputs.
    pub(crate) fn plan(&self, shapes: &[Vec<usize>], mode: Mode) -> Result<Program, GraphError> {
        self.check_shapes(shapes)?;
        let mut planner = Planner::new(self, shapes, mode);
        for (index, node) in self.nodes.iter().enumerate() {
            planner.add(index, node)?;
        }
        planner.finish(shapes)
    }
}

struct Planner<'g> {
    graph: &'g Graph,
    mode: Mode,
    values: BTreeMap<&'g str, Value>,
    /// The node at work, by its place in the graph.
    at: usize,
    total_elements: usize,
    host_total: usize,
    /// Values of slots that never change.
    known: HashMap<Slot, Arc<[f32]>>,
    /// Uploads that are there already.
    uploaded: HashMap<(HostSlot, Option<Indexing>), Slot>,
    program: Program,
}

impl<'g> Planner<'g> {
    fn new(graph: &'g Graph, shapes: &[Vec<usize>], mode: Mode) -> Self {
        let mut planner = Self {
            graph,
            mode,
            values: BTreeMap::new(),
            at: 0,
            total_elements: 0,
            host_total: 0,
            known: HashMap::new(),
            uploaded: HashMap::new(),
            program: Program {
                slots: graph.inputs.len() + graph.sources.len(),
                // Input `i` has host slot `i` too, whatever its type.
                host_slots: graph.inputs.len(),
                input_shapes: shapes.to_vec(),
                constants: Vec::new(),
                host_steps: Vec::new(),
                uploads: Vec::new(),
                steps: Vec::new(),
                outputs: Vec::new(),
                buffers: Vec::new(),
                shapes: Vec::new(),
                floats: Vec::new(),
            },
        };
        for (i, (input, shape)) in graph.inputs.iter().zip(shapes).enumerate() {
            let value = match input.element {
                element @ (Element::Float | Element::Quantized(_)) => Value::Tensor(Tensor {
                    slot: i,
                    element,
                    shape: shape.clone(),
                    constant: None,
                }),
                element => Value::Host(Host {
                    element,
                    shape: shape.clone(),
                    values: None,
                    slot: Some(i),
                }),
            };
            planner.values.insert(&input.name, value);
        }
        for (i, source) in graph.sources.iter().enumerate() {
            let slot = graph.inputs.len() + i;
            // Weights of a model that is only run are where kernels read them, not here.
            let constant = (source.role == Role::Constant && !source.values.is_empty()).then(|| source.values.clone());
            if let Some(values) = &constant {
                planner.known.insert(slot, values.clone());
            }
            let tensor = Tensor {
                slot,
                element: source.element,
                shape: source.shape.clone(),
                constant,
            };
            planner.values.insert(&source.name, Value::Tensor(tensor));
        }
        for (name, host) in &graph.hosts {
            planner.values.insert(name, Value::Host(host.clone()));
        }
        let sources = graph.sources.iter().map(|source| source.shape.clone());
        planner.program.shapes = shapes.iter().cloned().chain(sources).collect();
        let inputs = graph.inputs.iter().map(|input| input.element.lies_as_floats());
        planner.program.floats = inputs.chain(graph.sources.iter().map(|_| true)).collect();
        planner
    }

    fn add(&mut self, index: usize, node: &'g NodeProto) -> Result<(), GraphError> {
        self.at = index;
        let mut inputs = Vec::with_capacity(node.input.len());
        for name in &node.input {
            let value = self.values.get(name.as_str());
            if value.is_none() && !name.is_empty() {
                return Err(node_error(
                    node,
                    format!("its input `{name}` is not there"),
                    "that output of its node is not computed here",
                ));
            }
            inputs.push(value);
        }
        let attributes = Attributes {
            proto: node,
            opset: self.graph.opset_of(node),
        };
        let view = NodeView {
            attributes,
            inputs,
            mode: self.mode,
        };
        let blame = |p: Problem| node_error(node, p.problem, p.fix);
        if let Some(hosts) = view.all_host()
            && host::takes(&attributes)
        {
            let hosts: Vec<Option<Host>> = hosts.into_iter().map(Option::<&Host>::cloned).collect();
            let made = host::apply(&attributes, &hosts).map_err(blame)?;
            return self.add_host(index, node, hosts, made);
        }
        let values = match ops::plan(&view).map_err(blame)? {
            Planned::Values(values) => values,
            Planned::Constant { shape, values } => vec![self.constant(node, shape, values)?],
            Planned::Run { kernel, inputs, outputs } => {
                let slots = self.sources(node, inputs)?;
                match self.folded(&kernel, &slots, &outputs) {
                    Some(values) => vec![self.constant(node, outputs[0].shape.clone(), values)?],
                    None => self.step(node, kernel, &slots, outputs)?,
                }
            }
            Planned::Update {
                kernel,
                inputs,
                outputs,
                buffers,
            } => {
                let slots = self.sources(node, inputs)?;
                let mut values = self.step(node, kernel, &slots, outputs)?;
                let updates = values.split_off(values.len().saturating_sub(buffers.len()));
                for (buffer, update) in buffers.into_iter().zip(updates) {
                    if let Value::Tensor(update) = update {
                        self.moved(buffer, update.slot);
                    }
                }
                values
            }
        };
        self.name(node, values);
        Ok(())
    }

    /// A running statistic has a new value. A layer that is used twice goes on from where its first use left it.
    fn moved(&mut self, buffer: Slot, new: Slot) {
        let earlier = self.program.buffers.iter().position(|&(_, slot)| slot == buffer);
        let source = buffer.checked_sub(self.graph.inputs.len());
        let source = source.filter(|&i| self.graph.sources.get(i).is_some_and(|s| s.buffer().is_some()));
        match (earlier, source) {
            (Some(earlier), _) => self.program.buffers[earlier].1 = new,
            (None, Some(source)) => self.program.buffers.push((source, new)),
            (None, None) => return,
        }
        for value in self.values.values_mut() {
            if let Value::Tensor(tensor) = value
                && tensor.slot == buffer
            {
                tensor.slot = new;
            }
        }
    }

    fn name(&mut self, node: &'g NodeProto, values: Vec<Value>) {
        for (name, value) in node.output.iter().zip(values) {
            if !name.is_empty() {
                self.values.insert(name.as_str(), value);
            }
        }
    }

    /// Names what the host made; where it is not known yet, a run makes it again.
    fn add_host(&mut self, index: usize, node: &'g NodeProto, inputs: Vec<Option<Host>>, mut made: Vec<Host>) -> Result<(), GraphError> {
        self.host_total = made.iter().map(Host::n_elements).fold(self.host_total, usize::saturating_add);
        if self.host_total > MAX_HOST_TOTAL {
            return Err(node_error(
                node,
                "the integers of the graph are past the memory limit",
                "use a smaller batch or a smaller model",
            ));
        }
        if made.iter().any(|host| host.values.is_none()) {
            let mut outputs = Vec::new();
            for host in &mut made {
                host.slot = Some(self.program.host_slots);
                host.values = None;
                outputs.push(self.program.host_slots);
                self.program.host_slots += 1;
            }
            self.program.host_steps.push(HostStep {
                node: index,
                inputs,
                outputs,
            });
        }
        self.name(node, made.into_iter().map(Value::Host).collect());
        Ok(())
    }

    fn constant(&mut self, node: &NodeProto, shape: Vec<usize>, values: Vec<f32>) -> Result<Value, GraphError> {
        let constant: Arc<[f32]> = values.into();
        let slot = self.known_slot(node, &shape, &constant)?;
        Ok(Value::Tensor(Tensor {
            slot,
            element: Element::Float,
            shape,
            constant: Some(constant),
        }))
    }

    /// A slot of floats that are known now.
    fn known_slot(&mut self, node: &NodeProto, shape: &[usize], values: &Arc<[f32]>) -> Result<Slot, GraphError> {
        let slot = self.slot(node, shape, Element::Float)?;
        let array = Array::floats(shape.to_vec(), values.to_vec());
        let array = array.ok_or_else(|| node_error(node, "its constant does not fit its shape", "report this as a defect"))?;
        self.program.constants.push(Constant { slot, array });
        self.known.insert(slot, values.clone());
        Ok(slot)
    }

    fn step(&mut self, node: &NodeProto, kernel: Kernel, inputs: &[Slot], outputs: Vec<Output>) -> Result<Vec<Value>, GraphError> {
        let mut values = Vec::with_capacity(outputs.len());
        let mut slots = Vec::with_capacity(outputs.len());
        for output in outputs {
            let slot = self.slot(node, &output.shape, output.element)?;
            slots.push(Some(slot));
            values.push(Value::Tensor(Tensor {
                slot,
                element: output.element,
                shape: output.shape,
                constant: None,
            }));
        }
        let inputs = inputs.iter().map(|&slot| Operand { slot, last: false }).collect();
        self.program.steps.push(Step {
            node: self.at,
            kernel,
            inputs,
            outputs: slots,
        });
        Ok(values)
    }

    /// Slots for a kernel's inputs; host values are uploaded once.
    fn sources(&mut self, node: &NodeProto, sources: Vec<Source>) -> Result<Vec<Slot>, GraphError> {
        sources
            .into_iter()
            .map(|source| match source {
                Source::Slot(slot) => Ok(slot),
                Source::Floats { shape, values } => self.known_slot(node, &shape, &values),
                Source::Host(host) => self.upload(node, &host, None),
                Source::Index(host, indexing) => self.upload(node, &host, Some(indexing)),
            })
            .collect()
    }

    fn upload(&mut self, node: &NodeProto, host: &Host, indexing: Option<Indexing>) -> Result<Slot, GraphError> {
        let shape = indexing
            .as_ref()
            .map_or_else(|| host.shape.clone(), |indexing| indexing.shape(&host.shape));
        if let Some(from) = host.slot {
            if let Some(&slot) = self.uploaded.get(&(from, indexing.clone())) {
                return Ok(slot);
            }
            let slot = self.slot(node, &shape, host.element)?;
            self.program.uploads.push(Upload {
                from,
                slot,
                indexing: indexing.clone(),
                node: super::graph::title(node),
            });
            self.uploaded.insert((from, indexing), slot);
            return Ok(slot);
        }
        let checked = match indexing {
            Some(indexing) => indexing.resolve(host).map_err(|p| node_error(node, p.problem, p.fix))?,
            None => host.clone(),
        };
        let array = checked.to_array();
        let array = array.ok_or_else(|| node_error(node, "its integers are not known", "report this as a defect"))?;
        let slot = self.slot(node, &shape, host.element)?;
        self.program.constants.push(Constant { slot, array });
        Ok(slot)
    }

    /// The value of a kernel whose inputs never change, where it is small and floats: computed now.
    fn folded(&self, kernel: &Kernel, inputs: &[Slot], outputs: &[Output]) -> Option<Vec<f32>> {
        let [
            Output {
                element: Element::Float,
                shape,
            },
        ] = outputs
        else {
            return None;
        };
        if n_elements(shape)? > MAX_FOLDED || inputs.is_empty() || kernel.draws_noise() {
            return None;
        }
        let constant = |slot: &Slot| -> Option<Array> {
            if let Some(values) = self.known.get(slot) {
                let shape = match slot.checked_sub(self.graph.inputs.len()).and_then(|i| self.graph.sources.get(i)) {
                    Some(source) => source.shape.clone(),
                    None => self.program.shapes.get(*slot)?.clone(),
                };
                return (values.len() <= MAX_FOLDED).then(|| Array::floats(shape, values.to_vec()))?;
            }
            let constant = self.program.constants.iter().find(|c| c.slot == *slot)?;
            Some(constant.array.clone())
        };
        let arrays: Vec<Array> = inputs.iter().map(constant).collect::<Option<_>>()?;
        crate::executor::fold(kernel, arrays)
    }

    fn slot(&mut self, node: &NodeProto, shape: &[usize], element: Element) -> Result<Slot, GraphError> {
        let fits = elements(shape)
            .and_then(|n| self.total_elements.checked_add(n))
            .filter(|&n| n <= MAX_TOTAL_ELEMENTS);
        let Some(total) = fits else {
            let problem = format!("its output would have the shape {shape:?}, past the memory limit");
            return Err(node_error(node, problem, "use a smaller batch or a smaller model"));
        };
        if shape.contains(&0) {
            return Err(node_error(
                node,
                format!("its output would have the shape {shape:?}, which is empty"),
                "feed larger inputs or correct the model",
            ));
        }
        self.total_elements = total;
        self.program.slots += 1;
        self.program.shapes.push(shape.to_vec());
        self.program.floats.push(element.lies_as_floats());
        Ok(self.program.slots - 1)
    }

    fn finish(mut self, shapes: &[Vec<usize>]) -> Result<Program, GraphError> {
        for name in &self.graph.outputs {
            let Some(value) = self.values.get(name.as_str()) else {
                return Err(match self.graph.nodes.iter().find(|node| node.output.contains(name)) {
                    Some(node) => node_error(node, format!("its output `{name}` is not computed here"), "leave it out"),
                    None => model_error(format!("the output `{name}` is not there"), "export the model again"),
                });
            };
            let from = match value {
                Value::Tensor(tensor) => From::Device(tensor.slot),
                Value::Host(host) => match (host.slot, host.to_array()) {
                    (Some(slot), _) => From::Host(slot),
                    (None, Some(array)) => From::Known(array),
                    (None, None) => return Err(model_error(format!("the output `{name}` is not known"), "report this as a defect")),
                },
            };
            self.program.outputs.push(ProgramOutput {
                shape: value.shape().to_vec(),
                element: value.element(),
                from,
            });
        }
        // Walking backwards, the first time a slot is met is its last use; what nothing reads is not kept.
        let mut used = vec![false; self.program.slots];
        for output in &self.program.outputs {
            if let From::Device(slot) = output.from {
                used[slot] = true;
            }
        }
        for (_, slot) in &self.program.buffers {
            used[*slot] = true;
        }
        for step in self.program.steps.iter_mut().rev() {
            for output in &mut step.outputs {
                *output = output.filter(|&slot| used[slot]);
            }
            for operand in step.inputs.iter_mut().rev() {
                operand.last = !used[operand.slot];
                used[operand.slot] = true;
            }
        }
        debug_assert_eq!(self.program.input_shapes, shapes);
        Ok(self.program)
    }
}
