//! The settings as they are typed: their names, units, defaults and bounds, and where each one stands.
//!
//! Invariant: what is `Given` here is right by itself; what was wrong or missing is `Bad`, and its problem
//! is reported. Every key of the design is either read here or refused by name as not supported yet.
//!
//! Not here: what needs several settings (`check`).
//!
//! The manual's table of settings is made from the comments of these fields.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::document::{At, Field, Section};
use std::path::PathBuf;

use crate::model::{Address, AuthMethod, CrossShardReads, Drain, KeyType, Listen, PoolMode, Secret, SslMode};
use crate::problems::Draft;
use crate::spread::{By, RawList, RawRange};
use crate::values::{self, Identifiers};

const WORKERS: RangeInclusive<u64> = 0..=1024;
const CLIENTS: RangeInclusive<u64> = 1..=1_000_000;
/// The upper end is PostgreSQL's own bound for max_connections.
const POOL_SIZE: RangeInclusive<u64> = 1..=262_143;
const WAITING: RangeInclusive<u64> = 0..=1_000_000;
const STATEMENTS: RangeInclusive<u64> = 1..=100_000;
const WEIGHT: RangeInclusive<u64> = 0..=10_000;
const GATHER_ROWS: RangeInclusive<u64> = 1..=1_000_000_000;
const GATHER_BYTES: RangeInclusive<u64> = 1..=1 << 40;

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

const LOGIN_TIMEOUT: RangeInclusive<Duration> = MILLISECOND..=HOUR;
const CHECKOUT_TIMEOUT: RangeInclusive<Duration> = MILLISECOND..=DAY;
const CONNECT_TIMEOUT: RangeInclusive<Duration> = MILLISECOND..=HOUR;
const IDLE_TIMEOUT: RangeInclusive<Duration> = Duration::ZERO..=DAY;
/// Limits of a client's time; zero turns one off.
const TIME_LIMIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 24 * 60 * 60);
const MIN_SIZE: RangeInclusive<u64> = 0..=262_143;
/// 0: no limit.
const CLIENTS_OF_ONE: RangeInclusive<u64> = 0..=1_000_000;

/// Sections of the design that a database or the whole file may have one day.
const SECTIONS_NOT_YET: &[&str] = &["cross_shard_commit", "failover", "replica"];

pub(crate) struct RawConfig {
    /// Where the whole file's own problems are reported.
    pub at: usize,
    pub server: RawServer,
    pub auth: RawAuth,
    /// `[[users]]`: who may connect, and with which password. With `auth.method = "trust"` they need
    /// no password.
    pub users: Field<Vec<RawUser>>,
    pub pool: RawPool,
    /// `[databases.NAME]`: one for each database that clients may name. At least one.
    pub databases: Field<Vec<RawDatabase>>,
}

/// `[server]`: the program and its sockets.
#[derive(Default)]
pub(crate) struct RawServer {
    /// Where clients connect: "host:port", "[::1]:6432", or "unix:/directory" with the port that names the
    /// socket, "unix:/directory:6432". Port: 1 to 65535, for a socket 6432 unless given.
    /// Default: ["127.0.0.1:6432"].
    pub listen: Field<Vec<At<Listen>>>,

    /// Threads that serve clients, 0 to 1024; 0 means one per core. Default: 0.
    pub workers: Field<u64>,

    /// Clients connected at once, 1 to 1000000; the next is refused with SQLSTATE 53300. Default: 10000.
    pub max_clients: Field<u64>,

    /// `max_clients` of every user who has none of its own; 0 means no limit. Default: 0.
    pub max_clients_per_user: Field<u64>,

    /// `max_connections` of every user who has none of its own; 0 means no limit. Default: 0.
    pub max_connections_per_user: Field<u64>,

    /// From accepting a client to the end of its authentication. With a unit, "1ms" to "1h".
    /// Default: "60s".
    pub login_timeout: Field<Duration>,

    /// Users who may do everything in the console, the databases "pgherd" and "pgbouncer". Default: none.
    pub admins: Field<Vec<At<String>>>,

    /// Users who may only look, in the console. Default: none.
    pub stats_users: Field<Vec<At<String>>>,

