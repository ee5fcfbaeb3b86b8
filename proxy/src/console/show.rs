//! What the console shows. Columns have PgBouncer's names, types and order; further ones stand at the end.
//!
//! Invariant: counts are read one after the other while clients go on; they are exact only at rest.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pgherd_config::pgbouncer::keys::Meaning;
use pgherd_config::{Listen, PoolMode};
use pgherd_pool::{Listed, Status};
use pgherd_router::ShardId;

use super::command::Show;
use super::table::Kind::{Big, Int, Numeric, Text};
use super::table::{Columns, Value, row};
use crate::database::{Database, UserPools};
use crate::roster::{Ends, Entry, Phase};
use crate::serve::{Live, Shared, Stop};
use crate::stats::Sums;

/// What exporters choose their columns by.
pub const VERSION: &str = "1.25.2";

const STATS: Columns = &[
    ("database", Text),
    ("total_server_assignment_count", Numeric),
    ("total_xact_count", Numeric),
    ("total_query_count", Numeric),
    ("total_received", Numeric),
    ("total_sent", Numeric),
    ("total_xact_time", Numeric),
    ("total_query_time", Numeric),
    ("total_wait_time", Numeric),
    ("total_client_parse_count", Numeric),
    ("total_server_parse_count", Numeric),
    ("total_bind_count", Numeric),
    ("total_client_login_count", Numeric),
    ("avg_server_assignment_count", Numeric),
    ("avg_xact_count", Numeric),
    ("avg_query_count", Numeric),
    ("avg_recv", Numeric),
    ("avg_sent", Numeric),
    ("avg_xact_time", Numeric),
    ("avg_query_time", Numeric),
    ("avg_wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
    // What versions before 1.8 called them; Debian's prometheus-pgbouncer-exporter still looks for the first.
    ("total_requests", Numeric),
    ("avg_req", Numeric),
    ("avg_query", Numeric),
];

const STATS_TOTALS: Columns = &[
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("client_parse_count", Numeric),
    ("server_parse_count", Numeric),
    ("bind_count", Numeric),
    ("client_login_count", Numeric),
];

/// The prefix of the last four really is there.
const STATS_AVERAGES: Columns = &[
    ("database", Text),
    ("server_assignment_count", Numeric),
    ("xact_count", Numeric),
    ("query_count", Numeric),
    ("bytes_received", Numeric),
    ("bytes_sent", Numeric),
    ("xact_time", Numeric),
    ("query_time", Numeric),
    ("wait_time", Numeric),
    ("avg_client_parse_count", Numeric),
    ("avg_server_parse_count", Numeric),
    ("avg_bind_count", Numeric),
    ("avg_client_login_count", Numeric),
];

/// Rows of SHOW TOTALS, behind "total_" and "avg_".
const TOTALS_NAMES: [&str; 12] = [
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
];

const TOTALS: Columns = &[("name", Text), ("value", Numeric)];

const POOLS: Columns = &[
    ("database", Text),
    ("user", Text),
    ("cl_active", Int),
    ("cl_waiting", Int),
    ("cl_active_cancel_req", Int),
    ("cl_waiting_cancel_req", Int),
    ("sv_active", Int),
    ("sv_active_cancel", Int),
    ("sv_being_canceled", Int),
    ("sv_idle", Int),
    ("sv_used", Int),
    ("sv_tested", Int),
    ("sv_login", Int),
    ("maxwait", Int),
    ("maxwait_us", Int),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
];

const PEER_POOLS: Columns = &[
    ("peer_id", Int),
    ("cl_active_cancel_req", Int),
    ("cl_waiting_cancel_req", Int),
    ("sv_active_cancel", Int),
    ("sv_login", Int),
];

const PEERS: Columns = &[("peer_id", Int), ("host", Text), ("port", Int), ("pool_size", Int)];

/// `reserve_pool` is what older versions called `reserve_pool_size`; exporters still look for it.
const DATABASES: Columns = &[
    ("name", Text),
    ("host", Text),
    ("port", Int),
    ("database", Text),
    ("force_user", Text),
    ("pool_size", Int),
    ("min_pool_size", Int),
    ("reserve_pool_size", Int),
    ("server_lifetime", Int),
    ("pool_mode", Text),
    ("load_balance_hosts", Text),
    ("max_connections", Int),
    ("current_connections", Int),
    ("max_client_connections", Int),
    ("current_client_connections", Int),
    ("paused", Int),
    ("disabled", Int),
    ("reserve_pool", Int),
    ("shards", Int),
];

const USERS: Columns = &[
    ("name", Text),
    ("pool_size", Text),
    ("reserve_pool_size", Text),
    ("pool_mode", Text),
    ("max_user_connections", Int),
    ("current_connections", Int),
    ("max_user_client_connections", Int),
    ("current_client_connections", Int),
];

const SOCKETS: Columns = &[
    ("type", Text),
    ("user", Text),
    ("database", Text),
    ("replication", Text),
    ("state", Text),
    ("addr", Text),
    ("port", Int),
    ("local_addr", Text),
    ("local_port", Int),
    ("connect_time", Text),
    ("request_time", Text),
    ("wait", Int),
    ("wait_us", Int),
    ("close_needed", Int),
    ("ptr", Text),
    ("link", Text),
    ("remote_pid", Int),
    ("tls", Text),
    ("application_name", Text),
    ("prepared_statements", Int),
    ("id", Int),
    ("recv_pos", Int),
    ("pkt_pos", Int),
    ("pkt_remain", Int),
    ("send_pos", Int),
    ("send_remain", Int),
    ("pkt_avail", Int),
    ("send_avail", Int),
];

/// Columns of SOCKETS that CLIENTS and SERVERS have too.
const OF_CLIENTS: usize = 21;

const LISTS: Columns = &[("list", Text), ("items", Int)];
const CONFIG: Columns = &[("key", Text), ("value", Text), ("default", Text), ("changeable", Text)];
const MEM: Columns = &[("name", Text), ("size", Int), ("used", Int), ("free", Int), ("memtotal", Int)];
const STATE: Columns = &[("key", Text), ("value", Text)];
const DNS_HOSTS: Columns = &[("hostname", Text), ("ttl", Big), ("addrs", Text)];
const DNS_ZONES: Columns = &[("zonename", Text), ("serial", Big), ("count", Int)];

const PLACEMENT: Columns = &[
    ("database", Text),
    ("distribution", Text),
    ("from", Text),
    ("to", Text),
    ("shard", Text),
    ("epoch", Big),
];

const MOVES: Columns = &[
    ("database", Text),
    ("distribution", Text),
    ("unit", Text),
    ("source", Text),
    ("target", Text),
    ("state", Text),
    ("attempts", Int),
    ("rows", Big),
    ("bytes", Big),
    ("started", Text),
    ("ended", Text),
    ("note", Text),
];

const SHARDS: Columns = &[
    ("database", Text),
    ("shard", Text),
    ("user", Text),
    ("host", Text),
    ("port", Int),
    ("pool_size", Int),
    ("sv_active", Int),
    ("sv_idle", Int),
    ("sv_login", Int),
    ("sv_being_canceled", Int),
    ("cl_waiting", Int),
    ("maxwait_us", Int),
    ("opened", Numeric),
    ("open_failed", Numeric),
    ("error", Text),
];

const PINNED: Columns = &[
    ("database", Text),
    ("user", Text),
    ("shards", Text),
    ("why", Text),
    ("since", Text),
    ("addr", Text),
    ("port", Int),
    ("application_name", Text),
    ("id", Int),
];

/// `None`: it has no rows to speak of.
pub fn columns(show: Show) -> Option<Columns> {
    Some(match show {
        Show::Help | Show::Fds => return None,
        Show::Version => &[("version", Text)],
        Show::Stats => STATS,
        Show::StatsTotals => STATS_TOTALS,
        Show::StatsAverages => STATS_AVERAGES,
        Show::Totals => TOTALS,
        Show::Pools => POOLS,
        Show::PeerPools => PEER_POOLS,
        Show::Peers => PEERS,
        Show::Databases => DATABASES,
        Show::Users => USERS,
        Show::Clients | Show::Servers => &SOCKETS[..OF_CLIENTS],
        Show::Sockets | Show::ActiveSockets => SOCKETS,
        Show::Lists => LISTS,
        Show::Config => CONFIG,
        Show::Mem => MEM,
        Show::State => STATE,
        Show::DnsHosts => DNS_HOSTS,
        Show::DnsZones => DNS_ZONES,
        Show::Shards => SHARDS,
        Show::Pinned => PINNED,
        Show::Placement => PLACEMENT,
        Show::Moves => MOVES,
    })
}

pub async fn rows(shared: &Shared, show: Show) -> Vec<Vec<Value>> {
    let live = shared.live();
    match show {
        Show::Version => vec![row![format!("PgBouncer {VERSION}")]],
        Show::Stats => stats(shared, &live, true, true),
        Show::StatsTotals => stats(shared, &live, true, false),
        Show::StatsAverages => stats(shared, &live, false, true),
        Show::Totals => totals(shared, &live),
        Show::Pools => pools(shared, &live),
        Show::Databases => databases(shared, &live),
        Show::Users => users(&live),
        Show::Clients => {
            let entries = shared.entries().await;
            let mut rows: Vec<_> = entries.iter().map(|client| client_row(client, false)).collect();
            rows.iter_mut().for_each(|row| row.truncate(OF_CLIENTS));
            rows
        }
        Show::Servers => {
            let mut rows = server_rows(&live, &shared.entries().await, false);
            rows.iter_mut().for_each(|row| row.truncate(OF_CLIENTS));
            rows
        }
        Show::Sockets | Show::ActiveSockets => {
            let mut entries = shared.entries().await;
            let servers = server_rows(&live, &entries, true);
            if show == Show::ActiveSockets {
                entries.retain(|client| client.phase != Phase::Idle);
            }
            let clients = entries.iter().map(|client| client_row(client, true));
            let active = |row: &Vec<Value>| show == Show::Sockets || row[4] == Value::from("sv_active");
            clients.chain(servers.into_iter().filter(active)).collect()
        }
        Show::Lists => lists(shared, &live).await,
        Show::Config => config(&live),
        Show::State => {
            let yes_or_no = |flag| if flag { "yes" } else { "no" };
            let paused = all_paused(&live);
            let stopping = *shared.stop.borrow() != Stop::No;
            vec![
                row!["active", yes_or_no(!paused && !stopping)],
                row!["paused", yes_or_no(paused)],
                row!["suspended", "no"],
            ]
        }
        Show::Shards => shards(&live),
        Show::Pinned => pinned(&live, &shared.entries().await),
        Show::Placement => placement(&live),
        Show::Moves => super::moving::moves(shared).await,
        // There are no peers, no names are cached, and memory is not kept in lists of its own.
        Show::Peers | Show::PeerPools | Show::DnsHosts | Show::DnsZones | Show::Mem => Vec::new(),
        Show::Help | Show::Fds => Vec::new(),
    }
}

/// All databases are.
pub fn all_paused(live: &Live) -> bool {
    !live.databases.is_empty() && live.databases.values().all(|db| db.is_paused())
}

fn by_name(live: &Live) -> BTreeMap<&str, &Arc<Database>> {
    live.databases.iter().map(|(name, db)| (name.as_str(), db)).collect()
}

/// The sums of each database, and of the console, with the averages of the last period.
fn counted(shared: &Shared, live: &Live) -> BTreeMap<String, (Sums, [u64; 12])> {
    let mut sums: HashMap<String, Sums> =
        live.databases.iter().map(|(name, db)| (name.clone(), db.sums())).collect();
    let console = shared.console_queries.load(Ordering::Relaxed);
    sums.insert("pgbouncer".into(), Sums { xacts: console, queries: console, ..Sums::default() });
    let periods = shared.periods.lock().unwrap_or_else(PoisonError::into_inner);
    sums.into_iter()
        .map(|(name, sums)| {
            let none = Sums::default();
            let averages = match periods.last.get(&name) {
                Some(last) => last.averages(periods.before.get(&name).unwrap_or(&none), periods.length),
                None => [0; 12],
            };
            (name, (sums, averages))
        })
        .collect()
}

fn stats(shared: &Shared, live: &Live, with_totals: bool, with_averages: bool) -> Vec<Vec<Value>> {
    let rows = counted(shared, live).into_iter().map(|(name, (sums, averages))| {
        let mut row = row![name];
        if with_totals {
            row.extend(sums.values().map(Value::from));
        }
        if with_averages {
            row.extend(averages.map(Value::from));
        }
        if with_totals && with_averages {
            row.extend(row![sums.queries, averages[2], averages[6]]);
        }
        row
    });
    rows.collect()
}

fn totals(shared: &Shared, live: &Live) -> Vec<Vec<Value>> {
    let (mut all, mut averages) = (Sums::default(), [0u64; 12]);
    for (sums, of_one) in counted(shared, live).into_values() {
        all.add(&sums);
        averages.iter_mut().zip(of_one).for_each(|(sum, one)| *sum += one);
    }
    let totals = TOTALS_NAMES.iter().zip(all.values()).map(|(n, v)| row![format!("total_{n}"), v]);
    let averages = TOTALS_NAMES.iter().zip(averages).map(|(n, v)| row![format!("avg_{n}"), v]);
    totals.chain(averages).collect()
}

/// One user's pools together, as one pool.
fn together(user: &UserPools) -> Status {
    let mut all = Status::default();
    for status in user.all().iter().map(|pool| pool.status()) {
        all.open += status.open;
        all.idle += status.idle;
        all.lent += status.lent;
        all.opening += status.opening;
        all.parked += status.parked;
        all.waiting += status.waiting;
        all.waiting_longest = all.waiting_longest.max(status.waiting_longest);
    }
    all.waiting += user.gate.waiting();
    all
}

fn pools(shared: &Shared, live: &Live) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (name, db) in by_name(live) {
        for (user, pools) in db.users().iter().collect::<BTreeMap<_, _>>() {
            let status = together(pools);
            let clients = pools.stats.clients.load(Ordering::Relaxed);
            if clients == 0 && status.open == 0 && pools.stats.sum().logins == 0 {
                continue;
            }
            let wait = status.waiting_longest;
            rows.push(row![
                name,
                user.as_str(),
                clients.saturating_sub(status.waiting),
                status.waiting,
                0u32,
                0u32,
                status.lent,
                0u32,
                status.parked,
                status.idle,
                0u32,
                0u32,
                status.opening,
                wait.as_secs(),
                wait.subsec_micros(),
                mode(pools.settings.mode),
                Value::Null,
            ]);
        }
    }
    let mut console = row!["pgbouncer", "pgbouncer", shared.consoles().len()];
    console.extend(std::iter::repeat_n(Value::Number(0), 12));
    console.extend(row!["statement", Value::Null]);
    rows.push(console);
    rows.sort_by_key(|row| format!("{:?}", &row[..2]));
    rows
}

