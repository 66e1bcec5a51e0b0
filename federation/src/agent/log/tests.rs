//! A server's log as its agents see it: honest, forked, rewritten, cut short, of another server.

use aimass_crypto::log::{Tree, leaf_hash};
use aimass_crypto::sign::SigningKey;
use aimass_protocol::job::AggregationMode;
use aimass_protocol::log::{AbandonedEntry, LogEvent, RoundEntry};
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::*;
use crate::fixtures::{at_s, cohort, job, model, rng};

/// A server's log with its key.
struct Server {
    key: SigningKey,
    tenant: TenantId,
    tree: Tree,
    entries: Vec<Vec<u8>>,
}

impl Server {
    fn new(seed: u64) -> Self {
        Self {
            key: SigningKey::generate(&mut rng(seed)),
            tenant: TenantId::default(),
            tree: Tree::new(),
            entries: Vec::new(),
        }
    }

    /// Job 1 with models 1, 2, 3, ... and between them other jobs'.
    fn with_models(seed: u64, models: u8) -> Self {
        let mut server = Self::new(seed);
        server.append(1, LogEvent::Base { model: model(1) });
        for n in 2..=models {
            server.append(2, LogEvent::Base { model: model(100 + n) });
            server.append(1, round(n));
        }
        server
    }

    fn append(&mut self, of: u8, event: LogEvent) {
        let entry = LogEntry {
            version: LogEntry::VERSION,
            tenant: self.tenant.clone(),
            job: job(of),
            time: at_s(60),
            event,
        };
        self.append_bytes(codec::encode(&entry).expect("a good entry"));
    }

    fn append_bytes(&mut self, entry: Vec<u8>) {
        self.tree.append(leaf_hash(&entry));
        self.entries.push(entry);
    }

    fn proof(&self, index: u64, known: &KnownLog) -> BaseProof {
        let size = self.tree.size();
        let digests = |list: Vec<Hash>| list.into_iter().map(Digest::from_bytes).collect();
        let checkpoint = Checkpoint {
            origin: origin(&self.tenant),
            size,
            root: self.tree.root(),
        };
        BaseProof {
            checkpoint: ByteBuf::from(checkpoint.sign(&self.key).expect("a good origin")),
            entry: ByteBuf::from(self.entries[usize::try_from(index).expect("small")].clone()),
            index,
            inclusion: digests(self.tree.inclusion(index, size).expect("within the tree")),
            consistency: digests(self.tree.consistency(known.size, size).unwrap_or_default()),
        }
    }

    fn head(&self) -> LogHead {
        LogHead {
            size: self.tree.size(),
            root: Digest::from_bytes(self.tree.root()),
        }
    }

    /// What an agent says to the proof of model `n`, which is at 2 (n - 1).
    fn shows(&self, known: &KnownLog, n: u8) -> Result<KnownLog, LogError> {
        let index = 2 * u64::from(n - 1);
        let (now, entry, at) = self.check(known, n, &self.proof(index, known))?;
        assert_eq!((entry.model(), at), (Some(model(n)), index));
        Ok(now)
    }

    fn check(&self, known: &KnownLog, n: u8, proof: &BaseProof) -> Result<(KnownLog, LogEntry, u64), LogError> {
        verify_base(known, &self.key.public(), &TenantId::default(), job(1), model(n), proof)
    }
}

fn round(n: u8) -> LogEvent {
    LogEvent::Round(RoundEntry {
        round: n.into(),
        model: model(n),
        before: model(n - 1),
        cohort: cohort(n),
        descriptor: model(200),
        mode: AggregationMode::Secure,
        members: 3,
        survivors: 3,
        survivors_root: model(201),
        draws: 1,
    })
}

#[test]
fn a_log_is_followed_as_it_grows() {
    let mut server = Server::with_models(1, 2);
    let first = server.shows(&KnownLog::default(), 1).expect("the first look");
    assert_eq!(first.size, 3);
    assert_eq!(server.shows(&first, 2).expect("the same log"), first);
    server.append(2, LogEvent::Base { model: model(50) });
    server.append(1, round(3));
    let second = server.shows(&first, 3).expect("it has grown");
    assert_eq!((second.size, second.root), (5, server.head().root));
    let shown = server.shows(&second, 1).expect("an older model of the same log");
    assert_eq!(shown, second);
}

