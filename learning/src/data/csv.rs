//! CSV with a header row, packed with gzip or not, read as a stream under limits.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Take, Write};
use std::path::Path;

use csv::{ErrorKind, StringRecord};
use flate2::bufread::MultiGzDecoder;

use super::{DataError, Dataset, Limits};

pub(super) const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file that is within the limit, and its size.
pub(super) fn open(path: &Path, limits: &Limits) -> Result<(File, u64), DataError> {
    let name = path.display().to_string();
    // Looked at first: opening a pipe would wait for its writer.
    let meta = std::fs::metadata(path).map_err(|e| DataError::io(&name, e))?;
    if meta.is_dir() {
        return Err(DataError::io(
            &name,
            std::io::Error::new(std::io::ErrorKind::IsADirectory, "is a folder; name a file"),
        ));
    }
    if !meta.is_file() {
        return Err(DataError::parse(&name, 0, 0, "is no regular file; save it to one"));
    }
    if meta.len() > limits.max_bytes {
        return Err(DataError::parse(&name, 0, 0, too_large(limits)));
    }
    let file = File::open(path).map_err(|e| DataError::io(&name, e))?;
    Ok((file, meta.len()))
}

fn too_large(limits: &Limits) -> String {
    format!(
        "holds more than {} bytes, the limit; split the file or raise the limit",
        limits.max_bytes
    )
}

/// Unpacks gzip if the content begins like it, and lets through one byte more than the limit: when none is left, it was passed.
pub(super) fn unpacked<'a>(name: &str, content: impl Read + 'a, limits: &Limits) -> Result<Take<Box<dyn Read + 'a>>, DataError> {
    let mut content = BufReader::new(content);
    let packed = content.fill_buf().map_err(|e| DataError::io(name, e))?.starts_with(&GZIP_MAGIC);
    let content: Box<dyn Read> = if packed {
        Box::new(MultiGzDecoder::new(content))
    } else {
        Box::new(content)
    };
    Ok(content.take(limits.max_bytes.saturating_add(1)))
}

/// The columns that are read of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    /// All but the targets where it is empty.
    pub(super) inputs: &'a [String],
    pub(super) targets: &'a [String],
    /// Whether a field may be empty, or hold no finite number; else it is refused.
    pub(super) gaps: bool,
}

impl<'a> Fields<'a> {
    /// Columns without gaps.
    pub(super) fn whole(inputs: &'a [String], targets: &'a [String]) -> Self {
        Self {
            inputs,
            targets,
            gaps: false,
        }
    }
}

/// Where each wanted column lies, and the names for messages.
#[derive(Debug)]
pub(super) struct Columns {
    names: Vec<String>,
    inputs: Vec<usize>,
    targets: Vec<usize>,
    gaps: bool,
}

/// Rows in memory, with a column of targets for each that was asked for.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) features: Vec<f32>,
    pub(super) targets: Vec<Vec<f32>>,
    pub(super) n_features: usize,
    /// Fields that are empty or hold no finite number.
    pub(super) gaps: u64,
}

