//! Prepared statements: one shared statement per (text, parameter types) on each server, whatever names
//! clients give it.
//!
//! Invariant: a [`StatementId`] means one text with one list of types, read under the same settings, on all workers, for the
//! life of the process; a server's `prepared` holds ids, never a client's names.
//!
//! A server reads the constants of a text when it parses it: '2024-01-01' as a timestamptz is another moment in another
//! time zone, and 'now' is the moment of the Parse. So the settings that constants are read under are part of what a
//! statement is, and one that may name a moment is shared by nobody. Nor is one that names a cursor: see [`names_a_cursor`].

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use pgherd_router::plan::Statement;
use pgherd_wire::message::{self, ParseBody};

pub type StatementId = u64;

/// Statements that a worker remembers; beyond that, those that no client holds are forgotten.
const WORKER_STATEMENTS_MAX: usize = 10_000;

/// Texts whose ids the process remembers. A text that is met again after being forgotten gets a new id, which
/// costs a server one more Parse.
const IDS_MAX: usize = 100_000;

/// Ids of statement texts, shared by all workers.
#[derive(Debug, Default)]
pub struct Ids {
    known: DashMap<Box<[u8]>, StatementId>,
    next: AtomicU64,
}

impl Ids {
    fn of(&self, key: &[u8]) -> StatementId {
        if let Some(id) = self.known.get(key) {
            return *id;
        }
        if self.known.len() >= IDS_MAX {
            self.known.clear();
        }
        *self.known.entry(key.into()).or_insert_with(|| self.fresh())
    }

