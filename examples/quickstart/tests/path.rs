//! The README's path, line by line as printed, against the quick start.

use example_driver::{Program, block};

#[test]
fn the_readme_path_works_as_printed_with_the_quickstart() {
    let lines = block(include_str!("../../../README.md"), "sh");
    assert!(lines.contains("http://127.0.0.1:8080/"), "the README names the server's default address");
    let lines = lines.replace("http://127.0.0.1:8080", "http://localhost:3000")
        + "\ncurl -sw '\\n' http://localhost:3000/hello\
           \ncurl -sw '\\n' http://localhost:3000/hello -H \"authorization: Bearer $ACCESS\"";
    let answers = Program::example(env!("CARGO_BIN_EXE_quickstart"), &[]).run(&lines);

    let [registered, me, me_after, refresh_after, stranger, ended] = &answers[..] else {
        panic!("expected six answers, got {answers:#?}");
    };
    assert!(
        registered.contains("\"access_token\":\"") && registered.contains("ada@example.com"),
        "{registered}"
    );
    assert!(me.contains("ada@example.com") && !me.contains("token"), "{me}");
    for refused in [me_after, refresh_after, ended] {
        assert!(refused.contains("\"error\":\"invalid_token\""), "{refused}");
    }
    assert!(stranger.contains("\"error\":\"missing_token\""), "{stranger}");
}
