//! Sharing rows out: held-out splits, and uneven clients.

use rand_core::Rng;
use rand_distr::{Distribution, Gamma};

use super::PartitionError;

/// Fewest rows that [`partition_dirichlet`] leaves a client.
const LEAST_ROWS: usize = 4;

/// Shuffles `items` (Fisher-Yates). Spelled out here so that the order for a seed never changes with a library.
pub(crate) fn shuffle<T>(items: &mut [T], rng: &mut impl Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(i as u64 + 1, rng) as usize);
    }
}

/// Uniform in `0..bound`, without modulo bias (rejection of the incomplete last block).
fn below(bound: u64, rng: &mut impl Rng) -> u64 {
    let zone = u64::MAX - u64::MAX % bound;
    loop {
        let value = rng.next_u64();
        if value < zone {
            return value % bound;
        }
    }
}

/// Shuffled row indices `(first, rest)`, `first` holding `rows * fraction` (rounded) of `0..rows`. The same generator state gives the
/// same split.
pub fn split(rows: usize, fraction: f64, rng: &mut impl Rng) -> (Vec<usize>, Vec<usize>) {
    let mut order: Vec<usize> = (0..rows).collect();
    shuffle(&mut order, rng);
    let cut = ((rows as f64 * fraction.clamp(0.0, 1.0)).round() as usize).min(rows);
    let rest = order.split_off(cut);
    (order, rest)
}

/// The same with each class in `first` as often as in the whole, as far as whole rows allow; at least one row of each class is in
/// `rest`. Both are ascending.
///
/// # Shapes and units
/// `labels`: `[rows]`; equal ones are a class.
pub fn split_stratified(labels: &[f32], fraction: f64, rng: &mut impl Rng) -> (Vec<usize>, Vec<usize>) {
    let mut by_class = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (row, target) in labels.iter().enumerate() {
        by_class.entry(target.to_bits()).or_default().push(row);
    }
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    let mut seen = 0;
    for mut rows in by_class.into_values() {
        shuffle(&mut rows, rng);
        seen += rows.len();
        // Against what is due so far, so that small classes together get their share.
        let due = (seen as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
        let cut = due.saturating_sub(first.len()).min(rows.len() - 1);
        rest.extend(rows.split_off(cut));
        first.extend(rows);
    }
    first.sort_unstable();
    rest.sort_unstable();
    (first, rest)
}

/// Shares rows out so that each class is spread over the clients by its own draw from a symmetric Dirichlet(`alpha`): small `alpha`
/// gives clients that see few classes. Every row goes to exactly one client, and every client gets at least 4 (taken from the largest).
///
/// # Shapes and units
/// `labels`: `[rows]` class indices. Returns `n_clients` ascending lists of row indices.
/// # Errors
/// [`PartitionError`].
/// # Source
/// Hsu, Qi and Brown 2019, "Measuring the effects of non-identical data distribution for federated visual classification", with the
/// draw per class (as in Yurochkin et al. 2019) instead of per client, so that no row is left over.
pub fn partition_dirichlet(labels: &[f32], n_clients: usize, alpha: f64, rng: &mut impl Rng) -> Result<Vec<Vec<usize>>, PartitionError> {
    if n_clients == 0 {
        return Err(PartitionError::NoClients);
    }
    if labels.len() / n_clients < LEAST_ROWS {
        return Err(PartitionError::TooFewRows {
            rows: labels.len(),
            clients: n_clients,
            least: LEAST_ROWS,
        });
    }
    let gamma = Gamma::new(alpha, 1.0)
        .ok()
        .filter(|_| alpha.is_finite())
        .ok_or(PartitionError::Alpha { alpha })?;
    let mut by_class = std::collections::BTreeMap::<u32, Vec<usize>>::new();
    for (row, &target) in labels.iter().enumerate() {
        if !(target >= 0.0 && target.fract() == 0.0 && target < 1e6) {
            return Err(PartitionError::Label { row, target });
        }
        by_class.entry(target as u32).or_default().push(row);
    }
    let mut clients = vec![Vec::new(); n_clients];
    for rows in by_class.values_mut() {
        shuffle(rows, rng);
        let shares = dirichlet(&gamma, n_clients, rng);
        let mut given = 0;
        let mut sum = 0.0;
        for (client, share) in shares.iter().enumerate() {
            sum += share;
            let upto = if client + 1 == n_clients {
                rows.len()
            } else {
                ((rows.len() as f64 * sum).round() as usize).clamp(given, rows.len())
            };
            clients[client].extend_from_slice(&rows[given..upto]);
            given = upto;
        }
    }
    top_up(&mut clients);
    for rows in &mut clients {
        rows.sort_unstable();
    }
    Ok(clients)
}

/// One draw: gamma variates over their sum. For a tiny alpha all may underflow to 0; then one client takes all.
fn dirichlet(gamma: &Gamma<f64>, n: usize, rng: &mut impl Rng) -> Vec<f64> {
    let mut shares: Vec<f64> = (0..n).map(|_| gamma.sample(rng)).collect();
    let sum: f64 = shares.iter().sum();
    if sum > 0.0 && sum.is_finite() {
        for share in &mut shares {
            *share /= sum;
        }
    } else {
        shares.fill(0.0);
        shares[below(n as u64, rng) as usize] = 1.0;
    }
    shares
}

/// Moves rows from the largest client to each one that has too few.
fn top_up(clients: &mut [Vec<usize>]) {
    for poor in 0..clients.len() {
        while clients[poor].len() < LEAST_ROWS {
            let rich = (0..clients.len()).max_by_key(|&c| (clients[c].len(), c)).unwrap_or(poor);
            match clients[rich].pop() {
                Some(row) if rich != poor => clients[poor].push(row),
                _ => return,
            }
        }
    }
}
