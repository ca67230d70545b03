//! The OpenAPI document of a running server, in the hands of programs that other people wrote: schemathesis, which makes
//! requests of it and judges the answers, and openapi-typescript, which makes types for a client of it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use crate::client::{Client, PASSWORD};
use crate::server::{Folder, Server};

/// Minutes are for `--slow`; what stands still fails sooner.
const AT_MOST: Duration = Duration::from_secs(600);

/// Something that `./test` fetches; `None` if it is not on this machine, which `./test` says.
fn fetched(variable: &str, usual: &str, how: &str) -> Option<PathBuf> {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target").join(usual);
    let path = std::env::var_os(variable).map_or_else(usual, PathBuf::from);
    let path = path.canonicalize().ok();
    if path.is_none() {
        println!("left out: {how}");
    }
    path
}

async fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = timeout(AT_MOST, output).await.unwrap().unwrap();
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{said}\n{complained}");
    said.into_owned()
}

/// Lets schemathesis ask everything of a document, and fail on what is not as it says.
async fn interrogate(folder: &Folder, url: &str, examples: u32, token: Option<&str>, more: &[&str]) {
    let usual = "interop-schemathesis/bin/schemathesis";
    let how = "schemathesis is not installed (python3 -m venv target/interop-schemathesis, then pip install)";
    let Some(program) = fetched("TEST_SCHEMATHESIS", usual, how) else { return };
    let mut command = Command::new(program);
    command.current_dir(folder.path(""));
    command.args([
        "run",
        &format!("{url}/openapi.json"),
        "--url",
        url,
        "--no-color",
        "--continue-on-failure",
    ]);
    command.args(["--generation-deterministic", "--max-examples", &examples.to_string()]);
    // Every check but two. That each valid body is taken: which passwords are good, for instance, no schema says. And that
    // what was deleted is gone: operators see an account until its last token has expired.
    let mut without = vec!["positive_data_acceptance", "use_after_free"];
    if let Some(token) = token {
        // The token goes with every request, also with those that are to be sent without one.
        without.push("ignored_auth");
        command.args(["-H", &format!("authorization: Bearer {token}")]);
    }
    command.args(["--checks", "all", "--exclude-checks", &without.join(",")]).args(more);
    let said = run(&mut command).await;
    let tested = said.lines().find_map(|line| line.trim().strip_prefix("Tested: ")?.parse::<u32>().ok());
    assert!(tested.is_some_and(|tested| tested >= 10), "{said}");
}

async fn interrogate_all(examples: u32) {
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0")]).await;
    // A password that stands in no example, so that none of them closes the account.
    let body = json!({ "email": "tester@example.org", "password": "unlike that of the examples" });
    let access = Client::new(&server).post("/v1/auth/register", &body).await.expect(201).pair().access;
    let (admin, key) = administration(&folder, &server).await;

    interrogate(&folder, &server.url, examples, None, &[]).await;
    // The token stays good unless it is signed out.
    let signed_in = ["--exclude-operation-id", "logout", "--phases", "examples,coverage,fuzzing"];
    interrogate(&folder, &server.url, examples, Some(&access), &signed_in).await;
    interrogate(&folder, &admin, examples, Some(&key), &[]).await;
    let log = server.log();
    assert!(!log.contains("panicked") && !log.contains("\"internal_error\""), "{log}");
    server.stop().await;
}