#[test]
fn a_log_survives_a_restart_of_the_agent() {
    let known = Server::with_models(1, 2).shows(&KnownLog::default(), 1).expect("a good log");
    let stored = serde_json::to_string(&known).expect("JSON");
    assert_eq!(stored, format!("{{\"size\":3,\"root\":\"{}\"}}", known.root.to_hex()));
    assert_eq!(serde_json::from_str::<KnownLog>(&stored).expect("as stored"), known);
}

#[test]
fn a_rewritten_log_is_refused() {
    let known = Server::with_models(1, 3).shows(&KnownLog::default(), 1).expect("a good log");
    let mut rewritten = Server::new(1);
    rewritten.append(1, LogEvent::Base { model: model(1) });
    rewritten.append(3, LogEvent::Base { model: model(99) });
    for n in 2..=5 {
        rewritten.append(1, round(n));
    }
    let refused = verify_base(
        &known,
        &rewritten.key.public(),
        &TenantId::default(),
        job(1),
        model(2),
        &rewritten.proof(2, &known),
    );
    let error = refused.expect_err("another history");
    assert!(matches!(error, LogError::Rewritten { seen: 5, shown: 6, .. }), "{error:?}");
    assert!(error.to_string().contains("Tell the auditor"), "{error}");
    assert!(error.to_string().contains(&known.root.to_hex()), "{error}");
}

#[test]
fn a_second_log_of_the_same_size_is_refused() {
    let known = Server::with_models(1, 2).shows(&KnownLog::default(), 1).expect("a good log");
    let mut other = Server::new(1);
    other.append(1, LogEvent::Base { model: model(1) });
    other.append(1, round(2));
    other.append(1, round(3));
    let proof = other.proof(0, &known);
    let error = other.check(&known, 1, &proof).expect_err("a fork");
    assert!(
        matches!(error, LogError::Forked { size: 3, seen, shown } if seen != shown),
        "{error:?}"
    );
}

#[test]
fn a_log_that_was_cut_short_is_refused() {
    let known = Server::with_models(1, 3).shows(&KnownLog::default(), 1).expect("a good log");
    let error = Server::with_models(1, 2).shows(&known, 1).expect_err("entries are gone");
    assert_eq!(error, LogError::Shrunk { seen: 5, shown: 3 });
    let empty = LogHead {
        size: 0,
        root: KnownLog::default().root,
    };
    assert_eq!(known.grown(&empty, &[]), Err(LogError::Shrunk { seen: 5, shown: 0 }));
}

#[test]
fn a_model_that_is_not_in_the_log_is_refused() {
    let server = Server::with_models(1, 3);
    let known = KnownLog::default();
    let mut proof = server.proof(4, &known);
    // For this device alone.
    let mut secret = Server::new(1);
    secret.append(1, LogEvent::Base { model: model(66) });
    proof.entry = ByteBuf::from(secret.entries[0].clone());
    let error = server.check(&known, 66, &proof).expect_err("not in the log");
    assert!(matches!(error, LogError::NotInLog(ProofError::Root)), "{error:?}");
    assert!(error.to_string().contains("this device alone"), "{error}");
    for index in [0, 3, 5, u64::MAX] {
        let moved = BaseProof {
            index,
            ..server.proof(4, &known)
        };
        let error = server.check(&known, 3, &moved).expect_err("another place");
        assert!(matches!(error, LogError::NotInLog(_)), "{index}: {error:?}");
    }
}

#[test]
fn the_checkpoint_of_another_server_or_tenant_is_refused() {
    let known = KnownLog::default();
    let (server, other) = (Server::with_models(1, 2), Server::with_models(2, 2));
    let error = server.check(&known, 1, &other.proof(0, &known)).expect_err("another key");
    assert_eq!(error, LogError::Checkpoint(NoteError::OtherKey));
    let mut elsewhere = Server::new(1);
    elsewhere.tenant = "elsewhere".parse().expect("a tenant");
    elsewhere.append(1, LogEvent::Base { model: model(1) });
    let error = server
        .check(&known, 1, &elsewhere.proof(0, &known))
        .expect_err("another tenant's log");
    assert!(matches!(error, LogError::Checkpoint(NoteError::Origin { .. })), "{error:?}");
}