fn mode(mode: PoolMode) -> &'static str {
    match mode {
        PoolMode::Session => "session",
        PoolMode::Transaction => "transaction",
        PoolMode::Statement => "statement",
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs()
}

fn databases(shared: &Shared, live: &Live) -> Vec<Vec<Value>> {
    let port = live.config.server.listen.iter().map(|listen| match listen {
        Listen::Tcp { port, .. } | Listen::Unix { port, .. } => *port,
    });
    let mut rows = vec![row![
        "pgbouncer",
        Value::Null,
        port.into_iter().next(),
        "pgbouncer",
        "pgbouncer",
        2u32,
        0u32,
        0u32,
        0u32,
        "statement",
        Value::Null,
        0u32,
        0u32,
        0u32,
        shared.consoles().len(),
        false,
        false,
        0u32,
        0u32,
    ]];
    for config in &live.config.databases {
        let Some(db) = live.databases.get(&config.name) else { continue };
        let first = &config.shards[0].primary;
        let hosts: Vec<&str> = config
            .shards
            .iter()
            .flat_map(|shard| {
                let others = shard.primary.others.iter().map(|(host, _)| host.as_str());
                std::iter::once(shard.primary.host.as_str()).chain(others)
            })
            .collect();
        let balance =
            (!first.others.is_empty()).then_some(if first.balance { "round-robin" } else { "disable" });
        let mut distinct = hosts.clone();
        distinct.dedup();
        let open: usize = db.pools().iter().map(|pool| pool.status().open).sum();
        let clients: usize = db.users().values().map(|u| u.stats.clients.load(Ordering::Relaxed)).sum();
        rows.push(row![
            config.name.as_str(),
            distinct.join(","),
            first.port,
            first.dbname.as_str(),
            config.login.as_ref().map(|login| login.user.as_str()),
            config.pool.size,
            config.pool.min_size,
            config.pool.reserve,
            seconds(config.pool.lifetime),
            mode(config.pool.mode),
            balance,
            config.max_connections,
            open,
            config.max_clients,
            clients,
            db.is_paused(),
            db.is_disabled(),
            config.pool.reserve,
            config.shards.len(),
        ]);
    }
    rows
}

