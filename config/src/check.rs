//! What only several settings together can break, and the step from what was typed to what is meant.
//!
//! Invariant: `None` is returned only after a problem was reported. A `Bad` field was reported by `raw`;
//! nothing here reports its consequences a second time.
//!
//! Pure: neither network nor disk. Whether a secret's source exists is seen when serving starts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::time::Duration;

use crate::document::{At, Field, did_you_mean};
use crate::model::*;
use crate::problems::Draft;
use crate::raw::*;
use crate::spread::Spread;

/// Names of the console, see the design's section 10.
const CONSOLE: &[&str] = &["pgherd", "pgbouncer"];

/// Defaults of `[server]` and `[pool]`; said to the operator in `raw`.
const MAX_CLIENTS: u64 = 10_000;
const LOGIN_TIMEOUT: Duration = Duration::from_secs(60);
const LISTEN_HOST: &str = "127.0.0.1";
const LISTEN_PORT: u16 = 6432;
const SIZE: u64 = 20;
/// As many as a pool can have connections.
const PINNED_MAX: u64 = 262_143;
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(600);
const WAITING_MAX: u64 = 10_000;
const STATEMENTS_MAX: u64 = 500;
const RESERVE_TIMEOUT: Duration = Duration::from_secs(3);
const LIFETIME: Duration = Duration::from_secs(3600);
const FALLBACK_IDLE_TIMEOUT: Duration = Duration::from_secs(3600);
const GATHER_ROWS_MAX: u64 = 1_000_000;
const GATHER_BYTES_MAX: u64 = 256 << 20;

pub(crate) fn config(raw: &RawConfig, problems: &mut Draft<'_>) -> Option<Config> {
    // Everything first, `?` afterwards: a problem in one part must not hide those of another.
    let server = server(&raw.server, problems);
    let auth = auth(raw, problems);
    let users = users(raw, problems);
    let databases = databases(raw, problems);
    let (mut fallback, databases): (Vec<_>, Vec<_>) =
        databases?.into_iter().partition(|database| database.name == ANY_DATABASE);
    let fallback = fallback.pop();
    let asks = auth.as_ref().and_then(|auth| auth.query.as_ref());
    if fallback.is_some() && asks.is_some_and(|query| query.database.is_none()) {
        // Else whoever has not proven anything yet could have pgherd connect to any name.
        problems.push(
            raw.auth.query_as.given().map_or(raw.at, |role| role.at),
            "auth.query_as with a database \"*\" needs auth.query_database: where to ask",
        );
    }
    Some(Config { server: server?, auth: auth?, users: users?, databases, fallback, ini: None })
}

/// The value, or the default when there is none; `None` when it is bad.
fn or<T: Clone>(field: &Field<T>, default: T) -> Option<T> {
    match field {
        Field::Given(given) => Some(given.value.clone()),
        Field::Absent => Some(default),
        Field::Bad => None,
    }
}

/// Bounds are checked in `raw`, so every number fits.
fn small<T: TryFrom<u64>>(number: u64) -> Option<T> {
    T::try_from(number).ok()
}

/// Reports the second of two equal values. `what` is the subject: `user "app"`.
struct Unique<K> {
    first: HashMap<K, usize>,
}

impl<K: Eq + Hash> Unique<K> {
    fn new() -> Self {
        Self { first: HashMap::new() }
    }

    fn add(&mut self, key: K, at: usize, problems: &mut Draft<'_>, what: impl FnOnce() -> String) {
        match self.first.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(at);
            }
            Entry::Occupied(entry) => {
                let line = problems.place(*entry.get()).line;
                problems.push(at, format!("{} again; it is already in line {line}", what()));
            }
        }
    }
}

