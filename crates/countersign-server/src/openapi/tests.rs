//! The document, the routes that are mounted and `docs/api.md` say the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use countersign_core::store::{MemoryStore, Stores};
use countersign_http::{AllowedOrigins, TrustedProxies};
use countersign_testkit::TestBed;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

use super::*;
use crate::api_page;
use crate::app::{Way, admin_app, app};
use crate::audit::Trail;
use crate::operator::Operator;

const CONTRACT: &str = include_str!("../../docs/api.md");

struct Node {
    users: Router,
    admin: Router,
}

impl Node {
    async fn new() -> Self {
        Self::with(true).await
    }

    async fn with(is_native: bool) -> Self {
        let stores = Stores::from(MemoryStore::new());
        let auth =
            Auth::builder(stores.clone(), TestBed::secrets()).without_background().build().await.unwrap();
        let way = Way {
            shown_origin: ShownOrigin("http://127.0.0.1:1".to_owned()),
            is_https: false,
            allowed_origins: &AllowedOrigins::default(),
            proxies: TrustedProxies::default(),
            pages: None,
            requests: None,
            is_native,
            api_page: false,
        };
        let users = app(auth.clone(), way);
        let admin = admin_app(Operator { auth, stores, trail: Arc::new(Trail::default()) }, None);
        Self { users, admin }
    }
}

async fn ask(router: &Router, method: Method, path: &str) -> (StatusCode, HeaderMap, Value) {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let answer = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, serde_json::from_slice(&body).unwrap_or_default())
}

/// Every path and method that a router takes. A router does not tell its paths, except to whoever debugs it.
async fn mounted(router: &Router) -> BTreeSet<String> {
    let shown = format!("{router:?}");
    // The fallback is a router beside the one of the routes.
    let shown = shown.split("fallback_router").next().unwrap();
    let paths =
        shown.split("RouteId(").filter_map(|rest| rest.split_once("): \"")).filter_map(|(number, rest)| {
            let path = rest.split('"').next()?;
            (number.bytes().all(|byte| byte.is_ascii_digit()) && !path.contains("__private__"))
                .then_some(path)
        });
    let mut mounted = BTreeSet::new();
    for path in paths {
        // A document has no parameter that takes several segments.
        let path = &path.replace("{*", "{");
        let concrete = path.replace("{id}", "x").replace("{session}", "x").replace("{issuer}", "x");
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let (status, _, _) = ask(router, method.clone(), &concrete).await;
            if status != StatusCode::METHOD_NOT_ALLOWED {
                mounted.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(mounted.len() > 8, "the paths cannot be read from what a router shows any more: {shown}");
    mounted
}

/// The operations of a document by method and path.
fn described(document: &Value) -> BTreeMap<String, &Value> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, item)| {
        item.as_object()
            .unwrap()
            .iter()
            .map(move |(method, operation)| (format!("{} {path}", method.to_uppercase()), operation))
    });
    operations.collect()
}

