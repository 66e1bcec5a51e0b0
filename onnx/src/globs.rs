//! Globs over the names of a model's parameters.

use globset::{Glob, GlobMatcher};

use crate::LayoutError;
use crate::error::shown;

/// Globs over names, `*` matching any characters, `.` and `/` included.
#[derive(Debug, Clone, Default)]
pub struct Globs {
    globs: Vec<(String, GlobMatcher)>,
}

impl Globs {
    /// Compiles the globs.
    ///
    /// # Errors
    /// [`LayoutError::Glob`] for one that does not parse, with its text.
    pub fn new<S: AsRef<str>>(globs: &[S]) -> Result<Self, LayoutError> {
        let compiled = |text: &S| match Glob::new(text.as_ref()) {
            Ok(glob) => Ok((text.as_ref().to_owned(), glob.compile_matcher())),
            Err(error) => Err(LayoutError::Glob {
                glob: shown(text.as_ref()),
                reason: error.kind().to_string(),
            }),
        };
        Ok(Self {
            globs: globs.iter().map(compiled).collect::<Result<_, _>>()?,
        })
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.globs.is_empty()
    }

    /// Whether one of them matches `name`.
    pub fn is_match(&self, name: &str) -> bool {
        self.globs.iter().any(|(_, matcher)| matcher.is_match(name))
    }

    /// The text of the first glob that matches none of `names`: a typing error, most likely.
    pub fn unmatched<'n>(&self, names: impl Iterator<Item = &'n str> + Clone) -> Option<&str> {
        let matches_none = |matcher: &GlobMatcher| !names.clone().any(|name| matcher.is_match(name));
        self.globs
            .iter()
            .find(|(_, matcher)| matches_none(matcher))
            .map(|(text, _)| text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn should_match_any_character_and_name_the_glob_that_matches_nothing() {
        let globs = Globs::new(&["conv*.weight", "fc?.bias"]).expect("both parse");
        assert!(globs.is_match("conv1.0/x.weight") && globs.is_match("fc1.bias") && !globs.is_match("fc10.bias"));
        assert_eq!(globs.unmatched(["conv.weight", "fc1.bias"].into_iter()), None);
        assert_eq!(globs.unmatched(["conv.weight"].into_iter()), Some("fc?.bias"));
        assert!(Globs::default().is_empty() && !Globs::default().is_match(""));
    }

    #[test]
    fn should_refuse_a_glob_that_does_not_parse_by_its_text() {
        let refused = Globs::new(&["fine", "[a-"]).map(|_| ()).expect_err("an open class");
        assert!(refused.to_string().contains("[a-"), "{refused}");
    }
}
