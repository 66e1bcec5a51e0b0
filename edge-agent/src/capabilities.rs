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

/// The most memory that this process used since [`reset_peak`], in bytes, where the operating system says.
pub fn peak_bytes() -> Option<u64> {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| field_bytes(&text, "VmHWM"))
}

/// Begins to measure the peak anew (proc(5), `clear_refs`). Says whether that was possible.
pub fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Memory that this process may still take, in bytes: the least of what the system has, what its control group permits, and what is left of `cap_bytes` (0
/// for none). `None` where the operating system says nothing of it.
pub fn free_bytes(cap_bytes: u64) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    let available = read("/proc/meminfo").and_then(|text| field_bytes(&text, "MemAvailable"));
    // Version 2, as containers see it; "max" is no number.
    let group = number("/sys/fs/cgroup/memory.max").zip(number("/sys/fs/cgroup/memory.current"));
    let own = (cap_bytes > 0).then_some(cap_bytes).zip(resident_bytes());
    let left = |(most, used): (u64, u64)| most.saturating_sub(used);
    [available, group.map(left), own.map(left)].into_iter().flatten().min()
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
