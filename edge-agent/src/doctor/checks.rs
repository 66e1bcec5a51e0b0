//! What can be looked at without the network.

use std::path::{Path, PathBuf};

use aimass_crypto::cert::BACKDATED;
use aimass_federation::agent::Snapshot;
use aimass_learning::data::{Limits, describe};
use aimass_net::identity::{Enrolment, IdentityError, IdentityFolder, durable};
use aimass_protocol::descriptor::Profile;

use super::Check;
use crate::capabilities;
use crate::config::AgentConfig;
use crate::event::span;
use crate::platform::now_s;
use crate::state::StateFolder;

/// Below this no model of a usual size fits.
const LOW_DISK_BYTES: u64 = 64 << 20;
/// How far clocks may lie apart before it matters.
const CLOCK_SLACK_S: i64 = 300;

pub(super) fn folder(state: &StateFolder) -> Check {
    let dir = state.data_dir();
    let probe = dir.join("doctor-probe");
    let existed = dir.exists();
    let result = durable::create_private_dir(dir)
        .and_then(|()| durable::write(&probe, b"probe"))
        .and_then(|()| std::fs::remove_file(&probe));
    if !existed {
        // It was made to try: a folder with something in it stays.
        let _ = std::fs::remove_dir(dir);
    }
    match result {
        Ok(()) => Check::ok("folder", format!("{} can be written", dir.display())),
        Err(e) => Check::fail(
            "folder",
            e.to_string(),
            "make the folder writable for this user, or give --data-dir another one",
        ),
    }
}

pub(super) fn disk(state: &StateFolder) -> Check {
    match free_bytes(state.data_dir()) {
        None => Check::warn(
            "disk",
            "free space is unknown on this system",
            "see to it that a model and two updates fit",
        ),
        Some(free) if free < LOW_DISK_BYTES => Check::fail(
            "disk",
            format!("{} MiB free", free >> 20),
            format!("free some space: {} MiB at least", LOW_DISK_BYTES >> 20),
        ),
        Some(free) => Check::ok("disk", format!("{} MiB free", free >> 20)),
    }
}

/// Free for this user on the file system of `path`, or of its nearest parent that exists.
#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let absolute: PathBuf = std::path::absolute(path).ok()?;
    let there = absolute.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(there).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

pub(super) fn identity(state: &StateFolder) -> (Check, Option<(IdentityFolder, Enrolment)>) {
    match IdentityFolder::open(&state.identity_dir()) {
        Ok((folder, enrolment)) => {
            let member = enrolment.membership();
            let found = format!("agent {} of tenant {}; only this user can read its key", member.id, member.tenant);
            (Check::ok("identity", found), Some((folder, enrolment)))
        }
        Err(e @ IdentityError::NotJoined { .. }) => (Check::fail("identity", e.to_string(), "aimass-agent join --token-file FILE"), None),
        Err(IdentityError::Exposed { path, mode }) => {
            let found = format!("{} can be read by others (mode {mode:o})", path.display());
            let fix = format!(
                "chmod 600 {}; if somebody may have copied it, join again with a new token",
                path.display()
            );
            (Check::fail("identity", found, fix), None)
        }
        Err(e) => (
            Check::fail(
                "identity",
                e.to_string(),
                "restore the identity folder, or remove it and join again",
            ),
            None,
        ),
    }
}

pub(super) fn certificate(enrolment: &Enrolment) -> Check {
    let left_s = enrolment.info().not_after_s - now_s();
    if enrolment.beyond_renewal(now_s()) {
        return Check::fail(
            "certificate",
            format!("expired {} ago, too long to be renewed", span(-left_s)),
            "join again with a new token",
        );
    }
    if enrolment.expired(now_s()) {
        return Check::warn(
            "certificate",
            format!("expired {} ago", span(-left_s)),
            "nothing: `run` renews it first, if the authority answers",
        );
    }
    if now_s() < enrolment.info().not_before_s {
        return Check::fail("certificate", "does not hold yet by this device's clock", "set the clock");
    }
    let renewal = if enrolment.renew_due(now_s()) {
        ", `run` renews it now"
    } else {
        ""
    };
    Check::ok("certificate", format!("{} left{renewal}", span(left_s)))
}