    /// One that nobody else has.
    fn fresh(&self) -> StatementId {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// A statement text with its parameter types, as a worker knows it.
#[derive(Debug)]
pub struct Prepared {
    pub id: StatementId,
    pub sql: Box<str>,
    /// The text as the client wrote it, where that is not UTF-8: for a server that reads the client's encoding.
    pub foreign: Option<Box<[u8]>>,
    pub types: Box<[u32]>,
    /// The analysis and the topology version that it was made for.
    pub analysis: RefCell<(u64, Rc<Vec<Statement>>)>,
    /// Made by SQL PREPARE: its types as they were written, with their parentheses, or nothing.
    pub declared: Option<Box<str>>,
    /// A statement that this one executes.
    pub needs: std::cell::OnceCell<Rc<Prepared>>,
    /// How often it was parsed: an unnamed statement is worth a name from the second time on.
    pub parses: Cell<u32>,
}

impl Prepared {
    fn new(id: StatementId, sql: &str, types: Box<[u32]>) -> Self {
        let analysis = RefCell::new((u64::MAX, Rc::default()));
        Self {
            id,
            sql: sql.into(),
            foreign: None,
            types,
            analysis,
            parses: Cell::new(1),
            declared: None,
            needs: Default::default(),
        }
    }

    /// What a server is sent.
    pub fn text(&self) -> &[u8] {
        self.foreign.as_deref().unwrap_or(self.sql.as_bytes())
    }

    /// How a server comes to know it, if by SQL.
    pub fn declaration(&self) -> Option<String> {
        let types = self.declared.as_ref()?;
        let name = ServerName::of(self.id);
        let name = String::from_utf8_lossy(name.as_bytes());
        Some(format!("PREPARE {name} {types} AS {}", self.sql))
    }
}

/// 'now', 'today', 'tomorrow', 'yesterday' somewhere in a text that has quotes. now() is a call, and no constant.
fn may_name_a_moment(sql: &str) -> bool {
    if !sql.bytes().any(|byte| matches!(byte, b'\'' | b'$')) {
        return false;
    }
    let mut words = sql.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| {
        ["today", "tomorrow", "yesterday"].iter().any(|name| word.eq_ignore_ascii_case(name))
            || word.eq_ignore_ascii_case("now") && {
                let end = word.as_ptr() as usize - sql.as_ptr() as usize + word.len();
                !sql[end..].trim_start().starts_with('(')
            }
    })
}

/// FETCH and MOVE say what a cursor has that another client, or another transaction, may not have. PostgreSQL up to 18 does not
/// even refuse that: it looks up the cursor's columns when a prepared FETCH is described, does not ask whether there is one, and the
/// server goes down with all its sessions (pquery.c, FetchStatementTargetList).
fn names_a_cursor(sql: &str) -> bool {
    const WORDS: [&str; 2] = ["fetch", "move"];
    let first = sql.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == ';');
    if first.starts_with("--") || first.starts_with("/*") {
        return WORDS.iter().any(|word| super::query::first_word_is(sql, word));
    }
    WORDS.iter().any(|word| first.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

fn shared_by_nobody(sql: &str) -> bool {
    may_name_a_moment(sql) || names_a_cursor(sql)
}

/// A worker's statements, by the settings that they are read under and everything behind the name in a Parse message.
#[derive(Default)]
pub struct Statements {
    known: HashMap<Box<[u8]>, Rc<Prepared>, foldhash::fast::RandomState>,
}

impl Statements {
    /// Finds or makes the statement of a Parse message. `tail`: its body behind the name.
    pub fn intern(&mut self, ids: &Ids, reading: &[u8], tail: &[u8], parse: &ParseBody<'_>) -> Rc<Prepared> {
        let with_settings;
        let key = match reading {
            [] => tail,
            _ => {
                with_settings = [reading, tail].concat();
                &with_settings
            }
        };
        if let Some(known) = self.known.get(key) {
            known.parses.set(known.parses.get().saturating_add(1));
            return known.clone();
        }
        let sql = String::from_utf8_lossy(parse.sql);
        let foreign = matches!(sql, std::borrow::Cow::Owned(_)).then(|| parse.sql.into());
        let types = parse.types.chunks_exact(4).map(|c| u32::from_be_bytes([c[0], c[1], c[2], c[3]]));
        if shared_by_nobody(&sql) {
            return Rc::new(Prepared { foreign, ..Prepared::new(ids.fresh(), &sql, types.collect()) });
        }
        self.make_room();
        let made = Rc::new(Prepared { foreign, ..Prepared::new(ids.of(key), &sql, types.collect()) });
        self.known.insert(key.into(), made.clone());
        made
    }

    fn make_room(&mut self) {
        if self.known.len() >= WORKER_STATEMENTS_MAX {
            self.known.retain(|_, s| Rc::strong_count(s) > 1);
            if self.known.len() >= WORKER_STATEMENTS_MAX {
                // All are held by clients: forgetting them here only costs a second copy.
                self.known.clear();
            }
        }
    }

    /// The statement of an SQL PREPARE.
    pub fn intern_declared(&mut self, ids: &Ids, reading: &[u8], types: &str, body: &str) -> Rc<Prepared> {
        // No Parse message's body can begin like this: its text would be empty, and something behind its end.
        let key = [reading, b"\0\0PREPARE\0", types.as_bytes(), b"\0", body.as_bytes()].concat();
        if let Some(known) = self.known.get(&key[..]) {
            return known.clone();
        }
        let id = if shared_by_nobody(body) { ids.fresh() } else { ids.of(&key) };
        let made =
            Rc::new(Prepared { declared: Some(types.into()), ..Prepared::new(id, body, Box::default()) });
        if !shared_by_nobody(body) {
            self.make_room();
            self.known.insert(key.into(), made.clone());
        }
        made
    }

    /// The statement of a text of pgherd's own making (a part of a split INSERT).
    pub fn intern_text(&mut self, ids: &Ids, reading: &[u8], sql: &str, types: &[u32]) -> Rc<Prepared> {
        let mut frame = Vec::with_capacity(sql.len() + 32);
        message::parse(&mut frame, b"", sql.as_bytes(), types);
        let body = &frame[5..];
        match message::read_parse(body) {
            Ok(parse) => self.intern(ids, reading, &body[1..], &parse),
            Err(_) => Rc::new(Prepared::new(ids.fresh(), sql, types.into())),
        }
    }
}

/// The name under which a server knows a statement: made without allocating.
#[derive(Debug, Clone, Copy)]
pub struct ServerName {
    bytes: [u8; 27],
    length: u8,
}

impl ServerName {
    pub const PREFIX: &[u8; 7] = b"pgherd_";

    pub fn unnamed() -> Self {
        Self { bytes: [0; 27], length: 0 }
    }

    pub fn of(id: StatementId) -> Self {
        let mut bytes = [0; 27];
        bytes[..Self::PREFIX.len()].copy_from_slice(Self::PREFIX);
        let mut digits = [0; 20];
        let mut n = 0;
        let mut rest = id;
        loop {
            digits[n] = b'0' + (rest % 10) as u8;
            n += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        for i in 0..n {
            bytes[Self::PREFIX.len() + i] = digits[n - 1 - i];
        }
        Self { bytes, length: (Self::PREFIX.len() + n) as u8 }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_may_name_a_moment_is_shared_by_nobody() {
        let cases = [
            ("the moment of the Parse", "SELECT 'now'::timestamptz", true),
            ("with a time", "SELECT * FROM t WHERE at < 'Today 10:00'", true),
            ("in other quotes", "SELECT $$tomorrow$$::date", true),
            ("a call is evaluated each time", "SELECT now(), 'x'", false),
            ("a call with a space", "SELECT now (), 'x'", false),
            ("no constant at all", "SELECT today FROM t", false),
            ("part of a word", "SELECT 'known', nowhere FROM t", false),
        ];
        for (why, sql, expected) in cases {
            assert_eq!(may_name_a_moment(sql), expected, "{why}: {sql}");
        }
    }

    /// A FETCH that one client had prepared was described for another one, who had no such cursor: the server crashed.
    #[test]
    fn a_text_that_names_a_cursor_is_shared_by_nobody() {
        let (ids, mut statements) = (Ids::default(), Statements::default());
        let mut shared = |sql: &str| {
            statements.intern_text(&ids, b"", sql, &[]).id == statements.intern_text(&ids, b"", sql, &[]).id
        };
        for (sql, expected) in [
            ("FETCH c", false),
            (" \n;move 1 in c", false),
            ("/* first */ -- then\n fetch all from c", false),
            ("/* fetch */ SELECT 1", true),
            ("CLOSE c", true),
            ("SELECT 1", true),
        ] {
            assert_eq!(shared(sql), expected, "{sql}");
        }
    }

    #[test]
    fn a_text_read_under_other_settings_is_another_statement() {
        let (ids, mut statements) = (Ids::default(), Statements::default());
        let mut id = |reading: &[u8], sql: &str| statements.intern_text(&ids, reading, sql, &[]).id;
        let text = "SELECT '2024-01-01'::timestamptz";
        assert_eq!(id(b"", text), id(b"", text));
        assert_ne!(id(b"", text), id(b"\x01timezone=Asia/Tokyo\0", text));
        assert_ne!(id(b"", "SELECT 'now'::timestamptz"), id(b"", "SELECT 'now'::timestamptz"));
    }

    #[test]
    fn a_server_name_is_the_prefix_and_the_number() {
        for id in [0, 7, 10, 65_536, u64::MAX] {
            assert_eq!(ServerName::of(id).as_bytes(), format!("pgherd_{id}").as_bytes());
        }
        assert_eq!(ServerName::unnamed().as_bytes(), b"");
    }
}
