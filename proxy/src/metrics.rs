//! `/metrics` in Prometheus' text format, `/healthz` and `/readyz`: a small HTTP server on the control thread.
//!
//! Invariant: it only reads what others keep, so that a scrape costs clients nothing; label values come from the
//! configuration, never from clients.
//!
//! Limits: [`CONNECTIONS_MAX`] connections at once, each request read within [`REQUEST_WITHIN`].

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::ToSocketAddrs as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use pgherd_config::Listen;
use pgherd_pool::Status;
use socket2::{Domain, Protocol, Socket, Type};

use crate::database::{Database, Readiness, UserPools};
use crate::pinned::{OfReason, Reason};
use crate::serve::{Shared, Stop};
use crate::stats::{self, BUCKETS, Sums};

const CONNECTIONS_MAX: usize = 64;
const REQUEST_WITHIN: Duration = Duration::from_secs(10);

/// # Errors
/// The address is taken, or is none.
pub fn bind(listen: &Listen, beside: bool) -> Result<std::net::TcpListener, String> {
    let Listen::Tcp { host, port } = listen else { return Err("server.http must be \"host:port\"".into()) };
    let failed = |e: std::io::Error| format!("cannot listen on {host}:{port} (server.http): {e}");
    let address = (host.as_str(), *port).to_socket_addrs().map_err(failed)?.next();
    let Some(address) = address else { return Err(format!("no address of {host}:{port} (server.http)")) };
    if !beside {
        std::net::TcpListener::bind(address).map_err(failed)?;
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP));
    let socket = socket.map_err(failed)?;
    socket.set_reuse_address(true).map_err(failed)?;
    // So that the next pgherd can be started before this one has ended.
    socket.set_reuse_port(true).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    socket.bind(&address.into()).map_err(failed)?;
    socket.listen(128).map_err(failed)?;
    Ok(socket.into())
}

/// Serves until the process stops: from then on a scrape belongs to the next one.
pub async fn serve(shared: Arc<Shared>, listener: std::net::TcpListener) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(e) => {
            tracing::error!(error = %e, "metrics cannot be served");
            return;
        }
    };
    let connections = Arc::new(AtomicUsize::new(0));
    let mut stop = shared.stop.subscribe();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop != Stop::No) => return,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if connections.load(Ordering::Relaxed) >= CONNECTIONS_MAX {
            continue;
        }
        connections.fetch_add(1, Ordering::Relaxed);
        let (shared, connections) = (shared.clone(), connections.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let answer = answer(&shared, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut http = hyper::server::conn::http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(REQUEST_WITHIN).max_buf_size(16 * 1024);
            // What goes wrong here is the other side's.
            let _ = http.serve_connection(TokioIo::new(socket), answer).await;
            connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn answer(shared: &Shared, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, kind, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", render(shared))
        }
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, "text/plain", "ok\n".into()),
        (&Method::GET | &Method::HEAD, "/readyz") => match not_ready(shared) {
            None => (StatusCode::OK, "text/plain", "ready\n".into()),
            Some(why) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", why),
        },
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, "text/plain", "/metrics, /healthz, /readyz\n".into())
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    response
}

/// Why clients should go elsewhere, a line for each reason.
fn not_ready(shared: &Shared) -> Option<String> {
    let mut why = String::new();
    if *shared.stop.borrow() != Stop::No {
        why.push_str("stopping\n");
    }
    for (name, db) in shared.live().databases.iter().collect::<BTreeMap<_, _>>() {
        if let Readiness::Waiting(reason) = db.readiness() {
            let _ = writeln!(why, "database \"{name}\": {reason}");
        }
    }
    (!why.is_empty()).then_some(why)
}

/// The text, one family after the other: a family's samples must stand together.
struct Page {
    text: String,
}

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.text.push_str(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            self.text.push(if i == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"");
            for c in value.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], buckets: &[u64; BUCKETS], sum_us: u64) {
        let mut below = 0;
        for (n, count) in buckets.iter().enumerate() {
            below += count;
            let bound = stats::bound(n).map_or("+Inf".to_owned(), |bound| bound.to_string());
            let labels = [labels, &[("le", bound.as_str())]].concat();
            self.sample(&format!("{name}_bucket"), &labels, below as f64);
        }
        self.sample(&format!("{name}_sum"), labels, sum_us as f64 / 1e6);
        self.sample(&format!("{name}_count"), labels, below as f64);
    }
}

/// One user on one database.
struct OfUser {
    database: String,
    user: String,
    sums: Sums,
    pools: Arc<UserPools>,
}

/// One user's pool on one shard.
struct OfPool {
    database: String,
    user: String,
    shard: String,
    status: Status,
}

type UserValue = fn(&OfUser) -> f64;
type PoolValue = fn(&OfPool) -> f64;

