//! The tree against the definition of RFC 6962 and the vectors of its reference implementations.

use proptest::prelude::*;

use super::*;

mod checkpoints;
mod proof_files;

/// Inputs of the reference tests of certificate-transparency and of transparency-dev/merkle (`testonly/constants.go`).
const LEAVES: [&str; 8] = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
];

/// Their roots, by size.
const ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hash(text: &str) -> Hash {
    hex::decode(text).expect("hex").try_into().expect("32 bytes")
}

fn hashes(list: &[&str]) -> Vec<Hash> {
    list.iter().map(|text| hash(text)).collect()
}

fn reference_tree() -> Tree {
    let mut tree = Tree::new();
    for leaf in LEAVES {
        tree.append(leaf_hash(&hex::decode(leaf).expect("hex")));
    }
    tree
}

/// Leaves 0, 1, 2, ... as numbers.
fn leaves(n: u64) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

fn tree_of(leaves: &[Hash]) -> Tree {
    let mut tree = Tree::new();
    for (i, leaf) in leaves.iter().enumerate() {
        assert_eq!(tree.append(*leaf), i as u64);
    }
    tree
}

/// MTH of RFC 6962, section 2.1, as it is written there.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// PATH of section 2.1.1.
fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    if m < left.len() {
        [path(m, left), vec![mth(right)]].concat()
    } else {
        [path(m - left.len(), right), vec![mth(left)]].concat()
    }
}

