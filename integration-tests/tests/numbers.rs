//! Numbers, keys and moments that the first shard gives to rows of all shards.
//! (What is answered is compared with one server's answers in `differential`; here is what no comparison shows.)

use std::fs;
use std::thread;

use pgherd_integration_tests::{Stage, StageOptions};

/// `{db}`: the database.
const TABLES: &str = r#"
tickets = { distribution = "tickets", key = "id" }
gadgets = { distribution = "gadgets", key = "id" }
labels = { reference = true }

[databases.{db}.distributions.tickets]
by = "hash"
type = "bigint"

[databases.{db}.distributions.gadgets]
by = "hash"
type = "uuid"
"#;

const WRITERS: usize = 6;
const STATEMENTS: usize = 25;

fn number(stage: &Stage, sql: &str) -> i64 {
    stage.ask(sql).trim().parse().unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[test]
fn numbers_and_keys_are_given_once_in_the_whole_herd() {
    let stage = Stage::prepare(&StageOptions { fsync: false, ..StageOptions::default() });
    let file = stage.herd().folder().join("pgherd.toml");
    let text = fs::read_to_string(&file).expect("the configuration is there");
    let database = stage.herd().options().database.clone();
    fs::write(&file, text + &TABLES.replace("{db}", &database)).expect("the configuration is written");
    stage.serve(None);
    stage.ask("CREATE TABLE tickets (id bigserial PRIMARY KEY, title text)");
    stage.ask(
        "CREATE TABLE gadgets (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), made timestamptz NOT NULL DEFAULT now(), label text)",
    );
    stage
        .ask("CREATE TABLE labels (code serial PRIMARY KEY, mark uuid DEFAULT gen_random_uuid(), name text)");

    // Many sessions at once, with one row and with several, with and without a transaction: no number twice, and none lost.
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let stage = &stage;
            scope.spawn(move || {
                let one = "INSERT INTO tickets (title) VALUES ('one');\n";
                let several = "INSERT INTO tickets (title) VALUES ('a'), ('b'), ('c');\n";
                let together = "BEGIN;\nINSERT INTO tickets (title) VALUES ('x');\nINSERT INTO tickets VALUES (DEFAULT, 'y'), (DEFAULT, 'z');\nCOMMIT;\n";
                let texts = [one, several, together];
                let script: String = (0..STATEMENTS).map(|n| texts[(n + writer) % 3]).collect();
                stage.ask(&script);
            });
        }
    });
    let count = number(&stage, "SELECT count(*) FROM tickets");
    assert_eq!(number(&stage, "SELECT count(DISTINCT id) FROM tickets"), count);
    assert_eq!(number(&stage, "SELECT max(id) FROM tickets"), count, "none is left out where nothing fails");
    let spread = stage.ask_servers("SELECT count(*) FROM tickets");
    assert!(spread.iter().all(|rows| rows.trim() != "0"), "{spread:?}");
    // Only the first server's sequence was drawn from.
    let drawn = stage.ask_servers("SELECT is_called FROM tickets_id_seq");
    assert_eq!(drawn.iter().map(|answer| answer.trim()).collect::<Vec<_>>(), ["t", "f", "f", "f"]);
    assert_eq!(
        stage.ask("BEGIN;\nINSERT INTO tickets (title) VALUES ('mine');\nSELECT currval('tickets_id_seq') = lastval();\nCOMMIT").trim(),
        "t"
    );

    // Keys by default; rows of one statement have one moment.
    stage.ask("INSERT INTO gadgets (label) VALUES ('alone')");
    stage.ask("INSERT INTO gadgets DEFAULT VALUES");
    let rows: Vec<String> = (0..40).map(|n| format!("('g{n}')")).collect();
    stage.ask(&format!("INSERT INTO gadgets (label) VALUES {}", rows.join(", ")));
    assert_eq!(number(&stage, "SELECT count(*) FROM gadgets"), 42);
    assert_eq!(number(&stage, "SELECT count(DISTINCT made) FROM gadgets"), 3);
    let id = stage.ask("SELECT id FROM gadgets WHERE label = 'alone'");
    assert_eq!(stage.ask(&format!("SELECT label FROM gadgets WHERE id = '{}'", id.trim())).trim(), "alone");
    assert_eq!(
        number(
            &stage,
            "SELECT count(*) FROM gadgets WHERE made > now() - interval '1 hour' AND made <= now()"
        ),
        42
    );
    stage.ask("UPDATE gadgets SET made = now() - interval '2 days' WHERE label LIKE 'g%'");
    assert_eq!(number(&stage, "SELECT count(DISTINCT made) FROM gadgets WHERE label LIKE 'g%'"), 1);
    stage.ask("DELETE FROM gadgets WHERE made < now() - interval '1 day'");
    assert_eq!(number(&stage, "SELECT count(*) FROM gadgets"), 2);

    // Copies of a reference table get the same.
    stage.ask("INSERT INTO labels (name) VALUES ('red'), ('green')");
    let copies = stage.ask_servers("SELECT string_agg(labels::text, ' ' ORDER BY code) FROM labels");
    assert!(copies.iter().all(|copy| *copy == copies[0]), "{copies:?}");
    assert!(copies[0].contains("(1,") && copies[0].contains("(2,"), "{copies:?}");

    stage.check_nothing_open("at the end");
    assert_eq!(stage.prepared(), 0);
    stage.check_no_panic();
}
