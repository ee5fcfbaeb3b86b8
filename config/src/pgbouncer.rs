//! PgBouncer's own configuration, as pgherd's: `pgbouncer.ini` and its user list become the TOML that means the same.
//!
//! Invariant: a key is honoured, or said to have no effect here and why, or refused by name. Nothing is passed over. What comes
//! out is checked like a file that somebody wrote.
//!
//! Not here: HBA and ident files, which are read as they are.
//!
//! Start reading at [`import`].

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::problems::Problems;

/// Files that may include each other.
const INCLUDES_MAX: usize = 16;

/// PgBouncer's defaults that are not pgherd's.
const DEFAULTS: &[(&str, &str)] = &[
    ("auth_type", "md5"),
    ("client_login_timeout", "60"),
    ("default_pool_size", "20"),
    ("listen_port", "6432"),
    ("max_client_conn", "100"),
    ("max_prepared_statements", "200"),
    ("pool_mode", "session"),
    ("query_wait_timeout", "120"),
    ("reserve_pool_timeout", "5"),
    ("server_connect_timeout", "15"),
    ("server_idle_timeout", "600"),
    ("server_lifetime", "3600"),
    ("unix_socket_dir", "/tmp"),
];

/// Keys of `[pgbouncer]` that say how PgBouncer does something that pgherd does otherwise, or always.
const NO_EFFECT: &[(&str, &str)] = &[
    ("cancel_wait_timeout", "a cancel request waits for nothing"),
    ("conffile", "the file is the one that was named"),
    ("dns_max_ttl", "names are asked for at each connection"),
    ("dns_nxdomain_ttl", "names are asked for at each connection"),
    ("dns_zone_check_period", "names are asked for at each connection"),
    ("ignore_startup_parameters", "every startup parameter is tracked"),
    ("job_name", "logs are lines with fields on stderr"),
    ("listen_backlog", "it is large"),
    ("log_connections", "PGHERD_LOG says what is logged"),
    ("log_disconnections", "PGHERD_LOG says what is logged"),
    ("log_pooler_errors", "PGHERD_LOG says what is logged"),
    ("log_stats", "see /metrics and SHOW STATS"),
    ("logfile", "logs go to stderr"),
    ("max_packet_size", "messages are streamed"),
    ("peer_id", "there are no peers"),
    ("pidfile", "systemd, or whoever starts it, knows its number"),
    ("pkt_buf", "buffers are lent for as long as they are needed"),
    ("query_wait_notify", "waiting clients are told when it is over"),
    ("resolv_conf", "names are asked for as the system does"),
    ("sbuf_loopcnt", "sockets take turns"),
    ("server_check_delay", "a server is looked at each time it is lent"),
    ("server_check_query", "a server is looked at each time it is lent"),
    ("server_fast_close", "connections of before are closed when they come back"),
    ("server_login_retry", "attempts are 50 ms to 1 s apart"),
    ("server_reset_query", "settings are tracked for each client"),
    ("server_reset_query_always", "settings are tracked for each client"),
    ("server_round_robin", "the connection used last is lent first"),
    ("so_reuseport", "it always is"),
    ("stats_period", "it is 60 s"),
    ("suspend_timeout", "SUSPEND is not there"),
    ("syslog", "logs go to stderr"),
    ("syslog_facility", "logs go to stderr"),
    ("syslog_ident", "logs go to stderr"),
    ("tcp_defer_accept", "clients are accepted at once"),
    ("tcp_keepalive", "it is on towards servers"),
    ("tcp_keepcnt", "it is 3"),
    ("tcp_keepidle", "it is 60 s"),
    ("tcp_keepintvl", "it is 10 s"),
    ("tcp_socket_buffer", "the system's default"),
    ("tcp_user_timeout", "the system's default"),
    ("track_extra_parameters", "every parameter is tracked"),
    ("unix_socket_group", "the directory's permissions say who may connect"),
    ("unix_socket_mode", "the directory's permissions say who may connect"),
    ("user", "start it as that user"),
    ("verbose", "PGHERD_LOG says what is logged"),
    ("autodb_idle_timeout", "there is no fallback database"),
    ("pool_idle_timeout", "an idle pool holds nothing"),
    ("client_tls_protocols", "TLS 1.2 and 1.3"),
    ("client_tls_ciphers", "rustls' choice"),
    ("client_tls13_ciphers", "rustls' choice"),
    ("client_tls_dheparams", "rustls' choice"),
    ("client_tls_ecdhcurve", "rustls' choice"),
    ("server_tls_protocols", "TLS 1.2 and 1.3"),
    ("server_tls_ciphers", "rustls' choice"),
    ("server_tls13_ciphers", "rustls' choice"),
    ("scram_iterations", "verifiers keep their own"),
];