/// SUBPROOF of section 2.1.2.
fn subproof(m: usize, leaves: &[Hash], is_known: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if is_known { vec![] } else { vec![mth(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    if m <= left.len() {
        [subproof(m, left, is_known), vec![mth(right)]].concat()
    } else {
        [subproof(m - left.len(), right, false), vec![mth(left)]].concat()
    }
}

fn split(n: usize) -> usize {
    let mut k = 1;
    while 2 * k < n {
        k *= 2;
    }
    k
}

#[test]
fn roots_are_those_of_the_reference_tests() {
    let tree = reference_tree();
    for (size, root) in ROOTS.iter().enumerate() {
        assert_eq!(tree.root_at(size as u64), Some(hash(root)), "size {size}");
    }
    assert_eq!(tree.root(), hash(ROOTS[8]));
    assert_eq!(Tree::new().root(), empty_root());
}

#[test]
fn proofs_are_those_of_the_reference_tests() {
    let tree = reference_tree();
    let inclusion: [(u64, u64, &[&str]); 5] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (index, size, expected) in inclusion {
        let expected = hashes(expected);
        let name = format!("{index} in {size}");
        assert_eq!(tree.inclusion(index, size), Some(expected.clone()), "{name}");
        let leaf = leaf_hash(&hex::decode(LEAVES[usize::try_from(index).expect("small")]).expect("hex"));
        let root = hash(ROOTS[usize::try_from(size).expect("small")]);
        assert_eq!(verify_inclusion(&leaf, index, size, &expected, &root), Ok(()), "{name}");
    }
    let consistency: [(u64, u64, &[&str]); 4] = [
        (1, 1, &[]),
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    for (old, new, expected) in consistency {
        let expected = hashes(expected);
        let name = format!("{old} to {new}");
        assert_eq!(tree.consistency(old, new), Some(expected.clone()), "{name}");
        let root = |size: u64| hash(ROOTS[usize::try_from(size).expect("small")]);
        assert_eq!(verify_consistency(old, &root(old), new, &root(new), &expected), Ok(()), "{name}");
    }
}

#[test]
fn every_small_tree_is_as_defined_and_every_proof_in_it_holds() {
    let all = leaves(70);
    let tree = tree_of(&all);
    for n in 0..=all.len() {
        let (size, known) = (n as u64, &all[..n]);
        let root = mth(known);
        assert_eq!(tree.root_at(size), Some(root), "size {n}");
        for (i, leaf) in known.iter().enumerate() {
            let proof = tree.inclusion(i as u64, size).expect("within the tree");
            assert_eq!(proof, path(i, known), "{i} in {n}");
            assert_eq!(verify_inclusion(leaf, i as u64, size, &proof, &root), Ok(()), "{i} in {n}");
        }
        for m in 0..=n {
            let proof = tree.consistency(m as u64, size).expect("within the tree");
            if m > 0 {
                assert_eq!(proof, subproof(m, known, true), "{m} to {n}");
            }
            let held = verify_consistency(m as u64, &mth(&all[..m]), size, &root, &proof);
            assert_eq!(held, Ok(()), "{m} to {n}");
        }
    }
}

#[test]
fn a_tree_that_was_cut_short_gives_no_proofs() {
    let tree = tree_of(&leaves(5));
    assert_eq!(tree.root_at(6), None);
    assert_eq!(tree.inclusion(5, 5), None);
    assert_eq!(tree.inclusion(0, 6), None);
    assert_eq!(tree.consistency(3, 6), None);
    assert_eq!(tree.consistency(4, 3), None);
    assert_eq!(tree.leaf(5), None);
    assert_eq!(tree.root_at(u64::MAX), None);
    assert_eq!(tree.consistency(0, 5), Some(vec![]));
}

#[test]
fn a_rewritten_a_forked_and_a_shrunk_log_are_refused() {
    let all = leaves(40);
    let tree = tree_of(&all);
    let mut rewritten = all.clone();
    rewritten[11] = leaf_hash(b"another model");
    let rewritten = tree_of(&rewritten);
    let at = |tree: &Tree, size| tree.root_at(size).expect("within the tree");
    for new in 21..=40 {
        let proof = rewritten.consistency(20, new).expect("within the tree");
        let held = verify_consistency(20, &at(&tree, 20), new, &at(&rewritten, new), &proof);
        assert_eq!(held, Err(ProofError::Root), "20 to {new}");
        let proof = tree.consistency(20, new).expect("within the tree");
        let held = verify_consistency(20, &at(&tree, 20), new, &at(&rewritten, new), &proof);
        assert_eq!(held, Err(ProofError::Root), "20 to {new}");
    }
    let forked = verify_consistency(20, &at(&tree, 20), 20, &at(&rewritten, 20), &[]);
    assert_eq!(forked, Err(ProofError::Forked { size: 20 }));
    let shrunk = verify_consistency(20, &at(&tree, 20), 19, &at(&tree, 19), &[]);
    assert_eq!(shrunk, Err(ProofError::Shrunk { old: 20, new: 19 }));
    let from_nothing = verify_consistency(0, &all[0], 19, &at(&tree, 19), &[]);
    assert_eq!(from_nothing, Err(ProofError::Root), "no log of no entries has this root");
}

#[test]
fn a_changed_bit_anywhere_in_a_proof_is_noticed() {
    let all = leaves(13);
    let tree = tree_of(&all);
    let root = tree.root();
    let flipped = |hash: &Hash, bit: usize| {
        let mut hash = *hash;
        hash[bit / 8] ^= 1 << (bit % 8);
        hash
    };
    for i in 0..13 {
        let proof = tree.inclusion(i, 13).expect("within the tree");
        let leaf = tree.leaf(i).expect("within the tree");
        for bit in 0..256 {
            assert!(verify_inclusion(&flipped(&leaf, bit), i, 13, &proof, &root).is_err());
            assert!(verify_inclusion(&leaf, i, 13, &proof, &flipped(&root, bit)).is_err());
            for at in 0..proof.len() {
                let mut changed = proof.clone();
                changed[at] = flipped(&changed[at], bit);
                assert!(
                    verify_inclusion(&leaf, i, 13, &changed, &root).is_err(),
                    "bit {bit} of hash {at} of {i}"
                );
            }
        }
        for other in (0..16).filter(|other| *other != i) {
            assert!(
                verify_inclusion(&leaf, other, 13, &proof, &root).is_err(),
                "{i} was taken for {other}"
            );
        }
        assert!(verify_inclusion(&leaf, i, 13, &proof[1..], &root).is_err());
        assert!(verify_inclusion(&leaf, i, 13, &[&proof[..], &[leaf]].concat(), &root).is_err());
    }
    for old in 1..13 {
        let proof = tree.consistency(old, 13).expect("within the tree");
        let old_root = tree.root_at(old).expect("within the tree");
        for bit in 0..256 {
            assert!(verify_consistency(old, &flipped(&old_root, bit), 13, &root, &proof).is_err());
            assert!(verify_consistency(old, &old_root, 13, &flipped(&root, bit), &proof).is_err());
            for at in 0..proof.len() {
                let mut changed = proof.clone();
                changed[at] = flipped(&changed[at], bit);
                assert!(
                    verify_consistency(old, &old_root, 13, &root, &changed).is_err(),
                    "bit {bit} of hash {at} from {old}"
                );
            }
        }
        assert!(verify_consistency(old, &old_root, 13, &root, &proof[1..]).is_err());
        assert!(verify_consistency(old, &old_root, 13, &root, &[&proof[..], &[root]].concat()).is_err());
        assert!(verify_consistency(old, &old_root, 13, &root, &[]).is_err());
    }
    assert!(verify_consistency(13, &root, 13, &root, &[root]).is_err());
    assert!(verify_consistency(0, &empty_root(), 13, &root, &[root]).is_err());
}

#[test]
fn sizes_at_the_end_of_the_numbers_are_no_crash() {
    let any = [7; 32];
    for proof in [vec![], vec![any; 1], vec![any; 63], vec![any; 64], vec![any; 65]] {
        for (a, b) in [
            (u64::MAX, u64::MAX),
            (0, u64::MAX),
            (u64::MAX - 1, u64::MAX),
            (1 << 63, u64::MAX),
            (1, u64::MAX),
        ] {
            assert!(verify_inclusion(&any, a, b, &proof, &any).is_err(), "{a} in {b}");
            if a != b {
                assert!(verify_consistency(a, &any, b, &any, &proof).is_err(), "{a} to {b}");
            }
        }
    }
}

#[test]
fn a_million_entries_have_short_proofs() {
    let n = 1_000_000_u64;
    let mut tree = Tree::new();
    for i in 0..n {
        tree.append(leaf_hash(&i.to_be_bytes()));
    }
    let root = tree.root();
    for index in [0, 1, 524_287, 524_288, 777_777, n - 1] {
        let proof = tree.inclusion(index, n).expect("within the tree");
        assert!(proof.len() <= 20, "{} hashes", proof.len());
        let leaf = tree.leaf(index).expect("within the tree");
        assert_eq!(verify_inclusion(&leaf, index, n, &proof, &root), Ok(()));
        let old = index + 1;
        let proof = tree.consistency(old, n).expect("within the tree");
        assert!(proof.len() <= 21, "{} hashes", proof.len());
        let old_root = tree.root_at(old).expect("within the tree");
        assert_eq!(verify_consistency(old, &old_root, n, &root, &proof), Ok(()));
    }
}

proptest! {
    #[test]
    fn proofs_of_any_tree_hold(n in 1..3000_u64, a in any::<u64>(), b in any::<u64>()) {
        let all = leaves(n);
        let tree = tree_of(&all);
        let size = 1 + a % n;
        let index = b % size;
        let root = tree.root_at(size).expect("within the tree");
        prop_assert_eq!(root, mth(&all[..usize::try_from(size).expect("small")]));
        let proof = tree.inclusion(index, size).expect("within the tree");
        prop_assert_eq!(verify_inclusion(&tree.leaf(index).expect("within the tree"), index, size, &proof, &root), Ok(()));
        let proof = tree.consistency(index, size).expect("within the tree");
        let old_root = tree.root_at(index).expect("within the tree");
        prop_assert_eq!(verify_consistency(index, &old_root, size, &root, &proof), Ok(()));
    }

    #[test]
    fn arbitrary_proofs_are_refused(old in any::<u64>(), new in any::<u64>(), proof in proptest::collection::vec(any::<[u8; 32]>(), 0..70), root in any::<[u8; 32]>()) {
        prop_assert!(verify_inclusion(&[1; 32], old, new, &proof, &root).is_err());
        prop_assert!(verify_consistency(old, &[1; 32], new, &root, &proof).is_err());
    }
}
