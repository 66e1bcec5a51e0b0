use aimass_crypto::cert::{self, CERTIFICATE_LIFETIME, Root};
use aimass_crypto::sign::SigningKey;
use aimass_protocol::bundle::{SignedBundle, TrustBundle, TrustedOwner};
use aimass_protocol::message::Refusal;
use aimass_protocol::{Digest, PublicKeyBytes, TenantId, Timestamp, codec};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;

use super::*;

const NOW_S: i64 = 1_800_000_000;

fn root(seed: u64) -> Root {
    Root::create(&format!("root {seed}"), NOW_S, &mut ChaCha20Rng::seed_from_u64(seed))
}

fn content(version: u64, roots: &[&Root]) -> TrustBundle {
    let roots = roots.iter().map(|root| ByteBuf::from(root.certificate_der().to_vec())).collect();
    TrustBundle {
        version,
        issued_at: Timestamp::from_ms(1),
        roots,
        owners: Vec::new(),
    }
}

fn bundle(version: u64, roots: &[&Root], signers: &[&Root]) -> Bundle {
    Bundle::sign(&content(version, roots), signers.iter().map(|root| root.key())).expect("a bundle")
}

fn pin(root: &Root) -> Digest {
    Digest::from_bytes(cert::spki_sha256(root.certificate_der()).expect("a root"))
}

/// `bundle` with one field of its envelope changed.
fn forged(bundle: &Bundle, change: impl FnOnce(&mut SignedBundle)) -> Vec<u8> {
    let mut signed: SignedBundle = codec::decode(bundle.as_bytes()).expect("a bundle");
    change(&mut signed);
    codec::encode(&signed).expect("it can be encoded")
}

#[test]
fn a_newer_bundle_by_a_trusted_root_is_taken() {
    let a = root(1);
    let held = bundle(3, &[&a], &[&a]);
    let newer = bundle(5, &[&a], &[&a]);
    assert_eq!(accept_bundle(&held, newer.as_bytes()), Ok(Some(newer)));
}

#[test]
fn the_same_version_changes_nothing() {
    let a = root(1);
    let held = bundle(3, &[&a], &[&a]);
    let other = Bundle::sign(
        &TrustBundle {
            issued_at: Timestamp::from_ms(2),
            ..content(3, &[&a])
        },
        [a.key()],
    )
    .expect("a bundle");
    assert_eq!(accept_bundle(&held, other.as_bytes()), Ok(None));
}

#[test]
fn an_older_bundle_is_refused() {
    let a = root(1);
    let (old, held) = (bundle(3, &[&a], &[&a]), bundle(4, &[&a], &[&a]));
    assert_eq!(accept_bundle(&held, old.as_bytes()), Err(BundleError::Older { have: 4, got: 3 }));
}

#[test]
fn a_foreign_bundle_is_refused_whatever_it_holds() {
    let (ours, theirs) = (root(1), root(2));
    let held = bundle(1, &[&ours], &[&ours]);
    assert_eq!(
        accept_bundle(&held, bundle(2, &[&theirs], &[&theirs]).as_bytes()),
        Err(BundleError::Untrusted)
    );
    // Naming our root is not having it sign.
    assert_eq!(
        accept_bundle(&held, bundle(2, &[&theirs, &ours], &[&theirs]).as_bytes()),
        Err(BundleError::Untrusted)
    );
}

#[test]
fn a_bundle_of_nobody_is_refused() {
    let a = root(1);
    let held = bundle(1, &[&a], &[&a]);
    assert!(matches!(Bundle::sign(&content(2, &[]), [a.key()]), Err(BundleError::Encode { .. })));
    // The encoder refuses to make one, so an attacker's is made by hand: a map with an empty list of roots.
    let mut empty = codec::encode(&content(2, &[&a])).expect("a bundle");
    let at = empty.windows(5).position(|w| w == b"roots").expect("the field") + 5;
    let owners = empty.windows(7).position(|w| w == b"\x66owners").expect("the next field");
    empty.splice(at..owners, [0x80]);
    let received = forged(&held, |signed| {
        signed.signatures[0].signature = a.key().sign(aimass_crypto::sign::Context::Bundle, &empty).into();
        signed.bundle = ByteBuf::from(empty);
    });
    let error = accept_bundle(&held, &received).expect_err("nobody would be trusted any more");
    assert!(
        matches!(&error, BundleError::Malformed { reason } if reason.contains("roots")),
        "{error}"
    );
}

