//! Honest logs hold; rewritten, forked, cut and incomplete ones do not.

use aimass_protocol::log::{AbandonedEntry, RoundEntry};
use aimass_protocol::{CohortId, TenantId, Timestamp};
use proptest::prelude::*;

use super::*;

fn entry(job: u8, event: LogEvent) -> Vec<u8> {
    let entry = LogEntry {
        version: LogEntry::VERSION,
        tenant: TenantId::default(),
        job: JobId::from_bytes([job; 16]),
        time: Timestamp::from_ms(7),
        event,
    };
    codec::encode(&entry).expect("a good entry")
}

fn model(job: u8, n: u32) -> Digest {
    let mut bytes = [job; 32];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    Digest::from_bytes(bytes)
}

fn base(job: u8) -> Vec<u8> {
    entry(job, LogEvent::Base { model: model(job, 0) })
}

fn round(job: u8, n: u32) -> Vec<u8> {
    let round = RoundEntry {
        round: n,
        model: model(job, n),
        before: model(job, n - 1),
        cohort: CohortId::from_bytes([1; 16]),
        descriptor: model(0, 0),
        mode: if n == 2 { AggregationMode::Plain } else { AggregationMode::Secure },
        members: 3,
        survivors: 3,
        survivors_root: model(0, 1),
        draws: 1,
    };
    entry(job, LogEvent::Round(round))
}

fn abandoned(job: u8, n: u32) -> Vec<u8> {
    let round = AbandonedEntry {
        round: n,
        before: model(job, n - 1),
        cohort: CohortId::from_bytes([1; 16]),
        descriptor: None,
        mode: AggregationMode::Secure,
        members: 3,
        survivors: 0,
        survivors_root: None,
        draws: 3,
    };
    entry(job, LogEvent::Abandoned(round))
}

/// Two jobs; a round of the first is given up once.
fn log() -> Vec<Vec<u8>> {
    vec![
        base(1),
        base(2),
        round(1, 1),
        round(2, 1),
        abandoned(1, 2),
        round(1, 2),
        round(1, 3),
    ]
}

fn checkpoint(entries: &[Vec<u8>]) -> Checkpoint {
    let mut tree = Tree::new();
    for entry in entries {
        tree.append(leaf_hash(entry));
    }
    Checkpoint {
        origin: "aimass/default".to_owned(),
        size: tree.size(),
        root: tree.root(),
    }
}

fn audit(entries: &[Vec<u8>], checkpoint: &Checkpoint, older: &[Checkpoint]) -> Result<Figures, AuditError> {
    let mut audit = Audit::new("aimass/default");
    for entry in entries {
        audit.add(entry)?;
    }
    audit.finish(checkpoint, older)
}

#[test]
fn an_honest_log_holds_and_continues_all_that_it_was() {
    let entries = log();
    let older: Vec<_> = (0..=entries.len()).map(|n| checkpoint(&entries[..n])).collect();
    let figures = audit(&entries, &checkpoint(&entries), &older).expect("it holds");
    let expected = Figures {
        entries: 7,
        jobs: 2,
        rounds: 4,
        plain: 1,
        abandoned: 1,
        first_ms: 7,
        last_ms: 7,
    };
    assert_eq!(figures, expected);
    assert_eq!(audit(&[], &checkpoint(&[]), &[]).expect("an empty one").entries, 0);
}

#[test]
fn a_changed_a_missing_and_an_added_entry_are_noticed() {
    let entries = log();
    let signed = checkpoint(&entries);
    let mut changed = entries.clone();
    changed[1] = entry(2, LogEvent::Base { model: model(9, 9) });
    changed.remove(3);
    changed.insert(3, base(3));
    assert_eq!(audit(&changed, &signed, &[]), Err(AuditError::Root { size: 7 }));
    let cut = audit(&entries[..6], &signed, &[]);
    assert_eq!(cut, Err(AuditError::Size { found: 6, expected: 7 }));
    let longer = [entries, vec![base(4)]].concat();
    assert_eq!(audit(&longer, &signed, &[]), Err(AuditError::Size { found: 8, expected: 7 }));
}

#[test]
fn a_rewritten_a_forked_and_a_shrunk_log_are_told_apart() {
    let (entries, mut other) = (log(), log());
    other[1] = base(5);
    other.remove(3);
    let signed = checkpoint(&other);
    assert_eq!(
        audit(&other, &signed, &[checkpoint(&entries[..3])]),
        Err(AuditError::Rewritten { old: 3 })
    );
    assert_eq!(
        audit(&other, &signed, &[checkpoint(&entries[..6])]),
        Err(AuditError::Forked { size: 6 })
    );
    assert_eq!(
        audit(&other, &signed, &[checkpoint(&entries)]),
        Err(AuditError::Shrunk { old: 7, new: 6 })
    );
    assert!(
        audit(&other, &signed, &[checkpoint(&entries[..1])]).is_ok(),
        "the first entry is the same"
    );
}

#[test]
fn a_step_from_a_model_outside_the_log_is_noticed() {
    let without_base = [round(1, 1)];
    let missing = |entries: &[Vec<u8>]| match audit(entries, &checkpoint(entries), &[]) {
        Err(AuditError::MissingBase { index, .. }) => index,
        other => panic!("{other:?}"),
    };
    assert_eq!(missing(&without_base), 0);
    assert_eq!(missing(&[base(1), round(1, 1), round(1, 3)]), 2);
    assert_eq!(missing(&[base(1), round(1, 1), abandoned(1, 1)]), 2);
    assert_eq!(missing(&[base(2), round(1, 1)]), 1, "another job's");
    let back = [base(1), round(1, 1), base(1), round(1, 1)];
    let taken_back = audit(&back, &checkpoint(&back), &[]);
    assert!(
        matches!(
            taken_back,
            Err(AuditError::Order {
                index: 3,
                round: 1,
                last: 1,
                ..
            })
        ),
        "{taken_back:?}"
    );
}

#[test]
fn entries_that_are_none_and_those_of_others_are_noticed() {
    let none = [b"no entry".to_vec()];
    assert!(matches!(
        audit(&none, &checkpoint(&none), &[]),
        Err(AuditError::Entry { index: 0, .. })
    ));
    let mut audit = Audit::new("aimass/other");
    assert!(matches!(audit.add(&base(1)), Err(AuditError::Tenant { index: 0, .. })));
}

proptest! {
    #[test]
    fn any_changed_bit_is_noticed(which in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let (mut entries, signed) = (log(), checkpoint(&log()));
        let entry = which.get_mut(&mut entries);
        let bit = bit.index(8 * entry.len());
        entry[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(audit(&entries, &signed, &[]).is_err());
    }
}
