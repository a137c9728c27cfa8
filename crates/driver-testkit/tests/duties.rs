//! The list of duties, the cases and their comments name each other, in both directions.

use std::collections::BTreeMap;

use jumpstarter_driver_testkit::all;

/// Duty to test, as `docs/driver-duties.md` lists them.
fn documented() -> BTreeMap<String, String> {
    let text = include_str!("../duties.md");
    let entry = |line: &str| {
        let (duty, rest) = line.strip_prefix("- `")?.split_once("` ")?;
        assert!(
            rest.starts_with("MUST: ") || rest.starts_with("SHOULD: "),
            "neither MUST nor SHOULD: {line}"
        );
        let (_, test) =
            rest.rsplit_once(": `").unwrap_or_else(|| panic!("no test at the end of: {line}"));
        Some((duty.to_owned(), test.trim_end_matches('`').to_owned()))
    };
    let entries: Vec<_> = text.lines().filter_map(entry).collect();
    let listed = entries.len();
    let map: BTreeMap<_, _> = entries.into_iter().collect();
    assert_eq!(map.len(), listed, "a duty is listed twice");
    map
}

#[test]
fn every_duty_has_its_test_and_every_test_its_duty() {
    let tests: BTreeMap<_, _> = all()
        .map(|case| (case.duty.to_owned(), format!("{}::{}", case.group, case.name)))
        .collect();
    assert_eq!(tests.len(), all().count(), "two cases share a duty");
    assert_eq!(documented(), tests);
}

#[test]
fn every_case_names_its_duty_in_its_comment() {
    for case in all() {
        let file = format!("{}/src/cases/{}.rs", env!("CARGO_MANIFEST_DIR"), case.group);
        let source = std::fs::read_to_string(&file).unwrap();
        let head = format!("pub(crate) async fn {}(", case.name);
        let (before, _) = source.split_once(&head).unwrap_or_else(|| panic!("no {head} in {file}"));
        let comment =
            before.trim_end().lines().rev().take_while(|line| line.starts_with("///")).last();
        let expected = format!("/// {}: ", case.duty);
        assert!(comment.is_some_and(|line| line.starts_with(&expected)), "{case:?}: {comment:?}");
    }
}
