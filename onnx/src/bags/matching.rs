//! Texts of expressions against patterns.

use std::collections::BTreeMap;
use std::ops::Range;

/// Where parentheses lie, and what spaces part.
fn tokens(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        if matches!(c, '(' | ')' | ' ') {
            found.extend(start.take().map(|start| start..at));
            if c != ' ' {
                found.push(at..at + 1);
            }
        } else if start.is_none() {
            start = Some(at);
        }
    }
    found.extend(start.map(|start| start..text.len()));
    found
}

/// What the names of the pattern (`?rows`) stand for in the text, where it has the pattern's form. A name stands for one thing.
pub(super) fn matches<'p, 't>(pattern: &'p str, text: &'t str) -> Option<BTreeMap<&'p str, &'t str>> {
    let parts = tokens(text);
    let mut found: BTreeMap<&str, &str> = BTreeMap::new();
    let mut at = 0;
    for token in tokens(pattern).into_iter().map(|token| &pattern[token]) {
        let first = parts.get(at)?.clone();
        let Some(name) = token.strip_prefix('?') else {
            if &text[first] != token {
                return None;
            }
            at += 1;
            continue;
        };
        let mut open = 0usize;
        let end = loop {
            let part = parts.get(at)?.clone();
            at += 1;
            match &text[part.clone()] {
                "(" => open += 1,
                ")" => open = open.checked_sub(1)?,
                _ => {}
            }
            if open == 0 {
                break part.end;
            }
        };
        let whole = &text[first.start..end];
        if *found.entry(name).or_insert(whole) != whole {
            return None;
        }
    }
    (at == parts.len()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_name_stands_for_one_thing() {
        let found = matches("(Mul ?x (Add ?x ?y))", "(Mul @1 (Add @1 (Neg [0])))").expect("it fits");
        assert_eq!((found["x"], found["y"]), ("@1", "(Neg [0])"));
        assert_eq!(matches("(Mul ?x ?x)", "(Mul @1 @2)"), None);
        assert_eq!(matches("(Mul ?x 1)", "(Mul @1 1) 2"), None);
        assert_eq!(matches("(Mul ?x 1)", "(Mul @1"), None);
        assert_eq!(matches("?x", ")"), None);
    }
}
