//! Which channels go.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use aimass_onnx::{ElementType, Globs};

use super::atoms::Atom;
use super::walk::{Param, Walk};
use super::{ChannelError, ChannelGroup, ChannelRules, Scope};
use crate::wiring::shown;

/// What [`choose`] decided.
pub(super) struct Removed {
    /// Roots of the channels that go.
    pub(super) roots: BTreeSet<Atom>,
    pub(super) groups: Vec<ChannelGroup>,
}

/// Channels that compete with each other within a group.
#[derive(Default)]
struct Group {
    /// Names of the weights that make them.
    layers: BTreeSet<String>,
    excluded: bool,
    roots: BTreeSet<Atom>,
    /// Those that may go, with their norm.
    free: BTreeMap<Atom, f64>,
}

/// A channel that may go.
struct Candidate {
    importance: f64,
    group: u32,
    root: Atom,
}

/// The channels that go.
pub(super) fn choose(walk: &Walk<'_>, rules: &ChannelRules) -> Result<Removed, ChannelError> {
    let names: Vec<&str> = walk
        .params
        .iter()
        .filter(|param| !param.axes.is_empty())
        .map(|param| param.name)
        .collect();
    for globs in [&rules.include, &rules.exclude] {
        check(globs, &names)?;
    }
    let mut groups = groups(walk, rules)?;
    groups.retain(|_, group| !group.excluded && !group.layers.is_empty() && !group.free.is_empty());
    if groups.is_empty() {
        return Err(ChannelError::NothingToRemove);
    }
    let mut left = Left::new(walk, rules.minimum.max(1));
    let mut gone: BTreeMap<u32, Vec<Candidate>> = BTreeMap::new();
    for candidate in ranked(&groups, rules, &mut left) {
        gone.entry(candidate.group).or_default().push(candidate);
    }
    let mut removed = Removed {
        roots: BTreeSet::new(),
        groups: Vec::new(),
    };
    for (id, group) in groups {
        let before = group.roots.len();
        let mut gone = gone.remove(&id).unwrap_or_default();
        let multiple = rules.round_to.max(1);
        let kept = (before - gone.len()).div_ceil(multiple).saturating_mul(multiple).min(before);
        // The most important ones stay after all.
        gone.truncate(before - kept);
        removed.roots.extend(gone.iter().map(|candidate| candidate.root));
        removed.groups.push(ChannelGroup {
            layers: group.layers.into_iter().collect(),
            before,
            kept,
        });
    }
    Ok(removed)
}

fn check(globs: &Globs, names: &[&str]) -> Result<(), ChannelError> {
    let Some(glob) = globs.unmatched(names.iter().copied()) else {
        return Ok(());
    };
    let known: Vec<_> = names.iter().take(5).map(|name| shown(name)).collect();
    Err(ChannelError::Unmatched {
        glob: shown(glob),
        known: if known.is_empty() { "(none)".to_owned() } else { known.join(", ") },
    })
}

/// All groups by number, with the norm of every channel that may go.
fn groups(walk: &Walk<'_>, rules: &ChannelRules) -> Result<BTreeMap<u32, Group>, ChannelError> {
    let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
    let mut squares = vec![0.0f64; walk.atoms.len()];
    for param in &walk.params {
        add_squares(walk, param, &mut squares)?;
        for (axis, atoms) in &param.axes {
            let Some(&first) = atoms.first() else { continue };
            let group = groups.entry(walk.atoms.group(first)).or_default();
            group.excluded |= rules.exclude.is_match(param.name);
            if param.makes.contains(axis) {
                group.layers.insert(param.name.to_owned());
            }
        }
    }
    if !rules.include.is_empty() {
        for group in groups.values_mut() {
            group.excluded |= !group.layers.iter().any(|name| rules.include.is_match(name));
        }
    }
    for atom in 0..walk.atoms.len() as Atom {
        let root = walk.atoms.root(atom);
        let Some(group) = groups.get_mut(&walk.atoms.group(atom)) else {
            continue;
        };
        group.roots.insert(root);
        if !walk.atoms.is_pinned(root) {
            group.free.insert(root, squares[root as usize].sqrt());
        }
    }
    Ok(groups)
}