fn server(raw: &RawServer, problems: &mut Draft<'_>) -> Option<Server> {
    let listen = match &raw.listen {
        Field::Given(list) if list.value.is_empty() => {
            problems.push(list.at, "server.listen is empty: nobody could connect");
            None
        }
        Field::Given(list) => {
            let mut unique = Unique::new();
            for listen in &list.value {
                unique.add(listen.value.clone(), listen.at, problems, || {
                    "server.listen has this address".into()
                });
            }
            Some(list.value.iter().map(|listen| listen.value.clone()).collect())
        }
        Field::Absent => Some(vec![Listen::Tcp { host: LISTEN_HOST.into(), port: LISTEN_PORT }]),
        Field::Bad => None,
    };
    let workers = match or(&raw.workers, 0)? {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        workers => small(workers)?,
    };
    Some(Server {
        listen: listen?,
        workers,
        max_clients: small(or(&raw.max_clients, MAX_CLIENTS)?)?,
        max_clients_per_user: small(or(&raw.max_clients_per_user, 0)?)?,
        max_connections_per_user: small(or(&raw.max_connections_per_user, 0)?)?,
        login_timeout: or(&raw.login_timeout, LOGIN_TIMEOUT)?,
        admins: names(&raw.admins)?,
        stats_users: names(&raw.stats_users)?,
        http: or(&raw.http, None)?,
        drain: or(&raw.drain, Drain::Transactions)?,
        drain_timeout: or(&raw.drain_timeout, Duration::ZERO)?,
        socket_mode: optional(&raw.socket_mode)?,
        socket_group: optional(&raw.socket_group)?,
        fallback_idle_timeout: or(&raw.fallback_idle_timeout, FALLBACK_IDLE_TIMEOUT)?,
        tls: match &raw.tls {
            Field::Given(tls) => client_tls(&tls.value, problems)?,
            Field::Absent => None,
            Field::Bad => return None,
        },
    })
}

fn names(raw: &Field<Vec<At<String>>>) -> Option<Vec<String>> {
    Some(or(raw, Vec::new())?.into_iter().map(|name| name.value).collect())
}

fn client_tls(raw: &RawTls, problems: &mut Draft<'_>) -> Option<Option<ClientTls>> {
    let mode = or(&raw.mode, SslMode::Prefer)?;
    if mode == SslMode::Disable {
        return Some(None);
    }
    for (field, name) in [(&raw.certificate, "certificate"), (&raw.private_key, "private_key")] {
        if matches!(field, Field::Absent) {
            problems.push(raw.at, format!("server.tls.{name} is missing"));
        }
    }
    if mode >= SslMode::VerifyCa && matches!(raw.client_ca, Field::Absent) {
        problems.push(raw.at, "server.tls.client_ca is missing: clients' certificates are to be verified");
    }
    Some(Some(ClientTls {
        mode,
        certificate: raw.certificate.value()?.clone(),
        private_key: raw.private_key.value()?.clone(),
        client_ca: match &raw.client_ca {
            Field::Given(path) => Some(path.value.clone()),
            Field::Absent => None,
            Field::Bad => return None,
        },
    }))
}

fn optional<T: Clone>(field: &Field<T>) -> Option<Option<T>> {
    match field {
        Field::Given(given) => Some(Some(given.value.clone())),
        Field::Absent => Some(None),
        Field::Bad => None,
    }
}

fn auth(raw: &RawConfig, problems: &mut Draft<'_>) -> Option<Auth> {
    let auth = &raw.auth;
    let method = or(&auth.method, AuthMethod::ScramSha256);
    if let (Some(AuthMethod::Hba), Field::Absent, Some(at)) = (method, &auth.hba_file, auth.method.given()) {
        problems.push(at.at, "auth.method = \"hba\" needs auth.hba_file");
    }
    if let (true, Some(file)) = (method.is_some_and(|m| m != AuthMethod::Hba), auth.hba_file.given()) {
        problems.push(file.at, "auth.hba_file needs auth.method = \"hba\"");
    }
    // A method that every client would fail.
    let has_ca = raw.server.tls.value().is_some_and(|tls| !matches!(tls.client_ca, Field::Absent));
    if let (Some(AuthMethod::Cert), false, Some(at)) = (method, has_ca, auth.method.given()) {
        problems.push(at.at, "auth.method = \"cert\" needs server.tls.client_ca");
    }
    if let (Some(AuthMethod::Peer), Some(at)) = (method, auth.method.given())
        && let Some(listen) = raw.server.listen.value()
        && !listen.iter().any(|listen| matches!(listen.value, Listen::Unix { .. }))
    {
        problems.push(at.at, "auth.method = \"peer\" needs a unix socket in server.listen");
    }
    let query = query(raw, problems);
    Some(Auth {
        method: method?,
        hba_file: optional(&auth.hba_file)?,
        ident_file: optional(&auth.ident_file)?,
        query: query?,
    })
}

/// The statement that PgBouncer asks with, too: a password that is no longer valid is none.
const AUTH_QUERY: &str = "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END \
     FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin";

