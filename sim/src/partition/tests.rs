use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn labels(rows: u32, classes: u32) -> Vec<u32> {
    (0..rows).map(|row| row * 7919 % classes).collect()
}

fn all_rows(parts: &Parts) -> Vec<u32> {
    let mut rows: Vec<u32> = (0..parts.clients() as u32).flat_map(|client| parts.rows(client).to_vec()).collect();
    rows.sort_unstable();
    rows
}

fn labels_of(parts: &Parts, client: u32, labels: &[u32]) -> BTreeSet<u32> {
    parts.rows(client).iter().map(|row| labels[*row as usize]).collect()
}

/// The largest share that one label has of a client's rows, on the mean over the clients.
fn largest_share(parts: &Parts, labels: &[u32], classes: usize) -> f64 {
    let of_one = |client: u32| {
        let mut counts = vec![0_u32; classes];
        for row in parts.rows(client) {
            counts[labels[*row as usize] as usize] += 1;
        }
        f64::from(counts.into_iter().max().unwrap_or(0)) / parts.rows(client).len() as f64
    };
    (0..parts.clients() as u32).map(of_one).sum::<f64>() / parts.clients() as f64
}

fn any_kind() -> impl Strategy<Value = Partition> {
    prop_oneof![
        Just(Partition::Iid),
        (-4.0..6.0_f64, 1..4_u32).prop_map(|(log, min)| Partition::Dirichlet {
            alpha: 10_f64.powf(log),
            min
        }),
        (1..5_u32).prop_map(|per_client| Partition::Shards { per_client }),
    ]
}

proptest! {
    #[test]
    fn every_row_is_of_one_client_and_no_client_is_empty(
        kind in any_kind(), clients in 1..40_u32, rows in 200..900_u32, classes in 1..12_u32, seed: u64,
    ) {
        let labels = labels(rows, classes);
        let parts = kind.split(rows, Some(&labels), None, clients, seed).expect("enough rows for all");
        prop_assert_eq!(parts.clients(), clients as usize);
        prop_assert_eq!(all_rows(&parts), (0..rows).collect::<Vec<_>>());
        // At most one row (one a shard) between the largest and the smallest.
        let apart = if let Partition::Shards { per_client } = kind { per_client as usize } else { 1 };
        let sizes: Vec<usize> = (0..clients).map(|client| parts.rows(client).len()).collect();
        let (least, most) = (sizes.iter().min().expect("one"), sizes.iter().max().expect("one"));
        prop_assert!(*least >= 1 && most - least <= apart, "{sizes:?}");
        prop_assert_eq!(&parts, &kind.split(rows, Some(&labels), None, clients, seed).expect("as before"));
    }

    #[test]
    fn another_seed_makes_other_parts(kind in any_kind(), seed: u64) {
        let labels = labels(600, 10);
        let split = |seed| kind.split(600, Some(&labels), None, 20, seed).expect("enough rows for all");
        prop_assert_ne!(split(seed), split(seed.wrapping_add(1)));
    }

    #[test]
    fn shards_that_divide_the_labels_give_as_many_labels(per_client in 1..6_u32, each in 1..5_u32, rows_a_shard in 1..8_u32, seed: u64) {
        // Each label is of as many whole shards: no shard has two.
        let clients = 10 * each;
        let rows = clients * per_client * rows_a_shard;
        let labels = labels(rows, 10);
        let parts = Partition::Shards { per_client }.split(rows, Some(&labels), None, clients, seed).expect("enough rows for all");
        for client in 0..clients {
            prop_assert!(labels_of(&parts, client, &labels).len() <= per_client as usize);
        }
    }

    #[test]
    fn shards_that_cross_from_label_to_label_give_two_each_at_most(per_client in 1..4_u32, clients in 10..30_u32, seed: u64) {
        let labels = labels(1000, 10);
        let parts = Partition::Shards { per_client }.split(1000, Some(&labels), None, clients, seed).expect("enough rows for all");
        let crossing = (0..clients).map(|client| labels_of(&parts, client, &labels).len().saturating_sub(per_client as usize));
        let crossing: Vec<usize> = crossing.collect();
        prop_assert!(crossing.iter().all(|more| *more <= per_client as usize));
        // Ten labels have nine borders.
        prop_assert!(crossing.iter().sum::<usize>() <= 9);
    }

    #[test]
    fn clients_that_share_parts_have_those_of_the_parts(kind in any_kind(), made in 1..50_u32, clients in 1..5000_u32, seed: u64) {
        let labels = labels(300, 10);
        let reused = Partition::Reused { of: Box::new(kind.clone()), parts: Some(made) };
        let parts = reused.split(300, Some(&labels), None, clients, seed).expect("enough rows for the parts");
        let of = kind.split(300, Some(&labels), None, made.min(clients), seed).expect("the same");
        prop_assert_eq!(parts.clients(), clients as usize);
        prop_assert_eq!(parts.notes().is_empty(), clients <= made);
        for client in 0..clients {
            prop_assert_eq!(parts.rows(client), of.rows(client % made.min(clients)));
        }
    }

    #[test]
    fn keys_are_never_mixed(keys in proptest::collection::vec("[a-f]{1,2}", 1..200), share in 0.0..1.0_f64, seed: u64) {
        let found = keys.iter().collect::<BTreeSet<_>>().len() as u32;
        let clients = 1 + ((f64::from(found) - 1.0) * share) as u32;
        let kind = Partition::Key { column: "user".to_owned() };
        let parts = kind.split(keys.len() as u32, None, Some(&keys), clients, seed).expect("enough keys");
        let mut seen = BTreeSet::new();
        for client in 0..clients {
            let rows = parts.rows(client);
            let key = &keys[rows[0] as usize];
            prop_assert!(seen.insert(key), "two clients have {key:?}");
            let its: Vec<u32> = (0..keys.len() as u32).filter(|row| &keys[*row as usize] == key).collect();
            prop_assert_eq!(rows, &its[..]);
        }
        prop_assert_eq!(parts.notes().len(), usize::from(clients < found));
    }
}