impl Table {
    fn new(columns: &Columns) -> Self {
        Self {
            features: Vec::new(),
            targets: vec![Vec::new(); columns.targets.len()],
            n_features: columns.inputs.len(),
            gaps: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        let by_features = || self.features.len().checked_div(self.n_features).unwrap_or(0);
        self.targets.first().map_or_else(by_features, Vec::len)
    }
}

/// A reader of rows; what differs from a plain one is said in one place.
pub(super) fn reader<R: Read>(has_headers: bool, content: R) -> csv::Reader<R> {
    csv::ReaderBuilder::new()
        .has_headers(has_headers)
        .flexible(false)
        .trim(csv::Trim::All)
        .from_reader(content)
}

/// Reads everything into memory.
pub(super) fn parse(name: &str, content: impl Read, fields: Fields<'_>, limits: &Limits) -> Result<Table, DataError> {
    let mut table = None;
    let content = unpacked(name, content, limits)?;
    let past_limit = |reader: &csv::Reader<Take<Box<dyn Read + '_>>>| reader.get_ref().limit() == 0;
    let columns = scan(
        name,
        reader(true, content),
        fields,
        limits,
        past_limit,
        |columns, record, line, _| {
            let table = table.get_or_insert_with(|| Table::new(columns));
            columns.read(name, record, line, table)
        },
    )?;
    Ok(table.unwrap_or_else(|| Table::new(&columns)))
}

/// Goes over all rows; `each` gets the record, its line and the byte that it begins at. `past_limit` says whether the limit of bytes cut
/// the content off.
pub(super) fn scan<R: Read>(
    name: &str,
    mut reader: csv::Reader<R>,
    fields: Fields<'_>,
    limits: &Limits,
    past_limit: impl Fn(&csv::Reader<R>) -> bool,
    mut each: impl FnMut(&Columns, &StringRecord, u64, u64) -> Result<(), DataError>,
) -> Result<Columns, DataError> {
    let header = reader.headers().map_err(|e| from_csv(name, e))?.clone();
    if header.is_empty() {
        return Err(DataError::parse(
            name,
            1,
            0,
            "the file is empty; its first line must name the columns",
        ));
    }
    if header.len() > limits.max_columns {
        let problem = format!(
            "{} columns, the limit is {}; drop columns or raise the limit",
            header.len(),
            limits.max_columns
        );
        return Err(DataError::parse(name, 1, 0, problem));
    }
    let columns = resolve(name, &header, fields)?;
    let mut record = StringRecord::new();
    let mut rows = 0;
    loop {
        let more = reader.read_record(&mut record);
        let line = reader.position().line();
        // Before anything else, as the limit may have cut a row in two.
        if past_limit(&reader) {
            return Err(DataError::parse(name, line, 0, too_large(limits)));
        }
        if !more.map_err(|e| from_csv(name, e))? {
            break;
        }
        let (line, byte) = record.position().map_or((line, 0), |p| (p.line(), p.byte()));
        if rows == limits.max_rows {
            let problem = format!("more than {} rows, the limit; split the file or raise the limit", limits.max_rows);
            return Err(DataError::parse(name, line, 0, problem));
        }
        rows += 1;
        each(&columns, &record, line, byte)?;
    }
    if rows == 0 {
        return Err(DataError::parse(name, 2, 0, "there are no rows below the header"));
    }
    Ok(columns)
}

impl Columns {
    /// Reads the wanted fields of a row.
    pub(super) fn read(&self, name: &str, record: &StringRecord, line: u64, into: &mut Table) -> Result<(), DataError> {
        let mut gaps = 0;
        let mut read = |column| {
            let value = number(name, record, line, column, self)?;
            gaps += u64::from(!value.is_finite());
            Ok(value)
        };
        for &column in &self.inputs {
            into.features.push(read(column)?);
        }
        for (targets, &column) in into.targets.iter_mut().zip(&self.targets) {
            targets.push(read(column)?);
        }
        into.gaps += gaps;
        Ok(())
    }

