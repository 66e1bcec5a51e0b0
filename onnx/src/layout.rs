//! Which initializers train, and where each lies in the flat weight vector.

use globset::{Glob, GlobMatcher};

use crate::error::shown;
use crate::slots;
use crate::{ElementType, LayoutError, Model};

/// What an initializer is to training (design: trainable = float initializers in weight slots plus the job's globs).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParamKind {
    /// Trained, and part of every update.
    Weight,
    /// Running statistics (batch norm): kept by each agent, never shared by default.
    Buffer,
    /// A float initializer that does not train.
    Frozen,
}

/// One float32 initializer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// Name of the initializer.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where it starts in the flat vector of its kind, in floats.
    pub offset: usize,
    /// What it is to training.
    pub kind: ParamKind,
}

impl Param {
    /// Number of floats: the product of the shape.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Where it lies in the flat vector of its kind.
    pub fn range(&self) -> std::ops::Range<usize> {
        self.offset..self.offset + self.n_elements()
    }
}

/// All float32 initializers in the file's order. The flat weight vector holds those of [`ParamKind::Weight`], row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParamLayout {
    params: Vec<Param>,
    n_weights: usize,
    n_buffers: usize,
}

/// The job's `[model] trainable` globs: a name that matches trains, one that matches a glob with a leading `!` is frozen. The last
/// glob that matches a name decides; a name that none matches is what its slot makes it. Running statistics have no gradient, so
/// they never train: a glob leaves them buffers, one with `!` freezes them. `*` matches any characters, `.` and `/` included.
#[derive(Debug, Clone, Default)]
pub struct TrainableRules {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    text: String,
    trains: bool,
    matcher: GlobMatcher,
}

impl ParamLayout {
    pub(crate) fn new(model: &Model, rules: &TrainableRules) -> Result<Self, LayoutError> {
        let slots = slots::kinds(model.graph());
        let mut matched = vec![false; rules.rules.len()];
        let layout = Self::of_kinds(model, |name| {
            let slot = slots.get(name).copied().unwrap_or(ParamKind::Frozen);
            match rules.kind(name, slot, &mut matched) {
                // What a glob like `*` takes in beside parameters: the fill of a mask, which is no number to learn from.
                ParamKind::Weight if slot == ParamKind::Frozen && !is_finite(model, name) => ParamKind::Frozen,
                kind => kind,
            }
        });
        if let Some(unmatched) = matched.iter().position(|&matched| !matched) {
            return Err(LayoutError::Unmatched {
                glob: shown(&rules.rules[unmatched].text),
                known: layout.first_names(),
            });
        }
        if layout.n_weights == 0 {
            return Err(LayoutError::NothingTrains);
        }
        Ok(layout)
    }

    /// The layout of a model whose entries are of these kinds, in the file's order: one that was made elsewhere from the same file.
    /// `None` when the model has another number of entries.
    pub fn with_kinds(model: &Model, kinds: &[ParamKind]) -> Option<Self> {
        let (mut left, mut missing) = (kinds.iter(), false);
        let layout = Self::of_kinds(model, |_| {
            let kind = left.next().copied();
            missing |= kind.is_none();
            kind.unwrap_or(ParamKind::Frozen)
        });
        (!missing && left.next().is_none()).then_some(layout)
    }

    fn of_kinds(model: &Model, mut kind: impl FnMut(&str) -> ParamKind) -> Self {
        let mut layout = Self {
            params: Vec::new(),
            n_weights: 0,
            n_buffers: 0,
        };
        let mut n_frozen = 0;
        for tensor in model.initializers().filter(|tensor| tensor.element == ElementType::F32) {
            let name = &tensor.proto.name;
            let kind = kind(name);
            let total = match kind {
                ParamKind::Weight => &mut layout.n_weights,
                ParamKind::Buffer => &mut layout.n_buffers,
                ParamKind::Frozen => &mut n_frozen,
            };
            let offset = *total;
            *total += tensor.n_elements();
            layout.params.push(Param {
                name: name.clone(),
                shape: tensor.shape,
                offset,
                kind,
            });
        }
        layout
    }

    /// All entries in the file's order.
    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Floats in the flat weight vector.
    pub fn n_weights(&self) -> usize {
        self.n_weights
    }

    /// Floats in the flat vector of running statistics.
    pub fn n_buffers(&self) -> usize {
        self.n_buffers
    }

    /// The bytes whose SHA-256 is the layout digest of the cohort descriptor. Documented in docs/protocol.md.
    ///
    /// All numbers are little-endian:
    /// ```text
    /// 17 bytes  "aimass layout v1\n"
    /// u64       number of entries
    /// each entry, in the file's order:
    ///   u64     bytes of the name, then the name (UTF-8)
    ///   u8      kind: 0 weight, 1 buffer, 2 frozen
    ///   u64     number of axes, then a u64 for the length of each
    ///   u64     offset in the flat vector of its kind, in floats
    /// ```
    pub fn canonical_bytes(&self) -> Vec<u8> {
        let mut out = b"aimass layout v1\n".to_vec();
        let put = |out: &mut Vec<u8>, value: usize| out.extend_from_slice(&(value as u64).to_le_bytes());
        put(&mut out, self.params.len());
        for param in &self.params {
            put(&mut out, param.name.len());
            out.extend_from_slice(param.name.as_bytes());
            out.push(match param.kind {
                ParamKind::Weight => 0,
                ParamKind::Buffer => 1,
                ParamKind::Frozen => 2,
            });
            put(&mut out, param.shape.len());
            param.shape.iter().for_each(|&length| put(&mut out, length));
            put(&mut out, param.offset);
        }
        out
    }

    /// Names for a message about a glob that matches nothing.
    fn first_names(&self) -> String {
        let names: Vec<_> = self.params.iter().take(5).map(|param| shown(&param.name)).collect();
        if names.is_empty() { "(none)".to_owned() } else { names.join(", ") }
    }
}

fn is_finite(model: &Model, name: &str) -> bool {
    let values = model.initializer(name).and_then(|tensor| tensor.to_f32());
    values.is_none_or(|values| values.iter().all(|value| value.is_finite()))
}

impl TrainableRules {
    /// Compiles the globs.
    ///
    /// # Errors
    /// A glob that does not parse, with its text.
    pub fn new(globs: &[String]) -> Result<Self, LayoutError> {
        let rule = |text: &String| {
            let (trains, glob) = text.strip_prefix('!').map_or((true, text.as_str()), |glob| (false, glob));
            match Glob::new(glob) {
                Ok(glob) => Ok(Rule {
                    text: text.clone(),
                    trains,
                    matcher: glob.compile_matcher(),
                }),
                Err(error) => Err(LayoutError::Glob {
                    glob: shown(text),
                    reason: error.kind().to_string(),
                }),
            }
        };
        Ok(Self {
            rules: globs.iter().map(rule).collect::<Result<_, _>>()?,
        })
    }

    fn kind(&self, name: &str, slot: ParamKind, matched: &mut [bool]) -> ParamKind {
        let mut kind = slot;
        for (rule, matched) in self.rules.iter().zip(matched) {
            if !rule.matcher.is_match(name) {
                continue;
            }
            *matched = true;
            kind = match (rule.trains, slot) {
                (false, _) => ParamKind::Frozen,
                (true, ParamKind::Buffer) => ParamKind::Buffer,
                (true, _) => ParamKind::Weight,
            };
        }
        kind
    }
}

#[cfg(test)]
mod tests;
