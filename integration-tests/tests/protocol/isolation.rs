//! Many clients over one or two servers: none sees what is another's.
//!
//! Each client plays random scripts from a printed seed (`PGHERD_SEED` gives it again) and knows what a server of its
//! own would answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crate::raw::*;
use crate::*;

const SETTINGS: [(&str, [&str; 3]); 6] = [
    ("application_name", ["red", "green", "it's \"blue\""]),
    ("work_mem", ["5MB", "6MB", "7MB"]),
    ("search_path", ["public", "pg_catalog, public", "nowhere, public"]),
    ("my.own", ["1", "two", ""]),
    ("statement_timeout", ["1min", "2min", "0"]),
    ("DateStyle", ["German, DMY", "ISO, YMD", "SQL, MDY"]),
];

/// What this client expects of each setting; `None`: as at login.
struct Session {
    me: String,
    wire: Wire,
    set: [Option<usize>; SETTINGS.len()],
    at_login: Vec<String>,
    statements: Vec<(String, String)>,
    steps: Vec<String>,
}

impl Session {
    fn new(endpoint: &Endpoint, database: &str, me: String) -> Self {
        let mut wire = endpoint.login(database);
        let at_login = SETTINGS
            .iter()
            .map(|(name, _)| {
                wire.value(&format!("SELECT coalesce(current_setting('{name}', true), '')"))
                    .expect("a setting")
            })
            .collect();
        Self { me, wire, set: [None; SETTINGS.len()], at_login, statements: Vec::new(), steps: Vec::new() }
    }

    fn expected(&self, n: usize) -> &str {
        match self.set[n] {
            Some(v) => SETTINGS[n].1[v],
            None => &self.at_login[n],
        }
    }

    fn fail(&self, what: String) -> ! {
        panic!(
            "{} : {what}\n  its last steps:\n    {}",
            self.me,
            self.steps[self.steps.len().saturating_sub(12)..].join("\n    ")
        );
    }

    fn ask(&mut self, sql: &str) -> String {
        self.steps.push(sql.into());
        match self.wire.value(sql) {
            Ok(value) => value,
            Err(e) => self.fail(format!("{sql}: {e}")),
        }
    }

    fn tell(&mut self, sql: &str) -> Vec<Message> {
        self.steps.push(sql.into());
        let said = self.wire.query(sql);
        if let Some(e) = error_of(&said) {
            self.fail(format!("{sql}: {e}"));
        }
        for m in said.iter().filter(|m| m.kind == b'N' || m.kind == b'A') {
            let text = line(m);
            if !text.contains(&self.me) {
                self.fail(format!("{sql}: a notice of somebody else: {text}"));
            }
        }
        said
    }

    fn check(&mut self, what: &str, expected: &str, got: &str) {
        if expected != got {
            self.fail(format!("{what}: expected {expected:?}, got {got:?}"));
        }
    }

    fn check_settings(&mut self) {
        let all: Vec<_> =
            SETTINGS.iter().map(|(n, _)| format!("coalesce(current_setting('{n}', true), '')")).collect();
        let got = self.ask(&format!("SELECT concat_ws('|', {})", all.join(", ")));
        let expected: Vec<_> = (0..SETTINGS.len()).map(|n| self.expected(n)).collect();
        // A custom setting that was RESET is there and empty.
        self.check("settings", &expected.join("|"), &got);
    }

