//! The checked configuration: what the rest of the house sees.
//!
//! Invariant: a value of these types was checked as a whole. Names that refer to other entries are
//! indices that exist, so nobody downstream handles "no such shard".
//!
//! Not here: what was typed and where (`raw`), secrets' use (`wire::scram`).

use std::path::PathBuf;
use std::time::Duration;

/// As the name of a database: all that are not named. As that of a database on a server: the one that the client wants.
pub const ANY_DATABASE: &str = "*";

#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub server: Server,
    pub auth: Auth,
    pub users: Vec<User>,
    /// In the order of the file; names are unique. There may be none: then there is the console alone.
    pub databases: Vec<Database>,
    /// `[databases."*"]`: what a database that is not among them is made of.
    pub fallback: Option<Database>,
    /// Of `[pgbouncer]`, when the file is PgBouncer's.
    pub ini: Option<crate::pgbouncer::Written>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub listen: Vec<Listen>,
    /// Worker threads; never 0 here (0 in the file became the number of cores).
    pub workers: usize,
    /// Clients connected at once, over all workers.
    pub max_clients: usize,
    /// For users who are not in the file; what `users` say is said there. 0: no limit.
    pub max_clients_per_user: usize,
    pub max_connections_per_user: usize,
    /// From accept to the end of authentication.
    pub login_timeout: Duration,
    /// Permissions of the files of unix sockets. `None`: what the process's umask leaves.
    pub socket_mode: Option<u32>,
    /// Their group, a name or a number.
    pub socket_group: Option<String>,
    /// A database made of `fallback` that nobody has used for this long is forgotten. Zero: never.
    pub fallback_idle_timeout: Duration,
    /// Who may do everything in the console, and who may only look.
    pub admins: Vec<String>,
    pub stats_users: Vec<String>,
    /// Always TCP.
    pub http: Option<Listen>,
    pub drain: Drain,
    /// Zero: never.
    pub drain_timeout: Duration,
    /// `None`: TLS is answered with "no".
    pub tls: Option<ClientTls>,
}

/// What a graceful stop waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drain {
    Transactions,
    Clients,
}