fn query(raw: &RawConfig, problems: &mut Draft<'_>) -> Option<Option<AuthQuery>> {
    let auth = &raw.auth;
    let role = match &auth.query_as {
        Field::Given(role) => role,
        Field::Absent => {
            for (at, name) in [
                (auth.query.given().map(|q| q.at), "query"),
                (auth.query_database.given().map(|q| q.at), "query_database"),
            ] {
                if let Some(at) = at {
                    problems.push(
                        at,
                        format!("auth.{name} needs auth.query_as = {{ user = ..., password = ... }}"),
                    );
                }
            }
            return Some(None);
        }
        Field::Bad => return None,
    };
    let database = match &auth.query_database {
        Field::Given(wanted) => {
            let known = raw.databases.value()?;
            // The fallback is no database of its own.
            let named = known.iter().filter(|database| database.name.value != ANY_DATABASE);
            let found = named.clone().position(|database| database.name.value == wanted.value);
            if found.is_none() {
                let advice = did_you_mean(&wanted.value, known.iter().map(|known| known.name.value.as_str()));
                problems.push(
                    wanted.at,
                    format!(
                        "auth.query_database names the database {:?}, which is not there{advice}",
                        wanted.value
                    ),
                );
                return None;
            }
            found
        }
        Field::Absent => None,
        Field::Bad => return None,
    };
    Some(Some(AuthQuery {
        statement: or(&auth.query, AUTH_QUERY.to_owned())?,
        role: Control { user: role.value.user.value()?.clone(), password: optional(&role.value.password)? },
        database,
    }))
}

fn users(raw: &RawConfig, problems: &mut Draft<'_>) -> Option<Vec<User>> {
    // By a password, which must be known then.
    let method = or(&raw.auth.method, AuthMethod::ScramSha256);
    let must_prove = matches!(method, Some(AuthMethod::Md5 | AuthMethod::ScramSha256 | AuthMethod::Password));
    let said = match method {
        Some(AuthMethod::Md5) => "md5",
        Some(AuthMethod::Password) => "password",
        _ => "scram-sha-256",
    };
    let asked_for = !matches!(raw.auth.query_as, Field::Absent);
    let entries = match &raw.users {
        Field::Given(entries) => entries.value.as_slice(),
        Field::Absent => &[],
        Field::Bad => return None,
    };
    // Said to be none, there is somebody who will add one.
    if matches!(raw.users, Field::Absent) && must_prove && !asked_for {
        let at = raw.at;
        problems.push(at, format!("no [[users]]: with auth.method = {said:?} nobody could log in"));
    }
    let mut names = Unique::new();
    for user in entries {
        let Some(name) = user.name.given() else { continue };
        names.add(&name.value, name.at, problems, || format!("user {:?}", name.value));
    }
    for user in entries {
        if must_prove && !asked_for && matches!(user.passwords, Field::Absent) {
            let who = user.name.value().map_or(String::new(), |name| format!(" {name:?}"));
            problems.push(user.at, format!("user{who} has no password, which auth.method = {said:?} needs"));
        }
        if let Some(empty) = user.passwords.given().filter(|list| list.value.is_empty()) {
            problems.push(empty.at, "users.password is empty");
        }
        if method == Some(AuthMethod::ScramSha256) {
            for secret in user.passwords.value().into_iter().flatten() {
                if let Secret::Md5(_) = secret.value {
                    problems.push(
                        secret.at,
                        "users.password is an md5 hash, which cannot answer auth.method = \"scram-sha-256\"",
                    );
                }
            }
        }
    }
    let limits = entries.iter().map(|entry| &entry.max_connections);
    for limit in limits.chain([&raw.server.max_connections_per_user]) {
        // Less, and a statement over all shards could never run.
        let shards = shards_max(raw);
        if let Some(given) = limit.given().filter(|given| (1..shards).contains(&given.value)) {
            problems.push(
                given.at,
                format!("max_connections of a user is {}, but a database has {shards} shards", given.value),
            );
        }
    }
    entries.iter().map(|entry| user(entry, &raw.server)).collect()
}

/// Of the database that has most.
fn shards_max(raw: &RawConfig) -> u64 {
    let databases = raw.databases.value().map_or(&[][..], Vec::as_slice);
    let shards = databases.iter().filter_map(|database| database.shards.value());
    shards.map(|shards| shards.len() as u64).max().unwrap_or(1)
}

