//! The lines of docs/http.md, as printed, against the program of docs/http.md.

use example_driver::{Program, block, program};

const PAGE: &str = include_str!("../../../docs/http.md");

#[test]
fn the_program_of_the_page_is_the_example() {
    let source = program(include_str!("../src/main.rs"));
    assert_eq!(block(PAGE, "rust,no_run"), source, "copy the example into the page");
}

#[test]
fn header_cookie_and_form_flows_work_as_printed() {
    let answers = Program::example(env!("CARGO_BIN_EXE_pages"), &[]).run(block(PAGE, "sh"));
    let [by_header, by_cookie, form, without] = &answers[..] else {
        panic!("expected four answers, got {answers:#?}");
    };
    assert!(by_header.starts_with("reports for ") && by_header == by_cookie, "{by_header} {by_cookie}");
    assert_eq!(form, "hello");
    assert!(without.contains("\"error\":\"csrf_failed\""), "{without}");
}
