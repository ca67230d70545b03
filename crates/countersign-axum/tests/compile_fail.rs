//! Mistakes that do not compile.

#[test]
fn proofs_come_from_requests_that_were_checked_and_from_nowhere_else() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
