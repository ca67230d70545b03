//! Metrics, on a listener of their own.

use crate::client::Client;
use crate::server::{Folder, PATIENCE, eventually};

#[tokio::test]
async fn the_revocation_view_is_measured_on_a_listener_of_its_own() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let folder = Folder::new();
    let server = folder.serve_with(&[("COUNTERSIGN_METRICS_LISTEN", &address)]).await;
    let client = Client::new(&server);
    let pair = client.register("ada@example.org").await;
    client.logout(&pair.refresh).await.expect(204);

    let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let url = format!("http://{address}/metrics");
    let read = async || http.get(&url).send().await.unwrap().text().await.unwrap();
    eventually("the entry is counted", async || read().await.contains("countersign_revocation_entries 1\n"))
        .await;
    let text = read().await;
    for name in [
        "countersign_revocation_view_age_seconds",
        "countersign_clock_offset_seconds 0",
        "polls_total{outcome=\"good\"}",
    ] {
        assert!(text.contains(name), "{name}: {text}");
    }
    assert!(!text.contains("ada") && !text.contains(&pair.refresh), "nobody's name is in them");
    client.get("/metrics").await.expect_error(404, "not_found");
    server.stop().await;
}
