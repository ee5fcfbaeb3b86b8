//! A crowd of clients over twenty connections to one server: nobody is refused, forgotten or mixed up, also when the server
//! is killed and started again under PAUSE.
//!
//! Invariant: no client gets an error that it did not ask for, and nothing that is another's.
//!
//! The long form is run by `make soak`.

mod raw;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use pgherd::demo::servers::{Herd, HerdOptions};
use raw::*;

/// Clients that a thread has in flight at once.
const AT_ONCE: usize = 12;
const THREADS: u64 = 8;

struct Member {
    me: String,
    wire: Wire,
}

impl Member {
    fn join(endpoint: &Endpoint, me: String) -> Self {
        let mut wire = Wire::tcp(endpoint.port);
        wire.start("app", "crowd", &[("application_name", &me)]);
        Self { me, wire }
    }

    /// Its own setting, and a statement under a name that everybody uses.
    fn settle_in(&mut self) {
        let me = &self.me;
        let statement = parse("s", &format!("SELECT '{me}' || $1::text"), &[]);
        let messages = [query(&format!("SET my.own = '{me}'")), statement, sync()];
        self.wire.send(&messages.concat());
        for _ in 0..2 {
            assert_eq!(error_of(&self.wire.until(b'Z')), None, "{me}");
        }
    }

    fn ask(&mut self, kind: usize, n: usize) {
        let me = &self.me;
        let message = match kind {
            0 => query(&format!("SELECT '{me}{n}'")),
            1 => query("SELECT current_setting('my.own')"),
            2 => query("SELECT current_setting('application_name')"),
            3 => [bind("", "s", &[&n.to_string()]), execute("", 0), sync()].concat(),
            4 => [parse("", &format!("SELECT '{me}{n}'"), &[]), bind("", "", &[]), execute("", 0), sync()]
                .concat(),
            5 => query(&format!(
                "BEGIN; INSERT INTO seen VALUES ('{me}'); SELECT string_agg(who, ',') FROM seen; ROLLBACK"
            )),
            6 => query(&format!("DO $$ BEGIN RAISE NOTICE '{me}'; END $$")),
            _ => query("SELECT 1/0"),
        };
        self.wire.send(&message);
    }

    fn check(&mut self, kind: usize, n: usize) {
        let Self { me, wire } = self;
        let said = wire.until(b'Z');
        let got = || value_of(&said);
        match kind {
            0 | 3 | 4 => assert_eq!(got(), Ok(format!("{me}{n}")), "{me}, {kind}"),
            1 | 2 | 5 => assert_eq!(got().as_ref(), Ok(&*me), "{me}, {kind}"),
            6 => {
                assert_eq!(error_of(&said), None, "{me}");
                let notices: Vec<_> = said.iter().filter(|m| m.kind == b'N').map(line).collect();
                assert!(matches!(&notices[..], [only] if only.contains(&**me)), "{me}: {notices:?}");
            }
            _ => assert_eq!(error_of(&said).as_deref(), Some("22012 division by zero"), "{me}"),
        }
    }
}

/// Open files that this process and pgherd may have, less some for everything else.
fn places() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or("1024");
    line.split_whitespace().next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(1024).saturating_sub(400)
}

