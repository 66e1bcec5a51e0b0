//! `aimass log`: the log of models, exported, verified and proved.

mod proof;

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use aimass_crypto::log::{Checkpoint, ProofFile, verifier_key};
use aimass_edge_agent::exit::ExitKind;
use aimass_protocol::log::{LogEntry, LogEvent};
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::json;

use crate::api::{Api, Service};
use crate::args::{LogArgs, LogCommand, LogVerifyArgs, ServerDir};
use crate::bounded_file;
use crate::model_log::audit::{Audit, Figures};
use crate::model_log::export::{self, Export};
use crate::model_log::key::LogKey;
use crate::output::{Failure, Output};

/// Longest file that an older checkpoint is taken from when it is not an export.
const MAX_OLD_BYTES: usize = 64 * 1024;

pub(crate) fn run(args: &LogArgs, out: &Output) -> Result<ExitKind> {
    match &args.command {
        LogCommand::Export { output, dir } => export(output, dir, out),
        LogCommand::Verify(args) => verify(args, out),
        LogCommand::Proof { command } => proof::run(command, out),
    }
}

/// What `GET /v1/log/checkpoint` says.
#[derive(Deserialize)]
struct Head {
    checkpoint: String,
    verifier_key: String,
}

/// The entries of a running server's log, a page at a time.
struct Pages<'a> {
    api: &'a Api,
    next: u64,
    size: u64,
    page: std::vec::IntoIter<String>,
}

#[derive(Deserialize)]
struct Page {
    entries: Vec<String>,
}

impl<'a> Pages<'a> {
    /// The first `size` entries.
    fn new(api: &'a Api, size: u64) -> Self {
        Self {
            api,
            next: 0,
            size,
            page: Vec::new().into_iter(),
        }
    }

    fn next_entry(&mut self) -> Result<Option<Vec<u8>>> {
        if self.next == self.size {
            return Ok(None);
        }
        if self.page.len() == 0 {
            let page: Page = self.api.get(&format!("/v1/log/entries?from={}", self.next))?;
            self.page = page.entries.into_iter();
        }
        let Some(entry) = self.page.next() else { return Ok(None) };
        self.next += 1;
        Ok(Some(
            hex::decode(&entry).context("the server sent an entry that is not hexadecimal")?,
        ))
    }
}

/// A checkpoint's size as its text says. Whether it is signed is found out later.
fn claimed_size(note: &str) -> Option<u64> {
    note.split('\n').nth(1)?.parse().ok()
}

fn export(output: &Path, dir: &ServerDir, out: &Output) -> Result<ExitKind> {
    let api = Api::find(Service::Aggregator, &dir.server_dir)?;
    let head: Head = api.get("/v1/log/checkpoint")?;
    let size = claimed_size(&head.checkpoint).context("the server's checkpoint has no size; use the same version of both")?;
    let write = || -> Result<u64> {
        let mut file = BufWriter::new(File::create(output)?);
        export::write_header(&mut file, &head.checkpoint)?;
        let mut pages = Pages::new(&api, size);
        let mut count = 0;
        while let Some(entry) = pages.next_entry()? {
            export::write_entry(&mut file, &entry)?;
            count += 1;
        }
        file.flush()?;
        Ok(count)
    };
    let entries = write().with_context(|| format!("can't write {}", output.display()))?;
    let shown = json!({ "file": output, "entries": entries, "verifier_key": head.verifier_key });
    out.result(&shown, || {
        format!(
            "{}: {entries} entries\nverifier key {} (give it to auditors by another way than this file)",
            output.display(),
            head.verifier_key
        )
    });
    Ok(ExitKind::Ok)
}

fn verify(args: &LogVerifyArgs, out: &Output) -> Result<ExitKind> {
    let verified = match &args.file {
        Some(path) => {
            let key = LogKey::of(&args.key, None)?;
            let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
            let unread = |e: export::ExportError| Failure::new(ExitKind::BadData, format!("{}: {e}", path.display()));
            let mut export = Export::open(BufReader::new(file)).map_err(unread)?;
            let note = export.checkpoint.clone();
            Verified::check(key, note, args, |_| Ok(export.next_entry().map_err(unread)?))?
        }
        None => {
            let key = LogKey::of(&args.key, Some(&args.dir.server_dir))?;
            let api = Api::find(Service::Aggregator, &args.dir.server_dir)?;
            let head: Head = api.get("/v1/log/checkpoint")?;
            let mut pages = None;
            Verified::check(key, head.checkpoint, args, |size| {
                pages.get_or_insert_with(|| Pages::new(&api, size)).next_entry()
            })?
        }
    };
    if let Some(path) = &args.save {
        std::fs::write(path, &verified.note).with_context(|| format!("can't write {}", path.display()))?;
    }
    let (figures, key) = (verified.figures, &verified.key);
    let older = verified.older.iter().map(|(path, old)| json!({ "file": path, "size": old.size }));
    let shown = json!({
        "origin": key.origin,
        "public_key": key.key.to_hex(),
        "size": figures.entries,
        "root": hex::encode(verified.checkpoint.root),
        "jobs": figures.jobs,
        "rounds": figures.rounds,
        "plain_rounds": figures.plain,
        "abandoned_rounds": figures.abandoned,
        "first_ms": figures.first_ms,
        "last_ms": figures.last_ms,
        "older": older.collect::<Vec<_>>(),
        "entries": args.list.then_some(&verified.entries),
    });
    out.result(&shown, || verified.text());
    Ok(ExitKind::Ok)
}

