//! The trust bundle: rotation, retirement, owners, the own certificate.

use aimass_net::enrol::Bundle;

use super::*;

#[test]
fn a_bundle_is_signed_by_its_roots_and_by_those_before() {
    let (dir, mut state) = new_folder();
    let first = state.current_bundle().clone();
    let old = state.issuing_spki();
    let (new, version) = state.rotate_root(START).expect("a new root");
    assert_eq!((version, state.issuing_spki()), (2, new));
    assert_ne!(new, old);
    let both = state.current_bundle().clone();
    assert_eq!(first.accept(both.as_bytes()).as_ref().map(Option::as_ref), Ok(Some(&both)));

    let agent = token(&mut state, Role::Agent);
    assert_eq!(agent.root_spki, old, "tokens pin the root that the own certificate is from");
    let reply = enrol(&mut state, START, &agent, &key(1)).expect("it joins");
    Bundle::from_pinned(&reply.bundle, &agent.root_spki).expect("the pinned root vouches for the new one");
    let new_root = both.roots().next().expect("a root");
    cert::verify_issued_by(&reply.certificate, new_root).expect("the new root issues");

    assert!(matches!(state.retire_root(START, &new), Err(OperatorError::IssuingRoot)));
    assert!(matches!(
        state.retire_root(START, &Digest::from_bytes([1; 32])),
        Err(OperatorError::UnknownRoot { .. })
    ));
    assert_eq!(state.retire_root(START, &old).expect("the old one may go"), 3);
    assert!(matches!(state.retire_root(START, &old), Err(OperatorError::UnknownRoot { .. })));
    assert_eq!(token(&mut state, Role::Agent).root_spki, new);
    drop(state);

    let state = open(dir.path());
    assert_eq!((state.issuing_spki(), state.current_bundle().version()), (new, 3));
    assert_eq!(state.current_bundle().roots().count(), 1);
}

#[test]
fn a_holder_of_any_bundle_is_led_to_the_newest() {
    let (dir, mut state) = new_folder();
    let mut held = vec![state.current_bundle().clone()];
    for _ in 0..3 {
        let old = state.issuing_spki();
        state.rotate_root(START).expect("a new root");
        held.push(state.current_bundle().clone());
        state.retire_root(START, &old).expect("the old one goes");
        held.push(state.current_bundle().clone());
    }
    drop(state);
    let state = open(dir.path());
    for mut bundle in held {
        while let Some(next) = state.bundle_after(bundle.version()) {
            bundle = bundle
                .accept(next.as_bytes())
                .expect("one of its roots vouches for it")
                .expect("it is newer");
        }
        assert_eq!(&bundle, state.current_bundle());
    }
    assert!(state.bundle_after(99).is_none());
}

#[test]
fn owners_come_and_go() {
    let (dir, mut state) = new_folder();
    let (ours, other): (TenantId, TenantId) = (TenantId::default(), "other".parse().expect("a name"));
    let owner = PublicKeyBytes::from_bytes(*key(1).public().as_bytes());
    assert_eq!(state.add_owner(START, ours.clone(), "Ada", owner).expect("a name and a key"), 2);
    assert_eq!(state.add_owner(START, ours.clone(), "Ada", owner).expect("nothing new"), 2);
    assert_eq!(state.add_owner(START, ours.clone(), "Ada L.", owner).expect("another name"), 3);
    assert_eq!(state.add_owner(START, other.clone(), "Ada", owner).expect("another tenant"), 4);
    for bad in ["", "two\nlines", &"a".repeat(65)] {
        assert!(
            matches!(state.add_owner(START, ours.clone(), bad, owner), Err(OperatorError::OwnerName)),
            "{bad:?}"
        );
    }
    drop(state);

    let mut state = open(dir.path());
    assert_eq!(state.current_bundle().content().owners.len(), 2);
    assert!(state.current_bundle().trusts_owner(&ours, &key(1).public()));
    assert_eq!(state.remove_owner(START, &owner).expect("it is there"), 5);
    assert!(!state.current_bundle().trusts_owner(&other, &key(1).public()));
    assert!(matches!(state.remove_owner(START, &owner), Err(OperatorError::UnknownOwner { .. })));
}

#[test]
fn the_bundle_has_room_for_so_many_owners() {
    let (_dir, mut state) = new_folder();
    for n in 0..64 {
        let owner = PublicKeyBytes::from_bytes([n; 32]);
        state.add_owner(START, TenantId::default(), "Ada", owner).expect("there is room");
    }
    let one_more = state.add_owner(START, TenantId::default(), "Ada", PublicKeyBytes::from_bytes([99; 32]));
    assert!(matches!(one_more, Err(OperatorError::Full { what: "owners", .. })));
    assert_eq!(state.current_bundle().version(), 65);
}

#[test]
fn the_own_certificate_is_replaced_in_time_and_when_roots_change() {
    let (_dir, mut state) = new_folder();
    let served = state.serve_as(START).expect("an identity");
    assert!(!served.is_stale(START.after(6 * DAY), state.current_bundle()));
    assert!(served.is_stale(START.after(7 * DAY), state.current_bundle()));
    state.rotate_root(START).expect("a new root");
    assert!(served.is_stale(START, state.current_bundle()));
    assert!(!state.serve_as(START).expect("an identity").is_stale(START, state.current_bundle()));
}
