//! Metrics, on a listener of their own, and the documents about them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use reqwest::Method;
use serde_json::Value;

use crate::client::{Client, send};
use crate::server::{Folder, PATIENCE, eventually};

/// A metric as `docs/metrics.md` lists it: its kind, and the values of its labels, if they are known.
#[derive(Debug)]
struct Listed {
    kind: String,
    labels: BTreeMap<String, Option<BTreeSet<String>>>,
}

static PAGE: LazyLock<String> = LazyLock::new(|| documented("metrics.md"));
static ALERTS: LazyLock<String> = LazyLock::new(|| documented("metrics/alerts.yaml"));
static DASHBOARD: LazyLock<String> = LazyLock::new(|| documented("metrics/grafana.json"));

/// A file of `docs`, which the package of this crate does not have.
fn documented(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    std::fs::read_to_string(folder.join(name)).unwrap()
}

/// The part of the page that the code makes.
fn list() -> &'static str {
    let begin = "<!-- made by `countersign config reference --metrics` -->\n\n";
    PAGE.split_once(begin).unwrap().1.split_once("\n<!-- end -->").unwrap().0
}

fn listed() -> BTreeMap<String, Listed> {
    let rows = list().lines().filter_map(|line| line.strip_prefix("| `countersign_"));
    let listed = rows.map(|row| {
        let (name, rest) = row.split_once("` | ").unwrap();
        let [kind, labels, _] = rest.split(" | ").collect::<Vec<_>>()[..] else { panic!("{row}") };
        let labels = labels.split("; `").filter(|label| *label != "–").filter(|label| label.contains("`:"));
        let labels = labels.map(|label| {
            let (name, values) = label.trim_start_matches('`').split_once("`: ").unwrap();
            let values: Option<_> = values
                .split(", ")
                .map(|value| Some(value.strip_prefix('`')?.strip_suffix('`')?.to_owned()))
                .collect();
            (name.to_owned(), values)
        });
        (format!("countersign_{name}"), Listed { kind: kind.to_owned(), labels: labels.collect() })
    });
    listed.collect()
}

/// The labels in braces: `a="b",c=~"d"`, without the operators.
fn labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = after.split_once('"').unwrap().1.split_once('"').unwrap();
        labels.push((
            name.trim_matches(|c: char| !c.is_alphanumeric() && c != '_').to_owned(),
            value.to_owned(),
        ));
        rest = after;
    }
    labels
}

/// The listed metric of a series, and the labels that are its kind's own.
fn metric_of<'a>(series: &'a str, listed: &BTreeMap<String, Listed>) -> Option<&'a str> {
    let ends = ["_bucket", "_sum", "_count"];
    let base = ends.iter().find_map(|end| series.strip_suffix(end));
    let base = base.filter(|base| listed.get(*base).is_some_and(|metric| metric.kind == "histogram"));
    base.or_else(|| listed.contains_key(series).then_some(series))
}

#[tokio::test]
async fn the_list_of_metrics_is_that_of_the_code() {
    let printed = Folder::new().run(&["config", "reference", "--metrics"], &[]).await.stdout;
    assert!(
        printed == list(),
        "docs/metrics.md is not what the code says: put the output of `countersign config reference --metrics` into it"
    );
    assert!(listed().len() > 30, "the list is read");
}

