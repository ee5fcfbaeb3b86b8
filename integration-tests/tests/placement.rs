//! Ranges, lists and lists with hash over real servers: rows are where the placement says, and nowhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use pgherd_integration_tests::{Stage, StageOptions, until};

fn configuration(stage: &Stage) -> PathBuf {
    stage.herd().folder().join("pgherd.toml")
}

/// Adds to the configuration; `{db}` is its database.
fn configure(stage: &Stage, more: &str) {
    let file = configuration(stage);
    let text = fs::read_to_string(&file).expect("the configuration is there");
    let database = &stage.herd().options().database;
    fs::write(file, text + &more.replace("{db}", database)).expect("the configuration is written");
}

const SPREAD: &str = r#"
by_days = { distribution = "days", key = "day" }
tenants = { distribution = "regions", key = "region" }
sites = { distribution = "places", key = ["region", "id"] }

[databases.{db}.distributions.days]
by = "range"
type = "date"
gaps = true
ranges = [
    { to = 2024-01-01, shard = "s0" },
    { from = 2024-01-01, to = 2024-07-01, shard = "s1" },
    { from = 2025-01-01, shard = "s2" },
]

[databases.{db}.distributions.regions]
by = "list"
type = "text"
lists = [
    { values = ["de", "fr"], shard = "s0" },
    { values = "us", null = true, shard = "s1" },
    { default = true, shard = "s3" },
]

[databases.{db}.distributions.places]
by = "list"
type = ["text", "bigint"]
lists = [{ values = "de", shards = ["s1", "s2"] }, { values = "us", shard = "s3" }]
"#;

#[test]
fn rows_are_where_the_placement_says_and_the_catalog_keeps_it() {
    let stage = Stage::prepare(&StageOptions { fsync: false, ..StageOptions::default() });
    let database = stage.herd().options().database.clone();
    // A catalog of before there were ranges and lists, whose slots are not those of a first start.
    let control = stage.herd().control_url(0);
    let old = format!(
        "CREATE SCHEMA pgherd;
         CREATE TABLE pgherd.cluster (only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one), id text NOT NULL,
             made timestamptz NOT NULL DEFAULT pg_catalog.now());
         INSERT INTO pgherd.cluster (id) VALUES ('0123456789abcdef');
         CREATE TABLE pgherd.placement (database text NOT NULL, distribution text NOT NULL, slot_from integer NOT NULL,
             slot_to integer NOT NULL, shard text NOT NULL, epoch bigint NOT NULL,
             PRIMARY KEY (database, distribution, slot_from),
             CHECK (0 <= slot_from AND slot_from <= slot_to AND slot_to < 16384));
         INSERT INTO pgherd.placement VALUES ('{database}', 'item', 0, 99, 's3', 7), ('{database}', 'item', 100, 16383, 's0', 3);"
    );
    stage.herd().psql_at(&control, &old).expect("the old catalog is made");
    configure(&stage, SPREAD);
    stage.serve(None);

    let item = format!(
        "SELECT string_agg(concat_ws(' ', part, slot_from, slot_to, shard, epoch), ', ' ORDER BY slot_from)
         FROM pgherd.placement WHERE database = '{database}' AND distribution = 'item'"
    );
    let asked =
        |sql: &str| stage.herd().psql_at(&control, sql).expect("the catalog answers").trim().to_owned();
    assert_eq!(asked(&item), "0 0 99 s3 7, 0 100 16383 s0 3", "what was recorded stays");
    let methods =
        "SELECT string_agg(concat(distribution, ' ', method, ' ', types), ', ' ORDER BY distribution)
                   FROM pgherd.distributions WHERE distribution IN ('item', 'days', 'places')";
    assert_eq!(asked(methods), "days range date, item hash bigint, places list text,bigint");

    stage.ask("CREATE TABLE by_days (day date, x integer)");
    stage.ask("CREATE TABLE tenants (region text, x integer)");
    stage.ask("CREATE TABLE sites (region text, id bigint, x integer)");
    stage.ask("INSERT INTO by_days VALUES ('2023-12-31', 1), ('2024-01-01', 2), ('2024-06-30', 3), ('2025-01-01', 4), ('infinity', 5), ('-infinity', 6)");
    let each =
        |sql: &str| stage.ask_servers(sql).iter().map(|answer| answer.trim().to_owned()).collect::<Vec<_>>();
    let xs = |table: &str| each(&format!("SELECT string_agg(x::text, ' ' ORDER BY x) FROM {table}"));
    assert_eq!(xs("by_days"), ["1 6", "2 3", "4 5", ""]);
    for (condition, expected) in [
        ("day = '2024-01-01'", "1"),
        ("day < '2024-01-01'", "2"),
        ("day BETWEEN '2023-12-31' AND '2024-06-30'", "3"),
        ("day >= '2024-07-01' AND day < '2025-01-01'", "0"),
        ("day = '2024-08-01'", "0"),
        ("day > '2024-06-30'", "2"),
        ("day IN ('-infinity', 'infinity')", "2"),
        ("day = ANY ('{2024-01-01,2025-01-01}')", "2"),
        ("day IS NULL", "0"),
        ("x > 0", "6"),
    ] {
        assert_eq!(
            stage.ask(&format!("SELECT count(*) FROM by_days WHERE {condition}")).trim(),
            expected,
            "{condition}"
        );
    }
    let refused = |sql: &str| stage.herd().psql_at(&stage.url(), sql).expect_err(sql).to_string();
    let nowhere = "no shard of distribution \"days\" takes the row";
    assert!(refused("INSERT INTO by_days VALUES ('2024-08-01', 7)").contains(nowhere));
    assert!(refused("INSERT INTO by_days VALUES ('2023-08-01', 7), ('2024-08-01', 8)").contains(nowhere));
    assert_eq!(stage.sum("SELECT count(*) FROM by_days"), 6);

    stage.ask("INSERT INTO tenants VALUES ('de', 1), ('fr', 2), ('us', 3), (NULL, 4), ('DE', 5), ('jp', 6)");
    assert_eq!(xs("tenants"), ["1 2", "3 4", "", "5 6"]);
    assert_eq!(stage.ask("SELECT x FROM tenants WHERE region IS NULL").trim(), "4");
    assert_eq!(stage.ask("SELECT count(*) FROM tenants WHERE region > 'e'").trim(), "3");

    let rows: Vec<String> = (0..100).map(|id| format!("('de', {id}, {id})")).collect();
    stage.ask(&format!("INSERT INTO sites VALUES {}, ('us', 1, 1000)", rows.join(", ")));
    assert_eq!(each("SELECT count(*) FROM sites WHERE region = 'us'"), ["0", "0", "0", "1"]);
    // What PostgreSQL itself says of the hash within the group: half of the slots each.
    let half = |low: i32| {
        format!(
            "SELECT count(*) FROM sites WHERE region = 'de'
             AND ((hashint8extended(id, 8816678312871386365) & 16383) + (5305509591434766563 & 16383)) & 16383 BETWEEN {low} AND {}",
            low + 8191
        )
    };
    assert_eq!(each(&half(0))[2], "0");
    assert_eq!(each(&half(8192))[1], "0");
    assert_eq!(stage.sum("SELECT count(*) FROM sites"), 101);
    for id in [0, 1, 50, 99] {
        assert_eq!(
            stage.ask(&format!("SELECT x FROM sites WHERE region = 'de' AND id = {id}")).trim(),
            id.to_string()
        );
    }

    check_against_the_servers(&stage);

    // Another wish changes nothing; another method or type is refused, and the reason is said.
    stage.kill_pgherd();
    let file = configuration(&stage);
    let text = fs::read_to_string(&file).expect("the configuration is there");
    fs::write(
        &file,
        text.replace(
            "values = \"us\", null = true, shard = \"s1\"",
            "values = \"us\", null = true, shard = \"s2\"",
        ),
    )
    .expect("it is written");
    stage.serve(None);
    assert_eq!(stage.ask("SELECT x FROM tenants WHERE region = 'us'").trim(), "3");
    stage.kill_pgherd();
    fs::write(
        &file,
        text.replace(
            "distributions.item]\nby = \"hash\"\ntype = \"bigint\"",
            "distributions.item]\nby = \"hash\"\ntype = \"text\"",
        ),
    )
    .expect("it is written");
    stage.launch(None);
    let reason = "is recorded as hash of (bigint), and the configuration says hash of (text)";
    until("the reason is in the log", Duration::from_secs(30), || stage.log().contains(reason));
    stage.check_no_panic();
}

