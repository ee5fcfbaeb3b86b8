//! Which rows are measured, and who takes part in which.
//!
//! Invariant: a load is there once, whatever groups ask for it; its subjects are measured together, in each round.

use clap::ValueEnum;

use crate::load::{Door, Load, Protocol, Script};
use crate::subjects::Pooler;

/// Of what has no other number.
const CLIENTS: u32 = 32;

/// A result of 2 MB is a long transaction; so are a login and a pipeline.
const CLIENTS_FEW: u32 = 8;

/// Rows that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Group {
    /// Three protocols; 1, 32 and 200 clients
    Select,
    /// Prepared and simple, 32 clients; over four shards too
    Tpcb,
    /// 20 prepared selects in one write
    Pipeline,
    /// Results of 2 MB, in one row and in many
    Large,
    /// A connection for each transaction, with scram-sha-256 and with trust
    Connect,
    /// Select-only through TLS, 32 clients
    Tls,
    /// Select-only with two workers, 32 clients
    Workers,
    /// Select by key, count(*) and ORDER BY over four shards, beside PgBouncer on one server
    Shards,
    /// Memory and CPU of 10,000 clients that do nothing
    Idle,
    /// Throughput with one and with two workers in front of a server that answers at once
    Stub,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub load: Load,
    pub poolers: Vec<Pooler>,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    pub rounds: u32,
    pub seconds: u32,
    pub rows: Vec<Row>,
    pub idle: bool,
    pub stub: bool,
}

/// What a plan is made from.
#[derive(Debug)]
pub struct Wishes {
    pub groups: Vec<Group>,
    pub rounds: u32,
    pub seconds: u32,
    /// For select-only.
    pub clients: Vec<u32>,
    /// For select-only and TPC-B; empty: those of the table.
    pub protocols: Vec<Protocol>,
    pub jobs: u32,
    pub without: Vec<Pooler>,
}

impl Wishes {
    pub fn plan(&self) -> Plan {
        let wants = |group| self.groups.contains(&group);
        let mut plan = Plan {
            rounds: self.rounds,
            seconds: self.seconds,
            rows: Vec::new(),
            idle: wants(Group::Idle),
            stub: wants(Group::Stub),
        };
        for group in &self.groups {
            self.add(*group, &mut plan);
        }
        plan.rows.retain(|row| !row.poolers.is_empty());
        plan
    }

    fn add(&self, group: Group, plan: &mut Plan) {
        use Pooler::{None, PgBouncer, Pgherd, PgherdSharded, PgherdTwo};
        let mut add = |script, protocol, clients, door, poolers: &[Pooler]| {
            self.add_row(
                plan,
                Row { load: self.load(script, protocol, clients, door), poolers: poolers.into() },
            );
        };
        let (scram, prepared, simple) = (Door::Scram, Protocol::Prepared, Protocol::Simple);
        match group {
            Group::Select => {
                for clients in &self.clients {
                    for protocol in self.chosen(&Protocol::ALL) {
                        add(Script::Select, protocol, *clients, scram, &[None, PgBouncer, Pgherd]);
                    }
                }
            }
            Group::Tpcb => {
                for protocol in self.chosen(&[prepared, simple]) {
                    add(Script::Tpcb, protocol, CLIENTS, scram, &[None, PgBouncer, Pgherd, PgherdSharded]);
                }
            }
            Group::Pipeline => {
                add(Script::Pipeline, prepared, CLIENTS_FEW, scram, &[None, PgBouncer, Pgherd])
            }
            Group::Large => {
                for script in [Script::LargeRow, Script::ManyRows] {
                    add(script, simple, CLIENTS_FEW, scram, &[PgBouncer, Pgherd]);
                }
            }
            Group::Connect => {
                for door in [scram, Door::Trust] {
                    add(Script::Connect, simple, CLIENTS_FEW, door, &[PgBouncer, Pgherd]);
                }
            }
            Group::Tls => {
                for protocol in [simple, prepared] {
                    add(Script::Select, protocol, CLIENTS, Door::Tls, &[PgBouncer, Pgherd]);
                }
            }
            Group::Workers => {
                for protocol in Protocol::ALL {
                    add(Script::Select, protocol, CLIENTS, scram, &[PgBouncer, Pgherd, PgherdTwo]);
                }
            }
            Group::Shards => {
                for protocol in [simple, prepared] {
                    add(Script::Select, protocol, CLIENTS, scram, &[PgBouncer, PgherdSharded]);
                }
                for script in [Script::Count, Script::Ordered] {
                    add(script, simple, CLIENTS, scram, &[PgBouncer, PgherdSharded]);
                }
            }
            Group::Idle | Group::Stub => {}
        }
    }

    fn chosen(&self, usual: &[Protocol]) -> Vec<Protocol> {
        if self.protocols.is_empty() { usual.to_vec() } else { self.protocols.clone() }
    }

    fn load(&self, script: Script, protocol: Protocol, clients: u32, door: Door) -> Load {
        let jobs = match script {
            // A thread of pgbench stops for all of its clients while one of them waits for a PREPARE. With a
            // pool smaller than the clients, those that are left in the middle of a transaction hold what it
            // waits for.
            Script::Tpcb => clients,
            _ => self.jobs.min(clients),
        };
        Load { script, protocol, clients, jobs, seconds: self.seconds, door }
    }