fn names(operations: &BTreeMap<String, &Value>) -> BTreeSet<String> {
    operations.keys().cloned().collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_everything_in_it_is_a_route() {
    let node = Node::new().await;
    for router in [&node.users, &node.admin] {
        let (status, headers, document) = ask(router, Method::GET, PATH).await;
        assert_eq!(
            (status, &headers["content-type"]),
            (StatusCode::OK, &"application/json".parse().unwrap())
        );
        assert_eq!(
            (&document["openapi"], &document["info"]["version"]),
            (&"3.1.0".into(), &env!("CARGO_PKG_VERSION").into())
        );
        let (mounted, described) = (mounted(router).await, names(&described(&document)));
        let missing: Vec<_> = mounted.difference(&described).collect();
        let invented: Vec<_> = described.difference(&mounted).collect();
        assert!(
            missing.is_empty(),
            "mounted, but not in the document (openapi.rs, or the library's): {missing:?}"
        );
        assert!(invented.is_empty(), "in the document, but not mounted: {invented:?}");
    }
}

#[tokio::test]
async fn what_the_document_refers_to_is_in_it() {
    let node = Node::new().await;
    for router in [&node.users, &node.admin] {
        let (_, _, document) = ask(router, Method::GET, PATH).await;
        let text = document.to_string();
        let references: BTreeSet<_> =
            text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert!(references.len() > 3);
        for reference in references {
            assert!(document.pointer(reference).is_some(), "{reference}");
        }
        let schemes = document["components"]["securitySchemes"].as_object().unwrap();
        let mut ids = BTreeSet::new();
        for (name, operation) in described(&document) {
            assert!(
                ids.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "{name}: its id is another's"
            );
            let needed = operation["security"].as_array().into_iter().flatten();
            for scheme in needed.flat_map(|way| way.as_object().unwrap().keys()) {
                assert!(schemes.contains_key(scheme), "{name}: {scheme}");
            }
            let tags = operation["tags"].as_array().unwrap();
            assert!(tags.len() == 1 && operation["summary"].as_str().unwrap().ends_with('.'), "{name}");
        }
    }
    // The names of cookies are this server's.
    let (_, _, document) = ask(&node.users, Method::GET, PATH).await;
    assert_eq!(
        document["components"]["securitySchemes"]["accessCookie"]["name"],
        "__Host-countersign_access"
    );
}

#[tokio::test]
async fn under_other_rules_there_is_a_reason_in_place_of_a_document() {
    let (status, _, body) = ask(&Node::with(false).await.users, Method::GET, PATH).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert!(body["error_description"].as_str().unwrap().contains("COUNTERSIGN_PROFILE"), "{body}");
}

/// A row of a table of routes in `docs/api.md`.
#[derive(Debug)]
struct Row {
    route: String,
    scope: Option<String>,
    body: String,
    answer: String,
}

/// The rows between a heading and the next one of its rank.
fn rows(heading: &str) -> Vec<Row> {
    let section = CONTRACT.split_once(&format!("\n{heading}\n")).unwrap().1;
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| {
        let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let route = cells.first()?.strip_prefix('`')?.strip_suffix('`')?;
        let method = route.split(' ').next()?;
        if !["GET", "POST", "PATCH", "DELETE", "PUT"].contains(&method) {
            return None;
        }
        let (scope, body, answer) = match cells[1..] {
            [body, answer] => (None, body, answer),
            [scope, body, answer] => (Some(scope.trim_matches('`').to_owned()), body, answer),
            _ => panic!("{line}"),
        };
        Some(Row { route: route.to_owned(), scope, body: body.to_owned(), answer: answer.to_owned() })
    });
    let rows: Vec<_> = rows.collect();
    assert!(rows.len() > 8, "{heading}");
    rows
}

/// The texts between backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The numbers in a text that are statuses.
fn statuses(text: &str) -> BTreeSet<u16> {
    // What is between backticks is no status.
    let text: String = text.split('`').step_by(2).collect();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != ',');
    let numbers = words.filter_map(|word| word.trim_end_matches(',').parse().ok());
    numbers.filter(|number| (200..600).contains(number)).collect()
}

/// The codes of all refusals of an operation.
fn codes(document: &Value, operation: &Value) -> BTreeSet<(u16, String)> {
    let responses = operation["responses"].as_object().unwrap();
    let codes = responses.iter().flat_map(|(status, response)| {
        let response = resolved(document, response);
        let schema = response.pointer("/content/application~1json/schema/allOf/1/properties/error/enum");
        let codes = schema.and_then(Value::as_array).into_iter().flatten();
        codes.map(move |code| (status.parse().unwrap(), code.as_str().unwrap().to_owned()))
    });
    codes.collect()
}

/// What a reference leads to.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    value["$ref"].as_str().map_or(value, |reference| document.pointer(&reference[1..]).unwrap())
}

/// The properties of a schema, and of those that it is made of.
fn properties(document: &Value, schema: &Value) -> BTreeSet<String> {
    let schema = resolved(document, schema);
    let parts = ["anyOf", "allOf"].into_iter().filter_map(|name| schema[name].as_array()).flatten();
    let own = schema["properties"].as_object().into_iter().flat_map(|own| own.keys().cloned());
    parts.flat_map(|part| properties(document, part)).chain(own).collect()
}

