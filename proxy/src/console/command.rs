//! The console's language: PgBouncer's, a word or a few.
//!
//! Pure. What is not understood is refused in PgBouncer's words.

/// Longest command that is read.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    Help,
    Version,
    Stats,
    StatsTotals,
    StatsAverages,
    Totals,
    Pools,
    PeerPools,
    Peers,
    Databases,
    Users,
    Clients,
    Servers,
    Sockets,
    ActiveSockets,
    Lists,
    Config,
    DnsHosts,
    DnsZones,
    Mem,
    State,
    Fds,
    /// pgherd's own.
    Shards,
    Pinned,
    Placement,
    Moves,
}

/// What is told to whoever moves rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebalance {
    Plan,
    Apply,
    Status,
    Pause,
    Resume,
    Cancel,
    Verify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// SHUTDOWN alone.
    Not,
    Servers,
    Clients,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nothing but blanks and semicolons.
    Empty,
    Show(Show),
    /// A setting that clients ask for as they would ask PostgreSQL, with its one answer.
    ShowFake(&'static str, &'static str),
    /// SELECT of a number, BEGIN and its like: drivers say them to find out whether somebody is there.
    SelectNumber(i32),
    Nothing(&'static str),
    /// SET of such a setting, or of one that a PostgreSQL session has.
    SetFake,
    Set(String, String),
    Pause(Option<String>),
    Resume(Option<String>),
    Reconnect(Option<String>),
    WaitClose(Option<String>),
    Kill(Option<String>),
    Disable(Option<String>),
    Enable(Option<String>),
    KillClient(Option<String>),
    Reload,
    Suspend,
    Shutdown(Wait),
    /// With the database, and the rows a second.
    Rebalance(Rebalance, Option<String>, Option<u64>),
}

const SHOWS: &[(&str, Show)] = &[
    ("help", Show::Help),
    ("version", Show::Version),
    ("stats", Show::Stats),
    ("stats_totals", Show::StatsTotals),
    ("stats_averages", Show::StatsAverages),
    ("totals", Show::Totals),
    ("pools", Show::Pools),
    ("peer_pools", Show::PeerPools),
    ("peers", Show::Peers),
    ("databases", Show::Databases),
    ("users", Show::Users),
    ("clients", Show::Clients),
    ("servers", Show::Servers),
    ("sockets", Show::Sockets),
    ("active_sockets", Show::ActiveSockets),
    ("lists", Show::Lists),
    ("config", Show::Config),
    ("dns_hosts", Show::DnsHosts),
    ("dns_zones", Show::DnsZones),
    ("mem", Show::Mem),
    ("state", Show::State),
    ("fds", Show::Fds),
    ("shards", Show::Shards),
    ("pinned", Show::Pinned),
    ("placement", Show::Placement),
    ("moves", Show::Moves),
];

const REBALANCES: &[(&str, Rebalance)] = &[
    ("plan", Rebalance::Plan),
    ("apply", Rebalance::Apply),
    ("status", Rebalance::Status),
    ("pause", Rebalance::Pause),
    ("resume", Rebalance::Resume),
    ("cancel", Rebalance::Cancel),
    ("verify", Rebalance::Verify),
];

/// What a session of PostgreSQL would say to drivers that ask at their start.
const FAKE: &[(&str, &str)] = &[
    ("client_encoding", "UTF-8"),
    ("default_transaction_isolation", "read committed"),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO"),
    ("timezone", "GMT"),
];

/// Settings of a session that drivers set at their start. They change nothing here.
const OF_A_SESSION: &[&str] = &[
    "application_name",
    "extra_float_digits",
    "client_min_messages",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "search_path",
    "intervalstyle",
    "bytea_output",
    "session",
];

