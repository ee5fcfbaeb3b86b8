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

pub mod keys;

use crate::model::Config;
use crate::problems::Problems;
use keys::{KEYS, Key, Meaning};

/// Files that may include each other.
const INCLUDES_MAX: usize = 16;

/// Where a value stands that the console was told.
const AT_SET: &str = "SET";

/// PgBouncer's file as it was read, and what SET said since.
#[derive(Clone, PartialEq)]
pub struct Written {
    file: PathBuf,
    ini: Ini,
}

/// Without what it says: there may be passwords.
impl std::fmt::Debug for Written {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Written").field("file", &self.file).finish_non_exhaustive()
    }
}

impl Written {
    /// Every key of `[pgbouncer]` that PgBouncer has, with its value.
    pub fn settings(&self) -> impl Iterator<Item = (&'static Key, &str)> {
        let said = self.ini.sections.get("pgbouncer").map_or(&[][..], Vec::as_slice);
        KEYS.iter().map(move |key| {
            let last = said.iter().rev().find(|entry| entry.key == key.name);
            (key, last.map_or(key.default, |entry| entry.value.as_str()))
        })
    }

    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The configuration with another value of a key. The file is not read again; its user list is.
    ///
    /// # Errors
    /// Why it cannot have that value.
    pub fn with(&self, key: &str, value: &str) -> Result<Config, Problems> {
        let mut ini = self.ini.clone();
        let said = ini.sections.entry("pgbouncer".into()).or_default();
        said.retain(|entry| entry.at != AT_SET || entry.key != key);
        said.push(Entry { key: key.to_owned(), value: value.to_owned(), at: AT_SET.into() });
        config(&self.file, ini, Vec::new())
    }
}

/// `key = value` with the place where it stands.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    key: String,
    value: String,
    at: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Ini {
    /// By section, in the order of the file.
    sections: BTreeMap<String, Vec<Entry>>,
}

/// Reads `pgbouncer.ini` and the files that it names, and says the same in pgherd's words.
///
/// # Errors
/// Every line that cannot be honoured.
pub fn import(file: &Path) -> Result<String, Problems> {
    let (ini, problems) = read_all(file);
    toml(file, &ini, problems)
}

/// Reads `pgbouncer.ini` and the files that it names.
///
/// # Errors
/// Every line that cannot be honoured, or what is wrong with them together.
pub fn load(file: &Path) -> Result<Config, Problems> {
    let (ini, problems) = read_all(file);
    config(file, ini, problems)
}

fn read_all(file: &Path) -> (Ini, Vec<String>) {
    let (mut ini, mut problems) = (Ini::default(), Vec::new());
    read(file, &mut ini, &mut 0, &mut problems);
    (ini, problems)
}

fn toml(file: &Path, ini: &Ini, problems: Vec<String>) -> Result<String, Problems> {
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let mut draft = Draft { folder, ini: ini.clone(), problems };
    let toml = draft.write(file);
    if draft.problems.is_empty() {
        return Ok(toml);
    }
    Err(Problems::of_lines(&file.display().to_string(), draft.problems))
}

