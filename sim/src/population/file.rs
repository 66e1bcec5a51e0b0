//! From the text of a population file to its types.

use toml::de::{DeTable, DeValue};

use super::error::PopulationError;
use super::reader::{Locator, Section, shown, type_name};
use super::{
    Availability, Byzantine, ByzantineKind, DeviceClass, Dropout, LinkClass, MAX_CLASSES, MAX_POPULATION_BYTES, Partition, Population,
    schema,
};

pub(super) fn parse(text: &str) -> Result<Population, PopulationError> {
    if text.len() > MAX_POPULATION_BYTES {
        let problem = format!("{} bytes are too long", text.len());
        let fix = format!("use at most {MAX_POPULATION_BYTES} bytes; traces and lists of rows belong into files of their own");
        return Err(PopulationError::new("population", problem, fix));
    }
    let mut locator = Locator::new(text);
    let root = DeTable::parse(text).map_err(|e| {
        let problem = if e.message().is_empty() {
            "invalid TOML".to_owned()
        } else {
            shown(e.message())
        };
        let span = e.span().unwrap_or(text.len()..text.len());
        locator.error(&span, "syntax", problem, "mend the TOML there")
    })?;
    let root = root.get_ref();
    schema::check(root, &mut locator)?;
    let population = read(root).map_err(|e| locator.put(e))?;
    population.check().map_err(|e| locator.put(e))?;
    Ok(population)
}

fn read(root: &DeTable<'_>) -> Result<Population, PopulationError> {
    let top = Section {
        name: String::new(),
        table: Some(root),
    };
    let default = Population::default();
    Ok(Population {
        partition: partition(&section(root, "partition")?)?,
        devices: classes(root, "devices", device)?.unwrap_or(default.devices),
        links: classes(root, "links", link)?.unwrap_or(default.links),
        availability: availability(&section(root, "availability")?)?,
        dropout: dropout(&section(root, "dropout")?)?,
        clock_skew_s: top.number("clock_skew_s", default.clock_skew_s, "5.0")?,
        byzantine: byzantine(&section(root, "byzantine")?)?,
        canaries: top.number("canaries", default.canaries, "0.01")?,
    })
}

fn section<'a, 't>(root: &'a DeTable<'t>, name: &str) -> Result<Section<'a, 't>, PopulationError> {
    let table = match root.get(name).map(toml::Spanned::get_ref) {
        None => None,
        Some(DeValue::Table(table)) => Some(table),
        Some(other) => {
            let problem = format!("has to be a section, not {}", type_name(other));
            let fix = format!("write [{name}] on a line of its own and its keys below");
            return Err(PopulationError::new(name, problem, fix));
        }
    };
    Ok(Section {
        name: name.to_owned(),
        table,
    })
}

/// The tables of a list; `None` when it is not there.
fn classes<T>(
    root: &DeTable<'_>,
    name: &str,
    read: fn(&Section<'_, '_>) -> Result<T, PopulationError>,
) -> Result<Option<Vec<T>>, PopulationError> {
    let write = || format!("write [[{name}]] on a line of its own and its keys below");
    let list = match root.get(name).map(toml::Spanned::get_ref) {
        None => return Ok(None),
        Some(DeValue::Array(list)) => list,
        Some(other) => {
            let problem = format!("has to be a list of tables, not {}", type_name(other));
            return Err(PopulationError::new(name, problem, write()));
        }
    };
    if list.is_empty() || list.len() > MAX_CLASSES {
        let problem = format!("{} classes are not possible", list.len());
        return Err(PopulationError::new(name, problem, format!("write 1 to {MAX_CLASSES}, or none")));
    }
    let mut out = Vec::with_capacity(list.len());
    for (at, entry) in list.iter().enumerate() {
        let name = format!("{name}[{at}]");
        let DeValue::Table(table) = entry.get_ref() else {
            let problem = format!("has to be a table, not {}", type_name(entry.get_ref()));
            return Err(PopulationError::new(name, problem, write()));
        };
        out.push(read(&Section { name, table: Some(table) })?);
    }
    Ok(Some(out))
}

