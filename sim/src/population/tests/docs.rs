use crate::population::*;

const DOCS: &str = include_str!("../../../../docs/populations.md");

/// The first block of this language.
fn block(language: &str) -> &'static str {
    let after = DOCS.split_once(&format!("```{language}\n")).expect("a block").1;
    after.split_once("```").expect("its end").0
}

#[test]
fn the_documented_examples_are_read() {
    let population = Population::parse(block("toml")).unwrap_or_else(|e| panic!("{e}"));
    let clients = population.draw(1000, 100, 1, None).expect("a hundred of a thousand");
    let old = (0..1000).filter(|client| clients.class(*client).name == "old").count();
    assert_eq!(old, 750);
    let trace = Trace::parse(block("csv").as_bytes(), 2).expect("a trace");
    assert_eq!(trace.length_s(), 9000);
}

#[test]
fn every_key_is_documented() {
    for key in crate::population::schema::keys() {
        assert!(DOCS.contains(&format!("`{key}`")), "{key} is not in docs/populations.md");
    }
}
