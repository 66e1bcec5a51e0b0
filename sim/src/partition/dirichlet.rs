//! Clients whose labels differ (Hsu, Qi and Brown 2019).

use std::collections::BTreeMap;

use rand_distr::{Distribution, Gamma};

use super::{Parts, cut};
use crate::chance::Chance;
use crate::population::PopulationError;

/// Most labels times clients: each takes a draw.
const MAX_DRAWS: u64 = 1 << 30;

/// Equal parts. Each client has shares of the labels `q ~ Dir(alpha p)`, `p` being those of the data, and draws each of its rows by them from the
/// labels that have rows left.
pub(super) fn split(labels: &[u32], alpha: f64, clients: u32, chance: &mut Chance) -> Result<Parts, PopulationError> {
    let mut left = BTreeMap::<u32, Vec<u32>>::new();
    for (row, label) in (0_u32..).zip(labels) {
        left.entry(*label).or_default().push(row);
    }
    if left.len() as u64 * u64::from(clients) > MAX_DRAWS {
        let problem = format!("{} labels for {clients} clients are too many", left.len());
        let fix = "use fewer clients, kind = \"iid\", or `parts` with `reuse = true`";
        return Err(PopulationError::new("partition.kind", problem, fix));
    }
    let mut left: Vec<Vec<u32>> = left.into_values().collect();
    let shapes: Vec<f64> = left.iter().map(|rows| alpha * rows.len() as f64 / labels.len() as f64).collect();
    let gammas: Result<Vec<Gamma<f64>>, _> = shapes.iter().map(|shape| Gamma::new(shape + 1.0, 1.0)).collect();
    let gammas = gammas.map_err(|e| PopulationError::new("partition.alpha", format!("{alpha}: {e}"), "use for instance 0.5"))?;
    for rows in &mut left {
        chance.shuffle(rows);
    }
    let sizes: Vec<usize> = cut(labels.len(), clients).map(|range| range.len()).collect();
    let mut order: Vec<usize> = (0..clients as usize).collect();
    chance.shuffle(&mut order);
    let mut parts = vec![Vec::new(); clients as usize];
    for client in order {
        // A gamma variate of shape a is one of shape a + 1 times u^(1/a) (Marsaglia and Tsang 2000, section 6). As logarithms, since with a
        // small alpha all of them may be too small for a float; the shares are the softmax.
        let draw = |(gamma, shape): (&Gamma<f64>, &f64)| gamma.sample(chance.rng()).ln() + chance.share().ln() / shape;
        let logs: Vec<f64> = gammas.iter().zip(&shapes).map(draw).collect();
        let mut sums = running_sums(&logs, &left);
        parts[client].reserve_exact(sizes[client]);
        while parts[client].len() < sizes[client] {
            let Some((_, total)) = sums.last() else {
                break;
            };
            let at = chance.share() * total;
            let found = sums.partition_point(|(_, sum)| *sum < at).min(sums.len() - 1);
            let label = sums[found].0;
            parts[client].extend(left[label].pop());
            if left[label].is_empty() {
                sums = running_sums(&logs, &left);
            }
        }
        parts[client].sort_unstable();
    }
    Parts::from_lists(parts)
}

/// Of the labels that have rows left: each with the sum of the shares up to it.
fn running_sums(logs: &[f64], left: &[Vec<u32>]) -> Vec<(usize, f64)> {
    let open = || left.iter().zip(logs).enumerate().filter(|(_, (rows, _))| !rows.is_empty());
    let largest = open().map(|(_, (_, log))| *log).fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    let add = |(label, (_, log)): (usize, (&Vec<u32>, &f64))| {
        sum += (log - largest).exp();
        (label, sum)
    };
    open().map(add).collect()
}
