//! The example file, and what defaults become.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pgherd_config::*;

fn tcp(host: &str, port: u16) -> Listen {
    Listen::Tcp { host: host.into(), port }
}

fn shard(name: &str, host: &str, port: u16, dbname: &str) -> Shard {
    let mut security = Security::default();
    if host.starts_with('/') {
        security.mode = SslMode::Disable;
    }
    let (others, balance) = (Vec::new(), false);
    let primary = Address { host: host.into(), port, others, balance, dbname: dbname.into(), security };
    Shard { name: name.into(), primary, weight: 1, region: None }
}

fn table(schema: Option<&str>, name: &str, placement: TablePlacement) -> Table {
    Table { schema: schema.map(Into::into), name: name.into(), placement }
}

fn sharded(distribution: usize, key: &[&str]) -> TablePlacement {
    TablePlacement::Sharded { distribution, key: key.iter().map(|column| column.to_string()).collect() }
}

fn default_pool() -> PoolSettings {
    PoolSettings {
        mode: Default::default(),
        size: 20,
        checkout_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(600),
        waiting_max: 10_000,
        cache_unnamed: true,
        pinned_max: 262_143,
        statements_max: 500,
        min_size: 0,
        reserve: 0,
        reserve_timeout: Duration::from_secs(3),
        lifetime: Duration::from_secs(3600),
        query_timeout: Duration::ZERO,
        transaction_timeout: Duration::ZERO,
        idle_transaction_timeout: Duration::ZERO,
        client_idle_timeout: Duration::ZERO,
    }
}

#[test]
fn the_example_file_means_what_it_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/four-shards.toml");
    let mut config = load(&path).unwrap_or_else(|problems| panic!("{problems}"));

    // Depends on the machine.
    assert!(config.server.workers >= 1);
    config.server.workers = 4;

    let mut first = Shard { region: Some("eu".into()), ..shard("s0", "127.0.0.1", 5501, "shop") };
    first.primary.security.mode = SslMode::VerifyFull;
    first.primary.security.root = Some("/etc/pgherd/servers.crt".into());
    let expected = Config {
        server: Server {
            listen: vec![
                tcp("127.0.0.1", 6432),
                Listen::Unix { directory: PathBuf::from("/run/pgherd"), port: 6432 },
            ],
            workers: 4,
            max_clients: 10_000,
            max_clients_per_user: 0,
            max_connections_per_user: 0,
            login_timeout: Duration::from_secs(60),
            socket_mode: None,
            socket_group: None,
            fallback_idle_timeout: Duration::from_secs(3600),
            admins: vec!["admin".into()],
            stats_users: vec!["watch".into()],
            http: Some(tcp("127.0.0.1", 9930)),
            drain: Drain::Transactions,
            drain_timeout: Duration::ZERO,
            tls: Some(ClientTls {
                mode: SslMode::Prefer,
                certificate: "/etc/pgherd/server.crt".into(),
                private_key: "/etc/pgherd/server.key".into(),
                client_ca: Some("/etc/pgherd/clients.crt".into()),
            }),
        },
        auth: Auth {
            method: AuthMethod::ScramSha256,
            hba_file: None,
            ident_file: Some("/etc/pgherd/pg_ident.conf".into()),
            query: Some(AuthQuery {
                statement: "SELECT * FROM pgherd_auth.lookup($1)".into(),
                role: Control {
                    user: "pgherd_auth".into(),
                    password: Some(Secret::Environment("PGHERD_AUTH_PASSWORD".into())),
                },
                database: Some(0),
            }),
        },
        users: vec![
            User {
                name: "app".into(),
                passwords: vec![Secret::Environment("APP_PASSWORD".into())],
                pool: PoolOverrides::default(),
                max_clients: 0,
                max_connections: 0,
            },
            User {
                name: "reports".into(),
                passwords: vec![Secret::File("/run/secrets/reports".into())],
                pool: PoolOverrides {
                    size: Some(4),
                    checkout_timeout: Some(Duration::from_secs(30)),
                    cache_unnamed: Some(false),
                    idle_transaction_timeout: Some(Duration::from_secs(60)),
                    ..PoolOverrides::default()
                },
                max_clients: 50,
                max_connections: 0,
            },
        ],
        databases: vec![
            Database {
                name: "shop".into(),
                max_clients: 0,
                max_connections: 0,
                shards: vec![
                    first,
                    shard("s1", "127.0.0.1", 5502, "shop"),
                    Shard { weight: 2, ..shard("s2", "::1", 5503, "shop") },
                    shard("s3", "/run/postgresql", 5504, "shop"),
                ],
                catalog: 0,
                control: Some(Control {
                    user: "pgherd".into(),
                    password: Some(Secret::Environment("PGHERD_PASSWORD".into())),
                }),
                login: None,
                connect_query: None,
                startup: vec![],
                auto: false,
                distributions: vec![
                    Distribution { name: "customer".into(), by: Method::Hash, types: vec![KeyType::BigInt] },
                    Distribution {
                        name: "tenant".into(),
                        by: Method::Hash,
                        types: vec![KeyType::Text, KeyType::BigInt],
                    },
                ],
                tables: vec![
                    table(None, "customers", sharded(0, &["id"])),
                    table(None, "orders", sharded(0, &["customer_id"])),
                    table(Some("crm"), "notes", sharded(1, &["tenant", "id"])),
                    table(None, "countries", TablePlacement::Reference),
                    table(None, "settings", TablePlacement::Single { shard: 0 }),
                ],
                pool: PoolSettings { size: 40, ..default_pool() },
                cross_shard_reads: CrossShardReads::Atomic,
                gather: Gather { rows_max: 200_000, bytes_max: 64 << 20 },
            },
            Database {
                name: "archive".into(),
                max_clients: 0,
                max_connections: 0,
                shards: vec![shard("s0", "127.0.0.1", 5505, "archive")],
                catalog: 0,
                control: None,
                login: None,
                connect_query: None,
                startup: vec![],
                auto: false,
                distributions: vec![],
                tables: vec![],
                pool: default_pool(),
                cross_shard_reads: CrossShardReads::Atomic,
                gather: Gather { rows_max: 1_000_000, bytes_max: 256 << 20 },
            },
        ],
        fallback: None,
        ini: None,
    };
    assert_eq!(config, expected);
}

