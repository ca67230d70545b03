//! The lines of docs/examples.md, as printed, against the program of the page and the Flask program beside it.

use example_driver::{Program, block, program, section};

const EXE: &str = env!("CARGO_BIN_EXE_cookies-ssr");
const SIGN_UP: &str = "A=http://localhost:3000\n\
    B='curl -s -b jar -c jar -H accept:text/html'\n\
    csrf() { sed -n 's/.*name=\"csrf_token\" value=\"\\([^\"]*\\)\".*/\\1/p' | head -n 1; }\n\
    $B $A/sign-up -d email=ada@example.com --data-urlencode 'password=correct horse'\n\
    CSRF=$($B $A/ | csrf)\n";

fn page() -> &'static str {
    section(include_str!("../../../docs/examples.md"), "Pages, with tokens in cookies")
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
fn pages_sign_up_sign_in_and_sign_out_as_printed() {
    let answers = Program::example(EXE, &[]).run(block(page(), "sh"));
    let expected = [
        "/sign-up?next=%2F%3Fday%3D1",
        "/?day=1",
        "<li>milk</li>",
        "<h1>Account of ada@example.com</h1>",
        "/?day=2",
        "/confirm?next=%2Faccount",
        "/account",
        "<h1>Account of countess@example.com</h1>",
        "/sign-in",
        "/sign-up?next=%2F",
    ];
    assert_eq!(answers, expected);

    let flask = Program::flask(block(page(), "python"), "TEST_FLASK_PYTHON", "flask_jwt_extended");
    if let Some(flask) = flask {
        let mut beside = expected;
        beside[9] = "/"; // the copy of the cookies is still good there
        assert_eq!(flask.run(block(page(), "sh")), beside);
    }
}

#[test]
fn a_form_goes_on_after_its_access_token_is_gone_and_only_with_its_value() {
    let answers = Program::example(EXE, &[]).run(&format!(
        "{SIGN_UP}
        sed -i.bak /access/d jar
        $B -L $A/notes -d note=milk -d \"csrf_token=$CSRF\" | grep -o '<li>.*</li>'
        sed -i.bak /access/d jar
        $B -o /dev/null -w '%{{http_code}}\\n' $A/notes -d note=bread
        $B -o /dev/null -w '%{{http_code}}\\n' $A/notes -d note=bread -d csrf_token=guess
        $B $A/ | grep -c bread || true"
    ));
    assert_eq!(answers, ["<li>milk</li>", "403", "403", "0"]);
}

#[test]
fn signing_out_clears_the_cookies_and_so_does_a_session_that_ended_elsewhere() {
    let answers = Program::example(EXE, &[]).run(&format!(
        "{SIGN_UP}
        cleared() {{ grep -io '^set-cookie: [^=]*=;' | sort | tr -d '\\r'; }}
        cp jar elsewhere
        $B -D - -o /dev/null $A/sign-out -d \"csrf_token=$CSRF\" | cleared
        curl -s -D - -o /dev/null -b elsewhere -H accept:text/html $A/ | cleared"
    ));
    let cookies = ["access", "csrf", "refresh"].map(|kind| format!("set-cookie: countersign_{kind}=;"));
    assert_eq!(answers, [cookies.clone(), cookies].concat());
}

#[test]
fn what_a_user_can_mend_shows_the_form_again_with_the_reason() {
    let answers = Program::example(EXE, &[]).run(&format!(
        "{SIGN_UP}
        post() {{ curl -s $A/$1 -d email=$2 --data-urlencode \"password=$3\" | grep -o '<p>.*</p>'; }}
        post sign-up ada@example.com 'correct horse'
        post sign-up bob@example.com short
        post sign-in ada@example.com 'a guess'
        $B $A/confirm -d password=guess -d \"csrf_token=$CSRF\" | grep -o 'It is me'
        $B $A/notes --data-urlencode 'note=<b>&' -d \"csrf_token=$CSRF\"
        $B $A/ | grep -o '<li>.*</li>'"
    ));
    assert_eq!(
        answers,
        [
            "<p>This address has an account.</p>",
            "<p>use at least 8 characters</p>",
            "<p>That is not right.</p>",
            "It is me",
            "<li>&lt;b>&amp;</li>",
        ]
    );
}
