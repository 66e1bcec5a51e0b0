use proptest::prelude::*;

use super::*;
use crate::secagg::vectors::{bytes32, int, list, parse};

#[test]
fn golden_vectors() {
    let vectors = parse(include_str!("../../../testdata/secagg/graph_v1.json"));
    for row in list(&vectors["graphs"]) {
        let n = int(&row["n"]);
        let graph = Graph::new(bytes32(&row["seed"]), n, int(&row["degree"])).expect("a graph");
        let ring: Vec<u32> = list(&row["ring"]).iter().map(int).collect();
        assert_eq!(graph.agent_at, ring, "n {n}");
        for (agent, neighbours) in row["neighbours"].as_object().expect("a table") {
            let neighbours: Vec<u32> = list(neighbours).iter().map(int).collect();
            assert_eq!(
                graph.neighbours(agent.parse().expect("an index")),
                neighbours,
                "n {n}, agent {agent}"
            );
        }
    }
    let draws = &vectors["draws"];
    let mut stream = ChaCha20::new(&bytes32(&draws["seed"]).into(), &[0; 12].into());
    for (i, expected) in list(&draws["draws"]).iter().enumerate() {
        assert_eq!(below(&mut stream, int(&draws["bound"])), int(expected), "draw {i}");
    }
}

fn degrees(n: u32) -> impl Iterator<Item = u32> {
    (2..n - 1).step_by(2).chain([n - 1])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn everybody_has_degree_neighbours_and_is_one_of_theirs(seed: [u8; 32], n in 2..80_u32, pick: prop::sample::Index) {
        let all: Vec<u32> = degrees(n).collect();
        let degree = all[pick.index(all.len())];
        let graph = Graph::new(seed, n, degree).expect("a good degree");
        prop_assert_eq!(graph.is_complete(), degree == n - 1);
        for a in 0..n {
            let neighbours = graph.neighbours(a);
            prop_assert_eq!(neighbours.len(), degree as usize);
            prop_assert!(neighbours.windows(2).all(|pair| pair[0] < pair[1]));
            for b in 0..n {
                prop_assert_eq!(graph.are_neighbours(a, b), neighbours.contains(&b));
                prop_assert_eq!(graph.are_neighbours(a, b), graph.are_neighbours(b, a));
            }
            prop_assert!(!graph.are_neighbours(a, a));
            let mut holders = neighbours;
            if degree == n - 1 {
                holders.push(a);
                holders.sort_unstable();
            }
            prop_assert_eq!(graph.holders(a), holders);
        }
    }

    #[test]
    fn one_seed_one_graph(seed: [u8; 32], other: [u8; 32]) {
        let graph = Graph::new(seed, 40, 6).expect("a graph");
        prop_assert_eq!(&graph, &Graph::new(seed, 40, 6).expect("a graph"));
        prop_assume!(seed != other);
        prop_assert_ne!(graph, Graph::new(other, 40, 6).expect("a graph"));
    }
}

/// Each agent is at each place about equally often: chi-squared with 9 * 9 degrees of freedom stays under its 1 - 10^-6 quantile.
#[test]
fn the_order_is_uniform() {
    const N: usize = 10;
    const ROUNDS: u32 = 20_000;
    let mut counts = [[0_u32; N]; N];
    for round in 0..ROUNDS {
        let mut seed = [0; 32];
        seed[..4].copy_from_slice(&round.to_le_bytes());
        for (place, agent) in shuffled(seed, N as u32).into_iter().enumerate() {
            counts[place][agent as usize] += 1;
        }
    }
    let expected = f64::from(ROUNDS) / N as f64;
    let chi_squared: f64 = counts
        .iter()
        .flatten()
        .map(|count| (f64::from(*count) - expected).powi(2) / expected)
        .sum();
    assert!((40.0..155.0).contains(&chi_squared), "{chi_squared}");
}

#[test]
fn an_index_outside_has_nobody() {
    for degree in [4, 9] {
        let graph = Graph::new([1; 32], 10, degree).expect("a graph");
        for outside in [10, 11, u32::MAX] {
            assert!(graph.neighbours(outside).is_empty());
            assert!(graph.holders(outside).is_empty());
            assert!(!graph.are_neighbours(0, outside) && !graph.are_neighbours(outside, outside));
        }
    }
}

#[test]
fn odd_and_great_degrees_are_refused() {
    for (n, degree) in [
        (0, 0),
        (1, 0),
        (1, 1),
        (2, 0),
        (2, 2),
        (10, 0),
        (10, 3),
        (10, 10),
        (11, 11),
        (10, u32::MAX),
    ] {
        assert_eq!(Graph::new([0; 32], n, degree), Err(GraphError { n, degree }));
    }
}