/// What `pgherd check --servers` prints, and whether it is content.
fn check(stage: &Stage) -> (bool, String) {
    let own = std::env::current_exe().expect("a test knows its own path");
    let beside = own.parent().and_then(Path::parent).expect("target/<profile>/deps").join("pgherd");
    let program = std::env::var_os("PGHERD_BIN").map_or(beside, PathBuf::from);
    let output = Command::new(program)
        .arg("check")
        .arg(configuration(stage))
        .arg("--servers")
        .envs(stage.herd().env())
        .output()
        .expect("pgherd runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

fn check_against_the_servers(stage: &Stage) {
    let (good, text) = check(stage);
    assert!(good, "{text}");
    assert!(text.contains("table pgbench_accounts is on no server yet"), "{text}");
    assert!(!text.contains("by_days"), "{text}");

    stage.ask("CREATE TABLE items (id bigint PRIMARY KEY, name text)");
    let database = &stage.herd().options().database;
    assert!(check(stage).0);
    for (server, sql) in [
        (1, "ALTER TABLE items ADD COLUMN more integer DEFAULT 7"),
        (2, "DROP TABLE sites"),
        (3, "CREATE UNIQUE INDEX by_name ON items (name)"),
        (3, "ALTER TABLE tenants ALTER COLUMN region TYPE varchar(9)"),
    ] {
        stage.ask_server(server, sql);
    }
    let (good, text) = check(stage);
    assert!(!good, "{text}");
    for line in [
        "problem: column \"more\" of table items is not the same everywhere: \"integer default 7\" on s1; missing on s0, s2, s3",
        "problem: table sites is not on s2",
        "problem: index \"by_name\" of table items is not the same everywhere",
        "problem: column \"region\" of table tenants is not the same everywhere",
    ] {
        assert!(text.contains(&format!("{database}: {line}")), "{line}\n{text}");
    }
    for (server, sql) in [(1, "ALTER TABLE items DROP COLUMN more"), (3, "DROP INDEX by_name")] {
        stage.ask_server(server, sql);
    }
}
