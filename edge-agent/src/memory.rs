//! Gives freed memory back to the system: an agent idles most of its life.
//!
//! After its first large block is freed, glibc's allocator keeps up to twice that much in each arena for ever (`M_MMAP_THRESHOLD` in mallopt(3): the
//! threshold is dynamic until somebody sets it). With a model of 1.65 million weights an idle agent held 68 MiB, with a fixed threshold 19. The
//! threshold can be set without unsafe code only by the environment, before the process begins; so the program starts itself again with it.

/// Blocks from this size on are the system's again as soon as they are freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const SETTINGS: [(&str, &str); 2] = [("MALLOC_MMAP_THRESHOLD_", "524288"), ("MALLOC_ARENA_MAX", "2")];

/// Replaces this process by itself (same id, same files, same arguments) with the allocator's settings, unless the environment has any already.
/// Where that is not possible it goes on as it is: only its memory is larger.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn release_early() {
    use std::os::unix::process::CommandExt as _;

    let mut args = std::env::args_os();
    let name = args.next();
    if std::env::vars_os().any(|(variable, _)| variable.as_encoded_bytes().starts_with(b"MALLOC_")) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = std::process::Command::new(program);
    command.args(args).envs(SETTINGS);
    if let Some(name) = name {
        command.arg0(name);
    }
    let error = command.exec();
    tracing::debug!("the allocator's settings can't be applied: {error}");
}

/// Only glibc keeps that much.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn release_early() {}