    /// "host:port" for /metrics, /healthz and /readyz; "" for none. Default: "".
    pub http: Field<Option<Listen>>,

    /// What SIGTERM waits for: "transactions" that run, then clients are sent away; or "clients" to leave by
    /// themselves. Default: "transactions".
    pub drain: Field<Drain>,

    /// What is not over then is cut off. With a unit; "0s" means never. Default: "0s".
    pub drain_timeout: Field<Duration>,

    /// Permissions of the files of unix sockets, in octal: "0770". Default: what the umask leaves.
    pub socket_mode: Field<u32>,

    /// Their group, a name or a number. Default: the process's.
    pub socket_group: Field<String>,

    /// A database that was made of `[databases."*"]` is forgotten when nobody has used it for so long. With a unit; "0s" means
    /// never. Default: "1h".
    pub fallback_idle_timeout: Field<Duration>,

    /// `[server.tls]`. Default: clients that ask for TLS are told that there is none.
    pub tls: Field<RawTls>,
}

/// `[server.tls]`: encryption towards clients. Its files are read when serving starts and when the configuration is
/// reloaded.
#[derive(Default)]
pub(crate) struct RawTls {
    /// "disable"; "allow" or "prefer" to leave it to the client; "require"; "verify-ca" or "verify-full" for clients
    /// that must have a certificate. Default: "prefer".
    pub mode: Field<SslMode>,

    /// The certificate chain, a PEM file. Required.
    pub certificate: Field<PathBuf>,

    /// The key to the chain's first certificate, a PEM file. Required.
    pub private_key: Field<PathBuf>,

    /// Certificates of those who sign clients' certificates, a PEM file. Required for "verify-ca" and "verify-full", and
    /// for the method "cert". Default: none.
    pub client_ca: Field<PathBuf>,

    pub at: usize,
}

/// `[auth]`: how clients prove who they are.
#[derive(Default)]
pub(crate) struct RawAuth {
    /// "scram-sha-256"; "md5"; "password" for the password as it is; "peer" for who the client's process runs as (unix
    /// sockets); "cert" for the common name of the client's certificate; "hba" for the lines of a file; or "trust" for no
    /// proof at all. Default: "scram-sha-256".
    pub method: Field<AuthMethod>,

    /// A file with the syntax of pg_hba.conf. Needs `method = "hba"`, and is needed by it.
    pub hba_file: Field<PathBuf>,

    /// A file with the syntax of pg_ident.conf, for `map=` in the HBA file. Default: none.
    pub ident_file: Field<PathBuf>,

    /// The statement that asks a server for a user that `[[users]]` has no password for: `$1` is the name; it gives the
    /// name and the secret. Default: pg_authid, without passwords that are no longer valid.
    pub query: Field<String>,

    /// `{ user, password }`: the role that asks. Without it nothing is asked. Default: none.
    pub query_as: Field<RawControl>,

    /// The database in which the question is asked, on its first shard. Default: the one that the client wants.
    pub query_database: Field<String>,
}

/// `[[users]]`: one client user, with overrides of its databases' pools.
pub(crate) struct RawUser {
    /// As the client sends it: 1 to 63 bytes, exact in case. Required, unique.
    pub name: Field<String>,

    /// The password itself, a SCRAM-SHA-256 verifier as in `pg_authid`, "env:NAME" for an environment
    /// variable, or "file:/path" for a file; both are read when serving starts. An array while it is being replaced: each is
    /// right. Required for the methods "scram-sha-256", "md5" and "password", unless a server is asked.
    pub passwords: Field<Vec<At<Secret>>>,

    /// `size`, `reserve`, `checkout_timeout`, `cache_unnamed` and the limits of time, beside the name. Default: the database's pool.
    pub pool: RawPool,

    /// Clients of this user at once, over all databases; 0 means no limit. Default: `server.max_clients_per_user`.
    pub max_clients: Field<u64>,

    /// Server connections of this user at once, over all databases and servers; 0 means no limit, anything else is at
    /// least the number of shards of each database. Default: `server.max_connections_per_user`.
    pub max_connections: Field<u64>,