/// A clock is behind if something was made after "now". Whether it is ahead shows in the handshakes.
pub(super) fn clock(enrolment: &Enrolment) -> Check {
    let backdated_s = i64::try_from(BACKDATED.as_secs()).unwrap_or(i64::MAX);
    let certified_s = enrolment.info().not_before_s.saturating_add(backdated_s);
    let bundled_s = i64::try_from(enrolment.bundle().content().issued_at.as_ms() / 1000).unwrap_or(i64::MAX);
    let behind_s = certified_s.max(bundled_s).saturating_sub(now_s());
    if behind_s > CLOCK_SLACK_S {
        return Check::fail(
            "clock",
            format!("at least {behind_s} s behind the authority's"),
            "set the clock, best by NTP",
        );
    }
    Check::ok("clock", "not behind the authority's")
}

pub(super) fn data(config: &AgentConfig) -> Vec<Check> {
    let registry = match config.registry() {
        Ok(registry) => registry,
        Err(e) => return vec![Check::fail("data", e.to_string(), "correct --data or [data] in agent.toml")],
    };
    let mut checks: Vec<Check> = registry
        .iter()
        .map(|(contract, path)| match describe(path, &Limits::default()) {
            Ok(found) if found.gaps > 0 => Check::warn(
                "data",
                format!("{contract}: {found} in {}", path.display()),
                "fill them in or leave the rows out: jobs that train are declined",
            ),
            Ok(found) => Check::ok("data", format!("{contract}: {found} in {}", path.display())),
            Err(e) => Check::fail("data", format!("{contract}: {e}"), "correct the file at that place"),
        })
        .collect();
    if checks.is_empty() {
        checks.push(Check::warn(
            "data",
            "no data file is given: this device gets no work",
            "--data CONTRACT=FILE, as `run` takes it",
        ));
    }
    checks
}

pub(super) fn device(config: &AgentConfig) -> Check {
    let device = capabilities::of_this_device(&config.device.class, &config.device.tags);
    let memory = match device.memory_bytes {
        0 => "memory unknown".to_owned(),
        bytes => format!("{} MiB of memory", bytes >> 20),
    };
    Check::ok("device", format!("{} cores, {memory}", device.cores))
}

pub(super) fn policy(config: &AgentConfig) -> Check {
    let policy = &config.policy;
    let purposes = if policy.purposes.is_empty() {
        "any purpose".to_owned()
    } else {
        policy.purposes.join(", ")
    };
    let masks = match policy.min_profile {
        Profile::Standard => "",
        Profile::Hardened => ", masks of the hardened profile",
    };
    let found = format!("at least {} contributions in a sum{masks}; {purposes}", policy.min_survivors);
    if policy.allow_plain {
        let fix = "if that is not wanted, leave out --allow-plain and set allow_plain = false";
        return Check::warn(
            "policy",
            format!("plain aggregation is permitted: the server can read each update; {found}"),
            fix,
        );
    }
    Check::ok("policy", format!("jobs with masked updates alone; {found}"))
}

pub(super) fn held(state: &StateFolder) -> Check {
    match state.load_session::<Snapshot>() {
        Ok(snapshot) => {
            let n = snapshot.unwrap_or_default().held.iter().count();
            let running = state.data_dir().is_dir() && state.try_lock().is_ok_and(|lock| lock.is_none());
            Check::ok(
                "state",
                format!(
                    "{n} contribution(s) held; {}",
                    if running { "an agent runs" } else { "no agent runs" }
                ),
            )
        }
        Err(e) => Check::fail("state", e.to_string(), "remove the file: the work it describes is done again"),
    }
}
