//! Mistakes that do not compile.

#[test]
fn sec_010_and_016_roles_and_proofs_are_types() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