fn user(raw: &RawUser, server: &RawServer) -> Option<User> {
    let passwords = match &raw.passwords {
        Field::Given(list) => list.value.iter().map(|secret| secret.value.clone()).collect(),
        Field::Absent => Vec::new(),
        Field::Bad => return None,
    };
    Some(User {
        name: raw.name.value()?.clone(),
        passwords,
        pool: PoolOverrides {
            size: raw.pool.size.value().and_then(|size| small(*size)),
            reserve: raw.pool.reserve.value().and_then(|reserve| small(*reserve)),
            checkout_timeout: raw.pool.checkout_timeout.value().copied(),
            mode: raw.pool.mode.value().copied(),
            cache_unnamed: raw.pool.cache_unnamed.value().copied(),
            pinned_max: raw.pool.pinned_max.value().and_then(|max| u32::try_from(*max).ok()),
            query_timeout: raw.pool.times.query_timeout.value().copied(),
            transaction_timeout: raw.pool.times.transaction_timeout.value().copied(),
            idle_transaction_timeout: raw.pool.times.idle_transaction_timeout.value().copied(),
            client_idle_timeout: raw.pool.times.client_idle_timeout.value().copied(),
        },
        max_clients: small(or(&raw.max_clients, or(&server.max_clients_per_user, 0)?)?)?,
        max_connections: small(or(&raw.max_connections, or(&server.max_connections_per_user, 0)?)?)?,
    })
}

fn databases(raw: &RawConfig, problems: &mut Draft<'_>) -> Option<Vec<Database>> {
    let entries = match &raw.databases {
        Field::Given(entries) => entries.value.as_slice(),
        Field::Absent => &[],
        Field::Bad => return None,
    };
    // With the header alone there is the console.
    if matches!(raw.databases, Field::Absent) {
        let at = raw.at;
        problems.push(at, "no database: add [databases.NAME] with its [[databases.NAME.shards]]");
    }
    // Not `collect` alone: it would stop at the first database with a problem.
    let checked: Vec<_> = entries.iter().map(|entry| database(entry, &raw.pool, problems)).collect();
    checked.into_iter().collect()
}

fn database(raw: &RawDatabase, defaults: &RawPool, problems: &mut Draft<'_>) -> Option<Database> {
    let name = &raw.name.value;
    if CONSOLE.contains(&name.as_str()) {
        problems.push(raw.name.at, format!("database {name:?} is pgherd's own console; choose another name"));
    }
    if let Err(reason) = crate::values::name_in_bounds(name) {
        problems.push(raw.name.at, format!("the name of a database {reason}"));
    }
    let (shards, shards_good) = match &raw.shards {
        Field::Given(shards) => (shards.value.as_slice(), true),
        Field::Absent => (&[][..], true),
        Field::Bad => (&[][..], false),
    };
    if shards.is_empty() && shards_good {
        let name = format!("databases.{name}.shards");
        problems.push(raw.at, format!("database {:?} has no shard: add [[{name}]]", raw.name.value));
    }
    shards_are_distinct(shards, problems);

    let catalog = match &raw.catalog {
        Field::Given(catalog) => find_shard(catalog, "catalog", shards, problems),
        Field::Absent => Some(0),
        Field::Bad => None,
    };
    let control = control(raw, shards.len(), problems);
    only_plain(raw, shards, problems);
    let named: Vec<_> = shards
        .iter()
        .map(|shard| (shard.name.value().map(String::as_str), shard.region.value().map(String::as_str)))
        .collect();
    let distributions: Vec<_> =
        raw.distributions.iter().map(|raw| distribution(raw, &named, problems)).collect();
    let tables = tables(raw, shards, problems);
    some_have_weight(name, shards, &distributions, problems);

    Some(Database {
        name: name.clone(),
        max_clients: small(or(&raw.max_clients, 0)?)?,
        max_connections: small(or(&raw.max_connections, 0)?)?,
        shards: shards.iter().map(shard).collect::<Option<_>>()?,
        catalog: catalog?,
        control: control?,
        login: match &raw.login {
            Field::Given(login) => Some(Control {
                user: login.value.user.value()?.clone(),
                password: optional(&login.value.password)?,
            }),
            Field::Absent => None,
            Field::Bad => return None,
        },
        connect_query: optional(&raw.connect_query)?,
        startup: raw
            .startup
            .iter()
            .map(|(name, value)| Some((name.value.clone(), value.value()?.clone())))
            .collect::<Option<_>>()?,
        auto: false,
        distributions: distributions.into_iter().collect::<Option<_>>()?,
        tables: tables?,
        cross_shard_reads: or(&raw.cross_shard_reads, CrossShardReads::Atomic)?,
        pool: pool(&raw.pool, defaults)?,
        gather: Gather {
            rows_max: or(&raw.gather.rows_max, GATHER_ROWS_MAX)?,
            bytes_max: or(&raw.gather.bytes_max, GATHER_BYTES_MAX)?,
        },
    })
}