    pub at: usize,
}

/// `[pool]`: server connections. `[databases.NAME.pool]` overrides each key for one database, a
/// `[[users]]` entry some of them for one user.
#[derive(Default)]
pub(crate) struct RawPool {
    /// Server connections per user and server, over all threads: 1 to 262143. Default: 20.
    pub size: Field<u64>,

    /// How long a client waits for a server connection before SQLSTATE 53300. With a unit, "1ms" to "1d".
    /// Default: "5s".
    pub checkout_timeout: Field<Duration>,

    /// One attempt to open and authenticate a server connection. With a unit, "1ms" to "1h". Default: "5s".
    pub connect_timeout: Field<Duration>,

    /// A server connection idle for this long is closed. With a unit, up to "1d"; "0s" means never.
    /// Default: "10m".
    pub idle_timeout: Field<Duration>,

    /// Clients waiting for a server connection at once, per user and server: 0 to 1000000; the next is
    /// refused at once. Default: 10000.
    pub waiting_max: Field<u64>,

    /// Whether unnamed statements are kept on the servers under a name, so that they are planned once.
    /// Default: true.
    pub mode: Field<PoolMode>,
    pub cache_unnamed: Field<bool>,

    /// Statements kept on one server connection, 1 to 100000; beyond it the least recently used goes.
    /// Default: 500.
    pub statements_max: Field<u64>,

    /// Server connections kept open while nobody needs them, per user and server; from the first login on. Default: 0.
    pub min_size: Field<u64>,

    /// Server connections beyond `size`, for clients that have waited for `reserve_timeout`. Default: 0.
    pub reserve: Field<u64>,

    /// With a unit. Default: "3s".
    pub reserve_timeout: Field<Duration>,

    /// A server connection older than this is closed when it is idle. With a unit; "0s" means never. Default: "1h".
    pub lifetime: Field<Duration>,

    /// Clients that may keep a server connection for what lives in its session, per user and database: 0 to 262143.
    /// Default: 262143, so that `size` is the limit.
    pub pinned_max: Field<u64>,

    pub times: RawTimes,
}

/// Limits of a client's time, in `[pool]`, `[databases.NAME.pool]` and `[[users]]`. With a unit; "0s" means none, the
/// default of each.
#[derive(Default)]
pub(crate) struct RawTimes {
    /// A statement that runs for longer is cancelled.
    pub query_timeout: Field<Duration>,
    /// A client whose transaction is open for longer is sent away.
    pub transaction_timeout: Field<Duration>,
    /// A client that does nothing in a transaction for longer is sent away.
    pub idle_transaction_timeout: Field<Duration>,
    /// A client that does nothing outside a transaction for longer is sent away.
    pub client_idle_timeout: Field<Duration>,
}

impl RawTimes {
    fn read(section: &mut Section<'_>, problems: &mut Draft<'_>) -> Self {
        let mut limit = |key| section.value(key, problems, values::duration(TIME_LIMIT));
        Self {
            query_timeout: limit("query_timeout"),
            transaction_timeout: limit("transaction_timeout"),
            idle_transaction_timeout: limit("idle_transaction_timeout"),
            client_idle_timeout: limit("client_idle_timeout"),
        }
    }
}

/// `[databases.NAME]`: what a client sees as one database. "pgherd" and "pgbouncer" are the console's.
pub(crate) struct RawDatabase {
    pub name: At<String>,

    /// Clients of this database at once; 0 means no limit. Default: 0.
    pub max_clients: Field<u64>,

    /// Connections to each server of this database at once, over all users; 0 means no limit. Default: 0.
    pub max_connections: Field<u64>,

    /// Name of the shard that keeps pgherd's own tables. Default: the first shard.
    pub catalog: Field<String>,

    /// pgherd's own role on the servers: catalog, health, moves. Required with more than one shard, or with
    /// tables.
    pub control: Field<RawControl>,

    /// `login = { user, password }`: servers are logged in to as this role, whoever the client is. Only of a database with one
    /// shard and no tables, as the next two. Default: as the client.
    pub login: Field<RawControl>,