    fn add_row(&self, plan: &mut Plan, mut row: Row) {
        row.poolers.retain(|pooler| !self.without.contains(pooler));
        match plan.rows.iter_mut().find(|known| known.load == row.load) {
            Some(known) => {
                let new = row.poolers.into_iter().filter(|pooler| !known.poolers.contains(pooler));
                known.poolers.extend(new.collect::<Vec<_>>());
            }
            None => plan.rows.push(row),
        }
    }
}

impl Plan {
    /// Whether a row has it, through this door.
    pub fn has(&self, pooler: Pooler, door: Door) -> bool {
        self.rows.iter().any(|row| row.load.door == door && row.poolers.contains(&pooler))
    }

    pub fn has_pooler(&self, pooler: Pooler) -> bool {
        self.rows.iter().any(|row| row.poolers.contains(&pooler))
    }

    /// What is worth counting instead of timing: each script and protocol once, whatever the clients are, on one worker.
    pub fn counted(&self) -> Vec<(Script, Protocol, Vec<Pooler>)> {
        let mut cases: Vec<(Script, Protocol, Vec<Pooler>)> = Vec::new();
        let of_one_transaction = |script| {
            matches!(
                script,
                Script::Select | Script::Tpcb | Script::Pipeline | Script::Count | Script::Ordered
            )
        };
        for Row { load, poolers } in &self.rows {
            if load.door != Door::Scram || !of_one_transaction(load.script) {
                continue;
            }
            let known = cases
                .iter()
                .position(|(script, protocol, _)| *script == load.script && *protocol == load.protocol);
            let at = known.unwrap_or_else(|| {
                cases.push((load.script, load.protocol, Vec::new()));
                cases.len() - 1
            });
            for pooler in poolers {
                let wanted = !matches!(pooler, Pooler::None | Pooler::PgherdTwo);
                if wanted && !cases[at].2.contains(pooler) {
                    cases[at].2.push(*pooler);
                }
            }
        }
        cases.retain(|(_, _, poolers)| !poolers.is_empty());
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(groups: &[Group]) -> Wishes {
        Wishes {
            groups: groups.into(),
            rounds: 3,
            seconds: 3,
            clients: vec![1, 32],
            protocols: Vec::new(),
            jobs: 2,
            without: Vec::new(),
        }
    }

    fn describe(plan: &Plan) -> Vec<String> {
        let row = |row: &Row| {
            let names: Vec<_> = row.poolers.iter().map(|pooler| pooler.name()).collect();
            format!("{}: {}", row.load, names.join(", "))
        };
        plan.rows.iter().map(row).collect()
    }

    #[test]
    fn a_load_of_two_groups_is_one_row_with_the_subjects_of_both() {
        let wishes = Wishes {
            protocols: vec![Protocol::Simple],
            ..wishes(&[Group::Select, Group::Shards, Group::Tls])
        };
        let expected = [
            "select-only, simple, 1: direct, PgBouncer, pgherd",
            "select-only, simple, 32: direct, PgBouncer, pgherd, pgherd, 4 shards",
            "select-only, prepared, 32: PgBouncer, pgherd, 4 shards",
            "count(*), simple, 32: PgBouncer, pgherd, 4 shards",
            "ORDER BY ... LIMIT 10, simple, 32: PgBouncer, pgherd, 4 shards",
            "select-only over TLS, simple, 32: PgBouncer, pgherd",
            "select-only over TLS, prepared, 32: PgBouncer, pgherd",
        ];
        assert_eq!(describe(&wishes.plan()), expected);
    }

    #[test]
    fn who_is_left_out_takes_part_in_nothing() {
        let without = vec![Pooler::PgBouncer, Pooler::PgherdSharded];
        let plan = Wishes { without, ..wishes(&[Group::Tpcb, Group::Shards, Group::Idle]) }.plan();
        let expected = ["TPC-B, prepared, 32: direct, pgherd", "TPC-B, simple, 32: direct, pgherd"];
        assert_eq!(describe(&plan), expected);
        assert!(plan.idle && !plan.stub && !plan.has_pooler(Pooler::PgBouncer));
        assert!(plan.rows.iter().all(|row| row.load.jobs == 32));
    }

    #[test]
    fn what_is_counted_is_each_script_and_protocol_once() {
        let plan =
            wishes(&[Group::Select, Group::Pipeline, Group::Shards, Group::Connect, Group::Workers]).plan();
        let cases: Vec<_> = plan
            .counted()
            .iter()
            .map(|(script, protocol, poolers)| {
                format!("{} {} {}", script.name(), protocol.name(), poolers.len())
            })
            .collect();
        let expected = [
            "select-only simple 3",
            "select-only extended 2",
            "select-only prepared 3",
            "pipeline of 20 selects prepared 2",
            "count(*) simple 2",
            "ORDER BY ... LIMIT 10 simple 2",
        ];
        assert_eq!(cases, expected);
    }
}