const OF_USERS: &[(&str, &str, &str, UserValue)] = &[
    ("pgherd_client_connections", "gauge", "Clients that are connected.", |u| {
        u.pools.stats.clients.load(Ordering::Relaxed) as f64
    }),
    ("pgherd_transactions_total", "counter", "Transactions that have ended.", |u| u.sums.xacts as f64),
    ("pgherd_queries_total", "counter", "Queries and batches that were answered.", |u| u.sums.queries as f64),
    ("pgherd_client_received_bytes_total", "counter", "Bytes from clients.", |u| u.sums.received as f64),
    ("pgherd_client_sent_bytes_total", "counter", "Bytes to clients.", |u| u.sums.sent as f64),
    (
        "pgherd_transaction_seconds_total",
        "counter",
        "Time in transactions, waiting for a server excluded.",
        |u| u.sums.xact_us as f64 / 1e6,
    ),
    ("pgherd_server_assignments_total", "counter", "Servers lent to a client.", |u| {
        u.sums.assignments as f64
    }),
    ("pgherd_client_parses_total", "counter", "Parse messages of clients.", |u| u.sums.client_parses as f64),
    ("pgherd_server_parses_total", "counter", "Parse messages that went to a server.", |u| {
        u.sums.server_parses as f64
    }),
    ("pgherd_binds_total", "counter", "Bind messages of clients.", |u| u.sums.binds as f64),
    ("pgherd_logins_total", "counter", "Clients that have logged in.", |u| u.sums.logins as f64),
];

type PinValue = fn(&OfReason) -> f64;

const OF_PINS: &[(&str, &str, &str, PinValue)] = &[
    (
        "pgherd_pinned_clients",
        "gauge",
        "Clients that keep servers between transactions, by why they began to.",
        |p| p.now.load(Ordering::Relaxed) as f64,
    ),
    ("pgherd_pinned_total", "counter", "Clients that began to keep their servers.", |p| {
        p.total.load(Ordering::Relaxed) as f64
    }),
    ("pgherd_pinned_refused_total", "counter", "Statements refused by pool.pinned_max.", |p| {
        p.refused.load(Ordering::Relaxed) as f64
    }),
];

const OF_POOLS: &[(&str, &str, &str, PoolValue)] = &[
    ("pgherd_server_connections_max", "gauge", "Server connections at most.", |p| p.status.size as f64),
    ("pgherd_waiting_clients", "gauge", "Clients that wait for a server.", |p| p.status.waiting as f64),
    ("pgherd_waiting_longest_seconds", "gauge", "How long the first of them has waited.", |p| {
        p.status.waiting_longest.as_secs_f64()
    }),
    ("pgherd_server_reachable", "gauge", "0: the last attempt to open a connection failed.", |p| {
        f64::from(u8::from(p.status.failing.is_none()))
    }),
    ("pgherd_server_opened_total", "counter", "Server connections opened.", |p| p.status.opened_total as f64),
    ("pgherd_server_open_failed_total", "counter", "Attempts to open one that failed.", |p| {
        p.status.open_failed_total as f64
    }),
    ("pgherd_server_handed_over_total", "counter", "Server connections that moved to another worker.", |p| {
        p.status.handed_over_total as f64
    }),
    ("pgherd_checkout_timeouts_total", "counter", "Clients that waited for a server in vain.", |p| {
        p.status.timed_out_total as f64
    }),
    ("pgherd_checkout_refused_total", "counter", "Clients refused because too many waited already.", |p| {
        p.status.refused_total as f64
    }),
];