/// Startup settings that pgherd sends itself, or that clients' own would get into conflict with.
const NO_STARTUP: &[&str] =
    &["user", "database", "replication", "options", "client_encoding", "application_name"];

/// What only a database with one shard and without tables can have.
fn only_plain(raw: &RawDatabase, shards: &[RawShard], problems: &mut Draft<'_>) {
    for (name, value) in &raw.startup {
        let lower = name.value.to_ascii_lowercase();
        let text = value.value().map_or("", String::as_str);
        if NO_STARTUP.contains(&lower.as_str()) {
            problems.push(name.at, format!("startup cannot set {}", name.value));
        } else if name.value.is_empty() || name.value.contains('\0') || text.contains('\0') {
            problems.push(name.at, "startup has a name or value that is none");
        }
    }
    let database = &raw.name.value;
    let plain = shards.len() <= 1 && raw.tables.is_empty();
    if plain {
        return;
    }
    let login = raw.login.given().map(|login| (login.at, "login"));
    let connect_query = raw.connect_query.given().map(|query| (query.at, "connect_query"));
    let startup = raw.startup.first().map(|(name, _)| (name.at, "startup"));
    let hosts = shards.iter().filter_map(|shard| shard.primary.given());
    let hosts = hosts.filter(|primary| !primary.value.others.is_empty());
    let hosts = hosts.map(|primary| (primary.at, "several hosts in one address"));
    let fallback = (database == ANY_DATABASE).then_some((raw.name.at, "this name"));
    for (at, what) in [login, connect_query, startup, fallback].into_iter().flatten().chain(hosts) {
        let why = "only a database with one shard and without tables can have it";
        problems.push(at, format!("database {database:?} has {what}: {why}"));
    }
}

/// A shard with the weight 0 is to be emptied: its slots need somewhere to go.
fn some_have_weight(
    name: &str,
    shards: &[RawShard],
    distributions: &[Option<Distribution>],
    problems: &mut Draft<'_>,
) {
    let weightless = |at: usize| {
        shards.get(at).and_then(|shard| shard.weight.given()).filter(|weight| weight.value == 0).map(|w| w.at)
    };
    if let Some(at) = weightless(0)
        && (0..shards.len()).all(|shard| weightless(shard).is_some())
    {
        problems.push(at, format!("every shard of database {name:?} has the weight 0"));
        return;
    }
    for distribution in distributions.iter().flatten() {
        let Method::List(lists) = &distribution.by else { continue };
        for list in lists.iter().filter(|list| list.shards.len() > 1) {
            if let Some(at) = list.shards.first().and_then(|shard| weightless(*shard))
                && list.shards.iter().all(|shard| weightless(*shard).is_some())
            {
                let of = &distribution.name;
                problems.push(at, format!("every shard of a list of distribution {of:?} has the weight 0"));
            }
        }
    }
}

fn shards_are_distinct(shards: &[RawShard], problems: &mut Draft<'_>) {
    let mut names = Unique::new();
    let mut primaries = Unique::new();
    for shard in shards {
        if let Some(name) = shard.name.given() {
            names.add(&name.value, name.at, problems, || format!("shard {:?}", name.value));
        }
        if let Some(primary) = shard.primary.given() {
            // One database twice: each of its rows would be counted twice.
            let Address { host, port, dbname, .. } = &primary.value;
            let key = (host.to_ascii_lowercase(), *port, dbname);
            primaries.add(key, primary.at, problems, || {
                format!("database {dbname:?} at {host}:{port} is a shard")
            });
        }
    }
}

