//! A batch's way to the device: its integers are evaluated and checked on the host, then everything that kernels read is laid out.

use super::graph::node_error;
use super::node::Attributes;
use super::{Element, Graph, GraphError, Host, HostSlot, Program, Slot, host};
use crate::array::{Array, Values};

/// What a run starts from.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Arrays for the device by slot.
    pub(crate) arrays: Vec<(Slot, Array)>,
    /// Values that the host computed, by host slot.
    hosts: Vec<Option<Host>>,
}

impl Feed {
    /// A host value of the run.
    pub(crate) fn host(&self, slot: HostSlot) -> Option<Array> {
        self.hosts.get(slot)?.as_ref()?.to_array()
    }
}

fn host_of(array: &Array, element: Element) -> Option<Host> {
    let values = match (array.values(), element) {
        (Values::Ints(values), Element::Int) => values.clone(),
        (Values::Bools(values), Element::Bool) => values.iter().map(|&v| i64::from(v)).collect(),
        _ => return None,
    };
    Host::new(element, array.shape().to_vec(), Some(values)).ok()
}

impl Program {
    /// Evaluates the integer side for the inputs of a batch, which must have the shapes of this program.
    ///
    /// # Errors
    /// [`GraphError::Data`] for an array of another type or shape; [`GraphError::Node`] for integers that the graph can't use.
    pub(crate) fn feed(&self, graph: &Graph, inputs: Vec<Array>) -> Result<Feed, GraphError> {
        let mut hosts: Vec<Option<Host>> = vec![None; self.host_slots];
        let mut arrays = Vec::new();
        for (slot, ((array, input), shape)) in inputs.into_iter().zip(&graph.inputs).zip(&self.input_shapes).enumerate() {
            let wrong = |what: &str| GraphError::Data {
                problem: format!("the array for the input `{}` is {what}", input.name),
                fix: format!("feed {} values of the shape {shape:?}", input.element),
            };
            if array.shape() != shape {
                return Err(wrong(&format!("of the shape {:?}", array.shape())));
            }
            match input.element {
                Element::Float if array.as_floats().is_some() => arrays.push((slot, array)),
                Element::Quantized(integers) => {
                    let array = integers
                        .floats_of(&array)
                        .ok_or_else(|| wrong(&format!("not made of {integers}")))?;
                    arrays.push((slot, array));
                }
                Element::Float => return Err(wrong("not made of floats")),
                element => hosts[slot] = Some(host_of(&array, element).ok_or_else(|| wrong("of another type"))?),
            }
        }
        for step in &self.host_steps {
            let node = &graph.nodes[step.node];
            let attributes = Attributes {
                proto: node,
                opset: graph.opset,
            };
            let resolve = |input: &Option<Host>| match input {
                Some(Host { slot: Some(slot), .. }) => hosts[*slot].clone(),
                known => known.clone(),
            };
            let inputs: Vec<Option<Host>> = step.inputs.iter().map(resolve).collect();
            let made = host::apply(&attributes, &inputs).map_err(|p| node_error(node, p.problem, p.fix))?;
            for (slot, value) in step.outputs.iter().zip(made) {
                hosts[*slot] = Some(value);
            }
        }
        for upload in &self.uploads {
            let host = hosts[upload.from].as_ref();
            let checked = match (host, &upload.indexing) {
                (Some(host), Some(indexing)) => indexing.resolve(host).map(|h| h.to_array()),
                (Some(host), None) => Ok(host.to_array()),
                (None, _) => Ok(None),
            };
            let array = checked.map_err(|p| GraphError::Data {
                problem: format!("node `{}`: {}", upload.node, p.problem),
                fix: p.fix,
            })?;
            let array = array.ok_or_else(|| GraphError::Data {
                problem: format!("node `{}`: its integers are missing", upload.node),
                fix: "report this as a defect".to_owned(),
            })?;
            arrays.push((upload.slot, array));
        }
        Ok(Feed { arrays, hosts })
    }
}