/// The URL of the admin API, and a key for all of it.
async fn administration(folder: &Folder, server: &Server) -> (String, String) {
    let log = server.log();
    let address = log.split("admin=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let scopes = ["users:read", "users:write", "sessions:read", "sessions:write", "events:read"];
    let mut arguments = vec!["admin-key", "create", "--name", "tester"];
    arguments.extend(scopes.iter().flat_map(|scope| ["--scope", scope]));
    let made = folder.run(&arguments, &[]).await;
    let key = made.stdout.split_whitespace().find(|word| word.starts_with("csk_")).unwrap().to_owned();
    (format!("http://{address}"), key)
}

#[tokio::test]
async fn every_answer_to_made_up_requests_is_in_the_document() {
    interrogate_all(8).await;
}

#[tokio::test]
#[ignore = "minutes; ./test --slow"]
async fn slow_every_answer_to_thousands_of_made_up_requests_is_in_the_document() {
    interrogate_all(200).await;
}

#[tokio::test]
async fn the_client_in_the_documents_compiles_with_the_documents_types_and_works() {
    let how = "openapi-typescript is not there (npm install --prefix target/openapi-typescript …)";
    let modules = fetched("TEST_OPENAPI_TYPESCRIPT", "openapi-typescript/node_modules", how);
    let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let page = std::fs::read_to_string(documents.join("typescript.md")).unwrap();
    let folder = Folder::new();
    for name in ["client.ts", "try.ts", "tsconfig.json", "package.json"] {
        let text = std::fs::read_to_string(documents.join("typescript").join(name)).unwrap();
        assert!(!name.ends_with(".ts") || page.contains(&text), "docs/typescript.md has another {name}");
        std::fs::write(folder.path(name), text).unwrap();
    }
    let Some(modules) = modules else { return };
    std::os::unix::fs::symlink(&modules, folder.path("node_modules")).unwrap();

    let server = folder.serve().await;
    let tool = |name: &str| {
        let mut command = Command::new(modules.join(".bin").join(name));
        command.current_dir(folder.path(""));
        command
    };
    run(tool("openapi-typescript").arg(format!("{}/openapi.json", server.url)).args(["-o", "schema.ts"]))
        .await;
    run(tool("tsc").args(["-p", "."])).await;
    let said =
        run(Command::new("node").current_dir(folder.path("")).args(["built/try.js", &server.url])).await;
    let said: Vec<_> = said.lines().collect();
    let expected = [
        "registered: true",
        "refreshed: true",
        "still signed in: true",
        "signed out: missing_token",
        "wrong password: invalid_credentials",
        "signed in: true",
    ];
    assert_eq!(said, expected);

    // The types know the codes of each route: a code that it does not answer is a mistake in the program.
    let wrong = "import { Account } from './client.js';\nimport type { paths } from './schema.js';\n\
                 type Refusal = paths['/v1/auth/login']['post']['responses'][401]['content']['application/json'];\n\
                 export const right: Refusal['error'] = 'invalid_credentials';\n\
                 export const wrong: Refusal['error'] = 'email_taken';\nvoid Account;\n";
    std::fs::write(folder.path("wrong.ts"), wrong).unwrap();
    let output = tool("tsc").args(["-p", ".", "--noEmit"]).output().await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && complaint.contains("wrong.ts(5"), "{complaint}");
    assert_eq!(complaint.matches("error TS").count(), 1, "{complaint}");
    server.stop().await;
}

#[tokio::test]
async fn the_document_is_not_sent_twice_and_answers_have_the_members_that_it_tells() {
    let folder = Folder::new();
    let server = folder.serve().await;
    let client = Client::new(&server);
    let document = client.get("/openapi.json").await.expect(200);
    let tag = document.headers["etag"].to_str().unwrap();
    let again = client.request(reqwest::Method::GET, "/openapi.json").header("if-none-match", tag);
    let again = crate::client::send(again).await.unwrap().expect(304);
    assert_eq!((&*again.text, again.headers["etag"].to_str().unwrap()), ("", tag));
    assert_eq!(document.body["servers"][0]["url"], server.url);

    let registered = client.register("ada@example.org").await;
    let me = client.me(&registered.access).await.expect(200).body;
    let told = &document.body["components"]["schemas"]["User"];
    let members = |value: &serde_json::Value| {
        let mut names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        names.sort();
        names
    };
    assert_eq!(members(&me), members(&told["properties"]));
    assert_eq!(told["required"].as_array().unwrap().len(), members(&me).len());
    let login = client.try_login("ada@example.org", PASSWORD).await.expect(200).body;
    assert_eq!(members(&login), members(&document.body["components"]["schemas"]["Pair"]["properties"]));
    server.stop().await;
}