/// # Errors
/// The text as it is to be repeated: nobody knows what it means.
pub fn parse(text: &str) -> Result<Command, String> {
    let trimmed = text.trim().trim_end_matches(|c: char| c == ';' || c.is_whitespace());
    let unknown = || Err(trimmed.to_owned());
    let words: Vec<&str> = trimmed.split_whitespace().collect();
    let Some(first) = words.first() else { return Ok(Command::Empty) };
    let rest = &words[1..];
    // One name, or none.
    let name = || match rest {
        [] => Some(None),
        [name] => Some(Some(unquoted(name))),
        _ => None,
    };
    let command = match (first.to_ascii_lowercase().as_str(), rest) {
        ("show" | "select", [what]) => {
            let what = what.to_ascii_lowercase();
            if let Some((_, show)) = SHOWS.iter().find(|(name, _)| *name == what) {
                Command::Show(*show)
            } else if let Some((name, value)) = FAKE.iter().find(|(name, _)| *name == what) {
                Command::ShowFake(name, value)
            } else if first.eq_ignore_ascii_case("select")
                && let Ok(number) = what.parse()
            {
                Command::SelectNumber(number)
            } else {
                return unknown();
            }
        }
        ("set", _) => match setting(&trimmed[first.len()..]) {
            Some((key, value)) => {
                let fake = FAKE.iter().map(|(name, _)| name).chain(OF_A_SESSION);
                if fake.into_iter().any(|name| *name == key) {
                    Command::SetFake
                } else {
                    Command::Set(key, value)
                }
            }
            None => return unknown(),
        },
        ("begin", []) => Command::Nothing("BEGIN"),
        ("commit" | "end", []) => Command::Nothing("COMMIT"),
        ("rollback", []) => Command::Nothing("ROLLBACK"),
        ("discard", [all]) if all.eq_ignore_ascii_case("all") => Command::Nothing("DISCARD ALL"),
        ("reload", []) => Command::Reload,
        ("suspend", []) => Command::Suspend,
        ("rebalance", [what, rest @ ..]) => {
            let what = what.to_ascii_lowercase();
            let Some((_, what)) = REBALANCES.iter().find(|(name, _)| *name == what) else { return unknown() };
            let (name, rate) = match rest {
                [] => (None, None),
                [word, rate] if word.eq_ignore_ascii_case("rate") => (None, Some(rate)),
                [name] => (Some(unquoted(name)), None),
                [name, word, rate] if word.eq_ignore_ascii_case("rate") => (Some(unquoted(name)), Some(rate)),
                _ => return unknown(),
            };
            let Ok(rate) = rate.map(|rate| rate.parse()).transpose() else { return unknown() };
            Command::Rebalance(*what, name, rate)
        }
        ("shutdown", []) => Command::Shutdown(Wait::Not),
        ("shutdown", [wait]) if wait.eq_ignore_ascii_case("wait_for_servers") => {
            Command::Shutdown(Wait::Servers)
        }
        ("shutdown", [wait]) if wait.eq_ignore_ascii_case("wait_for_clients") => {
            Command::Shutdown(Wait::Clients)
        }
        (word, _) => {
            let Some(name) = name() else { return unknown() };
            match word {
                "pause" => Command::Pause(name),
                "resume" => Command::Resume(name),
                "reconnect" => Command::Reconnect(name),
                "wait_close" => Command::WaitClose(name),
                "kill" => Command::Kill(name),
                "disable" => Command::Disable(name),
                "enable" => Command::Enable(name),
                "kill_client" => Command::KillClient(name),
                _ => return unknown(),
            }
        }
    };
    Ok(command)
}

fn unquoted(name: &str) -> String {
    let inner = |quote| name.strip_prefix(quote)?.strip_suffix(quote);
    match inner('"').or_else(|| inner('\'')) {
        Some(inner) => inner.to_owned(),
        None => name.to_owned(),
    }
}

/// `key = value`, `key TO 'value'`.
fn setting(text: &str) -> Option<(String, String)> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_whitespace() || c == '=')?;
    let (key, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let value = match rest.strip_prefix('=') {
        Some(value) => value,
        None => {
            let (to, value) = rest.split_once(char::is_whitespace)?;
            // SET SESSION CHARACTERISTICS ..., as some drivers say it.
            if !to.eq_ignore_ascii_case("to") && !key.eq_ignore_ascii_case("session") {
                return None;
            }
            value
        }
    };
    (!key.is_empty()).then(|| (key.to_ascii_lowercase(), unquoted(value.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_pgbouncer_reads_them() {
        let some = |name: &str| Some(name.to_owned());
        let cases = [
            ("SHOW STATS", Ok(Command::Show(Show::Stats))),
            ("  show   version ;  ", Ok(Command::Show(Show::Version))),
            ("SELECT version", Ok(Command::Show(Show::Version))),
            ("select 1", Ok(Command::SelectNumber(1))),
            ("select version()", Err("select version()".to_owned())),
            ("SHOW timezone", Ok(Command::ShowFake("timezone", "GMT"))),
            ("SHOW", Err("SHOW".to_owned())),
            ("SHOW FOO;", Err("SHOW FOO".to_owned())),
            ("SHOW STATS; SHOW VERSION", Err("SHOW STATS; SHOW VERSION".to_owned())),
            ("SHOW CLIENTS extra", Err("SHOW CLIENTS extra".to_owned())),
            ("", Ok(Command::Empty)),
            (" ; ;", Ok(Command::Empty)),
            ("PAUSE", Ok(Command::Pause(None))),
            ("pause shop;", Ok(Command::Pause(some("shop")))),
            ("PAUSE \"Shop\"", Ok(Command::Pause(some("Shop")))),
            ("PAUSE a b c", Err("PAUSE a b c".to_owned())),
            ("KILL_CLIENT 0x12", Ok(Command::KillClient(some("0x12")))),
            ("SHUTDOWN", Ok(Command::Shutdown(Wait::Not))),
            ("shutdown wait_for_clients", Ok(Command::Shutdown(Wait::Clients))),
            ("SHUTDOWN foo", Err("SHUTDOWN foo".to_owned())),
            ("SUSPEND x", Err("SUSPEND x".to_owned())),
            ("RELOAD x", Err("RELOAD x".to_owned())),
            ("SET query_timeout=5", Ok(Command::Set("query_timeout".into(), "5".into()))),
            ("SET Query_Timeout TO '5'", Ok(Command::Set("query_timeout".into(), "5".into()))),
            ("SET admin_users = 'a, b'", Ok(Command::Set("admin_users".into(), "a, b".into()))),
            ("SET extra_float_digits = 3", Ok(Command::SetFake)),
            ("SET DateStyle = 'ISO'", Ok(Command::SetFake)),
            ("SET", Err("SET".to_owned())),
            ("SET x y", Err("SET x y".to_owned())),
            ("BEGIN", Ok(Command::Nothing("BEGIN"))),
            ("foo", Err("foo".to_owned())),
            ("DROP TABLE x", Err("DROP TABLE x".to_owned())),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