fn users(live: &Live) -> Vec<Vec<Value>> {
    let rows = live.config.users.iter().map(|user| {
        let of_user: Vec<_> = live.databases.values().filter_map(|db| db.user(&user.name)).collect();
        let open: usize = of_user.iter().flat_map(|u| u.all()).map(|pool| pool.status().open).sum();
        let clients: usize = of_user.iter().map(|u| u.stats.clients.load(Ordering::Relaxed)).sum();
        row![
            user.name.as_str(),
            user.pool.size.map_or(String::new(), |size| format!("{size:9}")),
            user.pool.reserve.map_or(String::new(), |size| format!("{size:9}")),
            user.pool.mode.map(mode),
            user.max_connections,
            open,
            user.max_clients,
            clients,
        ]
    });
    rows.collect()
}

/// "2026-11-21 09:05:19 UTC"
pub fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to a date of the Gregorian calendar, in years that begin with March: the leap day is the last.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_based = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_based + 2) / 5 + 1;
    let month = if march_based < 10 { march_based + 3 } else { march_based - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn at(instant: Instant) -> SystemTime {
    SystemTime::now().checked_sub(instant.elapsed()).unwrap_or(UNIX_EPOCH)
}

fn address(end: Option<SocketAddr>, port: u16) -> (String, u16) {
    match end {
        Some(end) => (end.ip().to_canonical().to_string(), end.port()),
        None => ("unix".into(), port),
    }
}

fn pointer(number: u64) -> String {
    if number == 0 { String::new() } else { format!("{number:#x}") }
}

/// The last columns of SOCKETS, which speak of PgBouncer's buffers.
fn buffers() -> impl Iterator<Item = Value> {
    std::iter::repeat_n(Value::Number(0), SOCKETS.len() - OF_CLIENTS)
}

fn client_row(client: &Entry, socket: bool) -> Vec<Value> {
    let Ends { peer, local, port, tls } = client.ends;
    let (addr, port_there) = address(peer, port);
    let (local_addr, port_here) = address(local, port);
    let state = match (client.phase, socket) {
        (Phase::Waiting, false) => "waiting",
        (Phase::Waiting, true) => "cl_waiting",
        (_, true) => "cl_active",
        (Phase::Idle, false) => "idle",
        (Phase::Holding | Phase::Running | Phase::Replicating(_), false) => "active",
    };
    let waited = if client.phase == Phase::Waiting { client.since.elapsed() } else { Duration::ZERO };
    let mut row = row![
        "C",
        client.user.as_str(),
        client.database.as_str(),
        replication(client),
        state,
        addr,
        port_there,
        local_addr,
        port_here,
        timestamp(client.connected),
        timestamp(at(client.since)),
        waited.as_secs(),
        waited.subsec_micros(),
        false,
        pointer(client.id),
        pointer(client.server),
        0u32,
        tls,
        client.application_name.as_str(),
        client.statements,
        client.id,
    ];
    row.extend(buffers());
    row
}

fn replication(client: &Entry) -> &'static str {
    match client.phase {
        Phase::Replicating(kind) => kind.name(),
        _ => "none",
    }
}