fn config(file: &Path, ini: Ini, problems: Vec<String>) -> Result<Config, Problems> {
    let toml = toml(file, &ini, problems)?;
    let config = crate::parse(&toml, &format!("{} (as pgherd import prints it)", file.display()))?;
    Ok(Config { ini: Some(Written { file: file.to_owned(), ini }), ..config })
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
        let default = || match keys::find(key) {
            // Those that are said in other words, or that mean nothing where they are not said.
            Some(key) if !matches!(key.name, "auth_query" | "server_tls_sslmode") => key.default,
            _ => "",
        };
        self.given(key).unwrap_or_else(|| default().to_owned())
    }

    fn write(&mut self, file: &Path) -> String {
        let mut out = format!("# From {}, by pgherd import.\n", file.display());
        for entry in self.section("pgbouncer") {
            let Entry { key, value, at } = entry;
            match keys::find(&key).map(|key| (key.default, key.meaning)) {
                Some((_, Meaning::NoEffect(why))) => {
                    let _ = writeln!(out, "# {key}: no effect here: {why}.");
                }
                Some((off, Meaning::OnlyOff)) if value != off => {
                    self.problems.push(format!("{at}: {key} = {value} is not supported"));
                }
                Some((_, Meaning::OnlyOff | Meaning::Honoured | Meaning::AtStart)) => {}
                None => self.problems.push(format!("{at}: unknown parameter: {key}")),
            }
        }
        for entry in self.section("peers") {
            self.problems.push(format!("{}: [peers] is not supported", entry.at));
        }
        if self.known_users().is_empty() && self.section("users").is_empty() {
            out.push_str("\nusers = []\n");
        }
        self.server(&mut out);
        self.auth(&mut out);
        self.pool(&mut out);
        self.users(&mut out);
        self.databases(&mut out);
        out
    }

    /// A whole number. What is not one must not get into the TOML, where it could be anything.
    fn number(&mut self, out: &mut String, name: &str, key: &str, value: &str, at: &str) {
        match value.trim().parse::<u32>() {
            Ok(number) => drop(writeln!(out, "{name} = {number}")),
            Err(_) => self.problems.push(format!("{at}: {key} cannot be {value:?}: a number is wanted")),
        }
    }

    /// Where a key of `[pgbouncer]` was said.
    fn place(&self, key: &str) -> String {
        let entries = self.ini.sections.get("pgbouncer").into_iter().flatten();
        entries.rev().find(|entry| entry.key == key).map_or_else(|| key.to_owned(), |entry| entry.at.clone())
    }

    fn seconds(
        &mut self,
        out: &mut String,
        name: &str,
        key: &str,
        value: &str,
        at: &str,
        never: Option<&str>,
    ) {
        match (duration(value), never) {
            (Some(zero), Some(never)) if zero == "\"0s\"" => drop(writeln!(out, "{name} = {never:?}")),
            (Some(duration), _) => drop(writeln!(out, "{name} = {duration}")),
            (None, _) => self.problems.push(format!("{at}: {key} cannot be {value:?}: seconds are wanted")),
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
        if !directory.is_empty() {
            let mode = self.value("unix_socket_mode");
            let _ = writeln!(out, "socket_mode = {}", string(&mode));
            let group = self.value("unix_socket_group");
            if !group.is_empty() {
                let _ = writeln!(out, "socket_group = {}", string(&group));
            }
        }
        for (name, key) in [
            ("max_clients", "max_client_conn"),
            ("max_clients_per_user", "max_user_client_connections"),
            ("max_connections_per_user", "max_user_connections"),
        ] {
            let (limit, at) = (self.value(key), self.place(key));
            self.number(out, name, key, &limit, &at);
        }
        for (name, key, never) in [
            ("login_timeout", "client_login_timeout", Some("1h")),
            ("fallback_idle_timeout", "autodb_idle_timeout", None),
        ] {
            let (timeout, at) = (self.value(key), self.place(key));
            self.seconds(out, name, key, &timeout, &at, never);
        }
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
        // Without a time it is never used.
        let reserve = duration(&self.value("reserve_pool_timeout")).is_none_or(|time| time != "\"0s\"");
        for (name, key) in
            [("size", "default_pool_size"), ("min_size", "min_pool_size"), ("reserve", "reserve_pool_size")]
        {
            let (value, at) = (self.value(key), self.place(key));
            let value = if key == "reserve_pool_size" && !reserve { "0".to_owned() } else { value };
            self.number(out, name, key, &value, &at);
        }
        // 0 turns PgBouncer's own off; pgherd's costs nothing, and one statement is its least.
        let statements = self.value("max_prepared_statements");
        let statements = if statements == "0" { "1" } else { &statements };
        let at = self.place("max_prepared_statements");
        self.number(out, "statements_max", "max_prepared_statements", statements, &at);
        for (name, key, never) in [
            ("checkout_timeout", "query_wait_timeout", Some("1d")),
            ("connect_timeout", "server_connect_timeout", Some("1h")),
            ("idle_timeout", "server_idle_timeout", None),
            ("lifetime", "server_lifetime", None),
            ("reserve_timeout", "reserve_pool_timeout", Some("1d")),
            ("query_timeout", "query_timeout", None),
            ("transaction_timeout", "transaction_timeout", None),
            ("idle_transaction_timeout", "idle_transaction_timeout", None),
            ("client_idle_timeout", "client_idle_timeout", None),
        ] {
            let (value, at) = (self.value(key), self.place(key));
            self.lifetime(key, &value, &at);
            self.seconds(out, name, key, &value, &at, never);
        }
    }

    /// 0 is for a connection that is used once.
    fn lifetime(&mut self, key: &str, value: &str, at: &str) {
        if key == "server_lifetime" && duration(value).is_some_and(|time| time == "\"0s\"") {
            let why = "a connection is not closed after each use";
            self.problems.push(format!("{at}: server_lifetime = 0 is not supported: {why}"));
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
                        "pool_mode" => drop(writeln!(out, "mode = {}", string(&value))),
                        "pool_size" => self.number(out, "size", &key, &value, &entry.at),
                        "reserve_pool_size" => self.number(out, "reserve", &key, &value, &entry.at),
                        "max_user_client_connections" => {
                            self.number(out, "max_clients", &key, &value, &entry.at);
                        }
                        "max_user_connections" => {
                            self.number(out, "max_connections", &key, &value, &entry.at);
                        }
                        "query_wait_timeout" => {
                            self.seconds(out, "checkout_timeout", &key, &value, &entry.at, Some("1d"));
                        }
                        "query_timeout"
                        | "transaction_timeout"
                        | "idle_transaction_timeout"
                        | "client_idle_timeout" => self.seconds(out, &key, &key, &value, &entry.at, None),
                        _ => self.problems.push(format!("{}: {key} of a user is not supported", entry.at)),
                    }
                }
            }
        }
    }

    fn databases(&mut self, out: &mut String) {
        let entries = self.section("databases");
        if entries.is_empty() {
            out.push_str("\n[databases]\n");
        }
        for entry in entries {
            self.database(out, entry);
        }
    }

    fn database(&mut self, out: &mut String, entry: Entry) {
        let Entry { key: name, value, at } = entry;
        let name = name.trim_matches('"').to_owned();
        let Some(pairs) = pairs(&value) else {
            self.problems.push(format!("{at}: syntax error in connection string"));
            return;
        };
        // Of the fallback: the name that the client gives.
        let (mut host, mut port, mut dbname) = (String::new(), "5432".to_owned(), name.clone());
        let mut limits = [
            ("max_clients", "max_db_client_connections", self.value("max_db_client_connections")),
            ("max_connections", "max_db_connections", self.value("max_db_connections")),
        ];
        let (mut pool, mut startup, mut connect_query) = (String::new(), String::new(), String::new());
        let (mut user, mut password, mut balance) = (None, None, true);
        for (key, value) in pairs {
            match key.as_str() {
                "host" | "hostaddr" => host = value,
                "port" => port = value,
                "dbname" => dbname = value,
                "user" => user = Some(value),
                "password" => password = Some(value),
                "connect_query" => connect_query = value,
                "datestyle" | "timezone" => {
                    let _ = writeln!(startup, "{key} = {}", string(&value));
                }
                // What pgherd speaks with servers; clients say what they speak with it.
                "client_encoding"
                    if matches!(value.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode") => {}
                "load_balance_hosts" => match value.as_str() {
                    "round-robin" => balance = true,
                    "disable" => balance = false,
                    _ => self.problems.push(format!("{at}: load_balance_hosts = {value} is not supported")),
                },
                "pool_size" => self.number(&mut pool, "size", &key, &value, &at),
                "min_pool_size" => self.number(&mut pool, "min_size", &key, &value, &at),
                "reserve_pool_size" | "reserve_pool" => {
                    self.number(&mut pool, "reserve", &key, &value, &at);
                }
                "pool_mode" => drop(writeln!(pool, "mode = {}", string(&value))),
                "server_lifetime" => {
                    self.lifetime(&key, &value, &at);
                    self.seconds(&mut pool, "lifetime", &key, &value, &at, None);
                }
                "query_wait_timeout" => {
                    self.seconds(&mut pool, "checkout_timeout", &key, &value, &at, Some("1d"));
                }
                "max_db_client_connections" => limits[0].2 = value,
                "max_db_connections" => limits[1].2 = value,
                // One role asks for all.
                "auth_user" if value == self.value("auth_user") => {}
                "auth_query" if value == self.value("auth_query") => {}
                "auth_dbname" if value == self.value("auth_dbname") => {}
                _ => self.problems.push(format!("{at}: {key} of a database is not supported")),
            }
        }
        if port.parse::<u16>().is_err() {
            self.problems.push(format!("{at}: port cannot be {port:?}: one number is wanted"));
            return;
        }
        let address = self.address(&host, &port, &dbname, balance, &at);
        let header = string(&name);
        let _ = writeln!(out, "\n[databases.{header}]");
        for (setting, key, limit) in &limits {
            self.number(out, setting, key, limit, &at);
        }
        match (user, password) {
            (Some(user), password) => {
                // As PgBouncer: without a password of its own it has that of the auth_file.
                let known = self.known_users().into_iter().find(|(name, _)| *name == user);
                let password = password.or(known.map(|(_, secret)| secret)).filter(|p| !p.is_empty());
                let password = password.map_or(String::new(), |p| format!(", password = {}", string(&p)));
                let _ = writeln!(out, "login = {{ user = {}{password} }}", string(&user));
            }
            (None, Some(_)) => {
                self.problems.push(format!("{at}: password of a database without user is not supported"));
            }
            (None, None) => {}
        }
        if !connect_query.is_empty() {
            let _ = writeln!(out, "connect_query = {}", string(&connect_query));
        }
        for (section, text) in [("pool", pool), ("startup", startup)] {
            if !text.is_empty() {
                let _ = write!(out, "\n[databases.{header}.{section}]\n{text}");
            }
        }
        let _ =
            writeln!(out, "\n[[databases.{header}.shards]]\nname = \"s0\"\nprimary = {}", string(&address));
    }

    fn address(&mut self, host: &str, port: &str, dbname: &str, balance: bool, at: &str) -> String {
        let mut parameters = Vec::new();
        let tls = self.value("server_tls_sslmode");
        if !tls.is_empty() {
            parameters.push(format!("sslmode={}", escaped(&tls)));
        }
        for (name, key) in [
            ("sslrootcert", "server_tls_ca_file"),
            ("sslcert", "server_tls_cert_file"),
            ("sslkey", "server_tls_key_file"),
        ] {
            let file = self.value(key);
            if !file.is_empty() {
                parameters.push(format!("{name}={}", escaped(&file)));
            }
        }
        let several: Vec<&str> = host.split(',').map(str::trim).collect();
        let authority = if several.len() > 1 {
            if several.iter().any(|host| host.is_empty() || host.starts_with('/')) {
                self.problems.push(format!("{at}: a unix socket among several hosts is not supported"));
            }
            parameters
                .push(format!("load_balance_hosts={}", if balance { "round-robin" } else { "disable" }));
            let with_port = several.iter().map(|host| match host.contains(':') {
                true => format!("[{host}]:{port}"),
                false => format!("{}:{port}", escaped(host)),
            });
            with_port.collect::<Vec<_>>().join(",")
        } else if host.is_empty() || host.starts_with('/') {
            let directory = if host.is_empty() { self.value("unix_socket_dir") } else { host.to_owned() };
            parameters.splice(0..0, [format!("host={}", escaped(&directory)), format!("port={port}")]);
            // There is none on a unix socket, and nobody asks for it.
            parameters.retain(|parameter| !parameter.starts_with("sslmode="));
            String::new()
        } else if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{}:{port}", escaped(host))
        };
        let parameters =
            if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
        format!("postgres://{authority}/{}{parameters}", escaped(dbname))
    }
}

