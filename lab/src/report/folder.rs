//! The folder of a run.

mod error;
mod input;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::html::{Page, Run, html};
use super::{EVENTS_FILE, csv, parquet, tensorboard};
use crate::record::{RoundRow, Summary};
pub use error::FolderError;
pub use input::Input;
use input::InputRecord;

const INPUT: &str = "input.json";
const JOB: &str = "job.toml";
const POPULATION: &str = "population.toml";
const ROUNDS: &str = "rounds.jsonl";
const SUMMARY: &str = "summary.json";
/// Longest line of `rounds.jsonl`, and largest of the other files that are read, bytes.
const MAX_LINE: u64 = 64 << 10;
const MAX_FILE: u64 = 16 << 20;

/// How far a folder's run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It has just been made.
    New,
    /// The same run was begun here and did not end.
    Begun,
    /// The same run is here, whole.
    Whole,
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FolderError {
    move |error| FolderError::Io {
        what,
        path: path.to_owned(),
        error,
    }
}

/// The folder of one run:
///
/// | file | written |
/// |---|---|
/// | `job.toml`, `population.toml`, `input.json` | first: copies of what runs, and their digests |
/// | `rounds.jsonl` | a line a round, when it ends |
/// | `rounds.csv`, `rounds.parquet`, `events.out.tfevents.*`, `report.html` | at the end |
/// | `summary.json` | last: it is there where the run is whole |
#[derive(Debug, Clone)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// How far the run of `input` is in a folder, which may not exist. Changes nothing.
    ///
    /// # Errors
    /// As [`RunFolder::claim`].
    pub fn look(path: &Path, input: &Input<'_>) -> Result<State, FolderError> {
        let folder = Self { path: path.to_owned() };
        let wanted = input.record();
        if let Some(text) = folder.text(INPUT)? {
            let found: InputRecord = serde_json::from_str(&text).map_err(|e| folder.broken(INPUT, e.line(), &e))?;
            if found != wanted {
                let difference = found.difference(&wanted);
                return Err(FolderError::OtherInput {
                    path: path.to_owned(),
                    difference,
                });
            }
            return Ok(if folder.summary()?.is_some() { State::Whole } else { State::Begun });
        }
        let entries = match path.read_dir() {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(State::New),
            entries => entries.map_err(io("read", path))?,
        };
        for entry in entries {
            let name = entry.map_err(io("read", path))?.file_name();
            // What is left where making the folder ready was cut off.
            let ours = [JOB, POPULATION, INPUT];
            if name == INPUT || !ours.iter().any(|ours| name == *ours || name == temporary(ours).as_str()) {
                let found = name.to_string_lossy().into_owned();
                return Err(FolderError::NotARun {
                    path: path.to_owned(),
                    found,
                });
            }
        }
        Ok(State::New)
    }

    /// Takes a folder for a run. A new or empty one is made ready; one that holds the same run is taken as it is.
    ///
    /// # Errors
    /// [`FolderError::OtherInput`] where the run there follows from other input, [`FolderError::NotARun`] where there are other files.
    pub fn claim(path: &Path, input: &Input<'_>) -> Result<(Self, State), FolderError> {
        let folder = Self { path: path.to_owned() };
        let state = Self::look(path, input)?;
        if state != State::New {
            return Ok((folder, state));
        }
        std::fs::create_dir_all(path).map_err(io("make", path))?;
        folder.write(JOB, input.job)?;
        match input.population {
            Some(population) => folder.write(POPULATION, population)?,
            None => match std::fs::remove_file(path.join(POPULATION)) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(io("delete", &path.join(POPULATION))(e)),
                _ => {}
            },
        }
        folder.write(INPUT, json(&input.record()).as_bytes())?;
        Ok((folder, State::New))
    }

    /// A folder that holds a run.
    ///
    /// # Errors
    /// [`FolderError::NotARun`] where it does not.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let folder = Self { path: path.to_owned() };
        match folder.text(INPUT)? {
            Some(_) => Ok(folder),
            None => Err(FolderError::NotARun {
                path: path.to_owned(),
                found: format!("there is no {INPUT}"),
            }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The rounds that are on record. A last line that a kill cut off is left out.
    ///
    /// # Errors
    /// [`FolderError::Broken`] where a whole line is no round, or not of a later round than the one before it.
    pub fn rounds(&self) -> Result<Vec<RoundRow>, FolderError> {
        let path = self.path.join(ROUNDS);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io("read", &path)(e)),
        };
        let (mut reader, mut rows, mut line) = (BufReader::new(file), Vec::<RoundRow>::new(), Vec::new());
        for number in 1.. {
            line.clear();
            let mut bounded = reader.by_ref().take(MAX_LINE);
            let n = bounded.read_until(b'\n', &mut line).map_err(io("read", &path))?;
            if line.last() != Some(&b'\n') {
                if n as u64 == MAX_LINE {
                    return Err(self.broken(ROUNDS, number, &"the line is too long"));
                }
                break;
            }
            let row: RoundRow = serde_json::from_slice(&line).map_err(|e| self.broken(ROUNDS, number, &e))?;
            if rows.last().is_some_and(|last| last.round >= row.round) {
                return Err(self.broken(ROUNDS, number, &"the rounds are not in order"));
            }
            rows.push(row);
        }
        Ok(rows)
    }

    /// The summary, where the run is whole.
    ///
    /// # Errors
    /// [`FolderError::Broken`] where it is no summary.
    pub fn summary(&self) -> Result<Option<Summary>, FolderError> {
        let text = self.text(SUMMARY)?;
        text.map(|text| serde_json::from_str(&text).map_err(|e| self.broken(SUMMARY, e.line(), &e)))
            .transpose()
    }

    /// Opens `rounds.jsonl` for the rounds after `keep`; what is on record of later ones is dropped, so 0 begins anew. The run is not whole
    /// until it is [finished](Self::finish) again.
    ///
    /// # Errors
    /// As [`RunFolder::rounds`].
    pub fn log(&self, keep: u32) -> Result<RoundLog, FolderError> {
        let summary = self.path.join(SUMMARY);
        match std::fs::remove_file(&summary) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(io("delete", &summary)(e)),
            _ => {}
        }
        let mut text = Vec::new();
        // Beginning anew needs nothing of what is there, which may be broken.
        let rows = if keep == 0 { Vec::new() } else { self.rounds()? };
        for row in rows.iter().filter(|row| row.round <= keep) {
            text.extend_from_slice(line_of(row).as_bytes());
        }
        self.write(ROUNDS, &text)?;
        let path = self.path.join(ROUNDS);
        let file = OpenOptions::new().append(true).open(&path).map_err(io("write", &path))?;
        Ok(RoundLog { file, path })
    }

    /// Writes the tables, the event file and the report of the rounds that are on record; `summary` may be that of a run that was stopped.
    /// Wall times aside, the same rounds give the same bytes.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub fn write_reports(&self, summary: &Summary) -> Result<(), FolderError> {
        let rows = self.rounds()?;
        self.write("rounds.csv", &csv(&rows))?;
        self.write("rounds.parquet", &parquet(&rows))?;
        self.write(EVENTS_FILE, &tensorboard(&rows))?;
        let runs = [Run {
            name: String::new(),
            summary: summary.clone(),
            rows,
        }];
        let (job, population) = self.inputs()?;
        let page = Page {
            title: &summary.job,
            job: job.as_deref(),
            population: population.as_deref(),
            runs: &runs,
        };
        self.write("report.html", html(&page).as_bytes())
    }

    /// Ends a run that is whole: everything of [`RunFolder::write_reports`], then the summary, on the disk.
    ///
    /// # Errors
    /// When a file can't be read or written.
    pub fn finish(&self, summary: &Summary) -> Result<(), FolderError> {
        self.write_reports(summary)?;
        let rounds = self.path.join(ROUNDS);
        if let Ok(file) = File::open(&rounds) {
            file.sync_all().map_err(io("write", &rounds))?;
        }
        write_whole(&self.path.join(SUMMARY), json(summary).as_bytes(), true)
    }

    /// The text of the job and the population files, as they were copied.
    ///
    /// # Errors
    /// When one is there and can't be read.
    pub fn inputs(&self) -> Result<(Option<String>, Option<String>), FolderError> {
        Ok((self.text(JOB)?, self.text(POPULATION)?))
    }

    /// A file's text; what is no UTF-8 is replaced.
    fn text(&self, name: &str) -> Result<Option<String>, FolderError> {
        let path = self.path.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io("read", &path)(e)),
        };
        let mut bytes = Vec::new();
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(io("read", &path))?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(self.broken(name, 1, &"the file is too large"));
        }
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), FolderError> {
        write_whole(&self.path.join(name), bytes, false)
    }

    fn broken(&self, name: &str, line: usize, problem: &dyn std::fmt::Display) -> FolderError {
        FolderError::Broken {
            path: self.path.join(name),
            line: line.max(1),
            problem: problem.to_string(),
        }
    }
}