#[tokio::test]
async fn the_contract_in_words_has_the_same_routes_bodies_answers_and_scopes() {
    let node = Node::new().await;
    for (router, heading) in [(&node.users, "## Routes"), (&node.admin, "## Admin API")] {
        let (_, _, document) = ask(router, Method::GET, PATH).await;
        let operations = described(&document);
        // Several rows may describe ways to use one route.
        let mut told: BTreeMap<String, Vec<Row>> = BTreeMap::new();
        for row in rows(heading) {
            told.entry(row.route.clone()).or_default().push(row);
        }
        // A page, which programs do not call.
        told.remove(&format!("GET {}", api_page::PATH));
        let routes: BTreeSet<_> = told.keys().cloned().collect();
        assert_eq!(routes, names(&operations), "docs/api.md, {heading} (left), and the document (right)");

        for (route, rows) in told {
            let operation = operations[&route];
            let documented: BTreeSet<u16> = operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                .map(|status| status.parse().unwrap())
                .collect();
            let mentioned: BTreeSet<u16> = rows.iter().flat_map(|row| statuses(&row.answer)).collect();
            let good =
                |all: &BTreeSet<u16>| all.iter().copied().filter(|status| *status < 400).collect::<Vec<_>>();
            assert_eq!(
                good(&mentioned),
                good(&documented),
                "{route}: docs/api.md (left) and the document (right)"
            );
            assert!(
                mentioned.is_subset(&documented),
                "{route}: {mentioned:?} in docs/api.md, {documented:?} in the document"
            );

            let codes: BTreeSet<_> = codes(&document, operation).into_iter().map(|(_, code)| code).collect();
            let words: BTreeSet<_> = rows.iter().flat_map(|row| quoted(&row.answer)).collect();
            for code in ErrorCode::ALL.into_iter().filter(|code| words.contains(code.as_str())) {
                assert!(codes.contains(code.as_str()), "{route}: {code} is in docs/api.md alone");
            }

            let content = operation["requestBody"]["content"].as_object();
            let content = content.and_then(|content| content.values().next());
            let schema = content.map_or(&Value::Null, |content| &content["schema"]);
            let members = properties(&document, schema);
            // Words between backticks that are no members.
            const OTHERS: [&str; 4] = ["null", "de", "jti", "/v1/auth/code"];
            let mut named: BTreeSet<String> =
                rows.iter().flat_map(|row| quoted(&row.body)).map(str::to_owned).collect();
            named.retain(|name| !OTHERS.contains(&&**name));
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let parameters = parameters.filter(|parameter| parameter["in"] == "query");
            let members: BTreeSet<String> = match members.is_empty() && !named.is_empty() {
                true => parameters.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect(),
                false => members,
            };
            let named_elsewhere = route.ends_with("/refresh");
            assert!(
                named == members || named_elsewhere,
                "{route}: {named:?} in docs/api.md, {members:?} in the document"
            );

            let scopes = &operation["security"][0]["adminKey"];
            let scope = rows.first().and_then(|row| row.scope.clone()).filter(|scope| scope != "–");
            assert_eq!(scopes.get(0).and_then(Value::as_str), scope.as_deref(), "{route}");
        }
    }
}

#[tokio::test]
async fn the_contract_in_words_has_the_same_codes_and_shapes() {
    let node = Node::new().await;
    let (_, _, users) = ask(&node.users, Method::GET, PATH).await;
    let (_, _, admin) = ask(&node.admin, Method::GET, PATH).await;

    let table = CONTRACT.split_once("| status | code | when |").unwrap().1.split("\n\n").next().unwrap();
    let mut told = BTreeSet::new();
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<_> = row.split(" | ").collect();
        let statuses: Vec<_> = statuses(cells[0]).into_iter().collect();
        for (index, code) in cells[1].split(", ").enumerate() {
            let status = *statuses.get(index).unwrap_or(&statuses[0]);
            told.insert((status, code.trim_matches('`').to_owned()));
        }
    }
    let all: BTreeSet<_> = ErrorCode::ALL.map(|code| (code.status().as_u16(), code.to_string())).into();
    assert_eq!(told, all, "docs/api.md (left) and ErrorCode (right)");
    let of =
        |document| described(document).values().flat_map(|one| codes(document, one)).collect::<BTreeSet<_>>();
    let mut documented = &of(&users) | &of(&admin);
    // What is no operation answers the one; the other is for programs whose routes ask for a recent login.
    documented.insert((405, "method_not_allowed".to_owned()));
    documented.insert((401, "fresh_token_required".to_owned()));
    assert_eq!(documented, all, "the documents (left) and ErrorCode (right)");

    for (name, document, schema, more) in [
        ("pair", &users, "Pair", &["device_token"][..]),
        ("user", &users, "User", &[]),
        ("session", &users, "Session", &[]),
        ("caller", &users, "Caller", &[]),
        ("event", &admin, "Event", &[]),
    ] {
        let shape = CONTRACT.split_once(&format!("- *{name}*: `{{")).unwrap().1.split('`').next().unwrap();
        let members = shape.split('"').skip(1).step_by(2).filter(|word| *word != "Bearer");
        let mut members: BTreeSet<_> = members.map(str::to_owned).collect();
        members.extend(more.iter().map(|name| (*name).to_owned()));
        let schema = &document["components"]["schemas"][schema];
        assert_eq!(
            members,
            properties(document, schema),
            "*{name}*: docs/api.md (left) and the document (right)"
        );
    }
    let shown = |document: &Value| properties(document, &document["components"]["schemas"]["User"]);
    let more: BTreeSet<_> = shown(&admin).difference(&shown(&users)).cloned().collect();
    assert_eq!(more, ["deleted_at", "disabled_at", "language"].map(str::to_owned).into());
    assert!(shown(&users).is_subset(&shown(&admin)));
}