    /// A statement that each new server connection runs. Default: none.
    pub connect_query: Field<String>,

    /// `[databases.NAME.startup]`: settings that each server connection begins with. Default: none.
    pub startup: Vec<(At<String>, Field<String>)>,

    /// Whether a statement on several shards sees all of a transaction on several shards or nothing of it ("atomic"), or may see
    /// half of one that is being committed ("fast"). Default: "atomic".
    pub cross_shard_reads: Field<CrossShardReads>,

    /// `[databases.NAME.pool]`: overrides of `[pool]`.
    pub pool: RawPool,

    /// `[databases.NAME.gather]`: limits of statements that one server finishes with rows of the others.
    pub gather: RawGather,

    /// `[[databases.NAME.shards]]`: the servers, at least one. A table that is not listed lives on the
    /// first.
    pub shards: Field<Vec<RawShard>>,

    /// `[databases.NAME.distributions.D]`: how rows are spread. Tables of one distribution keep equal keys
    /// on one shard.
    pub distributions: Vec<RawDistribution>,

    /// `[databases.NAME.tables]`: "table" or "schema.table", as SQL writes it without folding case.
    pub tables: Vec<RawTable>,

    /// The section's header.
    pub at: usize,
}

/// `[databases.NAME.gather]`: how much one statement may pull to the server that finishes it; with more it is refused with 54000.
#[derive(Default)]
pub(crate) struct RawGather {
    /// Rows, over all tables: 1 to 1000000000. Default: 1000000.
    pub rows_max: Field<u64>,

    /// Bytes of what is pulled from other servers. With a unit, "1B" to "1TiB". Default: "256MiB".
    pub bytes_max: Field<u64>,
}

/// `control = { user, password }` of a database.
pub(crate) struct RawControl {
    /// Role name on the servers. Required.
    pub user: Field<String>,

    /// As a user's password, but never a verifier: pgherd has to prove itself with it. Default: none.
    pub password: Field<Secret>,
}

/// `[[databases.NAME.shards]]`: one server.
pub(crate) struct RawShard {
    /// Letters, digits, "_", "-" and ".", 1 to 63 bytes. Required, unique in the database.
    pub name: Field<String>,

    /// "postgres://host:port/dbname", or "postgres:///dbname?host=/directory&port=5432" for a unix socket.
    /// Port: 5432 unless given. Without user and password. Required.
    pub primary: Field<Address>,

    /// Relative share of the data, 0 to 10000. 0: it is to be emptied. Default: 1.
    pub weight: Field<u64>,

    /// Where the server stands, for people and for geographic placement. Default: none.
    pub region: Field<String>,
}

/// `[databases.NAME.distributions.D]`: the method and the key's types.
pub(crate) struct RawDistribution {
    /// Letters, digits, "_", "-" and ".", 1 to 63 bytes.
    pub name: At<String>,

    /// "hash", "range", "list" or "directory". Required.
    pub by: Field<By>,

    /// The key's type as PostgreSQL names it, without a modifier; an array for a composite key. One of
    /// smallint, integer, bigint, text, varchar, char, uuid, bytea, boolean, date, timestamp, timestamptz,
    /// numeric. Required.
    pub types: Field<Vec<At<KeyType>>>,

    /// Of "range": `[[databases.NAME.distributions.D.ranges]]`, at least one.
    pub ranges: Field<Vec<RawRange>>,

    /// Of "range": `true` allows keys between two ranges that no range takes. Default: false.
    pub gaps: Field<bool>,

    /// Of "list": `[[databases.NAME.distributions.D.lists]]`, at least one.
    pub lists: Field<Vec<RawList>>,

    /// Of "directory": what happens to a key that it does not have. "refuse", "hash", "least", or the name of a shard.
    /// Default: "refuse".
    pub new_keys: Field<String>,

    /// The section's header.
    pub at: usize,
}

/// One line of `[databases.NAME.tables]`.
pub(crate) struct RawTable {
    /// Schema and table, or the table alone. `Bad` when the name is no name.
    pub name: Field<Identifiers>,

    /// Name of a distribution of this database; needs `key`.
    pub distribution: Field<String>,