fn server_rows(live: &Live, clients: &[Entry], socket: bool) -> Vec<Vec<Value>> {
    let lent_to: HashMap<u64, &Entry> =
        clients.iter().filter(|client| client.server != 0).map(|client| (client.server, client)).collect();
    let mut rows = Vec::new();
    for (name, db) in by_name(live) {
        for (user, pools) in db.users().iter().collect::<BTreeMap<_, _>>() {
            for pool in pools.all() {
                for server in pool.servers() {
                    let client = lent_to.get(&server.number).copied();
                    let port = pool.target().port;
                    rows.push(server_row(name, user, &server, client, port, socket));
                }
            }
        }
    }
    // Those of no pool.
    for client in clients {
        if let Some(walsender) = &client.walsender {
            rows.push(server_row(&client.database, &client.user, walsender, Some(client), 0, socket));
        }
    }
    rows
}

fn server_row(
    database: &str,
    user: &str,
    server: &Listed,
    client: Option<&Entry>,
    port: u16,
    socket: bool,
) -> Vec<Value> {
    let (addr, port_there) = address(server.peer, port);
    let (local_addr, port_here) = address(server.local, 0);
    let state = match (server.idle, socket) {
        (true, false) => "idle",
        (true, true) => "sv_idle",
        (false, false) => "active",
        (false, true) => "sv_active",
    };
    let asked = client.map_or(server.opened, |client| at(client.since));
    let mut row = row![
        "S",
        user,
        database,
        client.map_or("none", replication),
        state,
        addr,
        port_there,
        local_addr,
        port_here,
        timestamp(server.opened),
        timestamp(asked),
        0u32,
        0u32,
        server.stale,
        pointer(server.number),
        client.map_or(String::new(), |client| pointer(client.id)),
        server.process.unwrap_or(0),
        server.tls,
        client.map_or("", |client| client.application_name.as_str()),
        0u32,
        server.number,
    ];
    row.extend(buffers());
    row
}

