//! Statement text -> [`Template`]; template + values -> [`Plan`].
//!
//! Invariant: refuse rather than guess. A statement that names a sharded or reference table runs only where its tree was
//! understood in full, node by node; everything else goes to the first shard, where all unlisted relations are.
//!
//! ```text
//! lexer  -> Fingerprint -> Cache -----------------------------------------> Template
//!             `-> tokens -> classify (the session's own statements)            |
//!                        -> schema   (DDL and maintenance, by tokens)          |
//!                        -> copying  (COPY, by tokens)                         |
//!                        -> parse -> query, from, write, insert (found) -> Route
//!                                                 values + Route -> route -> Plan
//! ```
//!
//! Limits: templates in a cache, [`TEMPLATES_MAX`] and [`TEXT_MAX`]; a statement, [`STATEMENT_BYTES_MAX`]; depth of a tree,
//! `parse::DEPTH_MAX`.
//!
//! Start reading at [`Cache::analyze`] and [`template`].

mod arrays;
mod behind;
mod classify;
mod constant;
mod copying;
mod draw;
mod found;
mod from;
mod gather;
mod insert;
mod keys;
mod level;
mod merge;
mod names;
mod parse;
mod place;
mod query;
mod reader;
mod refuse;
mod route;
mod schema;
mod scope;
mod shape;
mod views;
mod write;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use crate::lexer::{Seeds, TokenKind, fingerprint, tokens};
use crate::plan::{Literal, Params, Plan, Statement, Template};
use crate::refusal::Refusal;
use crate::topology::Topology;
use crate::touch::Touched;

pub(crate) use route::Route;

/// Templates in one cache. At the bound it is emptied: a program with more shapes than this makes new ones all the time.
const TEMPLATES_MAX: usize = 10_000;

/// Bytes of the texts whose templates are cached: a long VALUES list has a long template.
const TEXT_MAX: usize = 32 << 20;

/// A worker's cache of templates by fingerprint, for one topology at a time.
#[derive(Debug, Default)]
pub struct Cache {
    seeds: Seeds,
    templates: HashMap<u128, Arc<Template>, BuildHasherDefault<AlreadyHashed>>,
    text: usize,
    version: u64,
    /// Emptied lists of literals, to be filled again.
    spare: Vec<Vec<Literal>>,
}

/// A fingerprint is uniform already, and nobody outside can choose it.
#[derive(Debug, Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, value: u128) {
        // The sums are below 2^61; the table's control bytes come from the highest bits.
        self.0 = (value as u64) ^ ((value >> 64) as u64).rotate_left(3 + 32);
    }
}

impl Cache {
    /// Splits `sql` into its statements (at least one; an empty text is one of `Kind::Empty`) and finds the
    /// template of each. Never fails: what cannot be lexed or parsed gets a template whose `plan` says so,
    /// or that sends it to the first shard, whose error is PostgreSQL's own.
    pub fn analyze(&mut self, topology: &Topology, sql: &str) -> Vec<Statement> {
        let mut statements = Vec::new();
        self.analyze_into(topology, sql, &mut statements);
        statements
    }

    /// Like [`Cache::analyze`], with the vectors of an earlier call: a known text allocates nothing.
    pub fn analyze_into(&mut self, topology: &Topology, sql: &str, statements: &mut Vec<Statement>) {
        if self.version != topology.version {
            self.clear();
            self.version = topology.version;
        }
        for statement in statements.drain(..) {
            if self.spare.len() < SPARE_MAX {
                self.spare.push(statement.literals);
            }
        }
        let mut from = 0;
        loop {
            let mut literals = self.spare.pop().unwrap_or_default();
            let Some(cut) = fingerprint(&self.seeds, sql, from, &mut literals) else {
                self.spare.push(literals);
                break;
            };
            from = cut.next;
            let text = &sql[cut.at.start as usize..cut.at.end as usize];
            let template = match self.templates.get(&cut.fingerprint) {
                Some(template) => Arc::clone(template),
                None => self.learn(topology, text, &literals, cut.fingerprint),
            };
            statements.push(Statement { at: cut.at, template, literals });
        }
        if statements.is_empty() {
            let template = Arc::new(classify::empty(topology));
            statements.push(Statement { at: 0..0, template, literals: Vec::new() });
        }
    }

    /// Forgets all templates.
    pub fn clear(&mut self) {
        self.templates.clear();
        self.text = 0;
    }

    fn learn(
        &mut self,
        topology: &Topology,
        sql: &str,
        literals: &[Literal],
        fingerprint: u128,
    ) -> Arc<Template> {
        let made = template(topology, sql, literals);
        let template = Arc::new(made.template);
        if !made.depends_on_literals {
            if self.templates.len() >= TEMPLATES_MAX || self.text + sql.len() > TEXT_MAX {
                self.clear();
            }
            self.text += sql.len();
            self.templates.insert(fingerprint, Arc::clone(&template));
        }
        template
    }
}

/// Lists of literals kept for the next text.
const SPARE_MAX: usize = 16;