    /// The column that places a row; an array for a composite key. As many as the distribution has types.
    pub key: Field<Vec<At<String>>>,

    /// `true`: a copy on every shard.
    pub reference: Field<bool>,

    /// Name of the only shard that has the table.
    pub shard: Field<String>,

    /// The table's name.
    pub at: usize,
    /// How problems call the table.
    pub path: String,
    /// Whether its value was a table at all; if not, that is reported.
    pub readable: bool,
}

impl RawConfig {
    pub fn read(mut root: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let config = Self {
            at: root.at,
            server: in_section(&mut root, "server", problems, RawServer::read),
            auth: in_section(&mut root, "auth", problems, RawAuth::read),
            users: in_sections(&mut root, "users", problems, RawUser::read),
            pool: in_section(&mut root, "pool", problems, RawPool::read),
            databases: match root.section("databases", problems) {
                Field::Given(At { at, value: mut section }) => {
                    let value = section
                        .named(problems)
                        .into_iter()
                        .filter_map(|(name, section)| Some(RawDatabase::read(name, section?, problems)))
                        .collect();
                    Field::Given(At { at, value })
                }
                Field::Absent => Field::Absent,
                Field::Bad => Field::Bad,
            },
        };
        root.not_yet(&["gather", "cross_shard_reads"], problems);
        root.not_yet(SECTIONS_NOT_YET, problems);
        root.finish(problems);
        config
    }
}

impl RawServer {
    fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let server = Self {
            listen: section.list("listen", false, problems, values::listen),
            workers: section.value("workers", problems, values::integer(WORKERS)),
            max_clients: section.value("max_clients", problems, values::integer(CLIENTS)),
            max_clients_per_user: section.value(
                "max_clients_per_user",
                problems,
                values::integer(CLIENTS_OF_ONE),
            ),
            max_connections_per_user: section.value(
                "max_connections_per_user",
                problems,
                values::integer(MIN_SIZE),
            ),
            login_timeout: section.value("login_timeout", problems, values::duration(LOGIN_TIMEOUT)),
            admins: section.list("admins", false, problems, values::role),
            stats_users: section.list("stats_users", false, problems, values::role),
            http: section.value("http", problems, |value| match values::text(value)?.as_str() {
                "" => Ok(None),
                _ => match values::listen(value)? {
                    listen @ Listen::Tcp { .. } => Ok(Some(listen)),
                    Listen::Unix { .. } => Err("must be \"host:port\"".into()),
                },
            }),
            drain: section.value("drain", problems, |value| match values::text(value)?.as_str() {
                "transactions" => Ok(Drain::Transactions),
                "clients" => Ok(Drain::Clients),
                other => Err(format!("must be \"transactions\" or \"clients\", but is {other:?}")),
            }),
            drain_timeout: section.value("drain_timeout", problems, values::duration(IDLE_TIMEOUT)),
            socket_mode: section.value("socket_mode", problems, values::file_mode),
            socket_group: section.value("socket_group", problems, |value| match values::text(value)? {
                group if group.is_empty() => Err("must be a group".into()),
                group => Ok(group),
            }),
            fallback_idle_timeout: section.value(
                "fallback_idle_timeout",
                problems,
                values::duration(TIME_LIMIT),
            ),
            tls: match section.section("tls", problems) {
                Field::Given(At { at, value }) => {
                    Field::Given(At { at, value: RawTls::read(value, problems) })
                }
                Field::Absent => Field::Absent,
                Field::Bad => Field::Bad,
            },
        };
        section.finish(problems);
        server
    }
}

impl RawTls {
    fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let tls = Self {
            mode: section.value("mode", problems, |value| values::ssl_mode(&values::text(value)?)),
            certificate: section.value("certificate", problems, values::path),
            private_key: section.value("private_key", problems, values::path),
            client_ca: section.value("client_ca", problems, values::path),
            at: section.at,
        };
        section.finish(problems);
        tls
    }
}

