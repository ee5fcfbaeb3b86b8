//! Session settings (SET, RESET, startup parameters): tracked per client, put on whatever server it is lent.
//!
//! Invariant: before a statement of the client runs on a server, that server's settings are the client's; what
//! another client set there is gone.

use std::sync::Arc;

use pgherd_router::plan::SetStatement;

/// What a client set, by lower-case name, in the order in which it is to be applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    values: Vec<(Box<str>, Value)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// As written after SET name TO: an SQL fragment that a server has accepted once.
    Sql(Box<str>),
    /// As in a startup packet: the plain text of the value.
    Raw(Box<str>),
    /// A custom setting (`my.x`) that was reset: from then on it exists, and is '' where it was NULL. (One that an extension
    /// knows has its default again.)
    Reset,
}

impl Value {
    pub fn text(&self) -> &str {
        match self {
            Self::Sql(text) | Self::Raw(text) => text,
            Self::Reset => "",
        }
    }
}

/// Settings whose SET cannot fail for a value that a server accepted before, and without which a statement
/// would run all the same: they are sent ahead in the same write. The others are waited for.
const HARMLESS: &[&str] = &[
    "application_name",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
];

/// Settings that do not change what a statement's text means to the server that reads it. (A plan is made again when the
/// role changes, by the server itself; also when the search path does, but then the columns must stay the same.)
const UNREAD: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_min_messages",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "lock_timeout",
    "role",
    "session_authorization",
    "statement_timeout",
    "synchronous_commit",
    "work_mem",
];

impl Settings {
    /// What the constants of a statement are read under (time zone, date style, ...); empty: the server's defaults.
    pub fn reading(&self) -> Vec<u8> {
        let mut reading = Vec::new();
        for (name, value) in self.values.iter().filter(|(name, _)| !UNREAD.contains(&&**name)) {
            let value = value.text();
            if &**name == "client_encoding" && is_utf8(value) {
                continue;
            }
            reading.push(1);
            reading.extend_from_slice(name.as_bytes());
            reading.push(b'=');
            reading.extend_from_slice(value.as_bytes());
            reading.push(0);
        }
        reading
    }