struct Made {
    template: Template,
    /// Another text with this fingerprint may need another template: SET carries its value, COPY its options.
    depends_on_literals: bool,
}

/// Longest statement that is read for its meaning: its tokens take some 20 times the memory of its text. (COPY's rows are
/// no statement.)
const STATEMENT_BYTES_MAX: usize = 16 << 20;

/// How much of a longer one is read where it makes no difference to its place.
const BEGINNING_BYTES: usize = 4 << 10;

/// The slow path: one statement, from its text.
fn template(topology: &Topology, sql: &str, literals: &[Literal]) -> Made {
    if sql.len() > STATEMENT_BYTES_MAX {
        if !classify::is_plain(topology) {
            return classify::too_long(topology, STATEMENT_BYTES_MAX);
        }
        let end = (0..=BEGINNING_BYTES).rev().find(|end| sql.is_char_boundary(*end)).unwrap_or(0);
        let mut made = classify::statement(topology, sql, &tokens(&sql[..end]), literals);
        made.template.read_only = false;
        made.depends_on_literals = true;
        return made;
    }
    let mut tokens = tokens(sql);
    // A prepared statement planned anew comes with its whole text; what the analysis gives has been cut there.
    while tokens.last().is_some_and(|token| token.kind == TokenKind::Punctuation && token.text == ";") {
        tokens.pop();
    }
    let made = classify::statement(topology, sql, &tokens, literals);
    debug_assert_eq!(made.template.version, topology.version);
    made
}

/// Whether a statement is one that pgherd reads to its end; of the others only PostgreSQL knows whether they are SQL at all.
pub fn reads(sql: &str) -> bool {
    let tokens = tokens(sql);
    classify::is_session_statement(&tokens) || parse::statement(&tokens).is_ok()
}

/// Whether a text is, at a glance, one statement that neither begins nor ends anything and leaves nothing in the session: what a
/// plain pool need not read any further. Bytes in strings and comments count as if they stood outside, so that "no" may be wrong,
/// and "yes" never is.
pub fn plainly_one(sql: &[u8]) -> bool {
    let word_end = sql.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(sql.len());
    let is = |word: &str| sql[..word_end].eq_ignore_ascii_case(word.as_bytes());
    // With INTO it makes a table, which may be a temporary one.
    let may_make_table = is("select") || is("with");
    if !(may_make_table || is("insert") || is("update") || is("delete") || is("values")) {
        return false;
    }
    let end = sql.trim_ascii_end();
    if nothing_notable(end.strip_suffix(b";").unwrap_or(end)) {
        return true;
    }
    sql.iter()
        .enumerate()
        .all(|(at, &byte)| !NOTABLE[byte as usize] || nothing_stands_at(sql, at, may_make_table))
}

/// Whether no byte and the one before it could be part of anything that [`nothing_stands_at`] looks for, in a text that does not
/// end before its first word does. Coarse, so that sixteen bytes are compared at once: nearly every statement goes no further.
fn nothing_notable(sql: &[u8]) -> bool {
    const AT_ONCE: usize = 16;
    let notable = |bytes: &[u8; AT_ONCE], before: &[u8; AT_ONCE]| {
        let mut any = false;
        for (&byte, &before) in bytes.iter().zip(before) {
            // In lower case, if it is a letter.
            let (letter, before) = (byte | 0x20, before | 0x20);
            let before_name =
                (before == b't') | (before == b'g') | (before == b'y') | (before == b'k') | (before == b'o');
            any |= (byte == 0)
                | (byte == b';')
                | ((byte == b'&') & (before == b'u'))
                | ((byte == b'_') & before_name)
                | ((letter == b'o') & (before == b't'))
                | ((letter == b'v') & ((before == b'r') | (before == b't')));
        }
        any
    };
    let nothing_at = |at: usize| {
        let bytes = sql.get(at..).and_then(<[u8]>::first_chunk);
        let before = sql.get(at - 1..).and_then(<[u8]>::first_chunk);
        bytes.zip(before).is_some_and(|(bytes, before)| !notable(bytes, before))
    };
    // The first byte has none before it; it is one of a word. The last sixteen may be looked at twice.
    let Some(last) = sql.len().checked_sub(AT_ONCE).filter(|last| *last > 0) else { return false };
    (1..last).step_by(AT_ONCE).all(nothing_at) && nothing_at(last)
}

/// The bytes that [`nothing_stands_at`] knows.
const NOTABLE: [bool; 256] = {
    let (mut table, bytes) = ([false; 256], b"\0oOvV;_&");
    let mut n = 0;
    while n < bytes.len() {
        table[bytes[n] as usize] = true;
        n += 1;
    }
    table
};