#[test]
fn dirichlet_goes_from_near_iid_to_near_one_label() {
    let labels = labels(20_000, 10);
    let split = |alpha: f64| {
        let kind = Partition::Dirichlet { alpha, min: 1 };
        kind.split(20_000, Some(&labels), None, 100, 3).expect("enough rows for all")
    };
    let iid = Partition::Iid.split(20_000, None, None, 100, 3).expect("enough rows for all");
    let iid = largest_share(&iid, &labels, 10);
    let shares = [1e6, 100.0, 1.0, 0.1, 1e-4].map(|alpha| largest_share(&split(alpha), &labels, 10));
    assert!((shares[0] - iid).abs() < 0.01, "{shares:?}, IID {iid}");
    assert!(shares.is_sorted(), "{shares:?}");
    // With alpha = 10, ten labels have shapes of 1: uniform over the simplex, where the largest share is 0.293 on the mean (harmonic number of 10
    // over 10), and a little more in 200 draws.
    let flat = largest_share(&split(10.0), &labels, 10);
    assert!((0.28..0.33).contains(&flat), "{flat}");
    assert!(shares[4] > 0.9, "{shares:?}");
}

#[test]
fn dirichlet_follows_the_shares_of_the_data() {
    // Nine in ten rows have label 0.
    let labels: Vec<u32> = (0..10_000).map(|row| u32::from(row % 10 == 0)).collect();
    let kind = Partition::Dirichlet { alpha: 1e6, min: 1 };
    let parts = kind.split(10_000, Some(&labels), None, 10, 1).expect("enough rows for all");
    let ones = |client| parts.rows(client).iter().filter(|row| labels[**row as usize] == 1).count();
    let ones: Vec<usize> = (0..10).map(ones).collect();
    // Some 100 of 1000; one client has what the draws of the nine others leave.
    assert!(ones.iter().filter(|ones| (60..140).contains(*ones)).count() >= 9, "{ones:?}");
    assert!(ones.iter().all(|ones| *ones < 240), "{ones:?}");
}

