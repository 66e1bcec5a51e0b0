//! `aimass doctor`: what is wrong on this machine and what to do about it.

use std::io::Write;
use std::path::Path;

use aimass_edge_agent::exit::ExitKind;
use anyhow::Result;
use serde_json::{Value, json};

use crate::api::{Api, ApiError, Service};
use crate::args::DoctorArgs;
use crate::output::Output;

/// One finding.
struct Check {
    name: &'static str,
    good: bool,
    found: String,
    fix: String,
}

pub(crate) fn run(args: &DoctorArgs, out: &Output) -> Result<ExitKind> {
    let mut checks = vec![cores(), memory()];
    checks.extend(service(Service::Authority, "authority", &args.authority.authority_dir));
    checks.extend(service(Service::Aggregator, "aggregator", &args.server.server_dir));
    let good = checks.iter().all(|c| c.good);
    let rows: Vec<Value> = checks
        .iter()
        .map(|c| json!({ "check": c.name, "good": c.good, "found": c.found, "fix": c.fix }))
        .collect();
    out.result(&json!({ "good": good, "checks": rows }), || {
        let line = |c: &Check| {
            let mark = if c.good { "ok  " } else { "BAD " };
            let fix = if c.good { String::new() } else { format!("\n     fix: {}", c.fix) };
            format!("{mark} {:<22} {}{fix}", c.name, c.found)
        };
        checks.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(if good { ExitKind::Ok } else { ExitKind::Failure })
}

fn cores() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Check {
        name: "processors",
        good: true,
        found: cores.to_string(),
        fix: String::new(),
    }
}

fn memory() -> Check {
    let available = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("MemAvailable:"))?.to_owned();
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    match available {
        Some(kib) => Check {
            name: "free memory",
            good: kib > 128 * 1024,
            found: format!("{} MiB", kib / 1024),
            fix: "free some: the aggregator wants 128 MiB".into(),
        },
        None => Check {
            name: "free memory",
            good: true,
            found: "this system does not say".into(),
            fix: String::new(),
        },
    }
}

fn service(service: Service, what: &'static str, folder: &Path) -> Vec<Check> {
    let mut checks = Vec::new();
    if folder.exists() {
        checks.push(writable(what, folder));
        checks.push(private(what, folder));
    }
    let asked = Api::find(service, folder).and_then(|api| api.get::<Value>("/v1/status"));
    checks.push(match asked {
        Ok(status) => {
            let address = status["quic_address"].as_str().unwrap_or("-");
            let found = match service {
                Service::Aggregator => format!(
                    "runs at {address}; agents online {}, jobs running {}, memory {} MiB",
                    status["agents"]["online"],
                    status["jobs"]["running"],
                    status["rss_bytes"].as_u64().unwrap_or_default() >> 20
                ),
                Service::Authority => format!("runs at {address}; trust bundle {}", status["bundle_version"]),
            };
            Check {
                name: what,
                good: true,
                found,
                fix: String::new(),
            }
        }
        Err(error @ ApiError::NotRunning { .. }) => Check {
            name: what,
            good: false,
            found: format!("not running in {}", folder.display()),
            fix: error.to_string(),
        },
        Err(error) => Check {
            name: what,
            good: false,
            found: "does not answer".into(),
            fix: error.to_string(),
        },
    });
    checks
}

fn writable(what: &'static str, folder: &Path) -> Check {
    let name = if what == "authority" {
        "authority folder"
    } else {
        "aggregator folder"
    };
    let probe = folder.join(".doctor-probe");
    let written = std::fs::File::create(&probe).and_then(|mut f| f.write_all(&[0; 4096]).and_then(|()| f.sync_all()));
    // The probe may not be there when it could not be made.
    let _ = std::fs::remove_file(&probe);
    match written {
        Ok(()) => Check {
            name,
            good: true,
            found: format!("{} is writable", folder.display()),
            fix: String::new(),
        },
        Err(e) => Check {
            name,
            good: false,
            found: format!("{}: {e}", folder.display()),
            fix: "free disk space, or give this user the folder".into(),
        },
    }
}

fn private(what: &'static str, folder: &Path) -> Check {
    use std::os::unix::fs::PermissionsExt;
    let name = if what == "authority" {
        "authority secrets"
    } else {
        "aggregator secrets"
    };
    let open: Vec<String> = ["api.token", "identity/key.pem"]
        .iter()
        .filter(|f| std::fs::metadata(folder.join(f)).is_ok_and(|m| m.permissions().mode() & 0o077 != 0))
        .map(|f| folder.join(f).display().to_string())
        .collect();
    Check {
        name,
        good: open.is_empty(),
        found: if open.is_empty() {
            "readable by their owner alone".into()
        } else {
            format!("others can read {}", open.join(", "))
        },
        fix: format!("chmod 600 {}", open.join(" ")),
    }
}