/// libpq's words, towards clients (`[server.tls]`) and towards servers (`sslmode` in an address).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum SslMode {
    Disable,
    Allow,
    #[default]
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Never [`SslMode::Disable`] here.
    pub mode: SslMode,
    /// PEM files: the chain, and the key to its first certificate.
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// Who signs clients' certificates. Always there for [`SslMode::VerifyCa`] and [`SslMode::VerifyFull`].
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Listen {
    Tcp {
        host: String,
        port: u16,
    },
    /// A directory; the socket is `.s.PGSQL.<port>` in it, as libpq expects.
    Unix {
        directory: PathBuf,
        port: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMethod {
    Trust,
    Md5,
    ScramSha256,
    /// The password as it is.
    Password,
    /// A client of a unix socket is who its process runs as.
    Peer,
    /// The common name of the client's certificate.
    Cert,
    /// By the lines of a file; see [`Auth::hba_file`].
    Hba,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    pub method: AuthMethod,
    /// Always there for [`AuthMethod::Hba`].
    pub hba_file: Option<PathBuf>,
    /// Maps of system users to database users.
    pub ident_file: Option<PathBuf>,
    /// Asks a server for users that the file does not have.
    pub query: Option<AuthQuery>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct AuthQuery {
    /// With `$1` for the user's name; gives the name and the secret.
    pub statement: String,
    /// The role that asks.
    pub role: Control,
    /// Index into `Config::databases`; `None`: the one that the client wants.
    pub database: Option<usize>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct User {
    pub name: String,
    /// As typed, before "env:" and "file:" are resolved (checking touches no disk and no environment). Each of them is
    /// right; the first is tried first on servers.
    pub passwords: Vec<Secret>,
    /// Overrides of the database's pool.
    pub pool: PoolOverrides,
    /// 0: no limit.
    pub max_clients: usize,
    /// Server connections, over all databases and servers. 0: no limit; else one for each shard of any database.
    pub max_connections: usize,
}

/// Where a password comes from. `Debug` (in `secret`) does not print it.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Plain(String),
    /// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`, checked for its form.
    ScramVerifier(String),
    /// `md5` and 32 hexadecimal digits.
    Md5(String),
    Environment(String),
    File(PathBuf),
}

/// How long a client keeps a server connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PoolMode {
    #[default]
    Transaction,
    /// As long as it is connected.
    Session,
    /// Like `Transaction`, and transaction blocks are refused.
    Statement,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolOverrides {
    pub mode: Option<PoolMode>,
    pub size: Option<u32>,
    pub reserve: Option<u32>,
    pub checkout_timeout: Option<Duration>,
    pub cache_unnamed: Option<bool>,
    pub pinned_max: Option<u32>,
    pub query_timeout: Option<Duration>,
    pub transaction_timeout: Option<Duration>,
    pub idle_transaction_timeout: Option<Duration>,
    pub client_idle_timeout: Option<Duration>,
}

impl PoolOverrides {
    /// The settings with this user's own in their place.
    pub fn over(&self, settings: &PoolSettings) -> PoolSettings {
        let mut settings = settings.clone();
        fn set<T: Copy>(place: &mut T, own: Option<T>) {
            if let Some(own) = own {
                *place = own;
            }
        }
        set(&mut settings.mode, self.mode);
        set(&mut settings.size, self.size);
        set(&mut settings.reserve, self.reserve);
        set(&mut settings.checkout_timeout, self.checkout_timeout);
        set(&mut settings.cache_unnamed, self.cache_unnamed);
        set(&mut settings.pinned_max, self.pinned_max);
        set(&mut settings.query_timeout, self.query_timeout);
        set(&mut settings.transaction_timeout, self.transaction_timeout);
        set(&mut settings.idle_transaction_timeout, self.idle_transaction_timeout);
        set(&mut settings.client_idle_timeout, self.client_idle_timeout);
        settings
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct PoolSettings {
    pub mode: PoolMode,
    /// Server connections per user and server, over all workers. At least 1.
    pub size: u32,
    /// How long a client waits for a server connection before SQLSTATE 53300.
    pub checkout_timeout: Duration,
    /// One attempt to open and authenticate a server connection.
    pub connect_timeout: Duration,
    /// An idle server connection is closed after this. Zero: never.
    pub idle_timeout: Duration,
    /// Clients that may wait at once, per user and server.
    pub waiting_max: usize,
    /// Cache unnamed statements under a name on the server.
    pub cache_unnamed: bool,
    /// Named statements kept on one server connection; the least recently used goes first.
    pub statements_max: usize,
    /// Server connections that are kept open while idle.
    pub min_size: u32,
    /// Server connections beyond `size`, for clients that have waited for `reserve_timeout`.
    pub reserve: u32,
    pub reserve_timeout: Duration,
    /// An older server connection is closed when it is idle. Zero: never.
    pub lifetime: Duration,
    /// Clients of one user and database that may keep a server connection for what lives in its session.
    pub pinned_max: u32,
    /// Limits of a client's time. Zero: none.
    pub query_timeout: Duration,
    pub transaction_timeout: Duration,
    pub idle_transaction_timeout: Duration,
    pub client_idle_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Database {
    pub name: String,
    /// 0: no limit.
    pub max_clients: usize,
    /// Connections to each of its servers, over all users. 0: no limit.
    pub max_connections: usize,
    pub shards: Vec<Shard>,
    /// Index into `shards`.
    pub catalog: usize,
    /// pgherd's own role on the servers. Always there when there is more than one shard or any table.
    pub control: Option<Control>,
    /// Servers are logged in to as this role, whoever the client is. Only of plain pools, as the next two.
    pub login: Option<Control>,
    /// Said to each new server connection.
    pub connect_query: Option<String>,
    /// Of each server connection's startup packet.
    pub startup: Vec<(String, String)>,
    /// It was made of `[databases."*"]`, because a client named it.
    pub auto: bool,
    pub distributions: Vec<Distribution>,
    pub tables: Vec<Table>,
    pub cross_shard_reads: CrossShardReads,
    pub pool: PoolSettings,
    pub gather: Gather,
}

/// What a statement on several shards may see of a transaction that commits on several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CrossShardReads {
    /// All or nothing.
    #[default]
    Atomic,
    /// Half of it, while it is being committed.
    Fast,
}

/// How much one statement may pull to the server that finishes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    pub rows_max: u64,
    pub bytes_max: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    pub user: String,
    pub password: Option<Secret>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Shard {
    pub name: String,
    pub primary: Address,
    /// Relative share of the slots. 0: it is to be emptied; not all are.
    pub weight: u32,
    pub region: Option<String>,
}

/// `postgres://host:port/dbname` or `postgres:///dbname?host=/directory&port=5432`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name, IP address, or (starting with '/') the directory of a unix socket.
    pub host: String,
    pub port: u16,
    /// Further hosts with the same data, of a plain pool.
    pub others: Vec<(String, u16)>,
    /// Connections are spread over the hosts; otherwise the first that answers is taken.
    pub balance: bool,
    pub dbname: String,
    pub security: Security,
}

/// How a connection to a server is protected, in libpq's words: the parameters of its address.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Security {
    pub mode: SslMode,
    /// Who signs the server's certificate.
    pub root: Option<PathBuf>,
    /// pgherd's own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    pub channel_binding: ChannelBinding,
    /// The methods that the server may ask for; `None`: any, but the password as it is only where nobody can listen.
    pub require_auth: Option<Methods>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChannelBinding {
    Disable,
    #[default]
    Prefer,
    Require,
}

/// A set of authentication methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Methods {
    pub none: bool,
    pub password: bool,
    pub md5: bool,
    pub scram: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    pub name: String,
    pub by: Method,
    /// One type per key column; several for a composite key.
    pub types: Vec<KeyType>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    Hash,
    /// At least one, in the order of the file; no two have a key in common.
    Range(Vec<Range>),
    /// At least one; no value stands twice.
    List(Vec<List>),
    /// By a table in the catalog, key by key.
    Directory(NewKeys),
}

/// Where a key goes that the directory does not have yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewKeys {
    /// Nowhere: somebody has to enter it first.
    Refuse,
    /// By its hash, over all shards and their weights.
    Hash,
    /// To the shard with the fewest keys for its weight.
    Least,
    /// Index into `Database::shards`.
    Shard(usize),
}

/// Keys from `from` (in it) to `to` (not in it), each a text of the key's type. `None`: without an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub from: Option<String>,
    pub to: Option<String>,
    /// Index into `Database::shards`.
    pub shard: usize,
}

/// Keys by their first column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    pub values: Vec<String>,
    pub null: bool,
    /// What no list names.
    pub default: bool,
    /// Ascending, at least one. Several only where the key has further columns: their hash chooses.
    pub shards: Vec<usize>,
}