/// What stands for something else in an address, in hexadecimal digits.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if "%/?&@,:#[]+ ".contains(c) && !(c == '/' && text.starts_with('/')) {
            let _ = write!(out, "%{:02X}", c as u32);
        } else {
            out.push(c);
        }
    }
    out
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
        assert_eq!(config.server.socket_mode, None, "there is no unix socket");
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
            "[databases]\none = host=y password=alone\ntwo = host=a,/run port=1\nthree = host=x client_encoding=latin1\n\
             four = port=1,2 auth_user=z\n[pgbouncer]\nauth_type = trust\n\
             login_notify_message = hello\ncolour = red\nauth_type\nserver_lifetime = 0\ndefault_pool_size = 3\\nx\n\
             query_timeout = soon\n[peers]\n1 = host=z\n[nonsense]\n",
            "",
        )
        .unwrap_err();
        let expected = [
            "pgbouncer.ini:10: neither a section nor \"key = value\"",
            "pgbouncer.ini:16: unknown section [nonsense]",
            "pgbouncer.ini:8: login_notify_message = hello is not supported",
            "pgbouncer.ini:9: unknown parameter: colour",
            "pgbouncer.ini:15: [peers] is not supported",
            "pgbouncer.ini:12: default_pool_size cannot be \"3\\\\nx\": a number is wanted",
            "pgbouncer.ini:11: server_lifetime = 0 is not supported: a connection is not closed after each use",
            "pgbouncer.ini:13: query_timeout cannot be \"soon\": seconds are wanted",
            "pgbouncer.ini:2: password of a database without user is not supported",
            "pgbouncer.ini:3: a unix socket among several hosts is not supported",
            "pgbouncer.ini:4: client_encoding of a database is not supported",
            "pgbouncer.ini:5: auth_user of a database is not supported",
            "pgbouncer.ini:5: port cannot be \"1,2\": one number is wanted",
            "13 problems; this configuration is not used",
        ];
        assert_eq!(said.lines().collect::<Vec<_>>(), expected);
    }

    fn parsed(ini: &str, users: &str) -> Config {
        let toml = imported(ini, users).unwrap();
        crate::parse(&toml, "imported").unwrap_or_else(|problems| panic!("{problems}\n{toml}"))
    }

    #[test]
    fn a_database_may_say_who_logs_in_where_and_with_which_first_words() {
        let config = parsed(
            "[databases]\n\
             forced = host=a,b,::1 port=7 dbname='x/y@z' user=baz password='fo\"o' client_encoding=UNICODE datestyle=ISO \
             connect_query='SELECT 1' load_balance_hosts=disable\n\
             known = host=a,b user=app\n* = host=any auth_user=\n\
             [pgbouncer]\nauth_file = users.txt\nunix_socket_mode = 0770\nunix_socket_group = staff\nautodb_idle_timeout = 5\n",
            "\"app\" \"secret\"\n",
        );
        let [forced, known] = &config.databases[..] else { panic!("{:?}", config.databases) };
        let primary = &forced.shards[0].primary;
        assert_eq!((primary.host.as_str(), primary.port, primary.dbname.as_str()), ("a", 7, "x/y@z"));
        assert_eq!(primary.others, [("b".to_owned(), 7), ("::1".to_owned(), 7)]);
        assert!(!primary.balance && known.shards[0].primary.balance);
        let login = |database: &crate::Database| database.login.clone().map(|l| (l.user, l.password));
        let plain = |text: &str| Some(crate::Secret::Plain(text.to_owned()));
        assert_eq!(login(forced), Some(("baz".to_owned(), plain("fo\"o"))));
        assert_eq!(login(known), Some(("app".to_owned(), plain("secret"))), "as in the auth_file");
        assert_eq!(forced.startup, [("datestyle".to_owned(), "ISO".to_owned())]);
        assert_eq!(forced.connect_query.as_deref(), Some("SELECT 1"));
        assert_eq!(config.server.socket_mode, Some(0o770));
        assert_eq!(config.server.socket_group.as_deref(), Some("staff"));
        assert_eq!(config.server.fallback_idle_timeout.as_secs(), 5);
        let any = config.fallback.expect("a fallback").named("anything");
        assert_eq!((any.name.as_str(), any.auto), ("anything", true));
        assert_eq!(any.shards[0].primary.dbname, "anything");
    }

    #[test]
    fn the_file_that_debian_ships_is_good_as_it_is() {
        let config = parsed(
            "[databases]\n[users]\n[pgbouncer]\nlogfile = /var/log/postgresql/pgbouncer.log\n\
             pidfile = /var/run/postgresql/pgbouncer.pid\nlisten_addr = localhost\nlisten_port = 6432\n\
             unix_socket_dir = /var/run/postgresql\nauth_type = md5\nauth_file = users.txt\n",
            "",
        );
        assert!(config.databases.is_empty() && config.users.is_empty());
        assert_eq!(config.server.listen.len(), 2);
        assert_eq!(config.server.socket_mode, Some(0o777), "PgBouncer's default");
    }

    #[test]
    fn set_changes_one_value_as_if_the_file_said_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgbouncer.ini");
        let text = "[databases]\na = host=h pool_size=3\nb = host=h\n[pgbouncer]\nauth_type = trust\ndefault_pool_size = 5\n";
        std::fs::write(&file, text).unwrap();
        let config = load(&file).unwrap_or_else(|problems| panic!("{problems}"));
        // What is in the file by now is a reload's business.
        std::fs::remove_file(&file).unwrap();
        let sizes = |config: &Config| config.databases.iter().map(|d| d.pool.size).collect::<Vec<_>>();
        let set = |config: &Config, key: &str, value: &str| config.ini.as_ref().unwrap().with(key, value);

        let larger = set(&config, "default_pool_size", "9").unwrap();
        assert_eq!((sizes(&config), sizes(&larger)), (vec![3, 5], vec![3, 9]));
        let both = set(&larger, "pool_mode", "transaction").unwrap();
        assert_eq!(sizes(&both), [3, 9], "what was set before stays");
        assert_eq!(both.databases[1].pool.mode, crate::PoolMode::Transaction);
        let said: BTreeMap<_, _> = both.ini.as_ref().unwrap().settings().map(|(k, v)| (k.name, v)).collect();
        assert_eq!(
            (said["default_pool_size"], said["pool_mode"], said["stats_period"]),
            ("9", "transaction", "60")
        );
        for (key, value) in [
            ("pool_mode", "none"),
            ("default_pool_size", "1\n[[users]]"),
            ("query_timeout", "x"),
            ("admin_users", "\u{0}"),
        ] {
            assert!(set(&both, key, value).is_err(), "{key} = {value}");
        }
        assert!(!format!("{:?}", both.ini).contains("transaction"), "nothing of the file is printed");
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
    }
}