fn crowd(clients: usize, restarts: usize, between: Duration) {
    let clients = clients.min(places());
    let herd = Herd::start(1, HerdOptions::default()).expect("a PostgreSQL server");
    herd.psql(0, "CREATE DATABASE crowd OWNER app").expect("a database");
    let port = free_port();
    let mut endpoint = Endpoint::start(
        &herd,
        port,
        &format!(
            "[server]\nlisten = [\"127.0.0.1:{port}\"]\nworkers = 2\nmax_clients = 20000\nadmins = [\"boss\"]\n\
             [auth]\nmethod = \"trust\"\n[[users]]\nname = \"app\"\npassword = \"env:APP_PASSWORD\"\n\
             [[users]]\nname = \"boss\"\n[pool]\nsize = 20\ncheckout_timeout = \"60s\"\n\
             [[databases.crowd.shards]]\nname = \"s0\"\nprimary = \"postgres://127.0.0.1:{}/crowd\"\n",
            herd.port(0)
        ),
    );
    let mut first = Member::join(&endpoint, "first".into());
    first.wire.run("CREATE TABLE seen (who text)");
    let mut boss = Wire::tcp(port);
    boss.start("boss", "pgbouncer", &[]);

    let mut dice = Dice::new("crowd");
    let (stop, served, cancelled) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let begun = Instant::now();
    thread::scope(|scope| {
        for t in 0..THREADS {
            let mut dice = dice.child(t);
            let (endpoint, stop, served) = (&endpoint, &stop, &served);
            let own = clients / THREADS as usize;
            scope.spawn(move || {
                let mut members: Vec<_> =
                    (0..own).map(|n| Member::join(endpoint, format!("c{t}x{n}y"))).collect();
                members.iter_mut().for_each(Member::settle_in);
                while !stop.load(Ordering::Relaxed) {
                    let from = dice.below(own);
                    let asked: Vec<_> =
                        (0..AT_ONCE.min(own)).map(|k| ((from + k) % own, dice.below(8))).collect();
                    for &(at, kind) in &asked {
                        members[at].ask(kind, at);
                    }
                    for &(at, kind) in &asked {
                        members[at].check(kind, at);
                    }
                    served.fetch_add(asked.len() as u64, Ordering::Relaxed);
                }
                // Everybody is still there, and is still who it was.
                for (n, member) in members.iter_mut().enumerate() {
                    member.ask(1, n);
                    member.check(1, n);
                }
            });
        }
        // Whose statements are cancelled all the time; nobody else's are.
        scope.spawn(|| {
            let mut victim = Member::join(&endpoint, "victim".into());
            let key = victim.wire.key.clone();
            while !stop.load(Ordering::Relaxed) {
                victim.wire.send(&query("SELECT 'mine' FROM pg_sleep(0.02)"));
                endpoint.cancel(&key);
                match value_of(&victim.wire.until(b'Z')) {
                    Ok(mine) => assert_eq!(mine, "mine"),
                    Err(e) => {
                        assert_eq!(e, "57014 canceling statement due to user request");
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        // Ends the others also when it fails.
        struct Ends<'a>(&'a AtomicBool);
        impl Drop for Ends<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let _ends = Ends(&stop);
        let everybody = clients as u64;
        let deadline = Instant::now() + Duration::from_secs(180);
        while served.load(Ordering::Relaxed) < everybody.min(2_000) {
            assert!(Instant::now() < deadline, "{served:?} served");
            thread::sleep(Duration::from_millis(20));
        }
        for round in 0..restarts {
            boss.run("PAUSE crowd");
            herd.kill9(0).unwrap_or_else(|error| panic!("{round}: {error}"));
            herd.restart(0).unwrap_or_else(|error| panic!("{round}: {error}"));
            let before = served.load(Ordering::Relaxed);
            boss.run("RESUME crowd");
            let deadline = Instant::now() + Duration::from_secs(60);
            while served.load(Ordering::Relaxed) < before + everybody.min(500) {
                assert!(Instant::now() < deadline, "{round}: nobody is served after RESUME");
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(between);
        }
    });
    println!(
        "{clients} clients, {restarts} restarts, {:.1} s: {} served, {} cancelled",
        begun.elapsed().as_secs_f64(),
        served.into_inner(),
        cancelled.into_inner()
    );
    first.wire.run("SELECT 1");
    endpoint.assert_well();
}

#[test]
fn a_server_is_killed_and_restarted_under_pause_and_none_of_500_clients_notices() {
    crowd(500, 1, Duration::from_millis(300));
}

#[test]
#[ignore = "minutes long: make soak"]
fn soak_ten_thousand_clients_over_twenty_connections_and_restarts_under_pause() {
    crowd(10_000, 5, Duration::from_secs(8));
}