    fn step(&mut self, dice: &mut Dice, pinning: bool) {
        let me = self.me.clone();
        match dice.below(if pinning { 15 } else { 12 }) {
            0 | 1 => {
                let (n, v) = (dice.below(SETTINGS.len()), dice.below(3));
                if dice.below(3) == 0 {
                    let (name, values) = &SETTINGS[n];
                    let value = values[v].replace('\'', "''");
                    self.tell(&format!("SELECT set_config('{name}', '{value}', false)"));
                } else {
                    self.tell(&set_sql(n, v));
                }
                self.set[n] = Some(v);
            }
            2 => {
                let n = dice.below(SETTINGS.len());
                self.tell(&format!("RESET {}", SETTINGS[n].0));
                self.set[n] = None;
            }
            3 => {
                // Rolled back, or kept.
                let (n, v, keep) = (dice.below(SETTINGS.len()), dice.below(3), dice.below(2) == 0);
                self.tell("BEGIN");
                self.tell(&set_sql(n, v));
                let inside = self.ask(&format!("SELECT current_setting('{}')", SETTINGS[n].0));
                self.check("SET in a block", SETTINGS[n].1[v], &inside);
                self.tell(if keep { "COMMIT" } else { "ROLLBACK" });
                if keep {
                    self.set[n] = Some(v);
                }
            }
            4 => {
                self.tell("BEGIN");
                self.tell(&set_sql(0, 1).replacen("SET", "SET LOCAL", 1));
                let inside = self.ask("SHOW application_name");
                self.check("SET LOCAL", SETTINGS[0].1[1], &inside);
                self.tell("COMMIT");
            }
            5 => {
                // The same names at every client, another text.
                let name = format!("s{}", dice.below(3));
                let text = format!("{me}-{}", dice.below(1000));
                let sql = format!("SELECT '{text}' || $1::text");
                if dice.below(2) == 0 {
                    if self.statements.iter().any(|(n, _)| *n == name) {
                        self.tell(&format!("DEALLOCATE {name}"));
                    }
                    self.tell(&format!("PREPARE {name} (text) AS {sql}"));
                } else {
                    self.steps.push(format!("Parse {name} as {text}"));
                    self.wire.send(&[close_statement(&name), parse(&name, &sql, &[]), sync()].concat());
                    let said = self.wire.until(b'Z');
                    if let Some(e) = error_of(&said) {
                        self.fail(format!("Parse: {e}"));
                    }
                }
                self.statements.retain(|(n, _)| *n != name);
                self.statements.push((name, text));
            }
            6 | 7 => {
                for (name, text) in self.statements.clone() {
                    let by_sql = self.ask(&format!("EXECUTE {name} ('?')"));
                    self.check("EXECUTE", &format!("{text}?"), &by_sql);
                    self.steps.push(format!("Execute {name}"));
                    self.wire.send(&[bind("", &name, &["!"]), execute("", 0), sync()].concat());
                    let said = self.wire.until(b'Z');
                    match value_of(&said) {
                        Ok(got) => self.check("a named statement", &format!("{text}!"), &got),
                        Err(e) => self.fail(format!("Execute {name}: {e}")),
                    }
                }
                self.steps.push("Bind of a name that only others have".into());
                self.wire.send(&[bind("", "s9", &[]), sync()].concat());
                let said = self.wire.until(b'Z');
                self.check(
                    "an unknown name",
                    "26000 prepared statement \"s9\" does not exist",
                    &error_of(&said).unwrap_or_default(),
                );
            }
            8 => {
                let n = dice.below(100_000);
                let said = self.tell(&format!("DO $$ BEGIN RAISE NOTICE '{me} {n}'; END $$"));
                let notices = said.iter().filter(|m| m.kind == b'N').count();
                self.check("notices", "1", &notices.to_string());
            }
            9 => {
                self.tell("BEGIN");
                self.tell(&format!("INSERT INTO iso VALUES ('{me}', {})", dice.below(1000)));
                let seen = self.ask("SELECT count(*) FROM iso");
                self.check("rows of open transactions", "1", &seen);
                self.tell("ROLLBACK");
            }
            10 => {
                let said = self.wire.query("SELECT 1/0");
                self.steps.push("SELECT 1/0".into());
                self.check("an error", "22012 division by zero", &error_of(&said).unwrap_or_default());
                self.check(
                    "its status",
                    "I",
                    std::str::from_utf8(&said.last().expect("Z").body).unwrap_or(""),
                );
            }
            11 => {
                // A pipeline of several batches, one of which fails.
                let (a, b) = (format!("{me}a"), format!("{me}b"));
                let run =
                    |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat();
                self.steps.push("a pipeline".into());
                self.wire.send(
                    &[run(&format!("SELECT '{a}'")), run("SELECT 1/0"), run(&format!("SELECT '{b}'"))]
                        .concat(),
                );
                let answers: Vec<_> = (0..3).map(|_| value_of(&self.wire.until(b'Z'))).collect();
                if answers != [Ok(a), Err("22012 division by zero".into()), Ok(b)] {
                    self.fail(format!("a pipeline answered {answers:?}"));
                }
            }
            12 => {
                self.tell("CREATE TEMP TABLE mine AS SELECT 'x'::text AS who");
                self.tell(&format!("UPDATE mine SET who = '{me}'"));
                let who = self.ask("SELECT who FROM mine");
                self.check("a temp table", &me, &who);
                self.discard();
                let gone = self.wire.query("SELECT * FROM mine");
                self.check(
                    "a temp table after DISCARD ALL",
                    "42P01 relation \"mine\" does not exist",
                    &error_of(&gone).unwrap_or_default(),
                );
            }
            13 => {
                self.tell("SELECT pg_advisory_lock(hashtext('only me'))");
                self.tell("INSERT INTO lock_held VALUES (1)");
                let held = self.ask("SELECT count(*) FROM lock_held");
                self.check("holders of the lock", "1", &held);
                self.tell("DELETE FROM lock_held");
                self.tell("SELECT pg_advisory_unlock(hashtext('only me'))");
                self.discard();
            }
            _ => self.discard(),
        }
    }