impl RawAuth {
    fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let method = section.value("method", problems, |value| match values::text(value)?.as_str() {
            "trust" => Ok(AuthMethod::Trust),
            "scram-sha-256" => Ok(AuthMethod::ScramSha256),
            "md5" => Ok(AuthMethod::Md5),
            "password" => Ok(AuthMethod::Password),
            "peer" => Ok(AuthMethod::Peer),
            "cert" => Ok(AuthMethod::Cert),
            "hba" => Ok(AuthMethod::Hba),
            other => Err(format!(
                "must be \"trust\", \"scram-sha-256\", \"md5\", \"password\", \"peer\", \"cert\" or \"hba\", but is {other:?}"
            )),
        });
        let auth = Self {
            method,
            hba_file: section.value("hba_file", problems, values::path),
            ident_file: section.value("ident_file", problems, values::path),
            query: section.value("query", problems, |value| match values::text(value)? {
                text if text.contains("$1") => Ok(text),
                _ => Err("must have $1 in it, where the user's name goes".into()),
            }),
            query_as: match section.section("query_as", problems) {
                Field::Given(At { at, value }) => {
                    Field::Given(At { at, value: RawControl::read(value, problems) })
                }
                Field::Absent => Field::Absent,
                Field::Bad => Field::Bad,
            },
            query_database: section.value("query_database", problems, values::text),
        };
        section.finish(problems);
        auth
    }
}

impl RawUser {
    fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let user = Self {
            name: section.required("name", problems, values::role),
            passwords: section.list("password", true, problems, values::secret),
            pool: RawPool {
                size: section.value("size", problems, values::integer(POOL_SIZE)),
                reserve: section.value("reserve", problems, values::integer(MIN_SIZE)),
                checkout_timeout: section.value(
                    "checkout_timeout",
                    problems,
                    values::duration(CHECKOUT_TIMEOUT),
                ),
                mode: section.value("mode", problems, pool_mode),
                cache_unnamed: section.value("cache_unnamed", problems, values::boolean),
                pinned_max: section.value("pinned_max", problems, values::integer(MIN_SIZE)),
                times: RawTimes::read(&mut section, problems),
                ..RawPool::default()
            },
            max_clients: section.value("max_clients", problems, values::integer(CLIENTS_OF_ONE)),
            max_connections: section.value("max_connections", problems, values::integer(MIN_SIZE)),
            at: section.at,
        };
        section.elsewhere(
            &[
                "connect_timeout",
                "idle_timeout",
                "waiting_max",
                "statements_max",
                "min_size",
                "reserve_timeout",
                "lifetime",
            ],
            "in [pool] and [databases.NAME.pool]",
            problems,
        );
        section.finish(problems);
        user
    }
}

impl RawPool {
    fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let pool = Self {
            size: section.value("size", problems, values::integer(POOL_SIZE)),
            checkout_timeout: section.value("checkout_timeout", problems, values::duration(CHECKOUT_TIMEOUT)),
            connect_timeout: section.value("connect_timeout", problems, values::duration(CONNECT_TIMEOUT)),
            idle_timeout: section.value("idle_timeout", problems, values::duration(IDLE_TIMEOUT)),
            waiting_max: section.value("waiting_max", problems, values::integer(WAITING)),
            mode: section.value("mode", problems, pool_mode),
            cache_unnamed: section.value("cache_unnamed", problems, values::boolean),
            statements_max: section.value("statements_max", problems, values::integer(STATEMENTS)),
            min_size: section.value("min_size", problems, values::integer(MIN_SIZE)),
            reserve: section.value("reserve", problems, values::integer(MIN_SIZE)),
            reserve_timeout: section.value("reserve_timeout", problems, values::duration(CHECKOUT_TIMEOUT)),
            lifetime: section.value("lifetime", problems, values::duration(IDLE_TIMEOUT)),
            pinned_max: section.value("pinned_max", problems, values::integer(MIN_SIZE)),
            times: RawTimes::read(&mut section, problems),
        };
        section.finish(problems);
        pool
    }
}

fn cross_shard_reads(value: &toml::de::DeValue<'_>) -> Result<CrossShardReads, String> {
    match values::text(value)?.as_str() {
        "atomic" => Ok(CrossShardReads::Atomic),
        "fast" => Ok(CrossShardReads::Fast),
        other => Err(format!("must be \"atomic\" or \"fast\", but is {other:?}")),
    }
}

