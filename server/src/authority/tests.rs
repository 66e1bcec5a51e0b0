mod folder;
mod trust;

use std::fs;
use std::path::Path;
use std::time::Duration;

use aimass_crypto::cert::{self, CERTIFICATE_LIFETIME, RENEWAL_GRACE};
use aimass_crypto::sign::SigningKey;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::authority::{CertificateReply, Enrol, Renew, SetRevoked};
use aimass_protocol::token::{JoinToken, Role, TokenSecret};
use aimass_protocol::{AgentId, Digest, ErrorCode, PublicKeyBytes, TenantId, Timestamp};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng as _;
use serde_bytes::ByteBuf;

use super::issue::Member;
use super::tokens::{NewToken, TokenState};
use super::*;

const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const LIFETIMES: Lifetimes = Lifetimes {
    agent: CERTIFICATE_LIFETIME,
    server: CERTIFICATE_LIFETIME,
};

fn open(dir: &Path) -> State {
    State::open(dir, LIFETIMES, START).expect("the folder opens").0
}

fn new_folder() -> (tempfile::TempDir, State) {
    let dir = tempfile::tempdir().expect("a folder");
    let state = open(dir.path());
    (dir, state)
}

fn key(seed: u64) -> SigningKey {
    SigningKey::generate(&mut ChaCha20Rng::seed_from_u64(seed))
}

fn id(key: &SigningKey) -> AgentId {
    AgentId::from_bytes(key.public().fingerprint())
}

fn new_token(role: Role) -> NewToken {
    NewToken {
        role,
        tenant: TenantId::default(),
        server: "127.0.0.1:4433".to_owned(),
        expires_s: 3600,
    }
}

fn token(state: &mut State, role: Role) -> JoinToken {
    state.create_token(START, "127.0.0.1:4434", new_token(role)).expect("a token").0
}

fn enrol(state: &mut State, now: Timestamp, token: &JoinToken, key: &SigningKey) -> Result<CertificateReply, Refusal> {
    state.enrol(
        now,
        &Enrol {
            secret: token.secret.clone(),
            csr: ByteBuf::from(cert::signing_request(key)),
        },
    )
}

fn member(reply: &CertificateReply) -> Member {
    Member::from_certificate(&cert::parse(&reply.certificate).expect("a certificate")).expect("an agent or server")
}

/// A member of the default tenant, through a token of its own.
fn joined(state: &mut State, role: Role, key: &SigningKey) -> Member {
    let token = token(state, role);
    member(&enrol(state, START, &token, key).expect("it joins"))
}