    /// Tells settings apart, as startup packets give them.
    pub fn key(&self) -> Vec<u8> {
        let mut key = Vec::new();
        for (name, value) in &self.values {
            let kind = match value {
                Value::Sql(_) => 1,
                Value::Raw(_) => 2,
                Value::Reset => 3,
            };
            key.push(kind);
            // Neither holds a NUL: they were strings of C.
            key.extend_from_slice(name.as_bytes());
            key.push(0);
            key.extend_from_slice(value.text().as_bytes());
            key.push(0);
        }
        key
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(n, _)| **n == *name).map(|(_, v)| v)
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().map(|(n, _)| &**n)
    }

    pub fn put(&mut self, name: &str, value: Value) {
        match self.values.iter_mut().find(|(n, _)| **n == *name) {
            Some((_, v)) => *v = value,
            None => {
                self.values.push((name.into(), value));
                // Roles last: after them a SET might lack the privilege.
                self.values.sort_by(|a, b| (rank(&a.0), &a.0).cmp(&(rank(&b.0), &b.0)));
            }
        }
    }

    pub fn remove(&mut self, name: &str) {
        self.values.retain(|(n, _)| **n != *name);
    }

    /// The settings after a statement that a server has accepted. `startup`: what RESET goes back to.
    pub fn after(&self, statement: &SetStatement, startup: &Settings) -> Settings {
        let mut next = self.clone();
        match statement {
            SetStatement::Set { name, value: Some(value) } => {
                // SET SESSION AUTHORIZATION resets the role (guc.c, assign_session_authorization).
                if name == "session_authorization" {
                    next.remove("role");
                }
                next.put(name, Value::Sql(value.as_str().into()));
            }
            SetStatement::Set { name, value: None } | SetStatement::Reset { name } => {
                if name == "session_authorization" {
                    next.remove("role");
                }
                match startup.get(name) {
                    Some(value) => next.put(name, value.clone()),
                    None if is_custom(name) => next.put(name, Value::Reset),
                    None => next.remove(name),
                }
            }
            SetStatement::ResetAll => {
                // RESET ALL leaves role and session authorization alone (they are GUC_NO_RESET_ALL).
                let before = std::mem::replace(&mut next, startup.clone());
                for (name, value) in before.values {
                    match rank(&name) {
                        0 if is_custom(&name) && next.get(&name).is_none() => next.put(&name, Value::Reset),
                        0 => {}
                        _ => next.put(&name, value),
                    }
                }
            }
        }
        next
    }

    /// SQL that brings a server from `from` (`None`: unknown) to these settings; empty: nothing to do.
    pub fn sql_from(&self, from: Option<&Settings>) -> String {
        let mut sql = String::new();
        let nothing = Settings::default();
        let known = from.unwrap_or(&nothing);
        let roles_differ = from.is_none()
            || ["session_authorization", "role"].iter().any(|name| known.get(name) != self.get(name));
        if roles_differ {
            sql.push_str("RESET SESSION AUTHORIZATION;RESET ROLE;");
        }
        if from.is_none() {
            sql.push_str("RESET ALL;");
        } else {
            for (name, _) in &known.values {
                if self.get(name).is_none() && rank(name) == 0 {
                    sql.push_str(&format!("RESET {};", identifier(name)));
                }
            }
        }
        for (name, value) in &self.values {
            let same = known.get(name) == Some(value);
            if same && !(roles_differ && rank(name) > 0) {
                continue;
            }
            if &**name == "datestyle" && known.get(name).is_some() {
                // 'ISO' leaves the order of day and month as it was: as the last client had it.
                sql.push_str("RESET \"datestyle\";");
            }
            match (&**name, value) {
                ("timezone", Value::Sql(v)) => sql.push_str(&format!("SET TIME ZONE {v};")),
                ("session_authorization", Value::Sql(v)) => {
                    sql.push_str(&format!("SET SESSION AUTHORIZATION {v};"));
                }
                ("role", Value::Sql(v)) => sql.push_str(&format!("SET ROLE {v};")),
                (_, Value::Reset) => sql.push_str(&format!("RESET {};", identifier(name))),
                (_, Value::Sql(v)) => sql.push_str(&format!("SET {} TO {v};", identifier(name))),
                (_, Value::Raw(v)) => sql.push_str(&format!(
                    "SELECT pg_catalog.set_config({}, {}, false);",
                    literal(name),
                    literal(v)
                )),
            }
        }
        sql
    }

    /// Whether going from `from` to here may be sent without waiting for the answer.
    pub fn harmless_from(&self, from: Option<&Settings>) -> bool {
        let Some(from) = from else { return false };
        let harmless = |name: &str| HARMLESS.contains(&name);
        from.values.iter().all(|(n, v)| self.get(n) == Some(v) || harmless(n))
            && self.values.iter().all(|(n, v)| from.get(n) == Some(v) || harmless(n))
    }
}

/// `prefix.name`: PostgreSQL takes any, and keeps it for the rest of the session.
fn is_custom(name: &str) -> bool {
    name.contains('.')
}

fn rank(name: &str) -> u8 {
    match name {
        "session_authorization" => 1,
        "role" => 2,
        _ => 0,
    }
}

/// A parameter name as SQL: each part of a custom `prefix.name` quoted by itself.
fn identifier(name: &str) -> String {
    name.split('.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect::<Vec<_>>().join(".")
}

/// A text as an SQL literal that means the same whatever standard_conforming_strings says.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if text.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// The settings of a startup packet. Unknown names are PostgreSQL's to refuse.
pub fn from_startup<'a>(parameters: impl Iterator<Item = (&'a str, &'a str)>) -> Arc<Settings> {
    let mut settings = Settings::default();
    for (name, value) in parameters {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "user" | "database" | "replication" => {}
            name if name.starts_with("_pq_.") => {}
            "options" => {
                for (name, value) in command_line_options(value) {
                    settings.put(&name, Value::Raw(value.into()));
                }
            }
            // Connections to servers are UTF-8 already.
            "client_encoding" if is_utf8(value) => {}
            name => settings.put(name, Value::Raw(value.into())),
        }
    }
    Arc::new(settings)
}

pub fn is_utf8(encoding: &str) -> bool {
    let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    matches!(plain.to_ascii_lowercase().as_str(), "utf8" | "unicode")
}