    /// A table for a batch of these columns.
    pub(super) fn table(&self) -> Table {
        Table::new(self)
    }
}

fn resolve(name: &str, header: &StringRecord, fields: Fields<'_>) -> Result<Columns, DataError> {
    let Fields { inputs, targets, gaps } = fields;
    let names: Vec<String> = header.iter().map(|n| n.trim_start_matches('\u{feff}').to_owned()).collect();
    for (i, column) in names.iter().enumerate() {
        if let Some(first) = names[..i].iter().position(|other| other == column) {
            let problem = format!(
                "the column `{column}` is there twice (first as number {}); give every column its own name",
                first + 1
            );
            return Err(DataError::parse(name, 1, i + 1, problem));
        }
    }
    let find = |wanted: &String| {
        names.iter().position(|n| n == wanted).ok_or_else(|| {
            let problem = format!("there is no column `{wanted}`; the file has {}", listed(&names));
            DataError::parse(name, 1, 0, problem)
        })
    };
    let targets = targets.iter().map(find).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<usize> = if inputs.is_empty() {
        (0..names.len()).filter(|i| !targets.contains(i)).collect()
    } else {
        inputs.iter().map(find).collect::<Result<_, _>>()?
    };
    if inputs.is_empty() {
        let titles: Vec<&str> = targets.iter().map(|&i| names[i].as_str()).collect();
        let problem = format!(
            "there is no column beside the target `{}`; a row needs at least one feature",
            titles.join("`, `")
        );
        return Err(DataError::parse(name, 1, 0, problem));
    }
    if let Some(&both) = targets.iter().find(|i| inputs.contains(i)) {
        let problem = format!("the target `{}` is also an input; take it out of the inputs", names[both]);
        return Err(DataError::parse(name, 1, both + 1, problem));
    }
    Ok(Columns {
        names,
        inputs,
        targets,
        gaps,
    })
}

/// At most 20 names, so that a message stays readable.
pub(super) fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    const LENGTH: usize = 80;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| name.chars().take(LENGTH).collect()).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more == 0 {
        shown.join(", ")
    } else {
        format!("{} and {more} more", shown.join(", "))
    }
}

fn number(name: &str, record: &StringRecord, line: u64, column: usize, columns: &Columns) -> Result<f32, DataError> {
    let text = record.get(column).unwrap_or_default();
    let title = columns.names.get(column).map_or("", String::as_str);
    let wrong = |problem: String| DataError::parse(name, line, column + 1, problem);
    if text.is_empty() && columns.gaps {
        return Ok(f32::NAN);
    }
    if text.is_empty() {
        return Err(wrong(format!("`{title}` is empty; fill it in or leave the row out")));
    }
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() || columns.gaps => Ok(value),
        Ok(_) => Err(wrong(format!(
            "`{title}` is `{}`, which is not a finite 32-bit number",
            shortened(text)
        ))),
        Err(_) => Err(wrong(format!("`{title}` is `{}`, which is not a number", shortened(text)))),
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    if text.chars().count() <= LONGEST {
        text.to_owned()
    } else {
        text.chars().take(LONGEST).chain("...".chars()).collect()
    }
}

pub(super) fn from_csv(name: &str, error: csv::Error) -> DataError {
    let line = error.position().map_or(0, csv::Position::line);
    match error.into_kind() {
        ErrorKind::Io(source) => DataError::io(name, source),
        ErrorKind::Utf8 { err, .. } => DataError::parse(name, line, err.field() + 1, "not valid UTF-8; save the file as UTF-8"),
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            DataError::parse(name, line, 0, format!("{len} fields where the header has {expected_len}"))
        }
        other => DataError::parse(name, line, 0, format!("not a CSV: {other:?}")),
    }
}

pub(super) fn write(data: &Dataset, path: &Path, columns: &[String], target: &str) -> Result<(), DataError> {
    let name = path.display().to_string();
    if columns.len() != data.n_features {
        let problem = format!(
            "{} column names for {} features; give one name for each",
            columns.len(),
            data.n_features
        );
        return Err(DataError::Columns { problem });
    }
    if columns.iter().any(|c| c == target) {
        return Err(DataError::Columns {
            problem: format!("`{target}` names both a feature and the target; rename one"),
        });
    }
    let file = File::create(path).map_err(|e| DataError::io(&name, e))?;
    let mut writer = csv::Writer::from_writer(BufWriter::new(file));
    let header = columns.iter().map(String::as_str).chain([target]);
    writer.write_record(header).map_err(|e| from_csv(&name, e))?;
    for (row, label) in data.features.chunks_exact(data.n_features).zip(&data.targets) {
        let fields = row.iter().chain([label]).map(f32::to_string);
        writer.write_record(fields).map_err(|e| from_csv(&name, e))?;
    }
    writer.flush().map_err(|e| DataError::io(&name, e))?;
    let mut file = writer.into_inner().map_err(|e| DataError::io(&name, e.into_error()))?;
    file.flush().map_err(|e| DataError::io(&name, e))
}
