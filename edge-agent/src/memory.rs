//! Gives freed memory back to the system: an agent idles most of its life, and a server's memory should follow its work.
//!
//! glibc's allocator keeps what was freed. After its first large block is freed, up to twice that much in each arena for ever (`M_MMAP_THRESHOLD` in
//! mallopt(3): the threshold is dynamic until somebody sets it): with a model of 1.65 million weights an idle agent held 68 MiB, with a fixed
//! threshold 19. And every thread may get an arena of its own: a server of 30 agents peaked at 270 MiB, with one arena at 111, no slower. Both can be
//! set without unsafe code only by the environment, before the process begins; so a program starts itself again with them.

/// Environment variables for glibc's allocator, with their values (mallopt(3)).
pub type AllocatorSettings = &'static [(&'static str, &'static str)];

/// For an agent: blocks of half a MiB and more are the system's again as soon as they are freed.
pub const AGENT: AllocatorSettings = &[("MALLOC_MMAP_THRESHOLD_", "524288"), ("MALLOC_ARENA_MAX", "2")];

/// For a server: all threads share what is free.
pub const SERVER: AllocatorSettings = &[("MALLOC_ARENA_MAX", "1")];

/// Replaces this process by itself (same id, same files, same arguments) with the allocator's settings, unless the environment has any already.
/// Where that is not possible it goes on as it is: only its memory is larger.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn restart_with(settings: AllocatorSettings) {
    use std::os::unix::process::CommandExt as _;

    let mut args = std::env::args_os();
    let name = args.next();
    if std::env::vars_os().any(|(variable, _)| variable.as_encoded_bytes().starts_with(b"MALLOC_")) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = std::process::Command::new(program);
    command.args(args).envs(settings.iter().copied());
    if let Some(name) = name {
        command.arg0(name);
    }
    let error = command.exec();
    tracing::debug!("the allocator's settings can't be applied: {error}");
}

/// Only glibc keeps that much.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn restart_with(_: AllocatorSettings) {}