fn partition(section: &Section<'_, '_>) -> Result<Partition, PopulationError> {
    const KINDS: &[(&str, &[&str])] = &[
        ("iid", &["reuse", "parts"]),
        ("dirichlet", &["alpha", "min", "reuse", "parts"]),
        ("shards", &["per_client", "reuse", "parts"]),
        ("key", &["column", "reuse", "parts"]),
        ("files", &["reuse", "parts"]),
    ];
    let partition = match section.kind(KINDS, &["alpha", "min", "per_client", "column"])? {
        "dirichlet" => Partition::Dirichlet {
            alpha: section.number("alpha", 0.5, "0.5")?,
            min: section.whole("min", 1, "1")?,
        },
        "shards" => Partition::Shards {
            per_client: section.whole("per_client", 2, "2")?,
        },
        "key" => match section.text("column", "\"user\"")? {
            Some(column) => Partition::Key { column: column.to_owned() },
            None => {
                return Err(section.refuse(
                    "column",
                    "is missing",
                    "add `column = \"user\"`: the column that says whose a row is",
                ));
            }
        },
        "files" => Partition::Files,
        _ => Partition::Iid,
    };
    let parts = section.has("parts").then(|| section.whole("parts", 1, "100")).transpose()?;
    match (section.flag("reuse")?, parts) {
        (true, parts) => Ok(Partition::Reused {
            of: Box::new(partition),
            parts,
        }),
        (false, None) => Ok(partition),
        (false, Some(_)) => Err(section.refuse("parts", "is only there where parts are reused", "add `reuse = true`, or remove it")),
    }
}

fn device(section: &Section<'_, '_>) -> Result<DeviceClass, PopulationError> {
    let default = DeviceClass::default();
    let battery = section.has("battery_wh").then(|| section.number("battery_wh", 0.0, "15.0"));
    Ok(DeviceClass {
        name: section.text("name", "\"phone\"")?.unwrap_or(&default.name).to_owned(),
        share: section.number("share", default.share, "1.0")?,
        gflops: section.number("gflops", default.gflops, "8.0")?,
        cores: section.whole("cores", default.cores, "4")?,
        memory_mib: section.whole("memory_mib", default.memory_mib, "4096")?,
        battery_wh: battery.transpose()?,
        train_watts: section.number("train_watts", default.train_watts, "3.0")?,
        spread: section.number("spread", default.spread, "0.3")?,
    })
}

fn link(section: &Section<'_, '_>) -> Result<LinkClass, PopulationError> {
    let default = LinkClass::default();
    Ok(LinkClass {
        name: section.text("name", "\"wifi\"")?.unwrap_or(&default.name).to_owned(),
        share: section.number("share", default.share, "1.0")?,
        down_mbps: section.number("down_mbps", default.down_mbps, "50.0")?,
        up_mbps: section.number("up_mbps", default.up_mbps, "10.0")?,
        latency_ms: section.range("latency_ms", default.latency_ms, "[10, 30]")?,
        loss: section.number("loss", default.loss, "0.001")?,
        joules_per_mib: section.number("joules_per_mib", default.joules_per_mib, "7.0")?,
    })
}

fn availability(section: &Section<'_, '_>) -> Result<Availability, PopulationError> {
    const DAY: &[&str] = &["peak_hour", "at_peak", "at_trough", "mean_minutes", "zones"];
    const KINDS: &[(&str, &[&str])] = &[("always", &[]), ("diurnal", DAY), ("trace", &["file"])];
    match section.kind(KINDS, &["peak_hour", "at_peak", "at_trough", "mean_minutes", "zones", "file"])? {
        "diurnal" => Ok(Availability::Diurnal {
            peak_hour: section.number("peak_hour", 2.0, "2.0")?,
            at_peak: section.number("at_peak", 0.4, "0.4")?,
            at_trough: section.number("at_trough", 0.1, "0.1")?,
            mean_minutes: section.number("mean_minutes", 45.0, "45.0")?,
            zones: section.whole("zones", 1, "1")?,
        }),
        "trace" => match section.text("file", "\"trace.csv\"")? {
            Some(file) => Ok(Availability::Trace { file: file.to_owned() }),
            None => Err(section.refuse(
                "file",
                "is missing",
                "add `file = \"trace.csv\"`, with the header client,from_s,until_s",
            )),
        },
        _ => Ok(Availability::Always),
    }
}

fn dropout(section: &Section<'_, '_>) -> Result<Dropout, PopulationError> {
    let default = Dropout::default();
    Ok(Dropout {
        training: section.number("training", default.training, "0.05")?,
        upload: section.number("upload", default.upload, "0.01")?,
        back_after_s: section.range("back_after_s", default.back_after_s, "[60, 600]")?,
    })
}

fn byzantine(section: &Section<'_, '_>) -> Result<Option<Byzantine>, PopulationError> {
    const KINDS: &[(&str, &[&str])] = &[
        ("sign_flip", &[]),
        ("scale", &["factor"]),
        ("noise", &["sigma"]),
        ("label_flip", &[]),
    ];
    if section.table.is_none() {
        return Ok(None);
    }
    let kind = match section.kind(KINDS, &["factor", "sigma"])? {
        "scale" => ByzantineKind::Scale {
            factor: section.number("factor", 10.0, "10.0")?,
        },
        "noise" => ByzantineKind::Noise {
            sigma: section.number("sigma", 1.0, "1.0")?,
        },
        "label_flip" => ByzantineKind::LabelFlip,
        _ => ByzantineKind::SignFlip,
    };
    let share = section.number("share", 0.1, "0.1")?;
    Ok(Some(Byzantine { share, kind }))
}
