//! The lines of docs/examples.md, as printed, against the program of the page and the Flask program beside it.

use example_driver::{Program, block, program, section};

const EXE: &str = env!("CARGO_BIN_EXE_flask-jwt");
const TOKEN: &str = "A=http://localhost:3000
    TOKEN=$(curl -s $A/auth -H 'content-type: application/json' \
        -d '{\"username\":\"ada\",\"password\":\"battery staple\"}' | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')\n";

fn page() -> &'static str {
    section(include_str!("../../../docs/examples.md"), "Flask-JWT")
}

/// The Flask program, which needs Python 3.8 and `pip install Flask-JWT==0.3.2 PyJWT==1.4.2 Flask==1.1.4
/// Werkzeug==0.16.1 MarkupSafe==2.0.1`: Flask-JWT has had no release since 2015.
fn flask() -> Option<Program> {
    Program::flask(block(page(), "python"), "TEST_FLASK_JWT_PYTHON", "flask_jwt")
}

#[test]
fn the_program_of_the_page_is_the_example() {
    assert_eq!(
        block(page(), "rust,no_run"),
        program(include_str!("../src/main.rs")),
        "copy it into the page"
    );
}

#[test]
fn both_programs_answer_as_printed() {
    for running in [Some(Program::example(EXE, &[])), flask()].into_iter().flatten() {
        let error = |error: &str, description: &str| {
            format!(r#"{{"description":"{description}","error":"{error}","status_code":401}}"#)
        };
        assert_eq!(
            running.run(block(page(), "sh")),
            [
                "you are ada".to_owned(),
                error("Bad Request", "Invalid credentials"),
                error("Authorization Required", "Request does not contain an access token"),
                error("Invalid JWT header", "Unsupported authorization type"),
            ]
        );
    }
}

#[test]
fn each_program_accepts_what_the_other_has_issued() {
    let Some(flask) = flask() else { return };
    let ours = Program::example(EXE, &[]);
    for (issuing, accepting) in [(&flask, &ours), (&ours, &flask)] {
        let me = format!("{TOKEN} curl -sw '\\n' {}/me -H \"authorization: JWT $TOKEN\"", accepting.origin);
        assert_eq!(issuing.run(&me), ["you are ada"], "issued by {}", issuing.origin);
    }
}

#[test]
fn options_of_the_flask_application_count() {
    let variables = [("JWT_AUTH_URL_RULE", "/login"), ("JWT_AUTH_HEADER_PREFIX", "Bearer")];
    let ours = Program::example(EXE, &variables);
    let me = format!("{TOKEN} curl -sw '\\n' $A/me -H \"authorization: Bearer $TOKEN\"");
    assert_eq!(ours.run(&me.replace("/auth ", "/login ")), ["you are ada"]);
}