/// Everything that is counted or measured while a real server is used is in the list, and the other way round.
#[tokio::test]
async fn sec_150_what_is_measured_is_listed_and_tells_of_no_user() {
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let folder = Folder::new();
    let settings = [
        ("COUNTERSIGN_METRICS_LISTEN", address.as_str()),
        ("COUNTERSIGN_ADMIN_LISTEN", "127.0.0.1:0"),
        ("COUNTERSIGN_REFRESH_GRACE", "0s"),
    ];
    let server = folder.serve_with(&settings).await;
    let client = Client::new(&server);
    let first = client.register("ada@example.org").await;
    client.try_login("ada@example.org", "no password of hers").await.expect_error(401, "invalid_credentials");
    let second = client.refresh(&first.refresh).await.expect(200).pair();
    client.refresh(&second.refresh).await.expect(200);
    client.refresh(&first.refresh).await.expect_error(401, "invalid_token");
    let other = client.login("ada@example.org").await;
    client.logout(&other.refresh).await.expect(204);
    send(client.request(Method::DELETE, "/v1/auth/sessions/canary")).await.unwrap().expect(401);
    client.get("/canary").await.expect_error(404, "not_found");
    client.get("/metrics").await.expect_error(404, "not_found");

    let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
    let url = format!("http://{address}/metrics");
    let read = async || http.get(&url).send().await.unwrap().text().await.unwrap();
    eventually("both revocations are read and the store was looked at", async || {
        let text = read().await;
        ["countersign_revocation_entries 2\n", "countersign_mails_waiting "]
            .iter()
            .all(|part| text.contains(part))
    })
    .await;
    let text = read().await;
    for line in [
        "countersign_logins_total{by=\"password\",outcome=\"succeeded\"} 1",
        "countersign_logins_total{by=\"password\",outcome=\"failed\"} 1",
        "countersign_logins_total{by=\"code\",outcome=\"failed\"} 0",
        "countersign_login_failures_total{by=\"stranger\"} 1",
        "countersign_refreshes_total{outcome=\"advanced\"} 2",
        "countersign_refreshes_total{outcome=\"reused\"} 1",
        "countersign_events_total{event=\"refresh_reused\"} 1",
        "countersign_requests_total{route=\"/v1/auth/login\",class=\"2xx\"} 1",
        "countersign_requests_total{route=\"/v1/auth/login\",class=\"4xx\"} 1",
        "countersign_requests_total{route=\"/v1/auth/sessions/{id}\",class=\"4xx\"} 1",
        "countersign_requests_total{route=\"none\",class=\"4xx\"} 2",
        "countersign_hash_seconds_count 3",
        "countersign_hash_wait_seconds_count 3",
        "countersign_ready{part=\"store\"} 1",
        "countersign_ready{part=\"clock\"} 1",
        "countersign_ready{part=\"revocations\"} 1",
        "countersign_store_errors_total{operation=\"advance\"} 0",
        "countersign_connections_refused_total{listener=\"users\",reason=\"address\"} 0",
        "countersign_clock_offset_seconds 0",
        "countersign_mails_waiting 0",
        "countersign_mails_dead 0",
        "countersign_mails_overdue_seconds 0",
        "countersign_audit_dropped_total 0",
        "countersign_revocation_polls_total{outcome=\"failed\"} 0",
    ] {
        assert!(text.lines().any(|known| known == line), "{line}: {text}");
    }
    for series in [
        "countersign_store_seconds_count{operation=\"advance\"}",
        "countersign_key_due_seconds{purpose=\"access\"}",
    ] {
        let value = text.lines().find_map(|line| line.strip_prefix(series)).unwrap().trim();
        assert!(value.parse::<f64>().unwrap() > 0.0, "{series} {value}");
    }
    for canary in ["ada", "canary", "127.0.0.1", &first.refresh, &first.access] {
        assert!(!text.contains(canary), "{canary}: {text}");
    }

    let listed = listed();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            assert_eq!(listed.get(name).map(|metric| metric.kind.as_str()), Some(kind), "{line}");
            seen.insert(name);
        } else if !line.starts_with('#') {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, found) = series.split_once('{').unwrap_or((series, ""));
            let metric = &listed[metric_of(name, &listed).unwrap_or_else(|| panic!("{line}"))];
            let found = labels(found).into_iter().filter(|(label, _)| label != "le");
            let names: BTreeSet<_> = found
                .map(|(label, value)| {
                    let values = metric.labels.get(&label).unwrap_or_else(|| panic!("{label}: {line}"));
                    assert!(values.as_ref().is_none_or(|values| values.contains(&value)), "{value}: {line}");
                    label
                })
                .collect();
            assert!(names.iter().eq(metric.labels.keys()), "{line}: {:?}", metric.labels);
        }
    }
    for name in listed.keys() {
        // It is there as soon as this server has read what another one has written.
        let needs_another = name == "countersign_revocation_lag_seconds";
        assert!(needs_another || seen.contains(name.as_str()), "{name} is listed and not measured");
    }
    server.stop().await;
}

/// Checks that all metrics, labels and values in this expression of Prometheus exist. Returns the metrics.
fn check(expression: &str, listed: &BTreeMap<String, Listed>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for part in expression.split("countersign_").skip(1) {
        let end = part.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(part.len());
        let name = format!("countersign_{}", &part[..end]);
        let metric =
            metric_of(&name, listed).unwrap_or_else(|| panic!("{name} does not exist: {expression}"));
        used.insert(metric.to_owned());
        let Some(selector) = part[end..].strip_prefix('{') else { continue };
        for (label, value) in labels(selector.split_once('}').unwrap().0) {
            if label == "instance" {
                continue;
            }
            let values = listed[metric].labels.get(&label);
            let values = values.unwrap_or_else(|| panic!("{name} has no {label}: {expression}"));
            let is_pattern = value.contains(['*', '|', '(']);
            assert!(
                is_pattern || values.as_ref().is_none_or(|values| values.contains(&value)),
                "{label} is never {value}: {expression}"
            );
        }
    }
    assert!(!used.is_empty(), "{expression}");
    used
}

#[test]
fn alert_rules_use_metrics_that_exist_and_say_what_to_do() {
    let listed = listed();
    let mut lines = ALERTS.lines().skip_while(|line| line.starts_with('#'));
    for expected in ["groups:", "  - name: countersign", "    rules:"] {
        assert_eq!(lines.next(), Some(expected));
    }
    let mut alerts = BTreeSet::new();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("      - alert: ").unwrap_or_else(|| panic!("{line}"));
        assert!(alerts.insert(name), "{name} is there twice");
        let mut value = |before: &str| {
            let line = lines.next().unwrap();
            line.strip_prefix(before).unwrap_or_else(|| panic!("{name}: {line}")).to_owned()
        };
        let expression = value("        expr: '");
        check(expression.strip_suffix('\'').unwrap(), &listed);
        let lasts = value("        for: ");
        assert!(
            lasts.strip_suffix(['s', 'm']).is_some_and(|number| number.parse::<u32>().is_ok()),
            "{lasts}"
        );
        value("        labels:");
        assert!(["critical", "warning"].contains(&value("          severity: ").as_str()), "{name}");
        value("        annotations:");
        assert!(value("          summary: '").ends_with('\''), "{name}");
        assert_eq!(value("          runbook: "), format!("docs/metrics.md#{}", name.to_lowercase()));
    }
    let told = PAGE.lines().filter_map(|line| line.strip_prefix("### Countersign"));
    let told: BTreeSet<_> = told.map(|name| format!("Countersign{name}")).collect();
    assert_eq!(told, alerts.into_iter().map(str::to_owned).collect(), "the page tells what to do for each");
}

#[test]
fn the_dashboard_shows_every_metric_and_none_that_does_not_exist() {
    let listed = listed();
    let dashboard: Value = serde_json::from_str(&DASHBOARD).unwrap();
    let mut used = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let is_row = panel["type"] == "row";
        let targets = panel["targets"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(is_row || !targets.is_empty(), "{panel}");
        for target in targets {
            used.extend(check(target["expr"].as_str().unwrap(), &listed));
        }
    }
    assert!(used.iter().eq(listed.keys()), "{used:?}");
}
