//! Channels, and which of them can only go together.

use std::rc::Rc;

use super::ChannelError;

/// A channel, by number. Those that can only go together have one root.
pub(super) type Atom = u32;

/// Places of channels that are followed at most, in all vectors together: 256 MiB.
const MAX_PLACES: usize = 1 << 26;

/// All channels of a graph: disjoint sets of those that go together, and beside them disjoint sets of groups.
#[derive(Default)]
pub(super) struct Atoms {
    parent: Vec<Atom>,
    /// The group of an atom, by the number of a group.
    group: Vec<u32>,
    group_parent: Vec<u32>,
    pinned: Vec<bool>,
    /// Every run of channels that an axis was made of: none may become empty.
    runs: Vec<Rc<[Atom]>>,
    places: usize,
}

impl Atoms {
    /// New channels of a group of their own, for an axis of this length.
    pub(super) fn fresh(&mut self, len: usize) -> Result<Rc<[Atom]>, ChannelError> {
        self.charge(len)?;
        let first = self.parent.len() as Atom;
        let group = self.group_parent.len() as u32;
        self.group_parent.push(group);
        self.parent.extend((0..len as Atom).map(|i| first + i));
        self.group.resize(self.parent.len(), group);
        self.pinned.resize(self.parent.len(), false);
        let atoms: Rc<[Atom]> = (first..first + len as Atom).collect();
        self.runs.push(Rc::clone(&atoms));
        Ok(atoms)
    }

    /// A vector put together of others.
    pub(super) fn vector(&mut self, len: usize, atoms: impl Iterator<Item = Atom>) -> Result<Rc<[Atom]>, ChannelError> {
        self.charge(len)?;
        Ok(atoms.collect())
    }

    /// As [`Self::vector`], for an axis that must not become empty by itself.
    pub(super) fn run(&mut self, atoms: &[Atom]) -> Result<Rc<[Atom]>, ChannelError> {
        let run = self.vector(atoms.len(), atoms.iter().copied())?;
        self.runs.push(Rc::clone(&run));
        Ok(run)
    }

    fn charge(&mut self, len: usize) -> Result<(), ChannelError> {
        self.places = self.places.saturating_add(len);
        match self.places <= MAX_PLACES {
            true => Ok(()),
            false => Err(ChannelError::TooLarge { limit: MAX_PLACES }),
        }
    }

    /// The channel that stands for all that go together with this one.
    pub(super) fn root(&self, atom: Atom) -> Atom {
        top(&self.parent, atom)
    }

    /// The group of an atom.
    pub(super) fn group(&self, atom: Atom) -> u32 {
        top(&self.group_parent, self.group[atom as usize])
    }

    /// From now on two channels go together.
    pub(super) fn tie(&mut self, a: Atom, b: Atom) {
        let (a, b) = (shorten(&mut self.parent, a), shorten(&mut self.parent, b));
        if a == b {
            return;
        }
        // The smaller number stays the root, so that results do not depend on the order.
        let (root, other) = (a.min(b), a.max(b));
        self.parent[other as usize] = root;
        self.pinned[root as usize] |= self.pinned[other as usize];
        let group = |atoms: &mut Self, atom: Atom| shorten(&mut atoms.group_parent, atoms.group[atom as usize]);
        let (g, h) = (group(self, root), group(self, other));
        self.group_parent[g.max(h) as usize] = g.min(h);
    }

    /// Ties two vectors place by place.
    pub(super) fn tie_all(&mut self, a: &[Atom], b: &[Atom]) {
        a.iter().zip(b).for_each(|(&a, &b)| self.tie(a, b));
    }

    /// From now on these channels stay.
    pub(super) fn pin(&mut self, atoms: &[Atom]) {
        for &atom in atoms {
            let root = shorten(&mut self.parent, atom);
            self.pinned[root as usize] = true;
        }
    }

    pub(super) fn is_pinned(&self, atom: Atom) -> bool {
        let root = self.root(atom);
        self.pinned[root as usize]
    }

    pub(super) fn len(&self) -> usize {
        self.parent.len()
    }

    pub(super) fn runs(&self) -> &[Rc<[Atom]>] {
        &self.runs
    }
}

/// The root above `at`.
fn top(parent: &[u32], mut at: u32) -> u32 {
    while parent[at as usize] != at {
        at = parent[at as usize];
    }
    at
}

/// The same, and the way there is half as long afterwards.
fn shorten(parent: &mut [u32], mut at: u32) -> u32 {
    while parent[at as usize] != at {
        let above = parent[parent[at as usize] as usize];
        parent[at as usize] = above;
        at = above;
    }
    at
}
