//! Every event in the phases that only rounds with masks have.

use std::collections::BTreeSet;
use std::fmt::Write;

use aimass_protocol::message::secagg::{Consent, Reveal, Shares, SurvivorsQuery, Unmask};
use aimass_protocol::{Digest, SignatureBytes};

use super::super::table::kind;
use super::super::*;
use super::world::World;

/// Three of four have shown their keys.
fn adverts() -> World {
    let mut world = World::drawn(4);
    let agents = world.agents();
    world.all(&agents[..3], World::advert);
    world
}

/// Three of four have revealed their part of the draw.
fn reveals() -> World {
    let mut world = World::drawn(4);
    let agents = world.agents();
    world.all(&agents, World::advert);
    world.all(&agents[..3], World::reveal);
    world
}

/// Three of four have dealt their shares.
fn shares() -> World {
    let mut world = World::drawn(4);
    let agents = world.agents();
    world.all(&agents, World::advert);
    world.all(&agents, World::reveal);
    world.all(&agents[..3], World::shares);
    world
}

/// All four are in the sum, and two have signed whose it is.
fn consents() -> World {
    let (mut world, agents) = World::joined(4);
    world.all(&agents, World::upload);
    world.all(&agents[..3], World::ask_survivors);
    world.all(&agents[..2], World::consent);
    world
}

/// All agreed, and two have revealed their shares: three are needed.
fn unmasks() -> World {
    let (mut world, agents) = World::joined(4);
    world.all(&agents, World::upload);
    world.all(&agents, World::ask_survivors);
    world.all(&agents, World::consent);
    world.all(&agents[..2], World::unmask);
    world
}

/// The first agent has gone along, the last one is waited for.
fn events(world: &World) -> Vec<(&'static str, Event)> {
    let (agents, cohort) = (world.agents(), world.cohort);
    let (first, last, stranger) = (agents[0], agents[3], agent(9));
    let contribution = |agent: &AgentId| world.members.get(agent).map_or(contribution(9), |member| member.contribution);
    let ready = |agent: AgentId| Event::Ready {
        agent,
        ready: Ready {
            job: job(1),
            base: model(100),
            contribution: contribution(&agent),
        },
    };
    let outcome = |agent: AgentId| Event::Outcome {
        agent,
        query: OutcomeQuery {
            job: job(1),
            cohort,
            contribution: contribution(&agent),
        },
    };
    let upload = |agent: AgentId| Event::UploadBegun {
        agent,
        cohort,
        contribution: contribution(&agent),
    };
    let secure = |agent, step| Event::Secure { agent, step };
    let reveal = |draw, byte| {
        SecureStep::Reveal(Reveal {
            cohort,
            draw,
            nonce: Digest::from_bytes([byte; 32]),
        })
    };
    let nothing_dealt = |agent| {
        let shares = Shares {
            cohort,
            shares: Vec::new(),
        };
        secure(agent, world.bench.coordinator.check_shares(agent, &shares).verify())
    };
    let survivors = |agent| {
        SecureStep::Survivors(SurvivorsQuery {
            job: job(1),
            cohort,
            contribution: contribution(&agent),
        })
    };
    let consent = SecureStep::Consent(Consent {
        cohort,
        signature: SignatureBytes::from_bytes([0; 64]),
    });
    let unmask = SecureStep::Unmask(Unmask {
        cohort,
        consent: SignatureBytes::from_bytes([0; 64]),
        shares: Vec::new(),
    });
    vec![
        ("known job", Event::AddJob(Box::new(World::spec(4)))),
        ("", Event::StopJob { job: job(1) }),
        (
            "new agent",
            Event::CheckIn {
                agent: stranger,
                check_in: check_in(),
            },
        ),
        (
            "first agent without its contribution",
            Event::CheckIn {
                agent: first,
                check_in: check_in(),
            },
        ),
        ("first agent again", ready(first)),
        ("last agent again", ready(last)),
        ("stranger", ready(stranger)),
        ("wrong nonce of the last agent", secure(last, reveal(1, 1))),
        ("last agent, in a draw that is over", secure(last, reveal(0, 1))),
        ("stranger", secure(stranger, reveal(1, 1))),
        ("no shares of the last agent", nothing_dealt(last)),
        ("no shares of a stranger", nothing_dealt(stranger)),
        ("last agent", secure(last, survivors(last))),
        ("stranger", secure(stranger, survivors(stranger))),
        ("forged consent of the last agent", secure(last, consent.clone())),
        ("consent of a stranger", secure(stranger, consent)),
        ("forged shares of the last agent", secure(last, unmask.clone())),
        ("shares of a stranger", secure(stranger, unmask)),
        ("not asked for", Event::Described { cohort, digest: model(7) }),
        ("last agent", upload(last)),
        (
            "last agent",
            Event::Received {
                agent: last,
                cohort,
                contribution: contribution(&last),
            },
        ),
        ("not asked for", Event::Added { agent: last, cohort }),
        (
            "not asked for",
            Event::AddFailed {
                agent: last,
                cohort,
                code: ErrorCode::UpdateValue,
            },
        ),
        ("first agent", outcome(first)),
        ("last agent", outcome(last)),
        ("stranger", outcome(stranger)),
        ("first agent", Event::Gone { agent: first }),
        ("first agent", Event::Revoked { agent: first }),
        ("last agent", Event::Revoked { agent: last }),
        (
            "",
            Event::OpenFailed {
                cohort,
                reason: "disk full".to_owned(),
            },
        ),
        (
            "",
            Event::SealFailed {
                cohort,
                reason: "disk full".to_owned(),
            },
        ),
        (
            "not asked for",
            Event::PublishFailed {
                job: job(1),
                round: 1,
                retry: true,
                blame: Vec::new(),
                reason: "disk full".to_owned(),
            },
        ),
        (
            "not asked for",
            Event::Published {
                job: job(1),
                round: 1,
                base: model(101),
                base_bytes: 1000,
                accuracy: None,
            },
        ),
        ("last agent", Event::UploadProgressed { agent: last, cohort }),
        (
            "first agent",
            Event::Progress {
                agent: first,
                progress: Progress {
                    job: job(1),
                    base: model(100),
                    percent: 50,
                },
            },
        ),
        ("4 s later", Event::Tick),
        ("a minute later", Event::Tick),
    ]
}

#[test]
fn should_react_to_every_event_while_masks_are_agreed_on_and_taken_off_as_recorded() {
    let phases = [
        ("joining, adverts", adverts as fn() -> World),
        ("joining, reveals", reveals),
        ("joining, shares", shares),
        ("unmasking, consents", consents),
        ("unmasking, shares", unmasks),
    ];
    let mut table = String::new();
    let mut kinds = BTreeSet::new();
    for (name, build) in phases {
        let world = build();
        for (label, event) in events(&world) {
            kinds.insert(kind(&event));
            let mut bench = world.bench.clone();
            match (label, &event) {
                ("4 s later", _) => bench.now = bench.now.after(Duration::from_secs(4)),
                (_, Event::Tick) => bench.now = bench.now.after(Duration::from_secs(60)),
                _ => {}
            }
            let heading = format!("{name} x {} {label}", kind(&event));
            let effects = bench.step(event);
            writeln!(table, "{} -> {:?}", heading.trim_end(), bench.phase()).expect("a string takes all");
            for effect in effects {
                writeln!(table, "    {effect:?}").expect("a string takes all");
            }
        }
    }
    assert_eq!(kinds.len(), 20, "an event kind is missing from the table: {kinds:?}");
    insta::assert_snapshot!(table);
}