async fn lists(shared: &Shared, live: &Live) -> Vec<Vec<Value>> {
    let consoles = shared.consoles().len();
    let logged_in = shared.entries().await.len();
    let connected = shared.clients.load(Ordering::Relaxed);
    let (mut pools, mut idle, mut lent) = (1, 0, 0);
    for db in live.databases.values() {
        for user in db.users().values() {
            let status = together(user);
            idle += status.idle;
            lent += status.lent;
            pools += usize::from(status.open > 0 || user.stats.sum().logins > 0);
        }
    }
    vec![
        row!["databases", live.databases.len() + 1],
        row!["users", live.config.users.len()],
        row!["peers", 0u32],
        row!["pools", pools],
        row!["peer_pools", 0u32],
        row!["free_clients", 0u32],
        row!["used_clients", logged_in],
        row!["login_clients", connected.saturating_sub(logged_in.max(consoles))],
        row!["free_servers", idle],
        row!["used_servers", lent],
        row!["dns_names", 0u32],
        row!["dns_zones", 0u32],
        row!["dns_queries", 0u32],
        row!["dns_pending", 0u32],
    ]
}

/// Of PgBouncer's own file all that PgBouncer has, as it is written; else what of that means a setting here.
fn config(live: &Live) -> Vec<Vec<Value>> {
    match &live.config.ini {
        Some(ini) => {
            let rows = ini.settings().map(|(key, value)| {
                let changeable = if key.meaning == Meaning::Honoured { "yes" } else { "no" };
                match key.name {
                    "conffile" => row![key.name, ini.file().display().to_string(), "", "no"],
                    _ => row![key.name, value, key.default, changeable],
                }
            });
            rows.collect()
        }
        None => own_config(live),
    }
}

