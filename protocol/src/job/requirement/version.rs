//! Versions, as far as their order needs it.

use std::cmp::Ordering;
use std::fmt;

/// `major.minor.patch` with an optional pre-release, ordered as Semantic Versioning 2.0.0 orders them (section 11). Missing numbers are 0, build
/// metadata is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Version {
    numbers: [u64; 3],
    /// Empty for a release.
    pre_release: Vec<Identifier>,
}

/// Numbers come before words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl Version {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.split_once('+').map_or(text, |(before, _)| before);
        let (release, pre_release) = match text.split_once('-') {
            Some((release, rest)) => (release, rest.split('.').map(Identifier::parse).collect::<Option<_>>()?),
            None => (text, Vec::new()),
        };
        let mut numbers = [0; 3];
        let mut parts = release.split('.');
        let first = parts.next()?;
        for (number, part) in numbers.iter_mut().zip(std::iter::once(first).chain(parts.by_ref())) {
            *number = digits(part)?;
        }
        parts.next().is_none().then_some(Self { numbers, pre_release })
    }
}

impl Identifier {
    fn parse(text: &str) -> Option<Self> {
        if let Some(number) = digits(text) {
            return Some(Self::Number(number));
        }
        let fits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fits.then(|| Self::Word(text.to_owned()))
    }
}

fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // A pre-release comes before its release.
        let is_release = |version: &Self| version.pre_release.is_empty();
        self.numbers
            .cmp(&other.numbers)
            .then_with(|| is_release(self).cmp(&is_release(other)))
            .then_with(|| self.pre_release.cmp(&other.pre_release))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (at, identifier) in self.pre_release.iter().enumerate() {
            f.write_str(if at == 0 { "-" } else { "." })?;
            match identifier {
                Identifier::Number(number) => number.fmt(f)?,
                Identifier::Word(word) => f.write_str(word)?,
            }
        }
        Ok(())
    }
}