/// `-c name=value`, `-cname=value`, `--name=value`, split at blanks with backslash escapes
/// (postgres.c process_postgres_switches, pg_split_opts).
fn command_line_options(text: &str) -> Vec<(String, String)> {
    let mut words: Vec<String> = Vec::new();
    let mut word = None::<String>;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => word.get_or_insert_default().extend(chars.next()),
            c if c.is_ascii_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    let mut found = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(|rest| rest.to_owned())
        };
        if let Some((name, value)) = setting.as_deref().and_then(|s| s.split_once('=')) {
            found.push((name.replace('-', "_").to_ascii_lowercase(), value.to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Settings {
        let mut s = Settings::default();
        for (n, v) in pairs {
            s.put(n, Value::Sql((*v).into()));
        }
        s
    }

    #[test]
    fn the_difference_between_two_clients_is_what_the_server_is_told() {
        let cases = [
            ("nothing differs", settings(&[("a", "1")]), Some(settings(&[("a", "1")])), ""),
            ("one more", settings(&[("a", "1")]), Some(settings(&[])), "SET \"a\" TO 1;"),
            ("one less", settings(&[]), Some(settings(&[("a", "1")])), "RESET \"a\";"),
            (
                "a value that only says a part",
                settings(&[("datestyle", "ISO")]),
                Some(settings(&[("datestyle", "German")])),
                "RESET \"datestyle\";SET \"datestyle\" TO ISO;",
            ),
            ("another value", settings(&[("a", "2")]), Some(settings(&[("a", "1")])), "SET \"a\" TO 2;"),
            (
                "a custom name keeps its two parts",
                settings(&[("my.x", "'1'")]),
                Some(settings(&[])),
                "SET \"my\".\"x\" TO '1';",
            ),
            (
                "unknown: everything is reset first",
                settings(&[("role", "bob"), ("a", "1")]),
                None,
                "RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL;SET \"a\" TO 1;SET ROLE bob;",
            ),
            (
                "another role: back to nobody, then forward, so that the SET has the privilege",
                settings(&[("role", "bob")]),
                Some(settings(&[("role", "eve")])),
                "RESET SESSION AUTHORIZATION;RESET ROLE;SET ROLE bob;",
            ),
        ];
        for (why, to, from, expected) in cases {
            assert_eq!(to.sql_from(from.as_ref()), expected, "{why}");
        }
    }

    #[test]
    fn reset_goes_back_to_what_the_client_started_with() {
        let startup = settings(&[("timezone", "'UTC'")]);
        let set = startup.after(
            &SetStatement::Set { name: "timezone".into(), value: Some("'Asia/Tokyo'".into()) },
            &startup,
        );
        assert_eq!(set.sql_from(Some(&startup)), "SET TIME ZONE 'Asia/Tokyo';");
        assert_eq!(set.after(&SetStatement::Reset { name: "timezone".into() }, &startup), startup);
        assert_eq!(set.after(&SetStatement::ResetAll, &startup), startup);
    }

    /// `current_setting('my.x')` said '' on the server that had run the RESET, and failed on the next one.
    #[test]
    fn a_custom_setting_that_was_reset_is_still_there() {
        let startup = settings(&[("my.y", "'1'")]);
        let set = |name: &str, value: Option<&str>| SetStatement::Set {
            name: name.into(),
            value: value.map(str::to_owned),
        };
        let reset = startup.after(&set("my.x", Some("'2'")), &startup).after(&set("my.x", None), &startup);
        assert_eq!(reset.sql_from(Some(&startup)), "RESET \"my\".\"x\";");
        assert_eq!(reset.sql_from(Some(&reset)), "");
        let all = reset.after(&set("my.x", Some("'3'")), &startup).after(&SetStatement::ResetAll, &startup);
        assert_eq!(all, reset);
        let own = reset.after(&set("my.y", Some("'3'")), &startup);
        assert_eq!(own.after(&SetStatement::Reset { name: "my.y".into() }, &startup), reset);
    }

    #[test]
    fn options_are_split_as_the_server_splits_them() {
        let cases = [
            ("-c a=1", vec![("a", "1")]),
            ("-ca=1 --b-c=2", vec![("a", "1"), ("b_c", "2")]),
            (r"-c search_path=a,\ b", vec![("search_path", "a, b")]),
            ("", vec![]),
        ];
        for (text, expected) in cases {
            let expected: Vec<_> = expected.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            assert_eq!(command_line_options(text), expected, "{text}");
        }
    }
}