#[test]
fn two_digit_clients() {
    // As in McMahan et al. 2017: 60,000 rows, 200 shards of 300, two each.
    let labels = labels(60_000, 10);
    let parts = Partition::Shards { per_client: 2 }
        .split(60_000, Some(&labels), None, 100, 0)
        .expect("enough rows for all");
    let counts: Vec<usize> = (0..100).map(|client| labels_of(&parts, client, &labels).len()).collect();
    assert!(counts.iter().all(|count| *count <= 2), "{counts:?}");
    assert!(counts.iter().filter(|count| **count == 2).count() > 70, "{counts:?}");
    assert!((0..100).all(|client| parts.rows(client).len() == 600));
}

#[test]
fn a_million_clients_share_a_small_set() {
    let kind = Partition::Reused {
        of: Box::new(Partition::Iid),
        parts: None,
    };
    let parts = kind.split(1000, None, None, 1_000_000, 1).expect("parts are reused");
    assert_eq!(parts.clients(), 1_000_000);
    assert_eq!(parts.rows(999_999), parts.rows(999));
    assert_eq!(parts.rows(0).len(), 1);
    assert!(parts.notes()[0].contains("reused"), "{:?}", parts.notes());
}

#[test]
fn what_cannot_be_split_is_refused_by_field_and_fix() {
    let key = || Partition::Key { column: "user".to_owned() };
    let dirichlet = |min| Partition::Dirichlet { alpha: 1.0, min };
    let keys: Vec<String> = ["a", "b", " "].map(str::to_owned).into();
    let reused = |parts| Partition::Reused {
        of: Box::new(Partition::Iid),
        parts: Some(parts),
    };
    let ten = [0; 10];
    let cases = [
        (Partition::Iid.split(10, None, None, 11, 0), "clients", "at most 10 clients"),
        (Partition::Iid.split(0, None, None, 1, 0), "data", "with rows"),
        (Partition::Iid.split(10, None, None, 0, 0), "clients", "1 to 10000000"),
        (dirichlet(5).split(10, Some(&ten), None, 3, 0), "clients", "at most 2 clients"),
        (dirichlet(1).split(10, None, None, 3, 0), "partition.kind", "iid"),
        (dirichlet(1).split(10, Some(&ten[..9]), None, 3, 0), "partition.kind", "one label"),
        (
            Partition::Shards { per_client: 4 }.split(10, Some(&ten), None, 3, 0),
            "clients",
            "at most 2",
        ),
        (key().split(3, None, None, 1, 0), "partition.column", "name a column"),
        (key().split(3, None, Some(&keys), 1, 0), "partition.column", "fill it in"),
        (key().split(2, None, Some(&keys), 1, 0), "partition.column", "one key"),
        (key().split(2, None, Some(&keys[..2]), 3, 0), "clients", "at most 2 clients"),
        (Partition::Files.split(2, None, None, 2, 0), "partition.kind", "folder"),
        (reused(11).split(10, None, None, 20, 0), "partition.parts", "1 to 10"),
        (reused(0).split(10, None, None, 20, 0), "partition.parts", "1 to 10"),
        (Parts::from_lists([vec![1], vec![]]), "partition", "fewer clients"),
        (Parts::from_lists(Vec::<Vec<u32>>::new()), "clients", "at least 1"),
    ];
    for (at, (result, field, fix)) in cases.into_iter().enumerate() {
        let error = result.expect_err("can't be split");
        assert_eq!(error.field, field, "case {at}: {error}");
        assert!(error.to_string().contains(fix), "case {at}: {error}");
    }
}
