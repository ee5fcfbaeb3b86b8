//! Question: what does routing add to a statement whose template is cached?
//! Budget: 1 us for pgbench's select, from text to plan.
//!
//! `cargo run --release -p pgherd-router --example plan_cost`

#[path = "../tests/house/mod.rs"]
mod house;

use std::hint::black_box;
use std::time::Instant;

use pgherd_router::Cache;
use pgherd_router::plan::Params;

const ROUNDS: u32 = 1_000_000;

fn main() {
    let herd = house::herd();
    let cases = [
        ("select-only", "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;", Params::default()),
        (
            "select-only, prepared",
            "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
            Params { values: &[Some(b"12345")], formats: &[], types: &[] },
        ),
        (
            "TPC-B update",
            "UPDATE pgbench_accounts SET abalance = abalance + -4312 WHERE aid = 12345;",
            Params::default(),
        ),
        (
            "TPC-B insert",
            "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (7, 1, 12345, -4312, CURRENT_TIMESTAMP);",
            Params::default(),
        ),
        ("BEGIN", "BEGIN;", Params::default()),
    ];
    for (name, sql, params) in cases {
        let mut cache = Cache::default();
        let mut statements = Vec::new();
        let started = Instant::now();
        for _ in 0..ROUNDS {
            cache.analyze_into(&herd, black_box(sql), &mut statements);
        }
        let analyzed = started.elapsed();
        let started = Instant::now();
        for _ in 0..ROUNDS {
            cache.analyze_into(&herd, black_box(sql), &mut statements);
            let statement = &statements[0];
            let text = &sql[statement.at.start as usize..statement.at.end as usize];
            black_box(statement.template.plan(&herd, text, &statement.literals, params)).unwrap();
        }
        let planned = started.elapsed();
        let each = |time: std::time::Duration| time.as_nanos() / u128::from(ROUNDS);
        println!("{name}: analyze {} ns, analyze and plan {} ns", each(analyzed), each(planned));
    }
}
