//! When clients were there, as somebody saw it.

use std::sync::Arc;

use super::clients::Window;
use super::reader::shown;
use super::{MAX_CLIENTS, MAX_TRACE_BYTES};

const HEADER: &str = "client,from_s,until_s";

/// Windows of each client, in whole seconds from the beginning. It repeats with its length, the last moment at which anybody is there.
/// Clones share the windows.
#[derive(Debug, Clone)]
pub struct Trace(Arc<Windows>);

#[derive(Debug)]
struct Windows {
    /// For each client where its windows begin in `windows`, and one more at the end.
    offsets: Vec<u32>,
    /// From and until, ascending within a client, apart from each other.
    windows: Vec<(u32, u32)>,
    length_s: u32,
    most_at_once: u32,
}

/// Why a trace is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("trace{}: {problem}; {fix}", .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct TraceError {
    /// Counted from 1; `None` for what is missing.
    pub line: Option<u32>,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

/// A line of the file.
struct Entry {
    client: u32,
    from_s: u32,
    until_s: u32,
    line: u32,
}

impl Trace {
    /// Reads a CSV of at most [`MAX_TRACE_BYTES`] with the header `client,from_s,until_s`: clients from 0 to `clients - 1`, each with a line at
    /// least; whole seconds, `until_s` no longer in the window; lines in any order. Windows that touch become one.
    ///
    /// # Errors
    /// [`TraceError`] for anything else, with the line and the fix.
    pub fn parse(csv: &[u8], clients: u32) -> Result<Self, TraceError> {
        let wrong = |line: Option<u32>, problem: String, fix: String| Err(TraceError { line, problem, fix });
        if csv.len() > MAX_TRACE_BYTES {
            let problem = format!("{} bytes are too long", csv.len());
            return wrong(None, problem, format!("use at most {MAX_TRACE_BYTES} bytes"));
        }
        if clients == 0 || clients > MAX_CLIENTS {
            let problem = format!("{clients} clients are not possible");
            return wrong(None, problem, format!("use 1 to {MAX_CLIENTS}"));
        }
        let entries = read(csv, clients)?;
        let mut offsets = Vec::with_capacity(clients as usize + 1);
        let mut windows: Vec<(u32, u32)> = Vec::with_capacity(entries.len());
        let mut entries = entries.into_iter().peekable();
        for client in 0..clients {
            let first = windows.len();
            offsets.push(first as u32);
            while let Some(entry) = entries.next_if(|entry| entry.client == client) {
                match windows[first..].last_mut() {
                    Some((_, until)) if *until > entry.from_s => {
                        let problem = format!("client {client} is there from {} already, until {until}", entry.from_s);
                        return wrong(Some(entry.line), problem, "make one line of the windows that overlap".to_owned());
                    }
                    Some((_, until)) if *until == entry.from_s => *until = entry.until_s,
                    _ => windows.push((entry.from_s, entry.until_s)),
                }
            }
            if windows.len() == first {
                let problem = format!("client {client} has no line");
                let fix = "give each client a line: they are numbered from 0, without gaps".to_owned();
                return wrong(None, problem, fix);
            }
        }
        offsets.push(windows.len() as u32);
        let length_s = windows.iter().map(|window| window.1).max().unwrap_or(0);
        let most_at_once = most_at_once(&windows);
        Ok(Self(Arc::new(Windows {
            offsets,
            windows,
            length_s,
            most_at_once,
        })))
    }

    /// How many clients it has.
    pub fn clients(&self) -> u32 {
        (self.0.offsets.len() - 1) as u32
    }

    /// After so many seconds it begins again.
    pub fn length_s(&self) -> u32 {
        self.0.length_s
    }

    /// The most clients that are there at one moment.
    pub fn most_at_once(&self) -> u32 {
        self.0.most_at_once
    }

    /// From and until of a client's windows, in seconds.
    fn of(&self, client: u32) -> &[(u32, u32)] {
        let at = client as usize;
        &self.0.windows[self.0.offsets[at] as usize..self.0.offsets[at + 1] as usize]
    }

    /// As [`Clients::window`](super::Clients::window).
    pub(super) fn window(&self, client: u32, at_ms: u64) -> Option<Window> {
        let windows = self.of(client);
        let length_ms = u64::from(self.0.length_s) * 1000;
        let ms = |seconds: u32| u64::from(seconds) * 1000;
        let (first, last) = (windows.first()?, windows.last()?);
        let goes_over = first.0 == 0 && last.1 == self.0.length_s;
        if goes_over && windows.len() == 1 {
            return Some(Window {
                from_ms: at_ms,
                until_ms: u64::MAX,
            });
        }
        let mut begin = at_ms - at_ms % length_ms;
        let rest = at_ms - begin;
        let found = windows.partition_point(|window| ms(window.1) <= rest);
        let window = windows.get(found).unwrap_or(first);
        if found == windows.len() {
            begin = begin.checked_add(length_ms)?;
        }
        let until_ms = if goes_over && window == last {
            begin.checked_add(length_ms)?.checked_add(ms(first.1))?
        } else {
            begin.checked_add(ms(window.1))?
        };
        let from_ms = begin.checked_add(ms(window.0))?.max(at_ms);
        Some(Window { from_ms, until_ms })
    }
}

/// The lines, by client and time.
fn read(csv: &[u8], clients: u32) -> Result<Vec<Entry>, TraceError> {
    let mut entries = Vec::new();
    let lines = csv.strip_suffix(b"\n").unwrap_or(csv).split(|byte| *byte == b'\n');
    for (line, text) in (1_u32..).zip(lines) {
        let wrong = |problem: String, fix: String| TraceError {
            line: Some(line),
            problem,
            fix,
        };
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = std::str::from_utf8(text).map_err(|_| wrong("is no UTF-8".to_owned(), "save it as plain text".to_owned()))?;
        if line == 1 {
            if text.trim_start_matches('\u{feff}') != HEADER {
                let problem = format!("{:?} is not the header", shown(text));
                return Err(wrong(problem, format!("begin with the line {HEADER}")));
            }
            continue;
        }
        let mut fields = text.split(',').map(|field| field.trim().parse::<u32>().ok());
        let (Some(Some(client)), Some(Some(from_s)), Some(Some(until_s)), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            let problem = format!("{:?} is no window", shown(text));
            return Err(wrong(problem, format!("write three whole numbers, {HEADER}")));
        };
        if client >= clients {
            let problem = format!("client {client} is beyond the {clients} clients, which are numbered from 0");
            return Err(wrong(problem, "run more clients, or remove the line".to_owned()));
        }
        if until_s <= from_s {
            let problem = format!("the window ends at {until_s}, but begins at {from_s}");
            return Err(wrong(problem, "let until_s be larger than from_s".to_owned()));
        }
        entries.push(Entry {
            client,
            from_s,
            until_s,
            line,
        });
    }
    entries.sort_by_key(|entry| (entry.client, entry.from_s, entry.line));
    Ok(entries)
}

/// Goes over all moments at which somebody comes or leaves; who leaves does so first.
fn most_at_once(windows: &[(u32, u32)]) -> u32 {
    let mut begins: Vec<u32> = windows.iter().map(|window| window.0).collect();
    let mut ends: Vec<u32> = windows.iter().map(|window| window.1).collect();
    begins.sort_unstable();
    ends.sort_unstable();
    let mut left = 0;
    let mut most = 0;
    for (came, begin) in (1..).zip(begins) {
        while ends.get(left).is_some_and(|end| *end <= begin) {
            left += 1;
        }
        most = most.max(came - left);
    }
    most as u32
}