/// Keys that mean something which pgherd does not do, with the value that means nothing.
const ONLY_OFF: &[(&str, &str)] = &[
    ("application_name_add_host", "0"),
    ("auth_ldap_options", ""),
    ("disable_pqexec", "0"),
    ("login_notify_message", ""),
];

/// Keys that become settings; see [`Draft::server`] and what follows it.
const HONOURED: &[&str] = &[
    "admin_users",
    "auth_dbname",
    "auth_file",
    "auth_hba_file",
    "auth_ident_file",
    "auth_query",
    "auth_type",
    "auth_user",
    "client_idle_timeout",
    "client_login_timeout",
    "client_tls_ca_file",
    "client_tls_cert_file",
    "client_tls_key_file",
    "client_tls_sslmode",
    "default_pool_size",
    "idle_transaction_timeout",
    "listen_addr",
    "listen_port",
    "max_client_conn",
    "max_db_client_connections",
    "max_db_connections",
    "max_prepared_statements",
    "max_user_client_connections",
    "max_user_connections",
    "min_pool_size",
    "pool_mode",
    "query_timeout",
    "query_wait_timeout",
    "reserve_pool_size",
    "reserve_pool_timeout",
    "server_connect_timeout",
    "server_idle_timeout",
    "server_lifetime",
    "server_tls_ca_file",
    "server_tls_cert_file",
    "server_tls_key_file",
    "server_tls_sslmode",
    "stats_users",
    "transaction_timeout",
    "unix_socket_dir",
];

/// `key = value` with the place where it stands.
#[derive(Debug, Clone)]
struct Entry {
    key: String,
    value: String,
    at: String,
}

#[derive(Debug, Default)]
struct Ini {
    /// By section, in the order of the file.
    sections: BTreeMap<String, Vec<Entry>>,
}

/// Reads `pgbouncer.ini` and the files that it names, and says the same in pgherd's words.
///
/// # Errors
/// Every line that cannot be honoured.
pub fn import(file: &Path) -> Result<String, Problems> {
    let mut problems = Vec::new();
    let mut ini = Ini::default();
    read(file, &mut ini, &mut 0, &mut problems);
    let mut draft = Draft { folder: file.parent().unwrap_or(Path::new("")).to_owned(), ini, problems };
    let toml = draft.write(file);
    if draft.problems.is_empty() {
        return Ok(toml);
    }
    Err(Problems::of_lines(&file.display().to_string(), draft.problems))
}

/// What a key of `[pgbouncer]` says, if it says anything: for what concerns the process and not its service.
pub fn written(file: &Path, key: &str) -> Option<String> {
    let mut ini = Ini::default();
    read(file, &mut ini, &mut 0, &mut Vec::new());
    let draft = Draft { folder: PathBuf::new(), ini, problems: Vec::new() };
    draft.given(key).filter(|value| !value.is_empty())
}

fn read(file: &Path, ini: &mut Ini, files: &mut usize, problems: &mut Vec<String>) {
    let name = file.display();
    *files += 1;
    if *files > INCLUDES_MAX {
        problems.push(format!("{name}: more than {INCLUDES_MAX} files include each other"));
        return;
    }
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) => {
            problems.push(format!("{name}: cannot read the file: {e}"));
            return;
        }
    };
    let mut section = None;
    for (number, line) in text.lines().enumerate() {
        let at = format!("{name}:{}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with([';', '#']) {
            continue;
        }
        if let Some(included) = line.strip_prefix("%include") {
            read(&file.parent().unwrap_or(Path::new("")).join(included.trim()), ini, files, problems);
        } else if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            if !matches!(header, "databases" | "users" | "pgbouncer" | "peers") {
                problems.push(format!("{at}: unknown section [{header}]"));
            }
            section = Some(header.to_owned());
            ini.sections.entry(header.to_owned()).or_default();
        } else if let (Some((key, value)), Some(section)) = (line.split_once('='), &section) {
            let entry = Entry { key: key.trim().to_owned(), value: value.trim().to_owned(), at };
            ini.sections.entry(section.clone()).or_default().push(entry);
        } else {
            problems.push(format!("{at}: neither a section nor \"key = value\""));
        }
    }
}

