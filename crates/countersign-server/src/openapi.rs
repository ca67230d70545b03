//! `GET /openapi.json`: the HTTP contract as an OpenAPI 3.1 document, of this server and its cookies.
//!
//! The library describes the routes that it mounts, and this module those that the server adds. A route that is
//! mounted and not described, or the other way round, fails the tests of this module; so does a difference to
//! `docs/api.md`.

mod admin;
#[cfg(test)]
mod tests;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use countersign_axum::openapi::{Operation, account_routes, document, routes, security, standard_routes};
use countersign_axum::{Auth, Reply};
use countersign_http::{Answer, ErrorCode};
use http::{HeaderMap, StatusCode};
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::server::Server;
use utoipa::openapi::tag::Tag;
use utoipa::openapi::{
    ContactBuilder, Info, InfoBuilder, License, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr,
};

pub(crate) use self::admin::admin;
use crate::fixed::Fixed;
use crate::home::{CONTRACT_PATH, Home, ShownOrigin};
use crate::whoami::{self, WhoAmI};

/// The path at which a document is served.
pub(crate) const PATH: &str = "/openapi.json";

/// The document of the main listener.
pub(crate) fn users(auth: &Auth, origin: &ShownOrigin) -> OpenApi {
    let document = frame("Countersign", ABOUT)
        .servers(Some([Server::new(&origin.0)]))
        .tags(Some(TAGS.map(Tag::new)))
        .build()
        .merge_from(security(auth))
        .merge_from(account_routes(auth))
        .merge_from(routes(auth))
        .merge_from(standard_routes())
        .merge_from(document(own()));
    with_request_ids(document)
}

/// What this server adds to the library's routes.
fn own() -> Vec<Operation> {
    const OK: StatusCode = StatusCode::OK;
    vec![
        Operation::get(whoami::PATH, "whoami", SERVER)
            .summary("Shows what the server sees of the caller.")
            .description("For whoever sets up a proxy.")
            .answers::<WhoAmI>(OK, "The caller."),
        Operation::get("/", "home", SERVER)
            .summary("Says what this is.")
            .description("For clients that ask for HTML, the first page.")
            .answers::<Home>(OK, "Name and version."),
        described(),
        Operation::get(CONTRACT_PATH, "contract", SERVER).summary("The contract in words.").answers_as(
            "text/markdown",
            OK,
            "A page in Markdown.",
        ),
        Operation::get("/healthz", "healthz", SERVER)
            .summary("Whether the server runs.")
            .answers::<Status>(OK, "It does."),
        Operation::get("/readyz", "readyz", SERVER)
            .summary("Whether the server can answer.")
            .answers::<Status>(OK, "It can.")
            .refuses([ErrorCode::Unavailable]),
    ]
}

/// The document itself.
fn described() -> Operation {
    Operation::get(PATH, "openapi", SERVER)
        .summary("This document.")
        .answers_as("application/json", StatusCode::OK, "An OpenAPI document.")
        .header(StatusCode::OK, "ETag", "By which a client asks whether it has changed.")
        .answers_nothing(StatusCode::NOT_MODIFIED, "It has not changed.")
}

/// The answer of `/healthz` and `/readyz`.
#[derive(serde::Serialize, ToSchema)]
pub(crate) struct Status {
    /// Always `ok`.
    pub(crate) status: &'static str,
}

fn frame(title: &str, about: &str) -> OpenApiBuilder {
    let license = License::new("MIT OR Apache-2.0");
    let contact = ContactBuilder::new().url(Some(env!("CARGO_PKG_REPOSITORY"))).build();
    let info: Info = InfoBuilder::new()
        .title(title)
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(about))
        .license(Some(license))
        .contact(Some(contact))
        .build();
    OpenApiBuilder::new().info(info)
}

/// Adds the header that every answer of the server has.
fn with_request_ids(mut document: OpenApi) -> OpenApi {
    let components = document.components.get_or_insert_default();
    let text = ObjectBuilder::new().schema_type(Type::String);
    let id = HeaderBuilder::new().schema(Some(text)).description(Some("Names the request in the log."));
    components.headers.insert("RequestId".to_owned(), RefOr::T(id.build()));
    let own = document.paths.paths.values_mut().flat_map(answers);
    for answer in components.responses.values_mut().chain(own) {
        if let RefOr::T(answer) = answer {
            let id = Ref::new("#/components/headers/RequestId");
            answer.headers.insert("X-Request-Id".to_owned(), RefOr::Ref(id));
        }
    }
    document
}

fn answers(item: &mut PathItem) -> impl Iterator<Item = &mut RefOr<utoipa::openapi::Response>> {
    let operations = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten();
    operations.flat_map(|operation| operation.responses.responses.values_mut())
}

/// What is served at [`PATH`]: a document or, under the rules of another library, the reason why there is none.
#[derive(Clone, Debug)]
pub(crate) enum Served {
    Document(Fixed),
    /// Refusals and tokens have the forms of another library, which the document does not describe.
    OtherRules,
}

impl Served {
    pub(crate) fn new(document: &OpenApi) -> Self {
        // A document has no map whose keys are not text, which is what could not be written.
        let text = serde_json::to_vec(document).unwrap_or_default();
        Self::Document(Fixed::new(text, "application/json", "public, max-age=300"))
    }
}

pub(crate) async fn serve(State(served): State<Served>, headers: HeaderMap) -> Response {
    match served {
        Served::Document(document) => document.answer(&headers),
        Served::OtherRules => {
            const WHY: &str = "Under COUNTERSIGN_PROFILE there is no OpenAPI document, because refusals have the \
                               form of another library. /docs/api.md, Profiles, describes them.";
            Reply(Answer::error_with(ErrorCode::NotFound, WHY)).into_response()
        }
    }
}

const ABOUT: &str = "Registration, login, tokens and sessions. `/docs/api.md` tells in words what this document cannot: the \
                     order of checks, the rules of cookies, the limits.\n\nEvery error is `{\"error\":\"<code>\",\
                     \"error_description\":\"<sentence>\"}`.";

const SERVER: &str = "The server";

/// The tags, in the order in which they are read.
const TAGS: [&str; 5] = ["Signing in and out", "The account", "Sessions", "For services", SERVER];