fn render(shared: &Shared) -> String {
    let live = shared.live();
    let databases: BTreeMap<&String, &Arc<Database>> = live.databases.iter().collect();
    let (mut users, mut pools) = (Vec::new(), Vec::new());
    for (database, db) in &databases {
        for (user, of_user) in db.users().iter().collect::<BTreeMap<_, _>>() {
            users.push(OfUser {
                database: (*database).clone(),
                user: user.clone(),
                sums: of_user.stats.sum(),
                pools: of_user.clone(),
            });
            for (shard, pool) in db.config.shards.iter().zip(of_user.all()) {
                pools.push(OfPool {
                    database: (*database).clone(),
                    user: user.clone(),
                    shard: shard.name.clone(),
                    status: pool.status(),
                });
            }
        }
    }

    let mut page = Page { text: String::new() };
    page.family("pgherd_build_info", "gauge", "The version, as a label.");
    page.sample("pgherd_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    let of_all = [
        (
            "pgherd_uptime_seconds",
            "Since the process began to serve.",
            shared.started.elapsed().as_secs_f64(),
        ),
        ("pgherd_workers", "Threads that serve clients.", shared.workers() as f64),
        ("pgherd_clients", "Connections of clients, those that log in included.", {
            shared.clients.load(Ordering::Relaxed) as f64
        }),
        ("pgherd_clients_max", "server.max_clients.", live.config.server.max_clients as f64),
    ];
    for (name, help, value) in of_all {
        page.family(name, "gauge", help);
        page.sample(name, &[], value);
    }
    let moved = crate::moves::counted();
    for (name, help, value) in [
        (
            "pgherd_moved_units_total",
            "Units of rows that this process has moved to other shards.",
            moved.units,
        ),
        ("pgherd_moved_rows_total", "Rows that this process has moved to other shards.", moved.rows),
        (
            "pgherd_moves_put_off_total",
            "Units that could not be moved when it was their turn.",
            moved.put_off,
        ),
    ] {
        page.family(name, "counter", help);
        page.sample(name, &[], value as f64);
    }
    let of_databases: [(&str, &str, fn(&Database) -> bool); 3] = [
        ("pgherd_database_ready", "1: its clients are served.", |db| db.readiness() == Readiness::Ready),
        ("pgherd_database_paused", "1: PAUSE.", Database::is_paused),
        ("pgherd_database_disabled", "1: DISABLE.", Database::is_disabled),
    ];
    for (name, help, value) in of_databases {
        page.family(name, "gauge", help);
        for (database, db) in &databases {
            page.sample(name, &[("database", database)], f64::from(u8::from(value(db))));
        }
    }
    page.family("pgherd_listening_clients", "gauge", "Clients that listen for notifications.");
    for (database, db) in &databases {
        let listeners = db.hub.listeners.load(Ordering::Relaxed);
        page.sample("pgherd_listening_clients", &[("database", database)], listeners as f64);
    }
    for (name, kind, help, value) in OF_USERS {
        page.family(name, kind, help);
        for of in &users {
            page.sample(name, &[("database", &of.database), ("user", &of.user)], value(of));
        }
    }
    for (name, kind, help, value) in OF_PINS {
        page.family(name, kind, help);
        for of in &users {
            for reason in Reason::ALL {
                let labels = [
                    ("database", of.database.as_str()),
                    ("user", of.user.as_str()),
                    ("reason", reason.name()),
                ];
                page.sample(name, &labels, value(of.pools.stats.pins.of(reason)));
            }
        }
    }
    page.family(
        "pgherd_query_seconds",
        "histogram",
        "From a client's message until all of it was answered, without waiting for a server.",
    );
    for of in &users {
        let labels = [("database", of.database.as_str()), ("user", of.user.as_str())];
        page.histogram("pgherd_query_seconds", &labels, &of.sums.query_buckets, of.sums.query_us);
    }
    page.family("pgherd_wait_seconds", "histogram", "Waiting for a server, of those who had to.");
    for of in &users {
        let labels = [("database", of.database.as_str()), ("user", of.user.as_str())];
        page.histogram("pgherd_wait_seconds", &labels, &of.sums.wait_buckets, of.sums.wait_us);
    }
    page.family("pgherd_server_connections", "gauge", "Server connections by what they do.");
    for of in &pools {
        let states = [
            ("active", of.status.lent),
            ("idle", of.status.idle),
            ("opening", of.status.opening),
            ("being_canceled", of.status.parked),
        ];
        for (state, count) in states {
            let labels = [
                ("database", of.database.as_str()),
                ("user", of.user.as_str()),
                ("shard", of.shard.as_str()),
                ("state", state),
            ];
            page.sample("pgherd_server_connections", &labels, count as f64);
        }
    }
    for (name, kind, help, value) in OF_POOLS {
        page.family(name, kind, help);
        for of in &pools {
            let labels = [
                ("database", of.database.as_str()),
                ("user", of.user.as_str()),
                ("shard", of.shard.as_str()),
            ];
            page.sample(name, &labels, value(of));
        }
    }
    page.text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut page = Page { text: String::new() };
        page.sample("a", &[], 1.0);
        page.sample("b", &[("x", "say \"hi\"\\\n"), ("y", "")], 0.25);
        let mut buckets = [0; BUCKETS];
        (buckets[0], buckets[2], buckets[BUCKETS - 1]) = (3, 1, 2);
        page.histogram("h", &[("z", "1")], &buckets, 1_500_000);
        let lines: Vec<&str> = page.text.lines().collect();
        assert_eq!(lines[0], "a 1");
        assert_eq!(lines[1], "b{x=\"say \\\"hi\\\"\\\\\\n\",y=\"\"} 0.25");
        assert_eq!(lines[2], "h_bucket{z=\"1\",le=\"0.000064\"} 3");
        assert_eq!(lines[4], "h_bucket{z=\"1\",le=\"0.000256\"} 4");
        assert_eq!(lines[BUCKETS + 1], "h_bucket{z=\"1\",le=\"+Inf\"} 6");
        assert_eq!(lines[BUCKETS + 2..], ["h_sum{z=\"1\"} 1.5", "h_count{z=\"1\"} 6"]);
    }
}
