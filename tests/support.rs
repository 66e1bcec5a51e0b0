//! What the end-to-end tests share: running the command, and a small deployment.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use aimass_cli::cluster::{AgentStart, Cluster, ClusterSettings};
use aimass_cli::example::{self, Example, ExampleOptions};
use serde_json::Value;

/// The `aimass` executable under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_aimass");

/// Runs `aimass` with these arguments in `dir`, without the environment's own settings.
pub(crate) fn aimass(dir: &Path, args: &[&str]) -> Output {
    aimass_env(dir, args, &[])
}

/// The same with further variables.
pub(crate) fn aimass_env(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(PROGRAM);
    for (key, _) in std::env::vars().filter(|(k, _)| k.starts_with("AIMASS_")) {
        command.env_remove(key);
    }
    command
        .envs(env.iter().copied())
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("the executable starts")
}

/// Standard output and error as one text, for messages.
pub(crate) fn said(output: &Output) -> String {
    format!(
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The last JSON object on standard output of a command that must have succeeded.
pub(crate) fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", said(output));
    last_json(output)
}

/// The last JSON object on standard output.
pub(crate) fn last_json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text
        .lines()
        .rev()
        .find(|l| l.starts_with('{'))
        .unwrap_or_else(|| panic!("no JSON in {}", said(output)));
    serde_json::from_str(line).expect("the last line is JSON")
}

/// Asserts that a command failed with `code` and that its message holds every one of `parts`.
pub(crate) fn refused(output: &Output, code: i32, parts: &[&str]) {
    let text = said(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

/// Waits until `done` holds.
pub(crate) fn wait(what: &str, within: Duration, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A running deployment with the digits example.
pub(crate) struct Deployment {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) example: Example,
    pub(crate) cluster: Cluster,
}

impl Deployment {
    /// Starts an authority, an aggregator and `agents` agents; the job has `rounds` rounds.
    pub(crate) fn start(agents: u32, rounds: u32) -> Self {
        Self::start_with(agents, rounds, ClusterSettings::default())
    }

    /// The same with other settings than the defaults.
    pub(crate) fn start_with(agents: u32, rounds: u32, settings: ClusterSettings) -> Self {
        Self::start_on(agents, rounds, settings, |example| example.agents.clone())
    }

    /// The same with other data: `files` writes it and returns the file of each agent.
    pub(crate) fn start_on(agents: u32, rounds: u32, settings: ClusterSettings, files: impl Fn(&Example) -> Vec<PathBuf>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let options = ExampleOptions {
            agents,
            rounds,
            seed: 11,
            plain: agents < example::FEWEST_SECURE,
        };
        let example = example::write(&dir.path().join("data"), options).expect("the example is written");
        let mut cluster = Cluster::start_with(Path::new(PROGRAM), dir.path(), settings, &|| false).expect("the services start");
        let starts: Vec<AgentStart> = files(&example).iter().map(|p| agent_start(p)).collect();
        cluster.start_agents(&starts, &|| false).expect("the agents start");
        Self { dir, example, cluster }
    }

    /// Submits the example's job by command; returns its id.
    pub(crate) fn submit(&self) -> String {
        self.submit_file(&self.example.job)
    }

    /// Submits a job file by command; returns the job's id.
    pub(crate) fn submit_file(&self, job: &Path) -> String {
        let job = job.display().to_string();
        let reply = json(&aimass(
            self.dir.path(),
            &[
                "--json",
                "job",
                "submit",
                &job,
                "--owner-key",
                "owner.key",
                "--server-dir",
                "server",
            ],
        ));
        reply["job"].as_str().expect("an id").to_owned()
    }

    /// The job's view.
    pub(crate) fn job(&self, id: &str) -> Value {
        self.cluster
            .server()
            .get(&format!("/v1/jobs/{id}"))
            .expect("the aggregator answers")
    }

    /// Waits until the job has finished `round` rounds.
    pub(crate) fn wait_round(&mut self, id: &str, round: u64) {
        let within = Duration::from_secs(120);
        let begin = Instant::now();
        loop {
            let view = self.job(id);
            if view["round"].as_u64().unwrap_or_default() >= round {
                return;
            }
            self.cluster.check().expect("all processes live");
            assert!(begin.elapsed() < within, "round {round} not within {within:?}: {view}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// An agent with this data file.
pub(crate) fn agent_start(data: &Path) -> AgentStart {
    AgentStart {
        contract: example::CONTRACT.to_owned(),
        data: PathBuf::from(data),
        // In each test with so few agents that masks would hide nothing.
        allow_plain: true,
        args: vec![],
    }
}

/// A zip of stored `.npy` files, as numpy.savez makes it.
pub(crate) fn npz(arrays: &[(&str, &str, &str, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, descr, shape, values) in arrays {
        let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
        while !(10 + header.len() + 1).is_multiple_of(64) {
            header.push(' ');
        }
        header.push('\n');
        let len = u16::try_from(header.len()).expect("short").to_le_bytes();
        let content = [b"\x93NUMPY\x01\x00", &len[..], header.as_bytes(), values].concat();
        let name = format!("{name}.npy");
        let mut crc = flate2::Crc::new();
        crc.update(&content);
        let size = u32::try_from(content.len()).expect("small").to_le_bytes();
        let fields = [
            &[0, 0, 0, 0, 0, 0, 0, 0][..],
            &crc.sum().to_le_bytes(),
            &size,
            &size,
            &u16::try_from(name.len()).expect("short").to_le_bytes(),
            &[0, 0],
        ]
        .concat();
        let offset = u32::try_from(file.len()).expect("small").to_le_bytes();
        let central = [b"PK\x01\x02\x14\x00\x14\x00", &fields[..], &[0; 10], &offset, name.as_bytes()].concat();
        directory.extend(central);
        file.extend([b"PK\x03\x04\x14\x00", &fields[..], name.as_bytes(), &content].concat());
    }
    let count = u16::try_from(arrays.len()).expect("few").to_le_bytes();
    let (begin, len) = (
        u32::try_from(file.len()).expect("small"),
        u32::try_from(directory.len()).expect("small"),
    );
    let end = [
        b"PK\x05\x06\0\0\0\0",
        &count[..],
        &count,
        &len.to_le_bytes(),
        &begin.to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [file, directory, end].concat()
}