fn own_config(live: &Live) -> Vec<Vec<Value>> {
    let server = &live.config.server;
    // Of several databases the first speaks for all.
    let Some(first) = live.config.databases.first().or(live.config.fallback.as_ref()) else {
        return Vec::new();
    };
    let pool = &first.pool;
    let whole = |duration: Duration| match duration.subsec_micros() {
        0 => duration.as_secs().to_string(),
        _ => format!("{}", duration.as_secs_f64()),
    };
    let mut addresses = Vec::new();
    let (mut port, mut directory) = (None, String::new());
    for listen in &server.listen {
        match listen {
            Listen::Tcp { host, port: own } => {
                addresses.push(host.as_str());
                port.get_or_insert(*own);
            }
            Listen::Unix { directory: own, port: own_port } => {
                directory = own.display().to_string();
                port.get_or_insert(*own_port);
            }
        }
    }
    let rows: Vec<(&str, String, &str)> = vec![
        ("admin_users", server.admins.join(","), ""),
        ("autodb_idle_timeout", whole(server.fallback_idle_timeout), "3600"),
        ("client_idle_timeout", whole(pool.client_idle_timeout), "0"),
        ("client_login_timeout", whole(server.login_timeout), "60"),
        ("default_pool_size", pool.size.to_string(), "20"),
        ("idle_transaction_timeout", whole(pool.idle_transaction_timeout), "0"),
        ("listen_addr", addresses.join(","), "127.0.0.1"),
        ("listen_port", port.unwrap_or(6432).to_string(), "6432"),
        ("max_client_conn", server.max_clients.to_string(), "10000"),
        ("max_db_client_connections", first.max_clients.to_string(), "0"),
        ("max_db_connections", first.max_connections.to_string(), "0"),
        ("max_prepared_statements", pool.statements_max.to_string(), "500"),
        ("max_user_client_connections", server.max_clients_per_user.to_string(), "0"),
        ("max_user_connections", server.max_connections_per_user.to_string(), "0"),
        ("min_pool_size", pool.min_size.to_string(), "0"),
        ("pool_mode", mode(pool.mode).into(), "transaction"),
        ("query_timeout", whole(pool.query_timeout), "0"),
        ("query_wait_timeout", whole(pool.checkout_timeout), "5"),
        ("reserve_pool_size", pool.reserve.to_string(), "0"),
        ("reserve_pool_timeout", whole(pool.reserve_timeout), "3"),
        ("server_connect_timeout", whole(pool.connect_timeout), "5"),
        ("server_idle_timeout", whole(pool.idle_timeout), "600"),
        ("server_lifetime", whole(pool.lifetime), "3600"),
        ("so_reuseport", "1".into(), "1"),
        ("stats_period", "60".into(), "60"),
        ("stats_users", server.stats_users.join(","), ""),
        ("transaction_timeout", whole(pool.transaction_timeout), "0"),
        ("unix_socket_dir", directory, ""),
        ("workers", server.workers.to_string(), "0"),
    ];
    let rows = rows.into_iter().map(|(key, value, default)| {
        let changeable = super::act::changeable(key);
        row![key, value, default, if changeable { "yes" } else { "no" }]
    });
    rows.collect()
}