/// A log that holds.
struct Verified {
    key: LogKey,
    note: String,
    checkpoint: Checkpoint,
    figures: Figures,
    older: Vec<(PathBuf, Checkpoint)>,
    /// Where they are wanted.
    entries: Vec<LogEntry>,
}

impl Verified {
    /// Goes through all entries; `next` is told how many the checkpoint is over.
    fn check(key: LogKey, note: String, args: &LogVerifyArgs, mut next: impl FnMut(u64) -> Result<Option<Vec<u8>>>) -> Result<Self> {
        let checkpoint = Checkpoint::open(note.as_bytes(), &key.origin, &key.key).map_err(|e| does_not_hold(&e))?;
        let older = args.old.iter().map(|path| Ok((path.clone(), old_checkpoint(path, &key)?)));
        let older: Vec<_> = older.collect::<Result<_>>()?;
        let (mut audit, mut entries) = (Audit::new(&key.origin), Vec::new());
        while let Some(bytes) = next(checkpoint.size)? {
            let entry = audit.add(&bytes).map_err(|e| does_not_hold(&e))?;
            if args.list {
                entries.push(entry);
            }
        }
        let earlier: Vec<Checkpoint> = older.iter().map(|(_, old)| old.clone()).collect();
        let figures = audit.finish(&checkpoint, &earlier).map_err(|e| does_not_hold(&e))?;
        Ok(Self {
            key,
            note,
            checkpoint,
            figures,
            older,
            entries,
        })
    }

    fn text(&self) -> String {
        let (figures, key) = (&self.figures, &self.key);
        let mut lines: Vec<String> = (0..).zip(&self.entries).map(|(index, entry)| line(index, entry)).collect();
        lines.push(format!(
            "the log {} holds: {} entries, {} jobs, {} rounds ({} without masks), {} given up",
            key.origin, figures.entries, figures.jobs, figures.rounds, figures.plain, figures.abandoned
        ));
        lines.push(format!("root {}", hex::encode(self.checkpoint.root)));
        lines.push(format!("signed by {}", verifier_key(&key.origin, &key.key)));
        for (path, old) in &self.older {
            lines.push(format!("it continues the {} entries of {}", old.size, path.display()));
        }
        lines.join("\n")
    }
}

/// An entry for people.
fn line(index: u64, entry: &LogEntry) -> String {
    let job = entry.job.to_hex();
    match &entry.event {
        LogEvent::Base { model } => format!("{index} job {job} base model {}", model.to_hex()),
        LogEvent::Round(round) => format!(
            "{index} job {job} round {} model {} {:?} {} of {}",
            round.round,
            round.model.to_hex(),
            round.mode,
            round.survivors,
            round.members
        ),
        LogEvent::Abandoned(round) => format!(
            "{index} job {job} round {} given up {:?} {} of {}, {} draws",
            round.round, round.mode, round.survivors, round.members, round.draws
        ),
    }
}

/// The checkpoint of an earlier look at the log: as `verify --save` wrote it, or in an export or a proof file.
fn old_checkpoint(path: &Path, key: &LogKey) -> Result<Checkpoint> {
    let bad = |text: String| Failure::new(ExitKind::BadData, format!("{}: {text}", path.display()));
    let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
    let mut start = [0; 1];
    let is_export = (&file).read(&mut start).is_ok_and(|n| n == 1) && start == *b"{";
    let note = if is_export {
        let file = File::open(path).with_context(|| format!("can't read {}", path.display()))?;
        Export::open(BufReader::new(file)).map_err(|e| bad(e.to_string()))?.checkpoint
    } else {
        let text = bounded_file::read_text(path, MAX_OLD_BYTES).map_err(|e| Failure::new(ExitKind::BadData, e.to_string()))?;
        ProofFile::parse(&text).map_or(text, |proof| proof.checkpoint)
    };
    Ok(Checkpoint::open(note.as_bytes(), &key.origin, &key.key).map_err(|e| bad(e.to_string()))?)
}

fn does_not_hold(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(ExitKind::BadData, format!("the log does not hold: {error}"))
}