/// The types a hash key may have. Names and aliases as PostgreSQL writes them
/// (smallint = int2, integer = int = int4, bigint = int8, varchar = character varying, char = character = bpchar,
/// timestamptz = timestamp with time zone, timestamp = timestamp without time zone, numeric = decimal, bool).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    SmallInt,
    Integer,
    BigInt,
    Text,
    Varchar,
    Char,
    Uuid,
    Bytea,
    Boolean,
    Date,
    Timestamp,
    TimestampTz,
    Numeric,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// `None`: found through the search path, as in PostgreSQL.
    pub schema: Option<String>,
    pub name: String,
    pub placement: TablePlacement,
}

#[derive(Debug, Clone, PartialEq)]
pub enum TablePlacement {
    /// Index into `Database::distributions`; as many key columns as the distribution has types.
    Sharded { distribution: usize, key: Vec<String> },
    /// A copy on every shard.
    Reference,
    /// Index into `Database::shards`.
    Single { shard: usize },
}

impl Database {
    /// Of `[databases."*"]`: the database that a client has named.
    pub fn named(&self, name: &str) -> Self {
        let mut database = self.clone();
        database.name = name.to_owned();
        database.auto = true;
        for shard in &mut database.shards {
            if shard.primary.dbname == ANY_DATABASE {
                shard.primary.dbname = name.to_owned();
            }
        }
        database
    }
}