/// The index of a shard that another setting names. `None`: reported, or the shards could not be read.
fn find_shard(
    wanted: &At<String>,
    what: &str,
    shards: &[RawShard],
    problems: &mut Draft<'_>,
) -> Option<usize> {
    let found = shards.iter().position(|shard| shard.name.value() == Some(&wanted.value));
    // A shard whose name could not be read may be the one that was meant.
    if found.is_none() && !shards.is_empty() && shards.iter().all(|shard| shard.name.given().is_some()) {
        let known = shards.iter().filter_map(|shard| shard.name.value()).map(String::as_str);
        let advice = did_you_mean(&wanted.value, known);
        problems.push(
            wanted.at,
            format!("{what} names the shard {:?}, which is not there{advice}", wanted.value),
        );
    }
    found
}

fn control(raw: &RawDatabase, shards: usize, problems: &mut Draft<'_>) -> Option<Option<Control>> {
    let name = &raw.name.value;
    match &raw.control {
        Field::Bad => None,
        Field::Given(control) => {
            let password = match &control.value.password {
                Field::Given(password) => Some(password.value.clone()),
                Field::Absent => None,
                Field::Bad => return None,
            };
            Some(Some(Control { user: control.value.user.value()?.clone(), password }))
        }
        Field::Absent => {
            let why = match (shards > 1, !raw.tables.is_empty()) {
                (true, _) => "more than one shard",
                (false, true) => "tables",
                (false, false) => return Some(None),
            };
            problems.push(
                raw.at,
                format!("database {name:?} has {why} and needs control = {{ user = ..., password = ... }}"),
            );
            None
        }
    }
}

fn shard(raw: &RawShard) -> Option<Shard> {
    Some(Shard {
        name: raw.name.value()?.clone(),
        primary: raw.primary.value()?.clone(),
        weight: small(or(&raw.weight, 1)?)?,
        region: raw.region.value().cloned(),
    })
}

fn distribution(
    raw: &RawDistribution,
    shards: crate::spread::Shards<'_>,
    problems: &mut Draft<'_>,
) -> Option<Distribution> {
    let types = raw.types.value()?;
    let spread = Spread {
        name: &raw.name.value,
        at: raw.at,
        types,
        ranges: &raw.ranges,
        gaps: &raw.gaps,
        lists: &raw.lists,
        new_keys: &raw.new_keys,
    };
    Some(Distribution {
        name: raw.name.value.clone(),
        by: spread.check(raw.by.given()?, shards, problems)?,
        types: types.iter().map(|key_type| key_type.value).collect(),
    })
}

fn tables(raw: &RawDatabase, shards: &[RawShard], problems: &mut Draft<'_>) -> Option<Vec<Table>> {
    for distribution in &raw.distributions {
        if let Some(types) = distribution.types.given().filter(|types| types.value.is_empty()) {
            problems.push(types.at, format!("distribution {:?} has no type", distribution.name.value));
        }
    }
    let mut names = Unique::new();
    for table in &raw.tables {
        if let Some(name) = table.name.given() {
            names.add(&name.value.0, name.at, problems, || table.path.clone());
        }
    }
    let checked: Vec<_> = raw.tables.iter().map(|table| self::table(table, raw, shards, problems)).collect();
    checked.into_iter().collect()
}

fn table(
    raw: &RawTable,
    database: &RawDatabase,
    shards: &[RawShard],
    problems: &mut Draft<'_>,
) -> Option<Table> {
    let placement = placement(raw, database, shards, problems);
    let mut names = raw.name.value()?.0.clone();
    let name = names.pop()?;
    Some(Table { schema: names.pop(), name, placement: placement? })
}

fn placement(
    raw: &RawTable,
    database: &RawDatabase,
    shards: &[RawShard],
    problems: &mut Draft<'_>,
) -> Option<TablePlacement> {
    const ONE_OF: &str = "{ distribution = ..., key = ... }, { reference = true } or { shard = ... }";
    let path = &raw.path;
    if !raw.readable {
        return None;
    }
    let said = |absent: bool, name: &'static str| (!absent).then_some(name);
    let said: Vec<&str> = [
        said(matches!(raw.distribution, Field::Absent), "distribution"),
        said(matches!(raw.reference, Field::Absent), "reference"),
        said(matches!(raw.shard, Field::Absent), "shard"),
    ]
    .into_iter()
    .flatten()
    .collect();
    match said.as_slice() {
        [] => {
            problems.push(raw.at, format!("{path} must have one of {ONE_OF}"));
            return None;
        }
        [_] => {}
        several => {
            problems.push(
                raw.at,
                format!("{path} has {}, but must have only one of them", several.join(" and ")),
            );
            return None;
        }
    }
    if let Some(wanted) = raw.distribution.given() {
        return sharded(raw, wanted, database, problems);
    }
    // Under a bad distribution, a key is not the mistake.
    if let (Field::Absent, Some(key)) = (&raw.distribution, raw.key.given()) {
        problems.push(key.at, format!("{path} has a key, which only a table with a distribution has"));
        return None;
    }
    if let Some(reference) = raw.reference.given() {
        if reference.value {
            return Some(TablePlacement::Reference);
        }
        problems.push(reference.at, format!("{path} must have one of {ONE_OF}"));
        return None;
    }
    let wanted = raw.shard.given()?;
    Some(TablePlacement::Single { shard: find_shard(wanted, path, shards, problems)? })
}