fn pool_mode(value: &toml::de::DeValue<'_>) -> Result<PoolMode, String> {
    match values::text(value)?.as_str() {
        "transaction" => Ok(PoolMode::Transaction),
        "session" => Ok(PoolMode::Session),
        "statement" => Ok(PoolMode::Statement),
        other => Err(format!("must be \"transaction\", \"session\" or \"statement\", but is {other:?}")),
    }
}

impl RawDatabase {
    fn read(name: At<String>, mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let database = Self {
            name,
            max_clients: section.value("max_clients", problems, values::integer(CLIENTS_OF_ONE)),
            max_connections: section.value("max_connections", problems, values::integer(MIN_SIZE)),
            catalog: section.value("catalog", problems, values::text),
            control: match section.section("control", problems) {
                Field::Given(At { at, value }) => {
                    Field::Given(At { at, value: RawControl::read(value, problems) })
                }
                Field::Absent => Field::Absent,
                Field::Bad => Field::Bad,
            },
            login: match section.section("login", problems) {
                Field::Given(At { at, value }) => {
                    Field::Given(At { at, value: RawControl::read(value, problems) })
                }
                Field::Absent => Field::Absent,
                Field::Bad => Field::Bad,
            },
            connect_query: section.value("connect_query", problems, |value| match values::text(value)? {
                text if text.contains('\0') => Err("must not have a NUL in it".into()),
                text => Ok(text),
            }),
            startup: match section.section("startup", problems) {
                Field::Given(At { value: mut section, .. }) => section.texts(problems),
                Field::Absent | Field::Bad => Vec::new(),
            },
            cross_shard_reads: section.value("cross_shard_reads", problems, cross_shard_reads),
            pool: in_section(&mut section, "pool", problems, RawPool::read),
            gather: in_section(&mut section, "gather", problems, RawGather::read),
            shards: in_sections(&mut section, "shards", problems, RawShard::read),
            distributions: in_named(&mut section, "distributions", problems, RawDistribution::read),
            tables: in_named(&mut section, "tables", problems, RawTable::read),
            at: section.at,
        };
        section.not_yet(&["indexes"], problems);
        section.not_yet(SECTIONS_NOT_YET, problems);
        section.finish(problems);
        database
    }
}

impl RawGather {
    fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let gather = Self {
            rows_max: section.value("rows_max", problems, values::integer(GATHER_ROWS)),
            bytes_max: section.value("bytes_max", problems, values::bytes(GATHER_BYTES)),
        };
        section.finish(problems);
        gather
    }
}

impl RawControl {
    fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let control = Self {
            user: section.required("user", problems, values::role),
            password: section.value("password", problems, |value| match values::secret(value)? {
                Secret::ScramVerifier(_) => {
                    Err("must be the password itself: a SCRAM verifier only checks others".into())
                }
                Secret::Md5(_) => Err("must be the password itself, not an md5 hash".into()),
                secret => Ok(secret),
            }),
        };
        section.finish(problems);
        control
    }
}

impl RawShard {
    fn read(mut section: Section<'_>, problems: &mut Draft<'_>) -> Self {
        let shard = Self {
            name: section.required("name", problems, |value| values::label(&values::text(value)?)),
            primary: section.required("primary", problems, values::address),
            weight: section.value("weight", problems, values::integer(WEIGHT)),
            region: section.value("region", problems, |value| values::label(&values::text(value)?)),
        };
        section.value("replicas", problems, |value| match value {
            toml::de::DeValue::Array(items) if items.is_empty() => Ok(()),
            _ => Err("is not supported yet".into()),
        });
        section.finish(problems);
        shard
    }
}

