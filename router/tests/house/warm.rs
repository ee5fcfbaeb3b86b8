//! The statements that planning must cost next to nothing for: what pgbench sends, over and over.

use pgherd_router::Cache;
use pgherd_router::plan::{Params, Plan, Statement};
use pgherd_router::topology::Topology;

pub struct Case {
    pub name: &'static str,
    pub sql: &'static str,
    pub params: Params<'static>,
}

const fn with_literals(name: &'static str, sql: &'static str) -> Case {
    Case { name, sql, params: Params { values: &[], formats: &[], types: &[] } }
}

const fn with_parameters(name: &'static str, sql: &'static str, params: Params<'static>) -> Case {
    Case { name, sql, params }
}

const INTEGER: u32 = 23;

pub const CASES: [Case; 9] = [
    with_literals("select", "SELECT abalance FROM pgbench_accounts WHERE aid = 12345;"),
    with_parameters(
        "select, text parameter",
        "SELECT abalance FROM pgbench_accounts WHERE aid = $1;",
        Params { values: &[Some(b"12345")], formats: &[], types: &[] },
    ),
    with_parameters(
        "select, binary parameter",
        "SELECT abalance FROM pgbench_accounts WHERE aid = $1",
        Params { values: &[Some(&[0, 0, 48, 57])], formats: &[1], types: &[INTEGER] },
    ),
    with_literals("update", "UPDATE pgbench_accounts SET abalance = abalance + -4312 WHERE aid = 12345;"),
    with_parameters(
        "update, parameters",
        "UPDATE pgbench_accounts SET abalance = abalance + $1 WHERE aid = $2;",
        Params { values: &[Some(b"-4312"), Some(b"12345")], formats: &[], types: &[] },
    ),
    with_literals(
        "insert",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (7, 1, 12345, -4312, CURRENT_TIMESTAMP);",
    ),
    with_parameters(
        "insert, parameters",
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES ($1, $2, $3, $4, CURRENT_TIMESTAMP);",
        Params {
            values: &[Some(b"7"), Some(b"1"), Some(b"12345"), Some(b"-4312")],
            formats: &[],
            types: &[],
        },
    ),
    with_literals("begin", "BEGIN;"),
    with_literals("end", "END;"),
];

impl Case {
    /// From text to plan, as a session does it for a simple query.
    pub fn plan(&self, topology: &Topology, cache: &mut Cache, statements: &mut Vec<Statement>) -> Plan {
        cache.analyze_into(topology, self.sql, statements);
        self.bind(topology, &statements[0])
    }

    /// From values to plan, as a session does it for a Bind.
    pub fn bind(&self, topology: &Topology, statement: &Statement) -> Plan {
        let text = &self.sql[statement.at.start as usize..statement.at.end as usize];
        let plan = statement.template.plan(topology, text, &statement.literals, self.params);
        plan.unwrap_or_else(|refusal| panic!("{}: {refusal:?}", self.name))
    }
}
