//! examples/README.md and docs/examples.md name every example, and how it is started.

use std::fs;

#[test]
fn the_readme_says_how_each_example_is_started() {
    let readme = include_str!("../../README.md");
    let mut examples = 0;
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.join("src/main.rs").exists() {
            assert!(
                readme.contains(&format!("cargo run -p {name}`")),
                "examples/README.md does not start {name}"
            );
            examples += 1;
        }
    }
    assert_eq!(
        examples,
        readme.matches("cargo run -p").count(),
        "examples/README.md starts what is no example"
    );
}

#[test]
fn the_page_shows_each_app_beside_its_flask_program() {
    let page = include_str!("../../../docs/examples.md");
    for name in ["cookies-ssr", "flask-jwt", "roles", "api-sessions", "sessions-and-tokens"] {
        assert!(page.contains(&format!("cargo run -p {name}`")), "docs/examples.md does not start {name}");
    }
    for part in page.split("\n## ").skip(1) {
        let title = part.lines().next().unwrap_or_default();
        let order = ["```python\n", "```rust,no_run\n", "```sh\n"].map(|block| part.find(block));
        assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{title}: {order:?}");
    }
}