/// `key=value key='a value'`, as in a connection string.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let mut value = String::new();
        if let Some(mut quoted) = behind.strip_prefix('\'') {
            loop {
                let end = quoted.find('\'')?;
                value.push_str(&quoted[..end]);
                quoted = &quoted[end + 1..];
                // Two quotes stand for one.
                match quoted.strip_prefix('\'') {
                    Some(more) => {
                        value.push('\'');
                        quoted = more;
                    }
                    None => break,
                }
            }
            rest = quoted.trim_start();
        } else {
            let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
            value.push_str(&behind[..end]);
            rest = behind[end..].trim_start();
        }
        found.push((key.trim().to_owned(), value));
    }
    Some(found)
}

/// The users of an auth_file: `"name" "secret"`, quotes doubled.
fn user_list(text: &str) -> Vec<(String, String)> {
    let quoted = |text: &mut &str| -> Option<String> {
        *text = text.trim_start().strip_prefix('"')?;
        let mut word = String::new();
        loop {
            let end = text.find('"')?;
            word.push_str(&text[..end]);
            *text = &text[end + 1..];
            match text.strip_prefix('"') {
                Some(more) => {
                    word.push('"');
                    *text = more;
                }
                None => return Some(word),
            }
        }
    };
    let line = |mut line: &str| Some((quoted(&mut line)?, quoted(&mut line)?));
    text.lines().filter_map(line).collect()
}

