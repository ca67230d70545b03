//! One operation of a document: a method of a path, what it takes and every answer that it has.

use std::collections::BTreeMap;
use std::fmt;

use countersign_http::ErrorCode;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AllOfBuilder, ComponentsBuilder, ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{
    ContentBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Required, ResponseBuilder, ResponsesBuilder,
};

use super::bodies::Error;

/// How a request to an operation says who it comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Credential {
    /// An access token: a bearer token or the cookie, which needs its CSRF value unless the method is safe.
    Access,
    /// An access token, or none.
    OptionalAccess,
    /// A refresh token: in the body, as a bearer token or in the cookie.
    Refresh,
    /// Any token of a session, wherever it is.
    Any,
}

/// A method of a path, what it takes and every answer that it has. [`document`] makes a document of operations.
///
/// ```
/// use countersign_axum::openapi::{Credential, Operation, document};
/// use countersign_http::ErrorCode;
/// use http::StatusCode;
/// use utoipa::ToSchema;
///
/// /// An invoice.
/// #[derive(ToSchema)]
/// struct Invoice {
///     /// In cents.
///     amount: u64,
/// }
///
/// let read = Operation::get("/invoices/{id}", "invoice", "Invoices")
///     .summary("Shows an invoice.")
///     .path_parameter("id", "The invoice's id.")
///     .credential(Credential::Access)
///     .answers::<Invoice>(StatusCode::OK, "The invoice.")
///     .refuses([ErrorCode::NotFound]);
/// let document = serde_json::to_value(document([read]))?;
/// let answers = document["paths"]["/invoices/{id}"]["get"]["responses"].as_object().unwrap();
/// // What every protected route answers is there too.
/// assert_eq!(answers.keys().collect::<Vec<_>>(), ["200", "400", "401", "404", "500", "503"]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[must_use]
pub struct Operation {
    method: Method,
    path: &'static str,
    operation: OperationBuilder,
    body: Option<(&'static str, RefOr<Schema>)>,
    body_examples: Vec<Value>,
    needs_body: bool,
    answers: BTreeMap<u16, Success>,
    refusals: BTreeMap<u16, Vec<ErrorCode>>,
    schemas: Vec<(String, RefOr<Schema>)>,
    /// Answers that other operations have too.
    shared: Vec<(String, ResponseBuilder)>,
}

/// An answer that is no refusal.
struct Success {
    description: String,
    content: Option<(&'static str, RefOr<Schema>)>,
    example: Option<Value>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Operation {
    fn new(method: Method, path: &'static str, id: &str, tag: &str) -> Self {
        let operation = OperationBuilder::new().operation_id(Some(id)).tag(tag);
        let new = Self {
            method,
            path,
            operation,
            body: None,
            body_examples: Vec::new(),
            needs_body: false,
            answers: BTreeMap::new(),
            refusals: BTreeMap::new(),
            schemas: Vec::new(),
            shared: Vec::new(),
        };
        // Any request may be malformed, and any answer the mark of a defect.
        new.refuses([ErrorCode::InvalidRequest, ErrorCode::InternalError]).schema::<Error>()
    }

    /// `GET` of a path, with the operation's id, which generated clients call it by, and the tag it is listed under.
    pub fn get(path: &'static str, id: &str, tag: &str) -> Self {
        Self::new(Method::GET, path, id, tag)
    }

    /// `POST` of a path.
    pub fn post(path: &'static str, id: &str, tag: &str) -> Self {
        Self::new(Method::POST, path, id, tag)
    }

    /// `PATCH` of a path.
    pub fn patch(path: &'static str, id: &str, tag: &str) -> Self {
        Self::new(Method::PATCH, path, id, tag)
    }

    /// `DELETE` of a path.
    pub fn delete(path: &'static str, id: &str, tag: &str) -> Self {
        Self::new(Method::DELETE, path, id, tag)
    }

    /// What it does, in a sentence.
    pub fn summary(self, summary: &str) -> Self {
        self.change(|operation| operation.summary(Some(summary)))
    }

    /// What else there is to say, as Markdown.
    pub fn description(self, description: &str) -> Self {
        self.change(|operation| operation.description(Some(description)))
    }

    /// The credential that a request shows, with the refusals of those that do not show it.
    pub fn credential(self, credential: Credential) -> Self {
        let is_safe = self.method.is_safe();
        let mut ways: Vec<&[&str]> = match (credential, is_safe) {
            (Credential::Access | Credential::OptionalAccess, true) => vec![&[BEARER], &[ACCESS_COOKIE]],
            (Credential::Access | Credential::OptionalAccess, false) => {
                vec![&[BEARER], &[ACCESS_COOKIE, CSRF]]
            }
            (Credential::Refresh, _) => vec![&[], &[BEARER], &[REFRESH_COOKIE, CSRF]],
            (Credential::Any, _) => vec![&[], &[BEARER], &[ACCESS_COOKIE, CSRF], &[REFRESH_COOKIE, CSRF]],
        };
        if credential == Credential::OptionalAccess {
            ways.insert(0, &[]);
        }
        let ways = ways.into_iter().map(requirement);
        let this = self.change(|operation| operation.securities(Some(ways)));
        let this = this.refuses([ErrorCode::MissingToken, ErrorCode::InvalidToken, ErrorCode::Unavailable]);
        if is_safe { this } else { this.refuses([ErrorCode::CsrfFailed, ErrorCode::CrossSite]) }
    }

    /// Another security scheme of the document, by which a request is authenticated, and the scopes that it needs.
    pub fn scheme(self, name: &str, scopes: &[&str]) -> Self {
        let requirement = SecurityRequirement::new(name, scopes.iter().copied());
        self.change(|operation| operation.security(requirement))
    }

    /// A required body of JSON, with the refusals of others.
    pub fn body<T: ToSchema>(self) -> Self {
        let mut this = self.optional_body::<T>();
        this.needs_body = true;
        this
    }

    /// A body of JSON that may be left out, with the refusals of others.
    pub fn optional_body<T: ToSchema>(self) -> Self {
        let mut this = self.schema::<T>();
        this.body = Some(("application/json", reference::<T>()));
        this.refuses([ErrorCode::TooLarge, ErrorCode::UnsupportedMediaType, ErrorCode::InvalidFields])
    }

    /// A required body that is a form, with the refusals of others.
    pub fn form<T: ToSchema>(self) -> Self {
        let mut this = self.schema::<T>();
        this.body = Some(("application/x-www-form-urlencoded", reference::<T>()));
        this.needs_body = true;
        this.refuses([ErrorCode::TooLarge, ErrorCode::UnsupportedMediaType])
    }

    /// An example of the body.
    pub fn body_example(mut self, example: Value) -> Self {
        self.body_examples.push(example);
        self
    }

    /// A parameter in the path.
    pub fn path_parameter(self, name: &str, description: &str) -> Self {
        self.parameter(name, ParameterIn::Path, description, Type::String)
    }

    /// An optional parameter in the query.
    pub fn query(self, name: &str, description: &str) -> Self {
        self.parameter(name, ParameterIn::Query, description, Type::String)
    }

    /// An optional parameter in the query that is one of these.
    pub fn query_of(self, name: &str, description: &str, values: &[&str]) -> Self {
        let values = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values.to_vec()));
        let parameter = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Query);
        let parameter = parameter.required(Required::False).description(Some(description));
        self.change(|operation| operation.parameter(parameter.schema(Some(values))))
    }

