//! All metrics. What a name, a label or a value means is written here once: descriptions in the scrape and the list in
//! `docs/metrics.md` are made from it.

use metrics::{Counter, Gauge, Histogram, Unit};

use super::stores::OPERATIONS;

/// A metric.
#[derive(Debug)]
pub(crate) struct Metric {
    /// The name, which ends in `_total` for a counter, and in the unit where there is one.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [Label],
    /// What the value is, as a sentence without a full stop.
    pub(crate) means: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
    /// Counts of observations up to each of these bounds.
    Histogram(&'static [f64]),
}

/// A label of a metric. No label holds anything about a user (SEC-150).
#[derive(Debug)]
pub(crate) struct Label {
    pub(crate) name: &'static str,
    pub(crate) values: Values,
}

#[derive(Debug)]
pub(crate) enum Values {
    /// One of these.
    Of(&'static [&'static str]),
    /// Any of what this describes; the server alone chooses them.
    Any(&'static str),
}

const fn of(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Of(values) }
}

/// Bounds for calls of the store, which take from tens of microseconds to the deadline.
const STORE_BOUNDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Bounds for whole requests, from a verified token to a login that waits for its hash.
const REQUEST_BOUNDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Bounds for hashing and for waiting to hash.
const HASH_BOUNDS: &[f64] = &[0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

const LISTENERS: Label = of("listener", &["users", "admin"]);
const PURPOSES: Label = of("purpose", &["access", "refresh"]);

pub(crate) const BUILD_INFO: Metric = Metric {
    name: "countersign_build_info",
    kind: Kind::Gauge,
    labels: &[Label { name: "version", values: Values::Any("the server's version") }],
    means: "Always 1",
};
pub(crate) const READY: Metric = Metric {
    name: "countersign_ready",
    kind: Kind::Gauge,
    labels: &[of("part", &["store", "clock", "revocations"])],
    means: "1 if this part of the server is ready, else 0, as `/readyz` says. Looked at every 15 s",
};
pub(crate) const CONNECTIONS_OPEN: Metric = Metric {
    name: "countersign_connections_open",
    kind: Kind::Gauge,
    labels: &[LISTENERS],
    means: "Connections that have a place",
};
pub(crate) const CONNECTIONS_LIMIT: Metric = Metric {
    name: "countersign_connections_limit",
    kind: Kind::Gauge,
    labels: &[LISTENERS],
    means: "Places for connections",
};
pub(crate) const CONNECTIONS_REFUSED: Metric = Metric {
    name: "countersign_connections_refused_total",
    kind: Kind::Counter,
    labels: &[LISTENERS, of("reason", &["address", "proxy_protocol", "tls"])],
    means: "Connections that were closed before their first request: their address has too many, a trusted proxy did not \
            speak the PROXY protocol, or the TLS handshake failed",
};
pub(crate) const CONNECTIONS_EVICTED: Metric = Metric {
    name: "countersign_connections_evicted_total",
    kind: Kind::Counter,
    labels: &[LISTENERS],
    means: "Idle connections that gave up their places, because all were taken",
};

pub(crate) const REQUESTS: Metric = Metric {
    name: "countersign_requests_total",
    kind: Kind::Counter,
    labels: &[ROUTES, of("class", &["1xx", "2xx", "3xx", "4xx", "5xx"])],
    means: "Requests that were answered, by the class of the status",
};
pub(crate) const REQUEST_SECONDS: Metric = Metric {
    name: "countersign_request_seconds",
    kind: Kind::Histogram(REQUEST_BOUNDS),
    labels: &[ROUTES],
    means: "Time from the head of a request to the head of its answer",
};
const ROUTES: Label = Label {
    name: "route",
    values: Values::Any(
        "the pattern of the path, such as `/v1/auth/sessions/{id}`; `none` for all paths without one",
    ),
};

const LOGINS: Metric = Metric {
    name: "countersign_logins_total",
    kind: Kind::Counter,
    labels: &[
        of("by", &["password", "code", "link"]),
        of("outcome", &["succeeded", "failed", "throttled", "unverified", "overloaded", "error"]),
    ],
    means: "Logins. `failed`: wrong password or code, unknown or disabled account. `throttled`: refused by a limit. \
            `unverified`: the address must be verified first. `overloaded`: no place in the hash queue. `error`: the \
            store or a key failed",
};
const LOGIN_FAILURES: Metric = Metric {
    name: "countersign_login_failures_total",
    kind: Kind::Counter,
    labels: &[of("by", &["known_device", "stranger"])],
    means: "Wrong passwords, from devices that the account knows and from others",
};
const LOGINS_REFUSED: Metric = Metric {
    name: "countersign_logins_refused_total",
    kind: Kind::Counter,
    labels: &[of("limit", &["address", "all", "device", "name", "names_of_address"])],
    means: "Logins that a limit refused, by the limit: the failures of an address, of all strangers together, of a device, of a \
            name, and of one name at one address",
};
pub(crate) const HASHES_RUNNING: Metric = Metric {
    name: "countersign_hashes_running",
    kind: Kind::Gauge,
    labels: &[],
    means: "Password hashes that run",
};
pub(crate) const HASHES_WAITING: Metric = Metric {
    name: "countersign_hashes_waiting",
    kind: Kind::Gauge,
    labels: &[],
    means: "Password hashes that wait for a thread",
};
const HASH_WAIT_SECONDS: Metric = Metric {
    name: "countersign_hash_wait_seconds",
    kind: Kind::Histogram(HASH_BOUNDS),
    labels: &[],
    means: "Time that a password hash waited for a thread",
};
const HASH_SECONDS: Metric = Metric {
    name: "countersign_hash_seconds",
    kind: Kind::Histogram(HASH_BOUNDS),
    labels: &[],
    means: "Time that a password hash took, without waiting",
};
const HASHES_REFUSED: Metric = Metric {
    name: "countersign_hashes_refused_total",
    kind: Kind::Counter,
    labels: &[],
    means: "Password hashes that were refused, because the queue was full. Their requests got 503",
};

const REFRESHES: Metric = Metric {
    name: "countersign_refreshes_total",
    kind: Kind::Counter,
    labels: &[of("outcome", &["advanced", "repeated", "renewed", "reused", "refused", "contended", "error"])],
    means: "Refreshes by valid refresh tokens. `repeated`: the same pair again, within the grace or after a lost answer. \
            `renewed`: under Flask's rules, where the refresh token stays. `reused`: an old token; its session was ended. \
            `refused`: the session has ended or expired. `contended`: others refreshed it at the same time, and the client \
            tries again. `error`: the store or a key failed",
};
pub(crate) const EVENTS: Metric = Metric {
    name: "countersign_events_total",
    kind: Kind::Counter,
    labels: &[Label {
        name: "event",
        values: Values::Any("the name of the event, as in [the audit trail](audit.md)"),
    }],
    means: "Events",
};

const REVOCATION_ENTRIES: Metric = Metric {
    name: "countersign_revocation_entries",
    kind: Kind::Gauge,
    labels: &[],
    means: "Revocations that this node holds in memory",
};
pub(crate) const VIEW_AGE: Metric = Metric {
    name: "countersign_revocation_view_age_seconds",
    kind: Kind::Gauge,
    labels: &[],
    means: "Age of what this node knows of revocations. Beyond `COUNTERSIGN_REVOCATION_BOUND` it answers 503",
};
const REVOCATION_LAG: Metric = Metric {
    name: "countersign_revocation_lag_seconds",
    kind: Kind::Gauge,
    labels: &[],
    means: "Time after which the latest revocation of another node was read",
};
const CLOCK_OFFSET: Metric = Metric {
    name: "countersign_clock_offset_seconds",
    kind: Kind::Gauge,
    labels: &[],
    means: "Difference between this machine's clock and the store's; 0 where the store has none of its own",
};
const POLLS: Metric = Metric {
    name: "countersign_revocation_polls_total",
    kind: Kind::Counter,
    labels: &[of("outcome", &["good", "failed"])],
    means: "Reads of the revocation log",
};

pub(crate) const KEY_AGE: Metric = Metric {
    name: "countersign_key_age_seconds",
    kind: Kind::Gauge,
    labels: &[PURPOSES],
    means: "Time for which the present key has signed tokens of this kind. Looked at every 15 s",
};
pub(crate) const KEY_DUE: Metric = Metric {
    name: "countersign_key_due_seconds",
    kind: Kind::Gauge,
    labels: &[PURPOSES],
    means: "Time until the next key signs by `COUNTERSIGN_KEY_ROTATION`; below 0 it is overdue. Absent if keys are replaced \
            only on demand",
};

pub(crate) const STORE_SECONDS: Metric = Metric {
    name: "countersign_store_seconds",
    kind: Kind::Histogram(STORE_BOUNDS),
    labels: &[OPERATION],
    means: "Time that a call of the store took, with waiting for a connection",
};
pub(crate) const STORE_ERRORS: Metric = Metric {
    name: "countersign_store_errors_total",
    kind: Kind::Counter,
    labels: &[OPERATION],
    means: "Calls that the store did not answer",
};
const OPERATION: Label = of("operation", &OPERATIONS);

const MAILS: Metric = Metric {
    name: "countersign_mails_total",
    kind: Kind::Counter,
    labels: &[of("outcome", &["sent", "waiting", "dead", "dropped"])],
    means: "Attempts to send a mail. `waiting`: it is tried again later. `dead`: it became a dead letter. `dropped`: its link \
            expires before it could be sent",
};
pub(crate) const MAILS_WAITING: Metric = Metric {
    name: "countersign_mails_waiting",
    kind: Kind::Gauge,
    labels: &[],
    means: "Mails in the outbox that wait to be sent, of all nodes. Looked at every 15 s",
};
pub(crate) const MAILS_DEAD: Metric = Metric {
    name: "countersign_mails_dead",
    kind: Kind::Gauge,
    labels: &[],
    means: "Dead letters in the outbox, of all nodes",
};
pub(crate) const MAILS_OVERDUE: Metric = Metric {
    name: "countersign_mails_overdue_seconds",
    kind: Kind::Gauge,
    labels: &[],
    means: "Time for which the first mail in the outbox is due and nobody carries it; 0 if none is due",
};

pub(crate) const AUDIT_WAITING: Metric = Metric {
    name: "countersign_audit_waiting",
    kind: Kind::Gauge,
    labels: &[],
    means: "Audit records of this node that are not in the store yet",
};
pub(crate) const AUDIT_DROPPED: Metric = Metric {
    name: "countersign_audit_dropped_total",
    kind: Kind::Counter,
    labels: &[],
    means: "Audit records that were lost, because the store took none for too long",
};

/// All metrics, in the order of the documentation.
pub(crate) const AREAS: &[(&str, &[&Metric])] = &[
    (
        "The server",
        &[
            &BUILD_INFO,
            &READY,
            &CONNECTIONS_OPEN,
            &CONNECTIONS_LIMIT,
            &CONNECTIONS_REFUSED,
            &CONNECTIONS_EVICTED,
            &REQUESTS,
            &REQUEST_SECONDS,
        ],
    ),
    (
        "Logins and passwords",
        &[
            &LOGINS,
            &LOGIN_FAILURES,
            &LOGINS_REFUSED,
            &HASHES_RUNNING,
            &HASHES_WAITING,
            &HASH_WAIT_SECONDS,
            &HASH_SECONDS,
            &HASHES_REFUSED,
        ],
    ),
    (
        "Sessions, revocation and keys",
        &[
            &REFRESHES,
            &EVENTS,
            &REVOCATION_ENTRIES,
            &VIEW_AGE,
            &REVOCATION_LAG,
            &POLLS,
            &CLOCK_OFFSET,
            &KEY_AGE,
            &KEY_DUE,
        ],
    ),
    (
        "Store, mail and audit trail",
        &[
            &STORE_SECONDS,
            &STORE_ERRORS,
            &MAILS,
            &MAILS_WAITING,
            &MAILS_DEAD,
            &MAILS_OVERDUE,
            &AUDIT_WAITING,
            &AUDIT_DROPPED,
        ],
    ),
];

/// All metrics.
pub(crate) fn all() -> impl Iterator<Item = &'static Metric> {
    AREAS.iter().flat_map(|(_, metrics)| metrics.iter().copied())
}

