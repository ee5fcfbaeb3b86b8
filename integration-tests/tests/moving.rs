//! Rows move while applications write through several pgherds, and nobody can tell: see `checker` for what is compared.
//!
//! The moves are made by SQL (`mover`), by the letter of the contract, and by pgherd itself.

mod raw;

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{APP_ROLE, Herd, HerdOptions, leashed};
use pgherd_integration_tests::checker::{self, Checker};
use pgherd_integration_tests::mover::{Moved, Mover};
use pgherd_integration_tests::until;
use raw::{Endpoint, free_port};

const SERVERS: usize = 5;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// Shards with their weights.
fn configuration(herd: &Herd, port: u16, shards: &[(usize, u32)]) -> String {
    let database = &herd.options().database;
    let mut text = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 2\nadmins = [\"boss\"]\n\n[auth]\nmethod = \"trust\"\n\n\
         [[users]]\nname = \"boss\"\n\n[[users]]\nname = \"{APP_ROLE}\"\npassword = \"env:APP_PASSWORD\"\n\n[pool]\nsize = 10\n\n\
         [databases.{database}]\ncontrol = {{ user = \"pgherd\", password = \"env:PGHERD_PASSWORD\" }}\n"
    );
    for (shard, weight) in shards {
        let primary = herd.address(*shard);
        text += &format!(
            "\n[[databases.{database}.shards]]\nname = \"s{shard}\"\nprimary = \"{primary}\"\nweight = {weight}\n"
        );
    }
    text += &format!(
        "\n[databases.{database}.distributions.owner]\nby = \"hash\"\ntype = \"bigint\"\n\n[databases.{database}.tables]\n"
    );
    for (table, key, _) in checker::TABLES {
        text += &format!("{table} = {{ distribution = \"owner\", key = \"{key}\" }}\n");
    }
    text
}

struct World {
    endpoints: Vec<Endpoint>,
    mover: Mover,
    herd: Herd,
}

