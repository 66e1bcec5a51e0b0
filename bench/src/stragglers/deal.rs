//! Which rows each agent has, and how fast it is.

use aimass_sim::Chance;
use clap::ValueEnum;

/// How many times as long each agent takes as the fastest.
pub(super) const SLOWNESS: [u32; 16] = [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 4, 4];
/// The last agents, which are the slowest.
const SLOWEST: usize = 4;

/// Who has which digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Digits {
    /// As it falls.
    ByChance,
    /// The slowest agents have the eights and nines, and nobody else has any.
    Apart,
}

impl Digits {
    pub(super) const ALL: [Self; 2] = [Self::ByChance, Self::Apart];
}

/// How rows are dealt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Deal {
    /// Pieces of the rows, sorted by label, that an agent gets.
    pub(super) pieces: usize,
    pub(super) digits: Digits,
}

impl Deal {
    pub(super) fn name(self) -> &'static str {
        match self.digits {
            Digits::ByChance => "by chance",
            Digits::Apart => "8 and 9 with the slowest alone",
        }
    }
}

/// Indices of each agent's rows: as many for each, but for one.
///
/// # Source
/// McMahan et al. 2017 (AISTATS), section 3: the rows are sorted by label and cut into pieces, and each client gets some of them.
pub(super) fn deal(labels: &[f32], how: &Deal, chance: &mut Chance) -> Vec<Vec<usize>> {
    let mut rows: Vec<usize> = (0..labels.len()).collect();
    rows.sort_by(|a, b| labels[*a].total_cmp(&labels[*b]));
    let n = SLOWNESS.len() * how.pieces;
    let mut pieces: Vec<&[usize]> = (0..n).map(|i| &rows[rows.len() * i / n..rows.len() * (i + 1) / n]).collect();
    if how.digits == Digits::Apart {
        let (others, slowest) = pieces.split_at_mut(n - SLOWEST * how.pieces);
        shuffle(others, chance);
        shuffle(slowest, chance);
    } else {
        shuffle(&mut pieces, chance);
    }
    pieces.chunks(how.pieces).map(<[_]>::concat).collect()
}

fn shuffle<T>(items: &mut [T], chance: &mut Chance) {
    for i in (1..items.len()).rev() {
        items.swap(i, chance.below(i as u64 + 1) as usize);
    }
}
