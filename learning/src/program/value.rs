//! What names stand for while a graph is planned.

use std::sync::Arc;

use super::{HostSlot, Integers, Problem, Slot, refuse};
use crate::array::{Array, Values, n_elements};

/// Most elements of one host tensor: integers and masks are small beside floats.
const MAX_HOST_ELEMENTS: usize = 1 << 24;

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Element {
    Float,
    Int,
    Bool,
    /// Integers of few bits, each exact as a float: that is how they lie on the device.
    Quantized(Integers),
}

impl Element {
    /// Whether the device holds it as floats.
    pub(crate) fn lies_as_floats(self) -> bool {
        matches!(self, Self::Float | Self::Quantized(_))
    }
}

/// A tensor on the device, which exists while the program runs.
#[derive(Debug, Clone)]
pub(crate) struct Tensor {
    pub(crate) slot: Slot,
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    /// Its values, where it never changes (not for weights).
    pub(crate) constant: Option<Arc<[f32]>>,
}

impl Tensor {
    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }
    pub(crate) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }
    /// The only element, where it is a constant of one element.
    pub(crate) fn scalar(&self) -> Option<f32> {
        match self.constant.as_deref() {
            Some([value]) => Some(*value),
            _ => None,
        }
    }
}

/// Integers or booleans (0 and 1) that the host computes: known now, or from a batch's inputs before the device starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    /// Row-major; `None` while they are not known.
    pub(crate) values: Option<Arc<[i64]>>,
    /// Where a run finds them, for those that are not known.
    pub(crate) slot: Option<HostSlot>,
}

impl Host {
    /// `values` may be missing; where they are there, the shape must fit.
    pub(crate) fn new(element: Element, shape: Vec<usize>, values: Option<Vec<i64>>) -> Result<Self, Problem> {
        // An axis of length 0 must not hide that the others are huge.
        let parts: Vec<usize> = shape.iter().map(|&d| d.max(1)).collect();
        let len = n_elements(&shape).filter(|_| n_elements(&parts).is_some_and(|n| n <= MAX_HOST_ELEMENTS));
        let Some(len) = len else {
            return Err(refuse(
                format!("integers of the shape {shape:?} are past the limit of {MAX_HOST_ELEMENTS}"),
                "make the model or the batch smaller",
            ));
        };
        if values.as_ref().is_some_and(|v| v.len() != len) {
            return Err(refuse(
                format!("the shape {shape:?} asks for another number of integers than there are"),
                "correct the shape",
            ));
        }
        Ok(Self {
            element,
            shape,
            values: values.map(Into::into),
            slot: None,
        })
    }

    /// Known integers.
    pub(crate) fn ints(shape: Vec<usize>, values: Vec<i64>) -> Result<Self, Problem> {
        Self::new(Element::Int, shape, Some(values))
    }

    /// A known list of integers.
    pub(crate) fn list(values: Vec<i64>) -> Self {
        Self {
            element: Element::Int,
            shape: vec![values.len()],
            values: Some(values.into()),
            slot: None,
        }
    }

    /// The only element, where it is known.
    pub(crate) fn scalar(&self) -> Option<i64> {
        match self.values.as_deref() {
            Some([value]) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(crate) fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// As an array, where it is known.
    pub(crate) fn to_array(&self) -> Option<Array> {
        let values = self.values.as_deref()?;
        let values = match self.element {
            Element::Bool => Values::Bools(values.iter().map(|&v| v != 0).collect()),
            _ => Values::Ints(values.to_vec()),
        };
        Array::new(self.shape.clone(), values)
    }
}

/// What a name stands for while planning.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// On the device.
    Tensor(Tensor),
    /// On the host.
    Host(Host),
}

impl Value {
    pub(crate) fn shape(&self) -> &[usize] {
        match self {
            Self::Tensor(tensor) => &tensor.shape,
            Self::Host(host) => &host.shape,
        }
    }
    pub(crate) fn element(&self) -> Element {
        match self {
            Self::Tensor(tensor) => tensor.element,
            Self::Host(host) => host.element,
        }
    }
}
