//! CSV with a header row, packed with gzip or not, read as a stream under limits.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Take, Write};
use std::path::Path;

use csv::{ErrorKind, StringRecord};
use flate2::bufread::MultiGzDecoder;

use super::{DataError, Dataset, Limits};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// A file that is within the limit, and its size.
pub(super) fn open(path: &Path, limits: &Limits) -> Result<(File, u64), DataError> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|e| DataError::io(&name, e))?;
    let meta = file.metadata().map_err(|e| DataError::io(&name, e))?;
    if meta.is_dir() {
        return Err(DataError::io(
            &name,
            std::io::Error::new(std::io::ErrorKind::IsADirectory, "is a folder; name a file"),
        ));
    }
    if meta.len() > limits.max_bytes {
        return Err(DataError::parse(&name, 0, 0, too_large(limits)));
    }
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

/// Where each wanted column lies, and the names for messages.
struct Columns {
    names: Vec<String>,
    inputs: Vec<usize>,
    target: usize,
}

pub(super) fn parse(name: &str, content: impl Read, inputs: &[String], target: &str, limits: &Limits) -> Result<Dataset, DataError> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(false)
        .trim(csv::Trim::All)
        .from_reader(unpacked(name, content, limits)?);
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
    let columns = resolve(name, &header, inputs, target)?;
    let mut dataset = Dataset {
        features: Vec::new(),
        targets: Vec::new(),
        n_features: columns.inputs.len(),
    };
    let mut record = StringRecord::new();
    loop {
        let more = reader.read_record(&mut record);
        let line = reader.position().line();
        // Before anything else, as the limit may have cut a row in two.
        if reader.get_ref().limit() == 0 {
            return Err(DataError::parse(name, line, 0, too_large(limits)));
        }
        if !more.map_err(|e| from_csv(name, e))? {
            break;
        }
        let line = record.position().map_or(line, csv::Position::line);
        if dataset.targets.len() == limits.max_rows {
            let problem = format!("more than {} rows, the limit; split the file or raise the limit", limits.max_rows);
            return Err(DataError::parse(name, line, 0, problem));
        }
        for &column in &columns.inputs {
            let value = number(name, &record, line, column, &columns)?;
            dataset.features.push(value);
        }
        let value = number(name, &record, line, columns.target, &columns)?;
        dataset.targets.push(value);
    }
    if dataset.is_empty() {
        return Err(DataError::parse(name, 2, 0, "there are no rows below the header"));
    }
    Ok(dataset)
}

fn resolve(name: &str, header: &StringRecord, inputs: &[String], target: &str) -> Result<Columns, DataError> {
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
    let find = |wanted: &str| {
        names.iter().position(|n| n == wanted).ok_or_else(|| {
            let problem = format!("there is no column `{wanted}`; the file has {}", listed(&names));
            DataError::parse(name, 1, 0, problem)
        })
    };
    let target_at = find(target)?;
    let inputs: Vec<usize> = if inputs.is_empty() {
        (0..names.len()).filter(|&i| i != target_at).collect()
    } else {
        inputs.iter().map(|wanted| find(wanted)).collect::<Result<_, _>>()?
    };
    if inputs.is_empty() {
        return Err(DataError::parse(
            name,
            1,
            0,
            format!("there is no column beside the target `{target}`; a row needs at least one feature"),
        ));
    }
    if inputs.contains(&target_at) {
        return Err(DataError::parse(
            name,
            1,
            target_at + 1,
            format!("the target `{target}` is also an input; take it out of the inputs"),
        ));
    }
    Ok(Columns {
        names,
        inputs,
        target: target_at,
    })
}

/// At most 20 names, so that a message stays readable.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
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
    if text.is_empty() {
        return Err(wrong(format!("`{title}` is empty; fill it in or leave the row out")));
    }
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() => Ok(value),
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

fn from_csv(name: &str, error: csv::Error) -> DataError {
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
