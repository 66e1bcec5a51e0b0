//! How much memory this process holds.

/// Resident set in bytes, where the system says it (`/proc/self/status`).
pub(crate) fn rss_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse(status: &str) -> Option<u64> {
    let kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_line_and_nothing_else() {
        assert_eq!(super::parse("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t    5004 kB\n"), Some(5004 * 1024));
        assert_eq!(super::parse("VmRSS:\tmany\n"), None);
        assert_eq!(super::parse(""), None);
    }
}