fn sharded(
    raw: &RawTable,
    wanted: &At<String>,
    database: &RawDatabase,
    problems: &mut Draft<'_>,
) -> Option<TablePlacement> {
    let path = &raw.path;
    let known = &database.distributions;
    let found = known.iter().position(|distribution| distribution.name.value == wanted.value);
    if found.is_none() {
        let advice = did_you_mean(&wanted.value, known.iter().map(|known| known.name.value.as_str()));
        problems.push(
            wanted.at,
            format!("{path} names the distribution {:?}, which is not there{advice}", wanted.value),
        );
    }
    let key = match &raw.key {
        Field::Given(key) => key,
        Field::Absent => {
            problems.push(raw.at, format!("{path} has a distribution, but no key"));
            return None;
        }
        Field::Bad => return None,
    };
    let mut columns = Unique::new();
    for column in &key.value {
        columns.add(&column.value, column.at, problems, || {
            format!("{path} has the key column {:?}", column.value)
        });
    }
    let distribution = found?;
    if let Some(types) = known[distribution].types.value() {
        let (columns, types) = (key.value.len(), types.len());
        if columns != types {
            problems.push(
                key.at,
                format!(
                    "{path} has a key of {}, but distribution {:?} has {}",
                    counted(columns, "column"),
                    wanted.value,
                    counted(types, "type")
                ),
            );
        }
    }
    let key = key.value.iter().map(|column| column.value.clone()).collect();
    Some(TablePlacement::Sharded { distribution, key })
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// A key of the database's pool, else of `[pool]`, else the default.
fn pool(own: &RawPool, shared: &RawPool) -> Option<PoolSettings> {
    fn over<T: Clone>(own: &Field<T>, shared: &Field<T>, default: T) -> Option<T> {
        or(own, or(shared, default)?)
    }
    Some(PoolSettings {
        size: small(over(&own.size, &shared.size, SIZE)?)?,
        checkout_timeout: over(&own.checkout_timeout, &shared.checkout_timeout, CHECKOUT_TIMEOUT)?,
        connect_timeout: over(&own.connect_timeout, &shared.connect_timeout, CONNECT_TIMEOUT)?,
        idle_timeout: over(&own.idle_timeout, &shared.idle_timeout, IDLE_TIMEOUT)?,
        waiting_max: small(over(&own.waiting_max, &shared.waiting_max, WAITING_MAX)?)?,
        mode: over(&own.mode, &shared.mode, PoolMode::Transaction)?,
        cache_unnamed: over(&own.cache_unnamed, &shared.cache_unnamed, true)?,
        statements_max: small(over(&own.statements_max, &shared.statements_max, STATEMENTS_MAX)?)?,
        min_size: small(over(&own.min_size, &shared.min_size, 0)?)?,
        reserve: small(over(&own.reserve, &shared.reserve, 0)?)?,
        reserve_timeout: over(&own.reserve_timeout, &shared.reserve_timeout, RESERVE_TIMEOUT)?,
        lifetime: over(&own.lifetime, &shared.lifetime, LIFETIME)?,
        pinned_max: small(over(&own.pinned_max, &shared.pinned_max, PINNED_MAX)?)?,
        query_timeout: over(&own.times.query_timeout, &shared.times.query_timeout, Duration::ZERO)?,
        transaction_timeout: over(
            &own.times.transaction_timeout,
            &shared.times.transaction_timeout,
            Duration::ZERO,
        )?,
        idle_transaction_timeout: over(
            &own.times.idle_transaction_timeout,
            &shared.times.idle_transaction_timeout,
            Duration::ZERO,
        )?,
        client_idle_timeout: over(
            &own.times.client_idle_timeout,
            &shared.times.client_idle_timeout,
            Duration::ZERO,
        )?,
    })
}