type Pairs<'a> = &'a [(&'static str, &'static str)];

impl Metric {
    /// The counter with these values of its labels.
    pub(crate) fn counter(&self, labels: Pairs<'_>) -> Counter {
        metrics::counter!(self.name, labels)
    }

    /// The gauge with these values of its labels.
    pub(crate) fn gauge(&self, labels: Pairs<'_>) -> Gauge {
        metrics::gauge!(self.name, labels)
    }

    /// The histogram with these values of its labels.
    pub(crate) fn histogram(&self, labels: Pairs<'_>) -> Histogram {
        metrics::histogram!(self.name, labels)
    }

    /// Makes the scrape tell what the metric means. Counters whose labels have known values begin at 0 with each of
    /// them, because the first increase of a series that did not exist is invisible to Prometheus.
    pub(super) fn introduce(&self) {
        let unit = if self.name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        match self.kind {
            Kind::Counter => {
                metrics::describe_counter!(self.name, unit, self.means);
                for labels in self.combinations() {
                    self.counter(&labels).increment(0);
                }
            }
            Kind::Gauge => metrics::describe_gauge!(self.name, unit, self.means),
            Kind::Histogram(_) => metrics::describe_histogram!(self.name, unit, self.means),
        }
    }

    /// All combinations of the labels' values; none if some of them are not known.
    fn combinations(&self) -> Vec<Vec<(&'static str, &'static str)>> {
        let mut all = vec![Vec::new()];
        for Label { name, values } in self.labels {
            let Values::Of(values) = values else { return Vec::new() };
            let extended = |labels: &Vec<_>| {
                let labels = labels.clone();
                values.iter().map(move |value| [labels.clone(), vec![(*name, *value)]].concat())
            };
            all = all.iter().flat_map(extended).collect();
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_unique_and_tell_kind_and_unit() {
        let mut names = BTreeSet::new();
        for Metric { name, kind, labels, means } in all() {
            assert!(names.insert(name), "{name}");
            assert_eq!(name.ends_with("_total"), matches!(kind, Kind::Counter), "{name}");
            assert!(!matches!(kind, Kind::Histogram(_)) || name.ends_with("_seconds"), "{name}");
            assert!(!means.is_empty() && !means.ends_with('.'), "{name}: {means}");
            for Label { name: label, values } in *labels {
                assert!(!label.contains("user") && !label.contains("ip"), "{name}: {label}");
                assert!(!matches!(values, Values::Of([])), "{name}: {label}");
            }
        }
    }

    /// The crates below this one name metrics by texts, because they know nothing of this list.
    #[test]
    fn what_any_crate_emits_is_declared_and_what_is_declared_is_emitted() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let mut emitted = BTreeSet::new();
        let mut folders = vec![crates.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.ends_with("target") {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let text = fs::read_to_string(&path).unwrap();
                    for kind in ["counter", "gauge", "histogram"] {
                        for after in text.split(&format!("{kind}!(")).skip(1) {
                            if let Some(name) = after.trim_start().strip_prefix('"') {
                                let name = name.split('"').next().unwrap().to_owned();
                                emitted.insert((name, kind));
                            }
                        }
                    }
                }
            }
        }
        for (name, kind) in &emitted {
            let declared = all().find(|metric| metric.name == name);
            let declared = declared.unwrap_or_else(|| panic!("{name} is emitted and not declared"));
            let declared = match declared.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            assert_eq!(declared, *kind, "{name}");
        }
        let here = include_str!("declared.rs");
        for Metric { name, .. } in all() {
            // What this crate emits, it emits by the constant, which others than this file can see.
            let constant = here.split(name).next().unwrap().rsplit_once("const ").unwrap().0;
            let is_ours = constant.trim_end().ends_with("pub(crate)");
            assert!(is_ours || emitted.iter().any(|(known, _)| known == name), "{name} is not emitted");
        }
    }
}
