//! Certificates and roots in running processes: renewal in time and too late, a new root for everybody, revocation that outlives a certificate.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aimass_cli::cluster::{AgentStart, ClusterSettings};
use aimass_crypto::cert;
use aimass_net::identity::{Enrolment, IdentityFolder};
use serde_json::Value;

use crate::support::{Deployment, agent_start, aimass, json, wait};

/// For what takes seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a member's folder holds now, whether or not its process runs.
fn enrolment(dir: &Path) -> Enrolment {
    IdentityFolder::open(&dir.join("identity")).expect("it has joined").1
}

fn now_s() -> i64 {
    i64::try_from(aimass_cli::now().as_ms() / 1000).expect("before the end of time")
}

fn end_s(dir: &Path) -> i64 {
    enrolment(dir).info().not_after_s
}

/// SPKI hashes of the roots that a member trusts, the issuing one first.
fn trusted(dir: &Path) -> Vec<String> {
    let spki = |der| hex(&cert::spki_sha256(der).expect("a root"));
    enrolment(dir).bundle().roots().map(spki).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Whether the root that issues now, as far as the member knows, has issued its certificate, and it is `root`.
fn is_certified_by(dir: &Path, root: &str) -> bool {
    let held = enrolment(dir);
    let issuing = held.bundle().roots().next().expect("a root").to_vec();
    cert::spki_sha256(&issuing).is_ok_and(|spki| hex(&spki) == root) && cert::verify_issued_by(held.certificate(), &issuing).is_ok()
}

impl Deployment {
    fn server_dir(&self) -> PathBuf {
        self.dir.path().join("server")
    }

    fn agent_starts(&self) -> Vec<AgentStart> {
        self.example.agents.iter().map(|path| agent_start(path)).collect()
    }

    /// Submits a job for exactly `agents` agents.
    fn submit_for(&self, agents: u32, rounds: u32) -> String {
        let of_all = std::fs::read_to_string(&self.example.job).expect("the job file");
        let lines = of_all.lines().map(|line| match line.split_once(" = ") {
            // In [data] there is a target too.
            Some((key @ ("min" | "target" | "max"), count)) if count.parse::<u32>().is_ok() => format!("{key} = {agents}\n"),
            Some(("rounds", _)) => format!("rounds = {rounds}\n"),
            // Masks hide nothing among so few.
            Some(("mode", "\"secure\"")) if agents < example::FEWEST_SECURE => "mode = \"plain\"\n".to_owned(),
            _ => format!("{line}\n"),
        });
        let path = self.example.job.with_file_name(format!("job-for-{agents}.toml"));
        std::fs::write(&path, lines.collect::<String>()).expect("written");
        self.submit_file(&path)
    }

    /// A new job for exactly `agents` agents runs to its end.
    fn a_job_finishes(&mut self, agents: u32) {
        let id = self.submit_for(agents, 2);
        self.wait_round(&id, 2);
        let view = self.job(&id);
        let counts: Vec<_> = view["history"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|r| r["contributions"].as_u64())
            .collect();
        assert_eq!(counts, [Some(u64::from(agents)); 2], "{view}");
    }

    fn authority_command(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = ["--json", "authority"]
            .iter()
            .chain(args)
            .chain(&["--authority-dir", "authority"])
            .copied()
            .collect();
        json(&aimass(self.dir.path(), &all))
    }

    fn authority_counter(&self, name: &str) -> u64 {
        let status: Value = self.cluster.authority().get("/v1/status").expect("the authority answers");
        status["counters"][name].as_u64().unwrap_or_default()
    }

    /// Waits until `done` holds while all processes live.
    fn wait_alive(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        wait(what, PATIENCE, || {
            self.cluster.check().expect("all processes live");
            done(self)
        });
    }
}

fn settings(authority: &[(&'static str, u64)], bundle_refresh_s: u64) -> ClusterSettings {
    ClusterSettings {
        authority: authority.iter().map(|(key, value)| (*key, value.to_string())).collect(),
        server: vec![("AIMASS_SERVER_BUNDLE_REFRESH_S", bundle_refresh_s.to_string())],
        agents: vec![("AIMASS_AGENT_BUNDLE_REFRESH_S", bundle_refresh_s.to_string())],
    }
}

/// Agents' and servers' certificates hold for `seconds`; bundles are looked at as rarely as ever, so only time makes anybody renew.
fn short_lived(seconds: u64) -> ClusterSettings {
    let keys = ["AIMASS_AUTHORITY_AGENT_CERTIFICATE_S", "AIMASS_AUTHORITY_SERVER_CERTIFICATE_S"];
    settings(&keys.map(|key| (key, seconds)), 600)
}

#[test]
fn a_new_root_reaches_everybody_and_then_the_old_one_may_go() {
    let mut deployment = Deployment::start_with(3, 2, settings(&[], 1));
    let (server, agents) = (deployment.server_dir(), [1, 2, 3].map(|n| deployment.cluster.agent_dir(n)));
    let starts = deployment.agent_starts();
    deployment.a_job_finishes(3);
    let old = trusted(&server);

    // One agent is away while the root changes; the others are at work.
    deployment.cluster.kill_agent(3).expect("it ran");
    let at_work = deployment.submit_for(2, 10_000);
    deployment.wait_round(&at_work, 1);
    let new = deployment.authority_command(&["rotate-root"])["root_spki"]
        .as_str()
        .expect("a hash")
        .to_owned();
    let both = [new.clone(), old[0].clone()];
    deployment.wait_alive("those at work get certificates of the new root", |_| {
        [&server, &agents[0], &agents[1]].into_iter().all(|dir| is_certified_by(dir, &new))
    });
    assert_eq!(trusted(&agents[0]), both);
    let round = deployment.job(&at_work)["round"].as_u64().expect("a number");
    deployment.wait_round(&at_work, round + 2);
    json(&aimass(
        deployment.dir.path(),
        &["--json", "job", "stop", &at_work, "--server-dir", "server"],
    ));

    // All that the absent one trusts does not vouch for the server any more: the authority has to be asked.
    assert_eq!(trusted(&agents[2]), old);
    let known = enrolment(&agents[2]).bundle().roots().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let of_server = enrolment(&server);
    assert!(
        known
            .iter()
            .all(|root| cert::verify_issued_by(of_server.certificate(), root).is_err())
    );
    deployment.cluster.restart_agent(3, &starts[2]).expect("it starts");
    deployment.wait_alive("the one that was away gets one too", |_| is_certified_by(&agents[2], &new));
    deployment.a_job_finishes(3);

    deployment.authority_command(&["retire-root", &old[0]]);
    deployment.wait_alive("nobody trusts the old root", |_| {
        [&server, &agents[0], &agents[1], &agents[2]]
            .into_iter()
            .all(|dir| trusted(dir) == both[..1])
    });
    // Nobody lives on a connection from before.
    deployment.cluster.kill_and_restart_server().expect("it comes up again");
    for (number, start) in (1..).zip(&starts) {
        deployment.cluster.kill_and_restart_agent(number, start).expect("it starts again");
    }
    deployment.a_job_finishes(3);
    // Who joins now knows the new root alone.
    deployment.cluster.start_agents(&starts[..1], &|| false).expect("it joins");
    assert_eq!(trusted(&deployment.cluster.agent_dir(4)), both[..1]);
    deployment.a_job_finishes(4);
    deployment.cluster.stop();
}

#[test]
fn running_members_renew_in_time_and_only_then() {
    const LIFETIME_S: u64 = 12;
    let mut deployment = Deployment::start_with(2, 10_000, short_lived(LIFETIME_S));
    let begin_s = now_s();
    let members = [
        deployment.server_dir(),
        deployment.cluster.agent_dir(1),
        deployment.cluster.agent_dir(2),
    ];
    let id = deployment.submit();
    let mut ends_s: Vec<i64> = members.iter().map(|dir| end_s(dir)).collect();
    for renewal in 1..=2 {
        deployment.wait_alive("everybody renews", |_| {
            members.iter().zip(&ends_s).all(|(dir, before)| end_s(dir) > *before)
        });
        ends_s = members.iter().map(|dir| end_s(dir)).collect();
        // The job goes on, and new connections are made with the new certificates.
        let round = deployment.job(&id)["round"].as_u64().expect("a number");
        if renewal == 2 {
            deployment.cluster.kill_and_restart_server().expect("it comes up again");
        }
        deployment.wait_round(&id, round + 2);
    }
    let lived_s = u64::try_from(now_s() - begin_s).expect("time goes on");
    let renewed = deployment.authority_counter("renewed");
    let most = 3 * (lived_s / (LIFETIME_S * 2 / 3 - 1) + 1);
    assert!(
        renewed <= most,
        "{renewed} renewals in {lived_s} s: certificates are renewed before it is time"
    );
    deployment.cluster.stop();
}

#[test]
fn members_whose_certificate_expired_while_they_were_off_renew_unless_they_were_revoked() {
    let mut deployment = Deployment::start_with(2, 2, short_lived(10));
    let members = [
        deployment.server_dir(),
        deployment.cluster.agent_dir(1),
        deployment.cluster.agent_dir(2),
    ];
    let starts = deployment.agent_starts();
    deployment.a_job_finishes(2);

    let revoked = enrolment(&members[2]).membership().id.to_hex();
    let operator = |deployment: &Deployment, verb: &str, told: u64| {
        let dir = deployment.dir.path();
        json(&aimass(dir, &["--json", "agents", verb, &revoked, "--server-dir", "server"]));
        wait("the authority is told", PATIENCE, || {
            deployment.authority_counter("revocation_set") >= told
        });
    };
    operator(&deployment, "revoke", 1);
    deployment.cluster.kill_agent(1).expect("it ran");
    deployment.cluster.kill_agent(2).expect("it ran");
    deployment.cluster.kill_server();
    wait("all certificates expire", PATIENCE, || {
        members.iter().all(|dir| enrolment(dir).expired(now_s()))
    });

    deployment.cluster.restart_server().expect("it comes up again");
    deployment.wait_alive("the server renews by itself", |_| !enrolment(&members[0]).expired(now_s()));
    let refused = deployment.authority_counter("revoked");
    let before = enrolment(&members[2]);
    let ends = AgentStart {
        args: vec!["--exit-on-revoked".into()],
        ..starts[1].clone()
    };
    deployment.cluster.restart_agent(2, &ends).expect("it starts");
    let process = deployment.cluster.agent_mut(2).expect("it is there");
    let status = process.wait_end(PATIENCE).expect("it is refused");
    let log = std::fs::read_to_string(process.log()).expect("its log");
    assert_eq!(status.code(), Some(4), "{log}");
    assert!(log.contains("was revoked") && log.contains("aimass agents accept"), "{log}");
    assert!(deployment.authority_counter("revoked") > refused, "the authority has refused it");
    assert_eq!(enrolment(&members[2]), before);

    operator(&deployment, "accept", 2);
    for (number, start) in (1..).zip(&starts) {
        deployment.cluster.restart_agent(number, start).expect("it starts");
    }
    deployment.a_job_finishes(2);
    assert!(enrolment(&members[2]).info().not_after_s > before.info().not_after_s);
    deployment.cluster.stop();
}