/// Whether a notable byte belongs to nothing that [`plainly_one`] has to say no to.
fn nothing_stands_at(sql: &[u8], at: usize, may_make_table: bool) -> bool {
    let ends =
        |at: usize, word: &[u8]| at >= word.len() && sql[at - word.len()..at].eq_ignore_ascii_case(word);
    let follows = |at: usize, word: &[u8]| {
        sql[at + 1..].get(..word.len()).is_some_and(|next| next.eq_ignore_ascii_case(word))
    };
    match sql[at] {
        // The scanner itself ends here.
        0 => false,
        b'o' | b'O' => !(may_make_table && ends(at, b"int")),
        b'v' | b'V' => !(follows(at, b"al") && (ends(at, b"curr") || ends(at, b"last"))),
        // Another statement behind it.
        b';' => sql[at + 1..].iter().all(u8::is_ascii_whitespace),
        // U&"..." may spell any of the names below.
        b'&' => !(ends(at, b"u") && follows(at, b"\"")),
        _ => match sql[..at].last().map(u8::to_ascii_lowercase) {
            Some(b't') => !(ends(at, b"set") && follows(at, b"config")),
            Some(b'g') => {
                !(ends(at, b"pg") && (follows(at, b"settings") || follows(at, b"listening_channels")))
            }
            // pg_advisory_lock, pg_try_advisory_lock
            Some(b'y') => !ends(at, b"advisory"),
            Some(b'k') => !(ends(at, b"dblink") && follows(at, b"connect")),
            Some(b'o') => !(ends(at, b"lo") && follows(at, b"open")),
            _ => true,
        },
    }
}

pub(crate) fn bind(
    of: &Template,
    topology: &Topology,
    sql: &str,
    literals: &[Literal],
    params: Params<'_>,
    touched: &Touched,
) -> Result<Plan, Refusal> {
    if of.version == topology.version {
        return route::bind(&of.route, topology, sql, literals, params, touched);
    }
    let made = template(topology, sql, literals);
    route::bind(&made.template.route, topology, sql, literals, params, touched)
}

/// See [`Template::not_known`].
pub(crate) fn not_known(
    of: &Template,
    topology: &Topology,
    sql: &str,
    literals: &[Literal],
    params: Params<'_>,
) -> Option<(usize, Vec<crate::value::KeyValue<'static>>)> {
    if of.version == topology.version {
        return route::not_known(&of.route, topology, sql, literals, params);
    }
    let made = template(topology, sql, literals);
    route::not_known(&made.template.route, topology, sql, literals, params)
}

/// See [`Template::against_several`].
pub(crate) fn against_several(
    of: &Template,
    sql: &str,
    literals: &[Literal],
    params: Params<'_>,
) -> Option<Refusal> {
    route::against_several(&of.route, sql, literals, params)
}

#[cfg(test)]
mod tests {
    use super::{nothing_notable, plainly_one};

    #[test]
    fn a_glance_never_takes_a_statement_for_plain_that_leaves_something_behind() {
        let plain = [
            "SELECT abalance FROM pgbench_accounts WHERE aid = 1;",
            "select 1 ;  \n",
            "INSERT INTO t VALUES (1)",
            "UPDATE set_of SET a_b = 1 WHERE offset_c = 2 AND hello_o",
            "DELETE FROM t WHERE a & b = 1",
            "VALUES (1)",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "SELECT \"q\".\"id\" FROM \"q\" WHERE value = 'revalued'",
        ];
        for sql in plain {
            assert!(plainly_one(sql.as_bytes()), "{sql}");
        }
        assert!(nothing_notable(b"SELECT abalance FROM pgbench_accounts WHERE aid = 12345"));
        let more = [
            "",
            ";",
            "BEGIN",
            " SELECT 1",
            "-- \nSELECT 1",
            "SELECT 1; SELECT 2",
            "SELECT ';'",
            "SELECT 1 /* ; */; --",
            "SELECT a INTO TEMP t FROM b",
            "WITH x AS (SELECT 1) SELECT * INTO\nt FROM x",
            "SELECT Set_Config('a', 'b', false)",
            "SELECT \"set_config\"('a', 'b', false)",
            "SELECT u&\"set!005fconfig\" UESCAPE '!' ('a', 'b', false)",
            "SELECT pg_advisory_lock(1)",
            "SELECT PG_TRY_ADVISORY_LOCK(1)",
            "UPDATE pg_settings SET setting = 1",
            "SELECT * FROM pg_listening_channels()",
            "SELECT dblink_connect('x')",
            "SELECT lo_open(1, 2)",
            "SELECT currval('s')",
            "SELECT LASTVAL()",
            "SELECT 1\0; DROP TABLE t",
            "EXPLAIN SELECT 1",
            "SET a = 1",
            "COPY t FROM STDIN",
            "EXECUTE p",
        ];
        for sql in more {
            assert!(!plainly_one(sql.as_bytes()), "{sql}");
        }
        // Wherever it stands.
        let leave = [
            "INTO t",
            "; SELECT 2",
            "\0",
            "set_config('a', 'b', false)",
            "u&\"a\"",
            "currval('s')",
            "lo_open(1, 2)",
        ];
        for what in leave {
            for (before, behind) in
                (0..70).flat_map(|before| [0, 1, 15, 16, 17, 40].map(|behind| (before, behind)))
            {
                let sql = format!("SELECT {} {what} {}", "a".repeat(before), "b".repeat(behind));
                assert!(!plainly_one(sql.as_bytes()), "{sql}");
            }
        }
    }
}
