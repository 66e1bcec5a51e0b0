//! What this device can do, as far as the operating system says.

use aimass_protocol::message::agent::Capabilities;

/// Reads what the operating system says: what it does not say stays 0 or empty.
pub fn of_this_device(device_class: &str, tags: &[String]) -> Capabilities {
    Capabilities {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        cores: std::thread::available_parallelism().map_or(0, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory_bytes: std::fs::read_to_string("/proc/meminfo")
            .ok()
            .and_then(|text| field_bytes(&text, "MemTotal"))
            .unwrap_or(0),
        device_class: device_class.to_owned(),
        tags: tags.to_vec(),
    }
}

/// Memory in use by this process in bytes, where the operating system says.
pub fn resident_bytes() -> Option<u64> {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| field_bytes(&text, "VmRSS"))
}

/// `Name:   123 kB` of the files under `/proc`, in bytes.
fn field_bytes(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_field_that_was_asked_for() {
        let text = "MemTotal:       24684084 kB\nMemFree:        22930648 kB\n";
        assert_eq!(field_bytes(text, "MemTotal"), Some(24_684_084 * 1024));
        assert_eq!(field_bytes(text, "MemFree"), Some(22_930_648 * 1024));
    }

    #[test]
    fn what_is_not_said_is_unknown() {
        for text in [
            "",
            "MemTotal: many kB",
            "MemTotal: 12 MB",
            "MemTotal: 99999999999999999999 kB",
            "XMemTotal: 1 kB",
        ] {
            assert_eq!(field_bytes(text, "MemTotal"), None, "{text}");
        }
    }

    #[test]
    fn a_device_has_at_least_one_core() {
        let capabilities = of_this_device("gateway", &["lab".to_owned()]);
        assert!(capabilities.cores >= 1);
        assert_eq!(capabilities.tags, ["lab"]);
        assert_eq!(capabilities.device_class, "gateway");
    }
}
