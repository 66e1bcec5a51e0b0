//! Real processes of this very program: the demo, the end-to-end tests and the benches start an authority, an aggregator and agents
//! with it. Every child holds a pipe to its parent and ends when that breaks, so that nothing is left behind, whatever happens.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Why a process of the fleet is not there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FleetError {
    /// It could not be started or watched.
    #[error("{name}: {source}")]
    Process {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// It ended when it should have gone on.
    #[error("{name} ended ({status}):\n{log_end}\nThe whole log is in {log}")]
    Ended {
        /// Its name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Last lines of its log.
        log_end: String,
        /// The log.
        log: PathBuf,
    },
    /// It did not do what was waited for.
    #[error("{name} was not ready after {seconds} s; its log is in {log}")]
    Slow {
        /// Its name.
        name: String,
        /// How long was waited.
        seconds: u64,
        /// The log.
        log: PathBuf,
    },
}

/// How to start a process.
#[derive(Debug)]
pub struct Start<'a> {
    /// For messages and the log's name.
    pub name: &'a str,
    /// The program.
    pub program: &'a Path,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Secrets and settings by environment.
    pub env: Vec<(&'a str, String)>,
    /// Folder of the log.
    pub logs: &'a Path,
}

/// A running process. Dropping it ends it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    ended: Option<ExitStatus>,
    /// Whether it was ended from here, on purpose.
    killed: bool,
}

/// What a process has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Largest resident memory so far, bytes.
    pub peak_rss_bytes: u64,
    /// Resident memory now, bytes.
    pub rss_bytes: u64,
    /// Processor time, seconds.
    pub cpu_s: f64,
}

impl Process {
    /// Starts a process whose output goes to `<logs>/<name>.log` (appended) and whose input is a pipe from here.
    ///
    /// # Errors
    /// [`FleetError::Process`].
    pub fn start(start: Start<'_>) -> Result<Self, FleetError> {
        let failed = |source| FleetError::Process {
            name: start.name.to_owned(),
            source,
        };
        let log = start.logs.join(format!("{}.log", start.name));
        let out = OpenOptions::new().create(true).append(true).open(&log).map_err(failed)?;
        let err = out.try_clone().map_err(failed)?;
        let mut command = Command::new(start.program);
        command.args(&start.args).stdin(Stdio::piped()).stdout(out).stderr(err);
        for (key, value) in &start.env {
            command.env(key, value);
        }
        let child = command.spawn().map_err(failed)?;
        Ok(Self {
            name: start.name.to_owned(),
            child,
            log,
            ended: None,
            killed: false,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// [`FleetError::Process`].
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, FleetError> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().map_err(|source| FleetError::Process {
                name: self.name.clone(),
                source,
            })?;
        }
        Ok(self.ended)
    }

    /// Fails when it has ended, unless that was by [`Process::kill`].
    ///
    /// # Errors
    /// [`FleetError::Ended`] with the end of its log.
    pub fn check_running(&mut self) -> Result<(), FleetError> {
        match self.ended()? {
            None => Ok(()),
            Some(_) if self.killed => Ok(()),
            Some(status) => {
                let log_end = last_lines(&self.log, 12).unwrap_or_default();
                Err(FleetError::Ended {
                    name: self.name.clone(),
                    status,
                    log_end,
                    log: self.log.clone(),
                })
            }
        }
    }

    /// Waits until `ready` gives something, watching that the process lives.
    ///
    /// # Errors
    /// [`FleetError::Ended`], [`FleetError::Slow`].
    pub fn wait_until<T>(&mut self, within: Duration, mut ready: impl FnMut() -> Option<T>) -> Result<T, FleetError> {
        self.poll(within, |process| match ready() {
            Some(found) => Ok(Some(found)),
            None => process.check_running().map(|()| None),
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`FleetError::Slow`] when it does not end in time.
    pub fn wait_end(&mut self, within: Duration) -> Result<ExitStatus, FleetError> {
        self.poll(within, Self::ended)
    }

    fn poll<T>(&mut self, within: Duration, mut look: impl FnMut(&mut Self) -> Result<Option<T>, FleetError>) -> Result<T, FleetError> {
        let begin = Instant::now();
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if begin.elapsed() > within {
                return Err(FleetError::Slow {
                    name: self.name.clone(),
                    seconds: within.as_secs(),
                    log: self.log.clone(),
                });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            // An error here means that it is gone already.
            let _ = self.child.kill();
            self.ended = self.child.wait().ok();
            self.killed = true;
        }
    }

    /// Closes its input: it ends by itself soon after.
    pub fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Lets it end by itself (its input closes), and ends it when it does not within `grace`.
    pub fn stop(&mut self, grace: Duration) {
        self.close_input();
        if self.wait_end(grace).is_err() {
            self.kill();
        }
    }

    /// Memory and processor time so far; `None` where the system has no `/proc` or the process is gone.
    pub fn usage(&self) -> Option<Usage> {
        usage_of(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(Duration::from_secs(3));
    }
}

/// Memory and processor time of a process, from `/proc`.
pub fn usage_of(pid: u32) -> Option<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = status.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(Usage {
        peak_rss_bytes: field("VmHWM:")? * 1024,
        rss_bytes: field("VmRSS:")? * 1024,
        // Linux counts in ticks of 1/100 s on every platform that Rust supports.
        cpu_s: ticks as f64 / 100.0,
    })
}

/// The program that is running now, to be started again in another role.
///
/// # Errors
/// When the system can't say.
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Arguments from anything that is text.
pub fn args<const N: usize>(list: [&dyn AsRef<OsStr>; N]) -> Vec<OsString> {
    list.iter().map(|a| a.as_ref().to_owned()).collect()
}

fn last_lines(path: &Path, lines: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(8192)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_usage_is_plausible() {
        if Path::new("/proc/self/status").exists() {
            let usage = usage_of(std::process::id()).expect("this process has a /proc entry");
            assert!(usage.peak_rss_bytes >= usage.rss_bytes && usage.rss_bytes > 100_000, "{usage:?}");
        }
    }

    #[test]
    fn a_process_ends_when_its_input_closes_and_its_log_is_shown_when_it_fails() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let start = |name, args| Start {
            name,
            program: Path::new("/bin/sh"),
            args,
            env: vec![],
            logs: dir.path(),
        };
        let mut cat = Process::start(start("cat", args([&"-c", &"cat"]))).expect("sh starts");
        cat.check_running().expect("cat waits for its input");
        cat.stop(Duration::from_secs(5));
        assert!(
            cat.ended().expect("can be asked").expect("has ended").success(),
            "it was not killed"
        );

        let mut bad = Process::start(start("bad", args([&"-c", &"echo no such luck; exit 3"]))).expect("sh starts");
        let error = bad.wait_until(Duration::from_secs(5), || None::<()>).expect_err("it ends at once");
        assert!(error.to_string().contains("no such luck"), "{error}");
    }
}
