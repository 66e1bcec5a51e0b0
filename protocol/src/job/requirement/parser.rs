//! From text to [`Expression`]: bounded in length and depth, every refusal with its place and fix.

use super::version::Version;
use super::{Comparison, Expression, Same, UNITS};
use crate::check::is_label;
use crate::job::schema::{nearest, shown};
use crate::limits::{MAX_REQUIREMENT_BYTES, MAX_REQUIREMENT_DEPTH, MAX_TAG_BYTES};

/// Where and why a requirement is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {at} of the expression: {problem}; {fix}")]
pub struct RequirementError {
    /// The character, counted from 1; one past the last where something is missing.
    pub at: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub fix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Word(&'t str),
    Number(&'t str),
    Text(&'t str),
    Compare(Comparison),
    Open,
    Close,
    OpenList,
    CloseList,
    Comma,
    End,
}

const SUBJECTS: [&str; 5] = ["memory", "cores", "agent_version", "device_class", "tag"];

pub(super) fn parse(text: &str) -> Result<Expression, RequirementError> {
    if text.len() > MAX_REQUIREMENT_BYTES {
        let problem = format!("{} bytes are too long", text.len());
        return Err(refusal(
            text,
            MAX_REQUIREMENT_BYTES,
            problem,
            format!("use at most {MAX_REQUIREMENT_BYTES}"),
        ));
    }
    let mut parser = Parser {
        text,
        next: 0,
        token: Token::End,
        start: 0,
        depth: 0,
    };
    parser.step()?;
    let expression = parser.any()?;
    match parser.token {
        Token::End => Ok(expression),
        _ => Err(parser.unexpected("the end", "join conditions by `and` or `or`")),
    }
}

struct Parser<'t> {
    text: &'t str,
    /// Byte offset behind `token`.
    next: usize,
    token: Token<'t>,
    /// Byte offset of `token`.
    start: usize,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn any(&mut self) -> Result<Expression, RequirementError> {
        let first = self.all()?;
        if self.token != Token::Word("or") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.token == Token::Word("or") {
            self.step()?;
            parts.push(self.all()?);
        }
        Ok(Expression::Any(parts))
    }

    fn all(&mut self) -> Result<Expression, RequirementError> {
        let first = self.one()?;
        if self.token != Token::Word("and") {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.token == Token::Word("and") {
            self.step()?;
            parts.push(self.one()?);
        }
        Ok(Expression::All(parts))
    }

    fn one(&mut self) -> Result<Expression, RequirementError> {
        self.depth += 1;
        if self.depth > MAX_REQUIREMENT_DEPTH {
            let fix = format!("use at most {MAX_REQUIREMENT_DEPTH} levels of parentheses and `not`");
            return Err(self.refuse("is nested too deep", fix));
        }
        let expression = match self.token {
            Token::Word("not") => {
                self.step()?;
                Expression::Not(Box::new(self.one()?))
            }
            Token::Open => {
                self.step()?;
                let inner = self.any()?;
                self.take(Token::Close, "a closing parenthesis", "add `)`")?;
                inner
            }
            Token::Word(word) => self.condition(word)?,
            Token::Number(_) | Token::Text(_) => {
                return Err(self.unexpected("a condition", "put what is asked about on the left, for instance `cores >= 4`"));
            }
            _ => return Err(self.unexpected("a condition", "write for instance `memory >= 2GiB`")),
        };
        self.depth -= 1;
        Ok(expression)
    }

    fn condition(&mut self, subject: &str) -> Result<Expression, RequirementError> {
        match subject {
            "memory" => {
                self.step()?;
                let comparison = self.comparison("memory >= 2GiB")?;
                Ok(Expression::Memory(comparison, self.bytes()?))
            }
            "cores" => {
                self.step()?;
                let comparison = self.comparison("cores >= 4")?;
                Ok(Expression::Cores(comparison, self.number("cores >= 4")?))
            }
            "agent_version" => {
                self.step()?;
                let comparison = self.comparison("agent_version >= \"0.2.0\"")?;
                Ok(Expression::AgentVersion(comparison, self.version()?))
            }
            "device_class" => {
                self.step()?;
                self.device_class()
            }
            "tag" => {
                self.step()?;
                self.take(Token::Open, "an opening parenthesis", "write for instance `tag(\"eu\")`")?;
                let (start, tag) = (self.start, self.text("tag(\"eu\")")?);
                if !is_label(&tag) {
                    let fix = format!("a tag has 1 to {MAX_TAG_BYTES} of a-z, A-Z, 0-9, '-', '_' and '.'");
                    return Err(refusal(self.text, start, "is no tag", fix));
                }
                self.take(Token::Close, "a closing parenthesis", "add `)`")?;
                Ok(Expression::Tag(tag))
            }
            "and" | "or" | "in" => Err(self.unexpected("a condition", "write for instance `memory >= 2GiB`")),
            other => {
                let fix = match nearest(other, SUBJECTS.into_iter().chain(["not"])) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("ask about {}", SUBJECTS.join(", ")),
                };
                Err(self.refuse(format!("{:?} is nothing to ask about", shown(other)), fix))
            }
        }
    }

    fn device_class(&mut self) -> Result<Expression, RequirementError> {
        const EXAMPLE: &str = "device_class == \"gateway\"";
        let same = match self.token {
            Token::Word("in") => {
                self.step()?;
                return self.classes();
            }
            Token::Compare(Comparison::Equal) => Same::Equal,
            Token::Compare(Comparison::NotEqual) => Same::NotEqual,
            Token::Compare(_) => return Err(self.refuse("a class has no order", "use `==`, `!=` or `in [...]`")),
            _ => return Err(self.unexpected("`==`, `!=` or `in`", &format!("write for instance `{EXAMPLE}`"))),
        };
        self.step()?;
        Ok(Expression::DeviceClass(same, self.text(EXAMPLE)?))
    }

    fn classes(&mut self) -> Result<Expression, RequirementError> {
        const EXAMPLE: &str = "device_class in [\"gateway\", \"phone\"]";
        self.take(Token::OpenList, "an opening bracket", &format!("write for instance `{EXAMPLE}`"))?;
        let mut classes = vec![self.text(EXAMPLE)?];
        while self.token == Token::Comma {
            self.step()?;
            classes.push(self.text(EXAMPLE)?);
        }
        self.take(Token::CloseList, "a comma or a closing bracket", "add `]`")?;
        Ok(Expression::DeviceClassIn(classes))
    }

    fn comparison(&mut self, example: &str) -> Result<Comparison, RequirementError> {
        let Token::Compare(comparison) = self.token else {
            return Err(self.unexpected("a comparison", &format!("write for instance `{example}`")));
        };
        self.step()?;
        Ok(comparison)
    }

    fn number(&mut self, example: &str) -> Result<u64, RequirementError> {
        let Token::Number(digits) = self.token else {
            return Err(self.unexpected("a whole number", &format!("write for instance `{example}`")));
        };
        let Ok(number) = digits.parse() else {
            return Err(self.refuse("the number is too large", format!("use at most {}", u64::MAX)));
        };
        self.step()?;
        Ok(number)
    }

    fn bytes(&mut self) -> Result<u64, RequirementError> {
        let start = self.start;
        let number = self.number("memory >= 2GiB")?;
        let Token::Word(word) = self.token else { return Ok(number) };
        let Some((_, factor)) = UNITS.iter().find(|(unit, _)| *unit == word) else {
            if matches!(word, "and" | "or") {
                return Ok(number);
            }
            let problem = format!("{:?} is no unit", shown(word));
            let fix = match UNITS.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(word)) {
                Some((unit, _)) => format!("did you mean {unit}?"),
                None => "use kB, MB, GB, KiB, MiB or GiB, or none for bytes".to_owned(),
            };
            return Err(self.refuse(problem, fix));
        };
        let Some(bytes) = number.checked_mul(*factor) else {
            return Err(refusal(
                self.text,
                start,
                "the number is too large",
                format!("use at most {} bytes", u64::MAX),
            ));
        };
        self.step()?;
        Ok(bytes)
    }

    fn version(&mut self) -> Result<Version, RequirementError> {
        let start = self.start;
        let text = self.text("agent_version >= \"0.2.0\"")?;
        Version::parse(&text).ok_or_else(|| {
            let problem = format!("{:?} is no version", shown(&text));
            refusal(self.text, start, problem, "write for instance \"0.2.0\" or \"0.2.0-rc.1\"")
        })
    }

    fn text(&mut self, example: &str) -> Result<String, RequirementError> {
        let Token::Text(text) = self.token else {
            return Err(self.unexpected("a text in quotes", &format!("write for instance `{example}`")));
        };
        if text.trim().is_empty() || text.len() > MAX_TAG_BYTES {
            let problem = format!("a text of {} bytes is not possible", text.len());
            return Err(self.refuse(problem, format!("use 1 to {MAX_TAG_BYTES} bytes, not spaces alone")));
        }
        if text.chars().any(|c| c.is_control() || c == '"' || c == '\'') {
            return Err(self.refuse("a text holds a quote or a control character", "remove it"));
        }
        self.step()?;
        Ok(text.to_owned())
    }

    fn take(&mut self, token: Token<'_>, name: &str, fix: &str) -> Result<(), RequirementError> {
        if self.token != token {
            return Err(self.unexpected(name, fix));
        }
        self.step()
    }

    /// Reads the next token.
    fn step(&mut self) -> Result<(), RequirementError> {
        let rest = self.text.get(self.next..).unwrap_or_default();
        let trimmed = rest.trim_start();
        self.start = self.next + (rest.len() - trimmed.len());
        let (token, bytes) = self.token(trimmed)?;
        self.token = token;
        self.next = self.start + bytes;
        Ok(())
    }

    /// The first token of `rest` and its length in bytes.
    fn token(&self, rest: &'t str) -> Result<(Token<'t>, usize), RequirementError> {
        let Some(first) = rest.chars().next() else {
            return Ok((Token::End, 0));
        };
        let run = |fits: fn(char) -> bool| rest.split_once(|c: char| !fits(c)).map_or(rest, |(run, _)| run);
        if let Some((token, bytes)) = symbol(rest) {
            return Ok((token, bytes));
        }
        match first {
            'a'..='z' | 'A'..='Z' | '_' => {
                let word = run(|c| c.is_ascii_alphanumeric() || c == '_');
                Ok((Token::Word(word), word.len()))
            }
            '0'..='9' => {
                let digits = run(|c| c.is_ascii_digit());
                if rest.get(digits.len()..).is_some_and(|behind| behind.starts_with(['.', '_'])) {
                    return Err(self.refuse(
                        "has to be a whole number",
                        "write digits alone, in a smaller unit if need be; a version stands in quotes",
                    ));
                }
                Ok((Token::Number(digits), digits.len()))
            }
            '"' | '\'' => {
                let inside = rest.get(1..).and_then(|inside| inside.split_once(first));
                let Some((text, _)) = inside else {
                    return Err(self.refuse("the text does not end", format!("add {first}")));
                };
                Ok((Token::Text(text), text.len() + 2))
            }
            other => {
                let fix = match other {
                    '=' if rest.starts_with("=>") => "write `>=`",
                    '=' if rest.starts_with("=<") => "write `<=`",
                    '&' => "write `and`",
                    '|' => "write `or`",
                    '!' => "write `not`, or `!=`",
                    '=' => "write `==`",
                    '-' => "numbers are 0 or more",
                    _ => "remove it",
                };
                Err(self.refuse(format!("{:?} means nothing here", shown(&other.to_string())), fix))
            }
        }
    }

    fn refuse(&self, problem: impl Into<String>, fix: impl Into<String>) -> RequirementError {
        refusal(self.text, self.start, problem, fix)
    }

    fn unexpected(&self, expected: &str, fix: &str) -> RequirementError {
        let found = match self.token {
            Token::End => "the end".to_owned(),
            Token::Word(text) | Token::Number(text) => format!("`{}`", shown(text)),
            Token::Text(_) => "a text".to_owned(),
            Token::Compare(comparison) => format!("`{}`", comparison.text()),
            Token::Open => "`(`".to_owned(),
            Token::Close => "`)`".to_owned(),
            Token::OpenList => "`[`".to_owned(),
            Token::CloseList => "`]`".to_owned(),
            Token::Comma => "`,`".to_owned(),
        };
        self.refuse(format!("{expected} was expected, not {found}"), fix)
    }
}

fn symbol(rest: &str) -> Option<(Token<'static>, usize)> {
    let single = [
        ('(', Token::Open),
        (')', Token::Close),
        ('[', Token::OpenList),
        (']', Token::CloseList),
        (',', Token::Comma),
    ];
    let single = single.into_iter().find(|(symbol, _)| rest.starts_with(*symbol));
    // The longest first: `<=` is not `<`.
    let compare = || {
        let fits = Comparison::ALL.into_iter().filter(|comparison| rest.starts_with(comparison.text()));
        fits.max_by_key(|comparison| comparison.text().len())
    };
    single
        .map(|(_, token)| (token, 1))
        .or_else(|| compare().map(|comparison| (Token::Compare(comparison), comparison.text().len())))
}

fn refusal(text: &str, offset: usize, problem: impl Into<String>, fix: impl Into<String>) -> RequirementError {
    RequirementError {
        at: text.char_indices().take_while(|(at, _)| *at < offset).count() + 1,
        problem: problem.into(),
        fix: fix.into(),
    }
}