/// A TOML string.
fn string(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if (c as u32) < 32 || c as u32 == 127 => {
                let _ = write!(out, "\\u{:04X}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn names(list: &str) -> String {
    let names: Vec<String> =
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(string).collect();
    format!("[{}]", names.join(", "))
}

/// PgBouncer's times are seconds, with a fraction perhaps; `None`: it is none.
fn duration(seconds: &str) -> Option<String> {
    let seconds: f64 = seconds.parse().ok().filter(|s: &f64| (0.0..1e9).contains(s))?;
    let millis = (seconds * 1000.0).round() as u64;
    Some(if millis.is_multiple_of(1000) {
        format!("\"{}s\"", millis / 1000)
    } else {
        format!("\"{millis}ms\"")
    })
}

struct Draft {
    folder: PathBuf,
    ini: Ini,
    problems: Vec<String>,
}

impl Draft {
    fn section(&self, name: &str) -> Vec<Entry> {
        self.ini.sections.get(name).cloned().unwrap_or_default()
    }

    /// The last value of a key of `[pgbouncer]`, else PgBouncer's default.
    fn given(&self, key: &str) -> Option<String> {
        let entries = self.ini.sections.get("pgbouncer")?;
        entries.iter().rev().find(|entry| entry.key == key).map(|entry| entry.value.clone())
    }

    fn value(&self, key: &str) -> String {
        let default = || DEFAULTS.iter().find(|(name, _)| *name == key).map_or("", |(_, value)| *value);
        self.given(key).unwrap_or_else(|| default().to_owned())
    }

    fn write(&mut self, file: &Path) -> String {
        let mut out = format!("# From {}, by pgherd import.\n", file.display());
        for entry in self.section("pgbouncer") {
            let Entry { key, value, at } = entry;
            if let Some((_, why)) = NO_EFFECT.iter().find(|(name, _)| *name == key) {
                let _ = writeln!(out, "# {key}: no effect here: {why}.");
            } else if let Some((_, off)) = ONLY_OFF.iter().find(|(name, _)| *name == key) {
                if value != *off {
                    self.problems.push(format!("{at}: {key} = {value} is not supported"));
                }
            } else if !HONOURED.contains(&key.as_str()) {
                self.problems.push(format!("{at}: unknown parameter: {key}"));
            }
        }
        for entry in self.section("peers") {
            self.problems.push(format!("{}: [peers] is not supported", entry.at));
        }
        self.server(&mut out);
        self.auth(&mut out);
        self.pool(&mut out);
        self.users(&mut out);
        self.databases(&mut out);
        out
    }

    fn seconds(&mut self, out: &mut String, name: &str, value: &str, at: &str, never: Option<&str>) {
        match (duration(value), never) {
            (Some(zero), Some(never)) if zero == "\"0s\"" => drop(writeln!(out, "{name} = {never:?}")),
            (Some(duration), _) => drop(writeln!(out, "{name} = {duration}")),
            (None, _) => self.problems.push(format!("{at}: {name} cannot be {value:?}: seconds are wanted")),
        }
    }

    fn server(&mut self, out: &mut String) {
        let port = self.value("listen_port");
        let mut listen = Vec::new();
        for host in self.value("listen_addr").split(',').map(str::trim).filter(|host| !host.is_empty()) {
            listen.push(match host {
                "*" => string(&format!("[::]:{port}")),
                host if host.contains(':') => string(&format!("[{host}]:{port}")),
                host => string(&format!("{host}:{port}")),
            });
        }
        let directory = self.value("unix_socket_dir");
        if !directory.is_empty() {
            listen.push(string(&format!("unix:{directory}:{port}")));
        }
        let _ = writeln!(out, "\n[server]\nlisten = [{}]", listen.join(", "));
        let _ = writeln!(out, "max_clients = {}", self.value("max_client_conn"));
        for (name, key) in [
            ("max_clients_per_user", "max_user_client_connections"),
            ("max_connections_per_user", "max_user_connections"),
        ] {
            let limit = self.value(key);
            if !limit.is_empty() {
                let _ = writeln!(out, "{name} = {limit}");
            }
        }
        let timeout = self.value("client_login_timeout");
        self.seconds(out, "login_timeout", &timeout, "client_login_timeout", Some("1h"));
        let _ = writeln!(out, "admins = {}", names(&self.value("admin_users")));
        let _ = writeln!(out, "stats_users = {}", names(&self.value("stats_users")));
        // PgBouncer's SIGTERM waits for clients.
        out.push_str("drain = \"clients\"\n");
        let mode = self.value("client_tls_sslmode");
        if !matches!(mode.as_str(), "" | "disable") {
            let _ = writeln!(out, "\n[server.tls]\nmode = {}", string(&mode));
            for (name, key) in [
                ("certificate", "client_tls_cert_file"),
                ("private_key", "client_tls_key_file"),
                ("client_ca", "client_tls_ca_file"),
            ] {
                let file = self.value(key);
                if !file.is_empty() {
                    let _ = writeln!(out, "{name} = {}", string(&file));
                }
            }
        }
    }

    fn auth(&mut self, out: &mut String) {
        let method = match self.value("auth_type").as_str() {
            "plain" => "password".to_owned(),
            "any" | "pam" | "ldap" => {
                let method = self.value("auth_type");
                self.problems.push(format!("auth_type = {method} is not supported"));
                method
            }
            other => other.to_owned(),
        };
        let _ = writeln!(out, "\n[auth]\nmethod = {}", string(&method));
        for (name, key) in [
            ("hba_file", "auth_hba_file"),
            ("ident_file", "auth_ident_file"),
            ("query_database", "auth_dbname"),
        ] {
            let value = self.value(key);
            if !value.is_empty() && (name != "hba_file" || method == "hba") {
                let _ = writeln!(out, "{name} = {}", string(&value));
            }
        }
        let user = self.value("auth_user");
        if !user.is_empty() {
            let query = self.value("auth_query");
            if !query.is_empty() {
                let _ = writeln!(out, "query = {}", string(&query));
            }
            let known = self.known_users();
            let password = known.iter().find(|(name, _)| *name == user).map(|(_, secret)| secret.clone());
            let password = password.map_or(String::new(), |p| format!(", password = {}", string(&p)));
            let _ = writeln!(out, "query_as = {{ user = {}{password} }}", string(&user));
        }
    }

    fn pool(&mut self, out: &mut String) {
        let _ = writeln!(out, "\n[pool]\nmode = {}", string(&self.value("pool_mode")));
        let numbers =
            [("size", "default_pool_size"), ("min_size", "min_pool_size"), ("reserve", "reserve_pool_size")];
        for (name, key) in numbers {
            let value = self.value(key);
            if !value.is_empty() {
                let _ = writeln!(out, "{name} = {value}");
            }
        }
        // 0 turns PgBouncer's own off; pgherd's costs nothing, and one statement is its least.
        let statements = self.value("max_prepared_statements");
        let _ = writeln!(out, "statements_max = {}", if statements == "0" { "1" } else { &statements });
        let never_is_a_day = ["checkout_timeout"];
        for (name, key) in [
            ("checkout_timeout", "query_wait_timeout"),
            ("connect_timeout", "server_connect_timeout"),
            ("idle_timeout", "server_idle_timeout"),
            ("lifetime", "server_lifetime"),
            ("reserve_timeout", "reserve_pool_timeout"),
            ("query_timeout", "query_timeout"),
            ("transaction_timeout", "transaction_timeout"),
            ("idle_transaction_timeout", "idle_transaction_timeout"),
            ("client_idle_timeout", "client_idle_timeout"),
        ] {
            let value = self.value(key);
            if !value.is_empty() {
                let never = never_is_a_day.contains(&name).then_some("1d");
                self.seconds(out, name, &value, key, never);
            }
        }
    }

    /// Of the auth_file.
    fn known_users(&mut self) -> Vec<(String, String)> {
        let file = self.value("auth_file");
        if file.is_empty() {
            return Vec::new();
        }
        let path = self.folder.join(&file);
        match std::fs::read_to_string(&path) {
            Ok(text) => user_list(&text),
            Err(e) => {
                let problem = format!("{}: cannot read the file: {e}", path.display());
                if !self.problems.contains(&problem) {
                    self.problems.push(problem);
                }
                Vec::new()
            }
        }
    }

    fn users(&mut self, out: &mut String) {
        let mut users: Vec<(String, Option<String>)> =
            self.known_users().into_iter().map(|(name, secret)| (name, Some(secret))).collect();
        let entries = self.section("users");
        for entry in &entries {
            if !users.iter().any(|(name, _)| *name == entry.key) {
                users.push((entry.key.clone(), None));
            }
        }
        for (name, secret) in users {
            let _ = writeln!(out, "\n[[users]]\nname = {}", string(&name));
            if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
                let _ = writeln!(out, "password = {}", string(&secret));
            }
            for entry in entries.iter().filter(|entry| entry.key == name) {
                let Some(pairs) = pairs(&entry.value) else {
                    self.problems.push(format!("{}: syntax error in connection string", entry.at));
                    continue;
                };
                for (key, value) in pairs {
                    match key.as_str() {
                        "pool_size" => drop(writeln!(out, "size = {value}")),
                        "pool_mode" => drop(writeln!(out, "mode = {}", string(&value))),
                        "reserve_pool_size" => drop(writeln!(out, "reserve = {value}")),
                        "max_user_client_connections" => drop(writeln!(out, "max_clients = {value}")),
                        "max_user_connections" => drop(writeln!(out, "max_connections = {value}")),
                        "query_wait_timeout" => {
                            self.seconds(out, "checkout_timeout", &value, &entry.at, Some("1d"));
                        }
                        "query_timeout"
                        | "transaction_timeout"
                        | "idle_transaction_timeout"
                        | "client_idle_timeout" => self.seconds(out, &key, &value, &entry.at, None),
                        _ => self.problems.push(format!("{}: {key} of a user is not supported", entry.at)),
                    }
                }
            }
        }
    }

    fn databases(&mut self, out: &mut String) {
        let limit = self.value("max_db_client_connections");
        let connections = self.value("max_db_connections");
        for entry in self.section("databases") {
            let Entry { key: name, value, at } = entry;
            let name = name.trim_matches('"').to_owned();
            if name == "*" {
                self.problems
                    .push(format!("{at}: the fallback database \"*\" is not supported: name each database"));
                continue;
            }
            let Some(pairs) = pairs(&value) else {
                self.problems.push(format!("{at}: syntax error in connection string"));
                continue;
            };
            let (mut host, mut port, mut dbname) = (String::new(), "5432".to_owned(), name.clone());
            let (mut max_clients, mut max_connections) = (limit.clone(), connections.clone());
            let mut pool = String::new();
            for (key, value) in pairs {
                match key.as_str() {
                    "host" | "hostaddr" => host = value,
                    "port" => port = value,
                    "dbname" => dbname = value,
                    "pool_size" => drop(writeln!(pool, "size = {value}")),
                    "min_pool_size" => drop(writeln!(pool, "min_size = {value}")),
                    "reserve_pool_size" | "reserve_pool" => drop(writeln!(pool, "reserve = {value}")),
                    "pool_mode" => drop(writeln!(pool, "mode = {}", string(&value))),
                    "server_lifetime" => self.seconds(&mut pool, "lifetime", &value, &at, None),
                    "query_wait_timeout" => {
                        self.seconds(&mut pool, "checkout_timeout", &value, &at, Some("1d"));
                    }
                    "max_db_client_connections" => max_clients = value,
                    "max_db_connections" => max_connections = value,
                    _ => self.problems.push(format!("{at}: {key} of a database is not supported")),
                }
            }
            if host.contains(',') {
                self.problems.push(format!("{at}: several hosts are not supported"));
            }
            let mut parameters = Vec::new();
            let tls = self.value("server_tls_sslmode");
            if !tls.is_empty() {
                parameters.push(format!("sslmode={tls}"));
            }
            for (name, key) in [
                ("sslrootcert", "server_tls_ca_file"),
                ("sslcert", "server_tls_cert_file"),
                ("sslkey", "server_tls_key_file"),
            ] {
                let file = self.value(key);
                if !file.is_empty() {
                    parameters.push(format!("{name}={file}"));
                }
            }
            let authority = if host.is_empty() || host.starts_with('/') {
                let directory = if host.is_empty() { self.value("unix_socket_dir") } else { host };
                parameters.splice(0..0, [format!("host={directory}"), format!("port={port}")]);
                String::new()
            } else if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            };
            let parameters =
                if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
            let header = string(&name);
            let _ = writeln!(out, "\n[databases.{header}]");
            if !max_clients.is_empty() && max_clients != "0" {
                let _ = writeln!(out, "max_clients = {max_clients}");
            }
            if !max_connections.is_empty() && max_connections != "0" {
                let _ = writeln!(out, "max_connections = {max_connections}");
            }
            if !pool.is_empty() {
                let _ = write!(out, "\n[databases.{header}.pool]\n{pool}");
            }
            let address = string(&format!("postgres://{authority}/{dbname}{parameters}"));
            let _ = writeln!(out, "\n[[databases.{header}.shards]]\nname = \"s0\"\nprimary = {address}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(ini: &str, users: &str) -> Result<String, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("users.txt"), users).unwrap();
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, ini).unwrap();
        import(&file).map_err(|said| said.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    const INI: &str = "
;; a comment
[databases]
shop = host=db1.example.com port=5433 dbname='the shop' pool_size=5 pool_mode=session max_db_client_connections=7
logs = host=/run/postgresql max_db_connections=0

[users]
reports = pool_size=2 reserve_pool_size=1 idle_transaction_timeout=1.5 max_user_connections=4

[pgbouncer]
listen_addr = 127.0.0.1, ::1
listen_port = 6433
unix_socket_dir =
auth_type = scram-sha-256
auth_file = users.txt
pool_mode = transaction
default_pool_size = 30
max_db_connections = 50
max_user_connections = 9
max_user_client_connections = 90
query_wait_timeout = 0
server_reset_query = DISCARD ALL
admin_users = boss, root
max_client_conn = 500
";

    #[test]
    fn what_pgbouncer_was_told_is_what_pgherd_is_told() {
        let toml = imported(INI, "\"boss\" \"se\"\"cret\"\n\"reports\" \"x\"\n; nothing\n").unwrap();
        let config = crate::parse(&toml, "imported").unwrap_or_else(|problems| panic!("{problems}\n{toml}"));
        let [first, second] = &config.server.listen[..] else { panic!("{toml}") };
        assert_eq!(format!("{first:?}"), "Tcp { host: \"127.0.0.1\", port: 6433 }");
        assert_eq!(format!("{second:?}"), "Tcp { host: \"::1\", port: 6433 }");
        assert_eq!((config.server.max_clients, config.server.drain), (500, crate::Drain::Clients));
        assert_eq!(config.server.admins, ["boss", "root"]);
        assert_eq!(config.users.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["boss", "reports"]);
        assert_eq!((config.users[1].pool.size, config.users[1].pool.reserve), (Some(2), Some(1)));
        assert_eq!(config.users.iter().map(|u| u.max_connections).collect::<Vec<_>>(), [9, 4]);
        assert_eq!(config.users.iter().map(|u| u.max_clients).collect::<Vec<_>>(), [90, 90]);
        assert_eq!(config.server.max_connections_per_user, 9, "for users that a server is asked for");
        assert_eq!(config.users[1].pool.idle_transaction_timeout.map(|d| d.as_millis()), Some(1500));
        let [shop, logs] = &config.databases[..] else { panic!("{toml}") };
        assert_eq!((shop.shards[0].primary.dbname.as_str(), shop.shards[0].primary.port), ("the shop", 5433));
        assert_eq!((shop.pool.size, shop.pool.mode, shop.max_clients), (5, crate::PoolMode::Session, 7));
        assert_eq!((shop.max_connections, logs.max_connections), (50, 0));
        assert_eq!((logs.pool.size, logs.pool.mode), (30, crate::PoolMode::Transaction));
        assert_eq!(logs.shards[0].primary.host, "/run/postgresql");
        assert_eq!(logs.pool.checkout_timeout.as_secs(), 86_400, "0 is for ever");
        assert_eq!(logs.pool.statements_max, 200, "PgBouncer's default");
        assert!(toml.contains("# server_reset_query: no effect here"), "{toml}");
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name_and_line() {
        let said = imported(
            "[databases]\n* = host=x\none = host=y user=forced\ntwo = host=a,b\n[pgbouncer]\nauth_type = trust\n\
             login_notify_message = hello\ncolour = red\nauth_type\n[peers]\n1 = host=z\n[nonsense]\n",
            "",
        )
        .unwrap_err();
        let expected = [
            "pgbouncer.ini:9: neither a section nor \"key = value\"",
            "pgbouncer.ini:12: unknown section [nonsense]",
            "pgbouncer.ini:7: login_notify_message = hello is not supported",
            "pgbouncer.ini:8: unknown parameter: colour",
            "pgbouncer.ini:11: [peers] is not supported",
            "pgbouncer.ini:2: the fallback database \"*\" is not supported: name each database",
            "pgbouncer.ini:3: user of a database is not supported",
            "pgbouncer.ini:4: several hosts are not supported",
            "8 problems; this configuration is not used",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn connection_strings_are_read_as_libpq_reads_them() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let cases = [
            ("", Some(vec![])),
            ("host=a port = 1", Some(vec![pair("host", "a"), pair("port", "1")])),
            ("dbname='it''s' x=y", Some(vec![pair("dbname", "it's"), pair("x", "y")])),
            ("dbname='open", None),
            ("nothing", None),
        ];
        for (text, expected) in cases {
            assert_eq!(pairs(text), expected, "{text}");
        }
        // Each key is in one list only, and PgBouncer 1.25 has these.
        const ALL: &str = "pool_mode default_pool_size min_pool_size reserve_pool_size reserve_pool_timeout max_client_conn \
            max_db_connections max_db_client_connections max_user_connections max_user_client_connections \
            server_round_robin max_prepared_statements disable_pqexec track_extra_parameters \
            ignore_startup_parameters application_name_add_host autodb_idle_timeout pool_idle_timeout \
            query_wait_timeout query_wait_notify query_timeout transaction_timeout idle_transaction_timeout \
            client_idle_timeout client_login_timeout cancel_wait_timeout server_lifetime server_idle_timeout \
            server_connect_timeout server_login_retry server_check_delay suspend_timeout dns_max_ttl \
            dns_nxdomain_ttl dns_zone_check_period stats_period tcp_user_timeout server_reset_query \
            server_reset_query_always server_check_query server_fast_close login_notify_message auth_type \
            auth_file auth_hba_file auth_ident_file auth_user auth_query auth_dbname auth_ldap_options \
            scram_iterations admin_users stats_users client_tls_sslmode client_tls_ca_file client_tls_cert_file \
            client_tls_key_file client_tls_protocols client_tls_ciphers client_tls13_ciphers client_tls_dheparams \
            client_tls_ecdhcurve server_tls_sslmode server_tls_ca_file server_tls_cert_file server_tls_key_file \
            server_tls_protocols server_tls_ciphers server_tls13_ciphers listen_addr listen_port listen_backlog \
            unix_socket_dir unix_socket_mode unix_socket_group so_reuseport peer_id tcp_defer_accept tcp_keepalive \
            tcp_keepidle tcp_keepintvl tcp_keepcnt tcp_socket_buffer pkt_buf sbuf_loopcnt max_packet_size \
            resolv_conf logfile pidfile user verbose syslog syslog_facility syslog_ident job_name conffile \
            log_connections log_disconnections log_pooler_errors log_stats";
        let mut keys: Vec<&str> = HONOURED.to_vec();
        keys.extend(NO_EFFECT.iter().chain(ONLY_OFF).map(|(key, _)| *key));
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
        let unknown: Vec<_> = ALL.split_whitespace().filter(|key| !keys.contains(key)).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert_eq!(keys.len(), ALL.split_whitespace().count());
    }
}