    /// `limit` and `next`, by which a list is read page by page.
    pub fn pages(self) -> Self {
        let limit = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(1))
            .maximum(Some(100))
            .default(Some(json!(100)));
        let parameter = ParameterBuilder::new().name("limit").parameter_in(ParameterIn::Query);
        let parameter = parameter.required(Required::False).description(Some("The most to return."));
        self.change(|operation| operation.parameter(parameter.schema(Some(limit))))
            .query("next", "The text `next` of the page before.")
    }

    fn parameter(self, name: &str, place: ParameterIn, description: &str, kind: Type) -> Self {
        let is_required = if place == ParameterIn::Path { Required::True } else { Required::False };
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(place)
            .required(is_required)
            .description(Some(description))
            .schema(Some(ObjectBuilder::new().schema_type(kind)));
        self.change(|operation| operation.parameter(parameter))
    }

    /// An answer with a body of JSON.
    pub fn answers<T: ToSchema>(self, status: StatusCode, description: &str) -> Self {
        self.answers_in::<T>("application/json", status, description)
    }

    /// An answer with a body of JSON that has a media type of its own.
    pub fn answers_in<T: ToSchema>(
        self,
        media_type: &'static str,
        status: StatusCode,
        description: &str,
    ) -> Self {
        self.schema::<T>().success(status, description, Some((media_type, reference::<T>())))
    }

    /// An answer with any other body.
    pub fn answers_as(self, media_type: &'static str, status: StatusCode, description: &str) -> Self {
        let any = RefOr::T(ObjectBuilder::new().schema_type(SchemaType::AnyValue).build().into());
        self.success(status, description, Some((media_type, any)))
    }

    /// An answer without a body.
    pub fn answers_nothing(self, status: StatusCode, description: &str) -> Self {
        self.success(status, description, None)
    }

    fn success(
        mut self,
        status: StatusCode,
        description: &str,
        content: Option<(&'static str, RefOr<Schema>)>,
    ) -> Self {
        let answer =
            Success { description: description.to_owned(), content, example: None, headers: Vec::new() };
        self.answers.insert(status.as_u16(), answer);
        self
    }

    /// An example of the body of the answer with this status.
    pub fn example(mut self, status: StatusCode, example: Value) -> Self {
        if let Some(answer) = self.answers.get_mut(&status.as_u16()) {
            answer.example = Some(example);
        }
        self
    }

    /// A header of the answer with this status.
    pub fn header(mut self, status: StatusCode, name: &'static str, description: &'static str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status.as_u16()) {
            answer.headers.push((name, description));
        }
        self
    }

    /// Refusals with these codes.
    pub fn refuses(mut self, codes: impl IntoIterator<Item = ErrorCode>) -> Self {
        for code in codes {
            let known = self.refusals.entry(code.status().as_u16()).or_default();
            if !known.contains(&code) {
                known.push(code);
            }
        }
        self
    }

    /// Adds the schema of a type to those of the document.
    pub(super) fn schema<T: ToSchema>(mut self) -> Self {
        self.schemas.push((T::name().into_owned(), T::schema()));
        T::schemas(&mut self.schemas);
        self
    }

    fn change(mut self, change: impl FnOnce(OperationBuilder) -> OperationBuilder) -> Self {
        self.operation = change(self.operation);
        self
    }

    fn build(mut self, components: ComponentsBuilder) -> (&'static str, PathItem, ComponentsBuilder) {
        let mut responses = ResponsesBuilder::new();
        for (status, answer) in self.answers {
            responses = responses.response(status.to_string(), answer.build());
        }
        for (status, codes) in &self.refusals {
            let name = refusal_name(codes);
            responses = responses.response(status.to_string(), Ref::from_response_name(&name));
            self.shared.push((name, refusal(*status, codes)));
        }
        let mut operation = self.operation.responses(responses);
        if let Some((media_type, schema)) = self.body {
            let content = ContentBuilder::new().schema(Some(schema));
            let content = match <[Value; 1]>::try_from(self.body_examples) {
                Ok([only]) => content.example(Some(only)),
                Err(examples) => {
                    content.examples_from_iter(examples.into_iter().zip(1..).map(|(value, number)| {
                        (
                            number.to_string(),
                            utoipa::openapi::example::ExampleBuilder::new().value(Some(value)).build(),
                        )
                    }))
                }
            };
            let needed = if self.needs_body { Required::True } else { Required::False };
            let body = RequestBodyBuilder::new().content(media_type, content.build());
            operation = operation.request_body(Some(body.required(Some(needed)).build()));
        }
        let method = match self.method {
            Method::POST => HttpMethod::Post,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        let components = components.schemas_from_iter(self.schemas).responses_from_iter(self.shared);
        (self.path, PathItem::new(method, operation), components)
    }
}