/// Adds the squares of a weight's numbers to the channels that they belong to.
fn add_squares(walk: &Walk<'_>, param: &Param<'_>, squares: &mut [f64]) -> Result<(), ChannelError> {
    if param.statistic || param.axes.is_empty() || param.tensor.element != ElementType::F32 {
        return Ok(());
    }
    let values = param.tensor.to_f32().unwrap_or_default();
    if !values.iter().all(|value| value.is_finite()) {
        return Err(ChannelError::NonFinite { param: shown(param.name) });
    }
    for (&axis, atoms) in &param.axes {
        let inner: usize = param.tensor.shape[axis + 1..].iter().product();
        let roots: Vec<Atom> = atoms.iter().map(|&atom| walk.atoms.root(atom)).collect();
        for (run, &root) in values.chunks_exact(inner.max(1)).zip(roots.iter().cycle()) {
            squares[root as usize] += run.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
        }
    }
    Ok(())
}

/// Channels that go, those that matter least first.
fn ranked(groups: &BTreeMap<u32, Group>, rules: &ChannelRules, left: &mut Left) -> Vec<Candidate> {
    let mut all: Vec<Candidate> = Vec::new();
    for (&group, members) in groups {
        let mean = members.free.values().sum::<f64>() / members.free.len().max(1) as f64;
        // A group of zeros is of no importance at all.
        let scale = if mean > 0.0 { 1.0 / mean } else { 1.0 };
        all.extend(members.free.iter().map(|(&root, &norm)| Candidate {
            importance: norm * scale,
            group,
            root,
        }));
    }
    let total = all.len();
    let order = |a: &Candidate, b: &Candidate| match a.importance.total_cmp(&b.importance) {
        Ordering::Equal => a.root.cmp(&b.root),
        order => order,
    };
    all.sort_by(order);
    let mut quota: BTreeMap<u32, usize> = match rules.scope {
        Scope::Global => BTreeMap::new(),
        Scope::PerGroup => groups
            .iter()
            .map(|(&id, group)| (id, rules.fraction.count(group.free.len())))
            .collect(),
    };
    let mut more = rules.fraction.count(total);
    all.retain(|candidate| {
        let granted = match rules.scope {
            Scope::Global => &mut more,
            Scope::PerGroup => quota.entry(candidate.group).or_default(),
        };
        let goes = *granted > 0 && left.take(candidate.root);
        *granted -= usize::from(goes);
        goes
    });
    all
}

/// How many channels each run has left.
struct Left {
    counts: Vec<usize>,
    minimum: Vec<usize>,
    /// The runs that a channel is in, by its root.
    runs: BTreeMap<Atom, Vec<usize>>,
}

impl Left {
    fn new(walk: &Walk<'_>, minimum: usize) -> Self {
        let mut left = Self {
            counts: Vec::new(),
            minimum: Vec::new(),
            runs: BTreeMap::new(),
        };
        for run in walk.atoms.runs() {
            let roots: BTreeSet<Atom> = run.iter().map(|&atom| walk.atoms.root(atom)).collect();
            roots
                .iter()
                .for_each(|&root| left.runs.entry(root).or_default().push(left.counts.len()));
            left.counts.push(roots.len());
            left.minimum.push(minimum.min(roots.len()));
        }
        left
    }

    /// Takes a channel out of all its runs, if each of them keeps enough.
    fn take(&mut self, root: Atom) -> bool {
        let runs = self.runs.get(&root).map(Vec::as_slice).unwrap_or_default();
        if runs.iter().any(|&run| self.counts[run] <= self.minimum[run]) {
            return false;
        }
        runs.iter().for_each(|&run| self.counts[run] -= 1);
        true
    }
}
