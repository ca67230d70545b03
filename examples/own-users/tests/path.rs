//! The lines of docs/own-users.md, as printed, against the program of the page; and the users of its table.

use example_driver::{Program, block, program};

const PAGE: &str = include_str!("../../../docs/own-users.md");

fn start() -> Program {
    Program::example(env!("CARGO_BIN_EXE_own-users"), &[])
}

/// The status of a login, and whether it was answered with tokens.
fn login(running: &Program, name: &str, password: &str) -> (String, bool) {
    let body = format!(r#"{{"email":"{name}","password":"{password}"}}"#);
    let script = format!(
        "curl -sw '\\n%{{http_code}}\\n' http://localhost:3000/v1/auth/login -H 'content-type: application/json' -d '{body}'"
    );
    let [answer, status] = &running.run(&script)[..] else { panic!("expected a body and a status") };
    (status.clone(), answer.contains("\"access_token\":\"ey"))
}

#[test]
fn the_program_of_the_page_is_the_example() {
    let source = include_str!("../src/main.rs");
    assert!(source.lines().count() <= 120, "an example that nobody reads");
    assert_eq!(block(PAGE, "rust,ignore"), program(source), "copy the example into the page");
    assert_eq!(
        block(PAGE, "sql"),
        include_str!("../users.sql").split_once("\n").unwrap().1.split_once("\n\n").unwrap().0.to_owned()
            + "\n"
    );
}

#[test]
fn users_of_the_table_sign_in_as_printed() {
    let answers = start().run(block(PAGE, "sh"));
    let answers: Vec<_> = answers.iter().map(String::as_str).collect();
    let [me, profile, members, cookie, wrong] = answers[..] else {
        panic!("expected five answers, got {answers:#?}");
    };
    assert_eq!(me, r#"{"id":"17","name":"Ada"}"#);
    assert_eq!(profile, "hello Ada");
    assert_eq!(members, r#"["ada@example.com","bob@example.com","eve@example.com"]"#);
    assert_eq!(cookie, "welcome back, 18");
    assert!(wrong.contains("\"error\":\"invalid_credentials\""), "{wrong}");
}

#[test]
fn each_user_of_the_table_has_the_password_that_werkzeug_hashed() {
    let running = start();
    let (let_in, refused) = (("200".to_owned(), true), ("401".to_owned(), false));
    for (name, password, expected) in [
        ("Ada@Example.com", "correct horse", &let_in),
        ("ada@example.com", "correct horse", &let_in), // the upgraded hash
        ("bob@example.com", "battery staple", &let_in),
        ("bob@example.com", "correct horse", &refused),
        ("eve@example.com", "battery staple", &refused),
        ("nobody@example.com", "battery staple", &refused),
    ] {
        assert_eq!(&login(&running, name, password), expected, "{name}");
    }
}