impl fmt::Debug for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operation({} {})", self.method, self.path)
    }
}

impl Success {
    fn build(self) -> ResponseBuilder {
        let mut response = ResponseBuilder::new().description(self.description);
        if let Some((media_type, schema)) = self.content {
            let content = ContentBuilder::new().schema(Some(schema)).example(self.example);
            response = response.content(media_type, content.build());
        }
        for (name, description) in self.headers {
            response = response.header(name, text_header(description));
        }
        response
    }
}

/// The document of these operations, without title and security schemes. Merged with others by
/// [`OpenApi::merge_from`].
pub fn document(operations: impl IntoIterator<Item = Operation>) -> OpenApi {
    let (mut paths, mut components) = (PathsBuilder::new(), ComponentsBuilder::new());
    for operation in operations {
        let (path, item, with_its_own) = operation.build(components);
        paths = paths.path(path, item);
        components = with_its_own;
    }
    OpenApiBuilder::new().paths(paths).components(Some(components.build())).build()
}

/// What the refusals with these codes are called among the shared answers.
fn refusal_name(codes: &[ErrorCode]) -> String {
    let mut names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    names.sort_unstable();
    names.join(".")
}

/// The refusals of one status.
fn refusal(status: u16, codes: &[ErrorCode]) -> ResponseBuilder {
    let told: Vec<_> = codes.iter().map(|code| format!("`{code}`: {}", code.description())).collect();
    let names = codes.iter().map(|code| code.as_str());
    let code = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    // It says which of all codes an answer of this status has here, so that a client that is made from the document
    // can tell them apart.
    let narrowed = ObjectBuilder::new().property("error", code).required("error");
    let error = AllOfBuilder::new().item(reference::<Error>()).item(narrowed);
    let content = ContentBuilder::new().schema(Some(error));
    let content = content.example(codes.first().map(|code| {
        let description = code.description();
        match code {
            ErrorCode::InvalidFields => {
                let fields = json!({ "password": "must have at least 8 characters" });
                json!({ "error": code.as_str(), "error_description": description, "fields": fields })
            }
            _ => json!({ "error": code.as_str(), "error_description": description }),
        }
    }));
    let mut response = ResponseBuilder::new().description(told.join("\n\n"));
    response = response.content("application/json", content.build());
    if status == 401 || codes.contains(&ErrorCode::InsufficientScope) {
        response = response.header("WWW-Authenticate", text_header("The challenge (RFC 6750 §3)."));
    }
    if status == 429 || status == 503 {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
        let header = HeaderBuilder::new().schema(Some(seconds));
        let header = header.description(Some("The seconds after which to try again."));
        response = response.header("Retry-After", header.build());
    }
    response
}

fn text_header(description: &str) -> utoipa::openapi::header::Header {
    let text = ObjectBuilder::new().schema_type(Type::String);
    HeaderBuilder::new().schema(Some(text)).description(Some(description)).build()
}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    Ref::from_schema_name(T::name()).into()
}

fn requirement(schemes: &[&str]) -> SecurityRequirement {
    schemes.iter().fold(SecurityRequirement::default(), |all, name| all.add(*name, [""; 0]))
}

/// The names of the security schemes.
pub(super) const BEARER: &str = "bearer";
pub(super) const CLIENT: &str = "client";
pub(super) const ACCESS_COOKIE: &str = "accessCookie";
pub(super) const REFRESH_COOKIE: &str = "refreshCookie";
pub(super) const CSRF: &str = "csrf";
