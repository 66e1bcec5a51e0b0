//! How the programs end: one exit code a kind of end, the same in `aimass-agent` and `aimass`.

use std::process::ExitCode;

/// Why a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitKind {
    /// Done.
    Ok,
    /// Something failed that fits none of the others, for instance a full disk.
    Failure,
    /// Wrong arguments or configuration; nothing was done.
    Usage,
    /// A service does not answer.
    Unreachable,
    /// Refused: token, certificate, revocation or policy.
    Refused,
    /// A data, model or job file that can't be used.
    BadData,
    /// Stopped by ctrl-c.
    Interrupted,
}

impl ExitKind {
    /// Every kind, in order of its code.
    pub const ALL: [Self; 7] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::Unreachable,
        Self::Refused,
        Self::BadData,
        Self::Interrupted,
    ];

    /// The part of `--help` that lists the codes.
    pub const HELP: &'static str = "Exit codes:\n  \
        0    done\n  \
        1    failure (what failed is said on stderr)\n  \
        2    wrong arguments or configuration\n  \
        3    a service does not answer\n  \
        4    refused: token, certificate, revocation or policy\n  \
        5    bad input data: a data, model or job file that can't be used\n  \
        130  interrupted (ctrl-c)";

    /// Prints what there is to say about a command line that is not carried out: what is wrong with it, or the help or version it asks for.
    pub fn of_command_line(error: &clap::Error) -> Self {
        // Printing fails only when nobody reads; the exit code says it all the same.
        let _ = error.print();
        if error.use_stderr() { Self::Usage } else { Self::Ok }
    }

    /// The process's exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
            Self::BadData => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<ExitKind> for ExitCode {
    fn from(kind: ExitKind) -> Self {
        Self::from(kind.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code_once() {
        for kind in ExitKind::ALL {
            let lines = ExitKind::HELP
                .lines()
                .filter(|line| line.split_whitespace().next() == Some(&kind.code().to_string()));
            assert_eq!(lines.count(), 1, "{kind:?}");
        }
    }

    #[test]
    fn codes_are_the_documented_ones() {
        assert_eq!(ExitKind::ALL.map(ExitKind::code), [0, 1, 2, 3, 4, 5, 130]);
    }
}