    fn discard(&mut self) {
        self.tell("DISCARD ALL");
        self.set = [None; SETTINGS.len()];
        self.statements.clear();
    }
}

fn set_sql(n: usize, v: usize) -> String {
    let (name, values) = &SETTINGS[n];
    // A list is not one quoted name.
    match *name {
        "search_path" | "DateStyle" => format!("SET {name} TO {}", values[v]),
        _ => format!("SET {name} TO '{}'", values[v].replace('\'', "''")),
    }
}

/// `clients` clients over `database` for `time`.
pub fn play_isolated(database: &'static str, clients: u64, pinning: bool, time: Duration) {
    let stage = stage();
    let mut dice = Dice::new(database);
    let mut admin = stage.endpoint.login(database);
    admin.run("SELECT pg_advisory_xact_lock(4711); CREATE TABLE IF NOT EXISTS iso (who text, n int); CREATE TABLE IF NOT EXISTS lock_held (n int)");
    drop(admin);
    let deadline = Instant::now() + time;
    thread::scope(|scope| {
        for n in 0..clients {
            let mut dice = dice.child(n);
            scope.spawn(move || {
                let mut session = Session::new(&stage.endpoint, database, format!("{database}{n}x"));
                let mut left = 3;
                while Instant::now() < deadline {
                    session.step(&mut dice, pinning);
                    session.check_settings();
                    if dice.below(60) == 0 && left > 0 {
                        // Leaves without a word, in the middle of a transaction, and comes again.
                        left -= 1;
                        session.tell("BEGIN");
                        session.tell(&format!("INSERT INTO iso VALUES ('{}', -1)", session.me));
                        if dice.below(2) == 0 {
                            session.wire.send(&query("SELECT pg_sleep(10)"));
                        }
                        let me = session.me.clone();
                        drop(session);
                        session = Session::new(&stage.endpoint, database, me);
                    }
                }
            });
        }
    });
    assert_eq!(stage.endpoint.login(database).value("SELECT count(*) FROM iso").as_deref(), Ok("0"));
    assert!(!stage.endpoint.log().contains("panicked"), "{}", stage.endpoint.log());
}

#[test]
fn clients_of_one_server_see_only_what_is_theirs() {
    play_isolated("one", 8, false, Duration::from_secs(6));
}

#[test]
fn clients_of_two_servers_see_only_what_is_theirs_and_pins_come_and_go() {
    play_isolated("two", 12, true, Duration::from_secs(8));
}

#[test]
#[ignore = "minutes long: make soak"]
fn soak_clients_see_only_what_is_theirs() {
    play_isolated("one", 16, false, Duration::from_secs(60));
    play_isolated("two", 40, true, Duration::from_secs(120));
}

