//! Traces of requests for an OpenTelemetry collector, in servers that are built with the feature `otel`.
//!
//! A trace has one span for each request, with the method, the pattern of its path and the status: nothing about a user.
//! What the log says of a request is not in it. The `traceparent` of a request (W3C Trace Context) makes the span part of
//! the caller's trace.

#[cfg(not(feature = "otel"))]
pub(crate) use off::{Traces, layer};
#[cfg(feature = "otel")]
pub(crate) use on::{Traces, layer};

use axum::extract::{MatchedPath, Request};
use http::StatusCode;
use tracing::Span;

/// Begins the trace of a request in its span, if there are traces.
pub(crate) fn begin(span: &Span, request: &Request) {
    #[cfg(feature = "otel")]
    on::begin(
        span,
        request.method(),
        request.extensions().get::<MatchedPath>().map(MatchedPath::as_str),
        request.headers(),
    );
    #[cfg(not(feature = "otel"))]
    let _: (&Span, &Request, Option<&MatchedPath>) = (span, request, None);
}

/// Notes how the request was answered.
pub(crate) fn end(span: &Span, status: StatusCode) {
    #[cfg(feature = "otel")]
    on::end(span, status);
    #[cfg(not(feature = "otel"))]
    let _: (&Span, StatusCode) = (span, status);
}

#[cfg(not(feature = "otel"))]
mod off {
    use std::convert::Infallible;

    use tracing_subscriber::layer::Identity;
    use url::Url;

    /// No traces.
    #[derive(Debug)]
    pub(crate) struct Traces;

    impl Traces {
        /// Nothing, because the settings refuse a collector then.
        pub(crate) fn start(_: Option<&Url>) -> Result<Option<Self>, Infallible> {
            Ok(None)
        }
    }

    pub(crate) fn layer(_: Option<&Traces>) -> Option<Identity> {
        None
    }
}

#[cfg(feature = "otel")]
mod on {
    use std::error::Error;

    use http::{HeaderMap, Method, StatusCode};
    use opentelemetry::KeyValue;
    use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
    use opentelemetry::trace::{Status, TracerProvider as _};
    use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::propagation::TraceContextPropagator;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing::{Span, Subscriber};
    use tracing_opentelemetry::OpenTelemetrySpanExt as _;
    use tracing_subscriber::registry::LookupSpan;
    use tracing_subscriber::{Layer, filter};
    use url::Url;

    /// What carries spans to the collector. Dropping it sends those that wait.
    #[derive(Debug)]
    pub(crate) struct Traces(SdkTracerProvider);

    impl Traces {
        /// Carries spans to the collector at this URL, if there is one. Its path is `/v1/traces` below that URL.
        pub(crate) fn start(collector: Option<&Url>) -> Result<Option<Self>, Box<dyn Error>> {
            let Some(collector) = collector else { return Ok(None) };
            let url = format!("{}/v1/traces", collector.as_str().trim_end_matches('/'));
            let exporter = SpanExporter::builder().with_http().with_endpoint(url).build()?;
            let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
            let server = Resource::builder().with_service_name("countersign").with_attribute(version).build();
            let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(server);
            Ok(Some(Self(provider.build())))
        }
    }

    impl Drop for Traces {
        fn drop(&mut self) {
            if let Err(error) = self.0.shutdown() {
                tracing::warn!(error = &error as &dyn Error, "the last traces could not be sent");
            }
        }
    }

    /// The layer that makes traces of the spans of this server, and of nothing else, if there are traces.
    pub(crate) fn layer<S>(traces: Option<&Traces>) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let ours =
            filter::filter_fn(|metadata| metadata.is_span() && metadata.target().starts_with("countersign"));
        let layer = tracing_opentelemetry::layer()
            .with_tracer(traces?.0.tracer("countersign"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        Some(layer.with_filter(ours))
    }

    pub(super) fn begin(span: &Span, method: &Method, route: Option<&str>, headers: &HeaderMap) {
        // Without the layer both do nothing.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Fields(headers)));
        // A method that nobody knows is a client's own text.
        let known = [
            Method::GET,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::HEAD,
            Method::OPTIONS,
        ];
        let method = if known.contains(method) { method.as_str() } else { "_OTHER" };
        span.set_attribute("http.request.method", method.to_owned());
        if let Some(route) = route {
            span.set_attribute("http.route", route.to_owned());
        }
    }

    pub(super) fn end(span: &Span, status: StatusCode) {
        span.set_attribute("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
    }

    /// The fields of a request that carry the caller's trace.
    struct Fields<'h>(&'h HeaderMap);

    impl Extractor for Fields<'_> {
        fn get(&self, name: &str) -> Option<&str> {
            self.0.get(name)?.to_str().ok()
        }

        fn keys(&self) -> Vec<&str> {
            self.0.keys().map(http::HeaderName::as_str).collect()
        }
    }
}