#[test]
fn changed_bytes_are_refused() {
    let a = root(1);
    let (held, newer) = (bundle(1, &[&a], &[&a]), bundle(2, &[&a], &[&a]));
    let version_changed = forged(&newer, |signed| {
        let other = codec::encode(&content(9, &[&a])).expect("a bundle");
        signed.bundle = ByteBuf::from(other);
    });
    assert_eq!(accept_bundle(&held, &version_changed), Err(BundleError::Untrusted));
    let signature_changed = forged(&newer, |signed| signed.signatures[0].signature = [7; 64].into());
    assert_eq!(accept_bundle(&held, &signature_changed), Err(BundleError::Untrusted));
    for cut in [0, 1, newer.as_bytes().len() - 1] {
        assert!(
            matches!(accept_bundle(&held, &newer.as_bytes()[..cut]), Err(BundleError::Malformed { .. })),
            "{cut}"
        );
    }
    let trailing = [newer.as_bytes(), &[0]].concat();
    assert!(matches!(accept_bundle(&held, &trailing), Err(BundleError::Malformed { .. })));
}

#[test]
fn a_root_that_is_none_is_refused() {
    let a = root(1);
    let held = bundle(1, &[&a], &[&a]);
    let device = SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(9));
    let leaf = a
        .issue(
            "default",
            "agent",
            &device.public(),
            NOW_S,
            CERTIFICATE_LIFETIME,
            &mut ChaCha20Rng::seed_from_u64(8),
        )
        .expect("a certificate");
    let mut with_leaf = content(2, &[&a]);
    with_leaf.roots.push(ByteBuf::from(leaf));
    assert!(matches!(Bundle::sign(&with_leaf, [a.key()]), Err(BundleError::Malformed { .. })));
    let received = forged(&held, |signed| {
        signed.bundle = ByteBuf::from(codec::encode(&with_leaf).expect("a bundle"));
        signed.signatures[0].signature = a.key().sign(aimass_crypto::sign::Context::Bundle, &signed.bundle).into();
    });
    assert!(matches!(accept_bundle(&held, &received), Err(BundleError::Malformed { .. })));
}

#[test]
fn a_holder_follows_two_rotations_and_forgets_the_first_root() {
    let (a, b, c) = (root(1), root(2), root(3));
    let mut held = bundle(1, &[&a], &[&a]);
    let steps = [
        bundle(2, &[&b, &a], &[&b, &a]),
        bundle(3, &[&b], &[&b, &a]),
        bundle(4, &[&c, &b], &[&c, &b]),
        bundle(5, &[&c], &[&c, &b]),
    ];
    // From the first bundle alone, the last one can't be taken: nobody that it trusts has signed it.
    assert_eq!(accept_bundle(&held, steps[3].as_bytes()), Err(BundleError::Untrusted));
    for step in steps {
        assert!(held.vouches_for(&step));
        held = accept_bundle(&held, step.as_bytes())
            .expect("each step is signed by a root before it")
            .expect("newer");
    }
    assert_eq!(
        accept_bundle(&held, bundle(6, &[&a], &[&a, &b]).as_bytes()),
        Err(BundleError::Untrusted)
    );
}

#[test]
fn a_first_bundle_is_taken_from_the_pinned_root_only() {
    let (a, b) = (root(1), root(2));
    let both = bundle(1, &[&b, &a], &[&b, &a]);
    for pinned in [&a, &b] {
        assert_eq!(Bundle::from_pinned(both.as_bytes(), &pin(pinned)).as_ref(), Ok(&both));
    }
    assert_eq!(Bundle::from_pinned(both.as_bytes(), &pin(&root(3))), Err(BundleError::Untrusted));
    let unsigned_by_a = bundle(1, &[&b, &a], &[&b]);
    assert_eq!(Bundle::from_pinned(unsigned_by_a.as_bytes(), &pin(&a)), Err(BundleError::Untrusted));
}

#[test]
fn an_owner_is_trusted_in_its_own_tenant() {
    let a = root(1);
    let owner = SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(4)).public();
    let (ours, other): (TenantId, TenantId) = ("clinic".parse().expect("a name"), "bank".parse().expect("a name"));
    let public_key = PublicKeyBytes::from_bytes(*owner.as_bytes());
    let owners = vec![TrustedOwner {
        tenant: ours.clone(),
        name: "Ada".to_owned(),
        public_key,
    }];
    let bundle = Bundle::sign(
        &TrustBundle {
            owners,
            ..content(1, &[&a])
        },
        [a.key()],
    )
    .expect("a bundle");
    assert!(bundle.trusts_owner(&ours, &owner));
    assert!(!bundle.trusts_owner(&other, &owner));
    assert!(!bundle.trusts_owner(&ours, &a.key().public()));
}

#[test]
fn errors_say_whether_waiting_helps() {
    let refused = |code| NetError::Refused(Refusal::new(code, "text"));
    assert!(!JoinError::from(refused(ErrorCode::TokenUsed)).is_retryable());
    assert!(JoinError::from(refused(ErrorCode::Unavailable)).is_retryable());
    assert!(matches!(RenewError::from(refused(ErrorCode::Revoked)), RenewError::Revoked { .. }));
    let over = || NetError::CertificateRefused {
        reason: "expired".to_owned(),
        expired: true,
    };
    assert!(matches!(RenewError::from(over()), RenewError::TooLate));
    assert!(!RenewError::from(over()).is_retryable());
}