/// Writes a file under another name first, so that it is there whole or not at all; `durable` waits for the disk.
///
/// # Errors
/// [`FolderError::Io`].
pub fn write_whole(path: &Path, bytes: &[u8], durable: bool) -> Result<(), FolderError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let new = path.with_file_name(temporary(&name));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&new, path)
    };
    write().map_err(io("write", path))
}

fn temporary(name: &str) -> String {
    format!("{name}.new")
}

/// Pretty, with a line's end. Our types have string keys alone, so this can't fail; an empty file would be refused when it is read.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default()
}

fn line_of(row: &RoundRow) -> String {
    serde_json::to_string(row).map(|text| text + "\n").unwrap_or_default()
}

/// `rounds.jsonl` while a run goes on.
#[derive(Debug)]
pub struct RoundLog {
    file: File,
    path: PathBuf,
}

impl RoundLog {
    /// Adds a round. A kill after this leaves its line whole; a crash of the machine may tear it.
    ///
    /// # Errors
    /// [`FolderError::Io`].
    pub fn push(&mut self, row: &RoundRow) -> Result<(), FolderError> {
        let write = self.file.write_all(line_of(row).as_bytes()).and_then(|()| self.file.flush());
        write.map_err(io("write", &self.path))
    }
}

#[cfg(test)]
mod tests;
