//! Traces of requests.

use crate::server::Folder;

#[cfg(not(feature = "otel"))]
#[tokio::test]
async fn a_server_without_traces_says_so() {
    let settings = [("COUNTERSIGN_LISTEN", "127.0.0.1:0"), ("COUNTERSIGN_OTLP_URL", "http://127.0.0.1:4318")];
    let refused = Folder::new().run(&[], &settings).await;
    refused.assert_refused(&["COUNTERSIGN_OTLP_URL", "--features otel"]);
}

#[cfg(feature = "otel")]
#[tokio::test]
async fn a_request_is_part_of_its_callers_trace_and_tells_of_no_user() {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::extract::State;
    use axum::routing::post;
    use bytes::Bytes;
    use reqwest::Method;
    use serde_json::json;

    use crate::client::{Client, send};

    type Received = Arc<Mutex<Vec<Bytes>>>;

    let received = Received::default();
    let take = async |State(received): State<Received>, body: Bytes| received.lock().unwrap().push(body);
    let collector = Router::new().route("/v1/traces", post(take)).with_state(received.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, collector).await });

    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_OTLP_URL", &url), ("COUNTERSIGN_LOG", "trace")]).await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    let trace: [u8; 16] = std::array::from_fn(|index| 0xa0 + u8::try_from(index).unwrap());
    let shown: String = trace.iter().map(|byte| format!("{byte:02x}")).collect();
    let login = client.request(Method::POST, "/v1/auth/login?canary=1");
    let login = login.header("traceparent", format!("00-{shown}-b7ad6b7169203331-01"));
    let login = login.json(&json!({ "email": "ada@example.org", "password": "canary" }));
    send(login).await.unwrap().expect_error(401, "invalid_credentials");
    // What waits is sent at the end.
    server.stop().await;

    // A collector that is not there holds nothing up, and the log tells of it.
    let gone = folder.serve_with(&[("COUNTERSIGN_OTLP_URL", "http://127.0.0.1:9")]).await;
    let log = gone.log_path().to_owned();
    Client::new(&gone).get("/healthz").await.expect(200);
    gone.stop().await;
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("ERROR opentelemetry_sdk") || log.contains("WARN opentelemetry"), "{log}");

    let all = received.lock().unwrap().concat();
    let holds = |wanted: &[u8]| all.windows(wanted.len()).any(|part| part == wanted);
    for wanted in [
        "countersign",
        "http.route",
        "/v1/auth/login",
        "/v1/auth/register",
        "http.response.status_code",
        "POST",
    ] {
        assert!(holds(wanted.as_bytes()), "{wanted}: {}", String::from_utf8_lossy(&all));
    }
    assert!(holds(&trace), "the caller's trace");
    for secret in ["ada", "canary", pair.access.as_str(), pair.refresh.as_str()] {
        assert!(!holds(secret.as_bytes()), "{secret}: {}", String::from_utf8_lossy(&all));
    }
}
