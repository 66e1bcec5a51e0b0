//! Where each key of a job file stands.

use std::collections::BTreeMap;
use std::ops::Range;

use super::file::JobFileError;

/// Lines and columns of a parsed job file, for errors that only show after parsing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobSource {
    places: BTreeMap<String, (usize, usize)>,
    end: (usize, usize),
}

impl JobSource {
    /// Where a section (`data`), key (`data.inputs`) or list entry (`data.inputs[2]`) stands: line and column, counted from 1.
    /// A key points to its value. `None` when the file leaves it to its default.
    pub fn where_is(&self, field: &str) -> Option<(usize, usize)> {
        self.places.get(field).copied()
    }

    /// An error about `field`. It points to the field, else to the list, table or section that it belongs to, else to the end of the file.
    pub fn error_at(&self, field: &str, problem: impl Into<String>, fix: impl Into<String>) -> JobFileError {
        let mut part = field;
        let mut place = self.where_is(part);
        while let (None, Some(end)) = (place, part.rfind(['.', '['])) {
            part = &part[..end];
            place = self.where_is(part);
        }
        error(place.unwrap_or(self.end), field, problem, fix)
    }
}

/// Turns byte offsets into places while a file is read.
pub(super) struct Locator<'t> {
    text: &'t str,
    line_starts: Vec<usize>,
    places: BTreeMap<String, (usize, usize)>,
}

impl<'t> Locator<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        let line_starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self {
            text,
            line_starts,
            places: BTreeMap::new(),
        }
    }

    /// Line and column (in characters) of a byte offset; an offset past the end is the end.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        (line, column)
    }

    pub(super) fn note(&mut self, field: String, span: &Range<usize>) {
        let place = self.place(span.start);
        self.places.insert(field, place);
    }

    pub(super) fn error(&self, span: &Range<usize>, field: &str, problem: impl Into<String>, fix: impl Into<String>) -> JobFileError {
        error(self.place(span.start), field, problem, fix)
    }

    pub(super) fn finish(self) -> JobSource {
        let end = self.place(self.text.len());
        JobSource { places: self.places, end }
    }
}

fn error((line, column): (usize, usize), field: &str, problem: impl Into<String>, fix: impl Into<String>) -> JobFileError {
    JobFileError {
        line,
        column,
        field: field.to_owned(),
        problem: problem.into(),
        fix: fix.into(),
    }
}