#[test]
fn a_cancel_strikes_the_clients_own_statement_and_nothing_else() {
    let stage = stage();
    let endpoint = &stage.endpoint;
    // A running query.
    let mut wire = endpoint.login("load");
    wire.send(&query("SELECT pg_sleep(30)"));
    thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    endpoint.cancel(&wire.key.clone());
    assert_eq!(error_of(&wire.until(b'Z')).as_deref(), Some("57014 canceling statement due to user request"));
    assert!(begun.elapsed() < Duration::from_secs(5));
    // Of nobody, with a wrong key, of an idle client: nothing happens.
    let mut wrong = wire.key.clone();
    wrong[6] ^= 0x55;
    let mut victim = endpoint.login("load");
    victim.send(&query("SELECT pg_sleep(0.6), 'unharmed'"));
    for key in [&wrong[..], b"\0\0\0\x01\0\0\0\x02", &wire.key.clone()] {
        endpoint.cancel(key);
    }
    assert!(error_of(&victim.until(b'Z')).is_none(), "a cancel of somebody else struck");
    assert_eq!(wire.value("SELECT 'alive'").as_deref(), Ok("alive"));
    // In a transaction: the transaction fails, the session lives.
    wire.run("BEGIN");
    wire.send(&query("SELECT pg_sleep(30)"));
    thread::sleep(Duration::from_millis(300));
    endpoint.cancel(&wire.key.clone());
    let said = wire.until(b'Z');
    assert_eq!(error_of(&said).as_deref(), Some("57014 canceling statement due to user request"));
    assert_eq!(said.last().map(|m| m.body.clone()), Some(b"E".to_vec()));
    wire.run("ROLLBACK");
}

#[test]
fn a_cancel_takes_a_waiting_client_out_of_the_queue() {
    let stage = stage();
    let mut holder = stage.endpoint.login("queue");
    let mut waiting = stage.endpoint.login("queue");
    let mut second = stage.endpoint.login("queue");
    holder.run("BEGIN; SELECT 1");
    waiting.send(&query("SELECT 'never'"));
    thread::sleep(Duration::from_millis(200));
    second.send(&[parse("", "SELECT 'never'", &[]), bind("", "", &[]), execute("", 0), sync()].concat());
    thread::sleep(Duration::from_millis(200));
    for client in [&mut second, &mut waiting] {
        let begun = Instant::now();
        stage.endpoint.cancel(&client.key.clone());
        assert_eq!(
            error_of(&client.until(b'Z')).as_deref(),
            Some("57014 canceling statement due to user request")
        );
        assert!(begun.elapsed() < Duration::from_secs(3));
    }
    holder.run("COMMIT");
    for client in [&mut waiting, &mut second] {
        assert_eq!(client.value("SELECT 'now'").as_deref(), Ok("now"));
    }
}

#[test]
fn a_storm_of_cancels_never_strikes_another_client() {
    let stage = stage();
    let endpoint = &stage.endpoint;
    let stop = AtomicBool::new(false);
    let (cancelled, served) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for n in 0..4 {
            let (stop, served) = (&stop, &served);
            scope.spawn(move || {
                let mut wire = endpoint.login("two");
                while !stop.load(Ordering::Relaxed) {
                    let said = wire.value(&format!("SELECT 'v{n}' FROM pg_sleep(0.002)"));
                    assert_eq!(said, Ok(format!("v{n}")), "a victim was struck");
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for n in 0..3u64 {
            let (stop, cancelled) = (&stop, &cancelled);
            scope.spawn(move || {
                let mut wire = endpoint.login("two");
                let key = wire.key.clone();
                let mut dice = Dice::new("storm").child(n);
                thread::scope(|inner| {
                    inner.spawn(move || {
                        while !stop.load(Ordering::Relaxed) {
                            endpoint.cancel(&key);
                            thread::sleep(Duration::from_micros(dice.below(3_000) as u64));
                        }
                    });
                    while !stop.load(Ordering::Relaxed) {
                        match wire.value("SELECT 'mine' FROM pg_sleep(0.003)") {
                            Ok(mine) => assert_eq!(mine, "mine"),
                            Err(e) => {
                                assert_eq!(e, "57014 canceling statement due to user request");
                                cancelled.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                });
            });
        }
        thread::sleep(Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
    });
    let (cancelled, served) = (cancelled.into_inner(), served.into_inner());
    println!("{cancelled} cancelled, {served} served unharmed");
    assert!(cancelled > 0 && served > 100, "{cancelled} cancelled, {served} served");
}
