//! What the compiler says of definitions that are wrong.

#[test]
fn wrong_definitions_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/macros/*.rs");
}