impl RawDistribution {
    fn read(name: At<String>, section: Option<Section<'_>>, problems: &mut Draft<'_>) -> Self {
        if let Err(reason) = values::label(&name.value) {
            problems.push(name.at, format!("the name of a distribution {reason}"));
        }
        let Some(mut section) = section else {
            return Self {
                at: name.at,
                name,
                by: Field::Bad,
                types: Field::Bad,
                ranges: Field::Bad,
                gaps: Field::Bad,
                lists: Field::Bad,
                new_keys: Field::Bad,
            };
        };
        let by = section.required("by", problems, |value| match values::text(value)?.as_str() {
            "hash" => Ok(By::Hash),
            "range" => Ok(By::Range),
            "list" => Ok(By::List),
            "directory" => Ok(By::Directory),
            other => Err(format!("must be \"hash\", \"range\", \"list\" or \"directory\", but is {other:?}")),
        });
        let mut types = section.list("type", true, problems, values::key_type);
        if let Field::Absent = types {
            problems.push(section.at, format!("{} is missing", section.name("type")));
            types = Field::Bad;
        }
        let distribution = Self {
            name,
            by,
            types,
            ranges: in_sections(&mut section, "ranges", problems, RawRange::read),
            gaps: section.value("gaps", problems, values::boolean),
            lists: in_sections(&mut section, "lists", problems, RawList::read),
            new_keys: section.value("new_keys", problems, values::text),
            at: section.at,
        };
        section.finish(problems);
        distribution
    }
}

impl RawTable {
    fn read(name: At<String>, section: Option<Section<'_>>, problems: &mut Draft<'_>) -> Self {
        let At { at, value: typed } = name;
        let name = match Identifiers::parse(&typed) {
            Ok(value) if value.0.len() <= 2 => Field::Given(At { at, value }),
            Ok(_) => {
                problems.push(at, format!("table {typed:?} must be \"table\" or \"schema.table\""));
                Field::Bad
            }
            Err(reason) => {
                problems.push(at, format!("table {typed:?} {reason}"));
                Field::Bad
            }
        };
        let mut table = Self {
            name,
            distribution: Field::Absent,
            key: Field::Absent,
            reference: Field::Absent,
            shard: Field::Absent,
            at,
            path: format!("table {typed:?}"),
            readable: false,
        };
        let Some(mut section) = section else { return table };
        if let Some(inner) = section.only_tables() {
            // Without quotes TOML reads schema.table as a table inside a table.
            let meant = format!("{typed}.{}", inner[0]);
            problems.push(at, format!("a table with its schema is written in quotes: {meant:?} = {{ ... }}"));
            return table;
        }
        table.distribution = section.value("distribution", problems, values::text);
        table.key = section.list("key", true, problems, values::column);
        table.reference = section.value("reference", problems, values::boolean);
        table.shard = section.value("shard", problems, values::text);
        table.readable = true;
        section.finish(problems);
        table
    }
}

/// `[key]`; without it every setting has its default.
fn in_section<'i, T: Default>(
    parent: &mut Section<'i>,
    key: &'static str,
    problems: &mut Draft<'_>,
    read: fn(Section<'i>, &mut Draft<'_>) -> T,
) -> T {
    match parent.section(key, problems) {
        Field::Given(section) => read(section.value, problems),
        Field::Absent | Field::Bad => T::default(),
    }
}

/// `[[key]]`
fn in_sections<'i, T>(
    parent: &mut Section<'i>,
    key: &'static str,
    problems: &mut Draft<'_>,
    read: fn(Section<'i>, &mut Draft<'_>) -> T,
) -> Field<Vec<T>> {
    match parent.sections(key, problems) {
        Field::Given(At { at, value }) => {
            let value = value.into_iter().map(|section| read(section, problems)).collect();
            Field::Given(At { at, value })
        }
        Field::Absent => Field::Absent,
        Field::Bad => Field::Bad,
    }
}

/// `[key.NAME]`, with names that the operator chose.
fn in_named<'i, T>(
    parent: &mut Section<'i>,
    key: &'static str,
    problems: &mut Draft<'_>,
    read: fn(At<String>, Option<Section<'i>>, &mut Draft<'_>) -> T,
) -> Vec<T> {
    match parent.section(key, problems) {
        Field::Given(At { value: mut section, .. }) => {
            let named = section.named(problems);
            named.into_iter().map(|(name, section)| read(name, section, problems)).collect()
        }
        Field::Absent | Field::Bad => Vec::new(),
    }
}
