//! The lines of docs/examples.md, as printed, against the program of the page and the Flask program beside it.

use example_driver::{Program, block, program, section};

const EXE: &str = env!("CARGO_BIN_EXE_roles");

fn page() -> &'static str {
    section(include_str!("../../../docs/examples.md"), "Roles, claims and a blocklist")
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
    let lines = block(page(), "sh");
    let ours = Program::example(EXE, &[]).run(lines);
    assert_eq!(
        ours,
        ["bob has the plan free", r#"["ada","bob"]"#, "403", "403", "204", "401", "204", "401"],
        "claims, admins, a member who is signed out, a logout"
    );
    let flask = Program::flask(block(page(), "python"), "TEST_FLASK_PYTHON", "flask_jwt_extended");
    if let Some(flask) = flask {
        assert_eq!(flask.run(&lines.replace("/v1/auth/", "/")), ours);
    }
}

#[test]
fn a_member_who_is_signed_out_refreshes_no_more_and_may_sign_in_again() {
    let answers = Program::example(EXE, &[]).run(
        r#"A=http://localhost:3000
        H='content-type: application/json'
        field() { sed "s/.*\"$1\":\"\([^\"]*\)\".*/\1/"; }
        STATUS='-o /dev/null -w %{http_code}\n'
        login() { curl -s $A/v1/auth/login -H "$H" -d "{\"username\":\"$1\",\"password\":\"$2\"}"; }
        ADA=$(login ada 'correct horse' | field access_token)
        REFRESH=$(login bob 'battery staple' | field refresh_token)
        curl -s $STATUS -X DELETE $A/members/nobody/sessions -H "authorization: Bearer $ADA"
        curl -s $STATUS -X DELETE $A/members/bob/sessions -H "authorization: Bearer $ADA"
        curl -s $STATUS -X POST $A/v1/auth/refresh -H "authorization: Bearer $REFRESH"
        BOB=$(login bob 'battery staple' | field access_token)
        curl -s $STATUS $A/plan -H "authorization: Bearer $BOB"
        curl -s $STATUS $A/members"#,
    );
    assert_eq!(answers, ["404", "204", "401", "200", "401"]);
}