#[test]
fn an_entry_of_something_else_is_refused() {
    let known = KnownLog::default();
    let mut server = Server::with_models(1, 3);
    let other = |proof: &BaseProof, of: u8, n: u8| {
        verify_base(&known, &server.key.public(), &TenantId::default(), job(of), model(n), proof).expect_err("another entry")
    };
    assert_eq!(other(&server.proof(0, &known), 2, 1), LogError::OtherEntry { what: "job" });
    assert_eq!(other(&server.proof(0, &known), 1, 2), LogError::OtherEntry { what: "model" });
    let abandoned = LogEvent::Abandoned(AbandonedEntry {
        round: 4,
        before: model(3),
        cohort: cohort(4),
        descriptor: None,
        mode: AggregationMode::Secure,
        members: 3,
        survivors: 0,
        survivors_root: None,
        draws: 3,
    });
    server.append(1, abandoned);
    let error = server.check(&known, 3, &server.proof(5, &known)).expect_err("no model was made");
    assert_eq!(error, LogError::OtherEntry { what: "model" });
    server.append_bytes(b"no entry".to_vec());
    let error = server.check(&known, 3, &server.proof(6, &known)).expect_err("not CBOR");
    assert!(matches!(error, LogError::Entry { .. }), "{error:?}");
    let tenant = "elsewhere".parse().expect("a tenant");
    let entry = LogEntry {
        version: LogEntry::VERSION,
        tenant,
        job: job(1),
        time: at_s(1),
        event: LogEvent::Base { model: model(9) },
    };
    server.append_bytes(codec::encode(&entry).expect("a good entry"));
    let error = server.check(&known, 9, &server.proof(7, &known)).expect_err("another tenant's");
    assert_eq!(error, LogError::OtherEntry { what: "tenant" });
}

#[test]
fn a_changed_bit_in_any_part_of_the_proof_is_noticed() {
    let server = Server::with_models(1, 4);
    let known = Server::with_models(1, 2).shows(&KnownLog::default(), 1).expect("a good log");
    let good = server.proof(6, &known);
    assert!(server.check(&known, 4, &good).is_ok());
    assert!(!good.consistency.is_empty() && !good.inclusion.is_empty());
    let flip = |bytes: &mut [u8], bit: usize| bytes[bit / 8] ^= 1 << (bit % 8);
    for bit in 0..8 * good.checkpoint.len() {
        let mut proof = good.clone();
        flip(&mut proof.checkpoint, bit);
        assert!(server.check(&known, 4, &proof).is_err(), "bit {bit} of the checkpoint");
    }
    for bit in 0..8 * good.entry.len() {
        let mut proof = good.clone();
        flip(&mut proof.entry, bit);
        assert!(server.check(&known, 4, &proof).is_err(), "bit {bit} of the entry");
    }
    for bit in 0..64 {
        let mut proof = good.clone();
        proof.index ^= 1 << bit;
        assert!(server.check(&known, 4, &proof).is_err(), "bit {bit} of the index");
    }
    for bit in 0..256 {
        for at in 0..good.inclusion.len() {
            let mut proof = good.clone();
            let mut bytes = *proof.inclusion[at].as_bytes();
            flip(&mut bytes, bit);
            proof.inclusion[at] = Digest::from_bytes(bytes);
            assert!(server.check(&known, 4, &proof).is_err(), "bit {bit} of hash {at} of the inclusion");
        }
        for at in 0..good.consistency.len() {
            let mut proof = good.clone();
            let mut bytes = *proof.consistency[at].as_bytes();
            flip(&mut bytes, bit);
            proof.consistency[at] = Digest::from_bytes(bytes);
            assert!(
                server.check(&known, 4, &proof).is_err(),
                "bit {bit} of hash {at} of the consistency"
            );
        }
    }
}

proptest! {
    #[test]
    fn a_log_that_only_grows_is_followed_and_a_changed_one_never(sizes in prop::collection::vec(1..6_u8, 1..8), change in any::<prop::sample::Index>()) {
        let mut server = Server::new(1);
        let mut known = KnownLog::default();
        for (step, more) in sizes.iter().enumerate() {
            for _ in 0..*more {
                server.append(1, LogEvent::Base { model: model(u8::try_from(step).expect("few") + 1) });
            }
            let index = server.tree.size() - 1;
            let n = u8::try_from(step).expect("few") + 1;
            known = server.check(&known, n, &server.proof(index, &known)).expect("it only grew").0;
        }
        let mut changed = Server::new(1);
        let at = change.index(server.entries.len());
        for (i, entry) in server.entries.iter().enumerate() {
            if i == at {
                changed.append(7, LogEvent::Base { model: model(77) });
            } else {
                changed.append_bytes(entry.clone());
            }
        }
        changed.append(1, LogEvent::Base { model: model(9) });
        let proof = changed.proof(changed.tree.size() - 1, &known);
        prop_assert!(changed.check(&known, 9, &proof).is_err());
    }
}