#[test]
fn a_file_that_says_little_has_the_defaults() {
    let toml = "auth.method = \"trust\"\n\
                databases.shop.shards = [{ name = \"s0\", primary = \"postgres://h/shop\" }]\n";
    let config = parse(toml, "f").unwrap_or_else(|problems| panic!("{problems}"));

    assert_eq!(config.server.listen, [tcp("127.0.0.1", 6432)]);
    assert_eq!(config.server.max_clients, 10_000);
    assert_eq!(config.server.login_timeout, Duration::from_secs(60));
    assert_eq!(config.users, []);
    assert_eq!(config.databases[0].pool, default_pool());
    assert_eq!(config.databases[0].shards, [shard("s0", "h", 5432, "shop")]);
    assert_eq!(config.databases[0].control, None);
}

#[test]
fn a_database_overrides_the_shared_pool_key_by_key() {
    let toml = "auth.method = \"trust\"\n\
                pool = { size = 7, idle_timeout = \"1m\" }\n\
                [databases.a]\n\
                pool = { size = 3 }\n\
                shards = [{ name = \"s0\", primary = \"postgres://h/a\" }]\n\
                [databases.b]\n\
                shards = [{ name = \"s0\", primary = \"postgres://h/b\" }]\n";
    let config = parse(toml, "f").unwrap_or_else(|problems| panic!("{problems}"));

    let pools: Vec<_> = config.databases.iter().map(|d| (d.pool.size, d.pool.idle_timeout)).collect();
    assert_eq!(pools, [(3, Duration::from_secs(60)), (7, Duration::from_secs(60))]);
}

#[test]
fn databases_keep_the_order_of_the_file() {
    let database = |name: &str| {
        format!("[[databases.{name}.shards]]\nname = \"s\"\nprimary = \"postgres://h/{name}\"\n")
    };
    let toml = format!("auth.method = \"trust\"\n{}{}{}", database("z"), database("a"), database("m"));
    let config = parse(&toml, "f").unwrap_or_else(|problems| panic!("{problems}"));

    let names: Vec<_> = config.databases.iter().map(|database| database.name.as_str()).collect();
    assert_eq!(names, ["z", "a", "m"]);
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem_of_the_file() {
    let problems = load(Path::new("/nonexistent/pgherd.toml")).unwrap_err();
    assert_eq!(
        problems.to_string(),
        "/nonexistent/pgherd.toml: cannot read the file: No such file or directory (os error 2)\n\
         1 problem; this configuration is not used"
    );

    let path = std::env::temp_dir().join(format!("pgherd-config-{}.toml", std::process::id()));
    std::fs::write(&path, b"[pool]\nmode = \"\xff\"\n").unwrap();
    let problems = load(&path).unwrap_err();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(problems.list()[0].message, "line 2 is not UTF-8");
}

#[test]
fn no_secret_is_in_the_debug_output_of_a_configuration() {
    let toml = "users = [{ name = \"app\", password = \"hunter2\" }]\n\
                databases.shop.shards = [{ name = \"s0\", primary = \"postgres://h/shop\" }]\n\
                databases.shop.control = { user = \"c\", password = \"hunter2\" }\n";
    let config = parse(toml, "f").unwrap_or_else(|problems| panic!("{problems}"));
    let shown = format!("{config:?}");
    assert!(shown.contains("Plain(..)") && !shown.contains("hunter2"), "{shown}");
}