/// Clients that keep servers between transactions, and why.
fn pinned(live: &Live, clients: &[Entry]) -> Vec<Vec<Value>> {
    let rows = clients.iter().filter_map(|client| {
        let pin = client.pinned.as_ref()?;
        let db = live.databases.get(&client.database);
        let name = |shard: &ShardId| db.map_or("?", |db| db.shard_name(*shard));
        let shards: Vec<&str> = pin.shards.iter().map(name).collect();
        let (addr, port) = address(client.ends.peer, client.ends.port);
        Some(row![
            client.database.as_str(),
            client.user.as_str(),
            shards.join(", "),
            pin.reasons.names(),
            timestamp(pin.since),
            addr,
            port,
            client.application_name.as_str(),
            client.id,
        ])
    });
    rows.collect()
}

fn shards(live: &Live) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (name, db) in by_name(live) {
        for (user, pools) in db.users().iter().collect::<BTreeMap<_, _>>() {
            for (shard, pool) in db.config.shards.iter().zip(pools.all()) {
                let status = pool.status();
                rows.push(row![
                    name,
                    shard.name.as_str(),
                    user.as_str(),
                    pool.target().host.as_str(),
                    pool.target().port,
                    status.size,
                    status.lent,
                    status.idle,
                    status.opening,
                    status.parked,
                    status.waiting,
                    status.waiting_longest.as_micros() as u64,
                    status.opened_total,
                    status.open_failed_total,
                    status.failing.map(|error| error.to_string()),
                ]);
            }
        }
    }
    rows
}

/// Slots with both their ends; ranges of keys without their end; listed values.
fn placement(live: &Live) -> Vec<Vec<Value>> {
    let mut rows = Vec::new();
    for (name, db) in by_name(live) {
        let topology = db.topology();
        for distribution in &topology.distributions {
            for part in distribution.shown.iter() {
                rows.push(row![
                    name,
                    distribution.name.as_str(),
                    part.from.as_str(),
                    part.to.as_str(),
                    topology.shards.get(usize::from(part.shard.0)).map_or("", String::as_str),
                    part.epoch,
                ]);
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_dates() {
        let cases = [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59 UTC"),
            (1_767_225_599, "2025-12-31 23:59:59 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn every_row_that_is_made_by_hand_has_its_columns() {
        // PgBouncer's 25, and three older names.
        assert_eq!(STATS.len(), 28);
        assert_eq!((STATS_TOTALS.len(), STATS_AVERAGES.len()), (13, 13));
        assert_eq!((SOCKETS.len(), OF_CLIENTS), (28, 21));
        assert_eq!((POOLS.len(), USERS.len()), (17, 8));
        // PgBouncer's 17, and what pgherd adds.
        assert_eq!(DATABASES.len(), 19);
    }
}
