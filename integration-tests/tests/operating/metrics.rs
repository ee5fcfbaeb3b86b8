//! Metrics and health over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::raw::*;
use crate::*;

pub fn get(port: u16, path: &str) -> (u16, String) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    write!(socket, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a request");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

#[test]
fn metrics_count_what_happens_and_health_says_whether_it_serves() {
    let mut place = Place::new();
    let port = free_port();
    place.server = format!("http = \"127.0.0.1:{port}\"");
    let endpoint = place.start();
    assert_eq!(get(port, "/healthz"), (200, "ok\n".into()));
    assert_eq!(get(port, "/readyz"), (200, "ready\n".into()));
    assert_eq!(get(port, "/nothing").0, 404);
    let mut client = endpoint.login("one");
    client.run("SELECT pg_sleep(0.01)");
    client.run("BEGIN");
    client.run("SELECT 1");
    let value = |name: &str| -> f64 {
        let (_, text) = get(port, "/metrics");
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
    };
    let of = "database=\"one\",user=\"app\"";
    until("queries are counted", || value(&format!("pgherd_queries_total{{{of}}}")) == 3.0);
    assert_eq!(value(&format!("pgherd_transactions_total{{{of}}}")), 1.0);
    assert_eq!(value(&format!("pgherd_query_seconds_count{{{of}}}")), 3.0);
    assert_eq!(value(&format!("pgherd_query_seconds_bucket{{{of},le=\"0.008192\"}}")), 2.0);
    assert_eq!(value(&format!("pgherd_server_connections{{{of},shard=\"s0\",state=\"active\"}}")), 1.0);
    assert_eq!(value(&format!("pgherd_client_connections{{{of}}}")), 1.0);
    assert_eq!(value("pgherd_database_ready{database=\"one\"}"), 1.0);
    assert_eq!(value(&format!("pgherd_server_reachable{{{of},shard=\"s0\"}}")), 1.0);

    // Every family is described once, before its samples, and they stand together.
    let (_, text) = get(port, "/metrics");
    let mut families = Vec::new();
    for line in text.lines() {
        if let Some(described) = line.strip_prefix("# TYPE ") {
            let name = described.split(' ').next().unwrap_or_default().to_owned();
            assert!(!families.contains(&name), "{name} twice");
            families.push(name);
        } else if !line.starts_with('#') {
            let family = families.last().expect("a family");
            assert!(line.starts_with(family.as_str()), "{line} in {family}");
        }
    }
}
