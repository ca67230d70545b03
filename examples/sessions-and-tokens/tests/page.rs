//! The lines of docs/login-sessions.md, as printed, against the program of the page and the Flask program beside it.

use example_driver::{Program, block, program};

const EXE: &str = env!("CARGO_BIN_EXE_sessions-and-tokens");
const PAGE: &str = include_str!("../../../docs/login-sessions.md");

#[test]
fn the_program_of_the_page_is_the_example() {
    let source = program(include_str!("../src/main.rs"));
    assert_eq!(block(PAGE, "rust,no_run"), source, "copy the example into the page");
}

const ANSWERS: [&str; 9] = [
    "303 /login?next=%2F%3Fday%3D1",
    "303 /?day=1",
    "<p>Hello ada</p>",
    "ada notes milk",
    "bob notes bread",
    "bob notes bread",
    "ada may change the password",
    "303 /login",
    "303 /login?next=%2F",
];

#[test]
fn sessions_and_tokens_work_as_printed() {
    for variables in [&[][..], &[("IDENTITY_CLAIM", "uid")]] {
        let answers = Program::example(EXE, variables).run(block(PAGE, "sh"));
        assert_eq!(answers, ANSWERS, "{variables:?}");
    }
}

#[test]
fn the_flask_program_answers_alike() {
    let flask = Program::flask(block(PAGE, "python"), "TEST_FLASK_PYTHON", "flask_login, flask_jwt_extended");
    let Some(flask) = flask else { return };
    let mut expected = ANSWERS.map(|answer| answer.replace("303 ", "302 "));
    expected[5] = "ada notes bread".to_owned(); // of a session and a token, the session
    // The last answer depends on whether curl forgets several cookies at once; the one of Debian 12 does not.
    assert_eq!(flask.run(block(PAGE, "sh"))[..8], expected[..8]);
}