fn renew(state: &mut State, now: Timestamp, member: &Member, key: &SigningKey) -> Result<CertificateReply, Refusal> {
    state.renew(
        now,
        member,
        &Renew {
            csr: ByteBuf::from(cert::signing_request(key)),
        },
    )
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> ErrorCode {
    let refusal = result.expect_err("it is refused");
    assert!(!refusal.text.is_empty());
    refusal.code
}

#[test]
fn a_token_works_once_and_again_for_the_same_key() {
    let (_dir, mut state) = new_folder();
    let token = token(&mut state, Role::Agent);
    let first = enrol(&mut state, START, &token, &key(1)).expect("it joins");
    let again = enrol(&mut state, START.after(HOUR / 2), &token, &key(1)).expect("a lost reply is asked for again");
    assert_eq!(member(&first).id, member(&again).id);
    assert_eq!(member(&first).id, id(&key(1)));
    assert_eq!(member(&first).role, Role::Agent);
    assert_eq!(code(enrol(&mut state, START, &token, &key(2))), ErrorCode::TokenUsed);
    assert_eq!(state.issued, 2);
}

#[test]
fn wrong_expired_and_withdrawn_tokens_are_refused_and_change_nothing() {
    let (_dir, mut state) = new_folder();
    let token = token(&mut state, Role::Agent);
    let wrong = JoinToken {
        secret: TokenSecret::from_bytes([7; 32]),
        ..token.clone()
    };
    assert_eq!(code(enrol(&mut state, START, &wrong, &key(1))), ErrorCode::TokenUnknown);
    assert_eq!(code(enrol(&mut state, START.after(HOUR), &token, &key(1))), ErrorCode::TokenExpired);
    let garbage = Enrol {
        secret: token.secret.clone(),
        csr: ByteBuf::from(vec![1, 2, 3]),
    };
    assert_eq!(code(state.enrol(START, &garbage)), ErrorCode::Malformed);
    assert_eq!(state.list_tokens(START)[0].state, TokenState::Open);
    assert_eq!(state.list_tokens(START.after(HOUR))[0].state, TokenState::Expired);

    let token_id = state.list_tokens(START)[0].id.clone();
    state.withdraw_token(&token_id).expect("it is open");
    assert_eq!(code(enrol(&mut state, START, &token, &key(1))), ErrorCode::TokenUnknown);
    assert_eq!(state.issued, 0);
}

#[test]
fn a_used_token_stays_used_after_a_kill() {
    let (dir, mut state) = new_folder();
    let (used, open_one) = (token(&mut state, Role::Agent), token(&mut state, Role::Agent));
    enrol(&mut state, START, &used, &key(1)).expect("it joins");
    drop(state);

    let mut state = open(dir.path());
    assert_eq!(state.issued, 1);
    assert_eq!(code(enrol(&mut state, START, &used, &key(2))), ErrorCode::TokenUsed);
    enrol(&mut state, START, &used, &key(1)).expect("the same key may ask again");
    enrol(&mut state, START, &open_one, &key(3)).expect("the other token is unused");
}

#[test]
fn a_renewal_keeps_subject_and_key() {
    let (_dir, mut state) = new_folder();
    let agent = joined(&mut state, Role::Agent, &key(1));
    let renewed = renew(&mut state, START.after(20 * DAY), &agent, &key(1)).expect("it renews");
    let info = cert::parse(&renewed.certificate).expect("a certificate");
    assert_eq!(info.subject.id, agent.id.to_hex());
    assert_eq!(info.not_after_s, seconds(START.after(20 * DAY).after(CERTIFICATE_LIFETIME)));
    assert_eq!(code(renew(&mut state, START, &agent, &key(2))), ErrorCode::Forbidden);
}

#[test]
fn certificates_hold_as_long_as_is_set_for_their_role() {
    let dir = tempfile::tempdir().expect("a folder");
    let lifetimes = Lifetimes {
        agent: HOUR,
        server: 7 * DAY,
    };
    let (mut state, _) = State::open(dir.path(), lifetimes, START).expect("a new folder");
    for (role, lifetime, seed) in [(Role::Agent, HOUR, 1), (Role::Server, 7 * DAY, 2)] {
        let token = token(&mut state, role);
        let first = enrol(&mut state, START, &token, &key(seed)).expect("it joins");
        let renewed = renew(&mut state, START.after(HOUR), &member(&first), &key(seed)).expect("it renews");
        for (reply, at) in [(first, START), (renewed, START.after(HOUR))] {
            let info = cert::parse(&reply.certificate).expect("a certificate");
            assert_eq!(info.not_after_s, seconds(at.after(lifetime)), "{role}");
        }
    }
}

#[test]
fn an_expired_certificate_renews_for_ninety_days() {
    let (_dir, mut state) = new_folder();
    let agent = joined(&mut state, Role::Agent, &key(1));
    let last = START.after(CERTIFICATE_LIFETIME).after(RENEWAL_GRACE);
    renew(&mut state, last, &agent, &key(1)).expect("within the grace");
    assert_eq!(
        code(renew(&mut state, last.after(Duration::from_secs(1)), &agent, &key(1))),
        ErrorCode::Forbidden
    );
}

#[test]
fn a_revoked_agent_gets_nothing_until_it_is_accepted_again() {
    let (dir, mut state) = new_folder();
    let server = joined(&mut state, Role::Server, &key(1));
    let agent = joined(&mut state, Role::Agent, &key(2));
    let set = |revoked| SetRevoked {
        tenant: TenantId::default(),
        agent: id(&key(2)),
        revoked,
    };
    for _ in 0..2 {
        assert!(state.set_revoked(START, &server, &set(true)).expect("its server may").revoked);
    }
    drop(state);

    let mut state = open(dir.path());
    assert_eq!(code(renew(&mut state, START, &agent, &key(2))), ErrorCode::Revoked);
    let another = token(&mut state, Role::Agent);
    assert_eq!(code(enrol(&mut state, START, &another, &key(2))), ErrorCode::Revoked);
    assert!(!state.set_revoked(START, &server, &set(false)).expect("its server may").revoked);
    renew(&mut state, START, &agent, &key(2)).expect("it was accepted again");
    enrol(&mut state, START, &another, &key(2)).expect("the refusal has not used the token");
}

#[test]
fn only_a_valid_server_of_the_same_tenant_may_revoke() {
    let (_dir, mut state) = new_folder();
    let server = joined(&mut state, Role::Server, &key(1));
    let agent = joined(&mut state, Role::Agent, &key(2));
    let other: TenantId = "other".parse().expect("a name");
    let ask = |tenant: &TenantId| SetRevoked {
        tenant: tenant.clone(),
        agent: id(&key(3)),
        revoked: true,
    };
    let ours = TenantId::default();
    assert_eq!(code(state.set_revoked(START, &agent, &ask(&ours))), ErrorCode::Forbidden);
    assert_eq!(code(state.set_revoked(START, &server, &ask(&other))), ErrorCode::Forbidden);
    let expired = START.after(CERTIFICATE_LIFETIME).after(Duration::from_secs(1));
    assert_eq!(code(state.set_revoked(expired, &server, &ask(&ours))), ErrorCode::Forbidden);
    state.set_revoked(START, &server, &ask(&ours)).expect("this one may");
    joined(&mut state, Role::Agent, &key(4));
}

#[test]
fn impossible_tokens_are_not_made() {
    let (_dir, mut state) = new_folder();
    let mut make = |new| state.create_token(START, "127.0.0.1:4434", new);
    assert!(matches!(make(new_token(Role::Authority)), Err(OperatorError::Role)));
    for server in ["", "host", "host:0", "host:99999", ":1"] {
        let new = NewToken {
            server: server.to_owned(),
            ..new_token(Role::Agent)
        };
        assert!(matches!(make(new), Err(OperatorError::ServerAddress { .. })), "{server}");
    }
    for expires_s in [0, 400 * 24 * 3600, u64::MAX] {
        let new = NewToken {
            expires_s,
            ..new_token(Role::Agent)
        };
        assert!(matches!(make(new), Err(OperatorError::Lifetime { .. })), "{expires_s}");
    }
    let (server, _) = make(NewToken {
        server: String::new(),
        ..new_token(Role::Server)
    })
    .expect("a server needs no server");
    assert_eq!(server.server, "");
}

#[test]
fn tokens_are_withdrawn_by_their_first_digits() {
    let (dir, mut state) = new_folder();
    let used = token(&mut state, Role::Agent);
    enrol(&mut state, START, &used, &key(1)).expect("it joins");
    let used_id = state.list_tokens(START)[0].id.clone();
    assert!(matches!(state.withdraw_token(&used_id), Err(OperatorError::TokenSpent { .. })));
    assert!(matches!(
        state.withdraw_token(&used_id[..3]),
        Err(OperatorError::UnknownToken { .. })
    ));
    assert!(matches!(state.withdraw_token("zzzz"), Err(OperatorError::UnknownToken { .. })));
    assert!(matches!(state.withdraw_token(""), Err(OperatorError::UnknownToken { .. })));

    token(&mut state, Role::Server);
    let open_id = state
        .list_tokens(START)
        .into_iter()
        .find(|t| t.state == TokenState::Open)
        .expect("the new one")
        .id;
    state.withdraw_token(&open_id[..8]).expect("it is open");
    drop(state);
    let state = open(dir.path());
    assert!(
        state
            .list_tokens(START)
            .iter()
            .any(|t| t.id == open_id && t.state == TokenState::Withdrawn)
    );
    let counts = state.count_tokens(START);
    assert_eq!((counts.open, counts.used, counts.expired), (0, 1, 0));
}

#[test]
fn a_token_is_forgotten_long_after_it_expired() {
    let (dir, mut state) = new_folder();
    token(&mut state, Role::Agent);
    drop(state);
    let just_expired = START.after(HOUR);
    assert_eq!(
        State::open(dir.path(), LIFETIMES, just_expired.after(90 * DAY))
            .expect("it opens")
            .0
            .list_tokens(START)
            .len(),
        1
    );
    assert_eq!(
        State::open(dir.path(), LIFETIMES, just_expired.after(91 * DAY))
            .expect("it opens")
            .0
            .list_tokens(START)
            .len(),
        0
    );
    assert_eq!(fs::read_dir(dir.path().join("tokens")).expect("the folder").count(), 0);
}

#[test]
fn the_example_settings_parse_and_unknown_ones_do_not() {
    let given = r#"{"data_dir": "/var/lib/aimass/authority", "listen": "[::]:4434", "public_address": "authority.example.org:4434"}"#;
    let config: Config = serde_json::from_str(given).expect("settings");
    assert_eq!(config.api_listen, Config::default().api_listen);
    assert!(serde_json::from_str::<Config>(r#"{"listen_on": "[::]:4434"}"#).is_err());
}