impl World {
    /// Five servers, the first four of which are configured, and so many pgherds.
    fn start(pgherds: usize) -> Self {
        let herd = Herd::start(SERVERS, HerdOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        let endpoints = (0..pgherds).map(|_| {
            let port = free_port();
            Endpoint::start(&herd, port, &configuration(&herd, port, &[0, 1, 2, 3].map(|shard| (shard, 1))))
        });
        let endpoints = endpoints.collect();
        let mover = Mover {
            database: herd.options().database.clone(),
            distribution: "owner".into(),
            tables: checker::TABLES.map(|(table, key, _)| (table.to_owned(), key.to_owned())).to_vec(),
            servers: (0..SERVERS).map(|at| (format!("s{at}"), herd.control_url(at))).collect(),
            drain: Duration::from_secs(2),
        };
        Self { endpoints, mover, herd }
    }

    fn url(&self, pgherd: usize) -> String {
        let database = &self.herd.options().database;
        format!("postgres://{APP_ROLE}@127.0.0.1:{}/{database}", self.endpoints[pgherd].port)
    }

    fn urls(&self) -> Vec<String> {
        (0..self.endpoints.len()).map(|at| self.url(at)).collect()
    }

    /// Every pgherd reads another file.
    fn reconfigure(&self, shards: &[(usize, u32)]) {
        for endpoint in &self.endpoints {
            let before = endpoint.log().matches("the configuration was reloaded").count();
            endpoint.configure(&configuration(&self.herd, endpoint.port, shards));
            endpoint.signal("HUP");
            until("the configuration is reloaded", Duration::from_secs(20), || {
                endpoint.log().matches("the configuration was reloaded").count() > before
            });
        }
    }

    fn ask(&self, pgherd: usize, sql: &str) -> String {
        self.herd
            .psql_at(&self.url(pgherd), sql)
            .unwrap_or_else(|error| panic!("{sql}\n{error}\n{}", self.endpoints[pgherd].log()))
    }

    fn servers(&self) -> Vec<(String, Vec<(u16, u16)>)> {
        let owned = block_on(self.mover.owned());
        self.mover.servers.iter().map(|(_, url)| url.clone()).zip(owned).collect()
    }

    /// Moves a part of what `source` has, unit after unit; how many units were put off, and put off again.
    fn drain(&self, source: usize, targets: &[usize], units: usize) -> usize {
        let owned = block_on(self.mover.owned())[source].clone();
        let slots: usize = owned.iter().map(|(from, to)| usize::from(to - from) + 1).sum();
        let of_unit = u16::try_from(slots.div_ceil(units)).expect("slots are few");
        let (mut turn, mut deferred) = (0, 0);
        for (from, to) in owned {
            let mut at = from;
            while at <= to {
                let end = at.saturating_add(of_unit - 1).min(to);
                let target = targets[turn % targets.len()];
                turn += 1;
                let (from, to) = (format!("s{source}"), format!("s{target}"));
                if block_on(self.mover.slots(&from, &to, at, end)) == Moved::Deferred {
                    deferred += 1;
                    assert!(deferred < 100, "a move is put off again and again");
                    turn -= 1;
                    continue;
                }
                at = end + 1;
            }
        }
        deferred
    }

    /// `pgherd rebalance VERB` with the first pgherd's file.
    fn rebalance(&self, verb: &[&str]) -> Result<String, String> {
        let file = self.herd.folder().join(format!("pgherd-{}.toml", self.endpoints[0].port));
        let mut command = leashed("KILL", raw::program());
        command.arg("rebalance").args(verb).arg(file).envs(self.herd.env()).env("NO_COLOR", "1");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = self
            .herd
            .keeper()
            .spawn(command)
            .and_then(|child| child.wait_with_output())
            .expect("pgherd runs");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// Straight after a reload there are still sessions in transactions that began before it.
    fn apply(&self) {
        let begun = Instant::now();
        while let Err(said) = self.rebalance(&["apply", "--rate", "0"]) {
            assert!(said.contains("does not know") && begun.elapsed() < Duration::from_secs(30), "{said}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn check_well(&mut self) {
        self.endpoints.iter_mut().for_each(Endpoint::assert_well);
    }
}

#[test]
fn four_shards_become_five_and_then_three_under_two_pgherds_and_no_client_notices() {
    let started = Instant::now();
    let mut world = World::start(2);
    let checker = Checker::start(&world.urls());
    checker.run_on(100);

    // A shard that has no schema yet is known, and gets no statement.
    world.reconfigure(&[0, 1, 2, 3, 4].map(|shard| (shard, 1)));
    checker.run_on(100);
    for (_, _, sql) in checker::TABLES {
        world.herd.psql(4, &format!("SET ROLE {APP_ROLE}; {sql}")).expect("the new shard gets its tables");
    }
    block_on(world.mover.set_member("s4", true));
    checker.run_on(100);

    // A fifth of every shard goes to the new one.
    let mut deferred = 0;
    for source in 0..4 {
        let (from, to) = block_on(world.mover.owned())[source][0];
        let slots = (to - from + 1) / 5;
        for unit in 0..3 {
            let (first, last) = (from + slots / 3 * unit, from + slots / 3 * (unit + 1) - 1);
            while block_on(world.mover.slots(&format!("s{source}"), "s4", first, last)) == Moved::Deferred {
                deferred += 1;
                assert!(deferred < 100, "a move is put off again and again");
            }
        }
    }
    checker.run_on(100);

    // Two shards are emptied, and leave.
    for source in [3, 4] {
        deferred += world.drain(source, &[0, 1, 2], 6);
        block_on(world.mover.set_member(&format!("s{source}"), false));
    }
    world.reconfigure(&[0, 1, 2].map(|shard| (shard, 1)));
    checker.run_on(200);

    let servers = world.servers();
    assert!(servers[3].1.is_empty() && servers[4].1.is_empty());
    let verdict = checker.finish(&world.url(1), &servers);
    println!("{verdict:?}; {deferred} moves were put off; {:.1} s", started.elapsed().as_secs_f64());
    assert!(verdict.errors.is_empty(), "{:?}", verdict.errors);
    world.check_well();
}

#[test]
fn rebalance_apply_makes_five_shards_of_four_and_three_of_five_under_two_pgherds_and_no_client_notices() {
    let started = Instant::now();
    let mut world = World::start(2);
    let checker = Checker::start(&world.urls());
    checker.run_on(100);
    world.reconfigure(&[0, 1, 2, 3, 4].map(|shard| (shard, 1)));
    world.apply();
    let owned = block_on(world.mover.owned());
    assert!(owned.iter().all(|runs| !runs.is_empty()), "{owned:?}");
    checker.run_on(100);

    world.reconfigure(&[(0, 1), (1, 1), (2, 1), (3, 0), (4, 0)]);
    world.apply();
    world.reconfigure(&[0, 1, 2].map(|shard| (shard, 1)));
    checker.run_on(200);
    let said = world.rebalance(&["verify"]).unwrap_or_else(|said| panic!("{said}"));
    let servers = world.servers();
    assert!(servers[3].1.is_empty() && servers[4].1.is_empty(), "{said}");
    let verdict = checker.finish(&world.url(1), &servers);
    println!("{verdict:?}; {:.1} s", started.elapsed().as_secs_f64());
    assert!(verdict.errors.is_empty(), "{:?}", verdict.errors);
    world.check_well();
}

#[test]
fn a_unit_waits_for_an_open_transaction_and_whoever_comes_later_waits_for_the_unit() {
    let mut world = World::start(2);
    world.ask(0, "CREATE TABLE registers (id bigint PRIMARY KEY, value bigint NOT NULL)");
    world.mover.tables = vec![("registers".into(), "id".into())];
    world.ask(0, "INSERT INTO registers VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)");
    let slot: u16 = world
        .herd
        .psql(0, &format!("SELECT {}", checker::slot_of("1::bigint")))
        .expect("a server answers")
        .parse()
        .expect("a slot");
    let owned = block_on(world.mover.owned());
    let source = owned.iter().position(|runs| runs.iter().any(|(from, to)| (*from..=*to).contains(&slot)));
    let source = source.expect("the slot has an owner");
    let target = if source == 1 { 2 } else { 1 };
    let (source, target) = (format!("s{source}"), format!("s{target}"));
    let database = world.herd.options().database.clone();

    let mut open = world.endpoints[0].login(&database);
    open.run("BEGIN");
    open.run("UPDATE registers SET value = value + 1 WHERE id = 1");
    let unit = format!(r#"{{"part": 0, "from": {slot}, "to": {slot}}}"#);
    let held = block_on(world.mover.hold(&unit, "owner", &source, &target, 60));
    assert!(!block_on(world.mover.acknowledged(held, Duration::from_millis(600))), "its transaction is open");

    // Its own transaction goes on, others' rows are served, and whoever wants the unit waits, on either pgherd.
    assert_eq!(open.value("SELECT value FROM registers WHERE id = 1"), Ok("1".into()));
    assert_eq!(world.ask(1, "SELECT value FROM registers WHERE id = 2"), "0");
    let waiting: Vec<_> = [
        (0, "UPDATE registers SET value = value + 10 WHERE id = 1 RETURNING value"),
        (1, "SELECT sum(value) FROM registers"),
        (1, "SELECT value FROM registers WHERE id = 1"),
    ]
    .into_iter()
    .map(|(pgherd, sql)| {
        let mut wire = world.endpoints[pgherd].login(&database);
        thread::spawn(move || {
            let begun = Instant::now();
            (wire.value(sql), begun.elapsed())
        })
    })
    .collect();
    thread::sleep(Duration::from_millis(300));
    assert!(waiting.iter().all(|thread| !thread.is_finished()), "they wait");
    open.run("COMMIT");
    assert!(
        block_on(world.mover.acknowledged(held, Duration::from_secs(5))),
        "nobody is in the way any more"
    );
    thread::sleep(Duration::from_millis(100));
    assert!(waiting.iter().all(|thread| !thread.is_finished()), "they wait for the move");
    block_on(world.mover.move_rows(held, &source, &target, slot, slot));
    block_on(world.mover.release(held));
    for (thread, among) in waiting.into_iter().zip([&["11"][..], &["1", "11"], &["1", "11"]]) {
        let (value, took) = thread.join().expect("a client");
        let value = value.expect("an answer");
        assert!(among.contains(&value.as_str()), "{value}");
        assert!(took >= Duration::from_millis(300), "{took:?}");
    }
    assert_eq!(world.ask(0, "SELECT value FROM registers WHERE id = 1"), "11");
    let server = |name: &str| name[1..].parse::<usize>().expect("sN");
    let there = "SELECT count(*) FROM registers WHERE id = 1";
    assert_eq!(world.herd.psql(server(&source), there).expect("a server answers"), "0");
    assert_eq!(world.herd.psql(server(&target), there).expect("a server answers"), "1");

    // One that looks at the rows as of before a move is told so, instead of seeing none.
    let mut old = world.endpoints[1].login(&database);
    old.run("BEGIN ISOLATION LEVEL REPEATABLE READ");
    old.run(&format!("/* pgherd: shard={source} */ SELECT 1"));
    let other = slot_moved_back(&world, &target, &source, slot);
    assert_eq!(other, Moved::Deferred, "a shard named by hand may be read in any way");
    old.run("ROLLBACK");

    // A hold whose mover has died ends by itself, and who waited is served.
    let held = block_on(world.mover.hold(&unit, "owner", &target, &source, 2));
    assert!(block_on(world.mover.acknowledged(held, Duration::from_secs(5))));
    let begun = Instant::now();
    assert_eq!(world.ask(0, "SELECT value FROM registers WHERE id = 1"), "11");
    assert!(begun.elapsed() > Duration::from_secs(1), "{:?}", begun.elapsed());
    world.check_well();
}

fn slot_moved_back(world: &World, source: &str, target: &str, slot: u16) -> Moved {
    let mover = Mover {
        drain: Duration::from_millis(500),
        servers: world.mover.servers.clone(),
        tables: world.mover.tables.clone(),
        database: world.mover.database.clone(),
        distribution: world.mover.distribution.clone(),
    };
    block_on(mover.slots(source, target, slot, slot))
}

/// A pgherd that was stopped for longer than its lease knows nothing of what moved meanwhile, and must find out before it serves.
#[test]
fn a_pgherd_that_was_stopped_while_rows_moved_serves_them_from_where_they_are() {
    let mut world = World::start(2);
    world.ask(0, "CREATE TABLE registers (id bigint PRIMARY KEY, value bigint NOT NULL)");
    world.mover.tables = vec![("registers".into(), "id".into())];
    let rows: Vec<String> = (1..=200).map(|id| format!("({id}, 7)")).collect();
    world.ask(0, &format!("INSERT INTO registers VALUES {}", rows.join(", ")));
    let database = world.herd.options().database.clone();
    let mut idle = world.endpoints[1].login(&database);
    let mut open = world.endpoints[1].login(&database);
    let mut untouched = world.endpoints[1].login(&database);
    idle.run("SELECT value FROM registers WHERE id = 1");
    untouched.run("BEGIN");
    untouched.run("SELECT 1");

    world.endpoints[1].signal("STOP");
    let (from, to) = block_on(world.mover.owned())[1][0];
    let begun = Instant::now();
    let mut deferred = 0;
    while block_on(world.mover.slots("s1", "s2", from, to)) == Moved::Deferred {
        deferred += 1;
        assert!(begun.elapsed() < Duration::from_secs(30), "the lease of a stopped pgherd ends");
    }
    assert!(deferred > 0, "as long as the lease lives nothing moves");
    world.ask(0, "UPDATE registers SET value = 8");
    let readers = (1..=200).map(|id| format!("SELECT value FROM registers WHERE id = {id}"));
    world.endpoints[1].signal("CONT");
    // At once, all of them: what it knew when it was stopped is wrong.
    for sql in readers {
        assert_eq!(idle.value(&sql), Ok("8".into()), "{sql}");
    }
    assert_eq!(untouched.value("SELECT count(*) FROM registers WHERE value = 8"), Ok("200".into()));
    untouched.run("COMMIT");

    // A transaction that had touched something when the lease ended cannot go on.
    open.run("BEGIN");
    open.run("SELECT value FROM registers WHERE id = 1");
    world.endpoints[1].signal("STOP");
    thread::sleep(Duration::from_millis(9_000));
    world.endpoints[1].signal("CONT");
    let said = open.value("SELECT value FROM registers WHERE id = 2");
    assert!(said.as_ref().is_err_and(|error| error.contains("40001")), "{said:?}");
    open.run("ROLLBACK");
    assert_eq!(open.value("SELECT value FROM registers WHERE id = 2"), Ok("8".into()));
    world.check_well();
}
