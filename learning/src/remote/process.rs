//! A worker's process, as its parent sees it.

use std::ffi::OsString;
use std::fmt;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::frame;
use super::message::{Reply, Request, printable};

/// How a worker is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommand {
    /// The executable.
    pub program: PathBuf,
    /// Its arguments; `aimass-gpu-worker` takes none.
    pub args: Vec<OsString>,
}

impl WorkerCommand {
    /// A program without arguments.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
        }
    }
}

/// How long a worker may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To open the device, to load, to hand over its state, and for the first step with arrays of new shapes, for which it compiles
    /// shaders.
    pub first: Duration,
    /// For any other step, on top of ten times the median of those before.
    pub slack: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(60),
            slack: Duration::from_secs(5),
        }
    }
}

/// How long a worker that was sent away has to end by itself.
const GOODBYE: Duration = Duration::from_millis(500);
/// Most bytes that are kept of a line of a worker's standard error.
const MAX_LINE_BYTES: u64 = 512;

/// Why a worker is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lost {
    /// It could not be started.
    Start(String),
    /// It ended: how, and its last words.
    Ended(String),
    /// It did not answer in time.
    Hung(Duration),
    /// It answered what makes no sense.
    Garbage(String),
    /// Its device failed, as it said itself.
    Device(String),
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start(reason) => write!(f, "can't be started ({reason})"),
            Self::Ended(how) => write!(f, "ended ({how})"),
            Self::Hung(after) => write!(f, "did not answer within {:.1} s", after.as_secs_f64()),
            Self::Garbage(reason) => write!(f, "answered what makes no sense ({reason})"),
            Self::Device(reason) => write!(f, "says that its device failed ({reason})"),
        }
    }
}

pub(super) struct Worker {
    child: Child,
    /// `None` once it was sent away.
    requests: Option<Sender<Vec<u8>>>,
    replies: Receiver<io::Result<Option<Vec<u8>>>>,
    last_words: Arc<Mutex<String>>,
}

impl Worker {
    /// Starts a process; it was not spoken to yet. `max_reply_bytes` bounds what it may answer.
    pub(super) fn spawn(command: &WorkerCommand, max_reply_bytes: u64) -> Result<Self, Lost> {
        let start = |e: io::Error| Lost::Start(format!("{}: {e}", command.program.display()));
        let mut asked = Command::new(&command.program);
        asked
            .args(&command.args)
            // Its last words are to be words.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = apart(&mut asked).spawn().map_err(start)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (requests, to_write) = mpsc::channel::<Vec<u8>>();
        // Holds one reply: a worker that speaks without being asked waits, and takes no memory here.
        let (sender, replies) = mpsc::sync_channel(1);
        let last_words = Arc::new(Mutex::new(String::new()));
        let kept = last_words.clone();
        // From here on dropping it ends the process.
        let worker = Self {
            child,
            requests: Some(requests),
            replies,
            last_words,
        };
        let (Some(mut stdin), Some(mut stdout), Some(stderr)) = pipes else {
            return Err(Lost::Start("its pipes are missing".to_owned()));
        };
        // A worker that hangs does not read either, so writing waits in a thread of its own. All three end with the process.
        let thread = || thread::Builder::new().name("gpu-worker".to_owned());
        let write = move || to_write.iter().try_for_each(|body| frame::write(&mut stdin, &body));
        thread().spawn(write).map_err(start)?;
        let read = move || {
            loop {
                let frame = frame::read(&mut stdout, max_reply_bytes);
                let more = matches!(frame, Ok(Some(_)));
                if sender.send(frame).is_err() || !more {
                    return;
                }
            }
        };
        thread().spawn(read).map_err(start)?;
        let hear = move || {
            listen(stderr, &kept);
            drop(kept);
        };
        thread().spawn(hear).map_err(start)?;
        Ok(worker)
    }

    /// Process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks, and waits for the answer. After an `Err` the process is gone.
    pub(super) fn ask(&mut self, request: Vec<u8>, timeout: Duration) -> Result<Reply, Lost> {
        if let Ok(Ok(Some(_))) = self.replies.try_recv() {
            self.kill();
            return Err(Lost::Garbage("it speaks without being asked".to_owned()));
        }
        if let Some(requests) = &self.requests {
            // An error here means that the process is gone, which the reader says too.
            let _ = requests.send(request);
        }
        let lost = match self.replies.recv_timeout(timeout) {
            Ok(Ok(Some(frame))) => match Reply::decode(&frame) {
                Ok(reply) => {
                    // What the driver grumbled about did no harm.
                    self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clear();
                    return Ok(reply);
                }
                Err(malformed) => Lost::Garbage(malformed.to_string()),
            },
            Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => Lost::Garbage(e.to_string()),
            Ok(Ok(None) | Err(_)) | Err(RecvTimeoutError::Disconnected) => return Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => Lost::Hung(timeout),
        };
        self.kill();
        Err(lost)
    }

    /// Waits for a process whose output ended.
    fn ended(&mut self) -> Lost {
        let how = match self.wait(GOODBYE) {
            Some(how) => how,
            None => {
                self.kill();
                "its output".to_owned()
            }
        };
        // The thread that listens holds the other end of them until the last was said.
        let start = Instant::now();
        while Arc::strong_count(&self.last_words) > 1 && start.elapsed() < GOODBYE {
            thread::sleep(Duration::from_millis(5));
        }
        let words = self.last_words.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Lost::Ended(if words.is_empty() { how } else { format!("{how}: {words}") })
    }

    /// How it ended, if it does within `patience`.
    fn wait(&mut self, patience: Duration) -> Option<String> {
        let start = Instant::now();
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Ok(None) if start.elapsed() < patience => thread::sleep(Duration::from_millis(5)),
                Ok(None) => return None,
                Err(e) => return Some(e.to_string()),
            }
        }
    }

    fn kill(&mut self) {
        // Errors mean that it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(requests) = self.requests.take() {
            let _ = requests.send(Request::Bye.encode());
        }
        if self.wait(GOODBYE).is_none() {
            self.kill();
        }
    }
}

/// Out of reach of the terminal's ctrl-c, which is its parent's to act upon.
#[cfg(unix)]
fn apart(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.process_group(0)
}

/// Out of reach of the terminal's ctrl-c, which is its parent's to act upon.
#[cfg(windows)]
fn apart(command: &mut Command) -> &mut Command {
    use std::os::windows::process::CommandExt;
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    command.creation_flags(CREATE_NEW_PROCESS_GROUP)
}

/// Keeps what a worker said last: of a panic its message, otherwise the last line.
fn listen(stderr: ChildStderr, kept: &Mutex<String>) {
    let mut input = BufReader::new(stderr);
    let (mut panicked, mut line) = (false, Vec::new());
    loop {
        line.clear();
        match input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = printable(&String::from_utf8_lossy(&line));
        let text = text.trim();
        if text.is_empty() || text.starts_with("note: ") {
            continue;
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        match (panicked, text.contains("panicked at")) {
            // The message is on the line after the place.
            (_, true) => *kept = text.to_owned(),
            (true, false) if kept.ends_with(':') => *kept = format!("{kept} {text}"),
            (true, false) => {}
            (false, false) => *kept = text.to_owned(),
        }
        panicked |= text.contains("panicked at");
    }
}
